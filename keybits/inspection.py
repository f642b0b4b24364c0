"""What the cache knows of scopes, for a person to look at and to end: their stamps, and entries made under them.

An entry keeps the stamps that it was made under, not the names of their scopes. A stamp is never used twice, so an
entry that has the present stamp of a scope was made from it and, as far as that scope goes, is still true. What an
ended stamp stood for nobody can tell: entries that nobody believes any more are not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keybits import edge, stamps
from keybits.delivery import TAKEDOWN, orders
from keybits.entries import Entry, EntryError
from keybits.stamps import Stamp
from keybits.stores import get_store

__all__ = ["Found", "Known", "Sample", "purge_edge", "purge_store", "sample", "stamps_of"]

NO_ENTRY = "keybits-inspection"
"""A key that no entry has: the stamps alone are looked at."""


@dataclass(frozen=True, slots=True)
class Known:
    """A scope and its stamp: None where it has none, is open, or no relay has vouched for the store lately."""

    scope: str
    stamp: Stamp | None

    @property
    def only_purges(self) -> bool:
        """Whether it is a takedown: part of no entry, and known to the caches in front alone."""
        return self.scope.startswith(TAKEDOWN)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry: what was asked for (the path and the canonical query), its bytes, and the scopes it was found by."""

    url: str
    size: int
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Entries that were found among the `seen` live ones that were looked at; the store may have more."""

    found: tuple[Found, ...]
    seen: int


def stamps_of(scopes: Iterable[str]) -> list[Known]:
    """Return what the store has for `scopes`, sorted, by one look. Raises `StoreError`."""
    names = sorted(scopes)
    reading = get_store().read(NO_ENTRY, names)
    return [Known(scope, stamp) for scope, stamp in zip(names, reading.stamps, strict=True)]


def sample(known: Sequence[Known], most: int) -> Sample:
    """Return which of up to `most` entries were made under these stamps. Raises `StoreError`."""
    names = {each.stamp: each.scope for each in known if each.stamp is not None}
    frames = get_store().sample(most)
    found = (_found(frame, names) for _, frame in frames)
    return Sample(tuple(each for each in found if each is not None), len(frames))


def _found(frame: bytes, names: dict[Stamp, str]) -> Found | None:
    try:
        entry = Entry.unpack(frame)
    except EntryError:
        return None
    under = (entry.witness[at : at + stamps.SIZE] for at in range(0, len(entry.witness), stamps.SIZE))
    scopes = tuple(sorted(names[stamp] for stamp in under if stamp in names))
    return Found(entry.url, len(entry.body), scopes) if scopes else None


def purge_store(scopes: Iterable[str]) -> None:
    """End the stamps of `scopes`: whatever was made from them is made again. Raises `StoreError`."""
    get_store().close(stamps.coarsened(scopes))


def purge_edge(scopes: Iterable[str]) -> dict[str, str]:
    """Purge `scopes` from the caches in front, takedowns hard; return what went wrong with which, by name."""
    return {name: failure for order in orders(scopes) for name, failure in edge.purge(order).items()}
