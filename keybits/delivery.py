"""When the caches in front are told: each recorded change is purged at each of them, until it has acknowledged.

Of the processes with the same purgers one at a time delivers (a lease in the store says which), from the rows of the
record that its relay has closed: earlier, a cache would fetch again what is still believed here. A row stays in the
record until every cache has acknowledged its purge at least twice: again `KEYBITS_PURGE_AGAIN` seconds later, for an
answer that was under way when the first one passed it, and for the last time so long after all the others have
acknowledged it too, for an answer that one of them handed on before. So a process that dies, or a cache that is down
for an hour, loses nothing; purging twice is purging once.
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
from dataclasses import dataclass, replace

from keybits import edge
from keybits.conf import conf
from keybits.purge import Order, PurgeError, Purger
from keybits.stamps import coarsened, family
from keybits.stores import StoreError, get_store
from keybits.warming import warm_after

__all__ = ["EVERYTHING", "TAKEDOWN", "Delivery", "Line", "orders"]

logger = logging.getLogger(__name__)
TAKEDOWN = "takedown:"
"""What the names of scopes begin with whose purge is hard: what they end must not be shown, not even in need."""
EVERYTHING = "*"
"""The scope of whatever was ever answered."""
LEASE = 2.0
"""Seconds for which a process that delivers is known to."""
FIRST_RETRY = 0.25
LONGEST_RETRY = 60.0
"""Seconds between two attempts at a cache that does not answer, at first and at most."""
LONGEST_LEAVE = 3600.0
"""Seconds for which a cache is left alone at most, whatever it asks: until then it shows what is stale."""

Row = tuple[str, int]
"""A row of the record: the database's alias and the id."""


def orders(scopes: Iterable[str]) -> list[Order]:
    """Return what purges these scopes: takedowns hard and first, the others softly; whole kinds for very many."""
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
    """A row's scope, and when the cache is to be told next, if ever: infinity where nobody knows yet."""

    number: int
    """Of all tasks of the line its own: rows of a database that has gone back may have the ids of others."""
    scope: str
    due: float
    told: int = 0
    """How often it has acknowledged."""
    is_last: bool = False
    """Whether it is not told again after that."""

    @property
    def is_settled(self) -> bool:
        return self.is_last and self.due == math.inf


class Line:
    """What one cache is still to be told, and what it has acknowledged. Safe under threads."""

    def __init__(self, purger: Purger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.purger = purger
        self.peers: Sequence[Line] = (self,)
        """The lines to all caches, this one too: any of them may hand on to another what it has not been told of."""
        self._clock = clock
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._tasks: dict[Row, _Task] = {}
        self._failures = 0
        self._not_before = 0.0
        self._known: set[type[Exception]] = set()
        """The kinds of defects that the attempt before has shown."""
        self._defects: set[type[Exception]] = set()
        """Those of the last one, or of that under way."""
        self._is_stopped = False

    def offer(self, rows: Mapping[Row, str]) -> None:
        """Take in what the record holds: new rows are due now, those that are gone are forgotten."""
        with self._changed:
            self._tasks = {row: task for row, task in self._tasks.items() if row in rows}
            new = rows.keys() - self._tasks.keys()
            self._tasks |= {row: _Task(next(self._numbers), rows[row], self._clock()) for row in new}
            if new:
                self._changed.notify()

    def settled(self) -> set[Row]:
        """Return the rows that need no more telling."""
        with self._changed:
            return {row for row, task in self._tasks.items() if task.is_settled}

    def heard(self) -> set[Row]:
        """Return the rows that the cache has acknowledged once at least."""
        with self._changed:
            return {row for row, task in self._tasks.items() if task.told}

    def finish(self, rows: Iterable[Row]) -> None:
        """Tell of these rows once more, for the last time: all caches have acknowledged them just now."""
        with self._changed:
            for row in rows:
                task = self._tasks.get(row)
                if task is not None and not task.is_last:
                    task.is_last, task.due = True, self._clock() + conf.PURGE_AGAIN
                    self._changed.notify()

    def run(self) -> None:
        """Deliver what is due, again and again, until it is stopped."""
        while self._await():
            self.once()

    def stop(self) -> None:
        """Have `run` end; what has not been acknowledged stays in the record."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def once(self) -> bool:
        """Tell the cache all that is due, and say whether it has acknowledged all of it."""
        due = self._due()
        if not due:
            return True  # a new row has woken us while the cache is left alone: that is not over
        self._known, self._defects = self._defects, set()
        failures = list(self._told(due))
        if failures:
            self._failed(failures)
        return not failures

    def _told(self, due: list[_Task]) -> Iterator[Exception]:
        """Tell all that is due, and yield what went wrong, also where it is a defect, here or of the project's.

        Were it raised, this thread would end, the lease would go on, and nobody would deliver any more.
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
        """Name this attempt as every other at telling of the same rows, and no telling of them before or after."""
        tellings = sorted((task.number, task.told) for task in tasks)
        return hashlib.sha256(repr((self._name, tellings)).encode()).hexdigest()

    def _purge(self, order: Order) -> None:
        """Purge everything where the purger, or a function of the project's, cannot say what `order` is of."""
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
                "%s: everything was purged, for %r",
                name,
                defect,
                exc_info=defect if self._is_news(defect) else None,
            )

    def _await(self) -> bool:
        """Wait until something is due, or anything has changed; say whether to go on."""
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
        pause = min(asked, LONGEST_LEAVE) or longest * random.uniform(0.5, 1.0)  # noqa: S311 - apart from others, not secret
        self._not_before = self._clock() + pause
        said = "%s: attempt %d failed, again in %.1f s: %s"
        for failure in failures:
            level = logging.WARNING if _will_pass(failure) else logging.ERROR
            news = failure if self._is_news(failure) else None
            logger.log(level, said, type(self.purger).__name__, self._failures, pause, failure, exc_info=news)

    def _is_news(self, failure: Exception) -> bool:
        """Say whether it is a defect that neither this attempt nor the last has shown: its traceback is worth it."""
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
                if not task.is_last:  # which it may have become meanwhile
                    task.due = self._clock() + conf.PURGE_AGAIN if task.told == 1 else math.inf
            for task in last:
                task.is_last, task.due = True, math.inf

    def _tell_peers(self) -> None:
        rows = set.intersection(*(line.heard() for line in self.peers))
        for line in self.peers:
            line.finish(rows)


def _planned(due: list[_Task], at_once: int | None) -> list[tuple[Order, list[_Task]]]:
    """Return what tells of all that is due, each with its tasks: hard ones first, then what has waited longest.

    No task is in two. What has waited longest is never told last again and again, however much comes meanwhile.
    """
    parts = [part for order in orders(task.scope for task in due) for part in order.split(at_once)]
    of = {scope: number for number, part in enumerate(parts) for scope in part.scopes}
    planned: list[tuple[Order, list[_Task]]] = [(part, []) for part in parts]
    for task in due:  # the last is of everything, where one is
        planned[of.get(task.scope, of.get(family(task.scope), -1))][1].append(task)
    return sorted(planned, key=lambda each: (each[0].soft, min(task.due for task in each[1])))


def _will_pass(failure: Exception) -> bool:
    return isinstance(failure, PurgeError) and not failure.permanent


def _warm(scopes: set[str]) -> None:
    """Whatever comes of it, the purge was acknowledged."""
    try:
        warm_after(scopes)
    except Exception:
        logger.exception("what was purged is not warmed")


class Delivery:
    """The lines to every server of all configured caches, and whether this process is the one that delivers."""

    def __init__(self) -> None:
        self.lines = [Line(server) for purger in edge.purgers().values() for server in purger.apart()]
        for line in self.lines:
            line.peers = self.lines
        self._name = uuid.uuid4().hex
        self._lease = "delivery:" + ",".join(sorted(edge.identities()))
        self._asked = -math.inf
        self._leads = False
        self._threads: list[threading.Thread] = []

    def leads(self) -> bool:
        """Say whether this process delivers. Of the processes with the same purgers one does.

        Without a store, every process does: twice is better than never.
        """
        if time.monotonic() - self._asked > LEASE / 4:
            self._asked = time.monotonic()
            try:
                self._leads = get_store().lease(self._lease, self._name, LEASE)
            except StoreError:
                self._leads = True
        return self._leads

    def offer(self, rows: Mapping[Row, str]) -> None:
        """Deliver what the record holds, if this process is the one to do it. All of `rows` must have been closed."""
        offered = rows if self.leads() else {}
        if offered and not self._threads:
            self._start()
        for line in self.lines:
            line.offer(offered)

    def settled(self) -> set[Row]:
        """Return the rows that every cache has acknowledged for good: they can leave the record."""
        return set.intersection(*(line.settled() for line in self.lines))

    def stop(self) -> None:
        """Have the threads end."""
        for line in self.lines:
            line.stop()

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=line.run, name="keybits-delivery", daemon=True) for line in self.lines
        ]
        for thread in self._threads:
            thread.start()
