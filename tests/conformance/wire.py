"""Requests and answers as bytes on a socket: nothing is normalised, added or repaired on the way."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Fields", "Reply", "ask", "flood"]

Fields = Sequence[tuple[str, str]]
TIMEOUT = 30.0


@dataclass(frozen=True)
class Reply:
    """One answer; field names are in small letters, in the order they came in."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return the value of each field line of that name."""
        return [value for key, value in self.fields if key == name.lower()]

    def get(self, name: str) -> str | None:
        """Return the combined value of the field (RFC 9110 section 5.3), or None."""
        return ", ".join(self.all(name)) if self.all(name) else None

    def __getitem__(self, name: str) -> str:
        """Return the field's value; "" where there is none."""
        return self.get(name) or ""

    def __contains__(self, text: object) -> bool:
        """Say whether `text` stands anywhere in the answer."""
        head = "".join(f"{name}: {value}\n" for name, value in self.fields)
        return str(text).encode() in head.encode("latin-1") + self.body


def ask(port: int, target: str, method: str = "GET", fields: Fields = (), body: bytes = b"") -> Reply:
    """Send one request; its characters stand for bytes (latin-1). A Host is added where none is given."""
    with _connected(port) as connection:
        connection.sendall(
            _request(target, method, [*_host(fields), *fields, ("Connection", "close")]) + body
        )
        return _parsed(_rest(connection))


def flood(port: int, targets: Iterable[str], fields: Fields = ()) -> int:
    """Ask for each target, a hundred on a connection; return how many were answered."""
    waiting, answered = list(targets), 0
    while waiting:
        batch, waiting = waiting[:100], waiting[100:]
        requests = [_request(target, "GET", [*_host(fields), *fields]) for target in batch[:-1]]
        requests.append(_request(batch[-1], "GET", [*_host(fields), *fields, ("Connection", "close")]))
        with _connected(port) as connection:
            connection.sendall(b"".join(requests))
            answered += _rest(connection).count(b"HTTP/1.1 ")
    return answered


def _host(fields: Fields) -> list[tuple[str, str]]:
    return [] if any(name.lower() == "host" for name, _ in fields) else [("Host", "localhost")]


def _request(target: str, method: str, fields: Fields) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)


def _rest(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes; a server that resets instead has said all it will."""
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def _parsed(received: bytes) -> Reply:
    head, _, body = received.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    fields = tuple(
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    )
    chunked = ("transfer-encoding", "chunked") in fields
    return Reply(int(start.split(" ")[1]) if start else 0, fields, _joined(body) if chunked else body)


def _joined(chunks: bytes) -> bytes:
    """Return the content of the chunked coding (RFC 9112 section 7.1)."""
    content = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        content, chunks = content + rest[:length], rest[length + 2 :]
        if length == 0:
            break
    return content
