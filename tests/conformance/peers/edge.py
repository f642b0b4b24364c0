"""A cache in front that reads every field there is for keys and lifetimes, and need not be told anything."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from keybits.purge import Order, Purger

__all__ = ["Edge"]


class Edge(Purger):
    fields = ("Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups")
    holds_by = ("CDN-Cache-Control", "Surrogate-Control")

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        return iter(())
