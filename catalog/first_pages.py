"""The pages to warm although nobody may have requested them yet: entry points, and what is new.

Only pages that everybody may see, as `catalog.models` decides.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Exists, OuterRef
from django.urls import reverse

from catalog.models import Gallery, Screenshot, State, Tag

__all__ = ["MOST", "urls"]

MOST = 50
"""The most rows of each kind whose pages are listed."""
LISTS = ("api-root", "schema", "gallery-list", "screenshot-list", "tag-list")


def urls() -> Iterator[str]:
    """Yield the paths, the most important first. Three queries, each with a limit."""
    yield from map(reverse, LISTS)
    for slug in _galleries():
        yield reverse("gallery-detail", args=[slug])
        yield reverse("gallery-screenshot-list", args=[slug])
    for key in _screenshots():
        yield reverse("screenshot-detail", args=[key])
    for slug in _tags():
        yield reverse("tag-detail", args=[slug])
        yield reverse("tag-screenshot-list", args=[slug])


def _galleries() -> Iterator[str]:
    """Yield the slugs of the public galleries that changed last."""
    listed = Gallery.objects.listed_for(None).order_by("-updated_at", "-id")
    return listed.values_list("slug", flat=True)[:MOST].iterator()


def _screenshots() -> Iterator[int]:
    """Yield the ids of the newest screenshots of public galleries. EXISTS, not a join: that uses the capture index."""
    listed = Gallery.objects.listed_for(None).filter(pk=OuterRef("gallery"))
    shown = Screenshot.objects.filter(Exists(listed)).exclude(state=State.PENDING)
    return shown.order_by("-captured_at", "-id").values_list("pk", flat=True)[:MOST].iterator()


def _tags() -> Iterator[str]:
    """Yield the slugs of the tags on the first pages of the list."""
    return Tag.objects.listed_for(None).values_list("slug", flat=True)[:MOST].iterator()
