"""Which user a key stands for, and which challenge a refused client gets.

A key without the necessary scope does not show what is private to its account: for a safe method its client counts as
anonymous, so that it gets the answers of everybody, cached ones included. What is public never needs a key.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from catalog.accounts import keys
from catalog.accounts.models import ApiKey, Scope

__all__ = ["ApiKeyAuthentication"]

REFUSED = "The key cannot be used. Unknown, revoked and expired keys are refused alike."


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Api-Key <key>`; `request.auth` is then the `ApiKey`.

    `request.user` is the account's user. For a safe method the key needs one of the view's `owner_scopes` (by default
    `read`, which `curate` includes); without, `request.user` is anonymous. A key that cannot be used is a 401, whatever
    the reason.
    """

    keyword = "Api-Key"
    keybits_closed = True

    def authenticate(self, request: Request) -> tuple[Any, ApiKey] | None:
        presented = _presented(request, self.keyword)
        if presented is None:
            return None
        key = keys.find(presented)
        if key is None:
            raise AuthenticationFailed(REFUSED)
        keys.note_use(key)
        return _user(request, key), key

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge: the scheme that the client tried, or otherwise all schemes."""
        tried = _scheme(request)
        offered = [each.keyword for each in request.authenticators or () if hasattr(each, "keyword")]
        return next((keyword for keyword in offered if keyword.lower() == tried), ", ".join(offered))


def _scheme(request: Request) -> str:
    scheme: str = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")[0]
    return scheme.lower()


def _presented(request: Request, keyword: str) -> keys.Presented | None:
    """Return the key that the client presents; None where it uses another scheme, or none."""
    if _scheme(request) != keyword.lower():
        return None
    return keys.Presented.read(request.META["HTTP_AUTHORIZATION"].strip().partition(" ")[2].strip())


def _user(request: Request, key: ApiKey) -> Any:
    view = (request.parser_context or {}).get("view")
    needed = getattr(view, "owner_scopes", (Scope.READ,))
    hidden = request.method in SAFE_METHODS and not any(map(key.allows, needed))
    return AnonymousUser() if hidden else key.user
