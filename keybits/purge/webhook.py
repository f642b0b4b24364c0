"""Purge a cache that has no adapter here: a signed JSON body, which a program of yours passes on.

Signed as in Standard Webhooks (https://www.standardwebhooks.com), which has libraries that check it. Only keys are
sent: the names of scopes may be private.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

import httpx
import orjson

from keybits.purge import KEY_FIELDS, Order, Purger, batches

__all__ = ["WebhookPurger", "signature", "signed"]

PREFIX = "whsec_"
KEYS = 1_000
"""The most keys of one request: 15 KiB. Standard Webhooks recommends less than 20 KiB."""
URLS = 100


class WebhookPurger(Purger):
    """A program that listens at `url` and shares `secret`: 24 to 64 bytes in base64, with or without `whsec_`.

    `fields` and `holds_by` are the fields that the cache behind it reads. Any 2xx acknowledges, so the program must
    send it only when the cache has acknowledged.
    """

    at_once = KEYS

    def __init__(
        self,
        client: httpx.Client,
        *,
        url: str,
        secret: str,
        fields: Sequence[str] = ("Surrogate-Key",),
        holds_by: Sequence[str] = ("Surrogate-Control",),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, clock=clock)
        self._url = self.url("url", url)
        self._secret = self._decoded(secret)
        self.fields = self._names("fields", fields)
        self.holds_by = self._names("holds_by", holds_by)
        if not KEY_FIELDS.keys() >= set(self.fields):
            raise self.misconfigured("fields", f"a list of {', '.join(KEY_FIELDS)}")

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        """Yield the requests: those for keys, then those for URLs."""
        for keys in batches(order.keys, KEYS):
            yield self._post(
                order, {"keys": keys, "urls": (), "everything": order.everything, "soft": order.soft}
            )
        for urls in batches(order.urls, URLS):
            yield self._post(order, {"keys": (), "urls": urls, "everything": False, "soft": order.soft})

    def _post(self, order: Order, members: dict[str, object]) -> httpx.Request:
        body = orjson.dumps(members)
        attempts_at = order.id.encode() if order.id else uuid.uuid4().bytes
        identity = f"msg_{hashlib.sha256(attempts_at + body).hexdigest()[:32]}"
        return self.client.build_request(
            "POST", self._url, headers=signed(self._secret, identity, body), content=body
        )

    def _decoded(self, secret: object) -> bytes:
        try:
            decoded = base64.b64decode(str(secret).removeprefix(PREFIX), validate=True)
        except ValueError:
            decoded = b""
        if not 24 <= len(decoded) <= 64:
            raise self.misconfigured("secret", "24 to 64 random bytes in base64")
        return decoded

    def _names(self, option: str, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            self.text(option, name) for name in self.several(option, names, "a list of names of fields")
        )


def signed(secret: bytes, identity: str, body: bytes) -> dict[str, str]:
    """Return the headers of a request with the JSON `body`, signed now with `secret`."""
    timestamp = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(secret, identity, timestamp, body),
    }


def signature(secret: bytes, identity: str, timestamp: str, body: bytes) -> str:
    """Return the signature of scheme `v1`: HMAC-SHA256."""
    content = b".".join([identity.encode(), timestamp.encode(), body])
    return "v1," + base64.b64encode(hmac.digest(secret, content, "sha256")).decode()
