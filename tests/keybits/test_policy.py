"""What a view's policy makes of its answers: who is told to hold them, by which keys, and under which address."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import path, re_path
from django.utils import timezone
from pytest_django import Settings
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.models import Tag
from keybits import bits, readthrough, surrogates
from keybits.cache_control import PRIVATE, PUBLIC, Lifetime, Policy
from keybits.constructors import DefaultListKeyConstructor, KeyConstructor
from keybits.drf import ClosedQueryMixin, ListCacheResponseAndETAGMixin, expire
from keybits.drf.query import FORMAT
from keybits.parameters import Parameter, Text
from keybits.query import NO_VARY_SEARCH
from keybits.stores import StoreError, get_store

pytestmark = pytest.mark.django_db(transaction=True)

MISS, STORED, HIT = "keybits; fwd=uri-miss", "keybits; fwd=uri-miss; stored", "keybits; hit"
HELD = "max-age=86400, stale-if-error=86400"
NOT_HELD = "max-age=0, must-revalidate"
LATER = timedelta(hours=1)


class ProbeKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("probe:1")
    takedown = bits.PurgeKeyBit("takedown:probe")


class BareKey(KeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("probe:1")


class RoutedKey(BareKey):
    route = bits.RouteKeyBit()


class Probe:
    """What the views do and answer, and their policies."""

    policy: Policy | None = Policy()

    @staticmethod
    def make(request: Request) -> Response:
        return Response({"a": 1})


class Source:
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Probe.make(request)


class AnyViewSet(ListCacheResponseAndETAGMixin, Source, viewsets.GenericViewSet[Tag]):
    """Accepts any query."""

    list_cache_key_func: KeyConstructor = ProbeKey()


class ProbeViewSet(ClosedQueryMixin, AnyViewSet):
    def get_query_parameters(self) -> list[Parameter]:
        return [FORMAT, Text(name="q", longest=100), Text(name="r", longest=100)]

    def get_cache_policy(self) -> Policy | None:
        return Probe.policy


class DeclaredViewSet(AnyViewSet):
    cache_policy = Policy(Lifetime(60), edge=Lifetime(7))


class BareViewSet(AnyViewSet):
    list_cache_key_func = BareKey()


class RoutedViewSet(AnyViewSet):
    list_cache_key_func = RoutedKey()


urlpatterns = [
    path("probe/", ProbeViewSet.as_view({"get": "list"})),
    path("any/", AnyViewSet.as_view({"get": "list"})),
    path("declared/", DeclaredViewSet.as_view({"get": "list"})),
    path("bare/", BareViewSet.as_view({"get": "list"})),
    path("routed/", RoutedViewSet.as_view({"get": "list"})),
    re_path(r"^/?at/(?P<rest>[\s\S]*)$", ProbeViewSet.as_view({"get": "list"})),
]
handler404 = "keybits.problems.not_found"


@pytest.fixture(autouse=True)
def _routes(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> type[Probe]:
    monkeypatch.setattr(Probe, "policy", Policy())
    monkeypatch.setattr(Probe, "make", staticmethod(Probe.make))
    return Probe


@pytest.fixture
def purged(settings: Settings) -> None:
    """A cache in front that is told of changes."""
    backend = "keybits.purge.varnish.XkeyPurger"
    settings.KEYBITS_PURGERS = {"edge": {"BACKEND": backend, "servers": ["http://192.0.2.1"]}}


def get(url: str = "/probe/", *, client: Client | None = None, method: str = "get", **given: Any) -> Any:
    return getattr(client or Client(), method)(url, **given)


def told(answer: Any) -> dict[str, str]:
    """Return what caches are told by the answer."""
    names = ("Cache-Control", "Expires", "Surrogate-Control", "xkey", "Content-Location", "No-Vary-Search")
    return {name: answer[name] for name in names if name in answer}


def not_held(answer: Any) -> bool:
    """Say whether a cache that is purged asks each time, and can be purged of the answer all the same."""
    assert answer["xkey"].split() == list(surrogates.tags(["probe:1", "takedown:probe"]))
    assert answer["Surrogate-Control"] in {HELD, NOT_HELD}
    return bool(answer["Surrogate-Control"] == NOT_HELD)


class TestDeclared:
    def test_a_view_without_one_lets_nobody_use_anything_unasked(self) -> None:
        assert get("/any/")["Cache-Control"] == PUBLIC

    def test_on_the_class(self, purged: None) -> None:
        for _ in range(2):
            answer = get("/declared/")
            assert answer["Cache-Control"] == "public, max-age=60, must-revalidate"
            assert answer["Surrogate-Control"] == "max-age=7, must-revalidate"

    def test_by_what_was_shown(self, probe: Any, purged: None) -> None:
        def make(request: Request) -> Response:
            probe.policy = Policy(Lifetime(5), s_maxage=6)
            return Response([1])

        probe.make = staticmethod(make)
        answers = [get() for _ in range(2)]
        assert [answer["Cache-Status"] for answer in answers] == [STORED, HIT]
        assert {answer["Cache-Control"] for answer in answers} == {
            "public, max-age=5, s-maxage=6, must-revalidate"
        }

    def test_an_entry_keeps_the_policy_that_it_was_made_under(self, probe: Any) -> None:
        get()
        probe.policy = None
        assert get()["Cache-Control"] == PUBLIC

    @pytest.mark.parametrize("own", [None, "public, max-age=60"])
    def test_none_keeps_the_answer_from_everybody_whatever_else_the_view_says(
        self, probe: Any, purged: None, own: str | None
    ) -> None:
        probe.policy = None
        probe.make = staticmethod(
            lambda request: Response([1], headers={"Cache-Control": own} if own else {})
        )
        for _ in range(2):
            answer = get()
            assert told(answer)["Cache-Control"] == PRIVATE
            assert not {"Expires", "Surrogate-Control", "xkey"} & told(answer).keys()
            assert answer["Cache-Status"] == MISS
        assert get(headers={"If-None-Match": answer["ETag"]}).status_code == 304

    def test_a_view_s_own_cache_control_stands_and_keys_go_with_it(self, probe: Any, purged: None) -> None:
        own = "public, max-age=5"
        probe.make = staticmethod(lambda request: Response([1], headers={"Cache-Control": own}))
        for status in (STORED, HIT):
            answer = get()
            assert (answer["Cache-Control"], answer["Cache-Status"]) == (own, status)
            assert "xkey" in answer
            assert "Surrogate-Control" not in answer

    TARGETED: ClassVar = {
        "Surrogate-Control": "max-age=9",
        "CDN-Cache-Control": "max-age=8",
        "xkey": "articles",
    }

    def test_a_view_s_own_fields_for_caches_in_front_stand_and_our_keys_stay_beside_its_own(
        self, probe: Any, purged: None
    ) -> None:
        probe.make = staticmethod(lambda request: Response([1], headers=self.TARGETED))
        for _ in range(2):
            answer = get()
            assert answer["Surrogate-Control"] == "max-age=9"
            assert answer["CDN-Cache-Control"] == "max-age=8"
            assert answer["xkey"].split() == [*surrogates.tags(["probe:1", "takedown:probe"]), "articles"]

    def test_a_view_s_own_fields_for_caches_in_front_are_not_sent_with_what_is_for_one_person(
        self, probe: Any, purged: None, client: Client
    ) -> None:
        """A cache that knows them goes by nothing else (RFC 9213 section 2.2)."""
        probe.make = staticmethod(lambda request: Response([1], headers=self.TARGETED))
        client.force_login(User.objects.create(username="u"))
        for _ in range(2):
            answer = get(client=client)
            assert answer["Cache-Control"] == PRIVATE
            assert not self.TARGETED.keys() & answer.headers.keys()

    def test_a_view_s_own_lifetime_does_not_outlive_the_purge_of_what_ended_as_it_was_made(
        self, probe: Any, purged: None
    ) -> None:
        def make(request: Request) -> Response:
            get_store().close(["probe:1"])
            return Response([1], headers={"Cache-Control": "public, s-maxage=86400"})

        probe.make = staticmethod(make)
        answer = get()
        assert "s-maxage=86400" not in answer["Cache-Control"]
        assert not_held(answer)

    def test_a_cookie_that_a_view_sets_as_a_field_is_kept_for_nobody(self, probe: Any, purged: None) -> None:
        probe.make = staticmethod(lambda request: Response([1], headers={"Set-Cookie": "sid=secret"}))
        for _ in range(2):
            answer = get()
            assert (answer["Cache-Status"], answer["Cache-Control"]) == (MISS, PRIVATE)

    @pytest.mark.parametrize(("age", "expires"), [(0, "Thu, 01 Jan 1970 00:00:00 GMT"), (60, None)])
    def test_expires_says_the_same_to_who_knows_nothing_else(
        self, probe: Any, age: int, expires: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 9111 section 5.3; the time is counted from each answer on, not from when the entry was made."""
        probe.policy = Policy(Lifetime(age))
        for now in (100, 200):
            with monkeypatch.context() as patch:
                patch.setattr("keybits.drf.exchange.time.time", lambda now=now: now)
                assert get()["Expires"] == (
                    expires or f"Thu, 01 Jan 1970 00:0{(now + age) // 60}:{(now + age) % 60:02} GMT"
                )


