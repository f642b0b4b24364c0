"""Which scopes the rows of each model are declared to be part of, and what signals do where there are no triggers.

The domain declares scopes per model, as templates over paths of fields:
`declare(Page, "pages", "page:{slug}", "author:{author__name}")`. A change makes stale what the row was part of before
and what it is part of afterwards. By default the database notices changes, by triggers made from the declarations
(`keybits.triggers`). Where it keeps no record of changes, or `KEYBITS_TRACKING` is `signals`, handlers of Django's
signals close the scopes, when the transaction has committed and not before: a reader between a `save()` and its commit
sees old rows, and must not find a stamp that says they are new.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.models import Model, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from keybits import changes
from keybits.conf import conf
from keybits.templates import Template, parse
from keybits.transactions import close_after_commit

__all__ = [
    "Declaration",
    "changed",
    "declarations",
    "declare",
    "misspelt",
    "scopes_of",
    "scopes_of_row",
    "tables",
    "templates_of",
]

BEFORE = "_keybits_before"


@dataclass(frozen=True, slots=True)
class Declaration:
    """The templates of one table, given as its concrete model, and the field paths that they use, each once."""

    model: type[Model]
    templates: tuple[str, ...]
    paths: tuple[str, ...]

    def scopes(self, row: dict[str, Any]) -> Iterator[str]:
        """Yield the scopes of one row of values; a template with a value that is None names none."""
        for template in map(parse, self.templates):
            if all(row[path] is not None for path in template.paths):
                yield template.scope.format_map(row)


_declared: dict[type[Model], tuple[str, ...]] = {}


def declare(model: type[Model], *templates: str) -> None:
    """Declare which scopes a row of `model` is part of, so that its changes close them.

    A template is a literal, or a kind, a colon and one field of the model, through relations with `__`; a many-to-many
    relation names one scope for each related row. Triggers follow foreign keys and many-to-many fields, but no reverse
    relations. `page:{slug} on title, slug` counts only changes of those fields and the deletion of the row; signals
    count every change. For a many-to-many relation declare its through model, and for columns inherited from another
    table the model of that table. Raises `ImproperlyConfigured` for what is no template; whether triggers can follow
    one, a system check says. Declaring a model again replaces its templates; those of a proxy are added to those
    of its table.
    """
    for template in templates:
        _demand_template(model, template)
    _declared[model] = templates
    m2m_changed.connect(
        _relation_changed, sender=model, dispatch_uid=f"keybits {model._meta.label} m2m_changed"
    )
    for each in _kin(_concrete(model)):
        label = each._meta.label
        pre_save.connect(_remember, sender=each, dispatch_uid=f"keybits {label} pre_save")
        pre_delete.connect(_remember, sender=each, dispatch_uid=f"keybits {label} pre_delete")
        post_save.connect(_row_changed, sender=each, dispatch_uid=f"keybits {label} post_save")
        post_delete.connect(_row_changed, sender=each, dispatch_uid=f"keybits {label} post_delete")
    for end in _ends_of(model) if model._meta.auto_created else ():
        for each in _kin(_concrete(end.related_model)):
            pre_delete.connect(
                _end_deleted, sender=each, dispatch_uid=f"keybits {each._meta.label} end deleted"
            )


def _demand_template(model: type[Model], template: Any) -> None:
    try:
        parse(template)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(
            f"{model._meta.label} is declared with {template!r}, which is no template: give each as a text of its own, "
            "such as 'pages' and 'page:{slug}'."
        ) from error


def _concrete(model: type[Model]) -> type[Model]:
    """Return the model that the table of `model` belongs to: `model` itself, unless it is a proxy."""
    return cast("type[Model]", model._meta.concrete_model)


def _kin(model: type[Model]) -> Iterator[type[Model]]:
    """Yield `model` and its subclasses, whose instances are rows of it too: a signal is sent for one class alone."""
    yield model
    for each in model.__subclasses__():
        yield from _kin(each)


def templates_of(app_label: str, model_name: str) -> tuple[str, ...]:
    """Return the templates declared for the table of a model of this name; none where it is not declared."""
    label = f"{app_label}.{model_name.lower()}"
    for model in _declared:
        if label in {model._meta.label_lower, _concrete(model)._meta.label_lower}:
            return _declaration(_concrete(model)).templates
    return ()


def declarations() -> tuple[Declaration, ...]:
    """Return all declarations, one for each table."""
    return tuple(map(_declaration, dict.fromkeys(map(_concrete, _declared))))


def tables() -> frozenset[str]:
    """Return the tables whose rows have been declared to be part of scopes."""
    return frozenset(each._meta.db_table for each in map(_concrete, _declared))


def _declaration(concrete: type[Model]) -> Declaration:
    """Return what has been declared of a table, through any of its classes."""
    every = (
        each for model, templates in _declared.items() if _concrete(model) is concrete for each in templates
    )
    templates = tuple(dict.fromkeys(every))
    paths = dict.fromkeys(path for template in map(parse, templates) for path in template.paths)
    return Declaration(concrete, templates, tuple(paths))


def scopes_of(rows: QuerySet[Any]) -> set[str]:
    """Return the scopes that these rows are part of at present. One query; no server-side cursor, for poolers' sake."""
    declaration = _declaration(_concrete(rows.model))
    values = rows.order_by().values(*declaration.paths).distinct()
    return {scope for row in values for scope in declaration.scopes(row)}


