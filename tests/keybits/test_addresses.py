"""An address is what `reverse` says, for every route, value and prefix, and what it refuses is refused alike."""

from __future__ import annotations

import uuid

import pytest
from django.test.utils import override_script_prefix
from django.urls import NoReverseMatch, include, path, re_path, reverse, set_urlconf
from hypothesis import given
from hypothesis import strategies as st

from keybits.addresses import address

pytestmark = [pytest.mark.urls(__name__), pytest.mark.stack("embedded")]  # neither database nor store


def view(request, **kwargs):
    """Nothing: no address is asked."""


namespaced = ([path("inner/<int:id>/", view, name="inner")], "space")
urlpatterns = [
    path("plain/", view, name="plain"),
    path("int/<int:id>/", view, name="int"),
    path("str/<str:name>", view, name="str"),
    path("uuid/<uuid:id>/", view, name="uuid"),
    path("path/<path:rest>", view, name="path"),
    re_path(r"^slug/(?P<slug>[-a-z0-9_]{1,10})/$", view, name="slug"),
    re_path(r"^two/(?P<one>[^/]+)/(?P<other>[1-9][0-9]*)/$", view, name="two"),
    re_path(r"^maybe/(?:(?P<one>[a-z]+)/)?$", view, name="maybe"),
    path("50 é/<int:id>/", view, name="odd"),
    path("twice/", view, name="twice"),
    path("twice/<int:id>/", view, name="twice"),
    path("given/", view, {"id": 1}, name="given"),
    re_path(r"^(?P<rest>/.*)$", view, name="leading"),
    path("spaces/", include(namespaced)),
]
VALUES = [
    0,
    1,
    -1,
    10**20,
    "",
    "a",
    "A",
    "a/b",
    "é",
    "%2F",
    "a b",
    "?x#y",
    "//evil.example",
    "0",
    None,
    uuid.UUID(int=1),
]
ROUTES = [
    "plain",
    "int",
    "str",
    "uuid",
    "path",
    "slug",
    "maybe",
    "odd",
    "twice",
    "given",
    "leading",
    "space:inner",
    "none",
]


def by_reverse(route, /, **values):
    """Say what Django says."""
    return reverse(route, kwargs=values)


def both(route, values):
    """Return what `address` and `reverse` say, an error in words."""
    said = []
    for ask in (address, by_reverse):
        try:
            said.append(ask(route, **values))
        except NoReverseMatch as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize("prefix", ["/", "/at/", "/50%/é b/"])
@pytest.mark.parametrize("route", ROUTES)
def test_any_value_for_any_route(route, prefix):
    with override_script_prefix(prefix):
        for parameter in ("id", "name", "slug", "rest", "one"):
            for value in VALUES:
                ours, theirs = both(route, {parameter: value})
                assert ours == theirs
        ours, theirs = both(route, {})
        assert ours == theirs


@given(st.text(), st.one_of(st.integers(), st.text()))
def test_any_text(one, other):
    ours, theirs = both("two", {"one": one, "other": other})
    assert ours == theirs
    ours, theirs = both("str", {"name": one})
    assert ours == theirs


def test_parameters_in_any_order():
    assert address("two", other=1, one="a") == address("two", one="a", other=1) == "/two/a/1/"


def test_another_prefix_from_one_call_to_the_next():
    first = address("int", id=1)
    with override_script_prefix("/at/"):
        assert address("int", id=1) == "/at/int/1/"
    assert address("int", id=1) == first == "/int/1/"


@pytest.mark.urls("gallery_api.urls")
def test_another_urlconf():
    assert address("tag-detail", slug="dark") == reverse("tag-detail", kwargs={"slug": "dark"})
    with pytest.raises(NoReverseMatch):
        address("slug", slug="dark")


def test_urlconf_of_one_request_alone():
    set_urlconf("gallery_api.urls")
    try:
        assert address("tag-detail", slug="dark") == reverse("tag-detail", kwargs={"slug": "dark"})
    finally:
        set_urlconf(None)
