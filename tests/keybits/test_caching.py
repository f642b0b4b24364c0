"""Cached, conditional reads of a viewset that has its own routes: what is stored, for whom, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django_redis import get_redis_connection
from pytest_django import Settings
from rest_framework import serializers, viewsets
from rest_framework.decorators import action, api_view
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView
from rest_framework_extensions.key_constructor.constructors import (
    DefaultKeyConstructor as UpstreamKeyConstructor,
)

from catalog.models import Screenshot, Tag
from keybits import bits, cache_control, memory
from keybits.codings import encode
from keybits.constructors import DefaultListKeyConstructor, DefaultObjectKeyConstructor
from keybits.drf import (
    CacheResponseAndETAGMixin,
    ClosedQueryMixin,
    ListCacheResponseAndETAGMixin,
    NestedViewSetMixin,
    cache_response_and_etag,
    exchange,
)
from keybits.drf.throttles import AnonymousThrottle
from keybits.entries import Entry
from keybits.preconditions import format_http_date
from keybits.stores import StoreError, get_store

pytestmark = pytest.mark.django_db(transaction=True)

MISS, STORED, HIT = "keybits; fwd=uri-miss", "keybits; fwd=uri-miss; stored", "keybits; hit"
STALE = "keybits; fwd=stale; stored"


class TagListKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tags")


class TagObjectKey(DefaultObjectKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tag:{slug}")


class ProbeKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("probe")


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["slug", "name"]


class TagViewSet(ClosedQueryMixin, CacheResponseAndETAGMixin, viewsets.ReadOnlyModelViewSet[Tag]):
    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    lookup_field = "slug"
    pagination_class = None
    filter_backends = []
    list_cache_key_func = TagListKey()
    object_cache_key_func = TagObjectKey()

    @cache_response_and_etag("list_cache_key_func")
    def shared(self, request: Request) -> Response:
        if request.method == "POST":
            return Response({"made": Tag.objects.create(slug=request.data["slug"]).slug})
        return Response(self.get_queryset().count())

    @action(detail=False)
    @cache_response_and_etag("list_cache_key_func")
    def names(self, request: Request) -> Response:
        return Response([tag.name for tag in self.get_queryset()])


class AgainViewSet(TagViewSet):
    """Its cached handlers ask cached handlers."""

    @cache_response_and_etag("list_cache_key_func")
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().list(request, *args, **kwargs)

    @action(detail=False)
    @cache_response_and_etag("list_cache_key_func")
    def again(self, request: Request) -> Any:
        return self.list(request)


class UpstreamViewSet(TagViewSet):
    list_cache_key_func = UpstreamKeyConstructor()


class FunctionViewSet(TagViewSet):
    list_cache_key_func = staticmethod(lambda **exchange: "key")  # type: ignore[assignment]


class OncePerDay(SimpleRateThrottle):
    rate = "1/day"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return "once"


class ThrottledViewSet(TagViewSet):
    throttle_classes = [OncePerDay]


class Rate(AnonymousThrottle):
    rate = "1000/day"


class RatedViewSet(TagViewSet):
    throttle_classes = [Rate]


class UnratedViewSet(TagViewSet):
    throttle_classes = []


class Probe:
    """What a view answers, and how often it was asked."""

    asked = 0

    @staticmethod
    def make() -> Response:
        return Response({"a": 1})


class Source:
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        Probe.asked += 1
        return Probe.make()


class GivesThrottles(viewsets.GenericViewSet[Tag]):
    def get_throttles(self) -> Any:
        return [OncePerDay()]


class ThrottledFromBehindViewSet(ListCacheResponseAndETAGMixin, Source, GivesThrottles):
    list_cache_key_func = ProbeKey()


class ProbeViewSet(ClosedQueryMixin, ListCacheResponseAndETAGMixin, Source, viewsets.GenericViewSet[Tag]):
    list_cache_key_func = ProbeKey()


class UnscopedViewSet(ProbeViewSet):
    list_cache_key_func = DefaultListKeyConstructor()


class EnvelopeViewSet(ProbeViewSet):
    """Does to every response what projects do."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response.data = {"answer": response.data}
        return super().finalize_response(request, response, *args, **kwargs)


