"""What one request teaches the fast path is given to those alone to whom it applies."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest
from corsheaders.signals import check_request_enabled
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.http import HttpResponse
from django.urls import path, register_converter
from django.urls.converters import StringConverter
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from prometheus_client import REGISTRY
from pytest_django import Settings
from rest_framework import authentication, negotiation, permissions, versioning, viewsets
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from stacks.ways import AsgiWays, Asked, Ways, WsgiWays, environ_of, exchange, scope_of

from catalog.models import Gallery, Tag
from keybits import bits, fastpath, memory, readthrough
from keybits.answers import answer
from keybits.cache_control import Lifetime, Policy
from keybits.constructors import DefaultListKeyConstructor
from keybits.drf import ListCacheResponseAndETAGMixin, cache_response_and_etag, expire
from keybits.drf.closed import closed
from keybits.drf.throttles import AnonymousThrottle, ScopedThrottle, UserThrottle
from keybits.fastpath.asgi import FastPath as AsgiFastPath
from keybits.fastpath.wsgi import FastPath as WsgiFastPath
from keybits.metrics import outcome
from keybits.stores import StoreError, get_store

# Nothing is learnt from a store.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.stack("embedded")]


def scopes(**_: Any) -> str:
    return "tags"


class TagKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tags")


class Source:
    @cache_response_and_etag("key")
    def list(self, request: Request) -> Response:
        return Response(
            {"tags": [tag.name for tag in Tag.objects.all()], "for": request.query_params.get("for", "")}
        )


class View(Source, viewsets.GenericViewSet[Tag]):
    key: Any = TagKey()
    throttle_classes = []
    parser_classes = []


class ByHeader(permissions.BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return "X-Key" in request.headers


@closed
class Declared(permissions.BasePermission): ...


class AddedToDeclared(Declared): ...


class Sender(authentication.BaseAuthentication):
    def authenticate(self, request: Request) -> None: ...


class Negotiation(negotiation.DefaultContentNegotiation): ...


class Versioning(versioning.URLPathVersioning): ...


class OriginKey(TagKey):
    origin = bits.OriginKeyBit()


class HeaderKey(TagKey):
    header = bits.HeadersKeyBit(["x-key"])


class ScopesByFunction(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit(scopes)


class ScopesByClosedFunction(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit(closed(lambda **_: "tags"))


class OwnIdentity(TagKey):
    def identity(self, **exchange: Any) -> str:
        return super().identity(**exchange) + exchange["request"].headers.get("X-Key", "")


class OwnBit(bits.RouteKeyBit): ...


class OwnBitKey(TagKey):
    own = OwnBit()


def made(**members: Any) -> Any:
    return type("Made", (View,), {"__module__": "project.views", **members})


def overriding(step: str) -> Any:
    def own(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(View, step)(self, *args, **kwargs)

    return made(**{step: own})


class OverridesHandler(View):
    def list(self, request: Request) -> Any:
        if "X-Key" not in request.headers:
            raise PermissionDenied
        return super().list(request)


def keyed(view: Any) -> Any:
    """A decorator around a view or a handler that asks for a field."""

    @wraps(view)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        request = next(arg for arg in args if hasattr(arg, "META"))
        return view(*args, **kwargs) if "HTTP_X_KEY" in request.META else HttpResponse(status=403)

    return wrapped


class DecoratedHandler(View):
    list = keyed(Source.list)


class ByMethodDecorator(View):
    list = method_decorator(never_cache)(Source.list)


class KeyByProperty(View):
    @property
    def key(self) -> Any:
        return KEYS["X-Key" in self.request.headers]


KEYS = (TagKey(), ScopesByClosedFunction())


def by_key(*choices: Any) -> Any:
    """A property of a view that depends on a field of the request."""
    return property(lambda view: choices["X-Key" in view.request.headers])


class RefusesRows(View):
    """Refuses where it chooses its rows, which this permission asks it for on every request."""

    __module__ = "project.views"
    permission_classes = [permissions.DjangoModelPermissionsOrAnonReadOnly]

    def get_queryset(self) -> Any:
        if "X-Key" not in self.request.headers:
            raise PermissionDenied
        return Tag.objects.all()


class NumbersAnswers(View):
    """Puts on each answer what is the request's own."""

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "X-Request-Id": self.request.headers.get("X-Key", "")}


