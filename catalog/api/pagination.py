"""The three kinds of pagination: cursors (any depth, constant time), page numbers and offsets (counted by default).

Links are path-absolute and canonical: they do not contain the Host, and the same page always has the same address.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any
from urllib.parse import urlencode

import orjson
from django.core.exceptions import ValidationError
from django.core.paginator import EmptyPage, Page, Paginator
from django.db.models import BooleanField, F, Func, QuerySet, Value
from django.db.models.expressions import Col
from django.db.models.lookups import GreaterThan, GreaterThanOrEqual, LessThan, LessThanOrEqual
from django.db.models.sql.where import AND
from rest_framework.exceptions import NotFound
from rest_framework.pagination import BasePagination, LimitOffsetPagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_extensions.mixins import PaginateByMaxMixin

from catalog.api.counts import AT_LEAST, ESTIMATED, EXACT, NONE, Count, kind_wanted
from catalog.api.parameters import DEEPEST_OFFSET, LARGEST_PAGE
from keybits.parameters import LARGEST_ID

__all__ = ["NoSuchPageError", "Pagination"]

PAGE_SIZE = 24
MODES = {"cursor": "cursor", "page": "page", "limit": "offset", "offset": "offset"}
Rows = list[Any]


class NoSuchPageError(NotFound):
    """404: the list exists, but it has no page at this address."""

    default_detail = "This list has no page at this address; start from the list without a cursor or page."
    members: Mapping[str, Any] = {"type": "urn:problem:no-such-page"}


class Links:
    """What the three kinds share: how addresses are written, how items are counted, and the envelope."""

    request: Any
    count_members: Mapping[str, Any] = {}

    def address(self, *without: str, **parameters: Any) -> str:
        """Return this list's address, without some parameters and with others replaced, in canonical order."""
        dropped = {*without, *parameters}
        pairs = [(name, value) for name, value in _pairs(self.request) if name not in dropped]
        pairs += [(name, str(value)) for name, value in parameters.items()]
        return f"{self.request.path}?{urlencode(sorted(pairs))}" if pairs else self.request.path

    def counted(self, queryset: QuerySet[Any], known: int | None = None) -> None:
        """Add the count that the request wants to the envelope; `known` is the number, where the page shows it."""
        wanted = kind_wanted(self.request.query_params)
        count = Count(known) if known is not None and wanted != NONE else Count.of(queryset, wanted)
        told = "count" in self.request.query_params
        self.count_members = count.members(told=told) if count else {}

    def get_paginated_response(self: Any, data: Any) -> Response:
        """Return the page with its count and its neighbours, which are also in a Link field (RFC 8288)."""
        following, preceding = self.get_next_link(), self.get_previous_link()
        neighbours = {"next": following, "prev": preceding}
        link = ", ".join(f'<{target}>; rel="{rel}"' for rel, target in neighbours.items() if target)
        envelope = {**self.count_members, "next": following, "previous": preceding, "results": data}
        return Response(envelope, headers={"Link": link} if link else None)


def _pairs(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name, values in request.query_params.lists() for value in values]


class OpenPage(Page):  # type: ignore[type-arg]
    """A page of a list of unknown length. One row more than it shows is read, to see whether another page follows."""

    def __init__(self, rows: Rows, number: int, paginator: Paginator[Any]) -> None:
        super().__init__(rows[: paginator.per_page], number, paginator)
        self.more = len(rows) > paginator.per_page

    def has_next(self) -> bool:
        return self.more


class OpenPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of a list that is not counted."""

    num_pages = 0  # REST framework reads it, to show page controls

    def validate_number(self, number: Any) -> int:
        return int(number)

    def page(self, number: Any) -> OpenPage:
        """Return the page of this number. Raises `EmptyPage`, but not for the first page, which may be empty."""
        skipped = (int(number) - 1) * self.per_page
        rows = list(self.object_list[skipped : skipped + self.per_page + 1])
        if skipped and not rows:
            raise EmptyPage
        return OpenPage(rows, int(number), self)


class NumberedPages(Links, PaginateByMaxMixin, PageNumberPagination):  # type: ignore[misc]  # drf-extensions is untyped
    page: Any
    page_size = PAGE_SIZE
    page_size_query_param = "page_size"
    max_page_size = LARGEST_PAGE

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        exact = kind_wanted(request.query_params) == EXACT
        self.django_paginator_class = Paginator if exact else OpenPaginator
        try:
            rows: Any = super().paginate_queryset(queryset, request, view)
        except NotFound:
            raise NoSuchPageError from None
        self.counted(queryset, self.page.paginator.count if exact else self._end())
        return rows

    def _end(self) -> int | None:
        """Return the number of all items, where this is the last page; else None."""
        page = self.page
        return None if page.more else (page.number - 1) * page.paginator.per_page + len(page)

    def get_next_link(self) -> str | None:
        return self.address(page=self.page.next_page_number()) if self.page.has_next() else None

    def get_previous_link(self) -> str | None:
        return self.address(page=self.page.previous_page_number()) if self.page.has_previous() else None


class OffsetPages(Links, LimitOffsetPagination):
    request: Any
    limit: Any
    offset: Any
    count: Any
    default_limit = PAGE_SIZE
    max_limit = LARGEST_PAGE
    items: Rows
    order: Order

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        self.order = Order.of(queryset)
        ordered = queryset.order_by(*self.order.names)
        if kind_wanted(request.query_params) == EXACT:
            self.items = super().paginate_queryset(ordered, request, view) or []
            self.more = self.offset + self.limit < self.count
            self.counted(queryset, self.count)
        else:
            self._uncounted(ordered, request)
        return self.items

    def _uncounted(self, ordered: QuerySet[Any], request: Request) -> None:
        """Read one row more than is shown, to see whether there are more."""
        self.request, self.limit, self.offset = request, self.get_limit(request), self.get_offset(request)
        rows = list(ordered[self.offset : self.offset + self.limit + 1])
        self.items, self.more = rows[: self.limit], len(rows) > self.limit
        told = not self.more and (rows or not self.offset)
        self.counted(ordered, self.offset + len(rows) if told else None)

    def get_next_link(self) -> str | None:
        """Return the address of the next page; beyond the deepest offset, with a cursor at the same row."""
        following = self.offset + self.limit
        if not self.more or not self.items:
            return None
        if following <= DEEPEST_OFFSET:
            return self.address(limit=self.limit, offset=following)
        cursor = Cursor.at(self.items[-1], self.order, backwards=False)
        return self.address("offset", "limit", cursor=cursor.encoded(), page_size=self.limit)

    def get_previous_link(self) -> str | None:
        if self.offset <= 0:
            return None
        return self.address(limit=self.limit, offset=max(0, self.offset - self.limit))


@dataclass(frozen=True, slots=True)
class Order:
    """A total order: some fields and the id, all in the same direction."""

    fields: tuple[str, ...]
    descending: bool

    @classmethod
    def of(cls, queryset: QuerySet[Any]) -> Order:
        """Return the order of `queryset`, or its model's: the leading fields of one direction, then the id."""
        names = [str(name) for name in queryset.query.order_by or queryset.model._meta.ordering]
        descending = names[0].startswith("-")
        alike = takewhile(lambda name: name.startswith("-") is descending, names)
        fields = tuple(name.removeprefix("-") for name in alike)
        return cls(tuple(field for field in fields if field != "id"), descending)

    @property
    def names(self) -> tuple[str, ...]:
        return self.towards(backwards=False)

    def towards(self, *, backwards: bool) -> tuple[str, ...]:
        """Return the names for `order_by`, reversed where `backwards`."""
        sign = "-" if self.descending != backwards else ""
        return tuple(f"{sign}{field}" for field in (*self.fields, "id"))

    def __str__(self) -> str:
        return ",".join(self.names[:-1])


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two rows of an order: beyond the row that had these values, forwards or backwards.

    It consists of values and refers to no row, so it remains valid when the row is deleted.
    """

    order: str
    backwards: bool
    values: tuple[Any, ...]
    id: int

    @classmethod
    def at(cls, row: Any, order: Order, *, backwards: bool) -> Cursor:
        return cls(str(order), backwards, tuple(getattr(row, field) for field in order.fields), row.pk)

    def turned(self, order: Order) -> Cursor:
        """Return the place just behind the cursor's row, reading backwards, so that this row is the first read."""
        return replace(self, backwards=True, id=self.id + (-1 if order.descending else 1))

    def encoded(self) -> str:
        """Return the cursor as it is written in an address: base64url without padding."""
        text = orjson.dumps(["v1", self.order, int(self.backwards), *self.values, self.id])
        return base64.urlsafe_b64encode(text).decode().rstrip("=")

    @classmethod
    def decoded(cls, text: str, order: Order, fields: Sequence[Any]) -> Cursor:
        """Return the cursor that `encoded` wrote for the same order. Raises `NoSuchPageError` for any other text."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            version, name, backwards, *written, pk = orjson.loads(raw)
            values = tuple(_restored(field, value) for field, value in zip(fields, written, strict=True))
            cursor = cls(name, bool(backwards), values, pk)
            genuine = version == "v1" and name == str(order) and cursor.encoded() == text
        except (ValueError, TypeError, ValidationError, OverflowError):
            raise NoSuchPageError from None
        # Ids begin with 1, but `turned` leads to before the first row.
        if not genuine or type(pk) is not int or not 0 <= pk <= LARGEST_ID:
            raise NoSuchPageError
        return cursor


def _restored(field: Any, value: Any) -> Any:
    """Return `value` as the model field's type, as JSON has no dates; raise for what the field could not hold."""
    if not isinstance(value, str | int) or (isinstance(value, str) and "\x00" in value):
        raise TypeError("no value of a field")
    restored = field.to_python(value)
    if isinstance(restored, datetime) and restored.tzinfo != UTC:
        raise TypeError("the server writes UTC")
    field.run_validators(restored)
    return restored


