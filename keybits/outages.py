"""What fails again and again, and how the log is told: when it begins, once a minute, and when it is over.

What comes and goes, as a store does that can be read and not written, has one line of each a minute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Outage"]

EVERY = 60.0
"""Seconds between two lines about one outage."""


class Outage:
    """Something that may fail each time, said once for all of them. Under threads it may be said twice."""

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

    def goes_on(self, error: object, *, traceback: bool = False) -> None:
        """Say that it fails, where that is news; `traceback`, from within `except`, when it begins."""
        now = self._clock()
        if self._told is not None and now - self._told < EVERY:
            return
        self._told = now
        self._logger.warning("%s: %s", self._fails, error, exc_info=traceback and not self._is_on)
        self._is_on = True

    def is_over(self) -> None:
        """Say that it works again, where it was said that it did not."""
        if self._is_on:
            self._is_on = False
            self._logger.warning("%s", self._works)
