"""Which purgers are configured in the processes that share a store.

A row can leave the record only when all caches have acknowledged its purge, and a process knows only its own purgers. A
process of the previous release may lack one, and a worker without `PURGERS` in its environment lacks all. So each
process announces its purgers in the store before it first vouches, and deletes rows only while every purger that is
announced is also its own.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Iterable
from time import sleep

import orjson

from keybits.outages import Outage
from keybits.stores import get_store

__all__ = ["Roster", "UnannouncedError"]

logger = logging.getLogger(__name__)
NOTE = "purgers"
"""The name of the note that maps each announced purger to the store's time at which the announcement ends."""
PRESENCE = 15.0
"""Seconds for which an announcement holds."""
LEASE = 1.0
"""Seconds for which one process may keep the others from writing the note."""
PAUSE = 0.01
"""Seconds between two attempts to write it first."""
LOST = "?"
"""What is announced for those whose announcements the store may have lost with ours; no process has it."""


class UnannouncedError(Exception):
    """Nothing has been announced yet: other processes are writing the note."""


class Roster:
    """The identities of this process's purgers, and of those that other processes have announced."""

    def __init__(self, purgers: Iterable[str]) -> None:
        self._own = {"", *purgers}  # a process without purgers announces itself too
        self._announced_at = -math.inf
        self._others = Outage(
            logger,
            "KEYBITS_PURGERS lacks some that other processes have, so that this one deletes nothing from the record",
            "KEYBITS_PURGERS has all again that other processes have",
        )

    def attend(self) -> None:
        """Announce the purgers of this process, if that is due; the first time, wait for others that are at it.

        Raises `StoreError`, and `UnannouncedError` if these are at it for too long.
        """
        give_up = time.monotonic() + LEASE
        while self._is_due():
            self._announce()
            if self._announced_at > -math.inf:
                return
            if time.monotonic() > give_up:
                raise UnannouncedError("other processes keep this one from announcing its purgers")
            sleep(PAUSE)

    def _is_due(self) -> bool:
        return time.monotonic() - self._announced_at > PRESENCE / 3

    def covers(self) -> bool:
        """Return whether this process has every purger that is announced. Raises `StoreError`.

        Returns False if the store has lost the announcement of this process: those of others may be lost too. It is
        then made again, and no process covers the others until each of them has had the time to make its own.
        """
        present = self._present()
        if not self._own <= present.keys():
            self._announce()
            return False
        if LOST in present:
            return False
        if missing := present.keys() - self._own:
            self._others.note(f"{len(missing)} in all")
            return False
        self._others.end()
        return True

    def _present(self) -> dict[str, int]:
        noted: dict[str, int] = orjson.loads(get_store().noted(NOTE) or b"{}")
        now = get_store().now()
        return {purger: until for purger, until in noted.items() if until > now}

    def _announce(self) -> None:
        """Add to the note, unless another process is writing, or may be by now because this one took too long."""
        me, ends = uuid.uuid4().hex, time.monotonic() + LEASE
        if not get_store().lease(NOTE, me, LEASE):
            return
        try:
            present, now = self._present(), get_store().now()
            if time.monotonic() <= ends:
                self._add(present, now + int(PRESENCE * 1000))
        finally:
            get_store().release(NOTE, me)

    def _add(self, present: dict[str, int], until: int) -> None:
        is_lost = self._announced_at > -math.inf and not self._own <= present.keys()
        purgers = self._own | {LOST} if is_lost else self._own
        get_store().note(NOTE, orjson.dumps(present | dict.fromkeys(purgers, until)))
        self._announced_at = time.monotonic()
