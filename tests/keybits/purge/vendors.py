"""Caches that are told what to purge, each a small server that speaks its vendor's documented API.

Every one holds answers under the keys that `keybits.surrogates.tags` gives them, and forgets or keeps them as its
vendor's documentation says. What that refuses, it refuses: a wrong token, a request over a limit, too many.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import httpx
from django.test import RequestFactory

from keybits import surrogates
from keybits.purge import Purger
from keybits.purge.cache_groups import CacheGroupsPurger
from keybits.purge.cloudflare import CloudflarePurger
from keybits.purge.cloudfront import CloudFrontPurger
from keybits.purge.fastly import FastlyPurger
from keybits.purge.groups import invalidate
from keybits.purge.varnish import BanPurger, VarnishPurger, XkeyPurger
from keybits.purge.webhook import WebhookPurger

FRESH, STALE, GONE = "fresh", "stale", "gone"
SITE = "http://gallery.example"


@dataclass
class Clock:
    """A clock that only those who wait move on."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Heard:
    """A request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> bytes:
        fields = "\n".join(f"{name}: {value}" for name, value in self.headers.items())
        return f"{self.method} {self.target}\n{fields}\n\n".encode() + self.body


@dataclass
class Said:
    """What is answered."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Vendor:
    """A cache, and how it is told. `secret` is what it expects; subclasses answer as their vendor does."""

    secret = "s3cret-Token_of-the-vendor"
    most_keys = surrogates.MOST_KEYS
    knows_soft = False
    knows_keys = True
    knows_urls = True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.states: dict[str, str] = {}
        self.tags: dict[str, set[str]] = {}
        self.heard: list[Heard] = []
        self.next: list[Said | None] = []
        self.address = ""

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        """Return the adapter, set up for this vendor."""
        raise NotImplementedError

    def answer(self, heard: Heard) -> Said:
        """Do what is asked."""
        raise NotImplementedError

    def keep(self, path: str, scopes: Iterable[str]) -> str:
        """Hold an answer that was made from `scopes`, and return its URL."""
        self.states[path] = FRESH
        self.tags[path] = set(surrogates.tags(scopes, self.most_keys))
        return f"{SITE}{path}"

    def drop(self, paths: Iterable[str], soft: bool = False) -> None:
        for path in paths:
            if path in self.states:
                self.states[path] = STALE if soft and self.states[path] != GONE else GONE

    def tagged(self, keys: Iterable[str]) -> list[str]:
        wanted = set(keys)
        return [path for path, tags in self.tags.items() if tags & wanted]

    def reply(self, heard: Heard) -> Said | None:
        """Return what is to be answered: what a test has put down next, else what the vendor would."""
        self.heard.append(heard)
        return self.next.pop(0) if self.next else self.answer(heard)


class Xkey(Vendor):
    """Varnish with the configuration that `docs/deploy/varnish.vcl` has to have, by vmod xkey."""

    adapter: type[VarnishPurger] = XkeyPurger
    knows_soft = True
    http_req_hdr_len = 8 * 1024

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        options.setdefault("servers", [self.address])
        return self.adapter(client, token=secret or self.secret, clock=self.clock, **options)

    def answer(self, heard: Heard) -> Said:
        if any(len(f"{name}: {value}") > self.http_req_hdr_len for name, value in heard.headers.items()):
            return Said(400)
        if heard.headers.get("x-purge-token") != self.secret:
            return Said(403)
        if heard.method not in {"PURGE", "BAN"}:
            return Said(405)
        return self.purge(heard)

    def purge(self, heard: Heard) -> Said:
        for name, soft in (("xkey-purge", False), ("xkey-softpurge", True)):
            if name in heard.headers:
                self.drop(self.tagged(heard.headers[name].split(" ")), soft)
                return Said(200)
        if heard.headers["host"] != urlsplit(SITE).netloc:
            return Said(404)
        self.drop([heard.target], "x-soft" in heard.headers)
        return Said(200)


class Ban(Xkey):
    """The same Varnish, by bans: a regular expression over the field xkey of each answer."""

    adapter = BanPurger
    knows_soft = False

    def purge(self, heard: Heard) -> Said:
        if heard.method == "PURGE":
            return super().purge(heard)
        pattern = re.compile(f"(^| )({heard.headers['xkey-ban']})( |$)")
        self.drop([path for path, tags in self.tags.items() if pattern.search(" ".join(sorted(tags)))])
        return Said(200)


