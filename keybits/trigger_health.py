"""Whether the triggers of a database are those of what this process declares: where they are not, nobody may believe.

`migrate` makes them right (`keybits.tracking`). A release that declares something else, a trigger that somebody has
turned off, and a `migrate` that is under way are what this is for.
"""

from __future__ import annotations

from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from keybits import changes, invalidation, triggers
from keybits.conf import conf

__all__ = ["UntrackedError", "refusal", "see_to_it"]

Wanted = dict[type[Model], set[str]]
WANTED = "_keybits_wanted"
"""Where a connection has the names of the triggers that are to fire, by the model."""


class UntrackedError(Exception):
    """Changes of what is declared are not recorded, or not by what this process declares."""


def see_to_it(connection: BaseDatabaseWrapper) -> None:
    """Raise `UntrackedError` unless the triggers fire that record what this process declares. One statement, mostly."""
    if conf.TRACKING != "triggers" or not changes.can_be_kept(connection.vendor):
        return
    wanted = connection.__dict__.get(WANTED)
    if wanted is not None and not _missing(connection, wanted):
        return
    wanted = connection.__dict__[WANTED] = _wanted(
        connection
    )  # what templates lead through may be there since
    if missing := _missing(connection, wanted):
        raise UntrackedError(
            f"the triggers of {', '.join(missing)} in the database {connection.alias!r} are not those of what is "
            "declared: run migrate"
        )


def _missing(connection: BaseDatabaseWrapper, wanted: Wanted) -> list[str]:
    firing = triggers.firing(connection, wanted)
    return [model._meta.label for model, names in wanted.items() if not names <= firing]


def _wanted(connection: BaseDatabaseWrapper) -> Wanted:
    """Return what the triggers are called that each declared table written here is to have."""
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
    absent = sorted(
        table for table in triggers.reads(model, template) if not triggers.kind(connection, table)
    )
    where = "which leads through tables that are not there"
    return (
        f"{model._meta.label} is declared with {template!r}, {where}: {', '.join(absent)}" if absent else ""
    )
