"""What must hold for every answer, cached or not: of its Host, scheme, path, content, length, CORS fields, cookies.

Django checks the Host only when code asks for it, which no cached answer does. CommonMiddleware would set the length
of a 304, too, and to 0, which is not the length of the 200 that it stands for (RFC 9110 section 8.6).
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from django.conf import settings
from django.http import Http404, HttpRequest
from django.http.request import split_domain_port
from django.http.response import HttpResponse, HttpResponseBase

from keybits import cache_control, preludes
from keybits.problems import problem_response

__all__ = [
    "content_length_middleware",
    "cookieless_middleware",
    "cross_origin_middleware",
    "host_middleware",
    "https_middleware",
    "measured",
    "path_middleware",
    "spelt",
    "unread_content_middleware",
]

GetResponse = Callable[[HttpRequest], HttpResponseBase]

CHUNK = 2**16
"""How many bytes of unread content are read at a time."""
TURN = 0.5
"""Seconds for which a thread waits until it may read unread content."""
_reading = threading.Lock()
"""Held while unread content is read."""

ANYBODY = ("Access-Control-Allow-Origin", "*")
"""The field that allows every origin."""
_AS_IT_IS = "/!$&'()*+,=:@~"
"""Characters that `reverse()` leaves unescaped, beside letters, digits and `-._` (RFC 3986 3.3); not the semicolon."""
_NO_PATH_OF_OURS = re.compile(r"\A[^/]|//|/\.{1,2}(?=/|\Z)|[;\\\x00-\x1f\x7f-\x9f]")
_PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://[^/?]*)?([^?]*)")


def host_middleware(get_response: GetResponse) -> GetResponse:
    """Refuse a Host that is not in `ALLOWED_HOSTS` (400), and a method in lower case (501), before anything else.

    Django accepts methods in any case; caches and servers in front do not (RFC 9110 section 9.1). Statements to the
    database are noted from here until the stamps are looked up (`keybits.preludes`).
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request.get_host()
        if _method_as_sent(request) != request.method:
            return problem_response(501, detail="Methods are case-sensitive; write them in capitals.")
        token = preludes.begin()
        try:
            return get_response(request)
        finally:
            preludes.end(token)

    return middleware


def _method_as_sent(request: HttpRequest) -> str:
    scope = getattr(request, "scope", None)
    return str(request.META["REQUEST_METHOD"] if scope is None else scope["method"])


def https_middleware(get_response: GetResponse) -> GetResponse:
    """Redirect http to https (308) where `SECURE_SSL_REDIRECT` is set. Put it before Django's SecurityMiddleware.

    Django's redirect repeats the port that the client sent, and its 301 is heuristically cacheable (RFC 9110 section
    15.4.2). Both leave the paths of `SECURE_REDIRECT_EXEMPT` alone.
    """
    exempt = [re.compile(pattern) for pattern in settings.SECURE_REDIRECT_EXEMPT]

    def is_exempt(request: HttpRequest) -> bool:
        path = request.path.lstrip("/")
        return any(pattern.search(path) for pattern in exempt)

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.is_secure() or not settings.SECURE_SSL_REDIRECT or is_exempt(request):
            return get_response(request)
        host = settings.SECURE_SSL_HOST or split_domain_port(request.get_host())[0]
        target = {"Location": f"https://{host}{request.get_full_path()}"}
        return HttpResponse(status=308, headers={**target, "Cache-Control": cache_control.PRIVATE})

    return middleware


def path_middleware(get_response: GetResponse) -> GetResponse:
    """Refuse a path that is not spelt as `reverse()` spells it (404), before anything is looked up.

    A cache in front keys by the spelling: a second one is a second entry there, and where cache and server read a path
    differently (an encoded slash, a dot segment, a semicolon) the cache stores what the server never meant to publish.
    ASGI servers, gunicorn and most others pass the path as it was sent. Where a server does not, such as granian under
    WSGI, an escape cannot be told from what it stands for, and only the decoded path is checked.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        sent = _path_as_sent(request)
        known = not _NO_PATH_OF_OURS.search(request.path_info) if sent is None else _is_canonical(sent)
        if not known:
            raise Http404
        return get_response(request)

    return middleware


def _path_as_sent(request: HttpRequest) -> str | None:
    """Return the path of the request target with its escapes; None where the server does not pass it."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        raw = scope.get("raw_path")
        target = None if raw is None else raw.decode("latin-1")
    else:
        target = request.META.get("RAW_URI") or request.META.get("REQUEST_URI")
    found = None if target is None else _PATH.match(target)
    return (found[1] or "/") if found else None


def _is_canonical(path: str) -> bool:
    try:
        text = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    return spelt(text) == path and not _NO_PATH_OF_OURS.search(text)


def spelt(path: str) -> str:
    """Return the one accepted spelling of a path that is given without escapes."""
    return quote(path, safe=_AS_IT_IS)


