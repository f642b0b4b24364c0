"""Where a declared template's value comes from: the tables that its path leads through, and a column of the last one.

The result is in terms of SQL, derived from Django's models. A template that SQL cannot follow is refused, with the
reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.apps import apps as registry
from django.core.exceptions import ImproperlyConfigured
from django.db.models import ForeignKey, ManyToManyField, Model

from keybits.templates import Template, parse

__all__ = ["Join", "Source", "source_of"]

ALIKE = (
    "AutoField",
    "IntegerField",
    "CharField",
    "SlugField",
    "TextField",
    "FilePathField",
    "DateField",
    "UUIDField",
)
"""Endings of the names of field types whose values Python and every database write as the same text."""


@dataclass(frozen=True, slots=True)
class Join:
    """One step on the path to a template's value: to the rows of `table` whose `column` equals `by` of the row before.

    `keys` are the columns by which foreign keys may refer to the table; empty for the table of a many-to-many relation.
    """

    table: str
    column: str
    by: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a template's value comes from: a `column` of the row itself, or of the last table that `joins` lead to.

    The scope is `head`, the value and `tail`; without a column it is `head` alone. `watched` are the columns whose
    changes count, together with those of the row's `key`; empty where every change counts. `kind` is the type of the
    column's field. `arrays` are the watched columns of an array type: PostgreSQL can gather their values in one array
    only if all have the same length.
    """

    head: str
    column: str = ""
    tail: str = ""
    joins: tuple[Join, ...] = ()
    watched: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    kind: str = ""
    arrays: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of an event that count: with watched columns only the old, because the new was never shown."""
        return ("old",) if self.watched else ("old", "new")

    @property
    def own(self) -> str:
        """The column of the row itself by which the scope is found; "" for none."""
        return self.joins[0].by if self.joins else self.column

    @property
    def is_many(self) -> bool:
        """Whether each row leads to scopes of its own in other tables; an unchanged row still has the same."""
        return bool(self.joins) and ((self.own,) == self.key or not self.joins[0].keys)

    @property
    def compared(self) -> list[str]:
        """The columns by which it is decided whether a row has changed."""
        return sorted({*self.key, *self.watched, *([self.own] if self.is_many else [])})


def source_of(model: type[Model], text: str) -> Source:
    """Return the source of the template `text` that is declared for `model`.

    Raises `ImproperlyConfigured`, with the reason, for a template that triggers cannot follow.
    """
    try:
        return _resolved(_with_relations(model), parse(text))
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"{model._meta.label} is declared with {text!r}, which {error}") from None


def _resolved(model: type[Model], template: Template) -> Source:
    fields = [_watched(model, name) for name in template.watched]
    watched = tuple(str(field.column) for field in fields)
    arrays = tuple(str(field.column) for field in fields if hasattr(field, "base_field"))
    key = tuple(str(field.column) for field in model._meta.pk_fields)
    if len(template.paths) > 1:
        raise ImproperlyConfigured(
            f"names {len(template.paths)} fields: a template names one at most, which may be a generated field."
        )
    plain = "".join(f"{{{path}}}" for path in template.paths)
    if set("{}").intersection(template.scope.replace(plain, "", 1)):
        raise ImproperlyConfigured(
            "has braces that are not those of one plain field: triggers write its value as it is, without a format."
        )
    if not template.paths:
        return Source(template.scope, watched=watched, key=key, arrays=arrays)
    head, _, tail = template.scope.partition(f"{{{template.paths[0]}}}")
    if ":" not in head:
        raise ImproperlyConfigured(
            "names a field before any kind: begin with a kind and a colon, as 'page:{slug}' does."
        )
    field, joins = _walk(model, template.paths[0])
    return Source(head, str(field.column), tail, joins, watched, key, _demand_text(field), arrays)


def _demand_text(field: Any) -> str:
    """Return the type of a field's values. Refuse a field whose values a database writes in another way than Python.

    Triggers would then record a scope that no reader names.
    """
    valued = field
    while valued.is_relation:
        valued = valued.target_field
    kind = str(valued.get_internal_type())
    if not kind.endswith(ALIKE):
        raise ImproperlyConfigured(
            f"names {field}, a {kind}: a scope is named by a number, a text, a date or a UUID."
        )
    if hasattr(valued, "from_db_value"):
        raise ImproperlyConfigured(f"names {field}, whose values in Python are not those in the database.")
    return kind


def _watched(model: type[Model], name: str) -> Any:
    own = [field for field in model._meta.concrete_fields if not _ancestor(model, field)]
    for field in own:
        if name in {field.name, field.attname}:
            return field
    raise ImproperlyConfigured(f"watches {name!r}, which is no column of {model._meta.label}.")


def _walk(model: type[Model], path: str) -> tuple[Any, tuple[Join, ...]]:
    """Return the field that `path` ends in, and the joins that lead to its table."""
    joins: list[Join] = []
    *relations, last = path.split("__")
    for place, name in enumerate(relations, start=1):
        field = _field(model, name)
        if not isinstance(field, (ForeignKey, ManyToManyField)):
            raise ImproperlyConfigured(
                f"goes through {name!r}: {model._meta.label} has no such foreign key or many-to-many field."
            )
        joins += _upwards(model, field)
        target = _with_relations(field.related_model)
        if place == len(relations) and _refers_by(field, _field(target, last)):
            # The row has the value itself, and still has it where the database has deleted the other row first.
            return field, tuple(joins)
        joins += _joins(field)
        model = target
    field = _field(model, last)
    if getattr(field, "column", None) is None:
        raise ImproperlyConfigured(f"names {last!r} of {model._meta.label}, which is no column.")
    return field, (*joins, *_upwards(model, field))


def _refers_by(field: Any, other: Any) -> bool:
    """Return whether `field` is a foreign key to the field `other`, which may be of another state of the models."""
    if field.many_to_many:
        return False
    target = field.target_field
    return (target.model._meta.label, target.name) == (other.model._meta.label, other.name)


def _with_relations(model: type[Model]) -> type[Model]:
    """Return `model`, or the code's own for an unmanaged one of a migration, which leaves its foreign keys out."""
    with suppress(LookupError):
        return model if model._meta.managed else registry.get_model(model._meta.label)
    return model


