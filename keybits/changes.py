"""The durable record of what changed: rows that are written in the same transaction as the change.

One table, `keybits_change`, with a row for each scope that a transaction made stale. Database triggers write it
(`keybits.triggers`), whoever makes the change; no Python has to run for it. A writer that goes through Django
*claims* its rows just before COMMIT, to know what it is about to change; what it has not closed a relay
closes. Another table, of one row, names the store that the record is closed in.
This module alone reads and writes the two.
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
    "file_of",
    "forget",
    "hold",
    "holder",
    "install",
    "install_holder",
    "is_kept",
    "is_of_another_file",
    "note_file",
    "recorded",
    "release",
    "replace",
    "replace_functions",
    "seen",
    "uninstall",
    "uninstall_holder",
]

TABLE = "keybits_change"
HOLDER = "keybits_change_holder"
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
    # Deferred to COMMIT, when a Django writer has claimed its rows: only others wake the relay.
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
    "postgresql": f"UPDATE {TABLE} SET writer = %s WHERE tx = pg_current_xact_id_if_assigned() AND writer = '' "
    "RETURNING scope",
    # SQLite has one writer at a time: what is unclaimed here is this transaction's, or waits for a relay anyway.
    "sqlite": f"UPDATE {TABLE} SET writer = %s WHERE writer = '' RETURNING scope",
}
SEEN = f"""
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text, id, scope, writer FROM (SELECT) AS look LEFT JOIN {TABLE}
"""
FILE = "_keybits_file"
"""Where an SQLite connection has the file that it reads."""
bell = threading.Event()
"""Rung when this process has committed a change: its relay need not wait for the next look."""


def _new_bell() -> None:
    """Have one that nobody holds: a thread may have been at it as the process forked, and is not here."""
    global bell  # noqa: PLW0603
    bell = threading.Event()


os.register_at_fork(after_in_child=_new_bell)


def install(schema_editor: Any) -> None:
    """Create the table. Databases that cannot record changes by themselves have none."""
    statements = {"postgresql": POSTGRESQL, "sqlite": SQLITE}.get(schema_editor.connection.vendor, ())
    for statement in statements:
        schema_editor.execute(statement)


def uninstall(schema_editor: Any) -> None:
    """Drop the table."""
    for statement in DROP.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)
    schema_editor.connection.__dict__.pop("_keybits_record", None)


def replace_functions(schema_editor: Any) -> None:
    """On PostgreSQL, have the trigger of the table do what it is made to do now."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(NOTIFY)


def install_holder(schema_editor: Any) -> None:
    """Create the table that names the store, where there is a record."""
    if can_be_kept(schema_editor.connection.vendor):
        schema_editor.execute(f"CREATE TABLE {HOLDER} (id integer PRIMARY KEY, name text NOT NULL)")


def uninstall_holder(schema_editor: Any) -> None:
    """Drop the table that names the store."""
    if can_be_kept(schema_editor.connection.vendor):
        schema_editor.execute(f"DROP TABLE {HOLDER}")


def file_of(connection: BaseDatabaseWrapper) -> str:
    """Name the file that an SQLite database is, which another may take the place of; one in memory is none."""
    with suppress(OSError):
        return str(os.stat(connection.settings_dict["NAME"]).st_ino)
    return ""


def note_file(connection: BaseDatabaseWrapper) -> None:
    """Remember, for `is_of_another_file`, which file a connection that was just opened reads."""
    connection.__dict__[FILE] = file_of(connection)


def is_of_another_file(connection: BaseDatabaseWrapper) -> bool:
    """Say whether an SQLite connection reads a file that another one has taken the place of since."""
    return connection.vendor == "sqlite" and connection.__dict__.get(FILE, "") != file_of(connection)


def can_be_kept(vendor: str) -> bool:
    """Say whether databases of this vendor can keep the record."""
    return vendor in CLAIM