class Beyond(Func):
    """`(a, b, id) > (x, y, z)`: a row comparison, which one index range scan answers."""

    output_field = BooleanField()
    arg_joiner = ", "

    def __init__(self, cursor: Cursor, order: Order, fields: Sequence[Any]) -> None:
        self.keybits_shape = (order, cursor.backwards)
        operator = "<" if order.descending != cursor.backwards else ">"
        values = [
            Value(value, output_field=field) for value, field in zip(cursor.values, fields, strict=True)
        ]
        columns = [F(name) for name in (*order.fields, "id")]
        super().__init__(*columns, *values, Value(cursor.id), template=operator)

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        parts = [compiler.compile(expression) for expression in self.get_source_expressions()]
        row, bound = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        left, right = (", ".join(sql for sql, _ in side) for side in (row, bound))
        return f"({left}) {self.extra['template']} ({right})", [
            value for _, values in parts for value in values
        ]


def _without_idle_bounds(beyond: QuerySet[Any], cursor: Cursor, order: Order) -> QuerySet[Any]:
    """Drop the bounds on the order's first column that the cursor is already past.

    Given both, either database starts to read at the bound, and skips every row from there to the cursor.
    """
    where = beyond.query.where
    if where.connector == AND and not where.negated and cursor.values:
        where.children = [child for child in where.children if not _is_idle(child, cursor, order)]
    return beyond


