"""What a stamp is, which stamps an entry depends on, and how its witness is made of them.

A stamp is the opaque token that a scope has at present. It is random, never a counter or a clock, and never used
twice: a store that forgets everything costs time, but serves nothing stale.

From just before a change may become visible until after it has, a scope is *open*: it has no stamp, and no entry made
from it is believed or kept.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "MOST_MEMBERS",
    "SIZE",
    "Reading",
    "Stamp",
    "coarsened",
    "family",
    "is_family",
    "new",
    "scope_names",
    "witness",
]

Stamp = bytes
SIZE = 16
MOST_MEMBERS = 200
"""Most scopes of one kind that a transaction closes one by one. With more, it closes the whole kind."""


def new() -> Stamp:
    """Return a stamp that no scope has had before: 128 random bits."""
    return os.urandom(SIZE)


def family(scope: str) -> str:
    """Return the scope that stands for all scopes of the same kind: `page:*` for `page:42`, "" for `pages`."""
    kind, colon, _ = scope.partition(":")
    return f"{kind}:*" if colon else ""


def is_family(scope: str) -> bool:
    """Return whether the scope stands for all of its kind."""
    return scope == family(scope)


def scope_names(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes and their families in the order in which stamps are compared: sorted, each once."""
    return _names(frozenset(scopes))


@lru_cache(maxsize=1024)
def _names(named: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted((named | {family(scope) for scope in named}) - {""}))


def coarsened(scopes: Iterable[str]) -> list[str]:
    """Return fewer scopes that cover at least `scopes`: the family in place of more than `MOST_MEMBERS` of a kind.

    So a change of a hundred thousand rows closes a bounded number of scopes of each kind. Every reader looks at the
    families of its scopes too (`scope_names`), so nothing is missed.
    """
    named = set(scopes)
    kinds = Counter(map(family, named))
    crowded = {kind for kind, members in kinds.items() if kind and members > MOST_MEMBERS}
    return sorted(crowded | {scope for scope in named if family(scope) not in crowded})


def witness(stamps: Sequence[Stamp | None]) -> bytes | None:
    """Return the witness for these stamps, given in the order of `scope_names`: the bytes that an entry keeps of them.

    None where any stamp is missing, or its scope is open: then nothing may be stored, and no entry may be believed.
    """
    if None in stamps:
        return None
    return b"".join(stamps)  # type: ignore[arg-type]  # the line above has ruled None out


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a store: the framed entry, or None, and the stamp of each scope asked for.

    A stamp is None where the scope has none, or is open (a change may be about to become visible). All are None where a
    relay is required and none has `vouched` lately.
    """

    entry: bytes | None
    stamps: tuple[Stamp | None, ...]
    vouched: bool = True

    @property
    def witness(self) -> bytes | None:
        return witness(self.stamps)
