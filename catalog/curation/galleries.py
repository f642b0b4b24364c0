"""What people do to galleries: create, change and delete one."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from catalog.curation.rows import delete_rows, save_changes
from catalog.curation.slugs import insert
from catalog.models import Gallery

__all__ = ["change_gallery", "create_gallery", "delete_gallery"]


@transaction.atomic
def create_gallery(*, owner: Any, slug: str, title: str, **fields: Any) -> Gallery:
    """Create an empty gallery of `owner`, without a cover, and return it. Raises `SlugTakenError`."""
    return insert(Gallery(owner=owner, slug=slug, title=title, **fields))


@transaction.atomic
def change_gallery(*, gallery: Gallery, **changes: Any) -> Gallery:
    """Set these fields, and return the gallery. Raises Django's `ValidationError` for a cover that is not in it."""
    cover = changes.get("cover")
    if cover is not None:
        Gallery(pk=gallery.pk, cover=cover).clean()
    save_changes(gallery, **changes)
    return gallery


@transaction.atomic
def delete_gallery(*, gallery: Gallery) -> None:
    """Delete the gallery with all its screenshots, by one statement for each table, however many rows there are.

    Their files stay in the storage, but are served to nobody.
    """
    delete_rows(Gallery.objects.filter(pk=gallery.pk))
