"""What was promised of reads, each bar with what was measured and by how much it is met or missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.harness.rounds import Rounds
from benchmarks.harness.tables import table
from benchmarks.round_trips import Trips
from benchmarks.server_cpu import Cell
from benchmarks.stampede import Stampede

__all__ = ["BARS", "Bar", "Measured", "judged"]


@dataclass
class Measured:
    """What the questions found out; None where one was not asked."""

    server: Rounds[Cell] | None = None
    direct: Rounds[Cell] | None = None
    trips: dict[Cell, Trips] = field(default_factory=dict)
    storms: dict[str, Stampede] = field(default_factory=dict)

    def is_quiet(self) -> bool:
        return all(rounds.is_quiet() for rounds in (self.server, self.direct) if rounds is not None)


Figure = Callable[[Measured], tuple[float, float | None]]
"""A figure, and that of the cheapest turns where it is one of turns."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise: `figure` is at most `limit`, or at least, or exactly that."""

    words: str
    sign: str
    limit: float
    figure: Figure
    needs: tuple[Cell, ...]

    def holds(self, value: float) -> bool:
        if self.sign == "=":
            return abs(value - self.limit) < 0.05
        return value <= self.limit if self.sign == "<=" else value >= self.limit

    def margin(self, value: float) -> str:
        """Say by how much, as a part of the limit."""
        if self.sign == "=":
            return "met" if self.holds(value) else f"**missed** by {abs(value - self.limit):.2f}"
        word = "met" if self.holds(value) else "**missed**"
        return f"{word} by {abs(value - self.limit) / self.limit:.0%}"


def _ratio(cell: Cell, to: Cell | None = None) -> Figure:
    return lambda measured: _ratios(_of(measured.server), cell, to)


def _cost(cell: Cell) -> Figure:
    return lambda measured: (_of(measured.direct).cost(cell).median, _of(measured.direct).cheapest(cell))


def _direct_ratio(cell: Cell, to: Cell) -> Figure:
    return lambda measured: _ratios(_of(measured.direct), cell, to)


def _ratios(rounds: Rounds[Cell], cell: Cell, to: Cell | None) -> tuple[float, float]:
    return rounds.ratio(cell, to).median, rounds.least(cell, to)


def _trips(cell: Cell) -> Figure:
    return lambda measured: (measured.trips[cell].trips, None)


def _often(key: str) -> Figure:
    return lambda measured: (measured.storms[key].most(), None)


def _wait(key: str) -> Figure:
    return lambda measured: (measured.storms[key].wait(), None)


def _of(rounds: Rounds[Cell] | None) -> Rounds[Cell]:
    if rounds is None:
        raise KeyError("not asked")
    return rounds


def _bars() -> Iterator[Bar]:
    for case, said in (("200", "a hit"), ("304", "a 304")):
        lmdb, near = ("fast-lmdb", case), ("fast-near", case)
        yield Bar(f"{said} with LMDB, of a bare Django view", "<=", 0.35, _ratio(lmdb), (lmdb,))
        yield Bar(f"{said} with LMDB, in-process, us", "<=", 8, _cost(lmdb), (lmdb,))
        for strict, way in ((("fast-redis", case), ""), (("fast-redis-local", case), " by a Unix socket")):
            words = f"{said} with Redis strict{way}"
            yield Bar(f"{words}, of a bare Django view", "<=", 0.5, _ratio(strict), (strict,))
            yield Bar(f"{words}, round trips", "=", 1, _trips(strict), (strict,))
        yield Bar(f"{said} with Redis near, of a bare Django view", "<=", 0.35, _ratio(near), (near,))
        for key in ("lmdb", "redis", "redis-local"):
            mixin = (f"mixin-{key}", case)
            words = f"{said} by the mixin alone, {key}, of a bare Django view"
            yield Bar(words, "<=", 3.2, _ratio(mixin), (mixin,))
    yield from _beside_others()
    yield from _in_a_storm()


def _beside_others() -> Iterator[Bar]:
    for case, said, limit in (("200", "a hit", 60), ("304", "a 304", 40)):
        theirs, mine = ("drf-extensions", case), ("fast-lmdb", case)
        words = f"{said} of drf-extensions as documented, of one of ours with LMDB"
        yield Bar(words, ">=", limit, _ratio(theirs, mine), (theirs, mine))
    for key in ("fast-lmdb", "mixin-lmdb"):
        mine, plain = (key, "miss"), ("plain", "200")
        words = f"a miss, {key}, of the plain REST framework list"
        yield Bar(words, "<=", 0.25, _ratio(mine, plain), (mine, plain))
        yield Bar(f"{words}, in-process", "<=", 0.25, _direct_ratio(mine, plain), (mine, plain))


def _in_a_storm() -> Iterator[Bar]:
    for key in ("fast-lmdb", "fast-redis", "fast-near"):
        cell = (key, "miss")
        yield Bar(f"a cold list that 500 ask for at once, {key}, computed", "=", 1, _often(key), (cell,))
        yield Bar(
            f"a cold list that 500 ask for at once, {key}, p99 in single misses", "<=", 3, _wait(key), (cell,)
        )


BARS = tuple(_bars())


def judged(measured: Measured) -> list[str]:
    """Return every bar in a table; a verdict reached in too much noise is said to be none."""
    columns = ["bar", "promised", "measured", "verdict", "of the cheapest turns", "verdict"]
    doubt = [] if measured.is_quiet() else ["**The machine was too noisy: take none of these verdicts.**", ""]
    return [*doubt, *table(columns, (_row(bar, measured) for bar in BARS))]


def _row(bar: Bar, measured: Measured) -> list[str]:
    promised = {"<=": "at most", ">=": "at least", "=": "exactly"}[bar.sign] + f" {bar.limit:g}"
    try:
        value, least = bar.figure(measured)
    except KeyError:
        return [bar.words, promised, "", "not measured", "", ""]
    cheapest = ["", ""] if least is None else [f"{least:.2f}", bar.margin(least)]
    return [bar.words, promised, f"{value:.2f}", bar.margin(value), *cheapest]
