"""Purge caches that support HTTP Cache Groups (RFC 9875), by requests to the origin itself, through the cache.

Section 3 allows a cache to invalidate the groups that a response names, but does not require it: the cache must be one
that does. The cache decides whether to remove invalidated answers or make them stale (RFC 9111 section 4.4).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import orjson

from keybits import surrogates
from keybits.purge import Order, Purger, batches
from keybits.purge.groups import GROUPS, secrets
from keybits.purge.webhook import signed

__all__ = ["CacheGroupsPurger"]


class CacheGroupsPurger(Purger):
    """A cache in front of the origin that serves the view `keybits.purge.groups.invalidate` at `url`.

    Groups belong to one origin (section 2.1), so `url` must have the scheme, host and port that clients use.
    """

    fields = ("Cache-Groups",)
    most_keys = GROUPS
    holds_by = ("CDN-Cache-Control",)
    at_once = GROUPS

    def __init__(
        self, client: httpx.Client, *, url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(client, clock=clock)
        self._url = self.url("url", url)

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        """Yield the requests. No field invalidates a URL, so an order of URLs invalidates everything."""
        keys = (surrogates.key(surrogates.EVERYTHING),) if order.urls else order.keys
        for groups in batches(keys, GROUPS):
            body = orjson.dumps(groups)
            headers = signed(next(secrets()), uuid.uuid4().hex, body)
            yield self.client.build_request("POST", self._url, headers=headers, content=body)

    def acknowledged(self, response: httpx.Response) -> bool:
        """Return whether the view `invalidate` answered."""
        return response.status_code == 204
