"""The SQL of a page that was requested before, so that Django need not compile it again.

Decides when two querysets are certain to have the same statement: by their order, slice, joins and conditions, each
compared by all that it is made of, except values that are only parameters. What cannot be compared is compiled each
time. Conditions of more than a column and a value can be compared in three cases: where they are the same objects
(`settled` marks a queryset that is kept, and that others are made from), where their `keybits_made_of` says what they
are made of, or where their `keybits_shape` says so except for their `Value`s. Rows are always read; only compiling is
saved (`python -m benchmarks.miss`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import copy
from datetime import date, datetime
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet, Value, lookups
from django.db.models.expressions import Col
from django.db.models.lookups import Lookup
from django.db.models.sql import Query
from django.db.models.sql.where import WhereNode

from keybits.bounded import Bounded

__all__ = ["Statements", "settled"]

MOST = 1_024
"""Most statements that are remembered, some 6,000 bytes each: clients choose their shapes."""
PLAIN = str | int | float | date | datetime | None
COMPARISONS = frozenset(
    {
        lookups.Exact,
        lookups.GreaterThan,
        lookups.GreaterThanOrEqual,
        lookups.LessThan,
        lookups.LessThanOrEqual,
        lookups.IntegerFieldExact,
        lookups.IntegerGreaterThan,
        lookups.IntegerGreaterThanOrEqual,
        lookups.IntegerLessThan,
        lookups.IntegerLessThanOrEqual,
    }
)
EVERY_COLUMN_HOLDS = 32_767
Q = TypeVar("Q", bound=QuerySet[Any])


def settled(queryset: Q) -> Q:
    """Declare that `queryset` is kept for good, so that its conditions and annotations stay the same objects."""
    for condition in (*_leaves(queryset.query.where), *queryset.query.annotations.values()):
        condition.keybits_settled = True
    return queryset


def _leaves(node: Any) -> Iterator[Any]:
    for child in node.children:
        if isinstance(child, WhereNode):
            yield from _leaves(child)
        else:
            yield child


class _Same:
    """Compares an object by identity, and keeps it alive so that its id is not reused."""

    __slots__ = ("what",)

    def __init__(self, what: object) -> None:
        self.what = what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.what is other.what

    def __hash__(self) -> int:
        return id(self.what)


class _IncomparableError(Exception):
    """It is unknown whether two querysets have the same statement."""


class _Shape:
    """What determines the statement of a queryset (`key`), and the values that are only its parameters (`slots`).

    Raises `_IncomparableError` where that is not known.
    """

    def __init__(self, queryset: QuerySet[Any]) -> None:
        query: Any = queryset.query
        if type(queryset.query) is not Query:  # a subclass may write more than is compared: a CTE, a hint
            raise _IncomparableError
        if query.extra_order_by or query.select_for_update or query.explain_info or query._filtered_relations:
            raise _IncomparableError
        if not all(isinstance(name, str) and name != "?" for name in query.order_by):
            raise _IncomparableError
        self.slots: list[Any] = []
        self.key: Hashable = (
            queryset.db,
            query.order_by,
            (query.default_ordering, query.standard_ordering, query.low_mark, query.high_mark),
            tuple(query.alias_map.values()),
            tuple((name, _expression(each)) for name, each in query.annotations.items()),
            self._condition(query.where),
        )

    def _condition(self, node: Any) -> Hashable:
        if isinstance(node, WhereNode):
            return (node.connector, node.negated, tuple(map(self._condition, node.children)))
        if _is_settled(node):
            return _Same(node)
        if isinstance(node, Lookup) and isinstance(node.rhs, PLAIN):
            return (type(node), self._shaped(node.lhs), type(node.rhs), self._value(node))
        return self._shaped(node)

    def _shaped(self, node: Any) -> Hashable:
        if _is_settled(node) or not hasattr(node, "keybits_shape"):
            return _expression(node)
        self.slots += filter(_is_value, node.get_source_expressions())
        return (type(node), node.keybits_shape)

    def _value(self, node: Any) -> Hashable:
        if not _is_parameter(node):
            return node.rhs  # type: ignore[no-any-return]
        self.slots.append(node)
        return None


def _is_value(node: Any) -> bool:
    return isinstance(node, Value)


def _is_parameter(node: Any) -> bool:
    """Return whether the statement is the same for any value. It is not for numbers that no column can hold."""
    if type(node) not in COMPARISONS or type(node.lhs) is not Col:
        return False
    value = node.rhs
    return isinstance(value, datetime | str) or (type(value) is int and 0 <= value <= EVERY_COLUMN_HOLDS)


def _expression(node: Any) -> Hashable:
    if _is_settled(node):
        return _Same(node)
    if type(node) is Col:
        return (node.alias, node.target)
    made_of: Hashable = getattr(node, "keybits_made_of", None)
    if made_of is None:
        raise _IncomparableError
    return (type(node), made_of)


def _is_settled(node: Any) -> bool:
    return getattr(node, "keybits_settled", False)


_known: Bounded[Hashable, _Statement] = Bounded(MOST)


class Statements:
    """The statements that read the columns `paths`, by what determines them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def rows(self, queryset: QuerySet[Any]) -> list[Sequence[Any]]:
        """Return the values of the columns for each row of `queryset`."""
        try:
            shape = _Shape(queryset)
            return self._statement(shape, queryset).rows(queryset.db, shape.slots)
        except _IncomparableError:
            return list(self._query(queryset).get_compiler(queryset.db).results_iter())
        except EmptyResultSet:
            return []

    def _query(self, queryset: QuerySet[Any]) -> Any:
        query = queryset.query.chain()
        query.set_values(self.paths)
        return query

    def _statement(self, shape: _Shape, queryset: QuerySet[Any]) -> _Statement:
        known = _known.get((self, shape.key))
        if known is None:
            known = _known[self, shape.key] = _Statement(self._query(queryset), queryset.db, shape.slots)
        return known


