"""Every bit and habit that drf-extensions documents, under keybits' constructors.

For each bit: the same request has the same key, a change in what the bit names another, any other change the
same. A constructor is asked both ways: called, as drf-extensions does, and for its `identity`, as keybits
does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.cache.backends.locmem import LocMemCache
from django.db.models import QuerySet
from django.utils import translation
from rest_framework import pagination, permissions, renderers, serializers, viewsets
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework_extensions.cache.decorators import cache_response
from rest_framework_extensions.cache.mixins import CacheResponseMixin
from rest_framework_extensions.etag.decorators import api_etag, etag
from rest_framework_extensions.key_constructor import bits as upstream_bits
from rest_framework_extensions.key_constructor import constructors as upstream
from rest_framework_extensions.settings import extensions_api_settings

from catalog.models import Gallery, Tag
from keybits import bits
from keybits.constructors import (
    DefaultKeyConstructor,
    DefaultListKeyConstructor,
    DefaultObjectKeyConstructor,
    KeyConstructor,
)
from keybits.drf import ClosedQueryMixin
from keybits.parameters import Choice
from keybits.stores import get_store

Exchange = dict[str, Any]
pytestmark = pytest.mark.usefixtures("translated")


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["slug", "name"]


class Pages(pagination.PageNumberPagination):
    page_size = 2
    page_size_query_param = "page_size"


class Tags(viewsets.ModelViewSet[Tag]):
    """A viewset as a project has it that has never heard of keybits."""

    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    lookup_field = "slug"
    renderer_classes = [renderers.JSONRenderer, renderers.BrowsableAPIRenderer]
    content_negotiation_class = DefaultContentNegotiation
    authentication_classes: list[Any] = []
    permission_classes = [permissions.AllowAny]
    throttle_classes: list[Any] = []
    filter_backends: list[Any] = []
    pagination_class = Pages

    def get_queryset(self) -> QuerySet[Tag]:
        kind = self.request.GET.get("kind")
        return Tag.objects.filter(kind=kind) if kind else Tag.objects.all()


class Words(Tags):
    """The same by another name."""


class ClosedTags(ClosedQueryMixin, Tags):
    """The same with a closed query, as the default constructors need it."""

    def get_query_parameters(self) -> list[Any]:
        kinds = Choice(name="kind", choices=("topic", "device"), description="")
        pages = Choice(name="page", choices=("1", "2"), description="")
        return [*super().get_query_parameters(), kinds, pages]


def exchange(
    view: type[Tags] = Tags,
    action: str = "list",
    *args: Any,
    query: str = "",
    user: User | None = None,
    kwargs: dict[str, Any] | None = None,
    **meta: str,
) -> Exchange:
    """Return what a constructor is called with when `GET /?query` comes to `action`."""
    raw = APIRequestFactory().get(f"/?{query}", **meta)
    force_authenticate(raw, user)
    instance = view(action_map={"get": action}, detail=action != "list", format_kwarg=None)
    instance.args, instance.kwargs = args, kwargs or {}
    instance.request = request = instance.initialize_request(raw, *args, **instance.kwargs)
    request.accepted_renderer, request.accepted_media_type = instance.perform_content_negotiation(request)
    return {
        "view_instance": instance,
        "view_method": getattr(instance, action),
        "request": request,
        "args": args,
        "kwargs": instance.kwargs,
    }


def keys(constructor: KeyConstructor, **asked: Any) -> tuple[str, str]:
    return constructor(**asked), constructor.identity(**asked)


def assert_same(constructor: KeyConstructor, one: Exchange, other: Exchange) -> None:
    assert keys(constructor, **one) == keys(constructor, **other)


def assert_other(constructor: KeyConstructor, one: Exchange, other: Exchange) -> None:
    before, after = keys(constructor, **one), keys(constructor, **other)
    assert before[0] != after[0]
    assert before[1] != after[1]


def of(**declared: upstream_bits.KeyBitBase) -> KeyConstructor:
    """Return an instance of a constructor that declares these bits."""
    return type("Declared", (KeyConstructor,), declared)()


@pytest.fixture
def tags(db: None) -> list[Tag]:
    return [Tag.objects.create(slug=slug, name=slug.title()) for slug in ("calendar", "chart", "error")]


class TestExports:
    def test_every_documented_bit_is_offered(self) -> None:
        for name, bit in inspect.getmembers(upstream_bits, inspect.isclass):
            if bit.__module__ == upstream_bits.__name__:
                assert issubclass(getattr(bits, name), bit)

    @pytest.mark.parametrize(
        "ours",
        [KeyConstructor, DefaultKeyConstructor, DefaultObjectKeyConstructor, DefaultListKeyConstructor],
    )
    def test_a_constructor_of_ours_is_one_of_theirs(self, ours: type[KeyConstructor]) -> None:
        assert issubclass(ours, upstream.KeyConstructor)
        assert list(inspect.signature(ours).parameters) == ["memoize_for_request", "params"]


class TestEachBit:
    def test_unique_view_id(self) -> None:
        constructor = of(view=bits.UniqueViewIdKeyBit())
        assert_same(constructor, exchange(), exchange(action="retrieve", query="a=1", kwargs={"slug": "x"}))
        assert_other(constructor, exchange(), exchange(Words))

    def test_unique_method_id(self) -> None:
        constructor = of(method=bits.UniqueMethodIdKeyBit())
        assert_same(constructor, exchange(), exchange(query="a=1"))
        assert_other(constructor, exchange(), exchange(action="retrieve"))
        assert_other(constructor, exchange(), exchange(Words))

    def test_language(self) -> None:
        constructor = of(language=bits.LanguageKeyBit())
        english = keys(constructor, **exchange())
        assert keys(constructor, **exchange(Words, query="a=1")) == english
        with translation.override("ru"):
            assert set(keys(constructor, **exchange())).isdisjoint(english)

    def test_formats_are_told_apart_however_they_were_asked_for(self) -> None:
        constructor = of(format=bits.FormatKeyBit())
        assert_same(constructor, exchange(), exchange(query="a=1", HTTP_ACCEPT="application/json"))
        assert_other(constructor, exchange(), exchange(query="format=api"))
        assert_other(constructor, exchange(), exchange(HTTP_ACCEPT="text/html"))

    def test_users_are_told_apart_and_from_nobody(self) -> None:
        constructor = of(user=bits.UserKeyBit())
        one, other = User(pk=1, username="one"), User(pk=2, username="other")
        assert_same(constructor, exchange(), exchange(query="a=1"))
        assert_same(constructor, exchange(user=one), exchange(Words, user=one))
        assert_other(constructor, exchange(), exchange(user=one))
        assert_other(constructor, exchange(user=one), exchange(user=other))

    def test_headers_that_are_named_are_told_apart_and_others_are_not(self) -> None:
        constructor = of(headers=bits.HeadersKeyBit(["User-Agent", "x-geobase-id"]))
        asked = exchange(HTTP_X_GEOBASE_ID="1", HTTP_USER_AGENT="a")
        assert_same(constructor, asked, exchange(HTTP_X_GEOBASE_ID="1", HTTP_USER_AGENT="a", HTTP_X="1"))
        assert_other(constructor, asked, exchange(HTTP_X_GEOBASE_ID="2", HTTP_USER_AGENT="a"))
        assert_other(constructor, asked, exchange(HTTP_X_GEOBASE_ID="1"))

    def test_headers_swapped_between_names(self) -> None:
        constructor = of(headers=bits.HeadersKeyBit(["a", "b"]))
        assert_other(constructor, exchange(HTTP_A="1", HTTP_B="2"), exchange(HTTP_A="2", HTTP_B="1"))

    def test_request_meta(self) -> None:
        constructor = of(meta=bits.RequestMetaKeyBit(["REMOTE_ADDR"]))
        asked = exchange(REMOTE_ADDR="192.0.2.1")
        assert_same(constructor, asked, exchange(REMOTE_ADDR="192.0.2.1", REMOTE_HOST="a.example"))
        assert_other(constructor, asked, exchange(REMOTE_ADDR="192.0.2.2"))

    def test_query_params(self) -> None:
        constructor = of(query=bits.QueryParamsKeyBit(["part", "callback"]))
        asked = exchange(query="part=1")
        assert_same(constructor, asked, exchange(query="other=2&part=1"))
        assert_other(constructor, asked, exchange(query="part=2"))
        assert_other(constructor, asked, exchange(query="callback=1"))

    def test_pagination(self) -> None:
        constructor = of(pagination=bits.PaginationKeyBit())
        asked = exchange(query="page=1")
        assert_same(constructor, asked, exchange(query="page=1&kind=device"))
        assert_other(constructor, asked, exchange(query="page=2"))
        assert_other(constructor, asked, exchange(query="page=1&page_size=9"))

    def test_list_sql_query(self) -> None:
        constructor = of(sql=bits.ListSqlQueryKeyBit())
        assert_same(constructor, exchange(), exchange(query="page=2"))
        assert_other(constructor, exchange(), exchange(query="kind=device"))

    def test_list_sql_query_of_nothing(self) -> None:
        class NoTags(Tags):
            def get_queryset(self) -> QuerySet[Tag]:
                return Tag.objects.none()

        constructor = of(sql=bits.ListSqlQueryKeyBit())
        assert_same(constructor, exchange(NoTags), exchange(NoTags))
        assert_other(constructor, exchange(NoTags), exchange())

    def test_retrieve_sql_query(self) -> None:
        constructor = of(sql=bits.RetrieveSqlQueryKeyBit())
        asked = exchange(action="retrieve", kwargs={"slug": "chart"})
        assert_same(constructor, asked, exchange(action="retrieve", kwargs={"slug": "chart"}, query="page=2"))
        assert_other(constructor, asked, exchange(action="retrieve", kwargs={"slug": "error"}))

    def test_list_model(self, tags: list[Tag]) -> None:
        constructor = of(rows=bits.ListModelKeyBit())
        before = keys(constructor, **exchange())
        Gallery.objects.create(slug="spring", title="Spring")
        assert keys(constructor, **exchange()) == before
        Tag.objects.filter(slug="chart").update(name="Diagram")
        assert set(keys(constructor, **exchange())).isdisjoint(before)

    def test_retrieve_model(self, tags: list[Tag]) -> None:
        constructor = of(row=bits.RetrieveModelKeyBit())
        asked = {"action": "retrieve", "kwargs": {"slug": "chart"}}
        before = keys(constructor, **exchange(**asked))
        Tag.objects.filter(slug="error").update(name="Failure")
        assert keys(constructor, **exchange(**asked)) == before
        Tag.objects.filter(slug="chart").update(name="Diagram")
        assert set(keys(constructor, **exchange(**asked))).isdisjoint(before)

    def test_args(self) -> None:
        constructor = of(args=bits.ArgsKeyBit([0, 2]))
        asked = exchange(Tags, "retrieve", "a", "b", "c")
        assert_same(constructor, asked, exchange(Tags, "retrieve", "a", "B", "c"))
        assert_other(constructor, asked, exchange(Tags, "retrieve", "A", "b", "c"))
        assert_other(constructor, asked, exchange(Tags, "retrieve", "c", "b", "a"))

    def test_kwargs(self) -> None:
        constructor = of(kwargs=bits.KwargsKeyBit(["slug"]))
        asked = exchange(action="retrieve", kwargs={"slug": "chart", "city": "a"})
        assert_same(constructor, asked, exchange(action="retrieve", kwargs={"slug": "chart", "city": "b"}))
        assert_other(constructor, asked, exchange(action="retrieve", kwargs={"slug": "error", "city": "a"}))


class TestDefaultConstructors:
    """Theirs name method, format and language; ours add the route, the query and the user."""

    LISTS = [DefaultKeyConstructor(), DefaultListKeyConstructor()]
    ALL = [*LISTS, DefaultObjectKeyConstructor()]

    @pytest.mark.parametrize("constructor", ALL)
    def test_same_request(self, constructor: KeyConstructor) -> None:
        asked = {"view": ClosedTags, "action": "retrieve", "kwargs": {"slug": "chart"}, "user": User(pk=1)}
        assert_same(constructor, exchange(**asked), exchange(**asked, HTTP_X="1", REMOTE_ADDR="192.0.2.9"))

    @pytest.mark.parametrize("constructor", ALL)
    @pytest.mark.parametrize(
        "changed",
        [
            {"action": "list"},
            {"kwargs": {"slug": "error"}},
            {"query": "format=api"},
            {"HTTP_ACCEPT": "text/html"},
            {"query": "kind=device"},
            {"user": User(pk=1)},
        ],
        ids=str,
    )
    def test_what_they_name(self, constructor: KeyConstructor, changed: dict[str, Any]) -> None:
        asked = {"view": ClosedTags, "action": "retrieve", "kwargs": {"slug": "chart"}}
        assert_other(constructor, exchange(**asked), exchange(**(asked | changed)))

    @pytest.mark.parametrize("constructor", ALL)
    def test_language(self, constructor: KeyConstructor) -> None:
        english = keys(constructor, **exchange(ClosedTags))
        with translation.override("ru"):
            assert set(keys(constructor, **exchange(ClosedTags))).isdisjoint(english)

    @pytest.mark.parametrize("constructor", LISTS)
    def test_page(self, constructor: KeyConstructor) -> None:
        assert_other(constructor, exchange(ClosedTags, query="page=1"), exchange(ClosedTags, query="page=2"))

    @pytest.mark.parametrize("constructor", LISTS)
    def test_query_in_another_order(self, constructor: KeyConstructor) -> None:
        one, other = "page=1&kind=device", "kind=device&page=1&utm_source=x"
        assert_same(constructor, exchange(ClosedTags, query=one), exchange(ClosedTags, query=other))

    def test_a_bit_is_taken_out_by_none(self) -> None:
        class WithoutLanguage(DefaultKeyConstructor):
            language = None

        with translation.override("ru"):
            russian = keys(WithoutLanguage(), **exchange(ClosedTags))
        assert keys(WithoutLanguage(), **exchange(ClosedTags)) == russian


class TestParams:
    class GeoKey(KeyConstructor):
        geoip = bits.RequestMetaKeyBit(params=["GEOIP_COUNTRY"])
        language = bits.LanguageKeyBit()

    def test_in_the_bit(self) -> None:
        assert_other(self.GeoKey(), exchange(GEOIP_COUNTRY="a"), exchange(GEOIP_COUNTRY="b"))
        assert_same(self.GeoKey(), exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))

    def test_in_the_constructor_stand_in_for_the_bits(self) -> None:
        constructor = self.GeoKey(params={"geoip": ["GEOIP_CITY"]})
        assert_other(constructor, exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))
        assert_same(constructor, exchange(GEOIP_COUNTRY="a"), exchange(GEOIP_COUNTRY="b"))

    def test_of_one_instance_do_not_reach_another(self) -> None:
        self.GeoKey(params={"geoip": ["GEOIP_CITY"]})
        assert_same(self.GeoKey(), exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))

    def test_none_in_the_constructor_turns_the_bit_off(self) -> None:
        constructor = self.GeoKey(params={"geoip": None})
        assert_same(constructor, exchange(GEOIP_COUNTRY="a"), exchange(GEOIP_COUNTRY="b"))

    @pytest.mark.parametrize(
        "constructor", [of(q=bits.QueryParamsKeyBit()), of(q=bits.QueryParamsKeyBit("*"))]
    )
    def test_all_query_params(self, constructor: KeyConstructor) -> None:
        assert_same(constructor, exchange(query="a=1&b=2"), exchange(query="b=2&a=1", HTTP_X="1"))
        assert_other(constructor, exchange(query="a=1&b=2"), exchange(query="a=1&b=3"))
        assert_other(constructor, exchange(query="a=1&b=2"), exchange(query="a=1&b=2&c=3"))

    @pytest.mark.parametrize("constructor", [of(k=bits.KwargsKeyBit()), of(k=bits.KwargsKeyBit("*"))])
    def test_all_kwargs(self, constructor: KeyConstructor) -> None:
        asked = exchange(kwargs={"slug": "chart", "city": "a"})
        assert_same(constructor, asked, exchange(kwargs={"city": "a", "slug": "chart"}, query="a=1"))
        assert_other(constructor, asked, exchange(kwargs={"slug": "chart", "city": "b"}))

    @pytest.mark.parametrize("constructor", [of(a=bits.ArgsKeyBit()), of(a=bits.ArgsKeyBit("*"))])
    def test_all_args(self, constructor: KeyConstructor) -> None:
        assert_same(
            constructor, exchange(Tags, "list", "a", "b"), exchange(Tags, "list", "a", "b", query="a=1")
        )
        assert_other(constructor, exchange(Tags, "list", "a", "b"), exchange(Tags, "list", "b", "a"))

    def test_all_request_meta(self) -> None:
        constructor = of(meta=bits.RequestMetaKeyBit("*"))
        asked = exchange(REMOTE_ADDR="192.0.2.1")
        assert_same(constructor, asked, asked)
        assert_other(constructor, asked, exchange(REMOTE_ADDR="192.0.2.2"))

    @pytest.mark.parametrize(
        ("bit", "one", "other"),
        [
            (bits.QueryParamsKeyBit([]), {"query": "a=1"}, {"query": "a=2"}),
            (bits.KwargsKeyBit([]), {"kwargs": {"slug": "a"}}, {"kwargs": {"slug": "b"}}),
            (bits.RequestMetaKeyBit([]), {"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": "192.0.2.2"}),
        ],
        ids=["query", "kwargs", "meta"],
    )
    def test_all_in_the_constructor(
        self, bit: upstream_bits.KeyBitBase, one: dict[str, Any], other: dict[str, Any]
    ) -> None:
        narrow = of(bit=bit)
        wide = type(narrow)(params={"bit": "*"})
        assert_same(narrow, exchange(**one), exchange(**other))
        assert_other(wide, exchange(**one), exchange(**other))


class CountingKeyBit(bits.KeyBitBase):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def get_data(self, **_: Any) -> int:
        self.asked += 1
        return self.asked


class TestMemoizeForRequest:
    def test_off_unless_asked_for(self) -> None:
        bit, asked = CountingKeyBit(), exchange()
        constructor = of(bit=bit)
        assert constructor(**asked) != constructor(**asked)
        assert bit.asked == 2

    def test_by_argument(self) -> None:
        bit, asked = CountingKeyBit(), exchange()
        constructor = type(of(bit=bit))(memoize_for_request=True)
        assert constructor(**asked) == constructor(**asked)
        assert bit.asked == 1

    def test_by_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """drf-extensions reads REST_FRAMEWORK_EXTENSIONS once, into this object."""
        monkeypatch.setattr(extensions_api_settings, "DEFAULT_KEY_CONSTRUCTOR_MEMOIZE_FOR_REQUEST", True)
        bit, asked = CountingKeyBit(), exchange()
        constructor = of(bit=bit)
        assert constructor(**asked) == constructor(**asked)
        assert bit.asked == 1

    def test_the_argument_goes_before_the_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extensions_api_settings, "DEFAULT_KEY_CONSTRUCTOR_MEMOIZE_FOR_REQUEST", True)
        constructor, asked = type(of(bit=CountingKeyBit()))(memoize_for_request=False), exchange()
        assert constructor(**asked) != constructor(**asked)

    def test_another_request_method_or_constructor_is_asked_anew(self) -> None:
        bit, asked = CountingKeyBit(), exchange()
        declared = type(of(bit=bit))
        constructor, second = declared(memoize_for_request=True), declared(memoize_for_request=True)
        instance = asked["view_instance"]
        seen = {
            constructor(**asked),
            constructor(**exchange()),
            constructor(**(asked | {"view_method": instance.retrieve})),
            constructor(**(asked | {"kwargs": {"slug": "x"}})),
            second(**asked),
        }
        assert len(seen) == bit.asked == 5


class TestBitsAddedDynamically:
    def test_in_the_initialiser(self) -> None:
        class GeoKey(KeyConstructor):
            language = bits.LanguageKeyBit()

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.bits["geoip"] = bits.RequestMetaKeyBit(params=["GEOIP_CITY"])

        assert_other(GeoKey(), exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))
        assert_same(GeoKey(params={"geoip": []}), exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))

    def test_on_one_instance(self) -> None:
        class LanguageKey(KeyConstructor):
            language = bits.LanguageKeyBit()

        constructor, untouched = LanguageKey(), LanguageKey()
        constructor.bits["geoip"] = bits.RequestMetaKeyBit(params=["GEOIP_CITY"])
        assert_other(constructor, exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))
        assert_same(untouched, exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))

    def test_on_the_class_after_its_definition(self) -> None:
        class GeoKey(KeyConstructor):
            pass

        GeoKey.geoip = bits.RequestMetaKeyBit(params=["GEOIP_CITY"])
        assert_other(GeoKey(), exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))

    def test_by_overriding_get_bits(self) -> None:
        class GeoKey(KeyConstructor):
            language = bits.LanguageKeyBit()

            def get_bits(self) -> dict[str, Any]:
                return super().get_bits() | {"geoip": bits.RequestMetaKeyBit(params=["GEOIP_CITY"])}

        assert set(GeoKey().bits) == {"language", "geoip"}
        assert_other(GeoKey(), exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))

    def test_freshness_bits_too(self) -> None:
        constructor = of(language=bits.LanguageKeyBit())
        identity = constructor.identity(**exchange())
        constructor.bits["updated_at"] = bits.UpdatedAtKeyBit("words")
        assert constructor.scopes(**exchange()) == ("words",)
        assert constructor.identity(**exchange()) == identity

    def test_removed(self) -> None:
        constructor = of(geoip=bits.RequestMetaKeyBit(params=["GEOIP_CITY"]))
        del constructor.bits["geoip"]
        assert_same(constructor, exchange(GEOIP_CITY="a"), exchange(GEOIP_CITY="b"))


class TestCustomBits:
    def test_key_bit_base(self) -> None:
        class TimestampKeyBit(bits.KeyBitBase):
            """The documentation's recipe, signature and all."""

            value = "1"

            def get_data(self, **kwargs: Any) -> str:
                assert set(kwargs) == {"params", "view_instance", "view_method", "request", "args", "kwargs"}
                return self.value

        bit = TimestampKeyBit()
        constructor = of(updated_at=bit)
        before = keys(constructor, **exchange())
        assert keys(constructor, **exchange(query="a=1")) == before
        bit.value = "2"
        assert set(keys(constructor, **exchange())).isdisjoint(before)

    def test_key_bit_dict_base(self) -> None:
        class CookieKeyBit(bits.KeyBitDictBase):
            def get_source_dict(self, request: Any, **_: Any) -> dict[str, str]:
                return request.COOKIES

            def prepare_key_for_value_retrieving(self, key: str) -> str:
                return f"x_{key}"

            def prepare_key_for_value_assignment(self, key: str) -> str:
                return key.upper()

        bit = CookieKeyBit(params=["theme"])
        asked = exchange(HTTP_COOKIE="x_theme=dark")
        assert_same(of(cookie=bit), asked, exchange(HTTP_COOKIE="x_theme=dark; other=1"))
        assert_other(of(cookie=bit), asked, exchange(HTTP_COOKIE="x_theme=light"))
        assert of(cookie=bit).get_data_from_bits(**asked) == {"cookie": {"THEME": "dark"}}

    def test_all_args_mixin(self) -> None:
        class CookieKeyBit(bits.AllArgsMixin, bits.KeyBitDictBase):
            def get_source_dict(self, request: Any, **_: Any) -> dict[str, str]:
                return request.COOKIES

        assert_other(of(c=CookieKeyBit()), exchange(HTTP_COOKIE="a=1"), exchange(HTTP_COOKIE="a=1; b=2"))

    def test_a_bit_without_params(self) -> None:
        """drf-extensions allows a bit that never calls the base's initialiser."""

        class PathKeyBit(bits.KeyBitBase):
            def __init__(self) -> None:
                pass

            def get_data(self, params: Any, request: Any, **_: Any) -> list[Any]:
                return [params, request.META["QUERY_STRING"]]

        assert_same(of(p=PathKeyBit()), exchange(query="a=1"), exchange(query="a=1"))
        assert_other(of(p=PathKeyBit()), exchange(query="a=1"), exchange(query="a=2"))

    def test_bits_that_swap_their_data_make_another_key(self) -> None:
        class MetaKeyBit(bits.KeyBitBase):
            def get_data(self, params: str, request: Any, **_: Any) -> str:
                return request.META[params]

        constructor = of(a=MetaKeyBit("HTTP_X"), b=MetaKeyBit("HTTP_Y"))
        assert_other(constructor, exchange(HTTP_X="1", HTTP_Y="2"), exchange(HTTP_X="2", HTTP_Y="1"))

    def test_prepare_key_can_be_overridden(self) -> None:
        class PlainKey(KeyConstructor):
            language = bits.LanguageKeyBit()

            def prepare_key(self, key_dict: dict[str, Any]) -> str:
                return repr(sorted(key_dict))

        assert PlainKey()(**exchange()) == "['language']"


