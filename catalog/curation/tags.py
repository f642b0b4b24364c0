"""What people do to tags, and which words they mean."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction

from catalog.curation.rows import save_changes
from catalog.curation.slugs import insert
from catalog.models import Screenshot, Tag
from keybits.selections import hold

__all__ = ["change_tag", "create_tag", "delete_tag", "tag_kind", "tag_name", "tags_named"]

_KINDS = {
    **dict.fromkeys(("light", "dark"), Tag.Kind.SCHEME),
    **dict.fromkeys(("mobile", "tablet", "desktop"), Tag.Kind.DEVICE),
}


def tag_kind(*, slug: str) -> Tag.Kind:
    """Return what sort of word a tag is: a colour scheme, a device, or else a topic."""
    return _KINDS.get(slug, Tag.Kind.TOPIC)


def tag_name(*, slug: str) -> str:
    """Return a slug as people write it: "full-page" is "Full page", and one without words is itself."""
    words = slug.replace("-", " ").replace("_", " ").strip() or slug
    return words[:1].upper() + words[1:]


@transaction.atomic
def tags_named(*, slugs: Collection[str]) -> list[Tag]:
    """Return the tags with these slugs, those made that there were not: three statements at most, one mostly.

    Those that are made are words of the screenshots that get them: not offered, so that who sees no such screenshot
    never sees them.
    Where the database bounds the values of a statement, and there are more, each is several. A tag that is deleted
    after it was found is missed at COMMIT; one that is deleted before, as another is made, is made again.
    """
    found = Tag.objects.in_bulk(slugs, field_name="slug")
    while unknown := sorted(set(slugs) - set(found)):  # in one order: two writers do not wait for each other
        Tag.objects.bulk_create(map(_word, unknown), ignore_conflicts=True)
        found |= Tag.objects.in_bulk(unknown, field_name="slug")
    return list(found.values())


def _word(slug: str) -> Tag:
    if not slug:  # SQLite would ignore it for its constraint, again and again
        raise ValueError("A slug has one character at least.")
    return Tag(slug=slug, name=tag_name(slug=slug), kind=tag_kind(slug=slug), offered=False)


@transaction.atomic
def create_tag(*, slug: str, actor: Any = None, **fields: Any) -> Tag:
    """Make a tag on purpose, named after its slug unless told otherwise; raises `SlugTakenError`.

    A word that `actor` sees nowhere becomes that tag: that it is taken would tell that something private has it.
    """
    values = {"name": tag_name(slug=slug), "kind": tag_kind(slug=slug), **fields, "offered": True}
    word = Tag.objects.hidden_from(actor).select_for_update().filter(slug=slug).first()
    return insert(Tag(slug=slug, **values)) if word is None else change_tag(tag=word, **values)


@transaction.atomic
def change_tag(*, tag: Tag, **changes: Any) -> Tag:
    """Set these fields."""
    save_changes(tag, **changes)
    return tag


@transaction.atomic
def delete_tag(*, tag: Tag) -> None:
    """Delete the tag, and take it off every screenshot: those are locked first, as who changes their tags does."""
    pairs = Screenshot.tags.through.objects.filter(tag=tag)
    with hold(Screenshot.objects.filter(pk__in=pairs.values("screenshot"))):
        tag.delete()
