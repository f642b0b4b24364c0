"""The domain's own triggers: how the missing ones of a set are made, and how all of them are dropped.

When they fire and what they do is up to the module that defines the set. SQLite drops the triggers of a table that a
migration remakes, so each set is mended after every `migrate`. Databases other than PostgreSQL and SQLite have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from keybits.planner import SETTINGS

__all__ = ["Triggers", "execute"]

PRESENT = {
    # Of this schema only: another may have the same tables, with triggers of their own.
    "postgresql": "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
    "WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace",
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
}


@dataclass(frozen=True)
class Triggers:
    """A set of triggers that need `table`: by name, when each fires and the statements that it then runs.

    On PostgreSQL each calls a function of its own name, or all of them call `function`. Where they read a `column` that
    a later migration has added to the table, they need that, too.
    """

    table: str
    postgresql: Mapping[str, tuple[str, str]]
    sqlite: Mapping[str, tuple[str, str]]
    function: str = ""
    column: str = ""

    def mend(
        self, connection: BaseDatabaseWrapper, then: Callable[[BaseDatabaseWrapper], None] = lambda _: None
    ) -> bool:
        """Make the triggers that are missing, if what they need exists; return whether any had to be made.

        If so, `then` is called in the same transaction.
        """
        missing = self._missing(connection)
        if not missing or not self._has_what_they_need(connection):
            return False
        with transaction.atomic(connection.alias):
            execute(connection, *missing)
            then(connection)
        return True

    def drop(self, connection: BaseDatabaseWrapper) -> None:
        """Drop the triggers that exist, and their functions."""
        if connection.vendor == "postgresql":
            functions = [self.function] if self.function else self.postgresql
            execute(connection, *(f"DROP FUNCTION IF EXISTS {name}() CASCADE" for name in functions))
        elif connection.vendor == "sqlite":
            execute(connection, *(f"DROP TRIGGER IF EXISTS {name}" for name in self.sqlite))

    def replace_functions(self, connection: BaseDatabaseWrapper) -> None:
        """On PostgreSQL, replace the functions of existing triggers by the present ones."""
        if connection.vendor == "postgresql":
            execute(connection, *(self._on_postgresql(name)[0] for name in self.postgresql))

    def _missing(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the statements that make the missing triggers."""
        wanted = self._statements(connection.vendor)
        if not wanted:
            return []
        with connection.cursor() as cursor:
            cursor.execute(PRESENT[connection.vendor])
            present = {name for (name,) in cursor.fetchall()}
        return [each for name, statements in wanted.items() if name not in present for each in statements]

    def _has_what_they_need(self, connection: BaseDatabaseWrapper) -> bool:
        with connection.cursor() as cursor:
            if self.table not in connection.introspection.table_names(cursor):
                return False
            columns = connection.introspection.get_table_description(cursor, self.table)
        return not self.column or self.column in {each.name for each in columns}

    def _statements(self, vendor: str) -> dict[str, tuple[str, ...]]:
        """Return the statements that make each trigger, by its name; none for an unsupported database."""
        if vendor == "postgresql":
            return {name: self._on_postgresql(name) for name in self.postgresql}
        return {name: (self._on_sqlite(name),) for name in self.sqlite} if vendor == "sqlite" else {}

    def _on_postgresql(self, name: str) -> tuple[str, str]:
        (when, body), function = self.postgresql[name], f"{self.function or name}()"
        return (
            f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql {SETTINGS} "
            f"AS $$ BEGIN {body} END $$",
            f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION {function}",
        )

    def _on_sqlite(self, name: str) -> str:
        when, body = self.sqlite[name]
        return f"CREATE TRIGGER {name} {when} BEGIN {body} END"


def execute(connection: BaseDatabaseWrapper, *statements: str) -> None:
    """Execute `statements`, which have no parameters, in order."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