class Fastly(Vendor):
    """https://www.fastly.com/documentation/reference/api/purging/."""

    knows_soft = True
    service = "SU1Z0isxPaozGVKXdv0eY"

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        options = {"service": self.service, "token": secret or self.secret, "api": self.address} | options
        return FastlyPurger(client, clock=self.clock, **options)

    def answer(self, heard: Heard) -> Said:
        if heard.headers.get("fastly-key") != self.secret:
            return Said(401, {"msg": "Provided credentials are missing or invalid"})
        soft = "fastly-soft-purge" in heard.headers
        if heard.target == f"/service/{self.service}/purge":
            return self.by_keys(heard.json["surrogate_keys"], soft)
        if heard.target == f"/service/{self.service}/purge_all":
            self.drop(self.states)
            return Said(200, {"status": "ok"})
        if heard.target.startswith(f"/purge/{urlsplit(SITE).netloc}/"):
            self.drop([heard.target.removeprefix(f"/purge/{urlsplit(SITE).netloc}")], soft)
            return Said(200, {"status": "ok", "id": "108-1391560174-974124"})
        return Said(404, {"msg": "Record not found"})

    def by_keys(self, keys: list[str], soft: bool) -> Said:
        if len(keys) > 256:
            return Said(400, {"msg": "Bad request", "detail": "Too many surrogate keys"})
        self.drop(self.tagged(keys), soft)
        return Said(200, dict.fromkeys(keys, "108-1391560174-974124"))


