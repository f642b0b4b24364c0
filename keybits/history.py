"""Whether a database goes on from where the store knows it, or has another past: then everything ends.

A backup that is restored, a replica that takes over without the last transactions, another database under the same
address: what is cached shows changes that never were, and nothing records that they were undone. So the relay keeps
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
"""What the store's note of a database begins with; its alias follows."""
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
"""For servers that do not tell everybody which one they are, and on which timeline (Aurora has neither)."""
SQLITE = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = %s"


@dataclass(frozen=True, slots=True)
class History:
    """Which database it is, and on which timeline; and the last change that it has recorded.

    `log` is how many bytes PostgreSQL's log then had, 0 where it does not say: after a crash its sequences go on up to
    32 numbers ahead of what it has, and a copy of its disk that is put back begins as after a crash.
    """

    name: str
    position: int
    log: int = field(default=0, compare=False)

    def goes_on_from(self, known: History) -> bool:
        """Say whether this is the same database, no earlier than `known`. A name may be known in part."""
        has_gone_back = self.position < known.position or 0 < self.log < known.log
        return self.is_of(known) and not has_gone_back

    def is_of(self, known: History) -> bool:
        """Say whether this is the same database as `known`, at whatever moment."""
        return self.name.startswith(known.name) or known.name.startswith(self.name)


_ended: dict[str, History] = {}
"""By alias, the history for which this process has ended everything."""
_told: set[str] = set()
"""The aliases of which it was said that another database has them, too."""


def follow(connection: BaseDatabaseWrapper) -> str:
    """Return what the past of this database is called; where it does not go on as the store knows it, everything ends.

    That is to say, the store is cleared, the caches in front are to drop all, and the past has another name. What was
    known is read before the database is: others go on meanwhile. A store that knows nothing is told. "" is that of a
    server in recovery.
    """
    store, note = get_store(), NOTE + connection.alias
    past, known = _read(store.noted(note))
    found = present(connection)
    if found is None or (found == known and found.goes_on_from(known)):
        return past
    if known is not None and not found.goes_on_from(known):
        if _is_contested(connection.alias, found, known):
            return past
        logger.warning("database %s has another past than what was cached: everything ends", connection.alias)
        changes.replace(connection, (), [EVERYTHING])
        store.clear()
        _ended[connection.alias] = found
        past = ""
    past = past or uuid.uuid4().hex
    store.note(note, f"{past} {found.position}/{found.log} {found.name}".encode())
    return past


def _is_contested(alias: str, found: History, known: History) -> bool:
    """Say whether the store is told of two databases in turn, where each would end what is cached of the other."""
    ended = _ended.get(alias)
    if ended is None or found.is_of(known) or not found.goes_on_from(ended):
        return False
    if alias not in _told:
        _told.add(alias)
        logger.error(
            "two databases are called %s in one store, so that what is cached of one can be taken for true of the "
            "other: give each project a Redis database (the number in its URL) or a KEYBITS_LMDB_PATH of its own",
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
    """Return the history of this database; None for a server in recovery, which goes its primary's way."""
    if connection.vendor == "sqlite":
        return History(changes.file_of(connection), _fetch(connection, SQLITE, [changes.TABLE])[0][0])
    rows = _postgresql(connection)
    return History(*rows[0]) if rows else None


def _postgresql(connection: BaseDatabaseWrapper) -> list[Any]:
    """Ask for all there is to ask and, where that is kept from us, over this connection no more."""
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
