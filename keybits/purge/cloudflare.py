"""Purge Cloudflare: `POST /zones/{zone}/purge_cache` (https://developers.cloudflare.com/api/).

All its purges are hard. It ignores the case of tags, which is harmless: two keys that differ only in case are purged
together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from keybits.purge import Order, Purger, batches

__all__ = ["CloudflarePurger"]

MOST = 100
"""The most tags or URLs of one request."""
PLANS = {"free": (12.0, 25), "pro": (0.2, 25), "business": (0.1, 50), "enterprise": (0.02, 500)}
"""By plan: the seconds after which an account may send another request, and the requests that it can save up."""


class CloudflarePurger(Purger):
    """A zone of Cloudflare. `token` needs the permission Cache Purge, and no others."""

    fields = ("Cache-Tag",)
    holds_by = ("Cloudflare-CDN-Cache-Control",)
    """Not `CDN-Cache-Control`: Cloudflare passes it on to downstream caches, which nobody would purge."""
    at_once = MOST

    def __init__(
        self,
        client: httpx.Client,
        *,
        zone: str,
        token: str,
        plan: str = "free",
        api: str = "https://api.cloudflare.com/client/v4",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, clock=clock)
        if not isinstance(plan, str) or plan not in PLANS:
            raise self.misconfigured("plan", f"one of {', '.join(PLANS)}")
        self.pace, self.burst = PLANS[plan]
        self._url = f"{str(self.url('api', api)).rstrip('/')}/zones/{self.text('zone', zone)}/purge_cache"
        self._token = self.text("token", token)

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        """Yield the requests. An order of everything purges the whole zone, including answers of other origins."""
        if order.everything:
            yield self._post({"purge_everything": True})
            return
        for keys in batches(order.keys, MOST):
            yield self._post({"tags": list(keys)})
        for urls in batches(order.urls, MOST):
            yield self._post({"files": list(urls)})

    def acknowledged(self, response: httpx.Response) -> bool:
        """Return whether the body reports success as well: a 200 may contain `"success": false`."""
        return response.is_success and _members(response).get("success") is True

    def reason(self, response: httpx.Response) -> str:
        """Return the codes of Cloudflare's errors."""
        errors = _members(response).get("errors")
        codes = (
            [each.get("code") for each in errors if isinstance(each, dict)]
            if isinstance(errors, list)
            else []
        )
        return " ".join(str(code) for code in codes if isinstance(code, int))

    def _post(self, body: dict[str, Any]) -> httpx.Request:
        headers = {"Authorization": f"Bearer {self._token}"}
        return self.client.build_request("POST", self._url, headers=headers, json=body)


def _members(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
