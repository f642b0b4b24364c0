"""The clock by which time bounds are measured: nobody can set it, and it runs on while the machine sleeps.

All processes of one host share it. It is CLOCK_BOOTTIME, because Linux's CLOCK_MONOTONIC stops during sleep. Where
there is no such clock, it is CLOCK_MONOTONIC.
"""

from __future__ import annotations

import time

__all__ = ["nanoseconds", "seconds"]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def seconds() -> float:
    """Return the seconds since some fixed moment before the processes of this host began."""
    return time.clock_gettime(_CLOCK)


def nanoseconds() -> int:
    """Return the same in nanoseconds."""
    return time.clock_gettime_ns(_CLOCK)
