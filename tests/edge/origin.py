"""An origin that answers what a test says, when the test says so, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stacks.servers import reserve_port

PATIENCE = 20.0
"""Seconds after which an event that a test waits for will not come."""
TO_EVERYBODY = {
    "Cache-Control": "public, max-age=0, must-revalidate",
    "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
    "Vary": "Accept-Encoding",
}

ASKED_OF_A_304 = {"Cache-Control", "Content-Location", "Date", "ETag", "Expires"}
"""And Vary, where it has not been sent: WhiteNoise leaves it out."""


def held(keys: str = "", terms: str = "max-age=86400, stale-if-error=86400", **more: str) -> dict[str, str]:
    """Return the headers of an answer that a cache may hold which we purge; underscores in names are hyphens."""
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return TO_EVERYBODY | {"Surrogate-Control": terms, "xkey": keys} | named


@dataclass
class Page:
    """What a path answers: a strong ETag is made of the body, unless the headers have one.

    A 304 has the same headers, or where it is `terse` those alone that RFC 9110 section 15.4.5 asks for.
    """

    body: bytes
    headers: Mapping[str, str]
    status: int = 200
    terse: bool = False

    def etag(self) -> str:
        return self.headers.get("ETag", f'"{hashlib.sha256(self.body).hexdigest()[:12]}"')


@dataclass
class Asked:
    """One request as it reached the origin."""

    method: str
    target: str
    headers: Message
    answered: int = 0


@dataclass
class Gate:
    """Holds answers back that are already made, as a slow origin does: `arrived` when one is, until `open`."""

    arrived: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Return once a request waits here."""
        assert self.arrived.wait(PATIENCE), "nothing was asked"


class Origin:
    """Listens on one loopback port, again after `up()`. `pages` is by target, the query included."""

    def __init__(self) -> None:
        self.port = reserve_port()
        self.pages: dict[str, Page] = {}
        self.asked: list[Asked] = []
        self.gates: dict[str, list[Gate]] = {}
        self._server: ThreadingHTTPServer | None = None

    def answer(
        self, target: str, body: str, headers: Mapping[str, str], status: int = 200, *, terse: bool = False
    ) -> None:
        """From now on `target` has this answer."""
        self.pages[target] = Page(body.encode(), headers, status, terse)

    def requests(self, target: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.target == target]

    def statuses(self, target: str) -> list[int]:
        """Return what `target` was answered with, in order."""
        return [asked.answered for asked in self.requests(target)]

    @contextmanager
    def slow(self, target: str) -> Iterator[Gate]:
        """Make the next answer of `target`, then hold it back until the gate is open, or the block ends."""
        (gate,) = self.gate(target, 1)
        try:
            yield gate
        finally:
            gate.open.set()

    def gate(self, target: str, times: int) -> list[Gate]:
        """Do so with the next requests, each at a gate of its own; open them all."""
        self.gates[target] = [Gate() for _ in range(times)]
        return list(self.gates[target])

    def up(self) -> None:
        self._server = _Listener(("127.0.0.1", self.port), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        """Refuse every connection."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def reset(self) -> None:
        """Forget everything, and be there."""
        self.down()
        self.pages.clear()
        self.asked.clear()
        self.gates.clear()
        self.up()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                super().handle_one_request()
                self.close_connection = True

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: origin._serve(self)
                raise AttributeError(name)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        return Handler

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        target = handler.requestline.split()[1]  # `handler.path` has no double slash left
        asked = Asked(handler.command, target, handler.headers)
        self.asked.append(asked)
        page = self.pages.get(target, Page(b"nothing here", {"Cache-Control": "private, no-store"}, 404))
        if gates := self.gates.get(target):
            gate = gates.pop(0)
            gate.arrived.set()
            assert gate.open.wait(PATIENCE), "the gate was never opened"
        _send(handler, asked, page)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def _send(handler: BaseHTTPRequestHandler, asked: Asked, page: Page) -> None:
    unchanged = page.status == 200 and page.etag() in handler.headers.get("If-None-Match", "")
    asked.answered = 304 if unchanged else page.status
    handler.send_response_only(asked.answered)
    usual = {"ETag": page.etag(), "Date": handler.date_time_string()}
    for name, value in (usual | dict(page.headers)).items():
        if not (unchanged and page.terse) or name in ASKED_OF_A_304:
            handler.send_header(name, value)
    if not unchanged:
        handler.send_header("Content-Length", str(len(page.body)))
    handler.send_header("Connection", "close")
    handler.end_headers()
    if not unchanged and handler.command != "HEAD":
        handler.wfile.write(page.body)
