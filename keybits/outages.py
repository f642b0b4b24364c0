"""What fails again and again, and how the log is told: when it begins, once a minute, and when it is over."""

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

    def goes_on(self, error: object, *, traceback: bool = False) -> None:
        """Say that it fails, where that is news; `traceback`, from within `except`, when it begins."""
        now, told = self._clock(), self._told
        if told is not None and now - told < EVERY:
            return
        self._told = now
        self._logger.warning("%s: %s", self._fails, error, exc_info=traceback and told is None)

    def is_over(self) -> None:
        """Say that it works again, where it was said that it did not."""
        if self._told is not None:
            self._told = None
            self._logger.warning("%s", self._works)
