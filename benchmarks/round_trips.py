"""How often does a read go elsewhere? Replies that Redis sent, its CPU and its bytes, by its own count; and SQL.

Redis counts a reply, or several that leave together, once: that is a round trip. What its clients do while nobody asks
(a relay looks at the clock) is taken off.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis

from benchmarks.harness.cases import CASES, until_right
from benchmarks.harness.options import Options
from benchmarks.harness.serving import Running
from benchmarks.harness.tables import table
from benchmarks.server_cpu import Cell

__all__ = ["Trips", "measure", "written"]

READY = "total_writes_processed"


@dataclass(frozen=True, slots=True)
class Trips:
    """Of Redis, for one request: round trips, microseconds of CPU, bytes in and out."""

    trips: float
    microseconds: float
    received: float
    sent: float


NONE = Trips(0, 0, 0, 0)


def measure(running: dict[str, Running], options: Options) -> dict[Cell, Trips]:
    found: dict[Cell, Trips] = {}
    for name, one in running.items():
        for case in one.variant.cases:
            turn = partial(_trips, one, case, options)
            found[name, case] = until_right(turn, []) if one.deployment.redis else NONE
    return found


def _trips(one: Running, case: str, options: Options) -> Trips:
    assert one.deployment.redis is not None
    with redis.Redis(port=one.deployment.redis.port) as client, one.load(case, options.connections) as load:
        idle = _spent(client, lambda: time.sleep(options.idle))
        busy = _spent(client, lambda: load.run(options.trips))
    own = [used - rate * busy[-1] / idle[-1] for used, rate in zip(busy, idle, strict=True)]
    return Trips(*(max(0.0, used) / options.trips for used in own[:-1]))


def _spent(client: Any, during: Any) -> list[float]:
    """Return how far the counts moved while something was done, the asking taken off, and how long it took."""
    before = _counts(client)
    asked = _counts(client)
    begun = time.perf_counter()
    during()
    lasted = time.perf_counter() - begun
    after = _counts(client)
    moved = [(b - a) - (a - z) for z, a, b in zip(before, asked, after, strict=True)]
    return [*moved, lasted]


def _counts(client: Any) -> list[float]:
    info = client.info("everything")
    cpu = (info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6
    return [info[READY], cpu, info["total_net_input_bytes"], info["total_net_output_bytes"]]


def written(trips: dict[Cell, Trips], sql: dict[Cell, float], titles: dict[str, str]) -> list[str]:
    columns = [
        "",
        "answer",
        "Redis round trips",
        "SQL statements",
        "Redis CPU, us",
        "bytes to Redis",
        "bytes from Redis",
    ]
    return table(columns, _rows(trips, sql, titles))


def _rows(trips: dict[Cell, Trips], sql: dict[Cell, float], titles: dict[str, str]) -> Iterator[list[str]]:
    for (name, case), of_redis in trips.items():
        told = sql.get((name, case))
        yield [
            titles[name],
            CASES[case],
            f"{of_redis.trips:.2f}",
            "" if told is None else f"{told:g}",
            f"{of_redis.microseconds:.1f}",
            f"{of_redis.received:,.0f}",
            f"{of_redis.sent:,.0f}",
        ]
