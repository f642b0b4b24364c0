"""What is warmed after a purge: once the caches in front have acknowledged it, in a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache

from keybits.conf import conf
from keybits.stamps import coarsened
from keybits.warming.hot import stored_under
from keybits.warming.walk import Manners, base_url, warm

__all__ = ["LULL", "MOST_AFTER_PURGE", "Afterwards", "warm_after"]

logger = logging.getLogger(__name__)

MOST_AFTER_PURGE = 100
"""Most URLs that are warmed for the purges of one lull."""
LULL = 2.0
"""Seconds for which purges are collected before the store is looked at, and so the least between two looks."""


def warm_after(scopes: Iterable[str]) -> None:
    """Request again, soon, what was made from those of `scopes` that match `KEYBITS_WARM_AFTER_PURGE`.

    Call it when the caches in front have acknowledged the purge. Returns at once: a thread of this process makes the
    requests. Requests that are still to be made when the process ends are lost.
    """
    hot = [scope for scope in scopes if any(fnmatchcase(scope, like) for like in conf.WARM_AFTER_PURGE)]
    if hot:
        _afterwards(os.getpid()).add(hot)


class Afterwards:
    """Collects purged scopes, and warms their URLs in a thread that ends when there is nothing left.

    One walk at a time, one request at a time, at most `MOST_AFTER_PURGE` URLs. Scopes purged meanwhile wait for the
    next walk, each once.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.thread: threading.Thread | None = None
        self._clock = clock
        self._sleep = sleep
        self._is_running = False
        self._waiting: list[str] = []
        self._lock = threading.Lock()

    def add(self, scopes: Iterable[str]) -> None:
        """Add `scopes` to those to be warmed. Too many of a kind are replaced by its family (`stamps.coarsened`)."""
        with self._lock, suppress(RuntimeError):  # no thread can start while the process exits
            self._waiting = coarsened([*self._waiting, *scopes])
            if not self._is_running:
                self.thread = threading.Thread(target=self._run, name="keybits-warming", daemon=True)
                self.thread.start()
                self._is_running = True

    def _run(self) -> None:
        while scopes := self._next():
            try:
                self._warm(scopes)
            except Exception:
                logger.warning("what was purged is not warmed", exc_info=True)

    def _next(self) -> list[str]:
        """Wait for a lull and return the scopes purged until then; nothing where the thread is to end."""
        with self._lock:
            self._is_running = bool(self._waiting)
        if not self._is_running:
            return []
        self._sleep(LULL)
        with self._lock:
            scopes, self._waiting = self._waiting, []
        return scopes

    def _warm(self, scopes: Sequence[str]) -> None:
        base = base_url(conf.WARM_BASE_URL)
        hots = stored_under(scopes)[:MOST_AFTER_PURGE]
        report = warm(base, hots, Manners(concurrency=1), clock=self._clock, sleep=self._sleep)
        log = logger.warning if report.failures or report.not_asked else logger.info
        log("after a purge, at %s: %s", base, report)


@lru_cache(maxsize=1)
def _afterwards(process: int) -> Afterwards:
    """Return the instance of this process: threads do not survive a fork, and locks may be copied while held."""
    return Afterwards()
