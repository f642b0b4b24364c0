"""What can be asked of a run, and how little of it is a smoke test."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """`budget` is the CPU, in seconds, that one turn is to take; `count` fixes its requests instead."""

    rounds: int = 15
    budget: float = 0.25
    count: int = 0
    connections: int = 8
    idle: float = 2.0
    seconds: float = 3.0
    trips: int = 500
    screenshots: int = 5_000
    requests: int = 500
    urls: int = 1_000_000
    asked: int = 5_000

    def quick(self) -> Options:
        """Return a run that proves that everything works, and measures nothing."""
        return replace(
            self,
            rounds=2,
            count=10,
            idle=0.1,
            seconds=0.3,
            trips=10,
            screenshots=300,
            requests=20,
            urls=200,
            asked=20,
        )

    def counted(self, one: float) -> int:
        """Return how many requests a turn has, when one costs so many seconds of CPU."""
        return self.count or max(20, min(20_000, round(self.budget / max(one, 1e-6))))
