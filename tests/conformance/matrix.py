"""What a row is, what its cells can hold, and how the table is written down.

A row is a function with a docstring that begins with its clause and a full stop. It returns where the column
passes, and raises `Seen` where it does not, or `NotApplicableError` where the column has no such feature at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from conformance.columns import COLUMNS, Column

__all__ = [
    "DOCUMENT",
    "Cell",
    "NotApplicableError",
    "Row",
    "Seen",
    "absent",
    "expect",
    "measured",
    "row",
    "rows",
    "written",
]

Check = Callable[[Column], None]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
PASS = "pass"


class Seen(AssertionError):  # noqa: N818 - what was seen instead; it is no fault of the test
    """The column does not pass; the message says what was seen, the same in every run."""


class NotApplicableError(Exception):
    """The column has no such feature; the message says which."""


@dataclass(frozen=True)
class Cell:
    """What one column did about one row."""

    passed: bool | None
    """None where the row does not apply."""
    said: str = ""

    def __str__(self) -> str:
        if self.passed is None:
            return f"n/a: {self.said}"
        return PASS if self.passed else f"**fail**: {self.said}"


@dataclass(frozen=True)
class Row:
    """One check, under its section."""

    section: str
    check: Check

    @property
    def text(self) -> str:
        return " ".join(inspect.getdoc(self.check).split())  # type: ignore[union-attr]

    @property
    def name(self) -> str:
        return self.check.__name__

    def of(self, column: Column) -> Cell:
        """Measure the row in one column."""
        try:
            self.check(column)
        except NotApplicableError as reason:
            return Cell(None, str(reason))
        except Seen as seen:
            return Cell(False, str(seen))
        return Cell(True)


_ROWS: list[Row] = []


def row(section: str) -> Callable[[Check], Check]:
    """Add a check to the matrix, in its section, after those already there."""

    def add(check: Check) -> Check:
        _ROWS.append(Row(section, check))
        return check

    return add


def rows() -> list[Row]:
    """Return all rows, in the order of the document."""
    from conformance.rows import SECTIONS  # noqa: PLC0415 - it registers the rows, and needs `row`

    return sorted(_ROWS, key=lambda one: SECTIONS.index(one.section))


def expect(holds: object, seen: object) -> None:
    """Go on where it holds; else the cell says what was seen."""
    if not holds:
        raise Seen(str(seen))


def absent(missing: object, feature: str) -> None:
    """Go on where there is something to measure; else the column has no such feature."""
    if missing:
        raise NotApplicableError(feature)


def measured(column: Column) -> dict[str, Cell]:
    """Return the cell of each row."""
    return {one.name: one.of(column) for one in rows()}


# --- The document -------------------------------------------------------------------------------------------

HEADING = """\
# Conformance

What each clause asks for and each known attack tries, measured over sockets against running servers: written by
`python tests/conformance`, and held to what is measured by `tests/conformance/test_conformance.py`, which also
fails where a cell of ours does. A row is one function in `tests/conformance/rows/`, run alike against every column.

*fail* says what was seen instead; *n/a* that the column has no such feature at all, which no clause obliges it to.
All serve the same rows from SQLite, by one process of granian over WSGI. Ours is measured over ASGI, and with
PostgreSQL and Redis, by the test alone.
"""


def written(cells: dict[str, dict[str, Cell]]) -> str:
    """Return the page: by column, then by row."""
    parts = [HEADING, *_columns(), "", *_summary(cells)]
    for section in dict.fromkeys(one.section for one in rows()):
        parts += ["", f"## {section}", "", *_table(section, cells)]
    return "\n".join(parts) + "\n"


def _columns() -> Iterable[str]:
    for column in COLUMNS:
        yield from wrap(f"- **{column.name}**: {column.described}.", 118, subsequent_indent="  ")


def _summary(cells: dict[str, dict[str, Cell]]) -> list[str]:
    lines = [f"| of {len(rows())} rows | pass | fail | n/a |", "| --- | --- | --- | --- |"]
    for name, found in cells.items():
        counts = [sum(cell.passed is kind for cell in found.values()) for kind in (True, False, None)]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return lines


def _table(section: str, cells: dict[str, dict[str, Cell]]) -> list[str]:
    head = [f"| | {' | '.join(cells)} |", "| --- |" + " --- |" * len(cells)]
    lines = [
        f"| {_escaped(one.text)} | {' | '.join(_escaped(str(found[one.name])) for found in cells.values())} |"
        for one in rows()
        if one.section == section
    ]
    return head + lines


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
