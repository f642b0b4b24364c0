"""How a change is saved (only the columns that it changes), and how rows are deleted with what cascades."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, QuerySet

from keybits import cascades
from keybits.selections import hold

__all__ = ["delete_rows", "save_changes"]


def save_changes(row: Model, **changes: Any) -> bool:
    """Set and save those fields of `row` that differ, with its `updated_at`; return whether any did."""
    differing = {name: value for name, value in changes.items() if getattr(row, name) != value}
    for name, value in differing.items():
        setattr(row, name, value)
    if differing:
        dated = {"updated_at"} & {field.name for field in row._meta.concrete_fields}
        row.save(update_fields={*differing, *dated})
    return bool(differing)


def delete_rows(rows: QuerySet[Any]) -> int:
    """Delete `rows` with what cascades, by one statement for each table, and return how many there were.

    No row is loaded into Python. Call it in a transaction.
    """
    with hold(rows) as selection:
        cascades.delete(selection.rows)
        return selection.count
