"""How a server is asked: over connections that stay open, several requests under way, and every answer checked.

It reads no more of an answer than it must: it shares the machine with the server.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from types import TracebackType

from benchmarks.harness.cases import Expected

__all__ = ["Connection", "Load", "request"]

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)")
CHUNK = 1 << 16
SECONDS = 60
"""How long an answer may take before the server counts as stuck."""


def request(address: str, more: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a GET; `more` are further header fields."""
    fields = {"Host": "127.0.0.1", "Accept": "*/*", **(more or {})}
    lines = [f"GET {address} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "\r\n"]).encode()


class Connection:
    """One connection, on which one request after another is answered."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def ask(self, sent: bytes) -> tuple[bytes, bytes]:
        """Send a request; return the head of the answer, in lower case but for its ETag, and the body."""
        self.send(sent)
        return self.receive()

    def send(self, sent: bytes) -> None:
        self.socket.sendall(sent)

    def receive(self) -> tuple[bytes, bytes]:
        """Return the head of the next answer, names in lower case, and its body."""
        head = _lowered(self._until(b"\r\n\r\n"))
        if head[9:12] in {b"304", b"204"}:
            return head, b""
        if b"transfer-encoding: chunked" in head:
            return head, b"".join(iter(self._chunk, b""))
        found = LENGTH.search(head)
        return head, self._exactly(int(found[1])) if found else b""

    def close(self) -> None:
        self.socket.close()

    def _chunk(self) -> bytes:
        size = int(self._until(b"\r\n"), 16)
        return self._exactly(size + 2)[:-2]

    def _until(self, end: bytes) -> bytes:
        while end not in self.rest:
            self._more()
        found, _, self.rest = self.rest.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        parts, have = [self.rest], len(self.rest)
        while have < size:
            parts.append(self._received())
            have += len(parts[-1])
        whole = b"".join(parts)
        self.rest = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        self.rest += self._received()

    def _received(self) -> bytes:
        found = self.socket.recv(CHUNK)
        if not found:
            raise ConnectionError("the server closed the connection")
        return found


NAMES = re.compile(rb"\r\n[^:\r\n]+: *")


def _lowered(head: bytes) -> bytes:
    """Return the head with the names of its fields in lower case, each followed by a colon and one space."""
    return NAMES.sub(lambda name: name[0].rstrip().lower() + b" ", head)


class Load:
    """So many connections, each with one request under way, until enough have been answered."""

    def __init__(self, port: int, make: Callable[[], bytes], expected: Expected, connections: int) -> None:
        self.make = make
        self.expected = expected
        self.links = [Connection(port) for _ in range(connections)]
        for link in self.links:  # unchecked: it may be the first request of its kind for a long time
            link.ask(make())

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Exception | None, at: TracebackType | None
    ) -> None:
        for link in self.links:
            link.close()

    def run(self, count: int) -> None:
        """Have `count` requests answered, each of them checked."""
        links = self.links[:count]
        for link in links:
            link.send(self.make())
        for number in range(count):
            link = links[number % len(links)]
            head, body = link.receive()
            self.expected.check(head, len(body))
            if number + len(links) < count:
                link.send(self.make())
