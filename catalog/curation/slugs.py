"""That a slug belongs to one row: what an insert does whose slug somebody else has, a moment ago or long since."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import IntegrityError, models, transaction

__all__ = ["SlugTakenError", "insert"]

Row = TypeVar("Row", bound=models.Model)


class SlugTakenError(ValueError):
    """There is one with this slug."""


def insert(row: Row) -> Row:
    """Save a new row; raise `SlugTakenError` where its slug is taken. The transaction around it goes on."""
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
