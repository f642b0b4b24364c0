"""Operations on whole lists: what a request has to say before everything that a list shows is changed at once.

Decides that it says so (a header), which rows it means (a filter, or that all are meant), how many at the most, and
whether the list is still the one that the client has seen. What is done to the rows is the viewset's to say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import orjson
from django.db import DataError, IntegrityError
from django.db.models import QuerySet
from django.http import Http404, HttpResponse, QueryDict
from rest_framework import serializers
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import Route

from keybits import readthrough
from keybits.conf import conf
from keybits.drf.idempotency import once
from keybits.drf.members import MOST_NAMED
from keybits.drf.parsers import has_content
from keybits.drf.writes import (
    WROTE,
    BusyError,
    PreconditionRequiredError,
    WriteMixin,
    Written,
    atomically,
    failed,
    proceeds,
    unmet,
)
from keybits.fastpath import HOLDER
from keybits.parameters import Choice, Number, Parameter
from keybits.preconditions import NONE, Conditions
from keybits.selections import hold

__all__ = [
    "HEADER",
    "NAMES",
    "PARAMETERS",
    "BulkCreateMixin",
    "BulkHeaderError",
    "BulkMixin",
    "BulkTerms",
    "ComputedField",
    "ItemsRefusedError",
    "RowsForbiddenError",
    "TooManyItemsError",
    "TooManyRowsError",
    "UnfilteredError",
    "bulk_routes",
]

HEADER = "X-BULK-OPERATION"
ACTIONS = {"patch": "partial_update_bulk", "delete": "destroy_bulk"}
SAMPLE = 5
PARAMETERS: tuple[Parameter, ...] = (
    Choice(
        name="all",
        choices=("true", "false"),
        description="`true`: run without any filter, on the whole list.",
    ),
    Choice(
        name="dry_run",
        choices=("true", "false"),
        description="`true`: change nothing, and answer how many rows are meant, with the first few.",
    ),
    Number(
        name="max",
        minimum=1,
        description="Refuse the operation (409) where it would touch more rows. Needed beyond the usual limit.",
    ),
    Choice(
        name="skip_forbidden",
        choices=("true", "false"),
        description="`true`: leave out what the client may see but not change, where it would be refused (403).",
    ),
)
NAMES = frozenset(parameter.name for parameter in PARAMETERS)
CONDITIONAL = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")


class _RefusedError(Exception):
    """The operation ends, and its transaction with it, by this answer."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status_code)
        self.response = response


class BulkHeaderError(APIException):
    """400: a write to a list without the header, or with another value of it than `true`."""

    status_code = 400
    members = {"type": "bulk-header", "header": HEADER, "allowed": ["true"]}

    def __init__(self, given: str | None) -> None:
        said = "says nothing" if given is None else f"says {given!r}"
        super().__init__(f"To write to a list at once, send {HEADER}: true. The request {said}.")


class UnfilteredError(APIException):
    """400: the operation has no filter, and does not say that all rows are meant."""

    status_code = 400
    default_detail = "Give a filter, or all=true where the whole list is meant."
    members = {"type": "bulk-unfiltered", "parameter": "all", "allowed": ["true"]}


class TooManyRowsError(APIException):
    """409: at present the operation would touch more rows than it may; nothing was written."""

    status_code = 409

    def __init__(self, count: int, most: int) -> None:
        super().__init__(
            f"This would touch {count} rows, and no more than {most} may be touched. Give a narrower filter, "
            f"or max={count} where that is meant. Nothing was written."
        )
        self.members = {"type": "too-many-rows", "parameter": "max", "count": count, "max": most}


class TooManyItemsError(APIException):
    """413: the body has more items than one request may create."""

    status_code = 413
    members = {"type": "too-many-items"}

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"The body has {count} items; send at most {most} at once.")


class ItemsRefusedError(ValidationError):
    """400: some of the items cannot be created, so that none was.

    `errors` are those of the first dozen, by index, and `count` says how many such items there are.
    """

    def __init__(self, errors: Mapping[int, Any]) -> None:
        super().__init__("Some of the items cannot be created, so that none was.")
        told = [{"index": index, "errors": errors[index]} for index in sorted(errors)[:MOST_NAMED]]
        self.members = {"count": len(errors), "errors": told}


class RowsForbiddenError(PermissionDenied):
    """403: some of the rows are not the client's to change, so that none was."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} of the rows are not yours to change, so that none was changed. Give a narrower filter, "
            "or skip_forbidden=true to leave them out."
        )
        self.members = {"type": "rows-forbidden", "parameter": "skip_forbidden", "count": count}


@dataclass(frozen=True, slots=True)
class BulkTerms:
    """What a request says of its rows: whether nothing is to be written, how many at most, and what is left out."""

    is_dry: bool
    most: int
    skips_forbidden: bool


class ComputedField(serializers.Field):  # type: ignore[type-arg]
    """A value for all rows, read by `constant`, or how each row's is computed: an object, read by `formula`."""

    def __init__(self, constant: Any, formula: Any) -> None:
        super().__init__(source=constant.source, required=False, help_text=constant.help_text)
        self.constant = constant
        self.formula = formula

    def bind(self, field_name: str, parent: Any) -> None:
        """Bind all three: each is asked with the parent's context."""
        for each in (self.constant, self.formula):
            each.bind(field_name, parent)
        super().bind(field_name, parent)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        reader = self.formula if isinstance(data, Mapping) else self.constant
        return reader.run_validation(data)


