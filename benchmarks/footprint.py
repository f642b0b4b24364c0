"""How much memory does a server hold, having answered all that was asked of it here? Of its whole process tree."""

from __future__ import annotations

from benchmarks.harness.processes import Memory, memory
from benchmarks.harness.serving import Running
from benchmarks.harness.tables import table

__all__ = ["measure", "written"]

MEGABYTE = 1024 * 1024


def measure(running: dict[str, Running]) -> dict[str, Memory]:
    return {name: memory(one.server.pid) for name, one in running.items()}


def written(held: dict[str, Memory], titles: dict[str, str]) -> list[str]:
    columns = ["", "RSS, MB", "PSS, MB", "of it anonymous, MB"]
    return table(
        columns, ([titles[name], *(f"{part / MEGABYTE:.0f}" for part in one)] for name, one in held.items())
    )
