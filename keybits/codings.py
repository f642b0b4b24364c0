"""Content codings (RFC 9110 section 8.4.1): which there are, how they are made, and which a client may be sent.

Each is a representation with an entity tag of its own. It is made when a client is first sent it, and kept with the
entry: one costs about a tenth of a miss, all three cost a quarter (`python -m benchmarks.miss`, "ours, in brotli"). The
same body always gives the same bytes: no time, no name, no padding. These are pure functions.

The levels are those that a first answer can afford: brotli's 5 and gzip's 6 would make a list some 8% smaller, in
twice the time.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import brotli
import zstandard

__all__ = ["IDENTITY", "SMALLEST", "acceptable", "admitted", "encode", "entity_tag", "entity_tags", "offered"]

IDENTITY = "identity"
SMALLEST = 256
"""Bodies of fewer bytes are sent as they are: a coding's header fields would cost what it saves."""

LONGEST = 256
"""Longest Accept-Encoding field, in characters, whose meaning is remembered: clients choose what they send."""


def _gzip(body: bytes) -> bytes:
    """RFC 1952, with a zero time and an unknown system."""
    packer = zlib.compressobj(4, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def _brotli(body: bytes) -> bytes:
    """RFC 7932."""
    packed: bytes = brotli.compress(body, mode=brotli.MODE_TEXT, quality=3)
    return packed


_kept = threading.local()
"""A compressor for each thread: making one takes as long as using it."""


def _zstd(body: bytes) -> bytes:
    """RFC 8878, in a window that every browser accepts (RFC 9659)."""
    packer: zstandard.ZstdCompressor | None = getattr(_kept, "zstd", None)
    if packer is None:
        packer = _kept.zstd = zstandard.ZstdCompressor(level=4, write_content_size=True)
    return packer.compress(body)


CODINGS: dict[str, Callable[[bytes], bytes]] = {"br": _brotli, "zstd": _zstd, "gzip": _gzip}
"""In the server's order of preference; a client's q-values come first."""
OFFERED = tuple(CODINGS)

_ALIASES = {"x-gzip": "gzip"}  # RFC 9110 section 8.4.1.3
_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


def offered(body: bytes) -> tuple[str, ...]:
    """Return the codings that `body` is offered in, in the server's order of preference; none for a small body."""
    return OFFERED if len(body) >= SMALLEST else ()


def encode(body: bytes, coding: str) -> bytes:
    """Return `body` in this coding; as it is, for the identity."""
    return body if coding == IDENTITY else CODINGS[coding](body)


def entity_tag(etag: str, coding: str) -> str:
    """Return the entity tag of this content coding of the representation tagged `etag` (RFC 9110 section 8.8.3.3)."""
    return etag if coding == IDENTITY else f'{etag[:-1]}-{coding}"'


def entity_tags(etag: str) -> tuple[str, ...]:
    """Return the tags under which a representation may have been sent: the identity's, then that of each coding."""
    return tuple(entity_tag(etag, coding) for coding in (IDENTITY, *CODINGS))


def admitted(field: str | None, body: bytes) -> tuple[str, ...]:
    """Return the codings, identity included, in which `body` may be sent to the sender of this field, best first.

    A client that refuses the identity may be sent even a small body in a coding.
    """
    return acceptable(field, offered(body)) or acceptable(field, OFFERED)


def acceptable(field: str | None, available: Sequence[str]) -> tuple[str, ...]:
    """Return those of `available` codings, and of identity, that an Accept-Encoding field admits, best first.

    RFC 9110 section 12.5.3: without the field every coding is acceptable, and the identity is sent. Where the field
    does not mention the identity, it is acceptable after all codings that are named. An empty result calls for a 406.
    Malformed members are skipped.
    """
    if field is None:
        return (IDENTITY,)
    return (_ranked if len(field) <= LONGEST else _ranked.__wrapped__)(field, available)


@lru_cache(maxsize=1024)
def _ranked(field: str, available: Sequence[str]) -> tuple[str, ...]:
    asked = dict(_members(field.lower().split(",")))
    quality = {name: asked.get(name, asked.get("*", 0.0)) for name in available}
    if IDENTITY in asked or "*" in asked:
        quality[IDENTITY] = asked.get(IDENTITY, asked.get("*", 0.0))
    ranked = sorted((name for name in quality if quality[name] > 0), key=lambda name: -quality[name])
    return tuple(ranked) if IDENTITY in quality else (*ranked, IDENTITY)


def _members(members: Iterable[str]) -> Iterable[tuple[str, float]]:
    for member in members:
        name, _, weight = member.partition(";")
        name, weight = name.strip(), weight.strip()
        quality = weight.removeprefix("q=") if weight else "1"
        if name and _QVALUE.match(quality):
            yield _ALIASES.get(name, name), float(quality)
