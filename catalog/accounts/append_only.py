"""What keeps usage events unchanged, whoever writes: triggers that refuse to change or delete one.

An event gets the status of its response once; nothing else of it ever changes. Events are deleted only within
`pruning`, which `manage.py prune_usage` uses. A superuser of the database can still disable the triggers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from catalog.triggers import Triggers, execute

__all__ = ["drop_triggers", "make_triggers", "pruning"]

TABLE = "accounts_usageevent"
KEPT = ("id", "account_id", "key_id", "at", "method", "route")
REFUSED = "events of use are neither changed nor deleted"
SETTING = "accounts.pruning"


def make_triggers(connection: BaseDatabaseWrapper) -> None:
    """Make the triggers that are missing, if the table exists with all columns that they compare."""
    TRIGGERS.mend(connection)


def drop_triggers(connection: BaseDatabaseWrapper) -> None:
    """Undo `make_triggers`, also where only some of the triggers exist."""
    TRIGGERS.drop(connection)


@contextmanager
def pruning(using: str) -> Iterator[None]:
    """Allow this connection alone to delete events in the block, which is one transaction.

    SQLite has no variables that a trigger could read: there the triggers are dropped until the end of the transaction,
    which is the only one that writes.
    """
    connection = connections[using]
    with transaction.atomic(using=using):
        if connection.vendor == "postgresql":
            execute(connection, f"SET LOCAL {SETTING} = 'on'")
            yield
            execute(connection, f"SET LOCAL {SETTING} = 'off'")
        else:
            drop_triggers(connection)
            yield
            make_triggers(connection)


def _same(comparison: str) -> str:
    """Return the condition that an UPDATE does no more than set a status that was NULL."""
    kept = [f"NEW.{name} {comparison} OLD.{name}" for name in KEPT]
    return " AND ".join([*kept, "OLD.status IS NULL", "NEW.status IS NOT NULL"])


_RAISE = (
    f"IF TG_OP <> 'UPDATE' AND current_setting('{SETTING}', true) = 'on' THEN RETURN OLD; END IF; "
    f"IF TG_OP = 'TRUNCATE' AND NOT EXISTS (SELECT FROM {TABLE}) THEN RETURN NULL; END IF; "
    f"RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'integrity_constraint_violation';"
)
_ABORT = f"SELECT RAISE(ABORT, '{REFUSED}');"
TRIGGERS = Triggers(
    TABLE,
    postgresql={
        "usage_event_is_not_changed": (
            f"BEFORE UPDATE ON {TABLE} FOR EACH ROW WHEN (NOT ({_same('IS NOT DISTINCT FROM')}))",
            _RAISE,
        ),
        "usage_event_is_not_deleted": (f"BEFORE DELETE ON {TABLE} FOR EACH ROW", _RAISE),
        "usage_event_is_not_truncated": (f"BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT", _RAISE),
    },
    sqlite={
        "usage_event_is_not_replaced": (  # INSERT OR REPLACE deletes without firing DELETE triggers
            f"BEFORE INSERT ON {TABLE} WHEN EXISTS (SELECT 1 FROM {TABLE} WHERE id = NEW.id)",  # noqa: S608 - constants
            _ABORT,
        ),
        "usage_event_is_not_changed": (f"BEFORE UPDATE ON {TABLE} WHEN NOT ({_same('IS')})", _ABORT),
        "usage_event_is_not_deleted": (f"BEFORE DELETE ON {TABLE}", _ABORT),
    },
    function="usage_event_stays",
    column="status",
)
