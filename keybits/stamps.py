"""What a stamp is, and when the stamps of now vouch for an entry of then.

A stamp is the opaque token that a scope has at present. It is random: never a counter, never a clock, never
used twice, so a store that forgets everything loses nothing but time. Every comparison of stamps is made here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["SIZE", "Reading", "Stamp", "new", "scope_names", "witness"]

Stamp = bytes
SIZE = 16


def new() -> Stamp:
    """Return a stamp that no scope has had before: 128 random bits."""
    return os.urandom(SIZE)


def scope_names(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes in the one order in which their stamps are compared: sorted, each once."""
    return tuple(sorted(set(scopes)))


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

    A stamp is None where the scope has none, or is open (a change to it may be about to be seen).
    """

    entry: bytes | None
    stamps: tuple[Stamp | None, ...]

    @property
    def witness(self) -> bytes | None:
        return witness(self.stamps)