class _Mark:
    """Stands for the value of a slot while the statement is compiled."""


class _Statement:
    """SQL with its parameters, some of which are filled in for each call, and the columns that need converting."""

    def __init__(self, query: Any, using: str, slots: Sequence[Any]) -> None:
        marks = {id(slot): _Mark() for slot in slots}
        query.where = _marked(query.where, marks)
        compiler = query.get_compiler(using)
        self.sql, self.parameters = compiler.as_sql()
        columns = [column for column, *_ in compiler.select[: compiler.col_count]]
        self.converted = [(i, columns[i]) for i in compiler.get_converters(columns)]
        places = {mark: self._places(mark) for mark in marks.values()}
        self.places = [places[marks[id(slot)]] for slot in slots]

    def _places(self, mark: _Mark) -> list[int]:
        """Return the positions of the value among the parameters. Raises `_IncomparableError` where there is none."""
        found = [place for place, parameter in enumerate(self.parameters) if parameter is mark]
        if not found:
            raise _IncomparableError
        return found

    def rows(self, using: str, slots: Sequence[Any]) -> list[Sequence[Any]]:
        connection: Any = connections[using]
        parameters = list(self.parameters)
        for slot, places in zip(slots, self.places, strict=True):
            for place in places:
                parameters[place] = _parameter(slot, connection)
        with connection.cursor() as cursor:
            cursor.execute(self.sql, parameters)
            rows: list[Any] = cursor.fetchall()
        if not self.converted or not rows:
            return rows
        columns: list[Any] = list(zip(*rows, strict=True))
        for position, column in self.converted:
            for convert in _converters(column, connection):
                columns[position] = _column(convert, column, connection, columns[position])
        return list(zip(*columns, strict=True))


def _parameter(slot: Any, connection: Any) -> Any:
    """Return the slot's value as the driver expects it."""
    if isinstance(slot, Value):
        sql, parameters = slot.as_sql(None, connection)  # type: ignore[arg-type]  # only placeholders need a compiler
    else:
        sql, parameters = slot.get_db_prep_lookup(slot.rhs, connection)
    if sql != "%s":
        raise _IncomparableError
    (parameter,) = parameters
    return parameter


def _marked(node: Any, marks: Mapping[int, _Mark]) -> Any:
    """Return a copy of the conditions with a mark in place of each slot's value."""
    if id(node) in marks:
        written = ("%s", [marks[id(node)]])
        name = "as_sql" if isinstance(node, Value) else "get_db_prep_lookup"
        return _changed(node, **{name: lambda *_: written})
    if isinstance(node, WhereNode):
        return _changed(node.clone(), children=[_marked(child, marks) for child in node.children])
    if isinstance(node, Lookup):
        return _changed(node, lhs=_marked(node.lhs, marks))
    if hasattr(node, "keybits_shape"):
        inner = node.copy()
        inner.set_source_expressions([_marked(each, marks) for each in node.get_source_expressions()])
        return inner
    return node


def _changed(node: Any, **attributes: Any) -> Any:
    changed = copy(node)
    vars(changed).update(attributes)
    return changed


def _column(convert: Any, column: Any, connection: Any, values: Sequence[Any]) -> list[Any]:
    """Return the values converted; naive datetimes (SQLite) with Django's result, but without a call for each."""
    zone = connection.timezone
    naive = zone is not None and convert == getattr(connection.ops, "convert_datetimefield_value", None)
    return [
        value.replace(tzinfo=zone)
        if naive and type(value) is datetime and value.tzinfo is None
        else convert(value, column, connection)
        for value in values
    ]


def _converters(column: Any, connection: Any) -> list[Any]:
    return [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
