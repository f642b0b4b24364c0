"""How rows become what a manifest states: created, or changed where they differ, or left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import models, transaction

from catalog.capture import redrawing
from catalog.capture.redrawing import OvertakenError, StoredRendition
from catalog.curation.galleries import demand_owner
from catalog.curation.tags import tags_named
from catalog.importing.reports import Outcome
from catalog.models import Gallery, Rendition, Screenshot

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["differs", "put_cover", "put_gallery", "put_screenshot", "stored_renditions"]


@transaction.atomic
def put_gallery(*, slug: str, fields: Mapping[str, Any], owner: Any = None) -> tuple[Gallery, Outcome]:
    """Create the gallery with this slug, or update the fields that differ. Writes nothing if none differs.

    `owner` becomes its owner if it has none. Raises Django's `ValidationError` if it would be private and nobody's.
    """
    gallery = Gallery.objects.select_for_update(no_key=True).filter(slug=slug).first() or Gallery(slug=slug)
    owned = {"owner": owner} if owner is not None and gallery.owner_id is None else {}
    demand_owner(gallery=gallery, changes={**fields, **owned})
    return gallery, _save(gallery, _changes(gallery, {**fields, **owned}))


@transaction.atomic
def put_screenshot(
    *,
    gallery: Gallery,
    slug: str,
    fields: Mapping[str, Any],
    tags: Collection[str],
    renditions: Collection[StoredRendition] | None = None,
) -> Outcome:
    """Create the screenshot with this slug in this gallery, or update what differs. Writes nothing if nothing does.

    `fields` are attributes of `Screenshot`; `metadata` is merged into the present one. `tags` are the slugs of all its
    tags; those that do not exist are created. `renditions` are all its renditions; None leaves them alone. `updated_at`
    changes if any of these differs. Raises Django's `ValidationError`, and, without `renditions`, `OvertakenError` if
    the screenshot has no picture yet, or a different one than in `fields`.
    """
    Gallery.objects.select_for_update(no_key=True).get(pk=gallery.pk)  # serializes concurrent imports
    screenshot = _find(gallery, slug) or Screenshot(gallery=gallery, metadata={"slug": slug})
    if renditions is None and screenshot.sha256 != fields.get("sha256", screenshot.sha256):
        raise OvertakenError
    plan = _plan(screenshot, fields, tags, renditions)
    outcome = _save(screenshot, plan.changes, touch=plan.retag or plan.redraw)
    if plan.retag:
        screenshot.tags.set(tags_named(slugs=tags))
    if plan.redraw:
        redrawing.replace(screenshot=screenshot, renditions=renditions or ())
    return outcome


@transaction.atomic
def put_cover(*, gallery: Gallery, slug: str) -> Outcome:
    """Make the screenshot with this slug the gallery's cover. Raises `DoesNotExist` of either model."""
    gallery = Gallery.objects.select_for_update(no_key=True).get(pk=gallery.pk)
    cover = _find(gallery, slug)
    if cover is None:
        raise Screenshot.DoesNotExist
    return _save(gallery, {"cover_id": cover.pk} if gallery.cover_id != cover.pk else {})


def differs(
    screenshot: Screenshot,
    fields: Mapping[str, Any],
    tags: Collection[str],
    renditions: Collection[StoredRendition] | None,
) -> bool:
    """Return whether `put_screenshot` with these would write anything."""
    return any(_plan(screenshot, fields, tags, renditions))


class _Plan(NamedTuple):
    """The differences between a screenshot and what it should be."""

    changes: dict[str, Any]
    retag: bool
    redraw: bool


def _plan(
    screenshot: Screenshot,
    fields: Mapping[str, Any],
    tags: Collection[str],
    renditions: Collection[StoredRendition] | None,
) -> _Plan:
    metadata = {**screenshot.metadata, **fields.get("metadata", {})}
    return _Plan(
        changes=_changes(screenshot, {**fields, "metadata": metadata}),
        retag=_tags(screenshot) != set(tags),
        redraw=renditions is not None and stored_renditions(screenshot) != set(renditions),
    )


def _changes(instance: models.Model, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if getattr(instance, name) != value}


def _save(instance: models.Model, changes: Mapping[str, Any], *, touch: bool = False) -> Outcome:
    """Write only the changes. `touch` updates `updated_at` even if there are none."""
    created = instance._state.adding
    if not (created or changes or touch):
        return Outcome.UNCHANGED
    for name, value in changes.items():
        setattr(instance, name, value)
    instance.clean_fields(exclude={"gallery", "owner", "cover"})
    instance.save(update_fields=None if created else [*changes, "updated_at"])
    return Outcome.CREATED if created else Outcome.UPDATED


def _find(gallery: Gallery, slug: str) -> Screenshot | None:
    return Screenshot.objects.filter(gallery=gallery, metadata__slug=slug).order_by("pk").first()


def _tags(screenshot: Screenshot) -> set[str]:
    return set() if screenshot._state.adding else {tag.slug for tag in screenshot.tags.all()}


def stored_renditions(screenshot: Screenshot) -> set[StoredRendition]:
    """Return the screenshot's renditions by what they are; none of a new one."""
    return set() if screenshot._state.adding else {_row(row) for row in screenshot.renditions.all()}


def _row(rendition: Rendition) -> StoredRendition:
    return StoredRendition(
        rendition.width, rendition.height, rendition.format, rendition.bytes, rendition.sha256
    )
