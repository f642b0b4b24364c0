"""Who a key stands for, and which challenge a client that is refused gets.

A key without a scope for it does not show what is private to its account: to a safe method its client is nobody,
so that such answers are everybody's, cached ones included. Public things never need a key.
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

REFUSED = "The key is not one that can be used: unknown, revoked and expired ones are refused alike."


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Api-Key <key>`; `request.auth` is then the `ApiKey`.

    `request.user` is the account's user. For a safe method that takes one of the view's `owner_scopes` (by default
    `read`, which `curate` includes); without, `request.user` is nobody. A key that cannot be used is a 401, whatever
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
        """Challenge by the scheme that the client tried; one that tried none, by all that there are."""
        tried = _scheme(request)
        offered = [each.keyword for each in request.authenticators or () if hasattr(each, "keyword")]
        return next((keyword for keyword in offered if keyword.lower() == tried), ", ".join(offered))


def _scheme(request: Request) -> str:
    scheme: str = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")[0]
    return scheme.lower()


def _presented(request: Request, keyword: str) -> keys.Presented | None:
    """Return what the client presents by this scheme; None where it uses another, or none."""
    if _scheme(request) != keyword.lower():
        return None
    return keys.Presented.read(request.META["HTTP_AUTHORIZATION"].strip().partition(" ")[2].strip())


def _user(request: Request, key: ApiKey) -> Any:
    view = (request.parser_context or {}).get("view")
    needed = getattr(view, "owner_scopes", (Scope.READ,))
    hidden = request.method in SAFE_METHODS and not any(map(key.allows, needed))
    return AnonymousUser() if hidden else key.user
