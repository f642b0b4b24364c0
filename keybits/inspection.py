"""What the cache knows of given scopes, for a person to inspect and purge: stamps, and the entries made under them.

An entry keeps the stamps that it was made under, not the names of their scopes. A stamp is never used twice, so an
entry that has the present stamp of a scope was made from it and, as far as that scope goes, is still true. The scope
of an ended stamp is not known, so stale entries are not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keybits import edge, stamps
from keybits.delivery import TAKEDOWN, orders
from keybits.entries import Entry, EntryError
from keybits.stamps import Stamp
from keybits.stores import NO_ENTRY, get_store

__all__ = ["Found", "Known", "Sample", "purge_edge", "purge_store", "sample", "stamps_of"]


@dataclass(frozen=True, slots=True)
class Known:
    """A scope and its stamp: None where the scope has none or is open, or no relay has vouched for the store lately."""

    scope: str
    stamp: Stamp | None

    @property
    def only_purges(self) -> bool:
        """Whether it is a takedown: part of no entry, and known only to the caches in front."""
        return self.scope.startswith(TAKEDOWN)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry: its path and canonical query, the bytes of its body, and the scopes that it was found by."""

    url: str
    size: int
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """The entries found among the `seen` live ones that were examined; the store may have more."""

    found: tuple[Found, ...]
    seen: int


def stamps_of(scopes: Iterable[str]) -> list[Known]:
    """Return the scopes, sorted, with the stamps that the store has for them, from one look. Raises `StoreError`."""
    names = sorted(scopes)
    reading = get_store().read(NO_ENTRY, names)
    return [Known(scope, stamp) for scope, stamp in zip(names, reading.stamps, strict=True)]


def sample(known: Sequence[Known], most: int) -> Sample:
    """Return those of up to `most` entries that were made under any of these stamps. Raises `StoreError`."""
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
    """Close `scopes`, so that whatever was made from them is made again. Raises `StoreError`."""
    get_store().close(stamps.coarsened(scopes))


def purge_edge(scopes: Iterable[str]) -> dict[str, str]:
    """Purge `scopes` from the caches in front, takedowns hard; return the failures by the names of the caches."""
    return {name: failure for order in orders(scopes) for name, failure in edge.purge(order).items()}
