"""How a cache is told that knows HTTP Cache Groups (RFC 9875): by requests to ourselves, through it.

Section 3 lets a cache invalidate what an answer names, and does not oblige it to: the cache must be one that does.
Whether what is invalidated is removed or made stale is the cache's choice (RFC 9111 section 4.4).
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
    """A cache in front of the origin whose view `keybits.purge.groups.invalidate` is at `url`.

    Groups are of one origin (section 2.1), so `url` has the scheme, host and port that clients use.
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
        """Yield the requests. No field names a URL that a cache must invalidate: for URLs, everything goes."""
        keys = (surrogates.key(surrogates.EVERYTHING),) if order.urls else order.keys
        for groups in batches(keys, GROUPS):
            body = orjson.dumps(groups)
            headers = signed(next(secrets()), uuid.uuid4().hex, body)
            yield self.client.build_request("POST", self._url, headers=headers, content=body)

    def acknowledged(self, response: httpx.Response) -> bool:
        """Say whether it was our view that answered."""
        return response.status_code == 204
