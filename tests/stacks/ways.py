"""Both ways into an application, in this process: through the fast path, and past it, by WSGI and by ASGI."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from asgiref.sync import async_to_sync
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from keybits.fastpath import asgi
from keybits.fastpath.asgi import FastPath as AsgiFastPath
from keybits.fastpath.wsgi import FastPath as WsgiFastPath

Fields = tuple[tuple[str, str], ...]


class Told(NamedTuple):
    """An answer as the server is told it: the status, the fields in order, the content."""

    status: int
    fields: Fields
    content: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return ", ".join(self.all(name)) if self.all(name) else None

    def without(self, *names: str) -> Told:
        return self._replace(fields=tuple(pair for pair in self.fields if pair[0].lower() not in names))


@dataclass(frozen=True)
class Asked:
    """A request as it is on the wire. `raw` is whether the server tells the target as it was sent."""

    target: str
    fields: Fields = (("Host", "localhost"),)
    method: str = "GET"
    scheme: str = "http"
    body: bytes = b""
    mount: str = ""
    raw: bool = True
    environ: Mapping[str, str] = field(default_factory=dict)

    def with_fields(self, *fields: tuple[str, str]) -> Asked:
        """Add fields; a Host replaces the one there is."""
        kept = () if any(name == "Host" for name, _ in fields) else self.fields
        return replace(self, fields=(*kept, *fields))

    @property
    def path(self) -> bytes:
        return unquote_to_bytes(self.target.partition("?")[0].encode("latin-1"))


class Ways:
    """One application, asked on its fast way and on its long way; `fast_answers` counts what never reached Django."""

    def __init__(self, django: Any, fast: Any) -> None:
        self._django = django
        self._fast = fast
        self.fast_answers = 0

    def fast(self, asked: Asked) -> Told:
        passed: list[None] = []
        self._fast.application = self._counting(passed)
        told = self._ask(self._fast, asked)
        self.fast_answers += not passed
        return told

    def long(self, asked: Asked) -> Told:
        return self._ask(self._django, asked)

    def was_fast(self, asked: Asked) -> bool:
        before = self.fast_answers
        self.fast(asked)
        return self.fast_answers > before

    def _counting(self, passed: list[None]) -> Any:
        def count(*arguments: Any) -> Any:
            passed.append(None)
            return self._django(*arguments)

        return count

    def _ask(self, application: Any, asked: Asked) -> Told:
        raise NotImplementedError


class WsgiWays(Ways):
    def __init__(self) -> None:
        django = get_wsgi_application()
        super().__init__(django, WsgiFastPath(django))

    def _ask(self, application: Any, asked: Asked) -> Told:
        started: list[Any] = []
        response = application(environ_of(asked), lambda *given: started.append(given))
        content = b"".join(response)
        getattr(response, "close", lambda: None)()
        status, fields = started[-1][:2]
        return Told(int(status[:3]), tuple(fields), content)


class AsgiWays(Ways):
    def __init__(self) -> None:
        django = get_asgi_application()
        super().__init__(django, AsgiFastPath(django))

    def long(self, asked: Asked) -> Told:
        """Ask as it is handed on: Django by itself finds no cookie but the first, where they come in several fields."""
        return exchange(self._django, asgi._with_one_cookie(scope_of(asked)), asked.body)

    def _ask(self, application: Any, asked: Asked) -> Told:
        return exchange(application, scope_of(asked), asked.body)


def exchange(application: Callable[..., Any], scope: dict[str, Any], body: bytes = b"") -> Told:
    """Ask an ASGI application once."""
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            found = next(received, None)
            if found is None:
                import asyncio  # noqa: PLC0415 - the one place that waits for ever

                await asyncio.Event().wait()
            return found or {}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await application(scope, receive, send)

    async_to_sync(run)()
    start, *parts = sent
    fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"])
    return Told(start["status"], fields, b"".join(part["body"] for part in parts))


def environ_of(asked: Asked) -> dict[str, Any]:
    """Return the environ of a request, as gunicorn (which tells `RAW_URI`) or granian (which does not) makes it."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": asked.method,
        "SCRIPT_NAME": asked.mount,
        "PATH_INFO": asked.path.decode("latin-1"),
        "QUERY_STRING": asked.target.partition("?")[2],
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": asked.scheme,
        "wsgi.input": io.BytesIO(asked.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if asked.raw:
        environ["RAW_URI"] = asked.mount + asked.target
    for name, value in asked.fields:
        key = name.upper().replace("-", "_")
        key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        joint = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
    return environ | dict(asked.environ)


def scope_of(asked: Asked) -> dict[str, Any]:
    """Return the scope of a request, as ASGI servers make it."""
    path, _, query = asked.target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": asked.method,
        "scheme": asked.scheme,
        "path": asked.mount + asked.path.decode("utf-8", "replace"),
        "raw_path": (asked.mount + path).encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": asked.mount,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in asked.fields],
        "client": ("127.0.0.1", 40_000),
        "server": ("localhost", 80),
    }
