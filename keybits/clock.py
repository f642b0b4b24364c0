"""The clock that bounds are told by: nobody can set it, and it goes on while the machine sleeps.

All processes of one host share it. It is CLOCK_BOOTTIME, for Linux's CLOCK_MONOTONIC stops in sleep; where there is no
such clock, CLOCK_MONOTONIC it is.
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
