"""What credentials may be used for: the scopes of keys as permissions. `catalog.curation.ownership` decides on rows."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from catalog.accounts.models import Scope

__all__ = ["HasCaptureScope", "HasCurateScope", "HasReadScope", "HasScope", "reaches"]


def reaches(request: Request, scope: str) -> bool:
    """Return whether the client's credentials may be used for `scope`.

    Credentials without scopes (a session, a token, a JWT) may be used for everything that their user may do. Whether
    there is a user at all, other permissions check.
    """
    allows = getattr(request.auth, "allows", None)
    return allows is None or bool(allows(scope))


class HasScope(BasePermission):
    """Allows requests without a key, and keys with this scope; other keys get a 403 that names the scope."""

    scope: str = ""

    @property
    def message(self) -> str:
        return f"The key does not have the scope `{self.scope}`, which this needs."

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
