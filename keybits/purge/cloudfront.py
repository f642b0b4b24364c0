"""Purge CloudFront: `CreateInvalidation`, by paths, or by tags if the distribution reads them.

All its purges are hard. An invalidation is acknowledged when CloudFront has accepted it; it takes effect within
seconds. Needs botocore, for credentials and signatures: the extra `cloudfront`.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from xml.sax.saxutils import escape

import httpx
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from keybits.purge import Order, PurgeError, Purger, absolute, batches

try:
    from botocore import auth, awsrequest, session
    from botocore.exceptions import BotoCoreError
except ImportError:  # pragma: no cover - CI installs every extra
    session = None

__all__ = ["CloudFrontPurger"]

ALL = "/*"
ITEMS = 200
"""The most paths or tags of one invalidation: 15 of these are the 3,000 that a distribution may have in progress."""
WILDCARDS = 15
"""The most paths ending with `*` that a distribution may have in progress."""
NAMESPACE = "http://cloudfront.amazonaws.com/doc/2020-05-31/"
REGION = "us-east-1"
"""The region of CloudFront's API, wherever the edges are."""
Paths = Callable[[tuple[str, ...]], Iterable[str]]
"""What translates scopes into path patterns."""


class CloudFrontPurger(Purger):
    """A distribution of CloudFront. The credentials need the permission `cloudfront:CreateInvalidation`.

    With `tags`, purges by surrogate keys: the distribution's `CacheTagConfig` must name the header `Cache-Tag`.
    Otherwise purges by paths: `paths` is the dotted path of a function that takes a tuple of scopes and returns the
    path patterns of all answers made from them; without one, every change invalidates `/*`. Credentials are found as
    AWS's own tools find them.
    """

    pace = 2.5
    burst = 5
    """At most 15 requests in the 25 seconds that an invalidation takes to complete."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        distribution: str,
        tags: bool = False,
        paths: str = "",
        api: str = "https://cloudfront.amazonaws.com",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, clock=clock)
        if session is None:
            raise ImproperlyConfigured("CloudFrontPurger needs botocore: the extra `cloudfront`.")
        if tags and paths:
            raise self.misconfigured("paths", "left out if 'tags' is set")
        self.fields = ("Cache-Tag",) if tags else ()
        self.at_once = ITEMS if tags else None  # the limit on wildcards applies to all patterns of an order
        self._paths = self._function(paths) if paths else _everywhere
        base = str(self.url("api", api)).rstrip("/")
        self._url = f"{base}/2020-05-31/distribution/{self.text('distribution', distribution)}/invalidation"
        self._session = session.Session()

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        """Yield the requests, each with a reference: CloudFront does not repeat an invalidation that it has seen."""
        for items in batches(self._items(order), ITEMS):
            reference = hashlib.sha256("\n".join([order.id or uuid.uuid4().hex, *items]).encode()).hexdigest()
            yield self._signed(_batch(reference, items))

    def permanent(self, response: httpx.Response) -> bool:
        """Return whether the request is refused. A 400 may also mean that too many invalidations are in progress."""
        return super().permanent(response) and not re.search(
            "TooMany|Throttling|RequestLimit", self.reason(response)
        )

    def reason(self, response: httpx.Response) -> str:
        """Return the code of AWS's error."""
        found = re.search(r"<Code>(\w{1,80})</Code>", response.text)
        return found[1] if found else ""

    def _function(self, dotted: object) -> Paths:
        found: Paths | None = None
        with suppress(ImportError):
            found = import_string(dotted) if isinstance(dotted, str) else None
        if not callable(found):
            raise self.misconfigured("paths", "the dotted path of a function")
        return found

    def _items(self, order: Order) -> list[str]:
        if order.everything:
            return [ALL]
        urls = [absolute(url).raw_path.decode() for url in order.urls]
        items = sorted({*urls, *(self._scoped(order) if order.scopes else ())})
        return [ALL] if sum(item.endswith("*") for item in items) > WILDCARDS else items

    def _scoped(self, order: Order) -> Iterable[str]:
        return [f"#{key}" for key in order.keys] if self.fields else self._paths(order.scopes)

    def _signed(self, body: bytes) -> httpx.Request:
        request = awsrequest.AWSRequest("POST", self._url, {"Content-Type": "application/xml"}, body)
        try:
            auth.SigV4Auth(self._session.get_credentials(), "cloudfront", REGION).add_auth(request)
        except BotoCoreError as error:
            raise PurgeError("No credentials for AWS.", permanent=True) from error
        return self.client.build_request("POST", self._url, headers=dict(request.headers), content=body)


def _everywhere(scopes: tuple[str, ...]) -> Iterable[str]:
    return [ALL]


def _batch(reference: str, items: tuple[str, ...]) -> bytes:
    paths = "".join(f"<Path>{escape(item)}</Path>" for item in items)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><InvalidationBatch xmlns="{NAMESPACE}">'
        f"<Paths><Quantity>{len(items)}</Quantity><Items>{paths}</Items></Paths>"
        f"<CallerReference>{reference}</CallerReference></InvalidationBatch>"
    ).encode()
