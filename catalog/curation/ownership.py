"""Who owns what: a gallery and all that is in it belong to its owner, a tag to everybody. Staff may change all."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, Q

from catalog.models import Gallery, Screenshot

__all__ = ["changeable", "may_change"]


def may_change(actor: Any, thing: Gallery | Screenshot | Any) -> bool:
    """Return whether `actor` may change or delete `thing`: a gallery, a screenshot, or (only staff may) a tag."""
    if actor.is_staff:
        return True
    gallery = thing.gallery if isinstance(thing, Screenshot) else thing
    return isinstance(gallery, Gallery) and gallery.owner_id is not None and gallery.owner_id == actor.pk


def changeable(*, model: type[Model], actor: Any) -> Q:
    """Return the condition of the rows of `model` that `actor` may change, by the rules of `may_change`.

    It needs no join, so PostgreSQL evaluates it again for a row whose lock it had to wait for.
    """
    if actor.is_staff:
        return Q(pk__isnull=False)
    own = Q(owner=actor.pk) if actor.pk is not None else Q(pk__in=[])
    if model is Screenshot:
        return Q(gallery__in=Gallery.objects.filter(own).order_by().values("pk"))
    return own if model is Gallery else Q(pk__isnull=True)
