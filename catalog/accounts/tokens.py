"""Where users sign in for JSON Web Tokens, and how OpenAPI describes that."""

from __future__ import annotations

from typing import Any

from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from catalog.accounts.jwt import BearerAuthentication
from keybits import cache_control
from keybits.drf import ClosedMembersMixin
from keybits.drf.query import FORMAT, InvalidQueryError, query_string
from keybits.query import Grammar, QueryError

__all__ = ["BearerScheme", "RefreshView", "TokenView"]

QUERY = Grammar([FORMAT])
PROBLEMS = {
    400: "A field is missing or malformed; `errors` names it.",
    401: "The user name and password, or the token, are not ones that can be used.",
    429: "Too many attempts; `Retry-After` says when to come back.",
}


class BearerScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]
    """How OpenAPI has it."""

    target_class = "catalog.accounts.jwt.BearerAuthentication"


class _Unkept:
    """Tokens are for their client alone, and to try passwords has a rate of its own."""

    throttle_scope = "token"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse parameters that there are not, once it is known that the client may try."""
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        try:
            QUERY.parse(query_string(request._request))
        except QueryError as error:
            raise InvalidQueryError(error) from None

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response["Cache-Control"] = cache_control.PRIVATE
        final: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        return final


_problems = {
    (status, "application/problem+json"): OpenApiResponse({"$ref": "#/components/schemas/Problem"}, text)
    for status, text in PROBLEMS.items()
}


class PairSerializer(ClosedMembersMixin, TokenObtainPairSerializer):
    """As simplejwt's, and nothing else."""


class TokenView(_Unkept, TokenObtainPairView):
    """A token to use, and one to renew it by, for a user name and password."""

    serializer_class = PairSerializer

    @extend_schema(
        operation_id="token",
        tags=["token"],
        request=TokenObtainPairSerializer,  # which drf-spectacular knows
        responses={200: TokenObtainPairSerializer, **_problems},
    )
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)


class RefreshSerializer(ClosedMembersMixin, TokenRefreshSerializer):
    """As simplejwt's; and who is gone, or has another password since, renews nothing."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        BearerAuthentication().get_user(self.token_class(attrs["refresh"]))
        return super().validate(attrs)


class RefreshView(_Unkept, TokenRefreshView):
    """Another token to use, for one to renew it by."""

    serializer_class = RefreshSerializer

    @extend_schema(
        operation_id="token_refresh", tags=["token"], responses={200: TokenRefreshSerializer, **_problems}
    )
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().post(request, *args, **kwargs)