def scopes_of_row(instance: Model) -> set[str]:
    """Return the scopes that the row of `instance`, and the rows that it inherits from, are part of at present."""
    return _scopes(instance, instance._state.db or router.db_for_read(type(instance)))


def misspelt(instance: Model, scopes: Collection[str]) -> list[str]:
    """Return the scopes of the row of `instance` that `scopes` have of another spelling, and none of its own.

    `item:ABC` is no scope of the row `abc`, whose changes close `item:abc`. No query is made: where a scope is found in
    another table, or in a deferred column, any of its kind may be the row's. Scopes that the row is not declared to be
    part of, whatever their value, are closed by something else.
    """
    declared = [each for each in declarations() if isinstance(instance, each.model)]
    told = [_told(instance, parse(text)) for each in declared for text in each.templates]
    if any(scope == name or (not name and scope.startswith(kind)) for kind, name in told for scope in scopes):
        return []
    return sorted({name for kind, name in told if kind and any(scope.startswith(kind) for scope in scopes)})


def _told(instance: Model, template: Template) -> tuple[str, str]:
    """Return the kind of a template's scopes ("" for a plain one), and the row's scope; "" where a query would tell."""
    values = {path: _loaded(instance, path) for path in template.paths}
    kind = template.scope.partition("{")[0] if template.paths else ""
    return kind, "" if None in values.values() else template.scope.format_map(values)


def _loaded(instance: Model, path: str) -> Any:
    return instance.__dict__.get(str(instance._meta.pk.attname) if path == "pk" else path)


def changed(scopes: Iterable[str], using: str) -> None:
    """Close `scopes` once the transaction on the database `using` has committed, or now where there is none.

    However many changes a transaction makes, its scopes are closed together, in one round trip.
    """
    close_after_commit(connections[using], scopes)


def _scopes(instance: Model, using: str) -> set[str]:
    """Return the scopes of the row of `instance`, and of its rows in tables that it inherits from, at present."""
    scopes: set[str] = set()
    for model in dict.fromkeys(map(_concrete, _declared)):
        key = getattr(instance, model._meta.pk.attname) if isinstance(instance, model) else None
        if key is not None:
            scopes |= scopes_of(model._base_manager.using(using).filter(pk=key))
    return scopes


def _by_signals(using: str) -> bool:
    """Say whether signals are how changes are noticed: by configuration, or because the database keeps no record."""
    return conf.TRACKING == "signals" or not changes.is_kept(connections[using])


def _remember(instance: Model, using: str, **_: Any) -> None:
    """Keep the scopes that the row was part of: outside a transaction they may be closed only after the change."""
    if not _by_signals(using):
        return
    before: set[str] = instance.__dict__.setdefault(BEFORE, set())
    before |= _scopes(instance, using)


def _row_changed(instance: Model, using: str, **_: Any) -> None:
    if not _by_signals(using):
        return
    scopes: set[str] = instance.__dict__.pop(BEFORE, set())
    changed(scopes | _scopes(instance, using), using)


def _relation_changed(
    sender: Any, instance: Model, action: str, reverse: bool, pk_set: set[Any] | None, using: str, **_: Any
) -> None:
    """Close the scopes of rows of a through model, read while the rows exist: after an addition, before a removal."""
    if action not in {"post_add", "pre_remove", "pre_clear"} or not _by_signals(using):
        return
    near, far = _ends(sender, type(instance), reverse)
    rows = sender._base_manager.using(using).filter(**{near: instance.pk})
    changed(scopes_of(rows if pk_set is None else rows.filter(**{f"{far}__in": pk_set})), using)


def _end_deleted(instance: Model, using: str, **_: Any) -> None:
    """Close the scopes of the rows of many-to-many relations that are deleted with `instance`: no signal names them."""
    if not _by_signals(using):
        return
    for model in (each for each in map(_concrete, _declared) if each._meta.auto_created):
        for end in _ends_of(model):
            if isinstance(instance, end.related_model):
                rows = model._base_manager.using(using).filter(**{end.name: instance.pk})
                changed(scopes_of(rows), using)


def _ends_of(through: Any) -> list[Any]:
    """Return the two foreign keys of a through model."""
    return [field for field in through._meta.fields if field.is_relation]


def _ends(through: Any, model: type[Model], reverse: bool) -> tuple[str, str]:
    """Return the names of the through model's fields for this side and for the other."""
    ends = [field.name for field in _ends_of(through)]
    owner = [name for name in ends if issubclass(model, through._meta.get_field(name).related_model)]
    near = owner[-1] if reverse else owner[0]
    return near, next(name for name in ends if name != near)
