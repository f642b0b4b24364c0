"""Close what writers did not: changes made past Django, by a process that died, or while the store was unreachable.

A relay reads the record of changes, closes what has not been closed, and vouches for the store: everything committed
before it looked is closed here. That holds for `KEYBITS_RELAY_BOUND` seconds from that moment, by the store's own
clock. So no reader trusts a store that no relay has brought up to date, whatever happened to it meanwhile. Relays need
no leader: closing is idempotent, and a relay skips its look if another has begun one since it was woken. PostgreSQL
wakes relays by NOTIFY. On SQLite, or behind a pooler, one of them looks every `KEYBITS_RELAY_INTERVAL` seconds.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.db import Error, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes, edge, fencing, history, invalidation, roster, trigger_health
from keybits.conf import conf
from keybits.delivery import Delivery
from keybits.outages import Outage
from keybits.stamps import coarsened
from keybits.stores import StoreError, get_store
from keybits.trigger_health import UntrackedError

__all__ = ["Relay"]

logger = logging.getLogger(__name__)
SWEEP = 1.0
"""Seconds between two deletions of closed rows, which need SQLite's write lock."""
DELIVERY_INTERVAL = 0.02
"""Seconds between two looks of the process that purges the caches in front, unless it is woken."""
HURRY = 20
"""Milliseconds that a deletion waits for SQLite's write lock."""
PAUSE = 0.02
"""The longest random delay, in seconds, after PostgreSQL has woken all relays: the first to look spares the others."""
EARLIEST = 0.75
"""The shortest random wait for a look, as a part of the interval; the longest is the whole interval."""
ROUNDING = 0.002
"""Seconds by which the age of a relay's statement may be too low: Redis gives milliseconds, and rounds twice."""
SPARED = 20
"""The pause between two reads of the whole record, in multiples of the time that one takes. PostgreSQL also scans
deleted rows, for as long as an older snapshot keeps VACUUM from removing them."""
MOST_ROWS = 1000
"""Rows that may wait for a cache in front before they are coarsened: each scope once, and kinds in place of members."""


