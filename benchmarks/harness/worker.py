"""A process that calls one application directly, as a server's thread does: `python -m benchmarks.harness.worker`.

It reads orders and writes answers, a line of JSON each. What it times is the CPU of the calling thread; requests are
made before the clock starts, and answers checked after it stops.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.harness.cases import PAGE, Expected, WrongAnswerError, address, etag_of, fields, same_page
from benchmarks.harness.processes import memory

BATCH = 50
Answer = tuple[bytes, bytes]
"""Head and body."""


class WSGI:
    """Calls a WSGI application as PEP 3333 has it."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self.application = application

    def prepare(self, url: str, more: Mapping[str, str]) -> dict[str, Any]:
        """Return a GET of this address; `more` are further header fields."""
        path, query = urlsplit(url).path, urlsplit(url).query
        told = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in more.items()}
        return {**ENVIRON, "PATH_INFO": path, "QUERY_STRING": query, **told}

    def run(self, prepared: list[dict[str, Any]]) -> tuple[int, list[Answer]]:
        """Return the nanoseconds that the calls took, and the answers."""
        heads: list[Any] = []
        bodies: list[bytes] = []
        application, note, keep = self.application, _noting(heads), bodies.append
        begun = time.thread_time_ns()
        for environ in prepared:
            parts = application(environ, note)
            keep(b"".join(parts))
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        spent = time.thread_time_ns() - begun
        return spent, [(_head(*head), body) for head, body in zip(heads, bodies, strict=True)]


def _noting(heads: list[Any]) -> Callable[..., None]:
    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        heads.append((status, headers))

    return start_response


def _head(status: str, headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name.lower()}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode()


ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000",
    "HTTP_HOST": "127.0.0.1",
    "HTTP_ACCEPT": "*/*",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.input": io.BytesIO(),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


