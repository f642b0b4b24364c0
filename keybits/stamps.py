"""What a stamp is, and when the stamps of now vouch for an entry of then.

A stamp is the opaque token that a scope has at present. It is random: never a counter, never a clock, never
used twice, so a store that forgets everything loses nothing but time. Every comparison of stamps is made here.

Between the moment when a change may be about to be seen and the moment when it has been, a scope is *open*: it
has no stamp, and nothing made from it is believed or kept.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["MOST_MEMBERS", "SIZE", "Reading", "Stamp", "coarsened", "family", "new", "scope_names", "witness"]

Stamp = bytes
SIZE = 16
MOST_MEMBERS = 200
"""How many scopes of one kind a transaction closes one by one; beyond, it closes the whole kind."""


def new() -> Stamp:
    """Return a stamp that no scope has had before: 128 random bits."""
    return os.urandom(SIZE)


def family(scope: str) -> str:
    """Return the scope that stands for all of a scope's kind: `page:*` for `page:42`, "" for `pages`."""
    kind, colon, _ = scope.partition(":")
    return f"{kind}:*" if colon else ""


def scope_names(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes, with their families, in the one order in which stamps are compared: sorted, each once."""
    return _names(frozenset(scopes))


@lru_cache(maxsize=1024)
def _names(named: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted((named | {family(scope) for scope in named}) - {""}))


def coarsened(scopes: Iterable[str]) -> list[str]:
    """Return scopes that end at least what `scopes` end, but few: a family for more than `MOST_MEMBERS` of a kind.

    So a change of a hundred thousand rows sends a bounded number of messages. Every reader looks at the families
    of its scopes (`scope_names`), so nothing is missed.
    """
    named = set(scopes)
    kinds = Counter(map(family, named))
    crowded = {kind for kind, members in kinds.items() if kind and members > MOST_MEMBERS}
    return sorted(crowded | {scope for scope in named if family(scope) not in crowded})


def witness(stamps: Sequence[Stamp | None]) -> bytes | None:
    """Return what an entry keeps of the stamps it was built under, in the order of `scope_names`.

    None where any of them is missing or open: then nothing may be stored and nothing stored may be believed.
    """
    if None in stamps:
        return None
    return b"".join(stamps)  # type: ignore[arg-type]  # the line above has ruled None out


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a store: the framed entry, if there, and the stamp of each scope asked for.

    A stamp is None where the scope has none, or is open (a change to it may be about to be seen). All are where a
    relay is required and none has `vouched` lately.
    """

    entry: bytes | None
    stamps: tuple[Stamp | None, ...]
    vouched: bool = True

    @property
    def witness(self) -> bytes | None:
        return witness(self.stamps)
