"""The clock that bounds are told by: nobody can set it, and it goes on while the machine sleeps.

All processes of one host share it (CLOCK_BOOTTIME); where there is none, the clock of `time.monotonic` stands in,
which stops in sleep on Linux alone, and Linux has the other.
"""

from __future__ import annotations

import time

__all__ = ["nanoseconds", "seconds"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Return seconds since some moment before this host's processes began."""
    return time.clock_gettime(_CLOCK)


def nanoseconds() -> int:
    """Return the same in nanoseconds."""
    return time.clock_gettime_ns(_CLOCK)