class Relay:
    """Relays the record of each database to the store, until stopped. Replicas are left out: theirs is a copy."""

    def __init__(self, aliases: Iterable[str] | None = None) -> None:
        self.aliases = list(aliases or (alias for alias in connections if alias not in conf.REPLICAS))
        self.stopped = threading.Event()
        self.looked = threading.Event()
        self.delivery = Delivery() if conf.PURGERS else None
        self._roster = roster.Roster(edge.identities())
        self._closed: dict[str, set[int]] = defaultdict(set)
        self._present: dict[str, dict[int, str]] = {}
        self._stores: dict[str, tuple[str, str]] = {}
        """By alias, the server and the name of the store in which the known rows were closed: see `fencing`."""
        self._server = ""
        """The server at which the present look began. If another takes over meanwhile, not all is closed there."""
        self._pasts: dict[str, str] = {}
        self._horizons: dict[str, str] = {}
        self._whole_again: dict[str, float] = {}
        self._swept = time.monotonic()
        self._outage = Outage(
            logger, "the relay failed; nothing is believed until it succeeds", "the relay works again"
        )
        self._age, self._began = 0.0, -math.inf
        self._has_vouched = self._was_believed = False
        self._gaps = Outage(
            logger,
            "the relay vouches too late: the store is not trusted for part of the time",
            "the relay vouches in time again",
        )

    def run(self, looking: AbstractContextManager[object] | None = None) -> None:
        """Look, close, vouch and wait, repeatedly. After a failure, try again after the interval.

        Each look is made within `looking`, such as a lock.
        """
        look = looking or nullcontext()
        woken = -math.inf
        try:
            while not self.stopped.is_set():
                if not self._is_spared(woken):
                    with look:
                        self._look()
                self.looked.set()
                woken = self._wait()
        finally:
            if self.delivery is not None:
                self.delivery.stop()
            for alias in self.aliases:
                connections[alias].close()

    def once(self) -> int:
        """Look once at every database, close and vouch. Return the number of rows closed.

        Raises any failure, and then has not vouched. An `UntrackedError`, or a database's failure, is raised when
        whatever could be read of the records has been closed.
        """
        until = get_store().now() + int(conf.RELAY_BOUND * 1000)
        self._server, failures = "", list[Exception]()
        seen = sum(self._relay_if_reached(alias, failures) for alias in list(self.aliases))
        self._roster.attend()
        if failures:
            raise failures[0]
        self._was_believed = get_store().vouch(until, self._server)
        return seen

    def _records(self, alias: str) -> bool:
        """Return whether a database keeps the record. An unreachable one not known to keep it is not asked again."""
        connection = connections[alias]
        try:
            if changes.is_of_another_file(connection):
                connection.close()
            if changes.can_be_kept(connection.vendor):
                _commit_each(connection)
            return changes.is_kept(connection)
        except Error:
            if self._is_known(alias):
                raise
            logger.warning("%s is out of reach, and nothing declared is in it: no relay for it", alias)
            self.aliases.remove(alias)
            return False

    def _is_known(self, alias: str) -> bool:
        """Return whether a database has to keep the record, or did when this process or the store last knew of it."""
        if alias in _written() or alias in self._present:
            return True
        return get_store().noted(history.NOTE + alias) is not None

    def _look(self) -> None:
        try:
            self._heed()
            self._began = time.monotonic()
            self._once_and_deliver()
            self._note_gap()
            self._sweep_if_due()
            self._outage.end()
        except (fencing.AtWorkError, roster.UnannouncedError) as error:
            # Other processes will be done by the next look, or soon after.
            logger.debug("%s", error)
            self._has_vouched = False
        except Exception as error:
            # Including defects, here or in the project's router or store: if this thread ended, nothing would start
            # another, and this process would never vouch again.
            self._outage.note(error, traceback=not isinstance(error, StoreError))
            self._has_vouched = False
            for alias in self.aliases:
                connections[alias].close_if_unusable_or_obsolete()

    def _heed(self) -> None:
        """Discard pending notifications: the look that begins now sees what they announce."""
        for alias in self.aliases:
            raw: Any = connections[alias].connection
            if getattr(raw, "_keybits_listens", False):
                list(raw.notifies(timeout=0))

    def _is_spared(self, woken: float) -> bool:
        """Return whether another relay has begun to look since this one was woken: then everything is closed.

        The process that purges the caches in front is never spared: it delivers the rows that it reads itself. Nor is
        any relay for longer than `KEYBITS_RELAY_BOUND`: the other may be of another release, and read fewer databases.
        """
        asked, self._age = time.monotonic(), 0.0
        if woken == -math.inf or asked - self._began > conf.RELAY_BOUND:
            return False
        try:
            if self._delivers():
                return False
            left = get_store().vouched()
        except Exception:  # the look that follows logs the cause
            logger.debug("whether another relay has looked is not known", exc_info=True)
            return False
        age = conf.RELAY_BOUND - left
        if left == 0 or not 0 <= age < asked - woken - ROUNDING:
            return False
        self._age = age
        return True

    def _note_gap(self) -> None:
        """Log it if the store was not believed until just now, because looks take too long."""
        took = time.monotonic() - self._began
        is_late = 2 * took + conf.RELAY_INTERVAL > conf.RELAY_BOUND
        if is_late and self._has_vouched and not self._was_believed:
            self._gaps.note(f"a look took {took:.2g} s, and KEYBITS_RELAY_BOUND is {conf.RELAY_BOUND:g} s")
        else:
            self._gaps.end()
        self._has_vouched = True

    def _once_and_deliver(self) -> None:
        """Close, then purge. While nobody trusts the store, unreachable or contested, purges need not wait for that."""
        try:
            self.once()
        except (StoreError, fencing.ContestedError):
            for alias in list(self.aliases):
                self._note_if_reached(alias)
            self._sweep_if_due()
            raise
        except (Error, UntrackedError):
            self._sweep_if_due()
            raise
        finally:
            if self.delivery is not None:
                self.delivery.offer(
                    {
                        (alias, id): scope
                        for alias, rows in self._present.items()
                        for id, scope in rows.items()
                    }
                )

    def _note(self, connection: BaseDatabaseWrapper) -> list[tuple[int, str, str]]:
        """Read the record. Return the rows that have not been closed here, and forget those that are gone."""
        rows = self._seen(connection)
        self._present[connection.alias] = {id: scope for id, scope, _ in rows}
        known = self._closed[connection.alias]
        known &= self._present[connection.alias].keys()
        return [row for row in rows if row[0] not in known]

    def _note_if_reached(self, alias: str) -> None:
        """Read the record of one database, to purge. What fails fails the look anyway, and keeps no other from it."""
        try:
            if self._records(alias):
                self._note(connections[alias])
        except (Error, StoreError):
            logger.debug("the record of %s is not read", alias, exc_info=True)

    def _seen(self, connection: BaseDatabaseWrapper) -> list[tuple[int, str, str]]:
        """Read the whole record; while that is slow, only rows that may be new, and those known before."""
        alias, began = connection.alias, time.monotonic()
        horizon = self._horizons.get(alias, "") if began < self._whole_again.get(alias, began) else ""
        rows, self._horizons[alias] = changes.seen(connection, horizon, self._present.get(alias, {}).keys())
        if not horizon:
            self._whole_again[alias] = began + SPARED * (time.monotonic() - began)
        return rows

    def _relay_if_reached(self, alias: str, failures: list[Exception]) -> int:
        """Relay one database. If it fails, add that to `failures`: it keeps no other from being relayed."""
        try:
            return self._relay(connections[alias], failures) if self._records(alias) else 0
        except Error as failure:
            failures.append(failure)
            return 0

    def _relay(self, connection: BaseDatabaseWrapper, failures: list[Exception]) -> int:
        """Close what has been committed but not closed, and return how many rows that were. Rows are closed once.

        Adds to `failures` if changes may not be recorded. That is asked before the record is read: whoever makes the
        triggers again records in the same transaction what they may have missed.
        """
        try:
            trigger_health.demand_triggers(connection)
        except UntrackedError as trouble:
            failures.append(trouble)
        self._follow(connection)
        rows = self._note(connection)
        scopes: defaultdict[str, list[str]] = defaultdict(list)
        for _, scope, writer in rows:
            scopes[writer].append(scope)
        _close(scopes)
        self._closed[connection.alias].update(row[0] for row in rows)
        return len(rows)

    def _follow(self, connection: BaseDatabaseWrapper) -> None:
        """Forget all known rows if the database was set back: it may assign their ids again.

        Forget which have been closed if the store is another one: they have not been closed there.
        """
        store = fencing.ensure_named(connection)
        self._server = self._server or store[0]
        if self._stores.setdefault(connection.alias, store) != store:
            self._stores[connection.alias] = store
            self._closed.pop(connection.alias, None)
        past = history.follow(connection)
        if self._pasts.setdefault(connection.alias, past) != past:
            self._pasts[connection.alias] = past
            self._closed.pop(connection.alias, None)
            self._horizons.pop(connection.alias, None)
            if self.delivery is not None:
                self.delivery.offer({})

    def _sweep_if_due(self) -> None:
        if time.monotonic() - self._swept > SWEEP:
            self.sweep()

    def sweep(self) -> None:
        """Delete the rows that have been closed and purged. If a writer holds the lock, leave it to a later sweep.

        While the store is unreachable, rows that wait for it are bounded, and none is deleted.
        """
        self._swept = time.monotonic()
        done = {alias: ids & self._delivered(alias, ids) for alias, ids in self._closed.items()}
        may_go = any(done.values()) and self._covers()  # purgers added later never see these rows
        for alias, ids in self._closed.items():
            connection = connections[alias]
            try:
                with _hurrying(connection):
                    if may_go and done[alias]:
                        changes.forget(connection, sorted(done[alias]), store=self._stores[alias][1])
                        ids.difference_update(done[alias])
                    self._condense(connection)
            except Error:
                logger.debug("rows of %s wait to be deleted", alias, exc_info=True)

    def _covers(self) -> bool:
        try:
            return self._roster.covers()
        except StoreError:
            return False

    def _delivered(self, alias: str, ids: set[int]) -> set[int]:
        if self.delivery is None:
            return set(ids)
        return {id for name, id in self.delivery.settled() if name == alias}

    def _condense(self, connection: BaseDatabaseWrapper) -> None:
        """Bound the rows that wait for a cache that is down, or for the store: then every process does, one by one."""
        rows = self._present.get(connection.alias, {})
        if len(rows) < MOST_ROWS or not (self.delivery is None or self.delivery.leads()):
            return
        scopes = coarsened(rows.values())
        if len(scopes) < len(rows) / 2:
            changes.replace(connection, sorted(rows), scopes)

    def _wait(self) -> float:
        """Wait until a look may be due, or PostgreSQL notifies of a change. Return since when the look has been due.

        The wait is random, so that one relay is the first.
        """
        due = random.uniform(EARLIEST, 1) * conf.RELAY_INTERVAL  # noqa: S311 - no secret
        seconds = max(due - self._age, 0.0)
        for alias in self.aliases:
            connection: Any = connections[alias]
            if connection.vendor == "postgresql" and connection.connection is not None:
                return self._listen(connection, seconds)
        return self._rest(seconds)

    def _delivers(self) -> bool:
        return self.delivery is not None and self.delivery.leads()

    def _rest(self, seconds: float) -> float:
        if not self._delivers():
            self.stopped.wait(seconds)
        elif changes.bell.wait(min(DELIVERY_INTERVAL, seconds)):
            changes.bell.clear()
        return _owed()

    def _listen(self, connection: Any, seconds: float) -> float:
        raw = connection.connection
        try:
            if not hasattr(raw, "_keybits_listens"):
                raw._keybits_listens = _may_listen(connection)
            if not raw._keybits_listens:
                return self._rest(seconds)
            if not list(raw.notifies(timeout=seconds, stop_after=1)):
                return _owed()
            woken = time.monotonic()
            if not self._delivers():  # the delivering process always looks, and caches in front wait for it
                self.stopped.wait(random.uniform(0, PAUSE))  # noqa: S311 - no secret
            return woken
        except Exception:
            logger.warning("the relay lost its connection", exc_info=True)
            connection.close()
            self.stopped.wait(conf.RELAY_INTERVAL)
            return -math.inf


