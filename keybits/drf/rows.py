"""Rows that stand in for model instances: they have only what was read, under the model's names.

Decides how a path (`gallery__slug`, `tags__slug`) is read: a model's own columns and those behind foreign keys by one
statement, each to-many relation by one more. A stand-in has what was read, the model's own properties computed from
it, and no access to the database: any other attribute raises `UndeclaredReadError`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from inspect import getattr_static, isfunction
from itertools import chain
from typing import Any, ClassVar

from django.core.exceptions import FieldDoesNotExist
from django.db import connections
from django.db.models import ForeignKey, IntegerField, Manager, Model, QuerySet, signals
from django.db.models.constants import LOOKUP_SEP
from django.db.models.fields.related_descriptors import (
    ForeignKeyDeferredAttribute,
    ForwardManyToOneDescriptor,
    ForwardOneToOneDescriptor,
)
from django.db.models.query_utils import DeferredAttribute

from keybits.drf.statements import Statements

__all__ = [
    "All",
    "Attached",
    "Layout",
    "NoProjectionError",
    "Reads",
    "Related",
    "Row",
    "UndeclaredReadError",
    "Values",
    "is_plain",
    "referred",
]

Values = Sequence[Any]


class NoProjectionError(Exception):
    """Something cannot be read as columns. The message says what."""


class UndeclaredReadError(Exception):
    """An attribute of a stand-in was read that had not been declared, and so was not fetched."""


class Row:
    """One row, with the model's attribute names. Rows compare as instances do: by model, a proxy of which is
    no other one, and by primary key.

    Its own attributes end in an underscore, as no field's name does: a field may be called `values` or `layout`.
    """

    __slots__ = ("values_",)
    model_: ClassVar[type[Model]]
    layout_: ClassVar[Layout]
    pk: Any

    def __init__(self, values: Values) -> None:
        _keep(self, values)

    def __getattr__(self, name: str) -> Any:
        """Return the model's property of this name, computed from what was read."""
        if name.startswith("__") and name != "__dict__":
            raise AttributeError(name)
        found = getattr_static(self.model_, name, None)
        if type(found) is property and found.fget is not None:
            return found.fget(self)
        raise UndeclaredReadError(
            f"{self.model_._meta.label}.{name} is read but not declared; declare it with @reads({name!r})"
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise UndeclaredReadError(
            f"{self.model_._meta.label}.{name} is set; rows that have been read do not change"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented  # an instance then asks for what was not read
        own, others = (each.model_._meta.concrete_model for each in (self, other))
        return (own, self.pk) == (others, other.pk)

    def __hash__(self) -> int:
        return hash(self.pk)

    def __str__(self) -> str:
        return str(self.model_.__str__(self))  # the model's, computed from what was read

    def __repr__(self) -> str:
        return str(self.model_.__repr__(self))


_keep = Row.values_.__set__  # type: ignore[attr-defined]  # past `__setattr__`


def referred(rows: Sequence[Any], name: str) -> list[Any]:
    """Return what the foreign key `name` of these rows or instances refers to, each once; None for NULL."""
    if rows and isinstance(rows[0], Row):
        key = rows[0].layout_.index[f"{name}{LOOKUP_SEP}pk"]
        unlike = {row.values_[key]: row for row in rows}
    else:
        unlike = {getattr(row, f"{name}_id"): row for row in rows}
    return [getattr(row, name) for row in unlike.values()]


class Related:
    """The rows of a to-many relation, in place of its manager: `all()`, and nothing that would query the database."""

    __slots__ = ("rows",)

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = All(rows)

    def all(self) -> All:
        return self.rows

    def __iter__(self) -> Iterator[Row]:
        raise _no_query("iter")  # REST framework would iterate over what is no manager

    def __getattr__(self, name: str) -> Any:
        raise _no_query(name)


class All(tuple[Row, ...]):
    """What `all()` gives, in place of a queryset: it can be iterated over, counted by `len` and subscripted."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return All(found) if isinstance(key, slice) else found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _no_query(name)

    def count(self, *_: object) -> int:  # a tuple's counts the occurrences of something
        return len(self)

    def __repr__(self) -> str:
        raise _no_query("repr")


def _no_query(name: str) -> UndeclaredReadError:
    return UndeclaredReadError(f"{name}() of a relation is called; rows that have been read have all() only")


class Reads:
    """What is read of one model: a tree of paths.

    `annotations` are names that the model does not have and the queryset must have.
    """

    def __init__(self, model: type[Model]) -> None:
        _insist_on_plain(model)
        self.model = model
        if not is_plain(model, self._pk):
            raise self._no("the primary key is not a plain column")
        self.columns: dict[str, None] = {"pk": None}
        self.annotations: set[str] = set()
        self.ones: dict[str, Reads] = {}
        self.many: dict[str, Reads] = {}

    def add(self, path: str) -> None:
        """Add what `path` leads to, or raise `NoProjectionError`."""
        name, _, rest = path.partition(LOOKUP_SEP)
        if name in {"pk", self._pk} and not rest:
            return
        field = self.field(name)
        if field is None:
            self._annotation(path)
        elif _is_many(field):
            self.relation(name).add(rest or "pk")
        elif field.is_relation and name == field.name:
            self.foreign(name).add(rest or "pk")
        else:
            self._column(path)

    def foreign(self, name: str) -> Reads:
        """Return what is read behind a foreign key."""
        field = self.field(name)
        if not isinstance(field, ForeignKey) or not field.target_field.primary_key:
            raise self._no(f"{name} is not a foreign key to a primary key")
        if not _is_joined(field):
            raise self._no(
                f"{name} may lead to no instance, where a join leads to a row, or the other way round"
            )
        return self.ones.setdefault(name, Reads(field.related_model))

    def relation(self, name: str) -> Reads:
        """Return what is read of each row of a to-many relation."""
        field = self.field(name)
        if field is None or not _is_many(field):
            raise self._no(f"{name} is not a to-many relation")
        if field.model._meta.concrete_model is not self.model._meta.concrete_model:
            raise self._no(f"{name} belongs to a parent, whose key may be another")
        if field.related_model._default_manager._constructor_args != ((), {}):
            raise self._no(f"{name} has a manager with arguments, which relations make without them")
        return self.many.setdefault(name, Reads(field.related_model))

    def field(self, name: str) -> Any:
        """Return the field, or the reverse relation, behind the model's attribute `name`; None where there is none."""
        for relation in self.model._meta.related_objects:
            if relation.get_accessor_name() == name:
                return relation
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return None
        return None if field.auto_created and not field.concrete else field

    @property
    def _pk(self) -> str:
        return str(self.model._meta.pk.attname)

    def _column(self, path: str) -> None:
        if not is_plain(self.model, path):
            raise self._no(f"{path} is not a plain column")
        self.columns[path] = None

    def _annotation(self, path: str) -> None:
        if LOOKUP_SEP in path or getattr_static(self.model, path, None) is not None:
            raise self._no(f"{path} is not a column")
        self.annotations.add(path)
        self.columns[path] = None

    def _no(self, reason: str) -> NoProjectionError:
        return NoProjectionError(f"{self.model._meta.label}: {reason}")


def is_plain(model: type[Model], name: str) -> bool:
    """Return whether instances of `model` have under `name` what the database has."""
    return type(getattr_static(model, name, None)) in {DeferredAttribute, ForeignKeyDeferredAttribute}


def _is_joined(field: Any) -> bool:
    """Return whether an instance has the row that a join gives: there is one, and Django reads it as it is."""
    way = type(getattr_static(field.model, field.name, None))
    usual = way in {ForwardManyToOneDescriptor, ForwardOneToOneDescriptor}
    return usual and field.db_constraint and type(field.related_model._base_manager) is Manager


def _is_many(field: Any) -> bool:
    return bool(field.many_to_many or (field.one_to_many and field.auto_created))


def _insist_on_plain(model: type[Model]) -> None:
    """Raise `NoProjectionError` for a model that customizes how its instances are made from rows."""
    made_as_usual = (
        model.from_db.__func__ is Model.from_db.__func__  # type: ignore[attr-defined]
        and model.__init__ is Model.__init__
        and model.__getattribute__ is Model.__getattribute__
        and model.__setattr__ is Model.__setattr__
    )
    listened_to = any(signal.has_listeners(model) for signal in (signals.pre_init, signals.post_init))
    if not made_as_usual or listened_to:
        raise NoProjectionError(f"{model._meta.label} customizes how its instances are made")
    operators = _operators(model) - {"__str__", "__repr__", "__getattr__"}
    if operators:
        raise NoProjectionError(
            f"{model._meta.label} has operators of its own: {', '.join(sorted(operators))}"
        )


def _operators(model: type[Model]) -> set[str]:
    """Return the special methods that the model defines, which stand-ins would not have."""
    own = chain.from_iterable(vars(base).items() for base in model.__mro__ if not issubclass(Model, base))
    return {name for name, value in own if name.startswith("__") and isfunction(value)}


class Layout:
    """Where in a row's tuple each path of `reads` is: columns first, then a list for each to-many relation.

    `makers` are the projection's, bound to this layout: what makes each field of its items.
    """

    makers: list[tuple[str, Any]]

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        self.paths = tuple(_paths(reads))
        self.index = {path: position for position, path in enumerate(self.paths)}
        self.many = [Attached(reads, name) for name in reads.many]
        self.slots = {name: len(self.paths) + position for position, name in enumerate(reads.many)}
        self.statements = Statements(self.paths)
        self.classes: dict[str, type[Row]] = {}
        self.row = self._row(reads, "")

    def _row(self, reads: Reads, prefix: str) -> type[Row]:
        """Return the class of stand-ins for the rows that `prefix` leads to."""
        members: dict[str, Any] = {name: _value(self.index[prefix + name]) for name in reads.columns}
        own = str(reads.model._meta.pk.attname)
        members[own] = members["pk"]
        self.index[prefix + own] = self.index[f"{prefix}pk"]
        for name, behind in reads.ones.items():
            inner = f"{prefix}{name}{LOOKUP_SEP}"
            members[name] = _one(self.index[f"{inner}pk"], self._row(behind, inner))
        if not prefix:
            members |= {each.name: _all(self.slots[each.name], each.layout.row) for each in self.many}
        about = {"__slots__": (), "model_": reads.model, "layout_": self}
        about["__class__"] = property(lambda _: reads.model)  # for `isinstance`, `repr` and the default `str`
        self.classes[prefix] = type(reads.model.__name__, (Row,), about | members)
        return self.classes[prefix]

    def attached(self, name: str) -> Attached:
        """Return the to-many relation of this name."""
        return next(each for each in self.many if each.name == name)

    def read(self, queryset: QuerySet[Any]) -> list[Row]:
        """Return the rows of `queryset` in this layout: one statement, and one more for each to-many relation."""
        return [self.row(values) for values in self._values(queryset)]

    def _values(self, queryset: QuerySet[Any]) -> list[Values]:
        rows = self.statements.rows(queryset)
        for each in self.many if rows else ():
            found = each.read([row[0] for row in rows], queryset.db)
            rows = [(*row, found.get(row[0], ())) for row in rows]
        return rows


def _paths(reads: Reads, prefix: str = "") -> Iterator[str]:
    yield from (prefix + name for name in reads.columns)
    for name, behind in reads.ones.items():
        if behind.many or behind.annotations:
            raise NoProjectionError(f"{reads.model._meta.label}: too much is read behind {name}")
        yield from _paths(behind, f"{prefix}{name}{LOOKUP_SEP}")


def _value(position: int) -> property:
    return property(lambda row: row.values_[position])


def _one(position: int, row_class: type[Row]) -> property:
    return property(lambda row: None if row.values_[position] is None else row_class(row.values_))


def _all(position: int, row_class: type[Row]) -> property:
    return property(lambda row: Related(map(row_class, row.values_[position])))


class Attached:
    """The rows of one to-many relation, for all rows of a page at once, in the order of their own model."""

    def __init__(self, reads: Reads, name: str) -> None:
        field, inner = reads.field(name), reads.many[name]
        if inner.many or inner.annotations:
            raise NoProjectionError(f"{reads.model._meta.label}: too much is read of each of {name}")
        self.name = name
        self.layout = Layout(inner)
        self.back, self.key = _way_back(field)
        self._has_numbers_for_keys = isinstance(reads.model._meta.pk, IntegerField)
        self._statements: dict[tuple[str, int], str | None] = {}

    def read(self, keys: Sequence[Any], using: str) -> dict[Any, list[Values]]:
        """Return the related rows, by the primary key of the row that they belong to."""
        found: defaultdict[Any, list[Values]] = defaultdict(list)
        for row in self._rows(keys, using):
            found[row[-1]].append(row)
        return found

    def _rows(self, keys: Sequence[Any], using: str) -> Iterable[Values]:
        statement = self._statement(using, len(keys))
        if statement is None:
            return self._queryset(keys, using)
        connection = connections[using]
        with connection.cursor() as cursor:
            cursor.execute(statement, [list(keys)] if _knows_arrays(connection) else list(keys))
            rows: list[Values] = cursor.fetchall()
        return rows

    def _queryset(self, keys: Sequence[Any], using: str) -> QuerySet[Any, Any]:
        rows = self.layout.reads.model._default_manager.using(using).filter(**{f"{self.back}__in": keys})
        return rows.values_list(*self.layout.paths, self.key)

    def _statement(self, using: str, count: int) -> str | None:
        """Return the SQL of `_queryset` for `count` keys; None where it may vary, or where values need converting.

        PostgreSQL is given the keys as one array: its driver parses every statement of more than 50 parameters anew
        (`benchmarks/miss.py`).
        """
        count = 1 if _knows_arrays(connections[using]) else count
        if (using, count) not in self._statements:
            self._statements[using, count] = self._compiled(using, count)
        return self._statements[using, count]

    def _compiled(self, using: str, count: int) -> str | None:
        manager = self.layout.reads.model._default_manager
        if type(manager).get_queryset is not Manager.get_queryset or not self._has_numbers_for_keys:
            return None
        compiler = self._queryset(range(count), using).query.get_compiler(using)
        statement, parameters = compiler.as_sql()
        plain = not compiler.get_converters([column for column, *_ in compiler.select])
        if not plain or list(parameters) != list(range(count)):
            return None
        return _with_an_array(statement) if _knows_arrays(connections[using]) else statement


def _knows_arrays(connection: Any) -> bool:
    return connection.vendor == "postgresql"  # type: ignore[no-any-return]


def _with_an_array(statement: str) -> str | None:
    return statement.replace(" IN (%s)", " = ANY(%s)") if statement.count(" IN (%s)") == 1 else None


def _way_back(field: Any) -> tuple[str, str]:
    """Return the lookups by which a relation's rows refer to what they belong to: the relation, and its key."""
    if field.many_to_many:
        name = field.related_query_name() if field.concrete else field.field.name
        return name, f"{name}{LOOKUP_SEP}pk"
    if not field.field.target_field.primary_key:
        raise NoProjectionError(f"{field.field} does not refer to a primary key")
    return field.field.name, field.field.attname
