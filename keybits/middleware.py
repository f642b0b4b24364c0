"""What must hold for every answer, cached or not: a Host that is ours, and a length that is known.

Django checks the Host only when somebody asks for it, and no cached answer does. CommonMiddleware would set the
length, on a 304 too, which must have none (RFC 9110 section 15.4.5).
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

__all__ = ["content_length_middleware", "cookieless_middleware", "host_middleware"]

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def host_middleware(get_response: GetResponse) -> GetResponse:
    """Refuse a Host that is not in `ALLOWED_HOSTS` (400) before anything else is asked."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        request.get_host()
        return get_response(request)

    return middleware


def content_length_middleware(get_response: GetResponse) -> GetResponse:
    """Give every answer that is whole, and may have one, its Content-Length."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        bodiless = response.status_code in {204, 304} or response.status_code < 200
        if not (response.streaming or bodiless or response.has_header("Content-Length")):
            response["Content-Length"] = str(len(response.content))  # type: ignore[attr-defined]
        return response

    return middleware


def cookieless_middleware(get_response: GetResponse) -> GetResponse:
    """Take cookies off every answer that anybody may store, and the `Vary: Cookie` that came with them.

    Django answers a malformed `csrftoken` with a new one on any page: one such request would put a cookie into a
    shared cache's answer for all. What depends on a cookie is private, and keeps both.
    """

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if "public" in response.get("Cache-Control", "") and response.cookies:
            response.cookies.clear()
            names = [name.strip() for name in response.get("Vary", "").split(",")]
            response["Vary"] = ", ".join(name for name in names if name.lower() != "cookie")
        return response

    return middleware
