"""When the caches in front are purged: each recorded change is sent to each cache until that cache acknowledges it.

Of the processes with the same purgers, one at a time delivers (a lease in the store decides which). It delivers only
rows of the record that its relay has closed; before that, a cache could fetch a stale entry from here again. A row
stays in the record until every cache has acknowledged its purge at least twice (once if `KEYBITS_PURGE_AGAIN` is 0).
The second purge is sent `KEYBITS_PURGE_AGAIN` seconds after the first, for an answer that was in flight when the first
arrived. The last is sent as long after all other caches have acknowledged too, for an answer that one of them passed on
before. So nothing is lost when a process dies or a cache is down for an hour. Purges are idempotent.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import orjson

from keybits import edge
from keybits.conf import conf
from keybits.purge import Order, PurgeError, Purger
from keybits.stamps import coarsened, family
from keybits.stores import StoreError, get_store
from keybits.warming import warm_after

__all__ = ["EVERYTHING", "TAKEDOWN", "Delivery", "PurgeQueue", "backlog", "orders"]

logger = logging.getLogger(__name__)
TAKEDOWN = "takedown:"
"""The prefix of scopes that are purged hard: what they end must not be shown, not even while the origin is down."""
EVERYTHING = "*"
"""The scope of every answer ever sent."""
LEASE = 2.0
"""Seconds for which the lease of the delivering process holds."""
NOTED = 1.0
"""Seconds between two notes of the backlog by the delivering process, if `KEYBITS_METRICS` is on."""
OUTDATED = 10.0
"""Seconds after which a note of the backlog is that of a process that has ended."""
FIRST_RETRY = 0.25
LONGEST_RETRY = 60.0
"""The first and the longest pause, in seconds, between two attempts at a cache that does not acknowledge."""
LONGEST_LEAVE = 3600.0
"""The longest pause, in seconds, that a cache can ask for (`Retry-After`): it serves stale answers meanwhile."""

Row = tuple[str, int]
"""A row of the record: the alias of the database, and the id."""


def orders(scopes: Iterable[str]) -> list[Order]:
    """Return the orders that purge these scopes: takedowns hard and first, the others softly.

    Very many scopes of one kind are purged as the whole kind.
    """
    named = coarsened(scopes)
    hard = tuple(scope for scope in named if scope.startswith(TAKEDOWN))
    soft = tuple(scope for scope in named if not scope.startswith(TAKEDOWN))
    wanted = [
        Order(scopes=hard, soft=False),
        Order(everything=True) if EVERYTHING in soft else Order(scopes=soft),
    ]
    return [order for order in wanted if order.scopes or order.everything]


@dataclass(slots=True)
class _Task:
    """The scope of a row, and when it is to be purged next: infinity if never, or if that is not known yet."""

    number: int
    """Unique among the tasks of the queue. Ids of rows are not: a database that was set back assigns them again."""
    scope: str
    due: float
    since: float
    """When this process first knew of the row, or of the oldest of those that it replaces."""
    told: int = 0
    """How many of its purges the cache has acknowledged."""
    is_last: bool = False
    """Whether the purge that is due, or the last one sent, is the last."""

    @property
    def is_settled(self) -> bool:
        return self.is_last and self.due == math.inf


class PurgeQueue:
    """The purges that one cache is still to be sent, and those that it has acknowledged. Thread-safe."""

    def __init__(self, purger: Purger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.purger = purger
        self.peers: Sequence[PurgeQueue] = (self,)
        """The queues of all caches, including this one: a cache not yet purged may pass a stale answer to another."""
        self._clock = clock
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._tasks: dict[Row, _Task] = {}
        self._failures = 0
        self._not_before = 0.0
        self._known: set[type[Exception]] = set()
        """The types of the defects that the previous attempt ran into."""
        self._defects: set[type[Exception]] = set()
        """Those of the last attempt, or of the one under way."""
        self._is_stopped = False

    def offer(self, rows: Mapping[Row, str]) -> None:
        """Take over the rows of the record: new rows are due now, and rows that are gone are forgotten."""
        with self._changed:
            gone = [task.since for row, task in self._tasks.items() if row not in rows and not task.told]
            self._tasks = {row: task for row, task in self._tasks.items() if row in rows}
            new, now = rows.keys() - self._tasks.keys(), self._clock()
            since = min(gone, default=now)  # rows that wait are merged into new ones
            self._tasks |= {row: _Task(next(self._numbers), rows[row], now, since) for row in new}
            if new:
                self._changed.notify()

    def settled(self) -> set[Row]:
        """Return the rows that need no further purge."""
        with self._changed:
            return {row for row, task in self._tasks.items() if task.is_settled}

    def heard(self) -> set[Row]:
        """Return the rows of which the cache has acknowledged a purge at least once."""
        with self._changed:
            return {row for row, task in self._tasks.items() if task.told}

    def waiting(self) -> tuple[int, float]:
        """Return how many rows the cache has acknowledged no purge of, and the seconds that the oldest has waited."""
        with self._changed:
            since = [task.since for task in self._tasks.values() if not task.told]
            return len(since), self._clock() - min(since) if since else 0.0

    def finish(self, rows: Iterable[Row]) -> None:
        """Schedule the last purge of these rows: by now every cache has acknowledged them once."""
        with self._changed:
            for row in rows:
                task = self._tasks.get(row)
                if task is not None and not task.is_last:
                    task.is_last, task.due = True, self._clock() + conf.PURGE_AGAIN
                    self._changed.notify()

    def run(self) -> None:
        """Deliver what is due, repeatedly, until `stop` is called."""
        while self._await():
            self.once()

    def stop(self) -> None:
        """End `run`. What has not been acknowledged stays in the record."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def once(self) -> bool:
        """Send all purges that are due, and return whether the cache has acknowledged all of them."""
        due = self._due()
        if not due:
            return True  # a new row has woken the thread during a pause, which goes on
        self._known, self._defects = self._defects, set()
        failures = list(self._told(due))
        if failures:
            self._failed(failures)
        return not failures

    def _told(self, due: list[_Task]) -> Iterator[Exception]:
        """Send all purges that are due, and yield each failure, including defects here or in the project's code.

        A defect must not be raised: this thread would end while the process kept the lease, and nobody would deliver.
        """
        try:
            planned = _planned(due, self.purger.at_once)
        except Exception as failure:
            yield failure
            return
        for order, tasks in planned:
            if refusal := self._tell(order, tasks):
                yield refusal
                if _will_pass(refusal):
                    return  # it is down, or asks to be left alone

    def _tell(self, order: Order, tasks: list[_Task]) -> Exception | None:
        last = [task for task in tasks if task.is_last or not conf.PURGE_AGAIN]
        try:
            self._purge(replace(order, id=self._id(tasks)))
        except Exception as failure:
            return failure
        self._acknowledged(tasks, last)
        self._tell_peers()
        _warm({task.scope for task in last})
        return None

    def _id(self, tasks: list[_Task]) -> str:
        """Return an id that all attempts at this purge of these rows share, and that no other purge of them has."""
        tellings = sorted((task.number, task.told) for task in tasks)
        return hashlib.sha256(repr((self._name, tellings)).encode()).hexdigest()

    def _purge(self, order: Order) -> None:
        """Carry out `order`; if the purger, or a function of the project, fails to translate it, purge everything."""
        try:
            self.purger.purge(order)
        except PurgeError:
            raise
        except Exception as defect:
            if order.everything:
                raise
            self.purger.purge(replace(order, scopes=(), everything=True))
            name = type(self.purger).__name__
            logger.error(
                "%s: everything was purged, because of %r",
                name,
                defect,
                exc_info=defect if self._is_news(defect) else None,
            )

    def _await(self) -> bool:
        """Wait until something is due, or anything has changed. Return whether to go on."""
        with self._changed:
            at = max(min((task.due for task in self._tasks.values()), default=math.inf), self._not_before)
            wait = at - self._clock()
            if wait > 0 and not self._is_stopped:
                self._changed.wait(None if at == math.inf else wait)
            return not self._is_stopped

    def _due(self) -> list[_Task]:
        with self._changed:
            now = self._clock()
            if now < self._not_before:
                return []
            return [task for task in self._tasks.values() if task.due <= now]

    def _failed(self, failures: list[Exception]) -> None:
        self._failures += 1
        longest = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(self._failures - 1, 16))
        asked = max(
            (each.retry_after or 0.0 for each in failures if isinstance(each, PurgeError)), default=0.0
        )
        pause = min(asked, LONGEST_LEAVE) or longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._not_before = self._clock() + pause
        said = "%s: attempt %d failed, next in %.1f s: %s"
        for failure in failures:
            level = logging.WARNING if _will_pass(failure) else logging.ERROR
            news = failure if self._is_news(failure) else None
            logger.log(level, said, type(self.purger).__name__, self._failures, pause, failure, exc_info=news)

    def _is_news(self, failure: Exception) -> bool:
        """Return whether a traceback is worth logging: for a defect that neither this attempt nor the last ran into."""
        if isinstance(failure, PurgeError):
            return False
        is_known = type(failure) in self._known | self._defects
        self._defects.add(type(failure))
        return not is_known

    def _acknowledged(self, tasks: list[_Task], last: list[_Task]) -> None:
        with self._changed:
            self._failures, self._not_before = 0, 0.0
            for task in tasks:
                task.told += 1
                if not task.is_last:  # a peer may have called `finish` meanwhile
                    task.due = self._clock() + conf.PURGE_AGAIN if task.told == 1 else math.inf
            for task in last:
                task.is_last, task.due = True, math.inf

    def _tell_peers(self) -> None:
        rows = set.intersection(*(queue.heard() for queue in self.peers))
        for queue in self.peers:
            queue.finish(rows)


