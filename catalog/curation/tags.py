"""What people do to tags, and how slugs become tags."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import uuid4

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
    """Return the kind of the tag with this slug: a colour scheme, a device, or otherwise a topic."""
    return _KINDS.get(slug, Tag.Kind.TOPIC)


def tag_name(*, slug: str) -> str:
    """Return a slug as people would write it: "Full page" for "full-page". A slug of dashes alone stays as it is."""
    words = slug.replace("-", " ").replace("_", " ").strip() or slug
    return words[:1].upper() + words[1:]


@transaction.atomic
def tags_named(*, slugs: Collection[str]) -> list[Tag]:
    """Return the tags with these slugs, creating those that do not exist: three statements at most, usually one.

    Created tags are words of the screenshots that get them. They are not offered, so nobody sees them who sees no such
    screenshot. Each statement becomes several where the database bounds its values and there are more. A tag that is
    deleted concurrently after it was found fails the COMMIT; one that is deleted while others are created is created
    again.
    """
    found = Tag.objects.in_bulk(slugs, field_name="slug")
    while unknown := sorted(set(slugs) - set(found)):  # in one order, so that two writers do not deadlock
        Tag.objects.bulk_create(map(_word, unknown), ignore_conflicts=True)
        found |= Tag.objects.in_bulk(unknown, field_name="slug")
    return list(found.values())


def _word(slug: str) -> Tag:
    if not slug:  # SQLite would ignore the row for its constraint, and the loop would not end
        raise ValueError("A slug has at least one character.")
    return Tag(slug=slug, name=tag_name(slug=slug), kind=tag_kind(slug=slug), offered=False)


@transaction.atomic
def create_tag(*, slug: str, actor: Any = None, **fields: Any) -> Tag:
    """Create an offered tag, named after its slug unless `name` is given, and return it. Raises `SlugTakenError`.

    If there is one that `actor` cannot see, the new tag takes its place: to refuse its slug, or to show the id that it
    has had for longer, would reveal that something private has it.
    """
    values = {"name": tag_name(slug=slug), "kind": tag_kind(slug=slug), **fields, "offered": True}
    hidden = Tag.objects.hidden_from(actor).filter(slug=slug)
    if not hidden.exists():
        return insert(Tag(slug=slug, **values))
    with hold(Screenshot.objects.filter(pk__in=_pairs(hidden).values("screenshot"))):
        word = hidden.select_for_update().first()
        return insert(Tag(slug=slug, **values)) if word is None else _replaced(word, **values)


def _pairs(tags: Any) -> Any:
    return Screenshot.tags.through.objects.filter(tag__in=tags.values("pk"))


def _replaced(word: Tag, **values: Any) -> Tag:
    """Give the slug and the screenshots of `word`, which is locked, to a new tag, and return that."""
    rows = Tag.objects.filter(pk=word.pk)
    rows.update(slug=uuid4().hex)
    made = insert(Tag(slug=word.slug, **values))
    _pairs(rows).update(tag=made)
    rows._raw_delete(rows.db)  # leaves no tombstone: nobody has seen it go
    return made


@transaction.atomic
def change_tag(*, tag: Tag, **changes: Any) -> Tag:
    """Set these fields, and return the tag."""
    save_changes(tag, **changes)
    return tag


@transaction.atomic
def delete_tag(*, tag: Tag) -> None:
    """Delete the tag and remove it from its screenshots, which are locked first, as every change of their tags does."""
    tagged = _pairs(Tag.objects.filter(pk=tag.pk)).values("screenshot")
    with hold(Screenshot.objects.filter(pk__in=tagged)):
        tag.delete()
