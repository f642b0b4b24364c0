"""The SQL of a page that has been asked for before, so that Django need not write it again.

Decides when two querysets are sure to be one statement: by their order, their slice, their joins and their conditions,
each compared by all that it is made of. What cannot be compared so is written anew each time. Conditions that are
made of more than a column and a value can be compared where they are the very same objects (`settled` says of a
queryset that it is kept, and others are made from it), or where they say what they are made of, as
`keybits_made_of`. Rows are always read; only the writing is saved.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet
from django.db.models.expressions import Col
from django.db.models.lookups import Lookup
from django.db.models.sql.where import WhereNode

__all__ = ["Statements", "settled"]

MOST = 256
"""Statements that are remembered of one list, in one shape."""
PLAIN = str | int | float | date | datetime | None
Q = TypeVar("Q", bound=QuerySet[Any])


def settled(queryset: Q) -> Q:
    """Say that `queryset` is kept for good, so that its conditions and annotations will be the same objects again."""
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
    """One object and no other: equal to itself alone, and alive as long as it is compared with."""

    __slots__ = ("what",)

    def __init__(self, what: object) -> None:
        self.what = what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.what is other.what

    def __hash__(self) -> int:
        return id(self.what)


class _IncomparableError(Exception):
    """Nothing says whether this would be the same statement."""


def _key(queryset: QuerySet[Any]) -> Hashable:
    """Return what the statement of `queryset` follows from, or raise `_IncomparableError`."""
    query: Any = queryset.query
    if query.extra_order_by or query.select_for_update or query.explain_info or query._filtered_relations:
        raise _IncomparableError
    if not all(isinstance(name, str) and name != "?" for name in query.order_by):
        raise _IncomparableError
    return (
        queryset.db,
        query.order_by,
        (query.default_ordering, query.standard_ordering, query.low_mark, query.high_mark),
        tuple(query.alias_map.values()),
        tuple((name, _expression(each)) for name, each in query.annotations.items()),
        _condition(query.where),
    )


def _condition(node: Any) -> Hashable:
    if isinstance(node, WhereNode):
        return (node.connector, node.negated, tuple(map(_condition, node.children)))
    if isinstance(node, Lookup) and isinstance(node.rhs, PLAIN) and not _is_settled(node):
        return (type(node), _expression(node.lhs), type(node.rhs), node.rhs)
    return _expression(node)


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


class Statements:
    """The statements that read these columns, by what they follow from."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self._known: dict[Hashable, _Statement] = {}

    def rows(self, queryset: QuerySet[Any]) -> list[Sequence[Any]]:
        """Return the columns of the rows of `queryset`."""
        try:
            statement = self._statement(queryset)
        except _IncomparableError:
            return list(self._compiler(queryset).results_iter())
        except EmptyResultSet:
            return []
        return statement.rows(queryset.db)

    def _compiler(self, queryset: QuerySet[Any]) -> Any:
        query = queryset.query.chain()
        query.set_values(self.paths)
        return query.get_compiler(queryset.db)

    def _statement(self, queryset: QuerySet[Any]) -> _Statement:
        key = _key(queryset)
        if key not in self._known:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = _Statement(self._compiler(queryset))
        return self._known[key]


class _Statement:
    """SQL with its parameters, and the columns of which the database's values are not yet Python's."""

    def __init__(self, compiler: Any) -> None:
        self.sql, self.parameters = compiler.as_sql()
        columns = [column for column, *_ in compiler.select[: compiler.col_count]]
        self.converted = [(i, columns[i]) for i in compiler.get_converters(columns)]

    def rows(self, using: str) -> list[Sequence[Any]]:
        connection: Any = connections[using]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, self.parameters)
            rows: list[Any] = cursor.fetchall()
        if not self.converted or not rows:
            return rows
        columns: list[Any] = list(zip(*rows, strict=True))
        for position, column in self.converted:
            for convert in _converters(column, connection):
                columns[position] = _column(convert, column, connection, columns[position])
        return list(zip(*columns, strict=True))


def _column(convert: Any, column: Any, connection: Any, values: Sequence[Any]) -> list[Any]:
    """Return the values converted; SQLite's dates, which have no zone, as Django does it and without a call each."""
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
