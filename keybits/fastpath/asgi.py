"""The fast path of ASGI (specification 3, HTTP 2.5): which scopes it may answer, and how it sends the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler

from keybits.fastpath import (
    HOLDER,
    PATIENCE,
    AnswerCache,
    Departure,
    Holder,
    Question,
    RawRequest,
    WireResponse,
    answer_cache,
)
from keybits.metrics import Answers, answers

__all__ = ["FastPath"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
NO_LENGTH = frozenset({b"", b"0", None})
ADDRESS = ("raw_path", "root_path", "path", "query_string")
CONTEXT = (
    *(b"host", b"x-forwarded-host", b"accept", b"origin"),
    b"access-control-request-private-network",
)
ASKED = (
    *(b"accept-encoding", b"if-match", b"if-none-match"),
    *(b"if-modified-since", b"if-unmodified-since", b"if-range"),
)
FIRST = (b"cookie", b"authorization", b"content-length", b"content-type", b"transfer-encoding")
OF_SCOPE = ("method", "scheme", *ADDRESS)
OF_FIELDS = (*FIRST, *CONTEXT, *ASKED)
"""What a question is made from, except the field that states the scheme behind a proxy."""
COOKIE = len(OF_SCOPE) + FIRST.index(b"cookie")
OF_ADDRESS = slice(2, len(OF_SCOPE))
OF_FIRST = slice(OF_ADDRESS.stop, OF_ADDRESS.stop + len(FIRST))
OF_CONTEXT = slice(OF_FIRST.stop, OF_FIRST.stop + len(CONTEXT))
OF_ASKED = slice(OF_CONTEXT.stop, OF_CONTEXT.stop + len(ASKED))


class FastPath:
    """An ASGI application in front of Django's: `application = FastPath(get_asgi_application())`.

    Wrap Django's application directly, and put any other middleware outside: what it adds to one answer would otherwise
    be repeated on the next. Stamps are read in the event loop: from LMDB in microseconds, from Redis with a round trip
    that blocks the loop.
    """

    def __init__(self, application: ASGIHandler) -> None:
        if not isinstance(application, ASGIHandler):
            raise ImproperlyConfigured(
                f"FastPath must wrap Django's application directly, not {application!r}: wrap that around "
                "FastPath(get_asgi_application()) instead."
            )
        self.application = application
        answers()  # a missing requirement raises now, and not at the first request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        known, counter = answer_cache(), answers()
        if counter is not None:
            send = _counted(counter, send)
        fields = dict(scope["headers"])
        if len(fields) != len(scope["headers"]):
            scope = _with_one_cookie(scope)
            fields = dict(scope["headers"])
        if known is None or len(fields) != len(scope["headers"]):
            await self.application(scope, receive, send)
            return
        said = (*map(scope.get, OF_SCOPE), *map(fields.get, OF_FIELDS), fields.get(_name(known.proxied)))
        final = known.again(said)
        if final is None:
            await self._ask(known, said, scope, receive, send)
        else:
            await _send(final, send)

    async def _ask(
        self, known: AnswerCache, said: RawRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that `again` does not know: from what was learnt, or as a question that was not learnt."""
        question = _question(said, known)
        if question is None:
            await self.application(scope, receive, send)
            return
        final = known.answer(*question, said=_shared(said))
        if final is not None:
            await _send(final, send)
            return
        # Before it departs: nobody should wait for a client that sends slowly.
        first, receive = await _begun(receive)
        if _is_whole_without_content(first):
            await self._together(known, question, scope, receive, send)
        else:
            await self.application(scope, receive, send)

    async def _together(
        self, known: AnswerCache, question: Question, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a question that has not been learnt: by waiting for who asks the same, or the long way."""
        departure = known.depart(question)
        final = None if departure.leads else await _awaited(departure, known)
        if final is None:
            await self._learn(known, departure, scope, receive, send)
        else:
            await _send(final, send)

    async def _learn(
        self, known: AnswerCache, departure: Departure, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Take the long way, and learn the answer."""
        address, context, _ = departure.question
        holder = scope[HOLDER] = Holder()

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                fields = [
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
                ]
                code = message["status"]
                learnt = known.learn(address, context, holder, code, fields)
                # Not at the end of the response: nobody should wait for a client that reads slowly.
                known.land(departure, learnt=learnt, code=code)
            await send(message)

        try:
            await self.application(scope, receive, note)
        finally:
            known.land(departure, learnt=False)


def _with_one_cookie(scope: Scope) -> Scope:
    """Return the scope with its cookie fields joined; HTTP/2 may send several (RFC 9113 section 8.2.3).

    Django would join them with commas, and then find only the first cookie.
    """
    crumbs = [value for name, value in scope["headers"] if name == b"cookie"]
    if len(crumbs) < 2:
        return scope
    others = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": [*others, (b"cookie", b"; ".join(crumbs))]}


def _counted(counter: Answers, send: Send) -> Send:
    async def note(message: Any) -> None:
        if message["type"] == "http.response.start":
            told = next((value for name, value in message["headers"] if name.lower() == b"cache-status"), b"")
            counter.count(message["status"], told.decode("latin-1"))
        await send(message)

    return note


async def _begun(receive: Receive) -> tuple[Any, Receive]:
    """Return the first message of a request, once it has come, and a `receive` that starts with it again."""
    first = await receive()
    unread = [first]

    async def receive_again() -> Any:
        return unread.pop() if unread else await receive()

    return first, receive_again


def _is_whole_without_content(first: Any) -> bool:
    """Say whether a request that starts with this message ends with it, and has no content."""
    return first["type"] == "http.request" and not (first.get("body") or first.get("more_body"))


async def _awaited(departure: Departure, known: AnswerCache) -> WireResponse | None:
    """Wait for the request that takes the long way with the same question; return the answer, if one was learnt."""
    if departure.leader is None:
        return None
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(departure.leader)), PATIENCE)
    return known.answer(*departure.question)


def _question(said: RawRequest, known: AnswerCache) -> Question | None:
    """Return the question; None where the answer may not be public, or the request has more than this module reads."""
    method, scheme = said[: OF_ADDRESS.start]
    cookie, authorization, length, content_type, transfer_encoding = said[OF_FIRST]
    context = said[OF_CONTEXT]
    if (method != "GET" and method != "HEAD") or context[0] is None:  # noqa: PLR1714
        return None
    if length not in NO_LENGTH or content_type is not None:
        return None
    if authorization is not None or transfer_encoding is not None:
        return None
    if cookie is not None and known.worrying.search(cookie.decode("latin-1")):
        return None
    return said[OF_ADDRESS], (method, scheme, said[-1], *context), (method, *map(_text, said[OF_ASKED]))


def _shared(said: RawRequest) -> RawRequest | None:
    """Return `said` where another request may be the same; None where it has cookies, which differ by client."""
    return said if said[COOKIE] is None else None


@cache
def _name(key: str) -> bytes:
    """Return the ASGI name of the field with this key in WSGI's environ."""
    return key.removeprefix("HTTP_").replace("_", "-").lower().encode()


async def _send(final: WireResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": final.code, "headers": final.raw.copy()})
    await send({"type": "http.response.body", "body": final.body})


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
