"""What a store must do, and which one this process uses.

A store keeps two things: stamps (one for each scope, small, must be right) and entries (framed responses,
large, may be lost at any time). One protocol, one adapter a module; `tests/keybits/test_stores.py` is the
contract that every adapter passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from keybits.conf import conf
from keybits.stamps import Reading, Stamp

__all__ = ["Store", "StoreError", "get_store"]


class StoreError(Exception):
    """The store did not do what was asked: it is down, slow, full or broken. The cause is chained."""


class Store(Protocol):
    """Stamps and entries, shared by every process that serves or writes the same data.

    Every method raises `StoreError`, and nothing else, when it cannot do its work.
    """

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        """Return the entry under `key` and the stamps of `scopes`, seen at one moment, in one round trip."""

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        """Return the stamps of `scopes`, giving a new one to each that has none. None stands for an open scope."""

    def write(self, key: str, entry: bytes) -> None:
        """Keep `entry` under `key` for at most `KEYBITS_ENTRY_TTL` seconds. It may be dropped sooner."""

    def close(self, scopes: Iterable[str]) -> None:
        """End the present stamp of each scope: from now on no entry built under it is believed, by anybody."""

    def clear(self) -> None:
        """Forget all stamps and all entries."""


@lru_cache(maxsize=1)
def get_store() -> Store:
    """Return the store that `KEYBITS_STORE` names, one for this process."""
    store: Store = import_string(conf.STORE)()
    return store


def _forget(*, setting: str, **_: object) -> None:
    if setting.startswith("KEYBITS_") or setting == "CACHES":
        get_store.cache_clear()


setting_changed.connect(_forget)