class Cloudflare(Vendor):
    """https://developers.cloudflare.com/cache/how-to/purge-cache/, on the plan with the lowest limits."""

    zone = "023e105f4ecef8ad9ca31a8372d0c353"
    per_second, bucket = 5 / 60, 25

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.tokens, self.filled = float(self.bucket), clock.now

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        options = {
            "zone": self.zone,
            "token": secret or self.secret,
            "api": f"{self.address}/client/v4",
        } | options
        return CloudflarePurger(client, clock=self.clock, **options)

    def answer(self, heard: Heard) -> Said:
        if heard.headers.get("authorization") != f"Bearer {self.secret}":
            return self.failed(403, 9109, "Invalid access token")
        if heard.target != f"/client/v4/zones/{self.zone}/purge_cache":
            return self.failed(404, 7003, "Could not route to the zone")
        if not self.has_token():
            return self.failed(429, 10000, "Rate limited", {"Retry-After": "12"})
        return self.purge(heard.json)

    def purge(self, body: dict[str, Any]) -> Said:
        if any(len(body.get(name, ())) > 100 for name in ("tags", "files")):
            return self.failed(400, 1094, "Purge exceeded maximum operations per request")
        if body.get("purge_everything"):
            self.drop(self.states)
        lowered = {tag.lower() for tag in body.get("tags", ())}
        self.drop([path for path, tags in self.tags.items() if {tag.lower() for tag in tags} & lowered])
        self.drop(url.removeprefix(SITE) for url in body.get("files", ()))
        return Said(200, {"success": True, "errors": [], "messages": [], "result": {"id": self.zone}})

    def has_token(self) -> bool:
        self.tokens = min(self.bucket, self.tokens + (self.clock.now - self.filled) * self.per_second)
        self.filled = self.clock.now
        self.tokens -= 1 - 1e-9
        return self.tokens >= 0

    def failed(self, status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Said:
        errors = [{"code": code, "message": message}]
        return Said(
            status, {"success": False, "errors": errors, "messages": [], "result": None}, headers or {}
        )


class CloudFront(Vendor):
    """CreateInvalidation of https://docs.aws.amazon.com/cloudfront/latest/APIReference/, by paths."""

    identity = "AKIDEXAMPLE"
    distribution = "EDFDVBD6EXAMPLE"
    knows_keys = False
    seconds_in_progress = 25.0
    xmlns = "{http://cloudfront.amazonaws.com/doc/2020-05-31/}"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.progress: list[tuple[float, int, int]] = []
        self.done: dict[str, list[str]] = {}

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        options = {"distribution": self.distribution, "api": self.address} | options
        purger = CloudFrontPurger(client, clock=self.clock, **options)
        purger._session.set_credentials(self.identity, secret or self.secret)
        return purger

    def answer(self, heard: Heard) -> Said:
        if heard.target != f"/2020-05-31/distribution/{self.distribution}/invalidation":
            return self.failed(404, "NoSuchDistribution")
        if not self.is_signed(heard):
            return self.failed(403, "SignatureDoesNotMatch")
        batch = ElementTree.fromstring(heard.body)  # noqa: S314 - our own
        items = [path.text or "" for path in batch.iter(f"{self.xmlns}Path")]
        reference = batch.findtext(f"{self.xmlns}CallerReference") or ""
        if batch.findtext(f"{self.xmlns}Paths/{self.xmlns}Quantity") != str(len(items)):
            return self.failed(400, "InconsistentQuantities")
        return self.invalidate(reference, items)

    def invalidate(self, reference: str, items: list[str]) -> Said:
        if reference in self.done:
            return (
                Said(201)
                if self.done[reference] == items
                else self.failed(400, "InvalidationBatchAlreadyExists")
            )
        if len(items) > 3_000:
            return self.failed(413, "BatchTooLarge")
        if not self.takes_on(items):
            return self.failed(400, "TooManyInvalidationsInProgress")
        self.done[reference] = items
        for item in items:
            self.drop(self.matching(item))
        return Said(201, headers={"Location": "/2020-05-31/distribution/x/invalidation/I2J0I21PCUYOIK"})

    def takes_on(self, items: list[str]) -> bool:
        wildcards = sum(item.endswith("*") for item in items)
        self.progress = [each for each in self.progress if each[0] > self.clock.now]
        self.progress.append((self.clock.now + self.seconds_in_progress, wildcards, len(items) - wildcards))
        return (
            sum(each[1] for each in self.progress) <= 15 and sum(each[2] for each in self.progress) <= 3_000
        )

    def matching(self, item: str) -> list[str]:
        if item.startswith("#"):
            return []  # the distribution has no CacheTagConfig
        if item.endswith("*"):
            return [path for path in self.states if path.startswith(item.removesuffix("*"))]
        return [item]

    def is_signed(self, heard: Heard) -> bool:
        """Check Signature Version 4 (the AWS General Reference's "Create a signed AWS API request")."""
        given = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8}/us-east-1/cloudfront/aws4_request), "
            r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
            heard.headers.get("authorization", ""),
        )
        if (
            given is None
            or given[1] != self.identity
            or not {"host", "x-amz-date"} <= set(given[3].split(";"))
        ):
            return False
        fields = "".join(f"{name}:{heard.headers[name].strip()}\n" for name in given[3].split(";"))
        payload = hashlib.sha256(heard.body).hexdigest()
        canonical = "\n".join([heard.method, heard.target, "", fields, given[3], payload])
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256",
                heard.headers["x-amz-date"],
                given[2],
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = f"AWS4{self.secret}".encode()
        for part in given[2].split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), given[4])

    def failed(self, status: int, code: str) -> Said:
        return Said(
            status,
            f'<ErrorResponse xmlns="{self.xmlns[1:-1]}"><Error><Type>Sender</Type><Code>{code}</Code>'
            "<Message>No.</Message></Error><RequestId>1</RequestId></ErrorResponse>",
        )


class CloudFrontTags(CloudFront):
    """The same, with `CacheTagConfig`: tags are not told apart by case."""

    knows_keys = True

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        return super().purger(client, secret=secret, tags=True, **options)

    def matching(self, item: str) -> list[str]:
        if not item.startswith("#"):
            return super().matching(item)
        wanted = item.removeprefix("#").lower()
        return [path for path, tags in self.tags.items() if wanted in {tag.lower() for tag in tags}]


