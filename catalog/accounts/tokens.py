"""The views where users obtain and refresh JSON Web Tokens, and their OpenAPI description."""

from __future__ import annotations

from typing import Any

from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from catalog.accounts.jwt import BearerAuthentication
from keybits import cache_control
from keybits.drf import ClosedMembersMixin, ClosedQueryMixin

__all__ = ["BearerScheme", "RefreshView", "TokenView"]

ANSWERED = {
    "400": "A field is missing or malformed; `errors` names it.",
    "401": "The user name and password, or the token, are invalid.",
    "406": "The client does not accept JSON.",
    "413": "The body is too long.",
    "414": "The query string is too long.",
    "415": "The body is not JSON.",
    "429": "There are too many attempts; `Retry-After` says when to try again.",
    "503": "The database cannot be reached; `Retry-After` says when to try again.",
}


class BearerScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]
    """The OpenAPI description of the scheme."""

    target_class = "catalog.accounts.jwt.BearerAuthentication"


class _Unkept(ClosedQueryMixin):
    """Answers that no cache stores, with a throttle rate of their own against guessing passwords."""

    throttle_scope = "token"
    problems = ANSWERED

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response["Cache-Control"] = cache_control.PRIVATE
        final: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return final


class TokenPairSerializer(serializers.Serializer[Any]):
    """An access token, and a token that refreshes it."""

    access = serializers.CharField()
    refresh = serializers.CharField()


class AccessTokenSerializer(serializers.Serializer[Any]):
    """An access token."""

    access = serializers.CharField()


class PairSerializer(ClosedMembersMixin, TokenObtainPairSerializer):
    """simplejwt's, without unknown members."""


class TokenView(_Unkept, TokenObtainPairView):
    """Obtain an access token, and a token that refreshes it, for a user name and password."""

    serializer_class = PairSerializer

    @extend_schema(operation_id="token", tags=["token"], responses=TokenPairSerializer)
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)


class RefreshSerializer(ClosedMembersMixin, TokenRefreshSerializer):
    """simplejwt's, without unknown members; refuses tokens of deleted users, or from before a change of password."""

    access = None  # type: ignore[assignment]  # REST framework's way to leave out a field

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        BearerAuthentication().get_user(self.token_class(attrs["refresh"]))
        return super().validate(attrs)


class RefreshView(_Unkept, TokenRefreshView):
    """Obtain a new access token for a token that refreshes it."""

    serializer_class = RefreshSerializer

    @extend_schema(operation_id="token_refresh", tags=["token"], responses=AccessTokenSerializer)
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)