def _upwards(model: type[Model], field: Any) -> Iterator[Join]:
    """Yield the joins from a row to the parent row that has `field`."""
    while _ancestor(model, field):
        link: Any = model._meta.get_ancestor_link(field.model)
        yield from _joins(link)
        model = link.related_model


def _ancestor(model: type[Model], field: Any) -> bool:
    """Say whether `model` inherits the field from another model's table."""
    return field.model._meta.concrete_model is not model._meta.concrete_model


def _joins(field: Any) -> Iterator[Join]:
    """Yield the joins that follow `field`: one for a foreign key, two for a many-to-many field."""
    target = field.related_model._meta
    if field.many_to_many:
        through = field.remote_field.through._meta
        near, far = (
            through.get_field(name) for name in (field.m2m_field_name(), field.m2m_reverse_field_name())
        )
        yield Join(through.db_table, near.column, near.target_field.column)
        yield Join(target.db_table, far.target_field.column, far.column, _keys(target))
    else:
        yield Join(target.db_table, field.target_field.column, field.column, _keys(target))


def _keys(options: Any) -> tuple[str, ...]:
    """Return the columns whose change PostgreSQL's locks treat as that of a key: those that are unique alone."""
    return tuple(sorted(field.column for field in options.concrete_fields if field.unique))


def _field(model: type[Model], name: str) -> Any:
    """Return the field `name`, which may also be the name of its attribute (`author_id` for `author`), or `pk`."""
    if name == "pk":
        return model._meta.pk
    every: Any = model._meta.get_fields()
    for field in every:
        if name in {field.name, getattr(field, "attname", None)}:
            return field
    raise ImproperlyConfigured(f"names {name!r}, and {model._meta.label} has no such field.")
