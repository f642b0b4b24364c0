"""Where Django's session, user and messages are looked for: below the API, only with a session's cookie.

Nobody signs in below the API, so a request without the cookie has none of the three. Looking for them would take a
twentieth of a hit through the viewset mixin (`python -m benchmarks server_cpu --variants bare-view,mixin-lmdb`).
"""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.contrib.auth import middleware as users
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest

__all__ = ["AuthenticationMiddleware", "MessageMiddleware", "SessionMiddleware"]

SIGNED_IN_ELSEWHERE = "/api/"
"""The path prefix below which no session begins."""
_PRINTABLE = re.compile(r"[\x21-\x7e]*")


class _WhereThereMayBeOne:
    get_response: Any

    def __call__(self, request: HttpRequest) -> Any:
        if (
            request.path_info.startswith(SIGNED_IN_ELSEWHERE)
            and settings.SESSION_COOKIE_NAME not in request.COOKIES
        ):
            return self.get_response(request)
        return super().__call__(request)  # type: ignore[misc]


class SessionMiddleware(_WhereThereMayBeOne, sessions.SessionMiddleware):
    """`request.session`, where there may be one.

    A cookie that cannot name a session is ignored: decoding a quoted one may yield NUL, which PostgreSQL refuses.
    """

    def __call__(self, request: HttpRequest) -> Any:
        if not _PRINTABLE.fullmatch(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")):
            del request.COOKIES[settings.SESSION_COOKIE_NAME]
        return super().__call__(request)


class AuthenticationMiddleware(_WhereThereMayBeOne, users.AuthenticationMiddleware):
    """`request.user`, where there may be a session."""


class MessageMiddleware(_WhereThereMayBeOne, messages.MessageMiddleware):
    """Messages, where there may be a session to keep them."""
