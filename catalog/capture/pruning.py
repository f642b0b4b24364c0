"""Which stored files are removed: those that no row names, a day after they were stored.

An import stores files first and writes the rows that name them later. A file that is stored again counts as new.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils import timezone

from catalog.capture import storage
from catalog.models import Rendition, Screenshot
from keybits import replicas

__all__ = ["prune"]

_GRACE = timedelta(days=1)


def prune() -> int:
    """Remove the files that no row names, except those of the last day, and return their number.

    This includes temporary files that killed writes have left. Raises `storage.NoFolderError`.
    """
    before = timezone.now() - _GRACE
    with replicas.filling():
        return sum(_prune(digit, before) for digit in "0123456789abcdef")


def _prune(digit: str, before: datetime) -> int:
    """Prune a sixteenth of the files: the names of all may not fit in memory."""
    unnamed = set(storage.names(digit))  # before the rows are read, so that it has no file stored later
    unnamed.difference_update(_named(digit))
    return sum(storage.remove(name, before) for name in unnamed)


def _named(digit: str) -> Iterator[str]:
    renditions = Rendition.objects.filter(sha256__startswith=digit).order_by()
    for sha256, format in renditions.values_list("sha256", "format").iterator():
        yield storage.name(sha256, format)
    originals = Screenshot.objects.filter(sha256__startswith=digit).order_by()
    yield from map(storage.name_of_original, originals.values_list("sha256", flat=True).iterator())
