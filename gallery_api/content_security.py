"""What a page of ours may load, and that any other answer may load nothing (Content-Security-Policy, level 3)."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

__all__ = ["DATA", "PAGE", "PICTURE", "middleware"]

FIELD = "Content-Security-Policy"
KEY = FIELD.lower()
DATA = "default-src 'none'; frame-ancestors 'none'"
"""For what is neither a page nor a picture: it loads nothing, should a browser take it for a page."""
PICTURE = f"{DATA}; style-src 'unsafe-inline'"
"""For a picture: where one is opened by itself, the browser shows it on a page of its own, with styles in it."""
FORGED = "'sha256-jYJ/qrz4ojqMFEXV4ROer3I8bInDaDsKjQuktj9ESIk='"
"""The styles in Django's page about a forged form."""
PAGE = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {FORGED}",
        "img-src 'self' data:",  # Swagger UI's stylesheet has its signs in it
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""For the admin, the browsable API and the description of the API. None has a script in it, only beside it."""


def middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Give every answer with content the policy of its kind. Put it first, so that it sees every refusal.

    A 304 has that of its 200 where it is of the API, and none elsewhere: it does not say which kind it stands for, and
    what it stands for keeps its own. Nor has a page of Django's debug mode, whose scripts are in it.
    """

    def secured(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if policy := _policy(response):
            # Without Django's check of a field's value, which is a constant (`python -m benchmarks server_cpu`).
            response.headers._store.setdefault(KEY, (FIELD, policy))
        return response

    return secured


def _policy(response: HttpResponseBase) -> str:
    if response.status_code == 204:
        return ""
    if response.status_code == 304:
        return DATA if "Cache-Status" in response else ""  # what has been stored is JSON
    kind = response.get("Content-Type", "")
    if not kind.startswith("text/html") or response.get("Content-Length") == "0":
        return PICTURE if kind.startswith("image/") else DATA
    return "" if settings.DEBUG and response.status_code >= 400 else PAGE
