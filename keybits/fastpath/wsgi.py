"""The fast path of WSGI (PEP 3333): which environs it may answer, and how it sends the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import wait
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler

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

NO_LENGTH = frozenset({"", "0", None})
NO_TYPE = frozenset({"", "text/plain", None})
"""Content types that servers give a request without content. A charset would change how Django reads its query."""


ADDRESS = (
    *("RAW_URI", "REQUEST_URI", "SCRIPT_URL", "REDIRECT_URL"),
    *("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"),
)
CONTEXT = (
    *("HTTP_X_FORWARDED_HOST", "HTTP_ACCEPT", "HTTP_ORIGIN"),
    "HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK",
)
ASKED = (
    *("HTTP_ACCEPT_ENCODING", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"),
    *("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE"),
)
FIRST = (
    *("REQUEST_METHOD", "wsgi.url_scheme", "HTTP_HOST", "HTTP_COOKIE", "HTTP_AUTHORIZATION"),
    *("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"),
)
SAID = (*FIRST, *ADDRESS, *CONTEXT, *ASKED)
"""What a question is made from, except the field that states the scheme behind a proxy."""
COOKIE = SAID.index("HTTP_COOKIE")
OF_ADDRESS = slice(len(FIRST), len(FIRST) + len(ADDRESS))
OF_CONTEXT = slice(OF_ADDRESS.stop, OF_ADDRESS.stop + len(CONTEXT))
OF_ASKED = slice(OF_CONTEXT.stop, OF_CONTEXT.stop + len(ASKED))


class FastPath:
    """A WSGI application in front of Django's: `application = FastPath(get_wsgi_application())`.

    Wrap Django's application directly, and put any other middleware outside: what it adds to one answer would otherwise
    be repeated on the next.
    """

    def __init__(self, application: WSGIHandler) -> None:
        if not isinstance(application, WSGIHandler):
            raise ImproperlyConfigured(
                f"FastPath must wrap Django's application directly, not {application!r}: wrap that around "
                "FastPath(get_wsgi_application()) instead."
            )
        self.application = application
        answers()  # a missing requirement raises now, and not at the first request

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        known, counter = answer_cache(), answers()
        if counter is not None:
            start_response = _counted(counter, start_response)
        if known is None:
            return self.application(environ, start_response)
        said = (*map(environ.get, SAID), environ.get(known.proxied))
        final = known.again(said)
        if final is None:
            return self._ask(known, said, environ, start_response)
        return _sent(final, start_response)

    def _ask(
        self,
        known: AnswerCache,
        said: RawRequest,
        environ: dict[str, Any],
        start_response: Callable[..., Any],
    ) -> Iterable[bytes]:
        """Answer a request that `again` does not know: from what was learnt, or by waiting, or the long way."""
        question = _question(said, known)
        if question is None:
            return self.application(environ, start_response)
        final = known.answer(*question, said=_shared(said))
        if final is None:
            departure = known.depart(question)
            final = None if departure.leads else _awaited(departure, known)
            if final is None:
                return self._learn(known, departure, environ, start_response)
        return _sent(final, start_response)

    def _learn(
        self,
        known: AnswerCache,
        departure: Departure,
        environ: dict[str, Any],
        start_response: Callable[..., Any],
    ) -> Iterable[bytes]:
        """Take the long way, and learn the answer."""
        address, context, _ = departure.question
        holder = environ[HOLDER] = Holder()
        learnt, code = False, 0

        def note(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            nonlocal learnt, code
            code = int(status[:3])
            learnt = known.learn(address, context, holder, code, tuple(headers))
            return start_response(status, headers, *more)

        try:
            return self.application(environ, note)
        finally:
            known.land(departure, learnt=learnt, code=code)


def _sent(final: WireResponse, start_response: Callable[..., Any]) -> list[bytes]:
    start_response(final.status, final.headers.copy())
    return [final.body]


def _counted(counter: Answers, start_response: Callable[..., Any]) -> Callable[..., Any]:
    def note(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        told = next((value for name, value in headers if name.lower() == "cache-status"), "")
        counter.count(int(status[:3]), told)
        return start_response(status, headers, *more)

    return note


def _awaited(departure: Departure, known: AnswerCache) -> WireResponse | None:
    """Wait for the request that takes the long way with the same question; return the answer, if one was learnt."""
    if departure.leader is None:
        return None
    wait((departure.leader,), PATIENCE)
    return known.answer(*departure.question)


def _question(said: RawRequest, known: AnswerCache) -> Question | None:
    """Return the question; None where the answer may not be public, or the request has more than this module reads."""
    method, scheme, host, cookie, authorization, length, content_type, transfer_encoding = said[: len(FIRST)]
    if (method != "GET" and method != "HEAD") or host is None:  # noqa: PLR1714
        return None
    if length not in NO_LENGTH or content_type not in NO_TYPE:
        return None
    if authorization is not None or transfer_encoding is not None:
        return None
    if cookie is not None and known.worrying.search(cookie):
        return None
    return said[OF_ADDRESS], (method, scheme, said[-1], host, *said[OF_CONTEXT]), (method, *said[OF_ASKED])


def _shared(said: RawRequest) -> RawRequest | None:
    """Return `said` where another request may be the same; None where it has cookies, which differ by client."""
    return said if said[COOKIE] is None else None