class GetOnly(View):
    http_method_names = ["get"]


class OncePerDay(SimpleRateThrottle):
    rate = "100/day"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return "once"


class CountsHits(OncePerDay):
    counts_hits = True


class Names:
    def list(self, request: Request) -> Response:
        return Response({"tags": [tag.name for tag in Tag.objects.all()]})


class Deferring(ListCacheResponseAndETAGMixin, Names, viewsets.GenericViewSet[Tag]):
    """A view whose throttles count what has to be computed, except those that count hits."""

    list_cache_key_func = TagKey()
    parser_classes = []
    throttle_classes = [OncePerDay, AnonymousThrottle, UserThrottle, ScopedThrottle]


class CountingHits(Deferring):
    throttle_classes = [OncePerDay, CountsHits]


class OwnThrottles(Deferring):
    __module__ = "project.views"

    def get_throttles(self) -> Any:
        return [CountsHits()]


def listed(view: Any, **given: Any) -> Any:
    return view.as_view({"get": "list"}, **given)


def composed(request: Any) -> Any:
    """A view that asks another, and says something else."""
    inner = listed(View)(request)
    response = HttpResponse(inner.content.replace(b"tags", b"gats"), status=inner.status_code)
    for name, value in inner.items():
        response[name] = value
    return response


class Expiring(View):
    at = SimpleNamespace(moment=None)

    @cache_response_and_etag("key")
    def list(self, request: Request) -> Response:
        if self.at.moment:
            expire(request, self.at.moment)
        return Response({"now": True})


class Held(View):
    cache_policy = Policy(Lifetime(max_age=60))


class FieldsByRows(View):
    """Gives its answers a field or not, as the rows have it."""

    @cache_response_and_etag("key")
    def list(self, request: Request) -> Response:
        named = Tag.objects.filter(slug="field").values_list("name", flat=True)
        return Response({"named": list(named)}, headers=dict(each.split(": ") for each in named))


class Captures(View):
    @cache_response_and_etag("key")
    def list(self, request: Request, **captured: str) -> Response:
        return Response(captured)


class WithCookie(View):
    @cache_response_and_etag("key")
    def list(self, request: Request) -> Response:
        response = Response({"a": 1})
        response.set_cookie("seen", "1")
        return response


