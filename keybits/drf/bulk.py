"""Operations on whole lists: what a request must state before all rows that a list shows are changed at once.

It must state that it means a list (a header) and which rows (a filter, or all), and may limit how many rows and require
that the list is still the one that the client has seen. The viewset decides what is done to the rows.
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
from keybits.drf.attempts import BusyError, atomically
from keybits.drf.idempotency import once, owned_key
from keybits.drf.members import MOST_NAMED
from keybits.drf.parsers import has_content
from keybits.drf.writes import (
    WROTE,
    PreconditionRequiredError,
    WriteMixin,
    Written,
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
        description="`true`: run on the whole list, without any filter.",
    ),
    Choice(
        name="dry_run",
        choices=("true", "false"),
        description="`true`: change nothing; the answer has the number of rows, and the first few.",
    ),
    Number(
        name="max",
        minimum=1,
        description="Refuse the operation (409) if it would affect more rows. Required beyond the usual limit.",
    ),
    Choice(
        name="skip_forbidden",
        choices=("true", "false"),
        description="`true`: skip rows that the client may see but not change, instead of refusing with 403.",
    ),
)
NAMES = frozenset(parameter.name for parameter in PARAMETERS)
CONDITIONAL = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE")


class _RefusedError(Exception):
    """Ends the operation and its transaction with this answer."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(response.status_code)
        self.response = response


class BulkHeaderError(APIException):
    """400: a write to a list without the header, or with a value other than `true`."""

    status_code = 400
    members = {"type": "urn:problem:bulk-header", "header": HEADER, "allowed": ["true"]}

    def __init__(self, given: str | None) -> None:
        said = "does not have it" if given is None else f"has {given!r}"
        super().__init__(f"To write to a whole list, send {HEADER}: true. The request {said}.")


class UnfilteredError(APIException):
    """400: the operation has no filter, and not `all=true` either."""

    status_code = 400
    default_detail = "Give a filter, or all=true if you mean the whole list."
    members = {"type": "urn:problem:bulk-unfiltered", "parameter": "all", "allowed": ["true"]}


class TooManyRowsError(APIException):
    """409: at present, the operation would affect more rows than allowed. Nothing was written."""

    status_code = 409

    def __init__(self, count: int, most: int) -> None:
        super().__init__(
            f"This would affect {count} rows; at most {most} are allowed. Give a narrower filter, "
            f"or max={count} if you mean that many. Nothing was written."
        )
        self.members = {"type": "urn:problem:too-many-rows", "parameter": "max", "count": count, "max": most}


class TooManyItemsError(APIException):
    """413: the body has more items than one request may create."""

    status_code = 413

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"The body has {count} items; send at most {most} at once.")
        self.members = {"type": "urn:problem:too-many-items", "count": count, "max": most}


class ItemsRefusedError(ValidationError):
    """400: some of the items cannot be created, so none was.

    `errors` has those of the first dozen such items, by index; `count` is the number of such items.
    """

    def __init__(self, errors: Mapping[int, Any]) -> None:
        super().__init__("Some of the items cannot be created, so none was.")
        told = [{"index": index, "errors": errors[index]} for index in sorted(errors)[:MOST_NAMED]]
        self.members = {"count": len(errors), "errors": told}


class RowsForbiddenError(PermissionDenied):
    """403: the client may not change some of the rows, so none was changed."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"You may not change {count} of the rows, so none was changed. Give a narrower filter, "
            "or skip_forbidden=true to leave them out."
        )
        self.members = {"type": "urn:problem:rows-forbidden", "parameter": "skip_forbidden", "count": count}


@dataclass(frozen=True, slots=True)
class BulkTerms:
    """The terms of a request: whether it writes nothing, the most rows, and whether forbidden rows are skipped."""

    is_dry: bool
    most: int
    skips_forbidden: bool


class ComputedField(serializers.Field):  # type: ignore[type-arg]
    """One value for all rows, read by `constant`, or an object that says how to compute each, read by `formula`."""

    def __init__(self, constant: Any, formula: Any) -> None:
        super().__init__(source=constant.source, required=False, help_text=constant.help_text)
        self.constant = constant
        self.formula = formula

    def bind(self, field_name: str, parent: Any) -> None:
        """Bind `constant` and `formula` too: they need the parent's context."""
        for each in (self.constant, self.formula):
            each.bind(field_name, parent)
        super().bind(field_name, parent)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        reader = self.formula if isinstance(data, Mapping) else self.constant
        return reader.run_validation(data)


