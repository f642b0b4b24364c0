"""Replace renditions by new ones, encoded from the original if that is stored; files are stored before rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from catalog.capture import images, storage
from catalog.models import Rendition, Screenshot

__all__ = ["OriginalMissingError", "OvertakenError", "StoredRendition", "keep", "redraw", "replace"]


class OriginalMissingError(LookupError):
    """The original picture is not stored, so renditions cannot be made from it."""

    def __init__(self) -> None:
        super().__init__("Its original picture is not kept; import it again.")


class OvertakenError(RuntimeError):
    """The screenshot was deleted, or got another picture, while its picture was being encoded."""

    def __init__(self) -> None:
        super().__init__("It has been deleted, or has another picture by now.")


class StoredRendition(NamedTuple):
    """A rendition whose bytes are stored: its size in pixels, `Rendition.Format`, length in bytes, and sha256."""

    width: int
    height: int
    format: str
    bytes: int
    sha256: str


def keep(rendition: images.Encoded) -> StoredRendition:
    """Store a rendition's bytes, and return its description."""
    sha256 = storage.store(rendition.data, rendition.format)
    return StoredRendition(rendition.width, rendition.height, rendition.format, len(rendition.data), sha256)


@transaction.atomic
def replace(*, screenshot: Screenshot, renditions: Iterable[StoredRendition]) -> None:
    """Replace the rows of the screenshot's renditions. The files of the old ones stay until they are pruned."""
    screenshot.renditions.all().delete()
    Rendition.objects.bulk_create(Rendition(screenshot=screenshot, **row._asdict()) for row in renditions)


def redraw(*, screenshot: Screenshot) -> int:
    """Encode the screenshot's renditions again, and return how many there are now. No lock is held while encoding.

    Raises `OriginalMissingError`, `images.ImageError` for an original that is not a picture, and `OvertakenError`.
    """
    made = [keep(rendition) for rendition in images.renditions(_original(screenshot))]
    with transaction.atomic():
        _hold(screenshot)
        replace(screenshot=screenshot, renditions=made)
        Screenshot.objects.filter(pk=screenshot.pk).update(updated_at=timezone.now())
    return len(made)


def _hold(screenshot: Screenshot) -> None:
    """Lock the row. Raise `OvertakenError` if its picture is no longer that of `screenshot`."""
    same = Screenshot.objects.filter(pk=screenshot.pk, sha256=screenshot.sha256)
    if not list(same.select_for_update(no_key=True).values_list("pk")):
        raise OvertakenError


def _original(screenshot: Screenshot) -> bytes:
    if not (screenshot.sha256 and storage.has_original(screenshot.sha256)):
        raise OriginalMissingError
    return storage.original(screenshot.sha256)
