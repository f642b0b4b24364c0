"""What does a read cost without any server? The application called directly, and the CPU of the calling thread."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.harness.cases import CASES, HITS, until_right
from benchmarks.harness.direct import Direct
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import CONTROL, Rounds
from benchmarks.harness.tables import table
from benchmarks.harness.variants import REFERENCE
from benchmarks.server_cpu import Cell

__all__ = ["measure", "not_passed_by", "pauses", "statements", "written"]

CALIBRATION = 20


def measure(workers: dict[str, Direct], options: Options) -> Rounds[Cell]:
    """Have all workers take turns; costs are microseconds of one request."""
    cells = [(name, case) for name, worker in workers.items() for case in worker.variant.cases]
    first = {cell: until_right(partial(_turn, workers, cell, CALIBRATION), []) for cell in cells}
    counts = {cell: options.counted(microseconds / 1e6) for cell, microseconds in first.items()}
    rounds: Rounds[Cell] = Rounds((REFERENCE, "200"), (CONTROL, "200"))
    rounds.run(cells, lambda cell: _turn(workers, cell, counts[cell]), options.rounds)
    return rounds


def _turn(workers: dict[str, Direct], cell: Cell, count: int) -> float:
    name, case = cell
    return workers[name].microseconds(case, count)


def statements(workers: dict[str, Direct]) -> dict[Cell, float]:
    """Return how many SQL statements one request sends."""
    return {
        (name, case): worker.order("sql", case, 5)["statements"]
        for name, worker in workers.items()
        for case in worker.variant.cases
    }


def pauses(workers: dict[str, Direct], titles: dict[str, str]) -> list[str]:
    """Say for how long each process stands still when Python looks through all that it has for garbage."""
    told = (f"{titles[name]} {worker.order('pause'):.1f} ms" for name, worker in workers.items())
    return ["", f"A full collection of garbage stops every thread of the process: {', '.join(told)}."]


def not_passed_by(workers: dict[str, Direct]) -> list[Cell]:
    """Return the hits and 304s that went into Django though their variant promises to answer in front of it."""
    return [
        (name, case)
        for name, worker in workers.items()
        for case in HITS
        if worker.variant.passes_django_by and worker.order("entered", case)
    ]


def written(rounds: Rounds[Cell], titles: dict[str, str]) -> list[str]:
    columns = [
        "",
        "answer",
        "CPU a call, us (quartiles)",
        "least",
        "ratio to the bare Django view (quartiles)",
        "of the cheapest turns",
    ]
    return [rounds.verdict(), "", *table(columns, _rows(rounds, titles))]


def _rows(rounds: Rounds[Cell], titles: dict[str, str]) -> Iterator[list[str]]:
    for name, case in rounds.cells():
        cost, ratio = rounds.cost((name, case)), rounds.ratio((name, case))
        cheapest, least = f"{rounds.cheapest((name, case)):.2f}", f"{rounds.least((name, case)):.2f}"
        yield [titles[name], CASES[case], cost.ratio(), cheapest, ratio.ratio(), least]
