"""Purge Varnish, by vmod xkey or by bans. `docs/deploy/varnish.vcl` is the other side.

| request | effect |
| --- | --- |
| `PURGE /` with `xkey-purge: KEY KEY` | removes the answers with any of the keys |
| `PURGE /` with `xkey-softpurge: KEY KEY` | makes them stale |
| `BAN /` with `xkey-ban: KEY\\|KEY` | removes them, by a regular expression over the field `xkey` |
| `PURGE /path?query` with the page's Host | removes that page; with `x-soft: 1`, makes it stale |
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import httpx

from keybits.purge import Order, Purger, absolute, batches

__all__ = ["BanPurger", "VarnishPurger", "XkeyPurger"]

KEYS = 512
"""The most keys of one request: 6.5 KiB with separators. `http_req_hdr_len` is 8 KiB, including the field's name."""


class VarnishPurger(Purger):
    """Servers that each hold their own copies, so that each is purged. `token` is sent as `x-purge-token`."""

    fields = ("xkey",)
    holds_by = ("Surrogate-Control",)
    at_once = KEYS

    def __init__(
        self,
        client: httpx.Client,
        *,
        servers: Sequence[str],
        token: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, clock=clock)
        demand = "a list of URLs, one for each Varnish"
        self._servers = [self.url("servers", each) for each in self.several("servers", servers, demand)]
        if not self._servers:
            raise self.misconfigured("servers", demand)
        self._token = {"x-purge-token": self.text("token", token)} if token else {}

    def apart(self) -> list[Self]:
        """Return a purger for each server."""
        return [self._of(server) for server in self._servers]

    def _of(self, server: httpx.URL) -> Self:
        """Return a copy of this purger, including what a subclass has added, for one of its servers."""
        made = object.__new__(type(self))  # `copy` would call `__new__` without options, which refuses that
        made.__dict__ = {**self.__dict__, "_servers": [server]}
        return made

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        """Yield, for each server, the requests by keys, then those by URL."""
        for server in self._servers:
            for keys in batches(order.keys, KEYS):
                yield self._by_keys(server.copy_with(path="/"), keys, order.soft)
            for url in order.urls:
                yield self._by_url(server, absolute(url), order.soft)

    @abstractmethod
    def _by_keys(self, url: httpx.URL, keys: tuple[str, ...], soft: bool) -> httpx.Request:
        """Return the request that purges `keys`."""

    def _by_url(self, server: httpx.URL, url: httpx.URL, soft: bool) -> httpx.Request:
        headers = {"Host": url.netloc.decode()} | ({"x-soft": "1"} if soft else {})
        return self._request("PURGE", server.copy_with(raw_path=url.raw_path), headers)

    def _request(self, method: str, url: httpx.URL, headers: dict[str, str]) -> httpx.Request:
        return self.client.build_request(method, url, headers=headers | self._token)


class XkeyPurger(VarnishPurger):
    """Varnish with vmod xkey, which finds answers by their keys and can make them stale."""

    def _by_keys(self, url: httpx.URL, keys: tuple[str, ...], soft: bool) -> httpx.Request:
        return self._request("PURGE", url, {"xkey-softpurge" if soft else "xkey-purge": " ".join(keys)})


class BanPurger(VarnishPurger):
    """Varnish without vmods. A ban is hard; Varnish tests each answer against it when the answer is next requested."""

    def _by_keys(self, url: httpx.URL, keys: tuple[str, ...], soft: bool) -> httpx.Request:
        return self._request("BAN", url, {"xkey-ban": "|".join(keys)})
