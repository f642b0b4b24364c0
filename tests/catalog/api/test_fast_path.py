"""Through the fast path every answer is what it is past it: whatever is asked, in any order, while others write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pytest_django import Settings
from stacks.ways import AsgiWays, Asked, Told, Ways, WsgiWays

from catalog.models import Gallery, Screenshot, Tag
from gallery_api.content_security import DATA
from keybits import fastpath, memory
from keybits.preconditions import format_http_date

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("fast_path_on")]

API = "/api/v1/"
RESOURCES = (
    "galleries/",
    "galleries/spring/",
    "galleries/spring/screenshots/",
    "galleries/spring/screenshots/{cat}/",
    "galleries/spring/screenshots/{cat}/renditions/",
    "screenshots/",
    "screenshots/{cat}/",
    "screenshots/{cat}/renditions/",
    "tags/",
    "tags/dark/",
    "tags/dark/screenshots/",
    "",
    "schema/",
)
NOT_FOR_ALL = ("galleries/vault/", "galleries/nowhere/", "docs/", "screenshots/999999/", "screenshots/{yak}/")
QUERIES = (
    *(
        "page_size=2",
        "page_size=2&page=2",
        "page=2&page_size=2",
        "utm_source=x&page_size=2",
        "page_size=2&_=1",
    ),
    *("format=json", "format=api", "format=xml", "page_size=0", "page_size=", "page_size=2&page_size=3"),
    *(
        "nonsense=1",
        "%",
        "%zz=1",
        "tag=dark",
        "tag=dark&tag=chart",
        "tag=chart&tag=dark",
        "fields=id",
        "page=%32",
    ),
    *(
        "fields=id,title",
        "ordering=-title",
        "search=cat",
        "search=%E2%9C%93",
        "search=%FF",
        "a" * 9_000,
        "&",
        "&&=",
    ),
)
PATHS = (
    *(
        "//api/v1/tags/",
        "/api//v1/tags/",
        "/api/v1/tags",
        "/api/v1/tags/.",
        "/api/v1/./tags/",
        "/api/v1/%74ags/",
    ),
    *(
        "/api/v1/tags/%2e%2e/tags/",
        "/api/v1/tags%2F",
        "/api/v1/tags/;x",
        "/api/v1/tags/dark%00/",
        "/API/v1/tags/",
    ),
    *(
        "/api/v1/tags/?",
        "/files/none",
        "/admin/",
        "/",
        "/static/none.css",
        "/api/v1/tags/%C3%A9/",
        "/api/v1/tags/%E9/",
    ),
)
ETAG = "<etag>"
LATER, EARLIER = format_http_date(4_000_000_000), format_http_date(1)
CONDITIONS = (
    *[
        ("If-None-Match", value)
        for value in (ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*", '"x"', "", "x", '"', ", ,")
    ],
    *[("If-Match", value) for value in (ETAG, f"W/{ETAG}", "*", '"x"', "", "junk")],
    *[("If-Modified-Since", value) for value in (LATER, EARLIER, "", "yesterday", "0")],
    *[("If-Unmodified-Since", value) for value in (LATER, EARLIER, "", "tomorrow")],
    *[("If-Range", value) for value in (ETAG, LATER, EARLIER, "", '"x"')],
)
CODINGS = (
    *(
        "gzip",
        "br",
        "zstd",
        "gzip, br",
        "gzip;q=0.5, br;q=0.1",
        "*",
        "*;q=0",
        "identity;q=0",
        "identity;q=0, gzip;q=0",
    ),
    *("gzip;q=0", "", "x-gzip", "deflate", "gzip;q=2", "gzip;;", ",", "GZIP", "br;q=1.000, zstd;q=0.999"),
)
FIELDS = (
    *[("Accept-Encoding", value) for value in CODINGS],
    *[
        ("Accept", value)
        for value in ("application/json", "*/*", "text/html", "", "a/b;q=x", "application/json;q=0")
    ],
    *[("Origin", value) for value in ("https://a.example", "null", "", "http://[", "https://localhost")],
    *[("Access-Control-Request-Private-Network", value) for value in ("true", "")],
    *[
        ("Cookie", value)
        for value in ("a=b", "", "sessionid=x", "sessionid =x", "xsessionid=x", "sessionid", "=")
    ],
    *[
        ("Cookie", f"csrftoken={value}")
        for value in ("a" * 32, "a" * 64, "a", "", "é" * 32, "a" * 32 + "; b=c")
    ],
    *[("Cookie", value) for value in ("messages=x", "csrftoken", " csrftoken = x", '"sessionid"=x')],
    *[("Authorization", value) for value in ("", "Token x", "Basic x", "Basic eDp5", "Nonsense")],
    *[
        ("Host", value)
        for value in ("127.0.0.1", "localhost:8000", "evil.example", "", "localhost ", "a@localhost")
    ],
    *[("X-Forwarded-Host", value) for value in ("evil.example", "localhost")],
    *[("X-Forwarded-Proto", value) for value in ("https", "http", "https, http", "")],
    *[("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Port", "8443"), ("Forwarded", "host=evil.example")],
    *[("X-HTTP-Method-Override", value) for value in ("DELETE", "POST", "HEAD")],
    *[
        ("Content-Type", value)
        for value in ("application/json", "text/plain", "text/plain; charset=utf-16", "")
    ],
    *[("Content-Length", value) for value in ("0", "", "00", "x")],
    *[
        ("Transfer-Encoding", "chunked"),
        ("Range", "bytes=0-9"),
        ("Range", "x"),
        ("Cache-Control", "no-cache"),
    ],
    *[
        ("Accept-Language", "de"),
        ("Time-Zone", "x"),
        ("X-CSRFToken", "x"),
        ("Referer", "https://evil.example"),
    ],
    *[("User-Agent", ""), ("Pragma", "no-cache"), ("Expect", "100-continue"), ("X-Original-URL", "/admin/")],
)
METHODS = ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "get", "PURGE")


@pytest.fixture
def world(fresh_world: Any) -> Any:
    return fresh_world


@pytest.fixture(
    params=[
        pytest.param(WsgiWays, marks=pytest.mark.stack("embedded")),
        pytest.param(AsgiWays, marks=pytest.mark.stack("server")),
    ]
)
def ways(request: pytest.FixtureRequest, clock: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 0)
    memory.entries().clear()
    fastpath.answer_cache.cache_clear()
    yield request.param()
    memory.entries().clear()


def at(world: Any, resource: str, query: str = "") -> Asked:
    return Asked(API + world.at(resource) + (f"?{query}" if query else ""))


def settled(ways: Ways, asked: Asked) -> Told:
    """Ask until there is nothing to be learnt any more, then once more past the fast path."""
    for _ in range(3):
        ways.fast(asked)
    return ways.long(asked)


def comparable(told: Told) -> Told:
    """A CSRF cookie is random each time."""
    fields = [
        (name, re.sub(r"csrftoken=\w+|expires=[^;]+", "", value, flags=re.I)) for name, value in told.fields
    ]
    return told._replace(fields=tuple(fields))


def agree(ways: Ways, asked: Asked) -> bool:
    """Compare both ways, once all is filled; return whether the fast one answered."""
    long = settled(ways, asked)
    before = ways.fast_answers
    fast = ways.fast(asked)
    if b"csrf" not in long.content.lower():
        assert comparable(fast) == comparable(long), asked
    assert fast.status == long.status
    return ways.fast_answers > before


def filled_in(ways: Ways, asked: Asked) -> Asked:
    """Put the present tag in its place."""
    etag = ways.long(Asked(asked.target)).get("ETag") or '"none"'
    fields = tuple((name, value.replace(ETAG, etag)) for name, value in asked.fields)
    return Asked(**(vars(asked) | {"fields": fields}))


class TestTheSameOnBothWays:
    def test_of_every_resource_and_the_fast_one_answers_it(self, ways: Ways, world: Any) -> None:
        for resource in RESOURCES:
            asked = at(world, resource)
            assert agree(ways, asked), resource
            revalidation = asked.with_fields(("If-None-Match", ways.long(asked).get("ETag") or ""))
            assert agree(ways, revalidation), resource
            assert ways.fast(revalidation).status == 304

    def test_of_what_is_not_for_all_and_the_fast_one_leaves_it_alone(self, ways: Ways, world: Any) -> None:
        for resource in NOT_FOR_ALL:
            assert not agree(ways, at(world, resource)), resource

    def test_of_queries(self, ways: Ways, world: Any) -> None:
        fast = [agree(ways, at(world, "screenshots/", query)) for query in QUERIES]
        assert sum(fast) >= 12

    def test_of_spellings_of_a_path(self, ways: Ways, world: Any) -> None:
        for raw in (True, False):
            assert agree(ways, Asked("/api/v1/tags/", raw=raw))
            for path in PATHS:
                agree(ways, Asked(path, raw=raw))

    def test_of_each_field(self, ways: Ways, world: Any) -> None:
        asked = at(world, "tags/")
        fast = [agree(ways, filled_in(ways, asked.with_fields(each))) for each in (*FIELDS, *CONDITIONS)]
        assert sum(fast) >= 60

    def test_of_methods_and_bodies(self, ways: Ways, world: Any) -> None:
        asked = at(world, "tags/")
        assert agree(ways, Asked(asked.target, method="HEAD"))
        for method in METHODS:
            agree(ways, Asked(asked.target, method=method))
        with_body = Asked(asked.target, body=b"{}").with_fields(("Content-Length", "2"))
        assert not agree(ways, with_body)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_of_schemes_behind_https(self, ways: Ways, world: Any, settings: Settings, scheme: str) -> None:
        settings.SECURE_HSTS_SECONDS = 60
        settings.SECURE_SSL_REDIRECT = True
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        settings.USE_X_FORWARDED_HOST = True
        ways = type(ways)()
        told = set()
        for proto in ("https", "http", "https, http", ""):
            for host in ("localhost", "evil.example"):
                asked = Asked("/api/v1/tags/", scheme=scheme)
                asked = asked.with_fields(("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host))
                agree(ways, asked)
                told.add(ways.fast(asked).status)
        assert told == {200, 308, 400}
        assert ways.fast_answers

    def test_of_origins_that_are_told_apart(self, ways: Ways, world: Any, settings: Settings) -> None:
        settings.CORS_ALLOW_ALL_ORIGINS = False
        settings.CORS_ALLOWED_ORIGINS = ["https://a.example"]
        settings.CORS_ALLOW_CREDENTIALS = True
        settings.CORS_ALLOW_PRIVATE_NETWORK = True
        ways = type(ways)()
        asked = at(world, "tags/")
        private = ("Access-Control-Request-Private-Network", "true")
        for origin in ("https://a.example", "https://b.example", "null"):
            assert agree(ways, asked.with_fields(("Origin", origin), private))
            assert agree(ways, asked.with_fields(("Origin", origin)))

    def test_of_the_one_origin_that_may_read(self, ways: Ways, world: Any, settings: Settings) -> None:
        settings.CORS_ALLOW_ALL_ORIGINS = False
        settings.CORS_ALLOWED_ORIGINS = ["https://a.example"]
        ways = type(ways)()
        asked = at(world, "tags/")
        for fields in ((), (("Origin", "https://a.example"),), (("Origin", "https://b.example"),)):
            assert agree(ways, asked.with_fields(*fields))
            told = ways.fast(asked.with_fields(*fields))
            assert told.get("Access-Control-Allow-Origin") == "https://a.example"
            assert told.get("Vary") == "Accept-Encoding"

    def test_of_a_mount(self, ways: Ways, world: Any) -> None:
        for mount in ("/here", "/there", ""):
            asked = Asked("/api/v1/galleries/", mount=mount)
            assert agree(ways, asked)
            assert f'"{mount}/api/v1/'.encode() in ways.fast(asked).content


def writes(world: Any) -> list[Callable[[int], Any]]:
    """Changes of what the corpus shows, each different every time."""
    return [
        lambda n: Screenshot.objects.filter(pk=world.shots["cat"].pk).update(title=f"cat {n}"),
        lambda n: Tag.objects.filter(slug="dark").update(name=f"dark {n}"),
        lambda n: Gallery.objects.filter(slug="spring").update(title=f"spring {n}"),
        lambda n: Gallery.objects.filter(slug="autumn").update(visibility="private" if n % 2 else "public"),
        lambda n: Gallery.objects.filter(slug="autumn").update(max_age=60 if n % 2 else None),
        lambda n: world.shots["cat"].tags.set([world.tags["dark"]] if n % 2 else []),
    ]


@st.composite
def requests(draw: Any) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
    """A resource, a query, a method, and some fields."""
    resource = draw(st.sampled_from((*RESOURCES, *NOT_FOR_ALL[:2])))
    query = draw(st.sampled_from(("", "", "", *QUERIES[:8], *QUERIES[11:16])))
    method = draw(st.sampled_from(("GET", "GET", "GET", "HEAD", "OPTIONS")))
    fields = draw(st.lists(st.sampled_from((*FIELDS, *CONDITIONS, *CONDITIONS)), max_size=3))
    return resource, query, method, tuple(fields)


class TestAnySequence:
    def test_agrees_at_every_step_while_others_write(self, ways: Ways, world: Any, clock: Any) -> None:
        changes = writes(world)

        @given(st.lists(st.one_of(requests(), st.sampled_from(range(len(changes)))), min_size=5, max_size=20))
        @examples(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def run(steps: list[Any]) -> None:
            for number, step in enumerate(steps):
                clock.now += number % 3
                if isinstance(step, int):
                    changes[step](int(clock.now))
                else:
                    self.agree(ways, world, step)

        run()
        assert ways.fast_answers >= 20

    def test_agrees_on_cookies_that_come_in_several_fields(self, ways: Ways, world: Any) -> None:
        cookies = (("Cookie", "a=b"), ("Cookie", "csrftoken=a"))
        self.agree(ways, world, ("galleries/", "page_size=2&page=9", "GET", cookies))

    @staticmethod
    def agree(ways: Ways, world: Any, step: Any) -> None:
        resource, query, method, fields = step
        plain = at(world, resource, query)
        asked = (
            Asked(plain.target, method=method).with_fields(*fields)
            if fields
            else Asked(plain.target, method=method)
        )
        asked = filled_in(ways, asked)
        ways.fast(plain)
        for _ in range(2):
            fast, long = comparable(ways.fast(asked)), comparable(ways.long(asked))
            if b"csrf" not in long.content.lower():
                assert fast.without("cache-status") == long.without("cache-status"), asked


class TestPolicyOfContent:
    def test_a_fast_answer_may_load_nothing_with_content_and_without(self, ways: Ways, world: Any) -> None:
        asked = at(world, "tags/")
        told = settled(ways, asked)
        again = asked.with_fields(("If-None-Match", told.get("ETag") or ""))
        settled(ways, again)
        assert ways.was_fast(asked)
        assert ways.was_fast(again)
        assert ways.fast(asked).get("Content-Security-Policy") == DATA
        assert ways.fast(again).status == 304
        assert ways.fast(again).get("Content-Security-Policy") == DATA


class TestFreshness:
    def test_what_was_written_shows_in_the_next_fast_answer(self, ways: Ways, world: Any) -> None:
        asked = at(world, "screenshots/{cat}/")
        for number in range(3):
            Screenshot.objects.filter(pk=world.shots["cat"].pk).update(title=f"cat {number}")
            ways.fast(asked)
            assert ways.was_fast(asked)
            assert f"cat {number}".encode() in ways.fast(asked).content

    def test_a_gallery_that_is_hidden_is_gone_at_once(self, ways: Ways, world: Any) -> None:
        asked = at(world, "galleries/spring/")
        settled(ways, asked)
        assert ways.was_fast(asked)
        Gallery.objects.filter(slug="spring").update(visibility="private")
        assert ways.fast(asked).status == 404
