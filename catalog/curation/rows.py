"""How a change is saved: the columns that it changes, and no others."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

__all__ = ["save_changes"]


def save_changes(row: Model, **changes: Any) -> bool:
    """Set and save those fields of `row` that differ, with its `updated_at`; say whether any did."""
    differing = {name: value for name, value in changes.items() if getattr(row, name) != value}
    for name, value in differing.items():
        setattr(row, name, value)
    if differing:
        dated = {"updated_at"} & {field.name for field in row._meta.concrete_fields}
        row.save(update_fields={*differing, *dated})
    return bool(differing)