OPEN: dict[str, Any] = {
    "plain": listed(View),
    "declared": listed(made(permission_classes=[Declared])),
    "permission-of-the-model": listed(
        made(
            permission_classes=[permissions.DjangoModelPermissionsOrAnonReadOnly], queryset=Tag.objects.all()
        )
    ),
    "scopes-closed": listed(made(key=ScopesByClosedFunction())),
    "by-origin": listed(made(key=OriginKey())),
    "versioned": listed(made(versioning_class=versioning.AcceptHeaderVersioning)),
    "get-only": listed(GetOnly),
    "held": listed(Held),
    "fields-by-rows": listed(FieldsByRows),
    "expiring": listed(Expiring),
    "throttles-of-misses-and-users": listed(Deferring),
    "exempt": csrf_exempt(listed(View)),
}
SHUT: dict[str, Any] = {
    "permission": listed(made(permission_classes=[ByHeader])),
    "permission-of-the-action": listed(View, permission_classes=[ByHeader]),
    "permission-any-of": listed(made(permission_classes=[permissions.AllowAny | ByHeader])),
    "permission-below-declared": listed(made(permission_classes=[AddedToDeclared])),
    "authentication": listed(made(authentication_classes=[Sender])),
    "authentication-of-the-action": listed(View, authentication_classes=[Sender]),
    "negotiation": listed(made(content_negotiation_class=Negotiation)),
    "versioning": listed(made(versioning_class=Versioning)),
    "throttle": listed(made(throttle_classes=[OncePerDay])),
    "throttle-that-counts-hits": listed(CountingHits),
    "own-throttles": listed(OwnThrottles),
    "queryset-given-here": listed(
        made(
            permission_classes=[permissions.DjangoModelPermissionsOrAnonReadOnly], queryset=Tag.objects.all()
        ),
        get_queryset=Tag.objects.all,
    ),
    "throttles-given-here": listed(Deferring, get_throttles=lambda: [CountsHits()]),
    "permission-that-asks-for-rows": listed(RefusesRows),
    "permission-by-property": listed(
        made(permission_classes=by_key([permissions.AllowAny], [permissions.IsAuthenticatedOrReadOnly]))
    ),
    "authentication-by-property": listed(
        made(authentication_classes=by_key([], [authentication.TokenAuthentication]))
    ),
    "throttle-by-property": listed(made(throttle_classes=by_key([], []))),
    "versioning-by-property": listed(made(versioning_class=by_key(None, versioning.NamespaceVersioning))),
    "header-bit": listed(made(key=HeaderKey())),
    "own-bit": listed(made(key=OwnBitKey())),
    "scopes-of-a-function": listed(made(key=ScopesByFunction())),
    "scopes-of-a-parameter": listed(made(key=TagKey(params={"updated_at": scopes}))),
    "own-response-headers": listed(NumbersAnswers),
    "own-identity": listed(made(key=OwnIdentity())),
    "key-by-property": listed(KeyByProperty),
    "handler": listed(OverridesHandler),
    "handler-decorated": listed(DecoratedHandler),
    "handler-method-decorated": listed(ByMethodDecorator),
    "url-decorated": keyed(listed(View)),
    "url-never-cached": never_cache(listed(View)),
    "composed": composed,
    "cookie": listed(WithCookie),
}
STEPS = (
    *("dispatch", "setup", "initial", "initialize_request", "check_permissions", "get_permissions"),
    *("finalize_response", "get_authenticators", "perform_authentication", "perform_content_negotiation"),
    *("get_renderers", "determine_version", "check_throttles"),
)
SHUT |= {f"own-{step}": listed(overriding(step)) for step in STEPS}


class Shown(StringConverter):
    """Captures galleries that are shown."""

    def to_python(self, value: str) -> str:
        if not Gallery.objects.filter(slug=value, visibility="public").exists():
            raise ValueError
        return value


@closed
class Word(StringConverter):
    regex = "[a-z]+"


register_converter(Shown, "shown")
register_converter(Word, "word")
urlpatterns = [
    *(path(f"{name}/", view) for name, view in {**OPEN, **SHUT}.items()),
    path("of/<shown:gallery>/", listed(Captures)),
    path("by/<word:word>/<str:other>/", listed(Captures)),
]
handler404 = "keybits.problems.not_found"


@pytest.fixture(autouse=True)
def _project(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.ROOT_URLCONF, settings.KEYBITS_FASTPATH = __name__, True
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 0)
    memory.entries().clear()
    yield
    memory.entries().clear()
    Expiring.at.moment = None


@pytest.fixture(autouse=True)
def tag() -> Tag:
    return Tag.objects.create(slug="chart", name="Chart")


