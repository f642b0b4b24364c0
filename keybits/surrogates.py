"""Which surrogate keys tag an answer in a shared cache, and which keys a change purges there.

A key is a keyed hash of a scope, so that what the scope names (a private slug, an id) cannot be read from it. An
answer made from more scopes than a cache has room for is tagged with fewer keys that stand for more. An answer that a
change made stale always shares a key with the change's purge, however coarse the tags or the change are.

| key of | tags | is purged by |
| --- | --- | --- |
| `kind:member` | answers made from it, while there is room | its change |
| `kind:+` | answers made from members of the kind that there was no room to name | a change of any member |
| `kind:*` | answers made from any member | a change of the whole kind |
| `+` | answers made from more kinds than there was room for | any change |
| `*` | every answer | `purge --all` |
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from django.conf import settings

from keybits.stamps import family

__all__ = ["EVERYTHING", "MOST_KEYS", "key", "keys", "parts", "purged", "tags"]

MOST_KEYS = 50
"""Most keys that an answer is tagged with. Fastly and Cloudflare have room for more, but not every cache has.

Fifty keys take less than 1 KiB in a header field, of the 16 KiB that these two read.
"""
SIZE = 9
"""Bytes of a key, which make 12 characters. Should two scopes share a key, each also purges the other's answers."""
EVERYTHING = "*"
ANYTHING = "+"


def key(scope: str) -> str:
    """Return the key of `scope`: 12 characters of the URL-safe alphabet of RFC 4648 section 5."""
    return _key(scope, settings.SECRET_KEY)


def keys(scope: str) -> tuple[str, ...]:
    """Return the key of `scope`, and its keys under `SECRET_KEY_FALLBACKS`, which caches may still hold."""
    return tuple(_key(scope, secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=65_536)
def _key(scope: str, secret: str) -> str:
    digest = hashlib.blake2b(scope.encode(), digest_size=SIZE, key=_hashed(secret), person=b"keybits-tag")
    return base64.urlsafe_b64encode(digest.digest()).decode()


@lru_cache(maxsize=8)
def _hashed(secret: str) -> bytes:
    return hashlib.blake2b(secret.encode(), digest_size=32).digest()


def tags(scopes: Iterable[str], most: int = MOST_KEYS) -> tuple[str, ...]:
    """Return the keys of an answer made from `scopes`, sorted: at most `most`, but two where `most` is less.

    A family (`kind:*`) among the scopes says that the answer is made from members that it cannot name.
    """
    kinds = _by_kind(scopes)
    named = set(_named(kinds))
    crowded = sorted(filter(None, kinds), key=lambda kind: (-len(kinds[kind]), kind))
    while len(named) > most and crowded:
        kinds[crowded.pop(0)] = {ANYTHING}
        named = set(_named(kinds))
    if len(named) > most:
        named = {EVERYTHING, ANYTHING}
    return tuple(sorted(key(name) for name in named))


def _by_kind(scopes: Iterable[str]) -> defaultdict[str, set[str]]:
    """Return the members of each kind, which includes its colon; under "" the scopes without a kind."""
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for scope in scopes:
        kind = family(scope).removesuffix("*")
        kinds[kind].add(scope.removeprefix(kind))
    return kinds


def _named(kinds: dict[str, set[str]]) -> Iterable[str]:
    yield EVERYTHING
    for kind, members in kinds.items():
        if not kind:
            yield from members
            continue
        yield f"{kind}*"
        yield from (f"{kind}{ANYTHING if member == '*' else member}" for member in members)


def purged(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the keys that a change of `scopes` purges, sorted: of answers made from them, or that may have been."""
    named = {ANYTHING}.union(*map(_ended, scopes))
    return tuple(sorted(each for name in named for each in keys(name)))


def parts(scopes: Iterable[str], most: int) -> Iterator[tuple[str, ...]]:
    """Yield `scopes` in order, as many at a time as `purged` has at most `most` keys for, and one at the least."""
    room = most // (1 + len(settings.SECRET_KEY_FALLBACKS))
    part: list[str] = []
    named = {ANYTHING}
    for scope in scopes:
        if part and len(named) + len(_ended(scope) - named) > room:
            yield tuple(part)
            part, named = [], {ANYTHING}
        part.append(scope)
        named |= _ended(scope)
    if part:
        yield tuple(part)


def _ended(scope: str) -> set[str]:
    kind = family(scope)
    return {scope, f"{kind.removesuffix('*')}{ANYTHING}"} if kind else {scope}
