"""Where users sign in for JSON Web Tokens, and how OpenAPI describes that."""

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
    "401": "The user name and password, or the token, are not ones that can be used.",
    "406": "The client does not accept JSON.",
    "413": "The body is too long.",
    "414": "The query string is too long.",
    "415": "The body is not JSON.",
    "429": "Too many attempts; `Retry-After` says when to come back.",
    "503": "The database cannot be reached; `Retry-After` says when to come back.",
}


class BearerScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]
    """How OpenAPI has it."""

    target_class = "catalog.accounts.jwt.BearerAuthentication"


class _Unkept(ClosedQueryMixin):
    """Tokens are for their client alone, and to try passwords has a rate of its own."""

    throttle_scope = "token"
    problems = ANSWERED

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response["Cache-Control"] = cache_control.PRIVATE
        final: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return final


class TokenPairSerializer(serializers.Serializer[Any]):
    """A token to use, and one to renew it by."""

    access = serializers.CharField()
    refresh = serializers.CharField()


class AccessTokenSerializer(serializers.Serializer[Any]):
    """A token to use."""

    access = serializers.CharField()


class PairSerializer(ClosedMembersMixin, TokenObtainPairSerializer):
    """As simplejwt's, and nothing else."""


class TokenView(_Unkept, TokenObtainPairView):
    """A token to use, and one to renew it by, for a user name and password."""

    serializer_class = PairSerializer

    @extend_schema(operation_id="token", tags=["token"], responses=TokenPairSerializer)
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)


class RefreshSerializer(ClosedMembersMixin, TokenRefreshSerializer):
    """As simplejwt's; and who is gone, or has another password since, renews nothing."""

    access = None  # type: ignore[assignment]  # REST framework's way to leave out a field

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        BearerAuthentication().get_user(self.token_class(attrs["refresh"]))
        return super().validate(attrs)


class RefreshView(_Unkept, TokenRefreshView):
    """Another token to use, for one to renew it by."""

    serializer_class = RefreshSerializer

    @extend_schema(operation_id="token_refresh", tags=["token"], responses=AccessTokenSerializer)
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)