class BulkMixin(WriteMixin):
    """`partial_update_bulk` and `destroy_bulk`, of all that a list shows: `bulk_routes` maps PATCH and DELETE to them.

    The viewset says what is done, as `update_rows` and `delete_rows`. Each runs in one transaction, on the condition
    of If-Match, which is about the list at this address with its filters.
    """

    bulk_filters: Sequence[Parameter]
    """The filters that say which rows are meant: those of the list, without what orders or shapes it."""

    @property
    def is_bulk(self) -> bool:
        """Whether the request writes to a list at once; known before the action is."""
        mapped = self.action_map.get((self.request.method or "").lower(), "")  # type: ignore[attr-defined]
        return bool(mapped.endswith("_bulk"))

    def get_bulk_parameters(self) -> list[Parameter]:
        """Return what the query of such a request may have."""
        return [*self.bulk_filters, *PARAMETERS]

    def partial_update_bulk(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._bulk(request, partial(self._carried_out, self.update_rows))

    def destroy_bulk(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        if has_content(request):
            raise ValidationError("The filters say what is deleted: send no body.")
        return self._bulk(request, partial(self._carried_out, self.delete_rows))

    def update_rows(self, rows: QuerySet[Any], terms: BulkTerms) -> dict[str, Any]:
        """Change `rows` as the body says, or only count them where the terms are dry; return what to answer."""
        raise NotImplementedError(f"{type(self).__name__} takes PATCH on its list: define update_rows().")

    def delete_rows(self, rows: QuerySet[Any], terms: BulkTerms) -> dict[str, Any]:
        """Delete `rows`, or only count them where the terms are dry; return what to answer."""
        raise NotImplementedError(f"{type(self).__name__} takes DELETE on its list: define delete_rows().")

    def permitted(self, rows: QuerySet[Any], terms: BulkTerms) -> QuerySet[Any]:
        """Return the rows that the operation is about: where the terms leave out others', those of the client.

        Nothing else is locked. By default that is what the list shows.
        """
        return rows

    def sample(self, rows: QuerySet[Any]) -> list[dict[str, Any]]:
        """Return the ids and the addresses of the first few rows, in the order of the list."""
        return [{"id": row.pk, "url": self.get_address(row)} for row in rows[:SAMPLE]]

    def _bulk(self, request: Request, operation: Callable[[Conditions], Written]) -> HttpResponse:
        """Run `operation` in one transaction, if the header lets it; once for an Idempotency-Key.

        What was done under a key is answered again whatever has become of the condition since: the first time it held.
        """
        given = request.headers.get(HEADER)
        if given != "true":
            raise BulkHeaderError(given)
        asked = partial(operation, Conditions.from_environ(request.META))
        try:
            written = atomically(
                self.get_queryset().model,  # type: ignore[attr-defined]
                asked if self._is_dry else lambda: once(request, asked),
            )
        except _RefusedError as refused:
            return refused.response
        except (IntegrityError, DataError) as error:  # a row that came or changed while this was under way
            raise BusyError from error
        return Response(orjson.loads(written.body), status=written.status, headers=WROTE)

    def _carried_out(
        self, write: Callable[[QuerySet[Any], BulkTerms], dict[str, Any]], conditions: Conditions
    ) -> Written:
        terms = self._terms()
        self._demand_parent()
        rows = self.permitted(self.filter_queryset(self.get_queryset()), terms)  # type: ignore[attr-defined]
        is_conditional = conditions is not NONE and not terms.is_dry
        if is_conditional:
            write(rows, replace(terms, is_dry=True))  # what is refused anyway locks nothing
        settle = _settled if is_conditional and rows.count() <= terms.most else nullcontext
        with settle(rows) as settled:
            self._refuse(conditions)
            return Written(200, self.request.path, orjson.dumps(write(settled, terms)))  # type: ignore[attr-defined]

    @property
    def _is_dry(self) -> bool:
        return bool(self.query.get("dry_run") == "true")  # type: ignore[attr-defined]

    def _terms(self) -> BulkTerms:
        query = self.query  # type: ignore[attr-defined]
        if query.get("all") != "true" and not {name for name, _ in query.pairs} - NAMES - {"format"}:
            raise UnfilteredError
        most = int(query.get("max") or conf.BULK_LIMIT)
        return BulkTerms(self._is_dry, most, query.get("skip_forbidden") == "true")

    def _demand_parent(self) -> None:
        """Answer 404 where the list is nested in something that is not there, or not for the client to see."""
        parents = getattr(self, "get_parent_queryset", None)
        if parents is not None and not parents().exists():
            raise Http404

    def _refuse(self, conditions: Conditions) -> None:
        """Raise the 412 where a condition about the list does not hold (RFC 9110 section 13.2.2)."""
        if conditions is NONE:
            return
        if conditions.if_unmodified_since is not None and conditions.if_match is None:
            raise PreconditionRequiredError
        request: Request = self.request  # type: ignore[attr-defined]
        shown = self._shown(request)
        if shown.status_code != 200:
            raise _RefusedError(shown)
        if proceeds(request, conditions, str(shown["ETag"])):
            return
        response = failed(unmet("list", "operation"))
        response["ETag"] = shown["ETag"]
        raise _RefusedError(response)

    def _shown(self, request: Request) -> HttpResponse:
        """Return the list that a GET by this client shows, made anew; no throttle counts it as a request.

        Raises Http404 where there is none, which is for the view to say as it says it.
        """
        kind: Any = type(self)
        routed = getattr(getattr(request, "resolver_match", None), "func", None)
        named = {"detail": False, "basename": self.basename}  # type: ignore[attr-defined]
        options = {**named, **getattr(routed, "initkwargs", {}), "throttle_classes": ()}
        view = kind.as_view({"get": "list"}, **options)
        left_out = NAMES | {"format"}
        pairs = [pair for pair in self.query.pairs if pair[0] not in left_out]  # type: ignore[attr-defined]
        with readthrough.without_store():
            response: HttpResponse = view(_reading(request, urlencode(pairs)), **self.kwargs)  # type: ignore[attr-defined]
        if response.status_code in {404, 410}:
            raise Http404
        return response


class BulkCreateMixin(BulkMixin):
    """As `BulkMixin`; and POST with the header makes each of the items in the body, by `create_items`."""

    item_serializer_class: Any = None
    """What reads one of many items, where that is not what reads a single one."""
    makes_many = False

    def get_write_serializer_class(self) -> Any:
        """Return what reads the body, or each of its items."""
        own = self.item_serializer_class if self.makes_many else None
        return own or super().get_write_serializer_class()

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Create one, or, where the header says so, all."""
        given = request.headers.get(HEADER)
        if given is None and not _has_many(request.data):
            return super().create(request, *args, **kwargs)  # type: ignore[misc]
        if given != "true":
            raise BulkHeaderError(given)
        self.makes_many = True
        items = _items(request.data)  # what has no items meets no condition
        return self._bulk(request, partial(self._made, items))

    def create_items(self, items: list[Any]) -> dict[str, Any]:
        """Create all the items, or none and raise `ItemsRefusedError`; return what to answer."""
        raise NotImplementedError(f"{type(self).__name__} takes many items: define create_items().")

    def _made(self, items: list[Any], conditions: Conditions) -> Written:
        if conditions is not NONE:
            self.demand_place()
        self._refuse(conditions)
        return Written(201, self.request.path, orjson.dumps(self.create_items(items)))  # type: ignore[attr-defined]


def bulk_routes(routes: Iterable[Any]) -> list[Any]:
    """Return a router's `routes` with PATCH and DELETE on lists."""
    return [
        route._replace(mapping=route.mapping | ACTIONS)
        if isinstance(route, Route) and not route.detail
        else route
        for route in routes
    ]


def _has_many(data: Any) -> bool:
    """Say whether a body has the shape of many items."""
    return bool(data) and (isinstance(data, list) or _is_wrapped(data))


def _is_wrapped(data: Any) -> bool:
    return isinstance(data, Mapping) and list(data) == ["items"]


def _items(data: Any) -> list[Any]:
    """Return the items of a body: an array, or an object whose one member is `items`."""
    items = data["items"] if _is_wrapped(data) else data
    if not isinstance(items, list) or not items:
        raise ValidationError('Send the items as an array, or as {"items": [...]}; one at least.')
    if len(items) > conf.BULK_LIMIT:
        raise TooManyItemsError(len(items), conf.BULK_LIMIT)
    return items


def _reading(request: Request, query: str) -> Any:
    """Return the same client's GET of the same path, unconditional."""
    asked: Any = copy.copy(request._request)
    left_out = {*CONDITIONAL, HOLDER, "CONTENT_LENGTH", "CONTENT_TYPE"}
    asked.META = {name: value for name, value in asked.META.items() if name not in left_out}
    asked.META |= {"REQUEST_METHOD": "GET", "QUERY_STRING": query, "HTTP_ACCEPT": "application/json"}
    asked.META |= {"HTTP_ACCEPT_ENCODING": "identity"}
    asked.method, asked.GET = "GET", QueryDict(query)
    asked._force_auth_user, asked._force_auth_token = request.user, request.auth
    return asked


@contextmanager
def _settled(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """Yield those of the rows that are there now, locked: the list is compared, and these alone are written."""
    with hold(rows) as selection:
        yield rows.filter(pk__in=selection.keys)
