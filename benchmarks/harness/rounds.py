"""What a figure is: a median over short rounds in which everybody takes a turn, and a ratio within one round.

The reference takes two turns a round: how far those are apart is what the machine's noise does to a ratio. Beside it
stands the ratio of the least that either has cost in any round: what else the machine does makes a turn dearer, and
never cheaper, so that this holds still where the median does not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from benchmarks.harness.cases import said, until_right

__all__ = ["CONTROL", "Rounds", "Spread"]

Cell = TypeVar("Cell", bound=Hashable)
CONTROL = "again"
"""The key of the reference's second turn."""
FEWEST = 5
"""Rounds below which a spread says nothing, however narrow it looks."""
TOO_NOISY = "**too noisy, or asked too rarely: nothing can be concluded from these figures**"
BIAS, WIDTH = 0.05, 0.15
"""The control's median may be so far from 1, and its quartiles so far apart, before nothing is concluded."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median and the quartiles of something."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def ratio(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass
class Rounds(Generic[Cell]):
    """What each cell cost in each round, and why turns were thrown away."""

    reference: Cell
    control: Cell
    costs: dict[Cell, list[float]] = field(default_factory=dict)
    thrown_away: list[str] = field(default_factory=list)

    def run(self, cells: Sequence[Cell], turn: Callable[[Cell], float], rounds: int) -> None:
        """Have every cell take a turn in each round, back and forth, so that a trend cancels out."""
        for number in range(rounds):
            for cell in cells if number % 2 == 0 else reversed(cells):
                self.costs.setdefault(cell, []).append(until_right(partial(turn, cell), self.thrown_away))

    def cells(self) -> Iterator[Cell]:
        return iter(self.costs)

    def cost(self, cell: Cell) -> Spread:
        return Spread.of(self.costs[cell])

    def cheapest(self, cell: Cell) -> float:
        """Return the least that the cell has cost in any round."""
        return min(self.costs[cell])

    def ratio(self, cell: Cell, to: Cell | None = None) -> Spread:
        """Return the spread of the ratios within each round, to the reference where nobody else is named."""
        others = self.costs[self.reference if to is None else to]
        return Spread.of(
            [mine / max(other, 1e-9) for mine, other in zip(self.costs[cell], others, strict=True)]
        )

    def least(self, cell: Cell, to: Cell | None = None) -> float:
        """Return the ratio of the cheapest turns of all rounds, to the reference's where nobody else is named."""
        return self.cheapest(cell) / max(self.cheapest(self.reference if to is None else to), 1e-9)

    def noise(self) -> Spread:
        """Return the spread of the reference's ratio to itself."""
        return self.ratio(self.control)

    def is_quiet(self) -> bool:
        noise = self.noise()
        if len(self.costs[self.reference]) < FEWEST:
            return False
        return abs(noise.median - 1) <= BIAS and noise.high - noise.low <= WIDTH

    def verdict(self) -> str:
        """Say in one line whether the machine was quiet enough to conclude from these rounds."""
        quiet = "quiet enough" if self.is_quiet() else TOO_NOISY
        cheapest = f"of the cheapest turns {self.least(self.control):.2f}"
        return (
            f"The reference against itself: {self.noise().ratio()}, {cheapest}; the machine was {quiet}. "
            f"{said(self.thrown_away)}"
        )
