"""What credentials reach for: the scopes of keys as permissions. Whose rows may be changed, others say."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from catalog.accounts.models import Scope

__all__ = ["HasCaptureScope", "HasCurateScope", "HasReadScope", "HasScope", "reaches"]


def reaches(request: Request, scope: str) -> bool:
    """Say whether the client's credentials may be used for `scope`.

    Those that know no scopes (a session, a token, a JWT) reach as far as their user; whether there is a user at all is
    for other permissions to ask.
    """
    allows = getattr(request.auth, "allows", None)
    return allows is None or bool(allows(scope))


class HasScope(BasePermission):
    """For whoever has no key, and for keys with this scope; other keys get a 403 that names it."""

    scope: str = ""

    @property
    def message(self) -> str:
        return f"The key does not have the scope `{self.scope}`, which this takes."

    def has_permission(self, request: Request, view: Any) -> bool:
        return reaches(request, self.scope)


class HasReadScope(HasScope):
    """As `HasScope`, for what is private to an account."""

    scope = Scope.READ


class HasCurateScope(HasScope):
    """As `HasScope`, for changes to galleries, screenshots and tags."""

    scope = Scope.CURATE


class HasCaptureScope(HasScope):
    """As `HasScope`, for having pages pictured."""

    scope = Scope.CAPTURE