class LanguageAndTagKey(KeyConstructor):
    method = bits.UniqueMethodIdKeyBit()
    kwargs = bits.KwargsKeyBit()
    query = bits.QueryParamsKeyBit()
    language = bits.LanguageKeyBit()
    updated_at = bits.UpdatedAtKeyBit("words")


def answer_of(
    view: type[Tags], action: str, *, verb: str = "get", query: str = "", **options: Any
) -> Response:
    """Return the rendered answer of `view` as a URL would reach it."""
    meta = {name: options.pop(name) for name in list(options) if name.startswith("HTTP_")}
    raw = getattr(APIRequestFactory(), verb)(f"/?{query}", **meta)
    response = view.as_view({verb: action})(raw, **options)
    return response.render() if hasattr(response, "render") else response


def change_words() -> None:
    get_store().close(["words"])


def cached(key_func: str | KeyConstructor) -> cache_response:
    """Return their decorator on a cache that can keep bytes, as it has to. JSON on Redis cannot."""
    decorator = cache_response(key_func=key_func)
    decorator.cache = LocMemCache(uuid4().hex, {})
    return decorator


class TestUnderCacheResponse:
    @pytest.fixture
    def counted(self) -> type[Tags]:
        class CountedTags(Tags):
            calls = 0
            key = LanguageAndTagKey()

            def answer(self) -> Response:
                type(self).calls += 1
                return Response({"calls": self.calls})

            @cached(key)
            def retrieve(self, request: Any, *args: Any, **kwargs: Any) -> Response:
                return self.answer()

            @cached("key_by_name")
            def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
                return self.answer()

            def key_by_name(self, **asked: Any) -> str:
                return self.key(**asked)

        return CountedTags

    @pytest.mark.parametrize("action", ["list", "retrieve"])
    def test_same_request_is_answered_from_the_cache(self, counted: Any, action: str) -> None:
        first = answer_of(counted, action, slug="a", query="b=1").content
        assert (
            answer_of(counted, action, slug="a", query="b=1", HTTP_X="1").content == first == b'{"calls":1}'
        )

    @pytest.mark.parametrize("changed", [{"slug": "z"}, {"query": "b=2"}, {"action": "list"}])
    def test_another_request_is_not(self, counted: Any, changed: dict[str, str]) -> None:
        asked = {"action": "retrieve", "slug": "a", "query": "b=1"}
        answer_of(counted, **asked)
        assert answer_of(counted, **(asked | changed)).content == b'{"calls":2}'

    def test_nor_is_the_same_in_another_language(self, counted: Any) -> None:
        answer_of(counted, "retrieve", slug="a")
        with translation.override("ru"):
            assert answer_of(counted, "retrieve", slug="a").content == b'{"calls":2}'

    def test_nor_is_the_same_after_a_change(self, counted: Any) -> None:
        answer_of(counted, "retrieve", slug="a")
        change_words()
        assert answer_of(counted, "retrieve", slug="a").content == b'{"calls":2}'

    @pytest.mark.stack("embedded")
    def test_their_mixin(self, tags: list[Tag], django_assert_num_queries: Callable[..., Any]) -> None:
        class CachedTags(CacheResponseMixin, Tags):
            list_cache_key_func = object_cache_key_func = LanguageAndTagKey()

        for action, kwargs in (("list", {}), ("retrieve", {"slug": "chart"})):
            first = answer_of(CachedTags, action, **kwargs)
            with django_assert_num_queries(0):
                assert answer_of(CachedTags, action, **kwargs).content == first.content
        Tag.objects.filter(slug="chart").update(name="Diagram")
        change_words()
        assert b"Diagram" in answer_of(CachedTags, "retrieve", slug="chart").content


