"""What people do to screenshots: create, change and delete one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction

from catalog.curation.rows import save_changes
from catalog.curation.tags import tags_named
from catalog.models import Gallery, Screenshot, State

__all__ = ["change_screenshot", "create_screenshot", "delete_screenshot"]


@transaction.atomic
def create_screenshot(
    *, gallery: Gallery, source_url: str, title: str, tags: Collection[str] = (), **fields: Any
) -> Screenshot:
    """Create a screenshot without a picture, pending until a capture takes one, and return it.

    `tags` are slugs; unknown ones become tags.
    """
    values = {"gallery": gallery, "source_url": source_url, "title": title, "state": State.PENDING}
    screenshot = Screenshot.objects.create(**values, **fields)
    if tags:
        screenshot.tags.set(tags_named(slugs=tags))
    return screenshot


@transaction.atomic
def change_screenshot(
    *, screenshot: Screenshot, tags: Collection[str] | None = None, **changes: Any
) -> Screenshot:
    """Set these fields, and where `tags` (slugs) are given, replace the set of tags; return the screenshot.

    A screenshot that leaves a gallery is no longer its cover.
    """
    retagged = tags is not None and set(tags) != {tag.slug for tag in screenshot.tags.all()}
    if retagged:
        screenshot.tags.set(tags_named(slugs=tags or ()))
    saved = save_changes(screenshot, **changes)
    if retagged and not saved:
        screenshot.save(update_fields=["updated_at"])
    if "gallery" in changes:
        Gallery.objects.filter(cover=screenshot).exclude(pk=screenshot.gallery_id).update(cover=None)
    return screenshot


@transaction.atomic
def delete_screenshot(*, screenshot: Screenshot) -> None:
    """Delete the screenshot with its renditions. Their files stay until they are pruned, but are served to nobody."""
    screenshot.delete()
