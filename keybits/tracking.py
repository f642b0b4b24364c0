"""What `migrate` does with triggers: afterwards each declared table has its triggers, and no other table has any.

A migration may rename or remake what triggers read. On PostgreSQL every write of the triggers' tables would then fail,
and SQLite refuses to remake a table that a trigger of another table reads. Those triggers, and no others, are therefore
dropped before the migration.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.apps import apps as registry
from django.apps.registry import Apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddConstraint,
    AddField,
    AlterField,
    AlterModelTable,
    AlterOrderWithRespectTo,
    AlterUniqueTogether,
    CreateModel,
    DeleteModel,
    RemoveConstraint,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.fields import FieldOperation
from django.db.models import Model

from keybits import changes, invalidation, triggers
from keybits.conf import conf
from keybits.operations import TrackChanges
from keybits.trigger_health import refusal, straying

__all__ = ["check_declarations", "keep", "step_aside"]

logger = logging.getLogger(__name__)
ALTERING = (
    AddField,
    AlterField,
    AlterModelTable,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
"""The operations that rename or remove something, applied or reversed."""
REMAKING = (
    *ALTERING,
    AddConstraint,
    AlterUniqueTogether,
    RemoveConstraint,
    AlterOrderWithRespectTo,
)


def check_declarations(**_: Any) -> list[CheckMessage]:
    """Check that triggers can follow what is declared: each table once, with its parents, and with a record."""
    if conf.TRACKING != "triggers":
        return []
    declared = invalidation.declarations()
    written = {each.model: router.db_for_write(each.model) for each in declared}
    return [
        message
        for each in declared
        if changes.can_be_kept(connections[written[each.model]].vendor)
        for message in (
            *_unfit(each),
            *_unrecorded(each.model, written[each.model]),
            *_halved(each.model, written),
            *_doubled(each.model, written),
        )
    ]


def _doubled(model: type[Model], written: Mapping[type[Model], str]) -> Iterator[CheckMessage]:
    for other, using in written.items():
        is_same = other._meta.db_table == model._meta.db_table and using == written[model]
        if other is not model and is_same:
            yield Error(
                f"{model._meta.label} is declared, and so is {other._meta.label}, which has the same table.",
                hint="Declare only one of them, with the scopes of both: a table has one set of triggers.",
                id="keybits.E018",
            )


def _unfit(declaration: invalidation.Declaration) -> Iterator[CheckMessage]:
    hint = "Name the row's own columns, or columns that its foreign keys and many-to-many fields lead to."
    for template in declaration.templates:
        if reason := triggers.refusal(declaration.model, template):
            yield Error(reason, hint=hint, id="keybits.E017")
        elif reason := straying(declaration.model, template):
            yield Warning(
                f"{reason}.",
                hint="Triggers see one database: name a column of the model's own database, such as the foreign key "
                "itself, or a plain scope.",
                id="keybits.W013",
            )


def _unrecorded(model: type[Model], using: str) -> Iterator[CheckMessage]:
    if not router.allow_migrate(using, "keybits"):
        yield Warning(
            f"{model._meta.label} is written in the database {using!r}, which has no record of changes.",
            hint="Have the router allow the migrations of keybits there: what Django's signals do not report, such as "
            "bulk operations and raw SQL, is not noticed otherwise.",
            id="keybits.W009",
        )


def _halved(model: type[Model], declared: Container[type[Model]]) -> Iterator[CheckMessage]:
    for parent in model._meta.all_parents:
        if parent not in declared:
            yield Warning(
                f"{model._meta.label} is declared, and {parent._meta.label} is not, which has a part of its rows.",
                hint="Declare the parent, too, with the scopes of what shows its part: a change of that part alone is "
                "not noticed.",
                id="keybits.W010",
            )


def keep(app_config: AppConfig, using: str, apps: Apps = registry, **_: Any) -> None:
    """Give an application's tables the triggers that are declared; log where there can be none.

    `apps` has the models as the database has them: `migrate` may stop before the code's state, or go back.
    """
    connection = connections[using]
    declared = [each for each in invalidation.declarations() if _is_kept_there(each.model, using)]
    of_app = [each for each in declared if each.model._meta.app_label == app_config.label]
    if not changes.is_kept(connection):
        _say_what_is_lost(connection, [each.model for each in of_app])
        return
    operations = _operations(app_config.label)
    tables = {each.model._meta.db_table for each in declared}
    for each in of_app:
        migrated = _as_migrated(each.model, apps, operations)
        _sync(connection, migrated, each.templates)
        tables.add(migrated._meta.db_table)
    for model in app_config.get_models(include_auto_created=True):
        migrated = _as_migrated(model, apps, operations)
        if migrated._meta.db_table not in tables:
            _keep_other(connection, migrated, _given(model, operations))


def _is_kept_there(model: type[Model], using: str) -> bool:
    """Return whether a declared table gets triggers in a database, in which its own migrations may not be allowed.

    Where the record is allowed and the model is written, the tables may be somebody else's, or made by hand.
    """
    return router.allow_migrate_model(using, model) or router.db_for_write(model) == using


def _keep_other(connection: BaseDatabaseWrapper, model: type[Model], templates: tuple[str, ...]) -> None:
    """Make the triggers of scopes that a migration has given the model; drop the others, no longer declared.

    Only tables of the application are looked at: triggers of other tables may be another project's.
    """
    if templates:
        _sync(connection, model, templates)
    else:
        triggers.drop(connection, model)


def _as_migrated(model: type[Model], apps: Apps, operations: list[Any]) -> type[Model]:
    """Return the model as the database has it, under whatever name; `model` itself, where no migration makes its table.

    Migrations know no foreign keys of such a table: neither of an unmanaged model nor of one that has none.
    """
    for name, _ in _past(model, operations) if operations and model._meta.managed else ():
        with suppress(LookupError):
            return apps.get_model(model._meta.app_label, name)
    return model


def _given(model: type[Model], operations: list[Any]) -> tuple[str, ...]:
    """Return the scopes of the last migration that has given the model any, beside what is declared."""
    for name, operation in _past(model, operations):
        if isinstance(operation, TrackChanges) and operation.model_name.lower() == name:
            return operation.scopes or ()
    return ()


def _past(model: type[Model], operations: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the model's name after each operation, last operation first; at the end its first name, with None.

    The model of a many-to-many relation is named by its owner and the field.
    """
    made_for: Any = model._meta.auto_created
    owner = str((made_for or model)._meta.model_name)
    field = str(model._meta.model_name).removeprefix(f"{owner}_") if made_for else ""
    for each in (*reversed(operations), None):
        yield f"{owner}_{field}" if field else owner, each
        if isinstance(each, RenameModel) and each.new_name_lower == owner:
            owner = each.old_name_lower
        elif isinstance(each, RenameField) and (each.model_name_lower, each.new_name_lower) == (owner, field):
            field = each.old_name_lower


