"""What a server's processes have used: CPU to the nanosecond where the kernel says so, and memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

__all__ = ["Memory", "cpu", "memory"]

PROC = Path("/proc")


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
    """The scheduler counts nanoseconds for each thread; where it does not, the kernel's ticks must do."""
    tasks = list((PROC / str(process.pid) / "task").glob("*/schedstat"))
    if not tasks:
        times = process.cpu_times()
        return float(times.user + times.system)
    return sum(map(_of_thread, tasks)) / 1e9


def _of_thread(schedstat: Path) -> int:
    with suppress(OSError):  # it has just ended
        return int(schedstat.read_text().split()[0])
    return 0


def memory(pid: int) -> Memory:
    """Return what the process and its descendants hold."""
    each = [_rolled_up(process.pid) for process in family(pid)]
    return Memory(*(sum(parts) for parts in zip(*each, strict=True)))


def _rolled_up(pid: int) -> Memory:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    return Memory(found["Rss"], found["Pss"], found["Anonymous"])
