"""Where the value of a declared template comes from: the tables that its path leads through, and the last one's column.

Said for SQL, from Django's models; a template that no SQL can follow is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
"""How the names of those types of fields end whose values are written alike by Python and by each database."""


@dataclass(frozen=True, slots=True)
class Join:
    """On the way to a template's value: the rows of `table` whose `column` is what the row before has as `by`.

    `keys` are the columns by which foreign keys may refer to the table; none where it only holds pairs.
    """

    table: str
    column: str
    by: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a template's value comes from: a `column` of the row itself, or of the last table that `joins` lead to.

    The scope is the value between `head` and `tail`; `head` alone, where no column is named. `watched` are the columns
    whose change counts, with the row's `key`; none where every change does. Those of them that are `arrays` PostgreSQL
    gathers in one array only where all have one length.
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
        """The rows of an event that count: of what is watched the old one, for what is new was never shown."""
        return ("old",) if self.watched else ("old", "new")

    @property
    def own(self) -> str:
        """The column of the row itself that the scope is found by; "" where it is found by none."""
        return self.joins[0].by if self.joins else self.column

    @property
    def is_many(self) -> bool:
        """Whether each row has scopes of its own in other tables: those of the new row, if that is as the old was."""
        return bool(self.joins) and ((self.own,) == self.key or not self.joins[0].keys)

    @property
    def compared(self) -> list[str]:
        """The columns that tell whether a row has changed."""
        return sorted({*self.key, *self.watched, *([self.own] if self.is_many else [])})


def source_of(model: type[Model], text: str) -> Source:
    """Return what the template `text`, declared of `model`, reads.

    Raises `ImproperlyConfigured`, with the reason, for a template that no SQL of ours follows.
    """
    try:
        return _resolved(model, parse(text))
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"{model._meta.label} is declared with {text!r}, which {error}") from None


def _resolved(model: type[Model], template: Template) -> Source:
    fields = [_watched(model, name) for name in template.watched]
    watched = tuple(str(field.column) for field in fields)
    arrays = tuple(str(field.column) for field in fields if hasattr(field, "base_field"))
    key = tuple(str(field.column) for field in model._meta.pk_fields)
    if len(template.paths) > 1:
        raise ImproperlyConfigured(f"names {len(template.paths)} fields: a template names one at most.")
    if not template.paths:
        return Source(template.scope, watched=watched, key=key, arrays=arrays)
    head, _, tail = template.scope.partition(f"{{{template.paths[0]}}}")
    if ":" not in head:
        raise ImproperlyConfigured(
            "names a field before any kind: begin with one and a colon, as 'page:{slug}' does."
        )
    field, joins = _walk(model, template.paths[0])
    return Source(head, str(field.column), tail, joins, watched, key, _demand_text(field), arrays)


def _demand_text(field: Any) -> str:
    """Return the type of a field's values. One whose values a database writes in another way than Python is refused.

    No reader would name that scope.
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
        raise ImproperlyConfigured(
            f"names {field}, whose values Python does not see as the database has them."
        )
    return kind


def _watched(model: type[Model], name: str) -> Any:
    own = [field for field in model._meta.concrete_fields if not _ancestor(model, field)]
    for field in own:
        if name in {field.name, field.attname}:
            return field
    raise ImproperlyConfigured(f"watches {name!r}, which is no column of {model._meta.label}.")


def _walk(model: type[Model], path: str) -> tuple[Any, tuple[Join, ...]]:
    """Return the field that `path` ends in, and what leads to its table."""
    joins: list[Join] = []
    *relations, last = path.split("__")
    for name in relations:
        field = _field(model, name)
        if not isinstance(field, (ForeignKey, ManyToManyField)):
            raise ImproperlyConfigured(
                f"goes through {name!r}: {model._meta.label} has no such foreign key or many-to-many field."
            )
        joins += [*_upwards(model, field), *_joins(field)]
        model = field.related_model
    field = _field(model, last)
    if getattr(field, "column", None) is None:
        raise ImproperlyConfigured(f"names {last!r} of {model._meta.label}, which is no column.")
    return field, (*joins, *_upwards(model, field))


def _upwards(model: type[Model], field: Any) -> Iterator[Join]:
    """Yield what leads from a row to the one that it inherits `field` from."""
    while _ancestor(model, field):
        link: Any = model._meta.get_ancestor_link(field.model)
        yield from _joins(link)
        model = link.related_model


def _ancestor(model: type[Model], field: Any) -> bool:
    """Say whether `model` has the field in the table of another model, that it inherits from."""
    return field.model._meta.concrete_model is not model._meta.concrete_model


def _joins(field: Any) -> Iterator[Join]:
    """Yield what follows `field`: one table for a foreign key, two for a many-to-many."""
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
    """Return the columns whose change PostgreSQL takes for that of a key: those that are unique by themselves."""
    return tuple(sorted(field.column for field in options.concrete_fields if field.unique))


def _field(model: type[Model], name: str) -> Any:
    """Return the field `name`, which may be spelt as the attribute (`author_id` for `author`), or `pk`."""
    if name == "pk":
        return model._meta.pk
    every: Any = model._meta.get_fields()
    for field in every:
        if name in {field.name, getattr(field, "attname", None)}:
            return field
    raise ImproperlyConfigured(f"names {name!r}, and {model._meta.label} has no such field.")
