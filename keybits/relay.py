"""What writers did not close: changes made past Django, by a process that died, or while the store was away.

A relay looks at the record of changes, closes what is outstanding, deletes the rows, and vouches for the store:
all that has been committed is closed here. Its word holds for `KEYBITS_RELAY_BOUND` seconds. So nobody believes a
store that no relay has brought up to date, whatever happened to it meanwhile. PostgreSQL wakes a relay by
NOTIFY; otherwise it looks every `KEYBITS_RELAY_INTERVAL` seconds.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes
from keybits.conf import conf
from keybits.stamps import coarsened
from keybits.stores import StoreError, get_store

__all__ = ["Relay", "ensure_running"]

logger = logging.getLogger(__name__)


class Relay:
    """Relays the record of each database to the store, until it is stopped."""

    def __init__(self, aliases: Iterable[str] | None = None) -> None:
        self.aliases = list(aliases or connections)
        self.stopped = threading.Event()
        self.looked = threading.Event()

    def run(self) -> None:
        """Look, close, vouch and wait, again and again. What fails is tried again after the interval."""
        try:
            while not self.stopped.is_set():
                self._look()
                self.looked.set()
                self._wait()
        finally:
            for alias in self.aliases:
                connections[alias].close()

    def once(self) -> int:
        """Look once at every database; return how many rows were seen to. Raises what goes wrong."""
        seen = sum(self._relay(connections[alias]) for alias in self.aliases)
        get_store().vouch(conf.RELAY_BOUND)
        return seen

    def _look(self) -> None:
        try:
            while self.once() >= changes.MOST:
                pass
        except (DatabaseError, StoreError):
            logger.warning("the relay failed; nothing is believed until it succeeds", exc_info=True)
            for alias in self.aliases:
                connections[alias].close_if_unusable_or_obsolete()

    def _relay(self, connection: BaseDatabaseWrapper) -> int:
        if not changes.is_kept(connection) or not changes.any_outstanding(connection, conf.GRACE):
            return 0
        with transaction.atomic(using=connection.alias):
            ids, outstanding = changes.outstanding(connection, conf.GRACE)
            self._close(outstanding)
            changes.forget(connection, ids)
        return len(ids)

    def _close(self, outstanding: list[changes.Change]) -> None:
        store = get_store()
        closed = store.closed([change.writer for change in outstanding if change.writer])
        for change in outstanding:
            if change.writer not in closed:
                store.close(coarsened(change.scopes), change.writer)

    def _wait(self) -> None:
        """Wait for the interval, or for PostgreSQL to say that there is something to do."""
        for alias in self.aliases:
            connection: Any = connections[alias]
            if connection.vendor == "postgresql" and connection.connection is not None:
                self._listen(connection)
                return
        self.stopped.wait(conf.RELAY_INTERVAL)

    def _listen(self, connection: Any) -> None:
        raw = connection.connection
        try:
            if getattr(raw, "_keybits_listens", False) is False:
                with connection.cursor() as cursor:
                    cursor.execute(f"LISTEN {changes.CHANNEL}")
                raw._keybits_listens = True
            for _ in raw.notifies(timeout=conf.RELAY_INTERVAL, stop_after=1):
                pass
        except Exception:
            logger.warning("the relay lost its connection", exc_info=True)
            connection.close()
            self.stopped.wait(conf.RELAY_INTERVAL)


FIRST_LOOK = 1.0
"""Most seconds that the start of a process waits for its relay's first look; without it the first reads only miss."""

_running_in = 0
_starting = threading.Lock()


def ensure_running() -> None:
    """Have a relay run in this process, where `KEYBITS_RELAY` is `thread`; after a fork, a new one."""
    global _running_in  # noqa: PLW0603 - one relay a process is the point
    if _running_in == os.getpid() or conf.RELAY != "thread":
        return
    with _starting:
        if _running_in != os.getpid():
            relay = Relay()
            threading.Thread(target=relay.run, name="keybits-relay", daemon=True).start()
            relay.looked.wait(FIRST_LOOK)
            _running_in = os.getpid()
