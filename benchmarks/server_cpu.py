"""What does a read cost the server? CPU, user and system, of its whole process tree, for each request.

Everybody takes short turns within one round, so that whatever else the machine does befalls all alike; what a server
uses while nobody asks is taken off.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.harness.cases import CASES, until_right
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import CONTROL, Rounds
from benchmarks.harness.serving import Running
from benchmarks.harness.tables import table
from benchmarks.harness.variants import REFERENCE

__all__ = ["Cell", "cells", "measure", "written"]

Cell = tuple[str, str]
"""A variant's key, and a case."""
SETTLE = 0.01
"""Seconds that a server is given to end what follows its last answer."""
CALIBRATION = 40


@dataclass
class Turns:
    """How long each cell's turn is, and what its server uses while idle, in CPU seconds a second."""

    running: dict[str, Running]
    options: Options
    idle: dict[str, float]
    counts: dict[Cell, int]

    @classmethod
    def prepare(cls, running: dict[str, Running], options: Options) -> Turns:
        turns = cls(running, options, _idle(running, options.idle), {})
        for cell in cells(running):
            first = partial(turns.seconds, cell, options.count or CALIBRATION)
            turns.counts[cell] = options.counted(until_right(first, []))
        return turns

    def microseconds(self, cell: Cell) -> float:
        """Take a turn, and return the CPU of one request."""
        return self.seconds(cell, self.counts[cell]) * 1e6

    def seconds(self, cell: Cell, count: int) -> float:
        name, case = cell
        one = self.running[name]
        with one.load(case, self.options.connections) as load:
            time.sleep(SETTLE)
            wall, cpu = time.perf_counter(), one.cpu()
            load.run(count)
            time.sleep(SETTLE)
            spent, lasted = one.cpu() - cpu, time.perf_counter() - wall
        return max(0.0, spent - self.idle[name] * lasted) / count


def cells(running: dict[str, Running]) -> list[Cell]:
    return [(name, case) for name, one in running.items() for case in one.variant.cases]


def _idle(running: dict[str, Running], seconds: float) -> dict[str, float]:
    before = {name: one.cpu() for name, one in running.items()}
    time.sleep(seconds)
    return {name: (one.cpu() - before[name]) / seconds for name, one in running.items()}


def measure(running: dict[str, Running], options: Options) -> Rounds[Cell]:
    turns = Turns.prepare(running, options)
    rounds: Rounds[Cell] = Rounds((REFERENCE, "200"), (CONTROL, "200"))
    rounds.run(cells(running), turns.microseconds, options.rounds)
    return rounds


def written(rounds: Rounds[Cell], titles: dict[str, str]) -> list[str]:
    columns = [
        "",
        "answer",
        "CPU a request, us",
        "ratio to the bare Django view (quartiles)",
        "of the cheapest turns",
    ]
    return [rounds.verdict(), "", *table(columns, _rows(rounds, titles))]


def _rows(rounds: Rounds[Cell], titles: dict[str, str]) -> Iterator[list[str]]:
    for name, case in rounds.cells():
        cost, ratio = rounds.cost((name, case)), rounds.ratio((name, case))
        least = f"{rounds.least((name, case)):.2f}"
        yield [titles[name], CASES[case], f"{cost.median:,.1f}", ratio.ratio(), least]