class TestUnderEtag:
    class Tagged(Tags):
        key = LanguageAndTagKey()

        @etag(key)
        def retrieve(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            return Response({"slug": kwargs["slug"]})

        @etag(etag_func="key_by_name")
        def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            return Response([])

        @api_etag(etag_func=LanguageAndTagKey())
        def partial_update(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            return Response({"slug": kwargs["slug"]})

        def key_by_name(self, **asked: Any) -> str:
            return self.key(**asked)

    @pytest.mark.parametrize("action", ["list", "retrieve"])
    def test_same_request_is_304(self, action: str) -> None:
        tag = answer_of(self.Tagged, action, slug="a")["ETag"]
        again = answer_of(self.Tagged, action, slug="a", HTTP_IF_NONE_MATCH=tag)
        assert (again.status_code, again["ETag"]) == (304, tag)

    @pytest.mark.parametrize("changed", [{"slug": "z"}, {"query": "b=2"}])
    def test_another_request_is_200(self, changed: dict[str, str]) -> None:
        asked = {"slug": "a", "query": "b=1"}
        tag = answer_of(self.Tagged, "retrieve", **asked)["ETag"]
        assert (
            answer_of(self.Tagged, "retrieve", **(asked | changed), HTTP_IF_NONE_MATCH=tag).status_code == 200
        )

    def test_the_same_after_a_change_is_200(self) -> None:
        tag = answer_of(self.Tagged, "retrieve", slug="a")["ETag"]
        change_words()
        again = answer_of(self.Tagged, "retrieve", slug="a", HTTP_IF_NONE_MATCH=tag)
        assert again.status_code == 200
        assert again["ETag"] != tag

    @pytest.mark.parametrize(("changes", "status"), [(False, 200), (True, 412)])
    def test_a_write_under_api_etag(self, changes: bool, status: int) -> None:
        asked = {"verb": "patch", "slug": "a"}
        tag = answer_of(self.Tagged, "partial_update", **asked, HTTP_IF_MATCH="*")["ETag"]
        if changes:
            change_words()
        assert answer_of(self.Tagged, "partial_update", **asked, HTTP_IF_MATCH=tag).status_code == status

    def test_a_write_without_if_match_is_428(self) -> None:
        assert answer_of(self.Tagged, "partial_update", verb="patch", slug="a").status_code == 428

    def test_both_decorators_share_one_calculation(self) -> None:
        bit = CountingKeyBit()
        shared = type(of(bit=bit))(memoize_for_request=True)

        class Both(Tags):
            @etag(shared)
            @cached(shared)
            def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
                return Response([])

        assert answer_of(Both, "list").status_code == 200
        assert bit.asked == 1
