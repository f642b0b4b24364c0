"""What people do to galleries: create, change and delete one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from catalog.curation.rows import delete_rows, save_changes
from catalog.curation.slugs import insert
from catalog.models import Gallery, Visibility

__all__ = ["change_gallery", "create_gallery", "delete_gallery", "demand_owner"]


@transaction.atomic
def create_gallery(*, owner: Any, slug: str, title: str, **fields: Any) -> Gallery:
    """Create an empty gallery of `owner`, without a cover, and return it.

    Raises `SlugTakenError`, and Django's `ValidationError` for a private gallery without an owner.
    """
    demand_owner(gallery=Gallery(), changes={"owner": owner, **fields})
    return insert(Gallery(owner=owner, slug=slug, title=title, **fields))


@transaction.atomic
def change_gallery(*, gallery: Gallery, **changes: Any) -> Gallery:
    """Set these fields, and return the gallery.

    Raises Django's `ValidationError` for a cover that is not in it, and where it would be private without an owner.
    """
    demand_owner(gallery=gallery, changes=changes)
    cover = changes.get("cover")
    if cover is not None:
        Gallery(pk=gallery.pk, cover=cover).clean()
    save_changes(gallery, **changes)
    return gallery


def demand_owner(*, gallery: Gallery, changes: Mapping[str, Any]) -> None:
    """Raise Django's `ValidationError` where these changes would make the gallery private and nobody's.

    One that is so already may stay so: its owner may have gone.
    """
    visibility, owner = changes.get("visibility", gallery.visibility), changes.get("owner", gallery.owner_id)
    was_nobodys = gallery.visibility == Visibility.PRIVATE and gallery.owner_id is None
    if visibility == Visibility.PRIVATE and owner is None and not was_nobodys:
        raise ValidationError({"visibility": "A private gallery needs an owner: nobody else would see it."})


@transaction.atomic
def delete_gallery(*, gallery: Gallery) -> None:
    """Delete the gallery with all its screenshots, by one statement for each table, however many rows there are.

    Their files stay until they are pruned, but are served to nobody.
    """
    delete_rows(Gallery.objects.filter(pk=gallery.pk))
