"""JSON Web Tokens, where a deployment enables them (`JWT`): clients sign in once, and no table of tokens is read.

The user is still read from the database with each request: a user who is made inactive, or changes their password, is
signed out at once. simplejwt decides what a token says and how long it is valid.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import AuthenticationFailed

try:
    from rest_framework_simplejwt.authentication import JWTAuthentication
    from rest_framework_simplejwt.exceptions import InvalidToken
except ModuleNotFoundError as error:
    raise ImproperlyConfigured(
        "JWT is on, but simplejwt is not installed: pip install '.[jwt]', or leave JWT off."
    ) from error

__all__ = ["BearerAuthentication"]

REFUSED = "The token cannot be used: it is malformed, expired, or of another kind."


class BearerAuthentication(JWTAuthentication):
    """`Authorization: Bearer <token>`; a token that cannot be used is a 401."""

    keyword = "Bearer"
    keybits_closed = True

    def get_raw_token(self, header: bytes) -> Any:
        """Return the token. Unlike simplejwt, ignore the scheme's case (RFC 9110 section 11.1)."""
        scheme, space, token = header.partition(b" ")
        return super().get_raw_token(scheme.capitalize() + space + token)

    def get_validated_token(self, raw_token: bytes) -> Any:
        try:
            return super().get_validated_token(raw_token)
        except InvalidToken:
            raise AuthenticationFailed(REFUSED) from None

    def get_user(self, validated_token: Any) -> Any:
        """Return the user. Unlike simplejwt, refuse a token whose user's id is none that a user here could have."""
        try:
            return super().get_user(validated_token)
        except (OverflowError, TypeError, ValueError):
            raise AuthenticationFailed(REFUSED) from None
