"""The fast path of WSGI (PEP 3333): which environs are questions of its world, and how they are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

from keybits.fastpath import HOLDER, Holder, Lane, Question, lane

__all__ = ["FastPath"]

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class FastPath:
    """A WSGI application in front of Django's: `application = FastPath(get_wsgi_application())`."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._session = f"{settings.SESSION_COOKIE_NAME}="
        header = settings.SECURE_PROXY_SSL_HEADER
        self._proxied = header[0] if header else "wsgi.url_scheme"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        known = lane()
        question = self._question(environ) if known is not None else None
        if known is None or question is None:
            return self.application(environ, start_response)
        final = known.answer(*question)
        if final is None:
            return self._learn(known, question, environ, start_response)
        start_response(final.status, final.headers.copy())
        return [final.body]

    def _question(self, environ: dict[str, Any]) -> Question | None:
        """Return what is asked; None where it is not for everybody, or says more than an address and conditions."""
        get = environ.get
        method = environ["REQUEST_METHOD"]
        if (method != "GET" and method != "HEAD") or get("HTTP_AUTHORIZATION") is not None:  # noqa: PLR1714
            return None
        if get("CONTENT_LENGTH", "0") not in NO_CONTENT or get("HTTP_TRANSFER_ENCODING") is not None:
            return None
        cookie = get("HTTP_COOKIE")
        if cookie is not None and self._session in cookie:
            return None
        sent = get("RAW_URI") or get("REQUEST_URI")
        return (
            (sent, environ["SCRIPT_NAME"], environ["PATH_INFO"], get("QUERY_STRING", "")),
            (
                environ["wsgi.url_scheme"],
                get(self._proxied),
                get("HTTP_HOST"),
                get("HTTP_X_FORWARDED_HOST"),
                get("HTTP_ACCEPT"),
                get("HTTP_ORIGIN"),
            ),
            (
                method,
                get("HTTP_ACCEPT_ENCODING"),
                get("HTTP_IF_MATCH"),
                get("HTTP_IF_NONE_MATCH"),
                get("HTTP_IF_MODIFIED_SINCE"),
                get("HTTP_IF_UNMODIFIED_SINCE"),
                get("HTTP_IF_RANGE"),
            ),
        )

    def _learn(
        self, known: Lane, question: Question, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Go the long way, and remember what came of it."""
        holder = environ[HOLDER] = Holder()

        def note(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            known.learn(question[0], question[1], holder, int(status[:3]), tuple(headers))
            return start_response(status, headers, *more)

        return self.application(environ, note)


NO_CONTENT = frozenset({"", "0", None})