class ASGI:
    """Calls an ASGI application, one request after the other on one loop."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self.application = application
        self.loop = asyncio.new_event_loop()

    def prepare(self, url: str, more: Mapping[str, str]) -> dict[str, Any]:
        """Return a GET of this address; `more` are further header fields."""
        path, query = urlsplit(url).path, urlsplit(url).query
        headers = [(b"host", b"127.0.0.1"), (b"accept", b"*/*")]
        headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
        return {
            **SCOPE,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
        }

    def run(self, prepared: list[dict[str, Any]]) -> tuple[int, list[Answer]]:
        sent: list[list[Any]] = [[] for _ in prepared]
        begun = time.thread_time_ns()
        self.loop.run_until_complete(self._all(prepared, sent))
        return time.thread_time_ns() - begun, [_answer(messages) for messages in sent]

    async def _all(self, prepared: list[dict[str, Any]], sent: list[list[Any]]) -> None:
        for scope, messages in zip(prepared, sent, strict=True):
            await self.application(scope, _receive, _sender(messages))


SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "root_path": "",
    "client": ("127.0.0.1", 50_000),
    "server": ("127.0.0.1", 8000),
}


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _sender(messages: list[Any]) -> Callable[[Any], Any]:
    async def send(message: Any) -> None:
        messages.append(message)

    return send


def _answer(messages: list[Any]) -> Answer:
    start, *bodies = messages
    headers = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    return _head(f"{start['status']} -", headers), b"".join(part.get("body", b"") for part in bodies)


def _collected() -> float:
    begun = time.perf_counter()
    gc.collect()
    return (time.perf_counter() - begun) * 1000


class Worker:
    """Carries out the orders of one parent."""

    def __init__(self, interface: str, target: str) -> None:
        module, _, name = target.partition(":")
        application = getattr(import_module(module), name)
        self.caller: Any = {"wsgi": WSGI, "asgi": ASGI}[interface](application)
        self.number = 0
        self.etag = ""

    def learn(self, page: str, cases: list[str]) -> dict[str, tuple[int, str]]:
        """Return how long the body of the answer to each case is, and its entity tag, for the parent to expect."""
        self._ask(PAGE)
        self.etag = etag_of(self._ask(PAGE)[0])
        content = Path(page).read_bytes()
        return {case: self._learnt(case, content) for case in cases}

    def _learnt(self, case: str, page: bytes) -> tuple[int, str]:
        self.caller.run([self._prepared(case)])
        _, [(head, body)] = self.caller.run([self._prepared(case)])
        same_page(case, head, body, page)
        return len(body), etag_of(head) if case == "coded" else self.etag

    def time(self, case: str, count: int, right: list[Any]) -> dict[str, float]:
        """Return the microseconds of one request."""
        status, length, needles = right
        expected = Expected(status, length, tuple(needle.encode() for needle in needles))
        self.caller.run([self._prepared(case)])
        spent = sum(self._batch(case, expected, min(BATCH, count - done)) for done in range(0, count, BATCH))
        return {"microseconds": spent / count / 1000}

    def _batch(self, case: str, expected: Expected, count: int) -> int:
        spent, answers = self.caller.run([self._prepared(case) for _ in range(count)])
        for head, body in answers:
            expected.check(head, len(body))
        return int(spent)

    def sql(self, case: str, count: int) -> dict[str, float]:
        """Return the statements that one request sends, by this thread: what a relay does is not among them."""
        self.caller.run([self._prepared(case)])
        with _counting() as counted:
            self.caller.run([self._prepared(case) for _ in range(count)])
        return {"statements": counted[0] / count}

    def entered(self, case: str) -> int:
        """Return how many of three requests went into Django: a fast path that is not taken sends the same bytes."""
        from django.core.signals import request_started  # noqa: PLC0415 - not every peer has it

        seen: list[Any] = []

        def note(**_: Any) -> None:
            seen.append(case)

        request_started.connect(note, weak=False)
        self.caller.run([self._prepared(case) for _ in range(3)])
        request_started.disconnect(note)
        return len(seen)

    def pause(self) -> float:
        """Return the milliseconds for which a full collection of garbage stops every thread, the median of five."""
        return statistics.median(_collected() for _ in range(5))

    def scan(self, base: str, count: int) -> dict[str, float]:
        """Ask for so many addresses that nobody has asked for, and return what this process then holds."""
        for _ in range(count):
            head, _ = self._ask(self._next(base))
            assert head[9:12] == b"200", head
        return memory(os.getpid())._asdict()

    def fill(self, base: str, count: int) -> dict[str, float]:
        """Keep and learn so many more addresses as a request would, without making their pages."""
        from benchmarks.harness.filling import fill  # noqa: PLC0415 - it needs Django

        numbers = range(self.number + 1, self.number + count + 1)
        fill(self.caller, (address(number, base) for number in numbers))
        self.number += count
        return memory(os.getpid())._asdict()

    def _next(self, base: str) -> str:
        self.number += 1
        return address(self.number, base)

    def _url(self, case: str) -> str:
        return self._next(PAGE) if case == "miss" else PAGE

    def _prepared(self, case: str) -> dict[str, Any]:
        prepared: dict[str, Any] = self.caller.prepare(self._url(case), fields(case, self.etag))
        return prepared

    def _ask(self, url: str) -> Answer:
        _, answers = self.caller.run([self.caller.prepare(url, {})])
        answer: Answer = answers[0]
        return answer


@contextmanager
def _counting() -> Iterator[list[int]]:
    """Count the statements of this thread's connections, where there is a Django at all."""
    counted = [0]
    if "django" not in sys.modules or "DJANGO_SETTINGS_MODULE" not in os.environ:
        yield counted
        return
    from django.db import connection  # noqa: PLC0415 - not every peer has it

    def count(execute: Any, *arguments: Any) -> Any:
        counted[0] += 1
        return execute(*arguments)

    with connection.execute_wrapper(count):
        yield counted


def main() -> None:
    """Serve orders until there are no more: `[name, [arguments]]`."""
    worker = Worker(*sys.argv[1:])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(_carried_out(worker, name, arguments)), flush=True)


def _carried_out(worker: Worker, name: str, arguments: list[Any]) -> Any:
    try:
        return getattr(worker, name)(*arguments)
    except WrongAnswerError as error:
        return {"wrong": str(error)}


if __name__ == "__main__":
    main()
