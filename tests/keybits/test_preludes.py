"""What a request has read before its stamps were looked at is never kept beyond the change that came in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Thread
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.urls import path
from pytest_django import Settings
from rest_framework import viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.models import Tag
from keybits import bits, preludes
from keybits.constructors import DefaultListKeyConstructor
from keybits.drf import ListCacheResponseAndETAGMixin
from keybits.drf.closed import closed

pytestmark = pytest.mark.django_db(transaction=True)
HIT = "keybits; hit"
between: list[Callable[[], None]] = []
"""What happens after an early read, once."""


def read(statement: str = "SELECT name FROM catalog_tag WHERE slug = 'dark'") -> str:
    """Read the tag's name, before what happens in between."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        name = str(cursor.fetchone()[0])
    if between:
        between.pop()()
    return name


def rename(name: str) -> Callable[[], None]:
    """Return what renames the tag in another thread: the request does not note its statements."""

    def run() -> None:
        with closing(connection):
            Tag.objects.filter(slug="dark").update(name=name)

    def change() -> None:
        thread = Thread(target=run)
        thread.start()
        thread.join()

    return change


def middleware(get_response: Any) -> Any:
    def _middleware(request: HttpRequest) -> Any:
        if request.path.endswith("middleware/"):
            request.name = read()  # type: ignore[attr-defined]
        return get_response(request)

    return _middleware


@closed
class Authentication(BaseAuthentication):
    def authenticate(self, request: Request) -> Any:
        request._request.name = read()  # type: ignore[attr-defined]
        return AnonymousUser(), None


@closed
class Permission(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        request._request.name = read()
        return True


class Key(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tag:dark")


class Name(bits.KeyBitBase):  # type: ignore[misc]  # drf-extensions is untyped
    def get_data(self, request: Any, **exchange: Any) -> str:
        request._request.name = read()
        return ""


class ReadingKey(Key):
    name = Name()


def scope(request: Any, **exchange: Any) -> str:
    request._request.name = read()
    return "tag:dark"


class ReadingScope(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit(scope)


class Shown:
    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response({"name": request._request.name})


class ByNobody(ListCacheResponseAndETAGMixin, Shown, viewsets.ViewSet):
    renderer_classes: Any = [JSONRenderer]
    authentication_classes: Any = []
    permission_classes: Any = []
    list_cache_key_func = Key()


class ByAuthentication(ByNobody):
    authentication_classes: Any = [Authentication]


class ByPermission(ByNobody):
    permission_classes: Any = [Permission]


class ByInitial(ByNobody):
    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        request._request.name = read()


class ByStatement(ByNobody):
    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        request._request.name = read("SELECT name FROM CATALOG_TAG WHERE slug = 'dark'")


class ByLastOfMany(ByNobody):
    """The text of its read is not noted: there have been too many before."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        with connection.cursor() as cursor:
            for _ in range(preludes.MOST_STATEMENTS):
                cursor.execute("SELECT 1")
        request._request.name = read()


class ByFewer(ByNobody):
    """All its statements are noted, and none of them reads what has been declared."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        request._request.name = ""
        with connection.cursor() as cursor:
            for _ in range(preludes.MOST_STATEMENTS // 2):
                cursor.execute("SELECT 1")


class ByKey(ByNobody):
    list_cache_key_func = ReadingKey()


class ByScope(ByNobody):
    list_cache_key_func = ReadingScope()


def second(request: HttpRequest) -> Any:
    """Answer with the second of two cached answers, as a view that answers several questions does."""
    request.name = ""  # type: ignore[attr-defined]
    ByNobody.as_view({"get": "list"})(request)
    return ByInitial.as_view({"get": "list"})(request)


VIEWS = {
    "middleware": ByNobody,
    "authentication": ByAuthentication,
    "permission": ByPermission,
    "initial": ByInitial,
    "statement": ByStatement,
    "many": ByLastOfMany,
    "key": ByKey,
    "scope": ByScope,
}
urlpatterns = [
    *(path(f"{name}/", view.as_view({"get": "list"})) for name, view in VIEWS.items()),
    path("second/", second),
    path("fewer/", ByFewer.as_view({"get": "list"})),
    path("seen/", ByInitial.as_view({"get": "list"})),
]


@pytest.fixture(autouse=True)
def _tag(settings: Settings) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.middleware"]
    Tag.objects.create(slug="dark", name="Old")
    yield
    between.clear()


@pytest.mark.parametrize("by", [*VIEWS, "second"])
class TestWhatIsReadBeforeTheStamps:
    def test_is_not_kept_beyond_a_change_right_after_it(self, client: Client, by: str) -> None:
        for name in ("New", "Newer"):  # the second where the stamps of before were known
            client.get(f"/{by}/"), client.get(f"/{by}/")
            between.append(rename(name))
            client.get(f"/{by}/")
            assert client.get(f"/{by}/").json() == {"name": name}

    def test_is_not_kept_where_another_has_seen_the_stamps_meanwhile(self, client: Client, by: str) -> None:
        def another() -> None:
            rename("New")()
            assert [Client().get("/seen/").json() for _ in range(3)] == [{"name": "New"}] * 3

        between.append(another)
        client.get(f"/{by}/")
        assert client.get(f"/{by}/").json() == {"name": "New"}

    def test_is_not_kept_where_a_change_comes_before_the_lead(
        self, client: Client, by: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proven = preludes.is_proven

        def and_then(*args: Any) -> bool:
            was = proven(*args)
            if was and between:
                between.pop()()
            return was

        client.get(f"/{by}/")
        monkeypatch.setattr(preludes, "is_proven", and_then)
        monkeypatch.setitem(globals(), "read", lambda *_: Tag.objects.get(slug="dark").name)
        between.append(rename("New"))
        assert client.get(f"/{by}/").json() == {"name": "Old"}  # it began before
        assert client.get(f"/{by}/").json() == {"name": "New"}

    def test_is_kept_where_nothing_has_changed_since_before_it(self, client: Client, by: str) -> None:
        first, second, third = (client.get(f"/{by}/") for _ in range(3))
        assert "stored" not in first["Cache-Status"]
        assert second["Cache-Status"].endswith("; stored")
        assert third["Cache-Status"] == HIT


def test_what_is_read_of_no_declared_table_delays_nothing(client: Client) -> None:
    assert client.get("/fewer/")["Cache-Status"].endswith("; stored")


def test_a_table_is_read_however_it_is_spelt() -> None:
    prelude = preludes.Prelude(statements=[("one", 'SELECT 1 FROM "Tag"'), ("other", "SELECT 1 FROM page")])
    assert prelude.read(['"tAG"']) == {"one"}
