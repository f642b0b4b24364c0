"""Who the client is. A session counts only where its cookie was sent, so public answers never vary by cookie."""

from __future__ import annotations

import copy
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import QueryDict
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

__all__ = ["AnonymousFirstMixin", "SessionCookieAuthentication", "StoredTokenAuthentication"]


class SessionCookieAuthentication(SessionAuthentication):
    """Django's session, read only where its cookie was sent: no query and no `Vary: Cookie` for anybody else."""

    keybits_closed = True

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None
        return super().authenticate(request)

    def enforce_csrf(self, request: Request) -> None:
        """Demand the token in its header field. The body, which is no form, is not read for it."""
        asked: Any = copy.copy(request._request)
        asked._post = QueryDict()
        super().enforce_csrf(asked)

    def authenticate_header(self, request: Request) -> str:
        """Return a challenge. REST framework asks only the first scheme; without one a wrong token would be a 403."""
        return TokenAuthentication.keyword


class StoredTokenAuthentication(TokenAuthentication):
    """REST framework's tokens. One with a null byte, which PostgreSQL refuses to look for, is unknown."""

    keybits_closed = True

    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        if "\x00" in key:
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(key)


class AnonymousFirstMixin:
    """A client without Authorization and session cookie is anonymous: every scheme looks at one of these."""

    keybits_closed = True

    def perform_authentication(self, request: Request) -> None:
        asked = request._request
        if "HTTP_AUTHORIZATION" in asked.META or settings.SESSION_COOKIE_NAME in asked.COOKIES:
            super().perform_authentication(request)  # type: ignore[misc]
        else:
            request.user, request.auth = AnonymousUser(), None
