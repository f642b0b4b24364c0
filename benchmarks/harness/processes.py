"""What a server's processes have used: CPU to the nanosecond, and memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

__all__ = ["Memory", "cpu", "memory"]

PROC = Path("/proc")
SCHEDULED = 2
"""Linux: the clock that counts what the scheduler gave, user and system."""


class Memory(NamedTuple):
    """Bytes: all that is resident, what is shared counted by shares, and what no file stands behind."""

    rss: int
    pss: int
    anonymous: int


def family(pid: int) -> list[psutil.Process]:
    """Return the process and all that descend from it."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def cpu(pid: int) -> float:
    """Return the seconds of CPU, user and system, that the process and its descendants have had."""
    return sum(_of_one(process) for process in family(pid))


def _of_one(process: psutil.Process) -> float:
    """Read the process's own CPU clock: to the nanosecond, and with the threads that have ended.

    Django under ASGI runs each synchronous view in a thread that ends with the request: a sum over the threads that
    are there would miss most of what it costs. The number of that clock is made as clock_getcpuclockid(3) makes it.
    """
    return time.clock_gettime((~process.pid << 3) | SCHEDULED)


def memory(pid: int) -> Memory:
    """Return what the process and its descendants hold."""
    each = [_rolled_up(process.pid) for process in family(pid)]
    return Memory(*(sum(parts) for parts in zip(*each, strict=True)))


def _rolled_up(pid: int) -> Memory:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    return Memory(found["Rss"], found["Pss"], found["Anonymous"])