def _operations(app_label: str) -> list[Any]:
    """Return the operations of an application's migrations, on the database and on the state, in order."""
    graph = MigrationLoader(None).graph
    plans = (graph.forwards_plan(leaf) for leaf in graph.leaf_nodes(app_label))
    keys = dict.fromkeys(key for plan in plans for key in plan if key[0] == app_label)
    return [each for key in keys for each in _flat(graph.nodes[key].operations, state=True)]


def _sync(connection: BaseDatabaseWrapper, model: type[Model], templates: tuple[str, ...]) -> None:
    """Give a table its triggers, without any that would read what is missing, which would make every write fail."""
    kind = triggers.kind(connection, model._meta.db_table)
    if kind == "table":
        refusals = {
            template: refusal(connection, model, template) or _ahead(connection, model, template)
            for template in templates
        }
        for reason in filter(None, refusals.values()) if conf.TRACKING == "triggers" else ():
            logger.warning("in the database %r some changes are not tracked: %s", connection.alias, reason)
        triggers.sync(connection, model, tuple(each for each in templates if not refusals[each]))
    elif kind == "view" and _shows_tracked(connection, model, templates):
        return
    elif kind or not model._meta.managed:
        what = f"a {kind}" if kind else "no table"
        _warn(model, connection.alias, f"{model._meta.db_table!r} is {what} there")


def _ahead(connection: BaseDatabaseWrapper, model: type[Model], template: str) -> str:
    """Return which columns of a template are not there yet, or no more; "" if none.

    A model whose table no migration makes is the code's own, and leads to others as the code has them.
    """
    absent = ", ".join(triggers.lacking(connection, model, template))
    where = "which leads through columns that are not there"
    return f"{model._meta.label} is declared with {template!r}, {where}: {absent}" if absent else ""


