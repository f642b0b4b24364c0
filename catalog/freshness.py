"""Which scopes each change ends, and which scopes each representation is made from: the only list of both.

Two of the scopes are coarse on purpose: `galleries` and `tags` end with a change of *any* gallery's or tag's own
row, which is rare. They cover what representations show of rows that the request does not name. All others are as
fine as the filters: a change in one gallery does not make the pages of other galleries stale.

| scope | ends when |
| --- | --- |
| `galleries` | any gallery's own fields change |
| `tags` | any tag's own fields change |
| `screenshots` | any screenshot, its tags or its renditions change |
| `gallery:{slug}` | that gallery, or anything in it, changes |
| `tag:{slug}` | that tag, or any screenshot that has it (or had it), changes |
| `domain:{name}` | any screenshot of that domain changes |
| `screenshot:{id}` | that screenshot, its tags or its renditions change |

A takedown scope ends no further entry here. Its purge is hard (`keybits.delivery`): it removes answers from the caches
in front, where an ordinary purge only makes them revalidate:

| scope | ends when |
| --- | --- |
| `takedown:gallery/{slug}` | that gallery is deleted, or who may see it changes |
| `takedown:among/{slug}` | any screenshot leaves that gallery |
| `takedown:screenshot/{id}` | that screenshot is deleted, leaves its gallery, or loses a rendition |
"""

from __future__ import annotations

from keybits.invalidation import declare as _declare
from keybits.query import Query


def declare() -> None:
    """Declare to keybits which scopes each row is part of. Called once, when the models are loaded."""
    from catalog.models import Gallery, Rendition, Screenshot, Tag  # noqa: PLC0415 - the models must be loaded

    _declare(Gallery, "galleries", "gallery:{slug}", "takedown:gallery/{slug} on visibility, slug")
    _declare(Tag, "tags", "tag:{slug}")
    _declare(
        Screenshot,
        "screenshots",
        "screenshot:{id}",
        "gallery:{gallery__slug}",
        "domain:{domain}",
        "tag:{tags__slug}",
        "takedown:among/{gallery__slug} on gallery",
        "takedown:screenshot/{id} on gallery",
    )
    attached = (
        "screenshots",
        "screenshot:{screenshot_id}",
        "gallery:{screenshot__gallery__slug}",
        "domain:{screenshot__domain}",
        "tag:{screenshot__tags__slug}",
    )
    _declare(Rendition, *attached, "takedown:screenshot/{screenshot_id} on screenshot, format, sha256")
    _declare(Screenshot.tags.through, *attached, "tag:{tag__slug}")


def gallery_list() -> tuple[str, ...]:
    """Return the scopes of the list of galleries with their counts and covers."""
    return ("galleries", "screenshots")


def gallery(slug: str) -> tuple[str, ...]:
    """Return the scopes of one gallery with its count and its cover, which is one of its own screenshots."""
    return (f"gallery:{slug}",)


def screenshot_list(query: Query, gallery: str | None = None, tag: str | None = None) -> tuple[str, ...]:
    """Return the scopes of a list of screenshots: as narrow as the filters, or a gallery or tag in the address, allow.

    The scope of a single filter is enough: an item that enters or leaves the list was or is in that scope.
    """
    return (_narrowest(query, gallery, tag), "galleries", "tags")


NARROWING = ("gallery", "tag", "domain")
"""The filters that narrow a list to one scope, in which there may be nothing that the client can see."""


def _narrowest(query: Query, gallery: str | None, tag: str | None) -> str:
    gallery = gallery or query.get("gallery")
    if gallery:
        return f"gallery:{gallery}"
    tag = tag or next(iter(query.all("tag")), None)
    if tag:
        return f"tag:{tag}"
    domain = query.get("domain")
    return f"domain:{domain}" if domain else "screenshots"


def screenshot(id: str) -> tuple[str, ...]:
    """Return the scopes of one screenshot or its renditions; its gallery decides who may see it."""
    return (f"screenshot:{id}", "galleries", "tags")


def tag_list() -> tuple[str, ...]:
    """Return the scopes of the list of tags, with the numbers of screenshots that the client may see."""
    return ("tags", "screenshots", "galleries")


def tag(slug: str) -> tuple[str, ...]:
    """Return the scopes of one tag with its count."""
    return (f"tag:{slug}", "tags", "galleries")


ANY_TAKEDOWN = "takedown:*"
"""The takedown scope of answers that show rows of galleries which the request does not name."""


def gallery_takedown(slug: str) -> tuple[str, ...]:
    """Return the takedown scopes of a gallery's own pages: of the gallery, and of what they show."""
    return (f"takedown:gallery/{slug}", f"takedown:among/{slug}")


def screenshot_takedown(id: int, gallery: str) -> tuple[str, ...]:
    """Return the takedown scopes of one screenshot and its files."""
    return (f"takedown:screenshot/{id}", f"takedown:gallery/{gallery}")
