"""How far credentials reach: a key to its scopes, everything else as far as its user."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from catalog.accounts import keys
from catalog.accounts.authentication import ApiKeyAuthentication
from catalog.accounts.permissions import HasCaptureScope, HasCurateScope, HasReadScope

pytestmark = pytest.mark.django_db
SCOPES = {"read": HasReadScope, "curate": HasCurateScope, "capture": HasCaptureScope}


class View(APIView):
    authentication_classes = [ApiKeyAuthentication, SessionAuthentication, TokenAuthentication]
    throttle_classes = []

    def get(self, request: Any) -> Response:
        return Response(str(request.user))

    def post(self, request: Any) -> Response:
        return Response(str(request.user))


def ask(permissions: list[Any], credentials: Any = None, method: str = "post", **members: Any) -> Response:
    """Ask a view that has these permissions."""
    view = type("Asked", (View,), {"permission_classes": permissions, **members})
    headers = {"Authorization": str(credentials)} if isinstance(credentials, str) else {}
    request = APIRequestFactory().generic(method.upper(), "/", headers=headers)
    if isinstance(credentials, User):
        force_authenticate(request, credentials)
    response: Response = view.as_view()(request)
    return response


def field(secret: keys.Secret) -> str:
    return f"Api-Key {secret.reveal()}"


class TestScopes:
    @pytest.mark.parametrize("needed", SCOPES)
    @pytest.mark.parametrize("given", SCOPES)
    def test_a_key_reaches_what_its_scopes_name(self, issue: Any, needed: str, given: str) -> None:
        response = ask([SCOPES[needed]], field(issue(given)[1]))
        reaches = needed == given or (needed, given) == ("read", "curate")
        assert response.status_code == (200 if reaches else 403)
        if not reaches:
            assert f"`{needed}`" in response.data["detail"]

    @pytest.mark.parametrize("needed", SCOPES)
    def test_a_session_and_a_token_reach_as_far_as_their_user(self, owner: User, needed: str) -> None:
        token = Token.objects.create(user=owner)
        for credentials in (owner, f"Token {token.key}"):
            assert ask([IsAuthenticated, SCOPES[needed]], credentials).status_code == 200

    def test_who_shows_nothing_is_asked_to_by_every_scheme(self) -> None:
        response = ask([IsAuthenticated, HasCurateScope])
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == "Api-Key, Token"

    def test_a_key_without_the_scope_is_told_so_and_not_asked_again(self, issue: Any) -> None:
        response = ask([IsAuthenticated, HasCurateScope], field(issue("read")[1]))
        assert response.status_code == 403
        assert not response.has_header("WWW-Authenticate")


class TestWhoTheUserIs:
    @pytest.mark.parametrize("scope", SCOPES)
    def test_of_a_change_is_the_owner_of_the_key(self, issue: Any, scope: str) -> None:
        assert ask([AllowAny], field(issue(scope)[1])).data == "owner"

    @pytest.mark.parametrize(
        ("scope", "user"), [("read", "owner"), ("curate", "owner"), ("capture", "AnonymousUser")]
    )
    def test_of_a_read_is_the_owner_only_of_a_key_to_read_or_curate(
        self, issue: Any, scope: str, user: str
    ) -> None:
        assert ask([AllowAny], field(issue(scope)[1]), "get").data == user

    @pytest.mark.parametrize(
        ("scope", "user"), [("capture", "owner"), ("read", "AnonymousUser"), ("curate", "AnonymousUser")]
    )
    def test_of_a_read_is_the_owner_of_a_key_with_any_scope_that_the_view_names(
        self, issue: Any, scope: str, user: str
    ) -> None:
        response = ask([AllowAny], field(issue(scope)[1]), "get", owner_scopes=("capture",))
        assert response.data == user
