"""The way from a client to the server: passes everything on but the date as it is, and remembers what was asked."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from email.utils import formatdate
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stacks.live import LiveServer

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True)
class Exchange:
    """What was asked and answered; `condition` is the If-None-Match that was sent."""

    target: str
    status: int
    condition: str | None


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    server: Wire

    def do_GET(self) -> None:
        answer, body = self._ask()
        condition = self.headers["If-None-Match"]
        self.server.exchanges.append(Exchange(self.path, answer.status, condition))
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {*HOP_BY_HOP, "date"}:
                self.send_header(name, value)
        self.send_header("Date", formatdate(self.server.begun + len(self.server.exchanges), usegmt=True))
        self.end_headers()
        self.wfile.write(body)

    def _ask(self) -> tuple[HTTPResponse, bytes]:
        upstream = HTTPConnection("127.0.0.1", self.server.origin.port, timeout=30)
        upstream.putrequest("GET", self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        return answer, body

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: `exchanges` has it."""


class Wire(ThreadingHTTPServer):
    """Passes every GET on to the server as it is, and notes it before the client has the answer.

    So when a client has its answer, what it asked the server is known, and what it did not ask too. Each answer is a
    second younger than the one before: of two within a second a client cannot tell by Date which is the present one
    (RFC 9111 section 4), and hishel takes any.
    """

    daemon_threads = True

    def __init__(self, origin: LiveServer) -> None:
        super().__init__(("127.0.0.1", 0), _Relay)
        self.origin = origin
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.begun = time.time()
        self.exchanges: list[Exchange] = []

    def write(self) -> str:
        """Give the public gallery and its screenshots a new title, in another process, and return it."""
        title = f"new {uuid.uuid4()}"
        galleries = f"Gallery.objects.filter(slug='a').update(title={title!r})"
        self.origin.shell(f"{galleries}; Screenshot.objects.update(title={title!r})")
        return title

    def statuses(self, target: str) -> list[int]:
        """Return what the server answered for `target`, in order."""
        return [exchange.status for exchange in self.exchanges if exchange.target == target]
