"""Entity tags (RFC 9110 section 8.8.3): how one is made from content, and whether a list of them names one.

This module alone decides what a tag looks like, and how the values of If-Match and If-None-Match are read. It never
raises on what a client sent, and reads it in time linear in its length.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256

__all__ = ["EntityTags", "is_weak", "parse", "strong", "strongly_listed", "weakly_listed"]

# Section 8.8.3, with one departure: a tag may contain spaces and tabs, as the quoted strings of older
# specifications could. obs-text is latin-1, as WSGI gives it; a backslash is an ordinary character. Every
# repetition is possessive and every match starts where the last one ended, so matching takes linear time.
_MEMBER = re.compile(
    r"""
    [ \t,]*+                                         # empty members are skipped (section 5.6.1.2)
    (?:
        (W/)?+ ("[\t\x20\x21\x23-\x7e\x80-\xff]*+") [ \t]*+ (?=,|\Z)
      | (?: [^",]++ | "[^"]*+ "?+ )++                # not a tag: skipped, with all that its quotes enclose
    )?+
    """,
    re.VERBOSE,
)
_ANY = re.compile(r"[ \t,]*+\*(?:[ \t]*+,[ \t]*+\*?+)*+[ \t]*+")


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The tags that If-Match or If-None-Match lists, with their quotes and without `W/`."""

    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    is_any: bool = False
    """The field was `*`, which names every current representation, even one that has no tag."""

    def weakly_matches(self, etag: str | None) -> bool:
        """Say whether a listed tag has the same opaque part, as If-None-Match asks (section 8.8.3.2)."""
        if etag is None or self.is_any:
            return self.is_any
        opaque = etag.removeprefix("W/")
        return opaque in self.strong or opaque in self.weak

    def strongly_matches(self, etag: str | None) -> bool:
        """Say whether a listed tag is the same and both are strong, as If-Match asks (section 8.8.3.2)."""
        return self.is_any or etag in self.strong


_ANY_TAG = EntityTags(is_any=True)


def strong(content: bytes) -> str:
    """Return the strong tag of these bytes, quoted: 22 characters of their SHA-256."""
    digest = urlsafe_b64encode(sha256(content).digest()[:16]).rstrip(b"=").decode("ascii")
    return f'"{digest}"'


def is_weak(etag: str) -> bool:
    """Say whether a tag is weak; `W/` is case-sensitive (section 8.8.3)."""
    return etag.startswith("W/")


def parse(field: str) -> EntityTags:
    """Return the tags that a field's value lists, also where several lines were joined by commas. Never raises.

    A member that is not an entity tag is skipped and the others count, as section 2.4 permits. Ignoring the whole
    field would make a conditional write unconditional (section 13.1.1: an If-Match that names nothing current is
    false, so the write is refused), and would cost a client its 304 because of somebody else's error. A tag is only
    taken from between two commas outside quotes, so nothing is listed that the client did not quote. For the same
    reason `*` counts only where it stands alone (the grammar of 13.1.1 and 13.1.2).
    """
    if _ANY.fullmatch(field):
        return _ANY_TAG
    members = _MEMBER.findall(field)
    return EntityTags(
        strong=frozenset(tag for weak, tag in members if tag and not weak),
        weak=frozenset(tag for weak, tag in members if weak),
    )


def weakly_listed(etag: str | None, field: str) -> bool:
    """Say whether If-None-Match's value names the tag.

    The usual values are not parsed: the tag as it was sent, or as a compressor on the way has weakened it.
    """
    if field == etag or (field[:3] == 'W/"' and field[2:] == etag):
        return True
    return parse(field).weakly_matches(etag)


def strongly_listed(etag: str | None, field: str) -> bool:
    """Say whether If-Match's value names the tag and both are strong; the usual value is not parsed."""
    return (field == etag and not is_weak(field)) or parse(field).strongly_matches(etag)
