"""How many items a list has: which kind of count is wanted, how it is obtained, and what the answer calls it.

An exact count reads all that it counts, so a very long list need not have one. The cost of an estimate is bounded: up
to `FAR` items are counted; beyond, PostgreSQL's planner estimates. Where it estimates fewer than were counted, and on
SQLite, which has no such statistics, the answer is "at least" that many.
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
"""The number of items up to which an estimate is exact."""
DIGITS = 2
"""Significant digits of an estimate that are shown."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of items, and its kind: exact, estimated, or at least."""

    number: int
    kind: str = EXACT

    @classmethod
    def of(cls, queryset: QuerySet[Any], wanted: str) -> Count | None:
        """Return the count of `queryset`, of the kind `wanted` or a better one; None where `wanted` is none."""
        if wanted == NONE:
            return None
        return cls(queryset.count()) if wanted == EXACT else _estimate(queryset)

    def members(self, *, told: bool) -> dict[str, Any]:
        """Return the members `count` and, where `told`, `count_is`."""
        return {"count": self.number} | ({"count_is": self.kind} if told else {})


def kind_wanted(parameters: Mapping[str, Any]) -> str:
    """Return the kind of count that these parameters ask for: by default exact for pages and offsets, else none."""
    numbered = not {"page", "limit", "offset"}.isdisjoint(parameters)
    kind: str = parameters.get("count") or (EXACT if numbered else NONE)
    return kind


def counted(parameters: Mapping[str, Any]) -> bool:
    """Return whether the answer has an exact count, for which all items are read."""
    return kind_wanted(parameters) == EXACT


def _estimate(queryset: QuerySet[Any]) -> Count:
    """Count up to `FAR` items, then estimate, but never fewer than were counted."""
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
