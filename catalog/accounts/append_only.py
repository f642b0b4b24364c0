"""What keeps events of use as they are, whoever writes: triggers that refuse to change or delete one.

An event gets the status of its answer once, and nothing else of it ever changes. Events are deleted within `pruning`
alone, which is `manage.py prune_usage`'s; a superuser of the database can still do what they like to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["drop_triggers", "make_triggers", "mend_triggers", "pruning"]

TABLE = "accounts_usageevent"
KEPT = ("id", "account_id", "key_id", "at", "method", "route")
REFUSED = "events of use are neither changed nor deleted"
SETTING = "accounts.pruning"
FUNCTION = "usage_event_stays"
NAMES = ("usage_event_is_not_changed", "usage_event_is_not_deleted", "usage_event_is_not_truncated")


def make_triggers(connection: BaseDatabaseWrapper) -> None:
    """Make the triggers, which are not there."""
    for statement in _STATEMENTS.get(connection.vendor, ()):
        _execute(connection, statement)


def drop_triggers(connection: BaseDatabaseWrapper) -> None:
    """Undo `make_triggers`, wholly or half done."""
    if connection.vendor == "postgresql":
        _execute(connection, f"DROP FUNCTION IF EXISTS {FUNCTION}() CASCADE")
    elif connection.vendor == "sqlite":
        for name in NAMES:
            _execute(connection, f"DROP TRIGGER IF EXISTS {name}")


def mend_triggers(connection: BaseDatabaseWrapper) -> None:
    """Make them again where one is missing, if there is the table: SQLite drops them when it alters theirs."""
    if connection.vendor not in _PRESENT:
        return
    with connection.cursor() as cursor:
        cursor.execute(_PRESENT[connection.vendor])
        whole = cursor.fetchone()[0] == len(_triggers(connection.vendor))
    if whole or "status" not in _columns(connection):
        return
    with transaction.atomic(using=connection.alias):
        drop_triggers(connection)
        make_triggers(connection)


@contextmanager
def pruning(using: str) -> Iterator[None]:
    """Let events be deleted in the block, which is one transaction, by this connection alone.

    SQLite has no variables that a trigger could ask: there its triggers are gone until the transaction, the only one
    that writes, has ended.
    """
    connection = connections[using]
    with transaction.atomic(using=using):
        if connection.vendor == "postgresql":
            _execute(connection, f"SET LOCAL {SETTING} = 'on'")
            yield
            _execute(connection, f"SET LOCAL {SETTING} = 'off'")
        else:
            drop_triggers(connection)
            yield
            make_triggers(connection)


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _columns(connection: BaseDatabaseWrapper) -> set[str]:
    """Return the columns of the table; none where it is not there."""
    with connection.cursor() as cursor:
        if TABLE not in connection.introspection.table_names(cursor):
            return set()
        return {column.name for column in connection.introspection.get_table_description(cursor, TABLE)}


def _triggers(vendor: str) -> list[str]:
    return [statement for statement in _STATEMENTS[vendor] if statement.startswith("CREATE TRIGGER")]


def _same(comparison: str) -> str:
    """Return the condition that an UPDATE does no more than to say the status that nothing had said."""
    kept = [f"NEW.{name} {comparison} OLD.{name}" for name in KEPT]
    return " AND ".join([*kept, "OLD.status IS NULL", "NEW.status IS NOT NULL"])


_CHANGED, _DELETED, _TRUNCATED = NAMES
_NAMED = ", ".join(f"'{name}'" for name in NAMES)
_PRESENT: dict[str, str] = {
    "postgresql": f"SELECT count(*) FROM pg_trigger WHERE tgname IN ({_NAMED})",  # noqa: S608 - constants
    "sqlite": f"SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name IN ({_NAMED})",  # noqa: S608 - as above
}
_STATEMENTS: dict[str, tuple[str, ...]] = {
    "postgresql": (
        f"CREATE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP <> 'UPDATE' AND current_setting('{SETTING}', true) = 'on' THEN RETURN OLD; END IF; "
        f"IF TG_OP = 'TRUNCATE' AND NOT EXISTS (SELECT FROM {TABLE}) THEN RETURN NULL; END IF; "
        f"RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        f"CREATE TRIGGER {_CHANGED} BEFORE UPDATE ON {TABLE} FOR EACH ROW "
        f"WHEN (NOT ({_same('IS NOT DISTINCT FROM')})) EXECUTE FUNCTION {FUNCTION}()",
        f"CREATE TRIGGER {_DELETED} BEFORE DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION {FUNCTION}()",
        f"CREATE TRIGGER {_TRUNCATED} BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT EXECUTE FUNCTION {FUNCTION}()",
    ),
    "sqlite": (
        f"CREATE TRIGGER {_CHANGED} BEFORE UPDATE ON {TABLE} "
        f"WHEN NOT ({_same('IS')}) BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
        f"CREATE TRIGGER {_DELETED} BEFORE DELETE ON {TABLE} BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    ),
}