def _planned(due: list[_Task], at_once: int | None) -> list[tuple[Order, list[_Task]]]:
    """Return the orders that purge all that is due, each with its tasks: hard ones first, then the longest waiting.

    Each task is in one order. New tasks, however many, never push back those that have waited longest.
    """
    parts = [part for order in orders(task.scope for task in due) for part in order.split(at_once)]
    of = {scope: number for number, part in enumerate(parts) for scope in part.scopes}
    planned: list[tuple[Order, list[_Task]]] = [(part, []) for part in parts]
    for task in due:  # if there is an order of everything, it is the last
        planned[of.get(task.scope, of.get(family(task.scope), -1))][1].append(task)
    return sorted(planned, key=lambda each: (each[0].soft, min(task.due for task in each[1])))


def _will_pass(failure: Exception) -> bool:
    return isinstance(failure, PurgeError) and not failure.permanent


def _warm(scopes: set[str]) -> None:
    """Request the pages to warm. A failure is only logged, because the purge was acknowledged."""
    try:
        warm_after(scopes)
    except Exception:
        logger.exception("what was purged is not warmed")


class Delivery:
    """The queue of each server of all configured caches, and whether this process is the one that delivers."""

    def __init__(self) -> None:
        self._of_each = {
            name: [PurgeQueue(server) for server in purger.apart()] for name, purger in edge.purgers().items()
        }
        self.queues = [queue for queues in self._of_each.values() for queue in queues]
        for queue in self.queues:
            queue.peers = self.queues
        self._name = uuid.uuid4().hex
        self._lease = _of_these_purgers()
        self._asked = self._noted = -math.inf
        self._leads = False
        self._threads: list[threading.Thread] = []

    def leads(self) -> bool:
        """Return whether this process delivers. Of the processes with the same purgers, one does.

        While the store is unreachable, every process does: two purges are better than none.
        """
        if time.monotonic() - self._asked > LEASE / 4:
            self._asked = time.monotonic()
            try:
                self._leads = get_store().lease(self._lease, self._name, LEASE)
            except StoreError:
                self._leads = True
        return self._leads

    def offer(self, rows: Mapping[Row, str]) -> None:
        """Deliver the rows of the record, if this process is the one that delivers. All of `rows` must be closed."""
        leads = self.leads()
        offered = rows if leads else {}
        if offered and not self._threads:
            self._start()
        for queue in self.queues:
            queue.offer(offered)
        if leads and conf.METRICS and time.monotonic() - self._noted > NOTED:
            self._note_backlog()

    def _note_backlog(self) -> None:
        """Note in the store, for `backlog`, what each purger has not acknowledged, by the server that is worst off."""
        self._noted = time.monotonic()
        waiting = {
            name: tuple(max(values) for values in zip(*(queue.waiting() for queue in queues), strict=True))
            for name, queues in self._of_each.items()
        }
        with suppress(StoreError):
            get_store().note(self._lease, orjson.dumps({"at": get_store().now(), "waiting": waiting}))

    def settled(self) -> set[Row]:
        """Return the rows that need no further purge at any cache, and so can leave the record."""
        return set.intersection(*(queue.settled() for queue in self.queues))

    def stop(self) -> None:
        """End the threads."""
        for queue in self.queues:
            queue.stop()

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=queue.run, name="keybits-delivery", daemon=True) for queue in self.queues
        ]
        for thread in self._threads:
            thread.start()


def backlog() -> dict[str, tuple[int, float]]:
    """Return, by the name of the purger, how many changes a cache has acknowledged no purge of, and for how long.

    The latter are the seconds since the delivering process has known of the oldest; 0 where there is none. Whichever
    process delivers has noted it. Returns nothing if none does, or without `KEYBITS_METRICS`. Raises `StoreError`.
    """
    noted = orjson.loads(get_store().noted(_of_these_purgers()) or b"null")
    passed = math.inf if noted is None else (get_store().now() - noted["at"]) / 1000
    if passed > OUTDATED:
        return {}
    return {
        name: (count, seconds + max(passed, 0.0) if count else 0.0)
        for name, (count, seconds) in noted["waiting"].items()
    }


def _of_these_purgers() -> str:
    """Return the name that processes with the same purgers share, of their lease and of the note of their backlog."""
    return "delivery:" + ",".join(sorted(edge.identities()))
