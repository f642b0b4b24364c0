"""The one list of what each change makes stale, and of what each representation is made from.

Two of the scopes are coarse on purpose: `galleries` and `tags` end with a change of *any* gallery's or tag's own
row, which is rare, and stand for what representations show of rows that the request does not name. Everything
else is as fine as the filters: a change in one gallery leaves the pages of the others as they are.

| scope | ends when |
| --- | --- |
| `galleries` | any gallery's own fields change |
| `tags` | any tag's own fields change |
| `screenshots` | any screenshot, its tags or its renditions change |
| `gallery:{slug}` | that gallery, or anything in it, changes |
| `tag:{slug}` | that tag, or any screenshot that has it (or had it), changes |
| `domain:{name}` | any screenshot of that domain changes |
| `screenshot:{id}` | that screenshot, its tags or its renditions change |

A takedown ends nothing more here, but its purge removes from the caches in front what an ordinary one only has them
check again (`keybits.surrogates`):

| scope | ends when |
| --- | --- |
| `takedown:gallery/{slug}` | that gallery goes, or who may see it changes |
| `takedown:among/{slug}` | any screenshot leaves that gallery |
| `takedown:screenshot/{id}` | that screenshot goes, leaves its gallery, or loses a rendition |
"""

from __future__ import annotations

from keybits.invalidation import declare as _declare
from keybits.query import Query


def declare() -> None:
    """Tell keybits which scopes each row is part of. Called once, when the models are known."""
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
    """Galleries with their counts and covers."""
    return ("galleries", "screenshots")


def gallery(slug: str) -> tuple[str, ...]:
    """One gallery, with its count and its cover, which is one of its own screenshots."""
    return (f"gallery:{slug}",)


def screenshot_list(query: Query, gallery: str | None = None, tag: str | None = None) -> tuple[str, ...]:
    """A list of screenshots: of a gallery or a tag where the address names one, as fine as the filters allow.

    One of the filters that every item passes is enough: an item that comes or goes was or is part of it.
    """
    return (_narrowest(query, gallery, tag), "galleries", "tags")


NARROWING = ("gallery", "tag", "domain")
"""The filters that lists are narrowed by to one scope, of which there may be nothing for the client to see."""


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
    """One screenshot or its renditions; its gallery decides who sees it."""
    return (f"screenshot:{id}", "galleries", "tags")


def tag_list() -> tuple[str, ...]:
    """Tags with the number of screenshots that the client may see."""
    return ("tags", "screenshots", "galleries")


def tag(slug: str) -> tuple[str, ...]:
    """One tag with its count."""
    return (f"tag:{slug}", "tags", "galleries")


ANY_TAKEDOWN = "takedown:*"
"""For what shows things of galleries that the request does not name."""


def gallery_takedown(slug: str) -> tuple[str, ...]:
    """What takes down a gallery's own pages, or something on them."""
    return (f"takedown:gallery/{slug}", f"takedown:among/{slug}")


def screenshot_takedown(id: int, gallery: str) -> tuple[str, ...]:
    """What takes down one screenshot, or a file of it."""
    return (f"takedown:screenshot/{id}", f"takedown:gallery/{gallery}")
