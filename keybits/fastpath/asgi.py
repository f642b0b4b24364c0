"""The fast path of ASGI (specification 3, HTTP 2.5): which scopes are questions of its world, and their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings

from keybits.fastpath import HOLDER, Final, Holder, Lane, Question, lane

__all__ = ["FastPath"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range")


class FastPath:
    """An ASGI application in front of Django's: `application = FastPath(get_asgi_application())`.

    The stamps are read in the event loop: from LMDB in microseconds, from Redis with a round trip that it waits for.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self._session = f"{settings.SESSION_COOKIE_NAME}=".encode()
        header = settings.SECURE_PROXY_SSL_HEADER
        self._proxied = header[0].removeprefix("HTTP_").replace("_", "-").lower().encode() if header else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = lane()
        question = self._question(scope) if known is not None and scope["type"] == "http" else None
        if known is None or question is None:
            await self.application(scope, receive, send)
            return
        final = known.answer(*question)
        if final is None:
            await self._learn(known, question, scope, receive, send)
            return
        await _send(final, send)

    def _question(self, scope: Scope) -> Question | None:
        """Return what is asked; None where it is not for everybody, or says more than an address and conditions."""
        method, sent = scope["method"], scope["headers"]
        fields = dict(sent)
        if (method != "GET" and method != "HEAD") or len(fields) != len(sent):  # noqa: PLR1714
            return None
        if b"authorization" in fields or b"transfer-encoding" in fields:
            return None
        if fields.get(b"content-length", b"0") not in {b"", b"0"} or self._session in fields.get(
            b"cookie", b""
        ):
            return None
        get = fields.get
        return (
            (scope.get("raw_path"), scope.get("root_path", ""), scope["path"], scope["query_string"]),
            (
                scope.get("scheme"),
                get(self._proxied),
                get(b"host"),
                get(b"x-forwarded-host"),
                get(b"accept"),
                get(b"origin"),
            ),
            (method, *map(_text, map(get, (b"accept-encoding", *CONDITIONS)))),
        )

    async def _learn(
        self, known: Lane, question: Question, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Go the long way, and remember what came of it."""
        holder = scope[HOLDER] = Holder()

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                fields = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
                ]
                known.learn(question[0], question[1], holder, message["status"], fields)
            await send(message)

        await self.application(scope, receive, note)


async def _send(final: Final, send: Send) -> None:
    await send({"type": "http.response.start", "status": final.code, "headers": final.raw})
    await send({"type": "http.response.body", "body": final.body})


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
