"""What `manage.py check` says of cached handlers that would fail, or be undone, at each request."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import run_checks
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page, never_cache
from pytest_django import Settings
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from keybits.bits import UpdatedAtKeyBit
from keybits.constructors import DefaultListKeyConstructor
from keybits.drf import cache_response_and_etag

pytestmark = pytest.mark.stack("embedded")


class Key(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit("tags")


def view_of(key: Any = Key(), base: type[Any] = APIView, /, **more: Any) -> Any:  # noqa: B008 - it has no state
    """Return a view whose `get` is cached under `key`."""

    def get(self: Any, request: Any) -> Response:
        return Response()

    return type("CachedView", (base,), {"get": cache_response_and_etag(key)(get), **more})


def said(settings: Settings, callback: Any) -> list[str]:
    """Return what is said of a project that has this view alone, behind a prefix."""
    urls: Any = ModuleType("urls")
    urls.urlpatterns = [path("views/", include([path("one/", callback)]))]
    settings.ROOT_URLCONF = urls
    return [f"{each.id} {each.msg}" for each in run_checks() if each.id in {"keybits.E019", "keybits.W014"}]


class Made:
    key = Key()

    def __init__(self, **given: Any) -> None:
        self.given = Key()
        super().__init__(**given)

    @property
    def computed(self) -> Any:
        return self.request.key  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", [Key(), "key", "given", "computed"])
def test_nothing_is_said_of_a_key_that_the_view_has(settings: Settings, key: Any) -> None:
    made = type("CachedView", (Made, view_of(key)), {})
    assert said(settings, made.as_view()) == []
    assert said(settings, method_decorator(never_cache, name="dispatch")(made).as_view()) == []


def test_nothing_is_said_of_a_key_that_a_route_gives(settings: Settings) -> None:
    assert said(settings, view_of("key", key=None).as_view(key=Key())) == []


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({}, "CachedView.get is cached under 'key', which the view does not have."),
        ({"key": Key}, f"CachedView.get is cached under 'key', which is {Key!r} and no key constructor."),
    ],
)
def test_a_key_that_is_none_is_named(settings: Settings, own: dict[str, Any], message: str) -> None:
    """It was an AttributeError at each request."""
    assert said(settings, view_of("key", **own).as_view()) == [f"keybits.E019 {message}"]


def test_a_key_that_is_none_is_named_once_however_many_methods_and_routes_use_it(settings: Settings) -> None:
    base = view_of("key", ViewSet)
    callback = base.as_view({"get": "get", "head": "get"})
    assert len(said(settings, callback)) == 1


def test_a_view_that_is_not_rest_framework_s_is_named(settings: Settings) -> None:
    assert said(settings, view_of(Key(), View).as_view()) == [
        "keybits.E019 CachedView.get is cached, and CachedView is no view of REST framework."
    ]


@pytest.mark.parametrize(
    "decorated",
    [
        lambda: cache_page(60)(view_of().as_view()),
        lambda: never_cache(cache_page(60)(view_of().as_view())),
        lambda: method_decorator(cache_page(60), name="dispatch")(view_of()).as_view(),
        lambda: method_decorator([never_cache, cache_page(60)], name="get")(view_of()).as_view(),
        lambda: view_of(get=method_decorator(cache_page(60))(view_of().get)).as_view(),
    ],
)
def test_a_cache_in_front_of_ours_that_is_told_of_no_change_is_named(
    settings: Settings, decorated: Callable[[], Any]
) -> None:
    assert said(settings, decorated()) == [
        "keybits.W014 CachedView.get is cached, and so is its answer by Django's cache_page, for a fixed time."
    ]


def test_cache_page_on_another_view_is_the_project_s_own_affair(settings: Settings) -> None:
    plain = type("PlainView", (APIView,), {"get": lambda self, request: Response()})
    assert said(settings, cache_page(60)(plain.as_view())) == []
