"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["table"]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table: the first column to the left, the others to the right."""
    rule = ["---", *("--:" for _ in columns[1:])]
    return [_line(columns), _line(rule), *map(_line, rows), ""]


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
