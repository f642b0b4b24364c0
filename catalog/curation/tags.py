"""What people do to tags, and which words they mean."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction

from catalog.curation.rows import save_changes
from catalog.curation.slugs import insert
from catalog.models import Tag

__all__ = ["change_tag", "create_tag", "delete_tag", "tag_kind", "tag_name", "tags_named"]

_KINDS = {
    **dict.fromkeys(("light", "dark"), Tag.Kind.SCHEME),
    **dict.fromkeys(("mobile", "tablet", "desktop"), Tag.Kind.DEVICE),
}


def tag_kind(*, slug: str) -> Tag.Kind:
    """Return what sort of word a tag is: a colour scheme, a device, or else a topic."""
    return _KINDS.get(slug, Tag.Kind.TOPIC)


def tag_name(*, slug: str) -> str:
    """Return a slug as people write it: "full-page" is "Full page"."""
    words = slug.replace("-", " ").replace("_", " ").strip()
    return words[:1].upper() + words[1:]


@transaction.atomic
def tags_named(*, slugs: Collection[str]) -> list[Tag]:
    """Return the tags with these slugs, those made that there were not: three statements at most, one mostly.

    Where the database bounds the values of a statement, and there are more, each is several.
    """
    found = Tag.objects.in_bulk(slugs, field_name="slug")
    unknown = sorted(set(slugs) - set(found))  # in one order, so that two writers do not wait for each other
    if not unknown:
        return list(found.values())
    made = [Tag(slug=slug, name=tag_name(slug=slug), kind=tag_kind(slug=slug)) for slug in unknown]
    Tag.objects.bulk_create(made, ignore_conflicts=True)
    return list(Tag.objects.in_bulk(slugs, field_name="slug").values())


@transaction.atomic
def create_tag(*, slug: str, **fields: Any) -> Tag:
    """Make a tag, named after its slug unless told otherwise; raises `SlugTakenError`."""
    named = {"name": tag_name(slug=slug), "kind": tag_kind(slug=slug)}
    return insert(Tag(slug=slug, **{**named, **fields}))


@transaction.atomic
def change_tag(*, tag: Tag, **changes: Any) -> Tag:
    """Set these fields."""
    save_changes(tag, **changes)
    return tag


@transaction.atomic
def delete_tag(*, tag: Tag) -> None:
    """Delete the tag, and take it off every screenshot."""
    tag.delete()
