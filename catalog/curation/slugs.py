"""How a row with a unique slug is inserted, and how a taken slug is reported, also when inserted concurrently."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import IntegrityError, models, transaction

__all__ = ["SlugTakenError", "insert"]

Row = TypeVar("Row", bound=models.Model)


class SlugTakenError(ValueError):
    """Another row has this slug."""


def insert(row: Row) -> Row:
    """Save and return a new row. Raises `SlugTakenError` where its slug is taken; the transaction remains usable."""
    rows: Any = type(row)._base_manager
    slug = getattr(row, "slug", "")
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        if rows.filter(slug=slug).exists():
            raise SlugTakenError(f"The slug {slug!r} is taken.") from None
        raise
    return row