class TestHeld:
    def test_what_is_kept_here_and_current_is_held_in_front_too(self, purged: None) -> None:
        assert [not_held(get()) for _ in range(2)] == [False, False]

    def test_without_a_cache_that_is_purged_nobody_is_told_to_hold(self) -> None:
        assert set(told(get())) == {"Cache-Control", "Expires", "Content-Location", "No-Vary-Search"}

    def test_keys_are_of_the_scopes_and_takedowns_and_of_no_whole_kind(self, purged: None) -> None:
        keys = set(get()["xkey"].split())
        assert keys == set(surrogates.tags(["probe:1", "takedown:probe"]))
        assert keys & set(surrogates.purged(["takedown:probe"]))
        assert not keys & set(surrogates.purged(["takedown:other", "probe:2"]))

    def test_what_expires_is_not_held(self, probe: Any, purged: None) -> None:
        """No purge goes with the passing of time."""

        def make(request: Request) -> Response:
            expire(request, timezone.now() + LATER)
            return Response([1])

        probe.make = staticmethod(make)
        assert [not_held(get()) for _ in range(2)] == [True, True]
        assert get()["Cache-Status"] == HIT

    def test_what_was_not_stored_is_not_held(self, purged: None, settings: Settings) -> None:
        settings.KEYBITS_MAX_ENTRY_BYTES = 1
        assert not_held(get())

    @pytest.mark.parametrize("method", ["lead", "write"])
    def test_what_a_store_that_fails_did_not_keep_is_not_held(
        self, purged: None, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(type(get_store()), method, fail)
            assert not_held(get())

    def test_what_was_made_in_an_open_scope_is_not_held(self, purged: None) -> None:
        get_store().open(["probe:1"], "somebody")
        assert not_held(get())

    @pytest.mark.parametrize("overtake", ["open", "close"])
    def test_what_a_write_overtook_is_not_held(
        self, probe: Any, purged: None, overtake: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its purge may have come and gone; nothing would end the answer in front."""

        def make(request: Request) -> Response:
            getattr(get_store(), overtake)(["probe:1"], "somebody")
            return Response([1])

        probe.make = staticmethod(make)
        answer = get()
        assert answer["Cache-Status"] == STORED
        assert not_held(answer)

    def test_nor_is_one_that_the_store_cannot_say_it_of(
        self, probe: Any, purged: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:

            def make(request: Request) -> Response:
                patch.setattr(type(get_store()), "read", fail)
                return Response([1])

            probe.make = staticmethod(make)
            assert not_held(get())

    def test_without_a_cache_that_is_purged_the_store_is_not_asked_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readthrough, "is_current", None)
        assert get()["Cache-Status"] == "keybits; fwd=uri-miss; stored"


def fail(*_: Any, **__: Any) -> None:
    raise StoreError("away")


class TestSameFields:
    @pytest.mark.parametrize("warm", [True, False])
    def test_head_and_304_tell_caches_what_the_200_does(self, purged: None, warm: bool) -> None:
        """RFC 9110 sections 9.3.2 and 15.4.5."""
        whole = get()
        for given in ({"method": "head"}, {"headers": {"If-None-Match": whole["ETag"]}}):
            if not warm:
                get_store().clear()
            answer = get(**given)
            assert (answer.status_code, answer.content) == (304 if "headers" in given else 200, b"")
            assert told(answer) == told(whole)

    @pytest.mark.parametrize("field", [{"If-Match": '"other"'}, {"Accept-Encoding": "identity;q=0"}])
    def test_errors_are_held_by_nobody(self, purged: None, field: dict[str, str]) -> None:
        get()
        answer = get(headers=field)
        assert answer.status_code in {406, 412}
        assert told(answer) == {"Cache-Control": PRIVATE}

    @pytest.mark.parametrize("warm", [True, False])
    @pytest.mark.parametrize("field", [{"Cookie": "sessionid=x"}, {"Authorization": "Basic eDp5"}])
    def test_who_shows_credentials_gets_nothing_for_a_shared_cache(
        self, purged: None, warm: bool, field: dict[str, str]
    ) -> None:
        if warm:
            get()
        answer = get(headers=field)
        assert told(answer).keys() == {"Cache-Control", "Content-Location", "No-Vary-Search"}
        assert answer["Cache-Control"] == PRIVATE
        assert not not_held(get())

    def test_so_does_a_user(self, purged: None, client: Client) -> None:
        client.force_login(User.objects.create(username="u"))
        for status in (STORED, HIT):
            answer = get(client=client)
            assert (answer["Cache-Control"], answer["Cache-Status"]) == (PRIVATE, status)
            assert not {"xkey", "Surrogate-Control", "Expires"} & set(answer.headers)


class TestContentLocation:
    @pytest.mark.parametrize(
        "query", ["q=a&r=b", "r=b&q=a", "utm_source=x&q=a&r=b&_=1", "format=json&q=a&r=b", "q=%61&r=b"]
    )
    def test_queries_that_mean_the_same_have_one_address(self, query: str) -> None:
        get("/probe/?q=a&r=b")
        answer = get(f"/probe/?{query}")
        assert answer["Cache-Status"] == HIT
        assert answer["Content-Location"] == "/probe/?q=a&r=b"
        assert (NO_VARY_SEARCH[0], answer["No-Vary-Search"]) == NO_VARY_SEARCH

    def test_without_a_query_it_is_the_path(self) -> None:
        assert get("/probe/?utm_source=x")["Content-Location"] == "/probe/"

    @pytest.mark.parametrize(
        "path",
        ["a%20b", "caf%C3%A9", "%25", "%3F%23", "a=b&c+d,e:f@g", "!$'()*~", "%22%3Cscript%3E", "a%25FFb"],
    )
    @pytest.mark.parametrize("query", ["", "?q=%C3%A9+%26%3D%23"])
    def test_of_any_path_is_the_spelling_that_answers(self, path: str, query: str) -> None:
        """RFC 9110 section 8.7: whoever asks there gets the same, by the one spelling that is accepted."""
        url = f"/at/{path}{query}"
        location = get(url, REQUEST_URI=url)["Content-Location"]
        again = get(location, REQUEST_URI=location)
        assert (again.status_code, again.get("Cache-Status")) == (200, HIT)
        assert location == url == again["Content-Location"]

    def test_it_is_under_the_prefix_that_the_project_is_mounted_at(self) -> None:
        assert get("/probe/", SCRIPT_NAME="/mount")["Content-Location"] == "/mount/probe/"

    @pytest.mark.parametrize("path", ["//at/x", "///at/x", "//at.example/at/x"])
    def test_it_never_names_another_host(self, settings: Settings, path: str) -> None:
        """RFC 3986 section 4.2: what begins with two slashes begins with a host."""
        settings.MIDDLEWARE = []
        answer = Client().generic("GET", "/", PATH_INFO=path)
        if answer.status_code == 200:
            assert urlsplit(answer["Content-Location"]).netloc == ""

    @pytest.mark.parametrize("byte", ["\r\nX: y", "\n", "\x00", "\x7f"])
    def test_no_byte_of_a_path_or_a_query_becomes_a_field(self, settings: Settings, byte: str) -> None:
        settings.MIDDLEWARE = []
        answer = Client().generic("GET", "/", PATH_INFO=f"/at/x{byte}", QUERY_STRING="")
        assert answer["Content-Location"].isascii()
        assert answer["Content-Location"].isprintable()
        answer = Client().generic("GET", "/", PATH_INFO="/any/", QUERY_STRING=f"a={byte}\xe4")
        assert answer["Content-Location"].isascii()
        assert answer["Content-Location"].isprintable()

    def test_of_a_view_that_takes_any_query_is_the_one_that_the_key_has(self) -> None:
        locations = [get(f"/any/?{query}")["Content-Location"] for query in ("b=1&a=2&a=1", "a=2&b=1&a=1")]
        assert locations == ["/any/?a=2&a=1&b=1"] * 2
        assert "No-Vary-Search" not in get("/any/?a=1")

    @pytest.mark.parametrize("url", ["/bare/", "/routed/"])
    def test_an_entry_of_several_addresses_names_none(self, url: str) -> None:
        """It would tell everybody what the first one asked for, secrets and all."""
        first, second = get(f"{url}?token=secret"), get(url)
        assert second["Cache-Status"] == HIT
        assert "Content-Location" not in first
        assert "Content-Location" not in second

    @pytest.mark.parametrize("url", ["/probe/", "/bare/"])
    def test_a_view_s_own_stands(self, probe: Any, url: str) -> None:
        probe.make = staticmethod(lambda request: Response([1], headers={"Content-Location": "/there"}))
        assert [get(url)["Content-Location"] for _ in range(2)] == ["/there", "/there"]