class ByIdKey(DefaultObjectKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tag-id:{pk}")


class ByIdViewSet(TagViewSet):
    lookup_field = "pk"
    object_cache_key_func = ByIdKey()


class Titles(viewsets.GenericViewSet[Screenshot]):
    queryset = Screenshot.objects.all()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(list(self.get_queryset().values_list("title", flat=True)))


class TaggedViewSet(NestedViewSetMixin, ListCacheResponseAndETAGMixin, Titles):  # type: ignore[misc]
    list_cache_key_func = ProbeKey()


class Links:
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response({"self": request.build_absolute_uri()})


class LinkingViewSet(ListCacheResponseAndETAGMixin, Links, viewsets.GenericViewSet[Tag]):
    list_cache_key_func = ProbeKey()


class HostKey(ProbeKey):
    host = bits.OriginKeyBit()


class ByHostViewSet(LinkingViewSet):
    list_cache_key_func = HostKey()


class FrontViewSet(LinkingViewSet):
    """Answers by another of its cached handlers."""

    @cache_response_and_etag(ProbeKey())
    def front(self, request: Request) -> Any:
        return self.list(request)


urlpatterns = [
    path("shared/", TagViewSet.as_view({"get": "shared", "post": "shared"})),
    path("front/", FrontViewSet.as_view({"get": "front"})),
    path("by-id/<str:pk>/", ByIdViewSet.as_view({"get": "retrieve"})),
    path("tagged/<str:parent_lookup_tags>/", TaggedViewSet.as_view({"get": "list"})),
    path("slugged/<str:parent_lookup_tags__slug>/", TaggedViewSet.as_view({"get": "list"})),
    path("linking/", LinkingViewSet.as_view({"get": "list"})),
    path("by-host/", ByHostViewSet.as_view({"get": "list"})),
    path("tags/", TagViewSet.as_view({"get": "list"})),
    path("tags/names/", TagViewSet.as_view({"get": "names"})),
    path("tags/<slug:slug>/", TagViewSet.as_view({"get": "retrieve"})),
    path("list-again/", AgainViewSet.as_view({"get": "list"})),
    path("again/", AgainViewSet.as_view({"get": "again"})),
    path("unscoped/", UnscopedViewSet.as_view({"get": "list"})),
    path("upstream/", UpstreamViewSet.as_view({"get": "list"})),
    path("function/", FunctionViewSet.as_view({"get": "list"})),
    path("throttled/", ThrottledViewSet.as_view({"get": "list"})),
    path("rated/", RatedViewSet.as_view({"get": "list"})),
    path("unrated/", UnratedViewSet.as_view({"get": "list"})),
    path("unrated/<slug:slug>/", UnratedViewSet.as_view({"get": "retrieve"})),
    path("throttled-from-behind/", ThrottledFromBehindViewSet.as_view({"get": "list"})),
    path("envelope/", EnvelopeViewSet.as_view({"get": "list"})),
    path("probe/", ProbeViewSet.as_view({"get": "list"})),
]
handler404 = "keybits.problems.not_found"


@pytest.fixture(autouse=True)
def _routes(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture(autouse=True)
def tag() -> Tag:
    return Tag.objects.create(slug="chart", name="Chart")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> type[Probe]:
    monkeypatch.setattr(Probe, "asked", 0)
    monkeypatch.setattr(Probe, "make", staticmethod(Probe.make))
    return Probe


def get(
    url: str = "/tags/",
    *,
    client: Client | None = None,
    method: str = "get",
    headers: dict[str, str] | None = None,
) -> Any:
    return getattr(client or Client(), method)(url, headers=headers)


def asks(url: str = "/tags/") -> tuple[str, int]:
    """Return what the cache says it did and how many queries were made."""
    with CaptureQueriesContext(connection) as queries:
        answer = get(url)
    assert answer.status_code == 200
    return answer["Cache-Status"], len(queries)


class TestStored:
    @pytest.mark.parametrize("url", ["/tags/", "/tags/chart/", "/tags/names/"])
    def test_a_repeat_is_a_hit_without_a_query_and_says_the_same(self, url: str) -> None:
        first = get(url)
        assert first["Cache-Status"] == STORED
        assert asks(url) == (HIT, 0)
        assert (get(url).content, get(url)["ETag"]) == (first.content, first["ETag"])
        assert get(url)["Content-Type"] == "application/json"

    @pytest.mark.parametrize("url", ["/tags/", "/tags/chart/", "/tags/names/"])
    def test_a_read_after_a_write_shows_it(self, url: str, tag: Tag) -> None:
        before = get(url)
        tag.name = "Diagram"
        tag.save()
        after = get(url)
        assert after["Cache-Status"] == STALE
        assert b"Diagram" in after.content
        assert after["ETag"] != before["ETag"]
        assert asks(url) == (HIT, 0)

    def test_a_write_that_changes_no_byte_changes_no_validator(self, tag: Tag) -> None:
        before = get()
        tag.kind = Tag.Kind.DEVICE
        tag.save()
        after = get()
        assert after["Cache-Status"] == STALE
        assert after["ETag"] == before["ETag"]
        assert after["Last-Modified"] >= before["Last-Modified"]

    def test_head_and_get_share_an_entry(self) -> None:
        first = get(method="head")
        assert (first["Cache-Status"], first.content) == (STORED, b"")
        whole = get()
        assert whole["Cache-Status"] == HIT
        assert first["Content-Length"] == whole["Content-Length"] == str(len(whole.content))

    def test_queries_that_mean_the_same_share_an_entry(self) -> None:
        get("/tags/?format=json&utm_source=x")
        assert get("/tags/")["Cache-Status"] == HIT

    def test_each_object_and_action_has_its_own(self) -> None:
        Tag.objects.create(slug="form", name="Form")
        bodies = {get(url).content for url in ("/tags/", "/tags/names/", "/tags/chart/", "/tags/form/")}
        assert len(bodies) == 4

    @pytest.mark.parametrize("url", ["/list-again/", "/again/"])
    def test_a_handler_that_asks_another_cached_one_has_one_entry(self, url: str) -> None:
        made, kept = get(url), get(url)
        assert (made["Cache-Status"], kept["Cache-Status"]) == (STORED, HIT)
        assert made.content == kept.content == get("/tags/").content

    @pytest.mark.parametrize("name", ["Content-Language", "Link"])
    def test_fields_that_describe_the_representation_are_kept(self, probe: Any, name: str) -> None:
        probe.make = staticmethod(lambda: Response([1], headers={name: "de"}))
        assert [get("/probe/")[name] for _ in range(2)] == ["de", "de"]
        assert probe.asked == 1

    @pytest.mark.parametrize(
        "name",
        [
            *("Age", "Cache-Status", "Connection", "Content-Length", "Date", "ETag"),
            *("Expires", "Last-Modified", "Transfer-Encoding"),
        ],
    )
    def test_fields_that_describe_one_answer_are_not(self, probe: Any, name: str) -> None:
        probe.make = staticmethod(lambda: Response({"a": 1}, headers={name: "of the view"}))
        answers = [get("/probe/") for _ in range(2)]
        assert [answer["Cache-Status"] for answer in answers] == [STORED, HIT]
        assert "of the view" not in {answer.get(name) for answer in answers}

    def test_of_what_rest_framework_adds_allow_and_accept_are_left_out(self) -> None:
        assert "Allow" not in get().headers
        assert get()["Vary"] == "Accept-Encoding"


class TestData:
    """Tests ask REST framework's responses for it, and a view's own `finalize_response` does."""

    def test_is_what_the_representation_says_whatever_is_sent_of_it(self) -> None:
        made, kept = get(), get()
        etag = made["ETag"]
        others = (
            get(headers={"If-None-Match": etag}),
            get(headers={"Accept-Encoding": "br"}),
            get(method="head"),
        )
        assert [made["Cache-Status"], kept["Cache-Status"]] == [STORED, HIT]
        assert [each.data for each in (made, kept, *others)] == [made.json()] * 5

    def test_that_a_view_wraps_is_wrapped_once(self, probe: type[Probe]) -> None:
        for status in (STORED, HIT):
            answer = get("/envelope/")
            assert (answer.json(), answer["Cache-Status"]) == ({"answer": {"a": 1}}, status)
        assert probe.asked == 1


class TestConditions:
    @pytest.mark.parametrize("warm", [True, False])
    def test_304_on_a_hit_and_on_a_miss(self, warm: bool) -> None:
        etag = get()["ETag"]
        if not warm:
            get_store().clear()
        again = get(headers={"If-None-Match": etag})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
        assert again["Cache-Control"] == cache_control.PUBLIC
        assert not {"Content-Type", "Content-Length"} & set(again.headers)

    @pytest.mark.parametrize("warm", [True, False])
    @pytest.mark.parametrize("method", ["get", "head"])
    def test_if_match_that_names_nothing_current_is_a_412_problem(self, warm: bool, method: str) -> None:
        etag = get()["ETag"]
        if not warm:
            get_store().clear()
        answer = get(method=method, headers={"If-Match": '"other"'})
        assert (answer.status_code, answer["ETag"]) == (412, etag)
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["Cache-Control"] == "private, no-store"
        if method == "get":
            document = json.loads(answer.content)
            assert (document["type"], document["status"]) == ("urn:problem:precondition-failed", 412)

    def test_if_match_that_names_the_current_one_is_200(self) -> None:
        assert get(headers={"If-Match": get()["ETag"]}).status_code == 200

    def test_a_404_comes_before_any_precondition(self) -> None:
        assert get("/tags/missing/", headers={"If-Match": '"other"'}).status_code == 404
        assert get("/tags/missing/", headers={"If-None-Match": "*"}).status_code == 404

    def test_a_date_sent_with_what_was_not_stored_gives_no_304_for_something_else(
        self, probe: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = SimpleNamespace(now=10.0)
        monkeypatch.setattr("keybits.drf.exchange.time", SimpleNamespace(time=lambda: clock.now))
        settings.KEYBITS_MAX_ENTRY_BYTES = 20
        sent = []
        for clock.now, content in ((10.0, "short"), (20.0, "long" * 20), (30.0, "short")):
            probe.make = staticmethod(lambda content=content: Response([content]))
            sent.append(get("/probe/"))
            get_store().close(["probe"])
        assert ["Last-Modified" in answer for answer in sent] == [True, False, True]
        since = {"If-Modified-Since": format_http_date(20)}  # a client may take the Date instead
        assert get("/probe/", headers=since).status_code == 200


class TestNotStored:
    @pytest.mark.parametrize("status", [201, 202, 203, 206, 299, 400, 404, 410, 500, 503])
    def test_other_statuses(self, probe: Any, status: int) -> None:
        probe.make = staticmethod(lambda: Response({"a": 1}, status=status))
        answers = [get("/probe/") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [status, status]
        assert [answer["Cache-Status"] for answer in answers] == [MISS, MISS]
        assert (probe.asked, answers[0]["Cache-Control"]) == (2, cache_control.PRIVATE)
        assert "ETag" not in answers[0]

    def test_errors(self, probe: Any) -> None:
        def refuse() -> Response:
            raise NotFound

        probe.make = staticmethod(refuse)
        assert [get("/probe/").status_code for _ in range(2)] == [404, 404]
        assert probe.asked == 2

    def test_what_sets_a_cookie(self, probe: Any) -> None:
        def with_cookie() -> Response:
            response = Response({"a": 1})
            response.set_cookie("seen", "1")
            return response

        probe.make = staticmethod(with_cookie)
        answers = [get("/probe/") for _ in range(2)]
        assert [answer["Cache-Status"] for answer in answers] == [MISS, MISS]
        assert [answer.cookies["seen"].value for answer in answers] == ["1", "1"]
        assert answers[0]["Cache-Control"] == cache_control.PRIVATE

    def test_what_the_view_has_put_into_a_coding_of_its_own(self, probe: Any) -> None:
        """It would be put into another one for the next client."""
        probe.make = staticmethod(lambda: Response({"a": 1}, headers={"Content-Encoding": "gzip"}))
        answers = [get("/probe/", headers={"Accept-Encoding": coding}) for coding in ("gzip", "br")]
        assert [answer["Cache-Status"] for answer in answers] == [MISS, MISS]
        assert [answer["Content-Encoding"] for answer in answers] == ["gzip", "gzip"]

    def test_what_is_empty(self, probe: Any) -> None:
        probe.make = staticmethod(lambda: Response(None))
        assert [get("/probe/")["Cache-Status"] for _ in range(2)] == [MISS, MISS]

    @pytest.mark.parametrize(("most", "status"), [(7, HIT), (6, MISS)])
    def test_bodies_above_the_limit(self, probe: Any, settings: Settings, most: int, status: str) -> None:
        """`{"a":1}` has 7 bytes; what is not stored is conditional all the same."""
        settings.KEYBITS_MAX_ENTRY_BYTES = most
        etag = get("/probe/")["ETag"]
        assert get("/probe/")["Cache-Status"] == status
        assert get("/probe/", headers={"If-None-Match": etag}).status_code == 304

    def test_what_names_no_scope(self, probe: Any) -> None:
        """Nothing would ever end such an entry."""
        assert [asks("/unscoped/") for _ in range(2)] == [(MISS, 0), (MISS, 0)]
        assert probe.asked == 2

    def test_a_key_that_names_no_scope_is_told_to_the_log_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        exchange._warn.cache_clear()
        for _ in range(3):
            assert get("/unscoped/")["Cache-Status"] == MISS
        assert [record.getMessage() for record in caplog.records if record.name == exchange.__name__] == [
            "UnscopedViewSet is not kept: its key names no scope, whose change would end it; give it an UpdatedAtKeyBit"
        ]

    def test_pages_for_people(self) -> None:
        pages = [get("/tags/?format=api") for _ in range(2)]
        assert {page["Cache-Control"] for page in pages} == {cache_control.PRIVATE}
        assert {page["Cache-Status"] for page in pages} == {"keybits; fwd=bypass"}
        assert pages[0]["Content-Type"].startswith("text/html")
        assert get("/tags/")["Cache-Status"] == STORED

    def test_a_page_for_people_has_one_length_by_every_method(self) -> None:
        """RFC 9110 section 8.6; the page names the method that it was asked by."""
        lengths = {get("/tags/?format=api", method=method)["Content-Length"] for method in ("get", "head")}
        assert len(lengths) == 1

    def test_what_was_read_in_a_scope_that_is_open(self) -> None:
        get_store().open(["tags"], "somebody")
        assert [asks() for _ in range(2)] == [(MISS, 1), (MISS, 1)]
        get_store().close(["tags"], "somebody")
        assert [asks() for _ in range(2)] == [(STORED, 1), (HIT, 0)]


@pytest.fixture
def unwatched(settings: Settings) -> None:
    """Without the auditor, who would have named the fault."""
    settings.KEYBITS_AUDIT = "off"


@pytest.mark.usefixtures("unwatched")
class TestOtherSpellings:
    """Of one thing by several addresses, a change ends but the scope that is spelt as the database has it."""

    @pytest.mark.parametrize("route", ["by-id", "tagged"])
    def test_are_answered_and_not_kept(self, tag: Tag, route: str) -> None:
        own, other = f"/{route}/{tag.pk}/", f"/{route}/0{tag.pk}/"
        assert [asks(own)[0] for _ in range(2)] == [STORED, HIT]
        for _ in range(2):
            answer = get(other)
            assert (answer.status_code, answer["Cache-Status"]) == (200, MISS)
            assert answer["Cache-Control"] == "private, no-store"
            assert answer.content == get(own).content

    @pytest.mark.parametrize(("collation", "status"), [("", STORED), ("C", STORED), ("without_case", MISS)])
    def test_may_be_any_of_a_parent_s_in_a_column_that_ignores_case(
        self, tag: Tag, monkeypatch: pytest.MonkeyPatch, collation: str, status: str
    ) -> None:
        monkeypatch.setattr(Tag._meta.get_field("slug"), "db_collation", collation)
        assert asks(f"/slugged/{tag.slug}/")[0] == status


@pytest.mark.usefixtures("unwatched")
class TestHost:
    def hosts(self, url: str, *names: str) -> list[Any]:
        return [get(url, headers={"Host": name}) for name in names]

    def test_what_repeats_it_is_kept_for_nobody(self) -> None:
        poisoned, own = self.hosts("/linking/", "testserver:666", "testserver")
        assert own.json() == {"self": "http://testserver/linking/"} != poisoned.json()
        assert {answer["Cache-Status"] for answer in (poisoned, own)} == {MISS}
        assert {answer["Cache-Control"] for answer in (poisoned, own)} == {"private, no-store"}

    def test_what_repeats_it_is_kept_where_a_bit_names_it(self) -> None:
        answers = self.hosts("/by-host/", "testserver:666", "testserver", "testserver")
        assert [answer["Cache-Status"] for answer in answers] == [STORED, STORED, HIT]
        assert answers[2].json() == {"self": "http://testserver/by-host/"}

    def test_what_repeats_it_within_what_repeats_it_is_kept_for_nobody(self) -> None:
        poisoned, own = self.hosts("/front/", "testserver:666", "testserver")
        assert own.json() == {"self": "http://testserver/front/"} != poisoned.json()
        assert {answer["Cache-Status"] for answer in (poisoned, own)} == {MISS}


class TestKeyFunction:
    def test_a_function_view_is_refused_where_it_is_decorated(self) -> None:
        def names(request: Request) -> Response:
            return Response([])

        for function in (names, api_view(["GET"])(names)):
            with pytest.raises(ImproperlyConfigured, match="is not a method of a view"):
                cache_response_and_etag(ProbeKey())(function)

    def test_a_coroutine_is_refused_where_it_is_decorated(self) -> None:
        """As a handler it was a 500: nothing awaited it."""
        with pytest.raises(ImproperlyConfigured, match="answer is a coroutine"):

            @cache_response_and_etag("list_cache_key_func")
            async def answer(view: Any, request: Request) -> Response:
                return Response()

    def test_a_coroutine_under_another_decorator_is_refused_too(self) -> None:
        async def answer(view: Any, request: Request) -> Response:
            return Response()

        with pytest.raises(ImproperlyConfigured, match="answer is a coroutine"):
            cache_response_and_etag(ProbeKey())(method_decorator(never_cache)(answer))

    @pytest.mark.parametrize(
        "decorated",
        [
            lambda req: Response(),  # a function view
            classmethod(lambda cls, request: Response()),
            staticmethod(lambda request: Response()),
        ],
    )
    def test_what_has_no_room_for_a_view_and_a_request_is_refused_where_it_is_decorated(
        self, decorated: Any
    ) -> None:
        """It was a TypeError at each request."""
        with pytest.raises(ImproperlyConfigured, match="is not a method of a view"):
            cache_response_and_etag(ProbeKey())(decorated)

    def test_so_is_a_class(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="APIView is a class: decorate its `get`"):
            cache_response_and_etag(ProbeKey())(APIView)  # type: ignore[arg-type]

    def test_method_decorator_around_it_is_refused_where_it_is_used(self) -> None:
        """Django calls what it decorates without the view."""
        decorate = method_decorator(cache_response_and_etag(ProbeKey()), name="get")
        with pytest.raises(ImproperlyConfigured, match="without method_decorator"):
            decorate(type("Decorated", (APIView,), {"get": lambda self, request: Response()}))

    @pytest.mark.parametrize("key", [ProbeKey, UpstreamKeyConstructor(), lambda view, request: "key", None])
    def test_what_is_no_key_is_refused_where_it_is_given(self, key: Any) -> None:
        """As the method itself is, where the decorator is written without parentheses."""
        with pytest.raises(ImproperlyConfigured, match=r"Write @cache_response_and_etag\(PageKey\(\)\)"):
            cache_response_and_etag(key)

    @pytest.mark.parametrize("url", ["/upstream/", "/function/"])
    def test_one_that_is_not_keybits_says_the_way_out(self, url: str) -> None:
        with pytest.raises(
            ImproperlyConfigured,
            match=r"Give it an instance of a subclass of keybits\.constructors\.KeyConstructor",
        ):
            get(url)

    def test_and_names_the_view(self) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"^UpstreamViewSet has"):
            get("/upstream/")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have methods of this stack's store fail."""
    with monkeypatch.context() as patch:

        def fail(*_: Any, **__: Any) -> None:
            raise StoreError("away")

        def break_methods(*names: str) -> None:
            for name in names:
                patch.setattr(type(get_store()), name, fail)

        yield break_methods


@pytest.mark.parametrize("word", ["{", "}", "{0}", "{word}", "{word.__class__}", "{{}}"])
def test_scopes_that_a_function_names_are_no_templates(word: str) -> None:
    """What they are made of may be a client's: a brace of its is one."""
    bit = bits.UpdatedAtKeyBit(lambda kwargs, **_: (f"word:{kwargs['word']}", "words"))
    assert bit.get_scopes(bit.params, kwargs={"word": word}) == [f"word:{word}", "words"]


def test_a_family_is_refused_as_what_ends_an_answer() -> None:
    """No change of a single member closes it. A client may have put a `*` where a capture is."""
    with pytest.raises(ImproperlyConfigured, match=r"the family 'tag:\*'"):
        bits.UpdatedAtKeyBit(["tags", "tag:*"])
    given = TagListKey(params={"updated_at": "tag:*"})
    with pytest.raises(ImproperlyConfigured, match=r"the family 'tag:\*'"):
        given.scopes(kwargs={})
    bit = bits.UpdatedAtKeyBit("tag:{slug}")
    assert list(bit.get_scopes(bit.params, kwargs={"slug": "*"})) == ["tag:*"]


class TestOtherMethods:
    def test_a_write_that_shares_a_cached_handler_is_carried_out_each_time(self) -> None:
        """Its answer was kept, under the address alone: the next one was answered with it, and not carried out."""
        client = Client(headers={"Content-Type": "application/json"})
        sent = [client.post("/shared/", {"slug": slug}, "application/json") for slug in ("one", "two")]
        assert [answer.json() for answer in sent] == [{"made": "one"}, {"made": "two"}]
        assert not any("Cache-Status" in answer for answer in sent)
        assert set(Tag.objects.values_list("slug", flat=True)) > {"one", "two"}

    def test_its_reads_are_kept(self) -> None:
        assert [get("/shared/")["Cache-Status"] for _ in range(2)] == [STORED, HIT]


class TestStoreErrors:
    @pytest.mark.parametrize(
        ("methods", "status"),
        [
            (["read", "witness"], "keybits; fwd=bypass"),
            (["lead"], MISS),
            (["write"], MISS),
            (["read", "witness", "lead", "write", "release"], "keybits; fwd=bypass"),
        ],
    )
    def test_the_database_answers_and_cache_status_says_so(
        self, broken: Callable[..., None], methods: list[str], status: str
    ) -> None:
        broken(*methods)
        for _ in range(2):
            answer = get()
            assert (answer.status_code, json.loads(answer.content)) == (
                200,
                [{"slug": "chart", "name": "Chart"}],
            )
            assert answer["Cache-Status"] == status

    @pytest.mark.parametrize(
        "methods", [["read", "witness"], ["lead"], ["write"], ["read", "witness", "lead", "write"]]
    )
    def test_conditions_are_honoured_all_the_same(
        self, broken: Callable[..., None], methods: list[str]
    ) -> None:
        broken(*methods)
        assert get(headers={"If-None-Match": get()["ETag"]}).status_code == 304
        assert get(headers={"If-Match": '"other"'}).status_code == 412

    @pytest.mark.parametrize("frame", [b"", b"\x80\x04K\x01.", b"KB\x00\x01"])
    def test_bytes_that_are_no_entry_are_a_miss(self, frame: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        store: Any = get_store()
        write = type(store).write
        with monkeypatch.context() as patch:
            patch.setattr(
                type(store), "write", lambda self, key, entry, holder: write(self, key, frame, holder)
            )
            get()
        memory.entries().clear()
        assert get()["Cache-Status"] == STORED
        assert get()["Cache-Status"] == HIT

    @pytest.mark.parametrize("method", ["read", "lead", "write"])
    def test_no_read_after_it_is_stale(self, method: str, tag: Tag, monkeypatch: pytest.MonkeyPatch) -> None:
        get()
        with monkeypatch.context() as patch:
            patch.setattr(type(get_store()), method, self.fail)
            Tag.objects.filter(pk=tag.pk).update(name="Diagram")
            assert b"Diagram" in get().content
        assert b"Diagram" in get().content

    @staticmethod
    def fail(*_: Any, **__: Any) -> None:
        raise StoreError("away")


class TestCacheControl:
    def test_of_what_everybody_may_see(self) -> None:
        assert {get()["Cache-Control"] for _ in range(2)} == {cache_control.PUBLIC}

    def test_of_what_was_asked_with_a_session(self, client: Client) -> None:
        client.force_login(User.objects.create(username="u"))
        assert {get(client=client)["Cache-Control"] for _ in range(2)} == {cache_control.PRIVATE}

    @pytest.mark.parametrize("field", [{"Authorization": "Basic eDp5"}, {"Cookie": "sessionid=gone"}])
    def test_of_what_was_asked_with_credentials_that_prove_nothing(self, field: dict[str, str]) -> None:
        assert get()["Cache-Control"] == cache_control.PUBLIC
        assert get(headers=field)["Cache-Control"] == cache_control.PRIVATE

    def test_a_user_s_answers_are_the_user_s_own(self, client: Client) -> None:
        get()
        client.force_login(User.objects.create(username="u"))
        assert get(client=client)["Cache-Status"] == STORED
        assert get(client=client)["Cache-Status"] == HIT

    @pytest.mark.parametrize("status", [404, 203])
    def test_what_a_view_says_of_what_is_not_stored_stands(self, probe: Any, status: int) -> None:
        own = {"Cache-Control": "max-age=5"}
        probe.make = staticmethod(lambda: Response({"a": 1}, status=status, headers=own))
        assert get("/probe/")["Cache-Control"] == "max-age=5"

    @pytest.mark.parametrize(
        ("own", "seconds"),
        [
            ("public, max-age=60", 60),
            ("Max-Age=5,no-transform", 5),
            ("s-maxage=60", None),
            ("max-age=x", None),
        ],
    )
    def test_of_the_view_s_own_goes_with_an_expires_that_says_the_same(
        self, probe: Any, own: str, seconds: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
        probe.make = staticmethod(lambda: Response({"a": 1}, headers={"Cache-Control": own}))
        until = 0 if seconds is None else 1_800_000_000 + seconds
        for _ in range(2):
            answer = get("/probe/")
            assert (answer["Cache-Control"], answer["Expires"]) == (own, format_http_date(until))

    def test_of_a_page_for_people_whatever_the_view_says(self, probe: Any) -> None:
        probe.make = staticmethod(lambda: Response({"a": 1}, headers={"Cache-Control": "max-age=5"}))
        assert get("/probe/?format=api")["Cache-Control"] == cache_control.PRIVATE

    @pytest.mark.parametrize("own", ["private", "no-store", "private, no-store"])
    def test_what_a_view_keeps_from_caches_is_never_made_public(self, probe: Any, own: str) -> None:
        probe.make = staticmethod(lambda: Response({"a": 1}, headers={"Cache-Control": own}))
        assert "public" not in get("/probe/")["Cache-Control"]


class TestCodings:
    """Probe's answers are long enough to be coded."""

    LONG = {"text": "a" * 300}

    @pytest.fixture(autouse=True)
    def _long(self, probe: type[Probe]) -> None:
        probe.make = staticmethod(lambda: Response(self.LONG))  # type: ignore[method-assign]

    def stored(self) -> tuple[str, ...]:
        """Return the codings that the store has; memory is another process's."""
        memory.entries.cache_clear()
        (entry,) = (Entry.unpack(frame) for _, frame in get_store().sample(10))
        return tuple(name for name, _ in entry.coded)

    def test_a_miss_makes_the_one_that_is_sent(self) -> None:
        assert get("/probe/", headers={"Accept-Encoding": "gzip, br"})["Content-Encoding"] == "br"
        assert self.stored() == ("br",)

    def test_a_miss_without_a_word_on_them_makes_none(self) -> None:
        get("/probe/")
        assert self.stored() == ()

    def test_a_hit_adds_the_one_that_it_is_first_to_be_sent_and_asks_the_view_for_nothing(self) -> None:
        get("/probe/")
        for coding in ("gzip", "br", "gzip"):
            answer = get("/probe/", headers={"Accept-Encoding": coding})
            assert (answer["Cache-Status"], answer["Content-Encoding"]) == (HIT, coding)
        assert self.stored() == ("gzip", "br")
        assert Probe.asked == 1

    def test_a_304_makes_none(self) -> None:
        etag = get("/probe/")["ETag"]
        held = {"Accept-Encoding": "br", "If-None-Match": f'{etag[:-1]}-br"'}
        assert get("/probe/", headers=held).status_code == 304
        assert self.stored() == ()

    def test_what_is_for_one_person_is_coded_for_them(self) -> None:
        client = Client()
        client.force_login(User.objects.create_user("somebody"))
        answer = get("/probe/", client=client, headers={"Accept-Encoding": "br"})
        assert (answer["Cache-Control"], answer["Content-Encoding"]) == ("private, no-store", "br")

    def test_one_that_is_added_to_what_has_ended_meanwhile_revives_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        get("/probe/")

        def slow(body: bytes, coding: str) -> bytes:
            get_store().close(["probe"])
            return encode(body, coding)

        monkeypatch.setattr("keybits.drf.exchange.encode", slow)
        assert get("/probe/", headers={"Accept-Encoding": "br"})["Cache-Status"] == HIT
        assert get("/probe/", headers={"Accept-Encoding": "br"})["Cache-Status"] == STALE


@pytest.mark.stack("server")
class TestRoundTrips:
    """To Redis, by its own count of the replies that it sent."""

    @pytest.fixture
    def trips(self) -> Callable[[str], int]:
        client = get_redis_connection("default")

        def replies() -> int:
            return int(client.info("stats")["total_writes_processed"])

        def taken(url: str) -> int:
            before = replies()
            get(url)
            return replies() - before - 1  # it has told us the number before

        taken("/unrated/")  # there is a connection
        get_store().clear()
        memory.entries().clear()
        return taken

    def test_a_hit_takes_one(self, trips: Callable[[str], int]) -> None:
        get("/unrated/")
        assert trips("/unrated/") == 1

    def test_a_miss_takes_three_to_look_to_begin_and_to_keep(self, trips: Callable[[str], int]) -> None:
        assert trips("/unrated/") == 3

    def test_a_miss_that_a_rate_counts_takes_four(self, trips: Callable[[str], int]) -> None:
        assert trips("/rated/") == 4

    def test_a_miss_that_is_not_kept_takes_three(self, trips: Callable[[str], int]) -> None:
        assert trips("/unrated/none/") == 3

    def test_one_in_place_of_what_this_process_held_takes_four(self, trips: Callable[[str], int]) -> None:
        get("/unrated/")
        get_store().close(["tags"])
        assert trips("/unrated/") == 4

    def test_one_that_an_open_scope_forbids_to_keep_takes_two(self, trips: Callable[[str], int]) -> None:
        get_store().open(["tags"], "somebody")
        assert trips("/unrated/") == 2


class TestThrottles:
    def test_of_a_class_behind_the_mixin_are_asked(self) -> None:
        get("/throttled-from-behind/")
        assert get("/throttled-from-behind/")["Cache-Status"] == HIT
        get_store().clear()
        assert get("/throttled-from-behind/").status_code == 429

    def test_a_hit_costs_nothing(self) -> None:
        assert get("/throttled/").status_code == 200
        assert {get("/throttled/")["Cache-Status"] for _ in range(3)} == {HIT}

    def test_a_page_for_people_counts_each_time(self) -> None:
        assert [get("/throttled/?format=api").status_code for _ in range(2)] == [200, 429]

    def test_a_miss_counts(self) -> None:
        get("/throttled/")
        get_store().clear()
        answer = get("/throttled/")
        assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
        assert int(answer["Retry-After"]) > 0
