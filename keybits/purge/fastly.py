"""Purge Fastly, by its API (https://www.fastly.com/documentation/reference/api/purging/)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx

from keybits.purge import Order, Purger, absolute, batches

__all__ = ["FastlyPurger"]

KEYS = 256
"""The most keys of one request."""


class FastlyPurger(Purger):
    """A service of Fastly. `token` may have the scope `purge_select`; a hard purge of everything needs `purge_all`."""

    fields = ("Surrogate-Key",)
    holds_by = ("Surrogate-Control",)
    at_once = KEYS
    pace = 3_600 / 100_000
    """An account may send 100,000 purges an hour."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        service: str,
        token: str,
        api: str = "https://api.fastly.com",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, clock=clock)
        self._api = str(self.url("api", api)).rstrip("/")
        self._service = f"{self._api}/service/{self.text('service', service)}"
        self._token = self.text("token", token)

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        """Yield the requests. Fastly's purge of everything is hard; a soft one purges the key of everything."""
        if order.everything and not order.soft:
            yield self._post(f"{self._service}/purge_all", order)
            return
        for keys in batches(order.keys, KEYS):
            yield self._post(f"{self._service}/purge", order, {"surrogate_keys": list(keys)})
        for each in order.urls:
            url = absolute(each)
            yield self._post(f"{self._api}/purge/{url.netloc.decode()}{url.raw_path.decode()}", order)

    def retry_after(self, response: httpx.Response) -> float | None:
        """Return the seconds until the account's rate limit is reset: `Fastly-RateLimit-Reset`, in Unix time."""
        reset = response.headers.get("Fastly-RateLimit-Reset", "")
        if response.status_code == 429 and reset.isdecimal():
            return max(0.0, float(reset) - time.time())
        return super().retry_after(response)

    def _post(self, url: str, order: Order, body: dict[str, list[str]] | None = None) -> httpx.Request:
        headers = {"Fastly-Key": self._token, "Accept": "application/json"}
        if order.soft:
            headers["Fastly-Soft-Purge"] = "1"
        return self.client.build_request("POST", url, headers=headers, json=body)