class BulkMixin(WriteMixin):
    """`partial_update_bulk` and `destroy_bulk`, on all rows of a list: `bulk_routes` maps PATCH and DELETE to them.

    The viewset defines what is done, in `update_rows` and `delete_rows`. Each runs in one transaction, conditional on
    If-Match, which is compared with the list at this address with its filters.
    """

    bulk_filters: Sequence[Parameter]
    """The filters that choose the rows: those of the list, without parameters that order or shape it."""

    @property
    def is_bulk(self) -> bool:
        """Whether the request writes to a whole list. Known before the action is."""
        mapped = self.action_map.get((self.request.method or "").lower(), "")  # type: ignore[attr-defined]
        return bool(mapped.endswith("_bulk"))

    def get_bulk_parameters(self) -> list[Parameter]:
        """Return the parameters that the query of a bulk operation may have."""
        return [*self.bulk_filters, *PARAMETERS]

    def partial_update_bulk(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._bulk(request, partial(self._carried_out, self.update_rows))

    def destroy_bulk(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        if has_content(request):
            raise ValidationError("The filters choose what is deleted: send no body.")
        return self._bulk(request, partial(self._carried_out, self.delete_rows))

    def update_rows(self, rows: QuerySet[Any], terms: BulkTerms) -> dict[str, Any]:
        """Change `rows` as the body says, or only count them if the terms are dry. Return the body of the answer."""
        raise NotImplementedError(f"{type(self).__name__} takes PATCH on its list: define update_rows().")

    def delete_rows(self, rows: QuerySet[Any], terms: BulkTerms) -> dict[str, Any]:
        """Delete `rows`, or only count them if the terms are dry. Return the body of the answer."""
        raise NotImplementedError(f"{type(self).__name__} takes DELETE on its list: define delete_rows().")

    def permitted(self, rows: QuerySet[Any], terms: BulkTerms) -> QuerySet[Any]:
        """Return the rows of the operation: if the terms skip forbidden rows, those that the client may change.

        No other rows are locked. By default, returns all rows that the list shows.
        """
        return rows

    def sample(self, rows: QuerySet[Any]) -> list[dict[str, Any]]:
        """Return the ids and addresses of the first few rows, in the order of the list."""
        return [{"id": row.pk, "url": self.get_address(row)} for row in rows[:SAMPLE]]

    def _bulk(self, request: Request, operation: Callable[[Conditions], Written]) -> HttpResponse:
        """Run `operation` in one transaction, if the header is right; once for each Idempotency-Key.

        A repeated request gets the stored answer even if the condition no longer holds: it held the first time. A dry
        run keeps no answer, but refuses a malformed key as the operation would.
        """
        given = request.headers.get(HEADER)
        if given != "true":
            raise BulkHeaderError(given)
        asked = partial(operation, Conditions.from_environ(request.META))
        if self._is_dry:
            owned_key(request)
        model = self.get_queryset().model  # type: ignore[attr-defined]
        try:
            written = atomically(model, asked if self._is_dry else lambda: once(request, model, asked))
        except _RefusedError as refused:
            return refused.response
        except (IntegrityError, DataError) as error:  # a row was added or changed meanwhile
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
            write(rows, replace(terms, is_dry=True))  # a request that is refused anyway locks nothing
        lock = _locked if is_conditional and rows.count() <= terms.most else nullcontext
        with lock(rows) as locked:
            self._refuse(conditions)
            return Written(200, self.request.path, orjson.dumps(write(locked, terms)))  # type: ignore[attr-defined]

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
        """Raise Http404 if the list is nested in something that does not exist, or that the client may not see."""
        parents = getattr(self, "get_parent_queryset", None)
        if parents is not None and not parents().exists():
            raise Http404

    def _refuse(self, conditions: Conditions) -> None:
        """Raise the 412 if a condition on the list does not hold (RFC 9110 section 13.2.2)."""
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
        response = failed(unmet(conditions, "list", "operation"))
        response["ETag"] = shown["ETag"]
        raise _RefusedError(response)

    def _shown(self, request: Request) -> HttpResponse:
        """Return the answer to a GET of the list by this client, made without the cache, and not throttled.

        Raises Http404 if it is 404 or 410, so that the view answers in its own way.
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
    """`BulkMixin`, and POST with the header: it creates all items in the body, by `create_items`."""

    item_serializer_class: Any = None
    """The serializer of one of many items, if it differs from that of a single one."""
    makes_many = False

    def get_write_serializer_class(self) -> Any:
        """Return the serializer class of the body, or of each of its items."""
        own = self.item_serializer_class if self.makes_many else None
        return own or super().get_write_serializer_class()

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Create one, or, with the header, all items."""
        given = request.headers.get(HEADER)
        if given is None and not _has_many(request.data):
            return super().create(request, *args, **kwargs)  # type: ignore[misc]
        if given != "true":
            raise BulkHeaderError(given)
        self.makes_many = True
        items = _items(request.data)  # a body without items is refused before any condition
        return self._bulk(request, partial(self._made, items))

    def create_items(self, items: list[Any]) -> dict[str, Any]:
        """Create all items and return the body of the answer, or create none and raise `ItemsRefusedError`."""
        raise NotImplementedError(f"{type(self).__name__} takes many items: define create_items().")

    def _made(self, items: list[Any], conditions: Conditions) -> Written:
        if conditions is not NONE:
            self.demand_place()
        self._refuse(conditions)
        return Written(201, self.request.path, orjson.dumps(self.create_items(items)))  # type: ignore[attr-defined]


def bulk_routes(routes: Iterable[Any]) -> list[Any]:
    """Return a router's `routes`, with PATCH and DELETE added to those of lists."""
    return [
        route._replace(mapping=route.mapping | ACTIONS)
        if isinstance(route, Route) and not route.detail
        else route
        for route in routes
    ]


def _has_many(data: Any) -> bool:
    """Return whether a body has the shape of many items."""
    return bool(data) and (isinstance(data, list) or _is_wrapped(data))


def _is_wrapped(data: Any) -> bool:
    return isinstance(data, Mapping) and list(data) == ["items"]


def _items(data: Any) -> list[Any]:
    """Return the items of a body: an array, or an object whose only member is `items`."""
    items = data["items"] if _is_wrapped(data) else data
    if not isinstance(items, list) or not items:
        raise ValidationError('Send at least one item, in an array or as {"items": [...]}.')
    if len(items) > conf.BULK_LIMIT:
        raise TooManyItemsError(len(items), conf.BULK_LIMIT)
    return items


def _reading(request: Request, query: str) -> Any:
    """Return an unconditional GET of the same path by the same client."""
    asked: Any = copy.copy(request._request)
    left_out = {*CONDITIONAL, HOLDER, "CONTENT_LENGTH", "CONTENT_TYPE"}
    asked.META = {name: value for name, value in asked.META.items() if name not in left_out}
    asked.META |= {"REQUEST_METHOD": "GET", "QUERY_STRING": query, "HTTP_ACCEPT": "application/json"}
    asked.META |= {"HTTP_ACCEPT_ENCODING": "identity"}
    asked.method, asked.GET = "GET", QueryDict(query)
    asked._force_auth_user, asked._force_auth_token = request.user, request.auth
    return asked


@contextmanager
def _locked(rows: QuerySet[Any]) -> Iterator[QuerySet[Any]]:
    """Yield the rows that exist now, locked: no others are written after the list has been compared."""
    with hold(rows) as selection:
        yield rows.filter(pk__in=selection.keys)
