"""Who asks. A session counts only where the client sent its cookie, so public answers never vary by cookie."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.request import Request

__all__ = ["AnonymousFirstMixin", "SessionCookieAuthentication"]


class SessionCookieAuthentication(SessionAuthentication):
    """Django's session, looked at only when there can be one: no query, no `Vary: Cookie` for anybody else."""

    keybits_closed = True

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None
        return super().authenticate(request)

    def authenticate_header(self, request: Request) -> str:
        """REST framework asks its first scheme alone; without an answer a wrong token is a 403."""
        return TokenAuthentication.keyword


class AnonymousFirstMixin:
    """Who shows nothing is nobody: every scheme looks at the Authorization field or at the session's cookie."""

    keybits_closed = True

    def perform_authentication(self, request: Request) -> None:
        if "HTTP_AUTHORIZATION" in request.META or settings.SESSION_COOKIE_NAME in request.COOKIES:
            super().perform_authentication(request)  # type: ignore[misc]
        else:
            request.user, request.auth = AnonymousUser(), None
