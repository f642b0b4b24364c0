"""The types of problems that docs/problems.md describes, and what it says that a problem of each has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "problems.md"
OF_THE_RFC = frozenset({"type", "title", "status", "detail"})
BLANK = "about:blank"


class Described(NamedTuple):
    """A row of a table: the type, the status, and the members beside those of RFC 9457."""

    type: str
    status: str
    members: frozenset[str]


def described() -> list[Described]:
    """Return the rows of all tables, in their order."""
    rows = re.findall(r"^\| `([\w:-]+)` \|(.+)\|$", DOCUMENT.read_text("utf-8"), re.M)
    cells = [(type, *rest.split("|")) for type, rest in rows]
    return [Described(row[0], row[1].strip(), frozenset(re.findall(r"`(.+?)`", row[-1]))) for row in cells]


TYPES = {(row.type, row.status): row for row in described()}


def demand_described(problem: dict[str, Any]) -> None:
    """Fail unless a problem has a type, status and members that are described together."""
    row = TYPES.get((problem["type"], str(problem["status"])))
    if row is None:
        assert problem["type"] == BLANK, problem
        assert problem.keys() <= OF_THE_RFC, problem
    else:
        assert problem.keys() - OF_THE_RFC <= row.members, problem