def unread_content_middleware(get_response: GetResponse) -> GetResponse:
    """Once an answer is sent, read what nobody has read of its request's content, up to `DATA_UPLOAD_MAX_MEMORY_SIZE`.

    WSGI servers close a connection by a reset where content is left unread, and a client that is still sending loses
    the answer (RFC 9112 section 9.6): a proxy in front makes a 502 of each refusal that did not need the content.
    Whoever expects to be told before sending it (`Expect: 100-continue`) is told by the answer. One thread of a process
    reads at a time, since a client may never send what it has declared; what another cannot read soon is left unread.
    Under ASGI Django has read everything. Put it after those that look at the Host and the path alone.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        meta = request.META
        if meta.get("CONTENT_LENGTH") and "HTTP_EXPECT" not in meta and not hasattr(request, "scope"):
            # Not in django-stubs; a wrapped `close` would leave out what Django adds to these.
            response._resource_closers.append(partial(_read_in_turn, request))  # type: ignore[attr-defined]
        return response

    return middleware


def _read_in_turn(request: HttpRequest) -> None:
    if _reading.acquire(timeout=TURN):
        try:
            _read_to_the_end(request)
        finally:
            _reading.release()


def _renew() -> None:
    """Give a child process a new lock: if a thread of its parent reads, nobody there would release the old one."""
    global _reading  # noqa: PLW0603 - one lock a process is the point
    _reading = threading.Lock()


os.register_at_fork(after_in_child=_renew)


def _read_to_the_end(request: HttpRequest) -> None:
    """Read and drop what is left, up to the limit. Where the client has gone, Django drops the error of a closer."""
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    left = math.inf if most is None else most
    while left > 0 and (found := request.read(CHUNK)):
        left -= len(found)


def content_length_middleware(get_response: GetResponse) -> GetResponse:
    """Give every answer that is not streamed its Content-Length, where it may have one."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        return measured(get_response(request))

    return middleware


def measured(response: HttpResponseBase) -> HttpResponseBase:
    """Return the response with its Content-Length, if it is not streamed and may have one (RFC 9110 section 8.6)."""
    bodiless = response.status_code in {204, 304} or response.status_code < 200
    if not (response.streaming or bodiless or response.has_header("Content-Length")):
        response["Content-Length"] = str(len(response.content))  # type: ignore[attr-defined]
    return response


def cross_origin_middleware(get_response: GetResponse) -> GetResponse:
    """Replace django-cors-headers' own middleware; where it allows every origin or one, tell every client which.

    It says so only in answer to an Origin, so that its answers vary by that field, and shared caches store a copy of
    the same answer for each origin, or ignore that it varies. A constant needs neither (Fetch, section "CORS protocol
    and HTTP caches"). Preflights, and what receivers of its signal decide, are left to it.
    """
    from corsheaders.conf import conf  # noqa: PLC0415 - optional: keybits does not need it
    from corsheaders.middleware import CorsMiddleware  # noqa: PLC0415 - as above
    from corsheaders.signals import check_request_enabled  # noqa: PLC0415 - as above

    ask, constant = CorsMiddleware(get_response), _told_to_all(conf)
    concerns = re.compile(conf.CORS_URLS_REGEX).match

    def middleware(request: HttpRequest) -> HttpResponseBase:
        is_asked = check_request_enabled.has_listeners()
        told = [] if is_asked and ANYBODY not in constant else constant
        if told and request.method != "OPTIONS" and not is_asked:
            response = get_response(request)
            is_for_all = concerns(request.path_info) is not None
        else:
            response = ask(request)  # type: ignore[assignment]  # no coroutine: `get_response` is none
            is_for_all = bool(told) and _stop_varying_by(response, "origin")
        for name, value in told if is_for_all else ():
            response[name] = value
        return response

    return middleware


def _told_to_all(conf: Any) -> list[tuple[str, str]]:
    """Return the fields to send whatever the origin; none where they depend on it. `conf` is django-cors-headers'."""
    if conf.CORS_ALLOW_CREDENTIALS or conf.CORS_ALLOW_PRIVATE_NETWORK:
        return []
    allowed = _the_allowed(conf)
    exposed = ", ".join(conf.CORS_EXPOSE_HEADERS)
    told = [*allowed, ("Access-Control-Expose-Headers", exposed)]
    return told if allowed and exposed else allowed


def _the_allowed(conf: Any) -> list[tuple[str, str]]:
    """Return the field that allows every origin, or the only one that is allowed; nothing where there are others."""
    if conf.CORS_ALLOW_ALL_ORIGINS:
        return [ANYBODY]
    origins = tuple(conf.CORS_ALLOWED_ORIGINS)
    is_only = len(origins) == 1 and not conf.CORS_ALLOWED_ORIGIN_REGEXES
    return [(ANYBODY[0], origins[0])] if is_only else []


def _stop_varying_by(response: HttpResponseBase, field: str) -> bool:
    """Remove `field` from Vary; say whether it was there."""
    names = [name.strip() for name in response.get("Vary", "").split(",")]
    others = [name for name in names if name.lower() != field]
    if len(others) == len(names):
        return False
    if others:
        response["Vary"] = ", ".join(others)
    else:
        del response["Vary"]
    return True


def cookieless_middleware(get_response: GetResponse) -> GetResponse:
    """Remove cookies, and the `Vary: Cookie` that came with them, from every answer that shared caches may store.

    Django answers a malformed `csrftoken` with a new one on any page: one such request would put a cookie into the
    answer that a shared cache gives to all. An answer that depends on a cookie is private, and keeps both.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        has_cookies = response.cookies or response.has_header("Set-Cookie")
        if has_cookies and cache_control.is_storable_by_all(response.get("Cache-Control", "")):
            response.cookies.clear()
            del response["Set-Cookie"]
            _stop_varying_by(response, "cookie")
        return response

    return middleware
