"""Which entries this process keeps in memory, so that a hit transfers no body: bounded, and never trusted by itself.

An entry in memory is treated as one in the store: its stamps decide. So nothing here has to be told of a change, and a
process that forks, sleeps or loses the store does not keep stale entries in use.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Generic, TypeVar

from keybits.conf import conf, on_change
from keybits.entries import Entry

__all__ = ["Held", "Memory", "Slot", "entries", "footprint", "hold"]

T = TypeVar("T")
OVERHEAD = 600
"""Bytes that keeping a value costs beside its size, measured with tracemalloc: the key, the slot, the dictionary."""
SHARE = 16
"""A value may take at most the budget of a memory divided by this."""


class Slot(Generic[T]):
    """Where a memory keeps a value, for as long as it does: a reference to the slot does not keep the value."""

    __slots__ = ("_value", "size", "used")

    def __init__(self, value: T, size: int) -> None:
        self._value: T | None = value
        self.size = size
        self.used = False

    def take(self) -> T | None:
        """Return the value and mark it as used, so that it is dropped later; None once the memory has dropped it."""
        self.used = True
        return self._value

    def holds(self, value: T) -> bool:
        """Say whether the slot has this very value."""
        return self._value is value

    def empty(self) -> None:
        """Drop the value."""
        self._value = None


class Memory(Generic[T]):
    """Values by key, at most `budget` bytes of them; the least recently used go first (second chance).

    Reading takes no lock and moves nothing. A value larger than a sixteenth of the budget is not kept, so that no
    single one drives out the rest. Safe under threads; make a new one after a fork.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._slots: OrderedDict[Hashable, Slot[T]] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0

    def get(self, key: Hashable) -> T | None:
        """Return the value under `key`, or None."""
        slot = self._slots.get(key)
        return None if slot is None else slot.take()

    def slot(self, key: Hashable) -> Slot[T] | None:
        """Return the slot of the value under `key`, or None."""
        return self._slots.get(key)

    def put(self, key: Hashable, value: T, size: int) -> None:
        """Keep `value`, of `size` bytes, under `key`."""
        with self._lock:
            self._drop(key)
            if self._fits(size):
                self._slots[key] = Slot(value, size + OVERHEAD)
                self.size += size + OVERHEAD
                self._shrink()

    def weigh(self, key: Hashable, value: T, size: int) -> bool:
        """Count `value` as `size` bytes from now on; return False if it is not under `key` any more, or too large."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or not slot.holds(value) or not self._fits(size):
                return False
            self.size += size + OVERHEAD - slot.size
            slot.size = size + OVERHEAD
            self._shrink()
            return True

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for slot in self._slots.values():
                slot.empty()
            self._slots.clear()
            self.size = 0

    def _fits(self, size: int) -> bool:
        return (size + OVERHEAD) * SHARE <= self._budget

    def _drop(self, key: Hashable) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self.size -= slot.size
            slot.empty()

    def _shrink(self) -> None:
        while self.size > self._budget:
            key, slot = next(iter(self._slots.items()))
            if slot.used:
                slot.used = False
                self._slots.move_to_end(key)
            else:
                self._drop(key)


def footprint(value: object) -> int:
    """Return the bytes that text, bytes, and tuples, lists and dicts of them take, as if none of it were shared."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(map(footprint, value.items()))
    return size + sum(map(footprint, value)) if isinstance(value, tuple | list) else size


class Held:
    """An entry in memory with the answers that it has given, which are pure functions of it and made once.

    `confirmed` is when its stamps were last known to be the present ones, by `keybits.clock`: when the store was asked,
    because they may have ended while its answer was on the way. `weight` is the size of the answers in bytes.
    """

    __slots__ = ("answers", "confirmed", "entry", "key", "weight")

    def __init__(self, key: str, entry: Entry, confirmed: float) -> None:
        self.key = key
        self.entry = entry
        self.confirmed = confirmed
        self.answers: dict[Any, Any] = {}
        self.weight = 0


@lru_cache(maxsize=1)
def entries() -> Memory[Held]:
    """Return this process's memory of entries: three quarters of `KEYBITS_MEMORY_BYTES`."""
    return Memory(conf.MEMORY_BYTES * 3 // 4)


def hold(key: str, entry: Entry, confirmed: float = 0.0) -> Held:
    """Keep the entry in memory under `key`, in place of an older one, and return it as it is held there.

    `confirmed` is that of `Held`; by default it was long ago.
    """
    held = Held(key, entry, confirmed)
    entries().put(key, held, entry.size)
    return held


on_change(entries.cache_clear, "KEYBITS_")
os.register_at_fork(after_in_child=entries.cache_clear)