def is_kept(connection: BaseDatabaseWrapper) -> bool:
    """Say whether this database keeps the record: it can, and the table is there (asked until it is)."""
    known: bool = connection.__dict__.get("_keybits_record", False)
    if not known and connection.vendor in CLAIM:
        with connection.cursor() as cursor:
            known = TABLE in connection.introspection.table_names(cursor)
        connection.__dict__["_keybits_record"] = known
    return known


def claim(connection: BaseDatabaseWrapper, writer: str, *, notify: bool = False) -> list[str]:
    """Mark the rows of the present transaction as `writer`'s, and return their scopes. One statement.

    With `notify`, PostgreSQL wakes the relays when the transaction has committed.
    """
    sql = CLAIM[connection.vendor]
    if notify and connection.vendor == "postgresql":
        sql += f", pg_notify('{CHANNEL}', '')"
    return [scope for scope, *_ in _fetch(connection, sql, [writer])]


def release(connection: BaseDatabaseWrapper, writer: str) -> None:
    """Give the rows of `writer` up to the relay, at once: within the transaction that wrote them."""
    if connection.vendor == "sqlite":  # one of a kind may be unclaimed already
        _fetch(connection, f"UPDATE OR REPLACE {TABLE} SET writer = '' WHERE writer = %s", [writer])
        return
    _fetch(connection, f"UPDATE {TABLE} SET writer = '' WHERE writer = %s", [writer])
    _fetch(connection, "SELECT pg_notify(%s, '')", [CHANNEL])


def recorded(connection: BaseDatabaseWrapper) -> list[tuple[int, str, str]]:
    """Return the id, the scope and the writer of every row; each is of a transaction that has committed."""
    return _fetch(connection, f"SELECT id, scope, writer FROM {TABLE} ORDER BY id", [])


def seen(
    connection: BaseDatabaseWrapper, horizon: str = "", ids: Collection[int] = ()
) -> tuple[list[tuple[int, str, str]], str]:
    """Return what `recorded` does, and its horizon: every transaction that is numbered below has ended.

    With the horizon of an earlier look, only rows of later transactions are looked for, and those of `ids`, which
    should be all that were there then: PostgreSQL then passes by the rows that have been deleted and that no VACUUM
    may remove while anybody has an older snapshot. SQLite, which leaves none, has no horizon.
    """
    if connection.vendor != "postgresql":
        return recorded(connection), ""
    condition, params = ("tx >= %s::xid8 OR id = ANY(%s)", [horizon, list(ids)]) if horizon else ("true", [])
    found = _fetch(connection, f"{SEEN} ON {condition} ORDER BY id", params)
    return [row for _, *row in found if row[0] is not None], found[0][0]


def replace(connection: BaseDatabaseWrapper, ids: Sequence[int], scopes: Iterable[str]) -> None:
    """Have rows of `scopes` stand in place of these rows, at once: what they have in common is recorded once."""
    insert = "INSERT OR REPLACE" if connection.vendor == "sqlite" else "INSERT"
    with transaction.atomic(using=connection.alias):
        forget(connection, ids)
        for scope in scopes:
            _fetch(connection, f"{insert} INTO {TABLE} (scope) VALUES (%s)", [scope])


def forget(connection: BaseDatabaseWrapper, ids: Sequence[int], *, holder: str | None = None) -> None:
    """Delete these rows: their scopes have been closed, in the store called `holder` while it is the one named."""
    named = "" if holder is None else f" AND EXISTS (SELECT 1 FROM {HOLDER} WHERE name = %s)"
    names = [] if holder is None else [holder]
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        marks = ", ".join(["%s"] * len(some))
        _fetch(connection, f"DELETE FROM {TABLE} WHERE id IN ({marks}){named}", [*some, *names])


def holder(connection: BaseDatabaseWrapper) -> str:
    """Return the name of the store that the record is closed in; "" where none has been named."""
    return "".join(name for (name,) in _fetch(connection, f"SELECT name FROM {HOLDER}", []))


def hold(connection: BaseDatabaseWrapper, name: str) -> None:
    """Name the store that the record is closed in from now on."""
    upsert = "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    _fetch(connection, f"INSERT INTO {HOLDER} (id, name) VALUES (1, %s) {upsert}", [name])


def _fetch(connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []
