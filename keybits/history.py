"""Whether a database continues the history that the store knows. Where it does not, everything cached ends.

After a backup is restored, a replica takes over without the last transactions, or another database gets the address,
what is cached shows changes that this database never had, and nothing records that they were undone. So the relay keeps
in the store which database it is and how far the record of changes has come, and compares at each look.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.db import NotSupportedError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes
from keybits.delivery import EVERYTHING
from keybits.stores import get_store

__all__ = ["NOTE", "History", "follow", "present"]

logger = logging.getLogger(__name__)
NOTE = "history:"
"""What the name of the store's note of a database begins with; the database's alias follows."""
SEQUENCE = f"{changes.TABLE}_id_seq"
OBJECTS = f"""
    (SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || '{changes.TABLE}'::regclass::oid || '/'
"""  # noqa: S608 - our own names
POSTGRESQL = f"""
    SELECT {OBJECTS} || system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), last_value,
        (pg_current_wal_insert_lsn() - '0/0')::bigint
    FROM {SEQUENCE}, pg_control_system() WHERE NOT pg_is_in_recovery()
"""  # noqa: S608 - as above
GUARDED = f"SELECT {OBJECTS}, last_value, 0 FROM {SEQUENCE} WHERE NOT pg_is_in_recovery()"  # noqa: S608 - as above
"""For servers that do not tell every role which server they are, and on which timeline (Aurora has neither)."""
SQLITE = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = %s"


@dataclass(frozen=True, slots=True)
class History:
    """The identity of a database, including its timeline, and the last change that it has recorded.

    `log` is how far PostgreSQL's write-ahead log had come, in bytes; 0 where that is not known. `position` alone is not
    enough: after a crash a sequence may be up to 32 numbers ahead, and so it is in a copy of the disk that is put back.
    """

    name: str
    position: int
    log: int = field(default=0, compare=False)

    def goes_on_from(self, known: History) -> bool:
        """Say whether this is the same database as `known`, no earlier. Either name may be known in part."""
        has_gone_back = self.position < known.position or 0 < self.log < known.log
        return self.is_of(known) and not has_gone_back

    def is_of(self, known: History) -> bool:
        """Say whether this is the same database as `known`, at any time."""
        return self.name.startswith(known.name) or known.name.startswith(self.name)


_ended: dict[str, History] = {}
"""By alias, the history for which this process has ended everything."""
_told: set[str] = set()
"""The aliases for which it has been logged that two databases have them."""


def follow(connection: BaseDatabaseWrapper) -> str:
    """Return the name of this database's past; end everything where it does not continue what the store knows.

    To end everything is to clear the store, to have the caches in front drop all, and to give the past another name.
    The store is read before the database, because other processes go on meanwhile. A store that knows nothing is told.
    For a server in recovery the name that the store knows is returned; "" if none.
    """
    store, note = get_store(), NOTE + connection.alias
    past, known = _read(store.noted(note))
    found = present(connection)
    if found is None or (found == known and found.goes_on_from(known)):
        return past
    if known is not None and not found.goes_on_from(known):
        if _is_contested(connection.alias, found, known):
            return past
        logger.warning("database %s does not continue what was cached: everything ends", connection.alias)
        changes.replace(connection, (), [EVERYTHING])
        store.clear()
        _ended[connection.alias] = found
        past = ""
    past = past or uuid.uuid4().hex
    store.note(note, f"{past} {found.position}/{found.log} {found.name}".encode())
    return past


def _is_contested(alias: str, found: History, known: History) -> bool:
    """Say whether two databases use the store under one alias, where each would end what is cached of the other."""
    ended = _ended.get(alias)
    if ended is None or found.is_of(known) or not found.goes_on_from(ended):
        return False
    if alias not in _told:
        _told.add(alias)
        logger.error(
            "two databases use one store under the alias %s, so answers cached from one may be served for the other: "
            "give each project its own Redis database (the number in its URL) or its own KEYBITS_LMDB_PATH",
            alias,
        )
    return True


def _read(note: bytes | None) -> tuple[str, History | None]:
    if note is None:
        return "", None
    past, numbers, name = note.decode().split(" ", 2)
    position, _, log = numbers.partition("/")
    return past, History(name, int(position), int(log or 0))


def present(connection: BaseDatabaseWrapper) -> History | None:
    """Return the history of this database; None for a server in recovery, which follows its primary."""
    if connection.vendor == "sqlite":
        return History(changes.file_of(connection), _fetch(connection, SQLITE, [changes.TABLE])[0][0])
    rows = _postgresql(connection)
    return History(*rows[0]) if rows else None


def _postgresql(connection: BaseDatabaseWrapper) -> list[Any]:
    """Return the row of the full query; once the server has refused that, of `GUARDED` on this connection."""
    connection.ensure_connection()
    raw: Any = connection.connection
    if not getattr(raw, "_keybits_guarded", False):
        try:
            return _fetch(connection, POSTGRESQL)
        except (ProgrammingError, NotSupportedError):
            raw._keybits_guarded = True
    return _fetch(connection, GUARDED)


def _fetch(connection: BaseDatabaseWrapper, sql: str, params: list[str] | None = None) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
