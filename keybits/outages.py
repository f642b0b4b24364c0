"""When a failure that lasts is logged: when it begins, once a minute while it lasts, and when it is over.

A failure that comes and goes, as of a store that can be read but not written, is logged once a minute each way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Outage"]

EVERY = 60.0
"""Seconds between two lines about one outage."""


class Outage:
    """Something that may fail many times in a row, logged once a minute. Threads may log it twice."""

    def __init__(
        self,
        logger: logging.Logger,
        fails: str,
        works: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._fails = fails
        self._works = works
        self._clock = clock
        self._told: float | None = None
        self._is_on = False

    def note(self, error: object, *, traceback: bool = False) -> None:
        """Log the failure, at most once a minute; with `traceback` (in an `except`), add one when it begins."""
        now = self._clock()
        if self._told is not None and now - self._told < EVERY:
            return
        self._told = now
        self._logger.warning("%s: %s", self._fails, error, exc_info=traceback and not self._is_on)
        self._is_on = True

    def end(self) -> None:
        """Log that it works again, if a failure was logged before."""
        if self._is_on:
            self._is_on = False
            self._logger.warning("%s", self._works)