def _is_idle(condition: Any, cursor: Cursor, order: Order) -> bool:
    """Return whether every row beyond the cursor meets `condition`."""
    falling = order.descending != cursor.backwards
    kinds: Any = (LessThan, LessThanOrEqual) if falling else (GreaterThan, GreaterThanOrEqual)
    if not isinstance(condition, kinds) or not isinstance(condition.lhs, Col):
        return False
    if condition.lhs.target.name != order.fields[0] or type(condition.rhs) is not type(cursor.values[0]):
        return False
    return bool(cursor.values[0] < condition.rhs if falling else cursor.values[0] > condition.rhs)


class CursorPages(Links, PaginateByMaxMixin, BasePagination):  # type: ignore[misc]
    page_size = PAGE_SIZE
    page_size_query_param = "page_size"
    max_page_size = LARGEST_PAGE

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Rows:
        """Read one row more than the page shows, to see whether another page follows."""
        self.request = request
        self.order = Order.of(queryset)
        self.cursor = self._cursor(queryset)
        backwards = self.cursor is not None and self.cursor.backwards
        size = int(request.query_params.get("page_size", "").replace("max", str(LARGEST_PAGE)) or PAGE_SIZE)
        rows = list(self._from_cursor(queryset, backwards)[: size + 1])
        self.more = len(rows) > size
        self.items = rows[:size][::-1] if backwards else rows[:size]
        self.counted(queryset, len(rows) if self.cursor is None and not self.more else None)
        return self.items

    def _cursor(self, queryset: QuerySet[Any]) -> Cursor | None:
        text = self.request.query_params.get("cursor")
        return Cursor.decoded(text, self.order, self._fields(queryset)) if text else None

    def _from_cursor(self, queryset: QuerySet[Any], backwards: bool) -> QuerySet[Any]:
        ordered = queryset.order_by(*self.order.towards(backwards=backwards))
        if self.cursor is None:
            return ordered
        beyond = ordered.filter(Beyond(self.cursor, self.order, self._fields(queryset)))
        return _without_idle_bounds(beyond, self.cursor, self.order)

    def _fields(self, queryset: QuerySet[Any]) -> list[Any]:
        return [queryset.model._meta.get_field(name) for name in self.order.fields]

    def get_next_link(self) -> str | None:
        backwards = self.cursor is not None and self.cursor.backwards
        if backwards and not self.items:  # nothing is before the cursor any more
            return self.address("cursor")
        return self._link(-1, backwards=False) if self.more or backwards else None

    def get_previous_link(self) -> str | None:
        if self.cursor is None or (self.cursor.backwards and not self.more):
            return None
        if not self.items:  # nothing is beyond the cursor any more
            return self.address(cursor=self.cursor.turned(self.order).encoded())
        return self._link(0, backwards=True)

    def _link(self, index: int, *, backwards: bool) -> str | None:
        if not self.items:
            return None
        return self.address(cursor=Cursor.at(self.items[index], self.order, backwards=backwards).encoded())


class Pagination(BasePagination):
    """Chooses by the parameters given: `page`, or `limit` and `offset`, else cursors. They cannot be combined."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        modes = {MODES[name] for name in request.query_params if name in MODES}
        if len(modes) > 1 or ("offset" in modes and "page_size" in request.query_params):
            raise NoSuchPageError(
                "page, cursor and limit/offset cannot be combined; give the parameters of only one of them."
            )
        ways = {"page": NumberedPages, "offset": OffsetPages}
        self.way: Any = ways.get(next(iter(modes), ""), CursorPages)()
        return self.way.paginate_queryset(queryset, request, view)

    def get_paginated_response(self, data: Sequence[Any]) -> Response:
        response: Response = self.way.get_paginated_response(data)
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": ["string", "null"], "format": "uri-reference"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "count": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "With `page`, `limit` or `offset`, or as requested by `count`.",
                },
                "count_is": {
                    "type": "string",
                    "enum": [EXACT, ESTIMATED, AT_LEAST],
                    "description": "The kind of number that `count` is, where the parameter `count` is given.",
                },
                "next": link | {"description": "The following page."},
                "previous": link | {"description": "The page before."},
                "results": schema,
            },
        }
