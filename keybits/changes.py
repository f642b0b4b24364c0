"""The durable record of what changed: rows that are written in the same transaction as the change.

The table `keybits_change` has a row for each scope that a transaction made stale. Database triggers write it
(`keybits.triggers`), whoever makes the change; no Python has to run. A writer that goes through Django *claims* its
rows just before COMMIT, to learn which scopes it is about to change; a relay closes those that the writer has not
closed. A second table, of one row, names the store in which the record is closed. Triggers aside, this module alone
reads and writes the two.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from keybits.planner import SETTINGS

__all__ = [
    "CHANNEL",
    "TABLE",
    "bell",
    "can_be_kept",
    "claim",
    "count",
    "file_of",
    "forget",
    "install",
    "install_store_name",
    "is_kept",
    "is_of_another_file",
    "is_pending",
    "lock",
    "note_file",
    "recorded",
    "release",
    "replace",
    "replace_functions",
    "seen",
    "set_store_name",
    "store_name",
    "unclaimed",
    "uninstall",
    "uninstall_store_name",
]

TABLE = "keybits_change"
STORE_TABLE = "keybits_change_holder"
"""The table of one row that names the store in which the record is closed."""
CHANNEL = "keybits_change"
NOTIFY = f"""
    CREATE OR REPLACE FUNCTION {TABLE}_notify() RETURNS trigger LANGUAGE plpgsql {SETTINGS} AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM {TABLE} WHERE id = NEW.id AND writer = '') THEN
            PERFORM pg_notify('{CHANNEL}', '');
        END IF;
        RETURN NULL;
    END $$
"""
POSTGRESQL = (
    f"""
    CREATE TABLE {TABLE} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        scope text NOT NULL,
        tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
        writer text NOT NULL DEFAULT ''
    )
    """,
    f"CREATE INDEX {TABLE}_tx ON {TABLE} (tx)",
    # Deferred to COMMIT: a Django writer has claimed its rows by then, so only other writers wake the relay.
    NOTIFY,
    f"""
    CREATE CONSTRAINT TRIGGER {TABLE}_notify AFTER INSERT ON {TABLE}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {TABLE}_notify()
    """,
)
SQLITE = (
    f"""
    CREATE TABLE {TABLE} (
        id integer PRIMARY KEY AUTOINCREMENT,
        scope text NOT NULL,
        writer text NOT NULL DEFAULT ''
    )
    """,
    f"CREATE UNIQUE INDEX {TABLE}_unclaimed ON {TABLE} (scope) WHERE writer = ''",
)
DROP = {
    "postgresql": (f"DROP TABLE {TABLE}", f"DROP FUNCTION {TABLE}_notify()"),
    "sqlite": (f"DROP TABLE {TABLE}",),
}
CLAIM = {
    # Also those that the same transaction has claimed before, for a COMMIT that failed after a savepoint of its text.
    "postgresql": f"UPDATE {TABLE} SET writer = %s WHERE tx = pg_current_xact_id_if_assigned() RETURNING scope",
    # SQLite has one writer at a time: unclaimed rows are this transaction's, or wait for a relay anyway.
    "sqlite": f"UPDATE {TABLE} SET writer = %s WHERE writer = '' RETURNING scope",
}
SEEN = f"""
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text, id, scope, writer FROM (SELECT) AS look LEFT JOIN {TABLE}
"""
FILE = "_keybits_file"
"""The attribute in which an SQLite connection has the file that it reads."""
bell = threading.Event()
"""Set when this process has committed a change, so that its relay does not wait for its next look."""


def _new_bell() -> None:
    """Make a new event after a fork: the lock of the old one may be held by a thread that the child does not have."""
    global bell  # noqa: PLW0603
    bell = threading.Event()


os.register_at_fork(after_in_child=_new_bell)


def install(schema_editor: Any) -> None:
    """Create the table, on databases that can keep the record."""
    statements = {"postgresql": POSTGRESQL, "sqlite": SQLITE}.get(schema_editor.connection.vendor, ())
    for statement in statements:
        schema_editor.execute(statement)


def uninstall(schema_editor: Any) -> None:
    """Drop the table."""
    for statement in DROP.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)
    schema_editor.connection.__dict__.pop("_keybits_record", None)


def replace_functions(schema_editor: Any) -> None:
    """On PostgreSQL, replace the function of the table's own trigger by the present one."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(NOTIFY)


