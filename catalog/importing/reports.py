"""What an import did: each outcome, each failure, and what they come to."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Failure", "Outcome", "Report"]


class Outcome(enum.Enum):
    """What a write did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was not imported: its place in the manifest, why, and how many pictures it stands for."""

    item: str
    reason: str
    pictures: int = 1
    is_cover: bool = False


@dataclass(slots=True)
class Report:
    """The result of an import: the number of pictures by outcome, and the failures."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, result: Outcome | Failure | None) -> None:
        """Count an outcome, or keep a failure; ignore None."""
        if isinstance(result, Failure):
            self.failures.append(result)
        elif result is not None:
            self.outcomes[result] += 1

    @property
    def failed(self) -> int:
        """The number of pictures that failed."""
        return sum(failure.pictures for failure in self.failures)

    @property
    def failed_covers(self) -> int:
        """The number of covers that failed."""
        return sum(failure.is_cover for failure in self.failures)

    def __str__(self) -> str:
        done = ", ".join(f"{self.outcomes[outcome]} {outcome.value}" for outcome in Outcome)
        return f"{done}, {self.failed} failed"
