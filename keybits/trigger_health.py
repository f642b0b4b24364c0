"""Whether a database has the triggers that this process declares. Where it has not, the store must not be believed.

`migrate` makes the triggers (`keybits.tracking`). They differ after a release with other declarations, after somebody
has disabled a trigger, and while a `migrate` is under way.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from keybits import changes, invalidation, triggers
from keybits.conf import conf

__all__ = ["UntrackedError", "demand_triggers", "refusal", "straying"]

Wanted = dict[type[Model], set[str]]
WANTED = "_keybits_wanted"
"""The attribute in which a connection keeps the names of the triggers that have to fire, by model."""


class UntrackedError(Exception):
    """Changes are not recorded, or not as this process declares."""


def demand_triggers(connection: BaseDatabaseWrapper) -> None:
    """Raise `UntrackedError` unless all triggers that this process declares can fire. Usually one statement."""
    if conf.TRACKING != "triggers" or not changes.can_be_kept(connection.vendor):
        return
    wanted = connection.__dict__.get(WANTED)
    if wanted is not None and not _missing(connection, wanted):
        return
    # Asked anew: tables on a template's path may have been created since.
    wanted = connection.__dict__[WANTED] = _wanted(connection)
    if missing := _missing(connection, wanted):
        raise UntrackedError(
            f"the triggers of {', '.join(missing)} in the database {connection.alias!r} do not match what is "
            "declared: run migrate"
        )


def _missing(connection: BaseDatabaseWrapper, wanted: Wanted) -> list[str]:
    firing = triggers.firing(connection, wanted)
    return [model._meta.label for model, names in wanted.items() if not names <= firing]


def _wanted(connection: BaseDatabaseWrapper) -> Wanted:
    """Return, by model, the names of the triggers that each declared table written in this database has to have."""
    written = [
        each for each in invalidation.declarations() if router.db_for_write(each.model) == connection.alias
    ]
    return {
        each.model: triggers.names(connection.vendor, each.model, _followed(connection, each))
        for each in written
        if triggers.kind(connection, each.model._meta.db_table) == "table"
    }


def _followed(connection: BaseDatabaseWrapper, declaration: invalidation.Declaration) -> tuple[str, ...]:
    return tuple(each for each in declaration.templates if not refusal(connection, declaration.model, each))


def refusal(connection: BaseDatabaseWrapper, model: type[Model], template: str) -> str:
    """Return why triggers of this database cannot follow a template; "" where they can."""
    if reason := triggers.refusal(model, template):
        return reason
    if reason := straying(model, template):
        return reason
    absent = sorted(
        table for table in triggers.reads(model, template) if not triggers.kind(connection, table)
    )
    where = "which leads through tables that are not there"
    return (
        f"{model._meta.label} is declared with {template!r}, {where}: {', '.join(absent)}" if absent else ""
    )


def straying(model: type[Model], template: str) -> str:
    """Return which tables of a template are written in another database than the model's own; "" if none is.

    Triggers would look for their rows in the own one, where tables of those names may be, but empty. Triggers must be
    able to follow the template otherwise.
    """
    tables = triggers.reads(model, template)
    own = router.db_for_write(model)
    away = sorted(table for table in tables if own not in (_homes(table) or {own}))
    where = "which leads through tables that are written in another database"
    return f"{model._meta.label} is declared with {template!r}, {where}: {', '.join(away)}" if away else ""


def _homes(table: str) -> set[str]:
    """Return the aliases of the databases in which a table of this name is written."""
    models: Iterable[type[Model]] = apps.get_models(include_auto_created=True)
    return {router.db_for_write(model) for model in models if model._meta.db_table == table}