def install_store_name(schema_editor: Any) -> None:
    """Create the table that names the store, on databases that can keep the record."""
    if can_be_kept(schema_editor.connection.vendor):
        schema_editor.execute(f"CREATE TABLE {STORE_TABLE} (id integer PRIMARY KEY, name text NOT NULL)")


def uninstall_store_name(schema_editor: Any) -> None:
    """Drop the table that names the store."""
    if can_be_kept(schema_editor.connection.vendor):
        schema_editor.execute(f"DROP TABLE {STORE_TABLE}")


def file_of(connection: BaseDatabaseWrapper) -> str:
    """Return the inode of an SQLite database's file, which another file may replace; "" for one in memory."""
    with suppress(OSError):
        return str(os.stat(connection.settings_dict["NAME"]).st_ino)
    return ""


def note_file(connection: BaseDatabaseWrapper) -> None:
    """Remember which file a connection that was just opened reads, for `is_of_another_file`."""
    connection.__dict__[FILE] = file_of(connection)


def is_of_another_file(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the file that an SQLite connection reads has been replaced by another one since."""
    return connection.vendor == "sqlite" and connection.__dict__.get(FILE, "") != file_of(connection)


def can_be_kept(vendor: str) -> bool:
    """Say whether databases of this vendor can keep the record."""
    return vendor in CLAIM


def is_kept(connection: BaseDatabaseWrapper) -> bool:
    """Say whether this database keeps the record: it can, and the table exists (which is asked until it does)."""
    known: bool = getattr(connection, "_keybits_record", False)
    if not known and connection.vendor in CLAIM:
        with connection.cursor() as cursor:
            known = TABLE in connection.introspection.table_names(cursor)
        connection._keybits_record = known  # type: ignore[attr-defined]  # of the connection, by a proxy too
    return known


def lock(connection: BaseDatabaseWrapper) -> None:
    """Take SQLite's write lock for the present transaction, and wait for it. Call it before anything is read.

    SQLite does not wait if the transaction has read before: it fails if anybody else has written since, as a relay may
    have. With the transaction mode IMMEDIATE the lock is taken already.
    """
    _execute(connection, f"UPDATE {TABLE} SET writer = writer WHERE 0", [])


def claim(connection: BaseDatabaseWrapper, writer: str, *, notify: bool = False) -> list[str]:
    """Mark the rows of the current transaction as `writer`'s, and return their scopes, in one statement.

    With `notify`, PostgreSQL wakes the relays when the transaction has committed.
    """
    sql = CLAIM[connection.vendor]
    if notify and connection.vendor == "postgresql":
        sql += f", pg_notify('{CHANNEL}', '')"
    return [scope for scope, *_ in _fetch(connection, sql, [writer])]


def release(connection: BaseDatabaseWrapper, writer: str) -> None:
    """Mark the rows of `writer` as unclaimed, for the relay. Call it within the transaction that wrote them."""
    if connection.vendor == "sqlite":  # a row of the same scope may be unclaimed already
        _execute(connection, f"UPDATE OR REPLACE {TABLE} SET writer = '' WHERE writer = %s", [writer])
        return
    _execute(connection, f"UPDATE {TABLE} SET writer = '' WHERE writer = %s", [writer])
    _execute(connection, "SELECT pg_notify(%s, '')", [CHANNEL])


def is_pending(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the transaction that is under way has rows of the record, and so is not one begun since a COMMIT.

    SQLite executes one statement at a time: what commits begins no other transaction.
    """
    if connection.vendor != "postgresql":
        return True
    own = f"SELECT 1 FROM {TABLE} WHERE tx = pg_current_xact_id_if_assigned() LIMIT 1"
    return bool(_fetch(connection, own, []))


def recorded(connection: BaseDatabaseWrapper) -> list[tuple[int, str, str]]:
    """Return the id, scope and writer of every row, by id: those of transactions that have committed."""
    return _fetch(connection, f"SELECT id, scope, writer FROM {TABLE} ORDER BY id", [])


def count(connection: BaseDatabaseWrapper) -> int:
    """Return how many rows there are, of transactions that have committed."""
    ((found,),) = _fetch(connection, f"SELECT count(*) FROM {TABLE}", [])
    return int(found)


def unclaimed(connection: BaseDatabaseWrapper, *, fruitless: Iterable[str] = ()) -> list[str]:
    """Return the scopes that have been committed and claimed by nobody; none of the transaction that is under way.

    What the writers `fruitless` have claimed counts too: their COMMITs have failed, and another has followed.
    """
    writers = ["", *fruitless]
    if connection.vendor != "postgresql":
        return [scope for _, scope, writer in recorded(connection) if writer in writers]
    others = "tx IS DISTINCT FROM pg_current_xact_id_if_assigned()"
    found = _fetch(connection, f"SELECT scope FROM {TABLE} WHERE writer = ANY(%s) AND {others}", [writers])
    return [scope for (scope,) in found]


def seen(
    connection: BaseDatabaseWrapper, horizon: str = "", ids: Collection[int] = ()
) -> tuple[list[tuple[int, str, str]], str]:
    """Return what `recorded` returns, and its horizon: every transaction with a lower number has ended.

    With the horizon of an earlier look, it looks only for rows of that transaction or later ones, and for `ids`, which
    should be all rows that the earlier look returned. PostgreSQL then skips dead rows, which no VACUUM may remove while
    an older snapshot is in use. SQLite leaves none and has no horizon ("").
    """
    if connection.vendor != "postgresql":
        return recorded(connection), ""
    condition, params = ("tx >= %s::xid8 OR id = ANY(%s)", [horizon, list(ids)]) if horizon else ("true", [])
    found = _fetch(connection, f"{SEEN} ON {condition} ORDER BY id", params)
    return [row for _, *row in found if row[0] is not None], found[0][0]


def replace(connection: BaseDatabaseWrapper, ids: Sequence[int], scopes: Iterable[str]) -> None:
    """Replace these rows by one for each of `scopes`, in one transaction. Do nothing if all of them are gone.

    Then another process has replaced them, or has deleted them because nothing waited for them any more.
    """
    insert = "INSERT OR REPLACE" if connection.vendor == "sqlite" else "INSERT"
    with transaction.atomic(using=connection.alias):
        if not forget(connection, ids) and ids:
            return
        for scope in scopes:
            _execute(connection, f"{insert} INTO {TABLE} (scope) VALUES (%s)", [scope])


def forget(connection: BaseDatabaseWrapper, ids: Sequence[int], *, store: str | None = None) -> int:
    """Delete these rows, whose scopes have been closed; with `store`, only while that is the store named.

    Returns how many there were.
    """
    named = "" if store is None else f" AND EXISTS (SELECT 1 FROM {STORE_TABLE} WHERE name = %s)"
    names = [] if store is None else [store]
    deleted = 0
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        marks = ", ".join(["%s"] * len(some))
        deleted += _execute(connection, f"DELETE FROM {TABLE} WHERE id IN ({marks}){named}", [*some, *names])
    return deleted


def store_name(connection: BaseDatabaseWrapper) -> str:
    """Return the name of the store in which the record is closed; "" where none has been named."""
    return "".join(name for (name,) in _fetch(connection, f"SELECT name FROM {STORE_TABLE}", []))


def set_store_name(connection: BaseDatabaseWrapper, name: str) -> None:
    """Name the store in which the record is closed from now on."""
    upsert = "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    _execute(connection, f"INSERT INTO {STORE_TABLE} (id, name) VALUES (1, %s) {upsert}", [name])


def _execute(connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


def _fetch(connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any]) -> list[Any]:
    """Return the rows. In psycopg's pipeline mode nothing tells that there are any until they are fetched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[Any] = cursor.fetchall()
        return rows
