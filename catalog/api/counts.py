"""How many items a list has: which kind of number is wanted, how it is had, and what the answer says it is.

A count reads what it counts, so a list that nobody can see the end of need not have one. An estimate costs the same
whatever the length: up to `FAR` items are counted, beyond that PostgreSQL's planner guesses. Where it guesses fewer
than were counted, and on SQLite, which has no statistics of such a kind, there are so many at least.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import QuerySet

__all__ = ["AT_LEAST", "ESTIMATED", "EXACT", "FAR", "KINDS", "NONE", "Count", "counted", "kind_wanted"]

EXACT, ESTIMATED, NONE = KINDS = ("exact", "estimated", "none")
AT_LEAST = "at least"
FAR = 10_000
"""How many items an estimate counts before it begins to guess."""
DIGITS = 2
"""Digits of a guess that are worth showing."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of items, and what kind of number it is: exact, estimated, or at least so many."""

    number: int
    kind: str = EXACT

    @classmethod
    def of(cls, queryset: QuerySet[Any], wanted: str) -> Count | None:
        """Return the count of `queryset`, of the kind that is `wanted` or a better one; None where none is."""
        if wanted == NONE:
            return None
        return cls(queryset.count()) if wanted == EXACT else _estimate(queryset)

    def members(self, *, told: bool) -> dict[str, Any]:
        """Return the members that say it; what kind it is only where that is to be `told`."""
        return {"count": self.number} | ({"count_is": self.kind} if told else {})


def kind_wanted(parameters: Mapping[str, Any]) -> str:
    """Return the kind of count that these parameters ask for: by default, numbers have one and cursors have none."""
    numbered = not {"page", "limit", "offset"}.isdisjoint(parameters)
    kind: str = parameters.get("count") or (EXACT if numbered else NONE)
    return kind


def counted(parameters: Mapping[str, Any]) -> bool:
    """Say whether the answer reads all that there is, to count it."""
    return kind_wanted(parameters) == EXACT


def _estimate(queryset: QuerySet[Any]) -> Count:
    """Count as far as that is cheap, then guess, but never less than has been counted."""
    rows = queryset.order_by().select_related(None).prefetch_related(None)
    near = rows[: FAR + 1].count()
    if near <= FAR:
        return Count(near)
    planned = _planned(rows) if connections[rows.db].vendor == "postgresql" else 0
    return Count(_rounded(planned), ESTIMATED) if planned > FAR else Count(FAR, AT_LEAST)


def _planned(rows: QuerySet[Any]) -> int:
    """Return how many rows PostgreSQL's planner expects."""
    plan = json.loads(rows.explain(format="json"))[0]["Plan"]
    return int(plan["Plan Rows"])


def _rounded(number: int) -> int:
    return int(float(f"{number:.{DIGITS - 1}e}"))