class Webhook(Vendor):
    """A program that checks signatures as https://www.standardwebhooks.com asks, and passes orders on."""

    knows_soft = True
    secret = "whsec_" + base64.b64encode(b"the secret of the listener, 32 b").decode()
    most_bytes = 20 * 1024

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        options = {"url": f"{self.address}/hook", "secret": secret or self.secret} | options
        return WebhookPurger(client, clock=self.clock, **options)

    def answer(self, heard: Heard) -> Said:
        if len(heard.body) > self.most_bytes:
            return Said(413)
        if heard.headers["content-type"] != "application/json":
            return Said(415)
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        parts = [heard.headers[f"webhook-{name}"].encode() for name in ("id", "timestamp")]
        expected = base64.b64encode(hmac.digest(key, b".".join([*parts, heard.body]), "sha256")).decode()
        if f"v1,{expected}" not in heard.headers["webhook-signature"].split(" "):
            return Said(401)
        body = heard.json
        assert body.keys() == {"keys", "urls", "everything", "soft"}
        self.drop(self.states if body["everything"] else self.tagged(body["keys"]), body["soft"])
        self.drop([url.removeprefix(SITE) for url in body["urls"]], body["soft"])
        return Said(204)


class CacheGroups(Vendor):
    """A cache that knows RFC 9875, with this project's view behind it. It reads as much as it has to, and no more."""

    most_keys = 32
    knows_urls = False
    secret = ""

    def purger(self, client: httpx.Client, *, secret: str = "", **options: Any) -> Purger:
        return CacheGroupsPurger(client, clock=self.clock, **{"url": f"{self.address}/purge"} | options)

    def answer(self, heard: Heard) -> Said:
        if heard.target != "/purge":
            return Said(200, "A page of the origin's, whatever is asked.")
        headers = {name: value for name, value in heard.headers.items() if name.startswith("webhook-")}
        request = RequestFactory().generic(
            heard.method, heard.target, heard.body, "application/json", headers=headers
        )
        response = invalidate(request)
        if response.status_code < 400 and heard.method not in {"GET", "HEAD", "OPTIONS", "TRACE"}:
            self.drop(self.tagged(self.groups(response.get("Cache-Group-Invalidation", ""))))
        return Said(response.status_code, response.content.decode() or None, dict(response.headers))

    def groups(self, value: str) -> list[str]:
        """Parse a List of Strings (RFC 9651 section 4.2.1); a field that is none is ignored as a whole."""
        members = value.split(", ")
        if not all(re.fullmatch(r'"[\x20\x21\x23-\x5b\x5d-\x7e]{1,32}"', member) for member in members):
            return []
        return [member[1:-1] for member in members][:32]


VENDORS = [Xkey, Ban, Fastly, Cloudflare, CloudFront, CloudFrontTags, Webhook, CacheGroups]


class Handler(BaseHTTPRequestHandler):
    """Gives what a vendor replies; a reply of None when the test is `over`."""

    vendor: Vendor
    over: threading.Event
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        said = self.vendor.reply(Heard(self.command, self.path, headers, body))
        if said is None:
            self.over.wait()
            self.close_connection = True
            return
        self.say(said)

    def say(self, said: Said) -> None:
        content = said.body if isinstance(said.body, str) else json.dumps(said.body)
        body = b"" if said.body is None else content.encode()
        self.send_response_only(said.status)
        for name, value in (said.headers | {"Content-Length": str(len(body))}).items():
            if not (said.status == 204 and name == "Content-Length"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_POST(self) -> None:
        self.answer()

    def do_PURGE(self) -> None:
        self.answer()

    def do_BAN(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(vendor: Vendor) -> Iterator[Vendor]:
    """Have `vendor` listen at an address of its own. A reply of None is given when the test is over."""
    over = threading.Event()
    handler = type("Handler", (Handler,), {"vendor": vendor, "over": over})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    vendor.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield vendor
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dripping(vendor: Vendor, begins: bytes, answered: int) -> Iterator[None]:
    """Give `vendor` the address of a server that acknowledges `answered` requests, and does not end its next answer.

    After what that answer begins with, a byte comes each second of the vendor's clock.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        vendor.address = "http://127.0.0.1:{1}".format(*server.getsockname())
        thread = threading.Thread(target=_drip, args=(vendor.clock, server, begins, answered))
        thread.start()
        try:
            yield
        finally:
            thread.join()


def _drip(clock: Clock, server: socket.socket, begins: bytes, answered: int) -> None:
    connection, _ = server.accept()
    with connection, suppress(OSError):
        for _ in range(answered):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection.recv(65_536)
        connection.sendall(begins)
        for _ in range(1_000):
            clock.now += 1
            connection.sendall(b"x")
