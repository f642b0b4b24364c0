"""The auditor: each read that no bit covers is caught by name. And: it runs over every view, in every other test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.utils.translation import gettext
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from catalog.models import Gallery, Screenshot, Tag
from keybits import bits, invalidation
from keybits.audit import IncompleteKeyError
from keybits.constructors import KeyConstructor
from keybits.drf import cache_response_and_etag
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)
Handler = Callable[[Any], object]


def view_of(read: Handler, **declared: Any) -> Any:
    """Return a view that reads something, under a constructor that has these bits beside the tags' scope."""
    key = type("Key", (KeyConstructor,), {"updated_at": bits.UpdatedAtKeyBit("tags"), **declared})()

    class View(APIView):
        authentication_classes = ()

        @cache_response_and_etag(key)
        def get(self, request: Any) -> Response:
            return Response({"read": str(read(request))})

    return View.as_view()


def ask(read: Handler, path: str = "/?a=1", user: Any = None, **declared: Any) -> Any:
    request = APIRequestFactory().get(
        path, headers={"Host": "testserver", "X-Geo": "eu", "Cookie": "theme=dark"}
    )
    request.user = user or AnonymousUser()
    return view_of(read, **declared)(request)


PLANTED: list[tuple[str, Handler, str, dict[str, Any]]] = [
    ("Host", lambda r: r.get_host(), "header 'HOST'", {"host": bits.HeadersKeyBit(["Host"])}),
    (
        "absolute links",
        lambda r: r.build_absolute_uri("/x"),
        "header 'HOST'",
        {"host": bits.HeadersKeyBit(["Host"])},
    ),
    (
        "a header",
        lambda r: r.META.get("HTTP_X_GEO"),
        "HeadersKeyBit(['X-Geo'])",
        {"geo": bits.HeadersKeyBit(["X-Geo"])},
    ),
    ("a header by name", lambda r: r.headers["X-Geo"], "header 'X_GEO'", {"geo": bits.HeadersKeyBit("*")}),
    (
        "the client's address",
        lambda r: r.META["REMOTE_ADDR"],
        "REMOTE_ADDR",
        {"ip": bits.RequestMetaKeyBit(["REMOTE_ADDR"])},
    ),
    (
        "a query parameter",
        lambda r: r.query_params.get("a"),
        "parameter 'a'",
        {"query": bits.QueryParamsKeyBit(["a"])},
    ),
    (
        "a parameter's values",
        lambda r: r.GET.getlist("a"),
        "parameter 'a'",
        {"query": bits.CanonicalQueryKeyBit()},
    ),
    (
        "the user",
        lambda r: r.user.is_authenticated,
        "user attribute 'is_authenticated'",
        {"who": bits.UserKeyBit()},
    ),
    ("the language", lambda _: gettext("Yes"), "LanguageKeyBit()", {"language": bits.LanguageKeyBit()}),
    (
        "a related table",
        lambda _: list(Gallery.objects.all()),
        "galleries",
        {"galleries": bits.UpdatedAtKeyBit("galleries")},
    ),
    (
        "a joined table",
        lambda _: list(Screenshot.objects.filter(gallery__slug="a")),
        "table 'catalog_gallery'",
        {"more": bits.UpdatedAtKeyBit(["gallery:a"])},
    ),
]


@pytest.mark.parametrize(
    ("read", "named", "cure"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED]
)
def test_a_read_that_no_bit_covers_is_named_and_the_bit_it_asks_for_cures_it(
    read: Handler, named: str, cure: dict[str, Any]
) -> None:
    with pytest.raises(IncompleteKeyError) as caught:
        ask(read)
    assert named in str(caught.value)
    assert "View" in str(caught.value)
    assert ask(read, **cure).status_code == 200


def test_a_cookie_is_covered_by_nothing() -> None:
    with pytest.raises(IncompleteKeyError, match="cookie 'theme'"):
        ask(lambda r: r.COOKIES.get("theme"), who=bits.UserKeyBit())


def test_a_table_that_nobody_declared_is_named_with_the_way_to_declare_it() -> None:
    with pytest.raises(IncompleteKeyError, match=r"declare auth\.User with keybits\.invalidation\.declare"):
        ask(lambda _: list(get_user_model().objects.all()))


def test_a_setting_read_by_the_project_s_own_code_must_be_in_the_fingerprint(settings: Any) -> None:
    settings.KEYBITS_FINGERPRINT_PACKAGES = [__name__.split(".", maxsplit=1)[0]]
    settings.GREETING = "hello"
    with pytest.raises(
        IncompleteKeyError, match="setting 'GREETING': add its name to KEYBITS_FINGERPRINT_SETTINGS"
    ):
        ask(lambda _: django_settings.GREETING)
    settings.KEYBITS_FINGERPRINT_SETTINGS = ["GREETING"]
    assert ask(lambda _: django_settings.GREETING).status_code == 200


def test_what_is_covered_is_not_named() -> None:
    assert ask(lambda _: list(Tag.objects.all())).status_code == 200


def test_an_answer_from_the_store_is_not_watched() -> None:
    read = [0]

    def count(_: Any) -> int:
        read[0] += 1
        return read[0]

    view = view_of(count)
    first, second = (view(APIRequestFactory().get("/")) for _ in range(2))
    assert first.content == second.content
    assert second["Cache-Status"] == "keybits; hit"


def test_watching_can_be_a_warning_in_the_log(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.KEYBITS_AUDIT = "log"
    assert ask(lambda r: r.get_host()).status_code == 200
    assert "reads header 'HOST'" in caplog.text


def test_the_request_is_itself_again_afterwards() -> None:
    request = APIRequestFactory().get("/?a=1")
    meta, query = request.META, request.GET
    view_of(lambda _: "nothing")(request)
    assert request.META is meta
    assert request.GET is query


def test_this_run_watches_every_view() -> None:
    assert django_settings.KEYBITS_AUDIT == "raise"
    assert invalidation.declarations()
    assert get_store() is not None