def _owed() -> float:
    """Return since when a look by any relay has been due, without a notification."""
    return time.monotonic() - EARLIEST * conf.RELAY_INTERVAL


def _may_listen(connection: Any) -> bool:
    """Listen from now on, and return True; behind a pooler, return False and do not listen.

    A pooler gives its connections to other clients, who would receive the notifications, and PgBouncer logs those that
    it has no client for. A pooler is recognized by the process id, which is not the server's.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        if cursor.fetchone() != (connection.connection.info.backend_pid,):
            return False
        cursor.execute(f"LISTEN {changes.CHANNEL}")
    return True


def _commit_each(connection: BaseDatabaseWrapper) -> None:
    """Turn autocommit on, even if the project has turned it off (`AUTOCOMMIT`)."""
    if not (connection.in_atomic_block or connection.get_autocommit()):
        connection.set_autocommit(True)


def _written() -> set[str]:
    """Return the aliases of the databases to which declared models are written."""
    return {router.db_for_write(each.model) for each in invalidation.declarations()}


def _close(scopes: dict[str, list[str]]) -> None:
    """Close the scopes of each writer, by its name, unless it is known to have closed them itself."""
    store = get_store()
    done = store.closed([writer for writer in scopes if writer])
    for writer, names in scopes.items():
        if writer not in done:
            store.close(coarsened(names), writer)


@contextmanager
def _hurrying(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """In the block, do not wait long for SQLite's write lock: the relay cannot vouch meanwhile.

    Looks keep the timeout of the project: without WAL, a commit keeps readers out.
    """
    if connection.vendor != "sqlite":
        yield
        return
    usual = _busy_timeout(connection)
    _busy_timeout(connection, f" = {HURRY}")
    try:
        yield
    finally:
        _busy_timeout(connection, f" = {usual}")


def _busy_timeout(connection: BaseDatabaseWrapper, change: str = "") -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout{change}")
        ((milliseconds,),) = cursor.fetchall()
    return int(milliseconds)
