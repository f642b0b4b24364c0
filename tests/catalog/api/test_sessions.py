"""Sessions below the API: there for who sends the cookie, and looked for nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory

from gallery_api.sessions import AuthenticationMiddleware, MessageMiddleware, SessionMiddleware

pytestmark = pytest.mark.django_db
LIST = "/api/v1/screenshots/"


def seen(path: str, **cookies: str) -> set[str]:
    """Return what the three middlewares put on a request."""
    request: Any = RequestFactory().get(path)
    request.COOKIES.update(cookies)
    SessionMiddleware(AuthenticationMiddleware(MessageMiddleware(lambda _: HttpResponse())))(request)
    return {"session", "user", "_messages"} & vars(request).keys()


def test_a_request_to_the_api_without_the_cookie_has_none() -> None:
    assert seen(LIST) == set()


def test_a_request_with_the_cookie_has_all_three(settings: Any) -> None:
    assert seen(LIST, **{settings.SESSION_COOKIE_NAME: "nobodys"}) == {"session", "user", "_messages"}


@pytest.mark.parametrize("value", ["abcdefgh\x00", "abcd efgh", "abcdefgh\x7f", "\xe4bcdefgh"])
def test_a_cookie_that_names_no_session_is_none(settings: Any, value: str) -> None:
    assert seen(LIST, **{settings.SESSION_COOKIE_NAME: value}) == set()


@pytest.mark.parametrize("path", [LIST, "/admin/login/"])
def test_a_cookie_with_what_a_database_refuses_to_look_for_is_ignored(client: Client, path: str) -> None:
    assert client.get(path, headers={"Cookie": r'sessionid="abcdefgh\000"'}).status_code == 200


def test_elsewhere_everybody_has_all_three() -> None:
    assert seen("/admin/login/") == {"session", "user", "_messages"}


def test_who_signed_in_by_the_admin_is_known_below_the_api(client: Client) -> None:
    User.objects.create_superuser("staff", password="secret")
    client.post("/admin/login/?next=/admin/", {"username": "staff", "password": "secret"})
    assert client.get(LIST)["Cache-Control"] == "private, no-store"