def _shows_tracked(connection: BaseDatabaseWrapper, model: type[Model], templates: tuple[str, ...]) -> bool:
    """Return whether all scopes of a view are those of declared tables: then they end when what it shows changes."""
    tracked = [
        each
        for each in invalidation.declarations()
        if each.model._meta.db_table != model._meta.db_table
        and triggers.kind(connection, each.model._meta.db_table) == "table"
    ]
    known = {family for each in tracked for family in triggers.families(each.templates)}
    return known.issuperset(triggers.families(templates))


def _say_what_is_lost(connection: BaseDatabaseWrapper, models: Iterable[type[Model]]) -> None:
    if conf.TRACKING == "triggers" and changes.can_be_kept(connection.vendor):
        for model in models:
            if router.db_for_write(model) == connection.alias:
                _warn(model, connection.alias, "that has no table keybits_change (migrate keybits there)")


def _warn(model: type[Model], using: str, why: str) -> None:
    logger.warning("changes of %s are not tracked in the database %r: %s", model._meta.label, using, why)


def step_aside(using: str, plan: list[tuple[Migration, bool]], apps: Any, **_: Any) -> None:
    """Drop the triggers that read what the plan is about to rename or remake. `keep` makes them again."""
    connection = connections[using]
    altered = [each for migration, _ in plan for each in _altered(connection.vendor, migration, apps)]
    for table, columns in altered if changes.is_kept(connection) else ():
        if triggers.drop_readers(connection, table, columns):
            logger.warning("changes of what shows %s go unnoticed until a migrate has come to its end", table)


def _altered(vendor: str, migration: Migration, apps: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the tables whose readers a migration would break, with columns where it breaks only readers of these."""
    kinds = REMAKING if vendor == "sqlite" else ALTERING
    for operation in _flat(migration.operations):
        model = _model(operation, apps.all_models[migration.app_label])
        if model is None or not isinstance(operation, kinds) or _is_added_in_place(model, operation):
            continue
        if vendor == "sqlite" or not isinstance(operation, FieldOperation):
            yield from ((each._meta.db_table, []) for each in _remade(model, operation))
        else:
            yield from _renamed(model, operation)


def _flat(operations: Iterable[Any], *, state: bool = False) -> Iterator[Any]:
    """Yield the operations on the database; with `state`, also those on the state alone."""
    for operation in operations:
        within = getattr(operation, "database_operations", None)
        if within is None:
            yield operation
        else:
            yield from _flat([*within, *(operation.state_operations if state else ())], state=state)


def _model(operation: Any, models: dict[str, type[Model]]) -> type[Model] | None:
    """Return the model of an operation, applied or reversed; None where the plan itself creates it."""
    said = ("model_name",) if hasattr(operation, "model_name") else ("name", "new_name")
    names = [str(getattr(operation, each, "")).lower() for each in said]
    return next((models[name] for name in names if name in models), None)


def _is_added_in_place(model: type[Model], operation: Any) -> bool:
    """Return whether SQLite adds a field without remaking the table. A field that is there already is to be removed."""
    if not isinstance(operation, AddField) or _fields(model, operation):
        return False
    field = operation.field
    plain = field.null and not field.unique and not field.has_default() and not field.has_db_default()
    return bool(field.many_to_many or plain)


def _remade(model: type[Model], operation: Any) -> Iterator[type[Model]]:
    """Yield `model`, and the models that refer to what the operation alters of it."""
    yield model
    fields = _fields(model, operation) if isinstance(operation, FieldOperation) else []
    yield from (field.remote_field.through for field in fields if field.many_to_many)
    if any(field.unique for field in fields) or isinstance(operation, (AlterModelTable, RenameModel)):
        every: Any = model._meta.get_fields(include_hidden=True)
        yield from (each.related_model for each in every if each.auto_created and not each.concrete)


def _renamed(model: type[Model], operation: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the tables and columns that an operation on a field renames or removes on PostgreSQL."""
    for field in _fields(model, operation):
        if field.many_to_many:
            yield field.remote_field.through._meta.db_table, []
        elif not isinstance(operation, AlterField) or _has_another_column(field, operation.field):
            yield model._meta.db_table, [field.column]


def _has_another_column(old: Any, new: Any) -> bool:
    return bool(old.db_column or new.db_column) or old.is_relation != new.is_relation


def _fields(model: type[Model], operation: Any) -> list[Any]:
    """Return the fields that an operation names, applied or reversed; none where the plan itself creates them."""
    names = {getattr(operation, each, None) for each in ("name", "old_name", "new_name")}
    return [field for field in model._meta.get_fields() if field.name in names and not field.auto_created]
