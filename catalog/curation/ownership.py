"""Whose is what: a gallery and all that is in it its owner's, a tag everybody's. Staff may change all of it."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from catalog.models import Gallery, Screenshot

__all__ = ["changeable_by", "may_change"]


def may_change(actor: Any, thing: Gallery | Screenshot | Any) -> bool:
    """Say whether `actor` may change or delete `thing`, a gallery, a screenshot or (staff alone) a tag."""
    if actor.is_staff:
        return True
    gallery = thing.gallery if isinstance(thing, Screenshot) else thing
    return isinstance(gallery, Gallery) and gallery.owner_id is not None and gallery.owner_id == actor.pk


def changeable_by(actor: Any, path: str = "") -> Q:
    """Return the condition that `path` (the way to the gallery, such as `gallery__`, or "") may be changed."""
    if actor.is_staff:
        return Q()
    return Q(**{f"{path}owner": actor.pk}) if actor.pk is not None else Q(pk__in=[])