@pytest.fixture(params=[WsgiWays, AsgiWays])
def ways(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def wsgi() -> Ways:
    return WsgiWays()


def learns(ways: Ways, asked: Asked) -> bool:
    """Ask three times; say whether the fast path answers the third, as the long way does."""
    ways.fast(asked)
    ways.fast(asked)
    fast = ways.was_fast(asked)
    assert ways.fast(asked).without("last-modified") == ways.long(asked).without("last-modified")
    return fast


@pytest.mark.usefixtures("clock")
class TestClosedViews:
    @pytest.mark.parametrize("name", OPEN)
    def test_are_answered_in_front(self, ways: Ways, name: str) -> None:
        assert learns(ways, Asked(f"/{name}/"))

    @pytest.mark.parametrize("name", SHUT)
    def test_no_other_is(self, ways: Ways, name: str) -> None:
        assert not learns(ways, Asked(f"/{name}/").with_fields(("X-Key", "x")))

    @pytest.mark.parametrize("name", ["permission", "permission-of-the-action", "handler", "url-decorated"])
    def test_whoever_is_refused_is_refused_after_another_was_not(self, ways: Ways, name: str) -> None:
        asked = Asked(f"/{name}/")
        assert learns(ways, asked.with_fields(("X-Key", "x"))) is False
        assert ways.fast(asked).status in {401, 403}

    def test_what_a_converter_of_the_projects_own_refuses_is_refused(self, wsgi: Ways) -> None:
        """By ASGI none may ask the database."""
        Gallery.objects.create(slug="spring", title="Spring", visibility="public")
        assert not learns(wsgi, Asked("/of/spring/"))
        Gallery.objects.update(visibility="private")
        assert wsgi.fast(Asked("/of/spring/")).status == 404

    def test_a_converter_may_be_declared_closed(self, ways: Ways) -> None:
        assert learns(ways, Asked("/by/word/1/"))

    def test_a_method_that_a_view_does_not_have_stays_a_405(self, ways: Ways) -> None:
        assert learns(ways, Asked("/get-only/"))
        assert ways.fast(Asked("/get-only/", method="HEAD")).status == 405


class TestPoison:
    PLAIN = Asked("/plain/?for=%D0%B6")

    def test_a_charset_does_not_change_what_others_asked_for(self, ways: Ways) -> None:
        attack = self.PLAIN.with_fields(("Content-Type", "text/plain; charset=koi8-r"))
        for _ in range(3):
            ways.fast(attack)
        assert ways.fast(self.PLAIN).content == ways.long(self.PLAIN).content
        assert not ways.was_fast(attack)

    @pytest.mark.parametrize(
        "fields",
        [
            [("Origin", "https://evil.example")],
            [("Access-Control-Request-Private-Network", "true"), ("Origin", "https://evil.example")],
            [("Cookie", "csrftoken=x")],
            [("Cookie", "sessionid =x")],
            [("Authorization", "")],
            [("Accept", "text/html")],
            [("X-Forwarded-Host", "evil.example")],
            [("Accept-Encoding", "identity;q=0")],
            [("If-Match", '"x"')],
            [("Content-Length", "1")],
        ],
    )
    def test_what_an_odd_request_taught_does_not_reach_a_plain_one(
        self, ways: Ways, settings: Settings, fields: list[tuple[str, str]]
    ) -> None:
        settings.CORS_ALLOW_CREDENTIALS = True
        settings.CORS_ALLOW_PRIVATE_NETWORK = True
        settings.CORS_URLS_REGEX = ".*"
        ways = type(ways)()
        for _ in range(3):
            ways.fast(self.PLAIN.with_fields(*fields))
        assert learns(ways, self.PLAIN)
        told = ways.fast(self.PLAIN)
        assert (told.status, told.get("Set-Cookie"), told.get("Access-Control-Allow-Origin")) == (
            200,
            None,
            None,
        )

    @pytest.mark.parametrize("field", ["Vary: Accept", "X-Frame-Options: SAMEORIGIN"])
    def test_what_middlewares_added_to_an_answer_is_not_added_to_one_with_other_fields(
        self, ways: Ways, settings: Settings, field: str
    ) -> None:
        """They add to the Vary that they find, and most give an answer no field that it has already."""
        settings.CORS_ALLOW_CREDENTIALS, settings.CORS_URLS_REGEX = True, ".*"
        ways = type(ways)()
        head, get = (Asked("/fields-by-rows/", method=method) for method in ("HEAD", "GET"))
        name = field.partition(":")[0]
        for change in (
            lambda: None,
            lambda: Tag.objects.create(slug="field", name=field),
            lambda: Tag.objects.filter(slug="field").delete(),
        ):
            change()
            assert learns(ways, get)
            assert ways.fast(head).all(name) == ways.long(head).all(name)
            assert learns(ways, head)

    def test_a_session_is_seen_however_its_cookie_is_spelt(self, ways: Ways) -> None:
        assert learns(ways, self.PLAIN)
        for cookie in ("sessionid=x", "sessionid =x", "a=b; sessionid\t=x", "sessionid"):
            assert not ways.was_fast(self.PLAIN.with_fields(("Cookie", cookie)))

    @pytest.mark.parametrize("is_on", [True, False])
    def test_a_session_is_seen_where_http_2_sends_each_cookie_in_a_field_of_its_own(
        self, settings: Settings, is_on: bool
    ) -> None:
        """RFC 9113 section 8.2.3; by Django itself, too."""
        settings.KEYBITS_FASTPATH = is_on
        ways = AsgiWays()
        assert learns(ways, self.PLAIN) is is_on
        asked = self.PLAIN.with_fields(("Cookie", "a=b"), ("Cookie", "sessionid=x"))
        assert not ways.was_fast(asked)
        assert ways.fast(asked).get("Cache-Control") == "private, no-store"

    def test_other_cookies_keep_nobody_from_the_fast_path(self, ways: Ways) -> None:
        assert learns(ways, self.PLAIN)
        for cookie in ("a=b", f"csrftoken={'a' * 32}", f"csrftoken={'a' * 64}; a=b"):
            assert ways.was_fast(self.PLAIN.with_fields(("Cookie", cookie)))

    def test_what_comes_with_somebodys_own_cookie_is_not_remembered_word_for_word(self, ways: Ways) -> None:
        """There are as many as there are people, and they would drive out what many ask for."""
        assert learns(ways, self.PLAIN)
        known = fastpath.answer_cache()
        assert known is not None
        before = known._understood.size
        assert before > 0
        for number in range(3):
            assert ways.was_fast(self.PLAIN.with_fields(("Cookie", f"_ga={number}")))
        assert known._understood.size == before

    def test_a_csrf_cookie_that_django_replaces_is_left_to_it(self, ways: Ways, settings: Settings) -> None:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "cookieless" not in name]
        ways = type(ways)()
        assert learns(ways, self.PLAIN)
        for token in ("x", "a" * 33, "a" * 32 + " a", '"' + "a" * 32 + '" a'):
            assert ways.fast(self.PLAIN.with_fields(("Cookie", f"csrftoken={token}"))).get("Set-Cookie")

    @pytest.mark.parametrize(
        "field", [("Transfer-Encoding", "chunked"), ("Content-Length", "1"), ("Authorization", "")]
    )
    def test_content_and_credentials_are_left_to_django(self, ways: Ways, field: tuple[str, str]) -> None:
        assert learns(ways, self.PLAIN)
        assert not ways.was_fast(self.PLAIN.with_fields(field))

    def test_content_that_names_no_length_teaches_nothing(self) -> None:
        """By HTTP/2 it need not (RFC 9113 section 8.1.1)."""
        ways = AsgiWays()
        assert not learns(ways, replace(self.PLAIN, body=b"{}"))
        assert learns(ways, self.PLAIN)

    def test_no_host_is_never_answered_in_front(self, ways: Ways) -> None:
        assert not learns(ways, Asked("/plain/", fields=()))

    def test_a_host_that_is_not_ours_is_refused_after_ours_was_not(self, ways: Ways) -> None:
        assert learns(ways, self.PLAIN)
        assert ways.fast(self.PLAIN.with_fields(("Host", "evil.example"))).status == 400

    def test_hosts_that_have_entries_of_their_own_do_not_drive_each_other_out(
        self, ways: Ways, settings: Settings
    ) -> None:
        settings.ALLOWED_HOSTS = ["a.example", "b.example"]
        ways = type(ways)()
        asked = [Asked("/by-origin/", fields=(("Host", host),)) for host in settings.ALLOWED_HOSTS]
        assert all(learns(ways, each) for each in asked)
        assert all(ways.was_fast(each) for each in asked)

    def test_schemes_are_told_apart(self, ways: Ways, settings: Settings) -> None:
        settings.SECURE_HSTS_SECONDS = 60
        ways = type(ways)()
        assert learns(ways, self.PLAIN)
        assert ways.fast(self.PLAIN).get("Strict-Transport-Security") is None
        safe = replace(self.PLAIN, scheme="https")
        assert ways.fast(safe).get("Strict-Transport-Security") == "max-age=60"

    def test_mounts_are_told_apart_however_the_server_says_them(self, wsgi: Ways) -> None:
        assert learns(wsgi, Asked("/plain/"))
        assert not wsgi.was_fast(Asked("/plain/", environ={"SCRIPT_URL": "/there/plain/"}))
        assert not wsgi.was_fast(Asked("/plain/", environ={"REDIRECT_URL": "/there/plain/"}))
        assert not wsgi.was_fast(Asked("/plain/", mount="/there"))

    @pytest.mark.parametrize("told_as", ["RAW_URI", "REQUEST_URI"])
    def test_a_path_that_is_spelt_otherwise_is_not_found_however_the_server_says_it(
        self, wsgi: Ways, told_as: str
    ) -> None:
        """As gunicorn, and as mod_wsgi and uWSGI."""
        assert learns(wsgi, Asked("/plain/", raw=False, environ={told_as: "/plain/"}))
        assert wsgi.fast(Asked("/plain/", raw=False, environ={told_as: "/%70lain/"})).status == 404

    def test_an_environ_without_what_may_be_left_out_is_answered(self, wsgi: Ways) -> None:
        environ = environ_of(Asked("/plain/"))
        del environ["SCRIPT_NAME"], environ["QUERY_STRING"]
        told: list[str] = []
        for _ in range(3):
            list(WsgiFastPath(wsgi._django)(dict(environ), lambda status, *_: told.append(status)))
        assert told == ["200 OK"] * 3

    def test_a_field_given_twice_goes_the_long_way(self) -> None:
        ways = AsgiWays()
        one = ("Accept", "*/*")
        assert learns(ways, self.PLAIN.with_fields(one))
        assert not ways.was_fast(self.PLAIN.with_fields(("Accept", "text/html;q=0"), one))

    def test_what_a_server_does_to_one_answer_is_not_in_the_next(self) -> None:
        ways = AsgiWays()
        assert learns(ways, self.PLAIN)
        application = AsgiFastPath(ways._django)

        async def adding(scope: Any, receive: Any, send: Any) -> None:
            async def added(message: Any) -> None:
                message.get("headers", []).append((b"x-request-id", b"1"))
                await send(message)

            await application(scope, receive, added)

        assert exchange(adding, scope_of(self.PLAIN)).get("x-request-id") == "1"
        assert ways.was_fast(self.PLAIN)
        assert ways.fast(self.PLAIN).get("x-request-id") is None

    def test_nor_what_a_server_does_to_a_list_that_wsgi_lets_it_change(self, wsgi: Ways) -> None:
        """PEP 3333, "The start_response() Callable"."""
        application = WsgiFastPath(wsgi._django)
        told: list[list[tuple[str, str]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            headers.append(("X-Request-Id", str(len(told))))
            told.append(headers)

        for _ in range(4):
            b"".join(application(environ_of(self.PLAIN), start_response))
        assert [[value for name, value in sent if name == "X-Request-Id"] for sent in told] == [
            ["0"],
            ["1"],
            ["2"],
            ["3"],
        ]

    @pytest.mark.parametrize("kind", ["lifespan", "websocket"])
    def test_what_is_no_request_by_http_is_handed_on_as_it_came(self, kind: str) -> None:
        handed: list[Any] = []

        async def django(*given: Any) -> None:
            handed.extend(given)

        async def receive() -> None: ...

        async def send(message: Any) -> None: ...

        application = AsgiFastPath(AsgiWays()._django)
        application.application = django  # type: ignore[assignment]
        scope = {"type": kind, "asgi": {"version": "3.0"}}
        asyncio.run(application(scope, receive, send))
        assert handed == [{"type": kind, "asgi": {"version": "3.0"}}, receive, send]

    @pytest.mark.parametrize("fast_path", [WsgiFastPath, AsgiFastPath])
    def test_it_refuses_to_go_around_anything_but_django(self, fast_path: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match="must wrap Django"):
            fast_path(lambda *_: [])

    def test_an_unknown_middleware_turns_it_off(self, ways: Ways, settings: Settings) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.stranger"]
        assert not learns(type(ways)(), self.PLAIN)
        settings.KEYBITS_FASTPATH_MIDDLEWARE = [*settings.KEYBITS_FASTPATH_MIDDLEWARE, f"{__name__}.stranger"]
        assert learns(type(ways)(), self.PLAIN)

    def test_so_does_a_receiver_of_the_signal_for_cors_that_is_connected_when_urls_load(
        self, ways: Ways
    ) -> None:
        """Which is at the first request."""
        assert fastpath.answer_cache() is not None
        check_request_enabled.connect(decides)
        try:
            assert not learns(ways, self.PLAIN.with_fields(("Origin", "https://a.example")))
            assert not learns(ways, self.PLAIN)
        finally:
            check_request_enabled.disconnect(decides)

    def test_a_setting_turns_it_off(self, ways: Ways, settings: Settings) -> None:
        settings.KEYBITS_FASTPATH = False
        assert not learns(ways, self.PLAIN)


def decides(**_: Any) -> bool:
    return False


def stranger(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return get_response


class TestCounting:
    @pytest.mark.parametrize("is_on", [True, False])
    def test_every_answer_is_counted_whoever_gave_it(
        self, ways: Ways, settings: Settings, is_on: bool
    ) -> None:
        settings.KEYBITS_METRICS, settings.KEYBITS_FASTPATH = True, is_on
        plain, before = Asked("/plain/"), counted()
        refused = plain.with_fields(("Authorization", "Basic x"))
        told = [ways.fast(asked) for asked in (plain, plain, plain, refused, Asked("/nowhere/"))]
        given = Counter((str(each.status), outcome(each.get("Cache-Status") or "")) for each in told)
        assert counted() - before == given
        assert given["200", "hit"] == 2


def counted() -> Counter[tuple[str, str]]:
    """Return how many answers this process has counted, by status and by what the cache did."""
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    return Counter(
        {
            (each.labels["status"], each.labels["cache"]): int(each.value)
            for each in samples
            if each.name == "keybits_answers_total"
        }
    )


class TestCodings:
    def test_one_that_nobody_was_sent_is_made_the_long_way_once(self, ways: Ways) -> None:
        for number in range(30):
            Tag.objects.create(slug=f"t{number}", name=f"Tag {number}")
        plain = Asked("/plain/")
        assert learns(ways, plain)
        coded = plain.with_fields(("Accept-Encoding", "br"))
        assert not ways.was_fast(coded)
        assert ways.was_fast(coded)
        assert ways.fast(coded).get("Content-Encoding") == "br"
        assert ways.was_fast(plain)


class TestTrueNow:
    ASKED = Asked("/plain/")

    @pytest.fixture(autouse=True)
    def _learnt(self, ways: Ways) -> None:
        assert learns(ways, self.ASKED)

    def test_a_write_shows_at_once(self, ways: Ways, tag: Tag) -> None:
        Tag.objects.update(name="Diagram")
        assert b"Diagram" in ways.fast(self.ASKED).content

    def test_a_write_of_another_thread_shows_at_once(self, ways: Ways) -> None:
        def write() -> None:
            Tag.objects.update(name="Diagram")
            connections.close_all()

        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
        assert b"Diagram" in ways.fast(self.ASKED).content

    def test_an_open_scope_sends_it_the_long_way(self, ways: Ways) -> None:
        get_store().open(["tags"], "w" * 32)
        assert not ways.was_fast(self.ASKED)

    def test_so_does_a_transaction_that_has_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ways = WsgiWays()
        monkeypatch.setattr(connections["default"], "close_if_unusable_or_obsolete", lambda: None)
        ways.fast(self.ASKED)
        ways.fast(self.ASKED)
        assert ways.was_fast(self.ASKED)
        with transaction.atomic():
            Tag.objects.update(name="Diagram")
            assert b"Diagram" in ways.fast(self.ASKED).content

    def test_so_does_a_store_that_fails_and_it_is_asked_once(
        self, ways: Ways, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []

        def fail(*arguments: Any) -> Any:
            asked.append(arguments)
            raise StoreError("gone")

        monkeypatch.setattr(get_store().store, "witness", fail)
        monkeypatch.setattr(get_store().store, "read", fail)
        assert ways.fast(self.ASKED).get("Cache-Status") == "keybits; fwd=bypass"
        assert get_store().is_tripped
        assert len(asked) == 1
        get_store().is_tripped = False

    def test_so_does_a_store_without_a_relays_word(self, ways: Ways, settings: Settings) -> None:
        settings.KEYBITS_RELAY = "external"
        assert not ways.was_fast(self.ASKED)

    def test_what_was_learnt_under_other_settings_is_forgotten(self, ways: Ways, settings: Settings) -> None:
        settings.X_FRAME_OPTIONS = "SAMEORIGIN"
        ways = type(ways)()
        assert learns(ways, self.ASKED)
        assert ways.fast(self.ASKED).get("X-Frame-Options") == "SAMEORIGIN"


class TestTime:
    @pytest.mark.parametrize(
        ("path", "name", "later"), [("/plain/", "Last-Modified", 0.6), ("/held/", "Expires", 10)]
    )
    def test_a_date_moves_with_the_clock(
        self, ways: Ways, clock: Any, path: str, name: str, later: float
    ) -> None:
        """Last-Modified only once, in its first second."""
        asked = Asked(path)
        assert learns(ways, asked)
        first = ways.fast(asked).get(name)
        clock.now += later
        assert ways.was_fast(asked)
        assert ways.fast(asked) == ways.long(asked)
        assert ways.fast(asked).get(name) != first

    @pytest.mark.parametrize("path", ["/plain/", "/held/"])
    def test_an_answer_is_made_once_a_second_however_many_ask(
        self, ways: Ways, clock: Any, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        asked, made = Asked(path), []
        assert learns(ways, asked)
        clock.now += 0.5 if path == "/plain/" else 10
        monkeypatch.setattr(fastpath, "answer", lambda *told: made.append(told) or answer(*told))
        for _ in range(3):
            ways.fast(asked)
        assert len(made) == 1

    def test_a_clock_that_is_set_back_is_believed(self, ways: Ways, clock: Any) -> None:
        asked = Asked("/held/")
        assert learns(ways, asked)
        clock.now -= 3600
        assert ways.fast(asked) == ways.long(asked)

    def test_what_has_ended_by_itself_goes_the_long_way(self, ways: Ways, clock: Any) -> None:
        from datetime import UTC, datetime, timedelta  # noqa: PLC0415

        Expiring.at.moment = datetime.fromtimestamp(clock.now, UTC) + timedelta(hours=1)
        asked = Asked("/expiring/")
        assert learns(ways, asked)
        clock.now += 3601
        assert not ways.was_fast(asked)

    def test_what_ends_soon_goes_the_long_way_where_one_makes_it_anew(
        self, ways: Ways, clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from datetime import UTC, datetime, timedelta  # noqa: PLC0415

        Expiring.at.moment = datetime.fromtimestamp(clock.now, UTC) + timedelta(hours=1)
        asked = Asked("/expiring/")
        assert learns(ways, asked)
        monkeypatch.setattr(readthrough, "MARGIN", 10**9)
        assert not ways.was_fast(asked)


class TestFork:
    def test_a_child_learns_anew_and_reads_with_connections_of_its_own(self, wsgi: Ways) -> None:
        asked = Asked("/plain/")
        assert learns(wsgi, asked)
        store = get_store()
        known = fastpath.answer_cache()
        assert known is not None
        reading, writing = os.pipe()
        with known._targets._lock:  # as another thread may, at any time
            child = os.fork()
        if child == 0:
            connections["default"].connection = None  # the parent's, not to be closed here
            says = b"no"
            try:
                fresh = fastpath.answer_cache() is not known and get_store() is not store
                says = b"ok" if fresh and learns(wsgi, asked) else b"no"
            finally:
                os.write(writing, says)
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        assert os.read(reading, 2) == b"ok"
        os.close(reading)
        assert wsgi.was_fast(asked)
