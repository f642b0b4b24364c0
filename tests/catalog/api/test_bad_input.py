"""What a client can get wrong, a row each, and the exact problem that tells it so."""

from __future__ import annotations

import base64
import io
import json
from typing import Any
from urllib.parse import unquote_to_bytes

import problem_types
import pytest
from django.core.handlers.asgi import ASGIRequest
from django.test import AsyncRequestFactory

from catalog.api.root import canonical

pytestmark = pytest.mark.django_db

BLANK = "about:blank"
GALLERY = {"title", "description", "visibility", "position", "max_age", "edge_max_age"}
SCREENSHOT = {"title", "alt", "gallery", "position", "tags"}
RESOURCES = [
    "/",
    "/galleries/",
    "/galleries/spring/",
    "/galleries/spring/screenshots/",
    "/galleries/spring/screenshots/{cat}/",
    "/galleries/spring/screenshots/{cat}/renditions/",
    "/screenshots/",
    "/screenshots/{cat}/",
    "/screenshots/{cat}/renditions/",
    "/tags/",
    "/tags/dark/",
    "/tags/dark/screenshots/",
    "/schema/",
    "/docs/",
]


def problem(response: Any, status: int, kind: str = BLANK) -> dict[str, Any]:
    """Return the problem that `response` is, after checking what every problem promises."""
    assert response.status_code == status, response.content[:500]
    assert response["Content-Type"] == "application/problem+json"
    assert response["Cache-Control"] == "private, no-store"
    assert response["Content-Length"] == str(len(response.content))
    document: dict[str, Any] = json.loads(response.content)
    assert document["status"] == status
    assert document["type"] == (kind if kind == BLANK else f"urn:problem:{kind}")
    assert document["title"]
    assert document["detail"]
    problem_types.demand_described(document)
    return document


def cursor(*values: Any) -> str:
    """Write a cursor as the server does, but with whatever in it."""
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


MOMENT = "2026-03-01T12:00:00+00:00"
GENUINE = cursor("v1", "-captured_at", 0, MOMENT, 1)

UNKNOWN = [  # target, parameter, suggestion
    ("/screenshots/?colour=red", "colour", None),
    ("/screenshots/?orientaton=landscape", "orientaton", "orientation"),
    ("/screenshots/?tags=dark", "tags", "tag"),
    ("/screenshots/?Tag=dark", "Tag", "tag"),
    ("/screenshots/?captured=2026-01-01", "captured", "captured_after"),
    ("/screenshots/?pagesize=2", "pagesize", "page_size"),
    ("/screenshots/?order=title", "order", "ordering"),
    ("/screenshots/?orderin=title", "orderin", "ordering"),
    ("/screenshots/?min-width=2", "min-width", "min_width"),
    ("/screenshots/?utm=1", "utm", None),
    ("/screenshots/?__=1", "__", None),
    ("/screenshots/?tag[]=dark", "tag[]", "tag"),
    ("/screenshots/?t%61gs=dark", "tags", "tag"),
    ("/screenshots/?page%00=1", "page\x00", "page"),
    ("/screenshots/{cat}/?page_size=2", "page_size", None),
    ("/screenshots/{cat}/?ordering=title", "ordering", None),
    ("/screenshots/{cat}/renditions/?include=gallery", "include", None),
    ("/galleries/?tag=dark", "tag", None),
    ("/galleries/?include=renditions", "include", None),
    ("/galleries/spring/?search=x", "search", None),
    ("/galleries/spring/screenshots/?gallery=autumn", "gallery", None),
    ("/tags/?search=x", "search", None),
    ("/tags/dark/?kind=topic", "kind", None),
    ("/schema/?lang=de", "lang", None),
    ("/?page=1", "page", None),
]

MALFORMED = [  # target, parameter, suggestion
    ("/screenshots/?orientation=landscapes", "orientation", "landscape"),
    ("/screenshots/?orientation=LANDSCAPE", "orientation", None),
    ("/screenshots/?status=red", "status", "ready"),
    ("/screenshots/?status=200", "status", None),
    ("/screenshots/?tag=", "tag", None),
    ("/screenshots/?tag", "tag", None),
    ("/screenshots/?tag=dark,chart", "tag", None),
    ("/screenshots/?tag=dark%20", "tag", None),
    ("/screenshots/?tag=d%C3%A4rk", "tag", None),
    (f"/screenshots/?tag={'a' * 101}", "tag", None),
    ("/screenshots/?gallery=../vault", "gallery", None),
    ("/screenshots/?domain=https://one.example", "domain", None),
    (f"/screenshots/?domain={'a' * 254}", "domain", None),
    ("/screenshots/?domain=one.example,two.example", "domain", None),
    ("/screenshots/?domain=%E3%80%80", "domain", None),
    ("/screenshots/?domain=.", "domain", None),
    ("/screenshots/?domain=b%C3%BCcher%E3%80%80", "domain", None),
    ("/screenshots/?min_width=-1", "min_width", None),
    ("/screenshots/?min_width=12.5", "min_width", None),
    ("/screenshots/?min_width=1e3", "min_width", None),
    ("/screenshots/?min_width=%D9%A1", "min_width", None),
    ("/screenshots/?min_height=2147483648", "min_height", None),
    ("/screenshots/?min_height=+5", "min_height", None),
    ("/screenshots/?ids=", "ids", None),
    ("/screenshots/?ids=0", "ids", None),
    ("/screenshots/?ids=-1", "ids", None),
    ("/screenshots/?ids=1,,2", "ids", None),
    ("/screenshots/?ids=1,2,", "ids", None),
    ("/screenshots/?ids=1.0", "ids", None),
    ("/screenshots/?ids=1%202", "ids", None),
    ("/screenshots/?ids=9223372036854775808", "ids", None),
    ("/screenshots/?ids=" + "9" * 30, "ids", None),
    ("/screenshots/?ids=" + ",".join(map(str, range(1, 102))), "ids", None),
    ("/screenshots/?captured_after=yesterday", "captured_after", None),
    ("/screenshots/?captured_after=2026-02-30", "captured_after", None),
    ("/screenshots/?captured_after=2026-13-01", "captured_after", None),
    ("/screenshots/?captured_after=2026-1-1", "captured_after", None),
    ("/screenshots/?captured_after=2026-03-01T12:00:00", "captured_after", None),
    ("/screenshots/?captured_after=2026-03-01T12:00Z", "captured_after", None),
    ("/screenshots/?captured_after=2026-03-01T12:00:00+02:00", "captured_after", None),
    ("/screenshots/?captured_after=2026-03-01T25:00:00Z", "captured_after", None),
    ("/screenshots/?captured_after=2026-03-01T12:00:00%2B25:00", "captured_after", None),
    ("/screenshots/?captured_before=2016-12-31T23:59:60Z", "captured_before", None),
    ("/screenshots/?captured_before=1800-01-01", "captured_before", None),
    ("/screenshots/?captured_before=12026-01-01", "captured_before", None),
    ("/screenshots/?captured_before=1767225600", "captured_before", None),
    ("/screenshots/?search=", "search", None),
    ("/screenshots/?search=a%00b", "search", None),
    ("/screenshots/?search=a%0Ab", "search", None),
    ("/screenshots/?search=a%7Fb", "search", None),
    ("/screenshots/?search=a\x01b", "search", None),
    (f"/screenshots/?search={'a' * 201}", "search", None),
    ("/screenshots/?ordering=colour", "ordering", None),
    ("/screenshots/?ordering=-titel", "ordering", "-title"),
    ("/screenshots/?ordering=title,captured_at", "ordering", "captured_at"),
    ("/screenshots/?ordering=position", "ordering", None),
    ("/screenshots/?ordering=--title", "ordering", "-title"),
    ("/galleries/?ordering=captured_at", "ordering", "created_at"),
    ("/screenshots/?fields=id,titel", "fields", "title"),
    ("/screenshots/?fields=password", "fields", None),
    ("/screenshots/?fields=source_url", "fields", None),
    ("/screenshots/?fields=id,,title", "fields", None),
    ("/screenshots/?include=rendition", "include", "renditions"),
    ("/screenshots/?include=gallery,renditions,gallery", "include", None),
    ("/screenshots/?include=tags", "include", None),
    ("/screenshots/?format=xml", "format", None),
    ("/screenshots/?format=JSON", "format", None),
    ("/schema/?format=yaml", "format", None),
    ("/tags/?kind=colour", "kind", None),
    ("/tags/?kind=topics", "kind", "topic"),
    ("/screenshots/?page_size=0", "page_size", None),
    ("/screenshots/?page_size=101", "page_size", None),
    ("/screenshots/?page_size=maximum", "page_size", None),
    ("/screenshots/?page_size=-1", "page_size", None),
    ("/screenshots/?page=0", "page", None),
    ("/screenshots/?page=last", "page", None),
    ("/screenshots/?page=1000000001", "page", None),
    ("/screenshots/?limit=0", "limit", None),
    ("/screenshots/?limit=max", "limit", None),
    ("/screenshots/?limit=101", "limit", None),
    ("/screenshots/?offset=-1", "offset", None),
    ("/screenshots/?offset=10001", "offset", None),
    ("/screenshots/?cursor=", "cursor", None),
    ("/screenshots/?cursor=abc", "cursor", None),
    ("/screenshots/?cursor=" + "!" * 40, "cursor", None),
    (f"/screenshots/?cursor={GENUINE}%3D%3D", "cursor", None),
    ("/screenshots/?cursor=" + "A" * 3000, "cursor", None),
]

REPEATED = [  # target, parameter
    ("/screenshots/?page=1&page=1", "page"),
    ("/screenshots/?page_size=1&page_size=2", "page_size"),
    ("/screenshots/?ids=1&ids=2", "ids"),
    ("/screenshots/?search=a&search=b", "search"),
    ("/screenshots/?format=json&format=json", "format"),
    ("/screenshots/?gallery=spring&g%61llery=spring", "gallery"),
    ("/galleries/?ordering=title&ordering=title", "ordering"),
]

UNREADABLE = [
    "/screenshots/?search=%",
    "/screenshots/?search=50%",
    "/screenshots/?search=%zz",
    "/screenshots/?search=%u00e9",
    "/screenshots/?search=%FF",
    "/screenshots/?search=\xff",
    "/screenshots/?search=%C3",
    "/screenshots/?search=%C0%AF",  # overlong: "/" in two bytes
    "/screenshots/?search=%ED%A0%80",  # half of a surrogate pair
    "/screenshots/?%FF=1",
    "/screenshots/?" + "&".join(f"tag=t{n}" for n in range(101)),
    "/galleries/spring/?x=%C3%28",
]

NO_SUCH_PAGE = {
    "page past the end": "/screenshots/?page=2",
    "page far past the end": "/screenshots/?page=1000000000&page_size=max",
    "page and cursor": f"/screenshots/?page=1&cursor={GENUINE}",
    "page and limit": "/screenshots/?page=1&limit=5",
    "page and offset": "/screenshots/?page=1&offset=5",
    "limit and cursor": f"/screenshots/?limit=5&cursor={GENUINE}",
    "limit and page_size": "/screenshots/?limit=5&page_size=5",
    "offset and page_size": "/screenshots/?offset=5&page_size=max",
    "base64 of nothing": "/screenshots/?cursor=" + "A" * 40,
    "not base64": "/screenshots/?cursor=" + "A" * 41,
    "truncated": f"/screenshots/?cursor={GENUINE[:-3]}",
    "prolonged": f"/screenshots/?cursor={GENUINE}AAAA",
    "one letter changed": f"/screenshots/?cursor={GENUINE[:-1]}~".replace(
        "~", "1" if GENUINE[-1] != "1" else "2"
    ),
    "other ordering": f"/screenshots/?ordering=title&cursor={GENUINE}",
    "other direction": f"/screenshots/?ordering=captured_at&cursor={GENUINE}",
    "of another list": f"/galleries/?cursor={GENUINE}",
    "of a nested list": f"/galleries/spring/screenshots/?cursor={GENUINE}",
    "other version": "/screenshots/?cursor=" + cursor("v2", "-captured_at", 0, MOMENT, 1),
    "no list": "/screenshots/?cursor=" + base64.urlsafe_b64encode(b'{"order":"-captured_at"}').decode(),
    "too short a list": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, MOMENT),
    "a value too few": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, 1000000),
    "too long a list": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, MOMENT, 1, 1),
    "white space": "/screenshots/?cursor="
    + base64.urlsafe_b64encode(json.dumps(["v1", "-captured_at", 0, MOMENT, 1]).encode())
    .decode()
    .rstrip("="),
    "negative id": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, MOMENT, -1),
    "huge id": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, MOMENT, 2**63),
    "float id": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, MOMENT, 1.0),
    "truth as id": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, MOMENT, True),
    "text as id": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, MOMENT, "1"),
    "null as value": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, None, 1000000),
    "list as value": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, ["2026-03-01"], 1),
    "number as moment": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, 1767225600, 1),
    "word as moment": "/screenshots/?cursor=" + cursor("v1", "-captured_at", 0, "yesterday", 1),
    "impossible moment": "/screenshots/?cursor="
    + cursor("v1", "-captured_at", 0, "2026-02-30T00:00:00+00:00", 1),
    "moment without offset": "/screenshots/?cursor="
    + cursor("v1", "-captured_at", 0, "2026-03-01T12:00:00", 1),
    "moment before time": "/screenshots/?cursor="
    + cursor("v1", "-captured_at", 0, "0001-01-01T00:00:00+23:00", 1),
    "moment after time": "/screenshots/?cursor="
    + cursor("v1", "-captured_at", 0, "9999-12-31T23:59:59-23:00", 1),
    "title too long": "/screenshots/?ordering=title&cursor=" + cursor("v1", "title", 0, "x" * 201, 1),
    "null byte in title": "/screenshots/?ordering=title&cursor=" + cursor("v1", "title", 0, "x\x00", 1),
    "number as title": "/screenshots/?ordering=title&cursor=" + cursor("v1", "title", 0, 5, 1000000),
    "text as position": "/galleries/spring/screenshots/?cursor=" + cursor("v1", "position", 0, "1", 1000000),
    "huge position": "/galleries/spring/screenshots/?cursor=" + cursor("v1", "position", 0, 10**19, 1000000),
    "negative position": "/galleries/spring/screenshots/?cursor=" + cursor("v1", "position", 0, -1, 1000000),
    "truth as position": "/galleries/spring/screenshots/?cursor="
    + cursor("v1", "position", 0, True, 1000000),
}

NOT_HERE = [
    "/nothing/",
    "/nothing",
    "/screenshots/0/",
    "/screenshots/007/",
    "/screenshots/-1/",
    "/screenshots/1.0/",
    "/screenshots/one/",
    "/screenshots/%D9%A1/",  # ARABIC-INDIC DIGIT ONE
    "/screenshots/%EF%BC%91/",  # FULLWIDTH DIGIT ONE
    "/screenshots/999999999999999999/",
    "/screenshots/9999999999999999999/",
    "/screenshots/" + "9" * 400 + "/",
    "/screenshots/%31%20/",
    "/screenshots/1%0A/",
    "/screenshots/1%00/",
    "/screenshots/{cat}/nothing/",
    "/screenshots/{cat}/renditions/1/",
    "/screenshots/{cat}//renditions/",
    "/screenshots/0/renditions/",
    "/screenshots/007/renditions/",
    "/screenshots/999999999999999999/renditions/",
    "/galleries/nothing/",
    "/galleries/SPRING/",
    "/galleries/spring%20/",
    "/galleries/spring%00/",
    "/galleries/spring%0A/",
    "/galleries/sprin%C3%A9/",
    "/galleries/spring%FF/",
    "/galleries/spring/../autumn/",
    "/galleries/spring%2F..%2Fautumn/",
    "/galleries/%2E%2E/",
    "/galleries/" + "a" * 100 + "/",
    "/galleries/" + "a" * 101 + "/",
    "/galleries//",
    "//galleries/",
    "/galleries/nothing/screenshots/",
    "/galleries/nothing/screenshots/?page=1",
    "/galleries/nothing/screenshots/?limit=5",
    "/galleries/autumn/screenshots/{cat}/",
    "/galleries/autumn/screenshots/{cat}/renditions/",
    "/galleries/spring/screenshots/999999999999999999/renditions/",
    "/tags/nothing/",
    "/tags/nothing/screenshots/",
    "/tags/DARK/",
    "/screenshots/007.json",
    "/galleries/spring.json/",
    "/galleries/spring.json.json",
    "/galleries/spring.xml",
    "/.json",
]


class TestQuery:
    @pytest.mark.parametrize(("target", "parameter", "suggestion"), UNKNOWN)
    def test_unknown_parameter_is_named_with_the_nearest_known_one(
        self, api, world, target, parameter, suggestion
    ):
        document = problem(api(world.at(target)), 400, "unknown-parameter")
        assert document["parameter"] == parameter
        assert document.get("suggestion") == suggestion
        assert parameter not in document["allowed"]
        assert suggestion is None or suggestion in document["allowed"]

    @pytest.mark.parametrize(("target", "parameter", "suggestion"), MALFORMED)
    def test_value_that_is_not_accepted_names_its_parameter(self, api, target, parameter, suggestion):
        document = problem(api(target), 400, "malformed-parameter")
        assert document["parameter"] == parameter
        assert document.get("suggestion") == suggestion

    @pytest.mark.parametrize(("target", "parameter"), REPEATED)
    def test_repeated_parameter_is_named(self, api, target, parameter):
        assert problem(api(target), 400, "repeated-parameter")["parameter"] == parameter

    @pytest.mark.parametrize("target", UNREADABLE)
    def test_query_that_cannot_be_read_blames_no_parameter(self, api, world, target):
        assert "parameter" not in problem(api(target), 400, "malformed-query")

    @pytest.mark.parametrize("target", NO_SUCH_PAGE.values(), ids=NO_SUCH_PAGE)
    def test_page_that_does_not_exist_is_not_found(self, api, world, target):
        problem(api(target), 404, "no-such-page")

    @pytest.mark.parametrize("path", RESOURCES)
    def test_query_over_eight_thousand_characters_is_too_long(self, api, world, path):
        target = world.at(path)
        problem(api(f"{target}?utm_source={'x' * 8192}"), 414, "query-too-long")

    def test_query_just_short_enough_is_read(self, api):
        assert api(f"/tags/?utm_source={'x' * (8192 - 11)}").status_code == 200

    def test_offset_too_deep_points_to_cursors(self, api):
        assert "cursor" in problem(api("/screenshots/?offset=10001"), 400, "malformed-parameter")["detail"]

    def test_plus_that_was_not_escaped_is_explained(self, api):
        target = "/screenshots/?captured_after=2026-03-01T12:00:00+02:00"
        assert "%2B" in problem(api(target), 400, "malformed-parameter")["detail"]

    def test_the_first_mistake_is_reported_in_the_order_of_the_query(self, api):
        assert problem(api("/screenshots/?page=x&bogus=1"), 400, "malformed-parameter")["parameter"] == "page"
        assert problem(api("/screenshots/?bogus=1&page=x"), 400, "unknown-parameter")["parameter"] == "bogus"

    def test_mistake_in_the_query_comes_before_a_missing_object(self, api):
        assert problem(api("/galleries/nothing/?bogus=1"), 400, "unknown-parameter")["parameter"] == "bogus"

    def test_mistake_beside_format_api_is_still_a_400_that_nobody_keeps(self, api):
        response = api("/screenshots/?format=api&bogus=1")
        assert (response.status_code, response["Cache-Control"]) == (400, "private, no-store")

    @pytest.mark.parametrize(
        "target",
        [
            "/screenshots/?search=\xc3\xa9",  # UTF-8 that was not escaped
            "/screenshots/?_=1&_=2&utm_source=a&utm_source=&gclid&fbclid=%00",
            "/screenshots/?&&tag=dark&&",
            "/screenshots/?tag=dark&tag=dark",
            "/screenshots/?page_size=007",
            "/screenshots/?ids=0000000000000000001",
            "/screenshots/?captured_after=2026-03-01T12:00:00%2B02:00",
            "/screenshots/?captured_after=2026-03-01T12:00:00.5-02:00",
            "/screenshots/?ids=9223372036854775807",
            "/screenshots/?offset=10000",
            "/screenshots/?search=%25",
            "/screenshots/?search=%F0%9F%98%BA",
            "/screenshots/?domain=ONE.Example",
            "/screenshots/?",
        ],
    )
    def test_what_looks_odd_but_is_clear_is_accepted(self, api, world, target):
        assert api(target).status_code == 200


class TestAddress:
    def test_where_no_route_leads_the_way_to_those_that_do_is_told(self, api):
        document = json.loads(api("/nothing/").content)
        assert document["status"] == 404
        assert document["detail"] == "There is nothing at this address; /api/v1/ lists what there is."

    @pytest.mark.parametrize("target", NOT_HERE)
    def test_address_of_nothing_is_not_found(self, api, world, target):
        problem(api(world.at(target)), 404)

    @pytest.mark.parametrize("path", [path for path in RESOURCES if path != "/"])
    @pytest.mark.parametrize("ending", ["", ".json"])
    def test_misspelt_ending_leads_to_the_resource_with_its_query(self, api, world, path, ending):
        target = world.at(path)
        response = api(f"{target[:-1]}{ending}?page_size=2&tag=%C3%A9+%26")
        assert response.status_code == 308
        assert response["Location"] == f"/api/v1{target}?page_size=2&tag=%C3%A9+%26"
        assert response["Content-Length"] == "0"

    @pytest.mark.parametrize("sent", ["€".encode(), b"caf\xe9", b"%E2%82%AC+%25&x=/?:@!$'()*,;=-._~"])
    def test_redirect_repeats_the_bytes_of_the_query(self, api, sent):
        response = api(f"/galleries?search={sent.decode('latin-1')}")
        assert response.status_code == 308
        assert response["Location"].isascii()
        assert response["Location"].startswith("/api/v1/galleries/?search=")
        assert unquote_to_bytes(response["Location"]).endswith(unquote_to_bytes(sent))

    def test_redirect_repeats_them_by_asgi_as_well(self):
        scope = AsyncRequestFactory().get("/api/v1/galleries").scope
        request = ASGIRequest({**scope, "query_string": "search=€%25".encode()}, io.BytesIO())
        assert canonical(request, "galleries")["Location"] == "/api/v1/galleries/?search=%E2%82%AC%25"

    def test_redirect_without_a_query_ends_in_a_slash(self, api):
        assert api("/galleries.json")["Location"] == "/api/v1/galleries/"

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
    def test_redirect_keeps_the_method(self, api, method):
        response = api("/galleries", method)
        assert (response.status_code, response["Location"]) == (308, "/api/v1/galleries/")

    def test_redirect_knows_the_prefix_it_is_mounted_under(self, api):
        assert api("/galleries", SCRIPT_NAME="/mounted")["Location"] == "/mounted/api/v1/galleries/"

    @pytest.mark.parametrize(
        "host", ["evil.example", "testserver.evil.example", "testserver@evil", "testserver:x"]
    )
    def test_host_that_is_not_ours_is_refused_everywhere(self, api, host):
        for path in ("/", "/galleries/", "/galleries", "/nothing/", "/docs/"):
            problem(api(path, headers={"Host": host}), 400)

    def test_long_path_is_not_found(self, api):
        problem(api(f"/galleries/{'a' * 10_000}/"), 404)


class TestMethod:
    OFFERED = {
        **dict.fromkeys(
            ["/galleries/", "/galleries/spring/screenshots/", "/screenshots/"], ("POST", "PATCH", "DELETE")
        ),
        "/tags/": ("POST",),
        "/tags/dark/screenshots/": ("PATCH", "DELETE"),
        **dict.fromkeys(
            [
                "/galleries/spring/",
                "/galleries/spring/screenshots/{cat}/",
                "/screenshots/{cat}/",
                "/tags/dark/",
            ],
            ("PUT", "PATCH", "DELETE"),
        ),
    }
    """What is offered beside reads."""

    @pytest.mark.parametrize("path", RESOURCES)
    def test_method_that_does_not_apply_is_refused_with_those_that_do(self, api, world, path):
        offered = set(self.OFFERED.get(path, ()))
        for method in {"POST", "PUT", "PATCH", "DELETE", "TRACE", "LOCK"} - offered:
            response = api(world.at(path), method)
            problem(response, 405)
            allowed = set(response["Allow"].split(", "))
            assert {"GET", "HEAD"} | offered <= allowed
            assert method not in allowed

    @pytest.mark.parametrize("path", [path for path in RESOURCES if path != "/docs/"])
    def test_options_tells_what_is_allowed(self, api, world, path):
        response = api(world.at(path), "OPTIONS")
        assert response.status_code == 200
        offered = set(self.OFFERED.get(path, ()))
        assert set(response["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"} | offered

    @pytest.mark.parametrize(
        ("path", "method", "members"),
        [
            ("/galleries/", "POST", {"slug", *GALLERY}),
            ("/galleries/spring/", "PUT", {"cover", *GALLERY}),
            ("/screenshots/", "POST", {"source_url", *SCREENSHOT}),
            ("/screenshots/{cat}/", "PUT", SCREENSHOT),
            ("/galleries/spring/screenshots/", "POST", {"source_url", *SCREENSHOT}),
            ("/tags/", "POST", {"slug", "title", "kind"}),
        ],
    )
    def test_options_tells_those_who_may_write_what_a_body_has(
        self, api, by_token, world, path, method, members
    ):
        told = json.loads(by_token(world.at(path), "OPTIONS").content)["actions"]
        assert {method: members} == {name: set(fields) for name, fields in told.items()}
        assert not any(field["read_only"] for field in told[method].values())
        assert "actions" not in json.loads(api(world.at(path), "OPTIONS").content)

    @pytest.mark.parametrize("path", RESOURCES)
    def test_options_is_kept_by_nobody(self, api, by_token, world, path):
        for client in (api, by_token):
            assert client(world.at(path), "OPTIONS")["Cache-Control"] == "private, no-store"

    def test_method_that_does_not_apply_is_refused_whatever_is_asked_of_reads(self, api, world):
        for target in ("/tags/dark/screenshots/?ids=1&page_size=1", "/screenshots/{cat}/?fields=id"):
            for method in ("TRACE", "LOCK", "POST"):
                problem(api(world.at(target), method), 405)

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_bulk_operation_on_a_list_without_any_is_told_so_and_not_of_its_parameters(
        self, by_token, method
    ):
        for query in ("all=true", "kind=topic&dry_run=true"):
            problem(by_token(f"/tags/?{query}", method, headers={"X-Bulk-Operation": "true"}), 405)

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
    def test_body_of_a_method_that_does_not_apply_is_not_read(self, api, method):
        response = api("/tags/", method, headers={"Content-Type": "application/json"}, CONTENT_LENGTH="99")
        problem(response, 405)


REFUSES_JSON = [
    "text/html",
    "image/*",
    "application/xml, text/*;q=0.5",
    "application/json;q=0",
    "*/*;q=0",
    "application/json;q=0, */*",
    "application/*;q=0, */*;q=1",
]
TAKES_JSON = [
    "*/*",
    "application/json",
    "APPLICATION/JSON",
    "application/*;q=0.1",
    "application/json; indent=4",
    "application/json;q=0.001, text/html",
    "text/html,application/xhtml+xml,*/*;q=0.8",
    "application/json;q=high",
    "",
    ";;;,,,",
]


class TestAccept:
    @pytest.mark.parametrize("path", [path for path in RESOURCES if path != "/docs/"])
    def test_client_that_excludes_json_gets_406(self, api, world, path):
        for accept in REFUSES_JSON:
            said = problem(api(world.at(path), headers={"Accept": accept}), 406)
            assert said["allowed"] == ["application/json"]

    def test_client_that_excludes_html_gets_406_from_the_docs(self, api):
        problem(api("/docs/", headers={"Accept": "application/json"}), 406)

    @pytest.mark.parametrize("path", [path for path in RESOURCES if path not in {"/docs/", "/schema/"}])
    def test_client_that_takes_json_gets_it_whatever_it_prefers(self, api, world, path):
        bodies = set()
        for accept in TAKES_JSON:
            response = api(world.at(path), headers={"Accept": accept})
            assert response.status_code == 200, accept
            assert response["Content-Type"] == "application/json"
            bodies.add(response.content)
        assert len(bodies) == 1

    def test_schema_is_json_like_everything_else(self, api):
        assert api("/schema/", headers={"Accept": "application/json"})["Content-Type"] == "application/json"


class TestBody:
    @pytest.mark.parametrize(
        ("media_type", "body"),
        [
            ("application/json", b"{"),
            ("application/json; charset=nonsense", b"\xff"),
            ("multipart/form-data", b"--"),
            ("multipart/form-data; boundary=x", b"--y"),
            ("application/x-www-form-urlencoded", b"tag=%FF"),
            ("text/xml", b"<!DOCTYPE"),
            ("///", b"\x00"),
        ],
    )
    def test_body_of_a_get_changes_nothing(self, api, world, media_type, body):
        plain = api("/galleries/spring/")
        response = api.client.get("/api/v1/galleries/spring/")
        sent = api.client.generic("GET", "/api/v1/galleries/spring/", data=body, content_type=media_type)
        assert sent.status_code == response.status_code == 200
        assert sent.content == plain.content


IGNORED = [
    {"If-None-Match": ""},
    {"If-None-Match": "abc"},
    {"If-None-Match": '"unclosed'},
    {"If-None-Match": "W/"},
    {"If-None-Match": ",,,"},
    {"If-None-Match": '"\xff\x80"'},
    {"If-None-Match": '"' + "x" * 8000 + '"'},
    {"If-None-Match": ", ".join(f'"{n}"' for n in range(2000))},
    {"If-Modified-Since": ""},
    {"If-Modified-Since": "yesterday"},
    {"If-Modified-Since": "Sun, 31 Jun 1994 08:49:37 GMT"},
    {"If-Modified-Since": "99999999999999999999"},
    {"If-Modified-Since": "Fri, 01 Jan 99999 00:00:00 GMT"},
    {"If-Unmodified-Since": "tomorrow"},
    {"If-Range": '"x"', "Range": "bytes=0-1"},
    {"Range": "bytes=a-b"},
    {"Range": "bytes=0-0"},
]
UNMET = [
    {"If-Match": '"other"'},
    {"If-Match": 'W/"other"'},
    {"If-Match": ""},
    {"If-Match": "abc"},
    {"If-Match": '"unclosed'},
    {"If-Match": '"\xff"'},
]


class TestPreconditions:
    @pytest.mark.parametrize("path", ["/galleries/spring/", "/screenshots/", "/"])
    def test_field_that_cannot_be_read_is_never_an_error(self, api, world, path):
        for headers in IGNORED:
            assert api(path, headers=headers).status_code == 200, headers

    @pytest.mark.parametrize("path", ["/galleries/spring/", "/screenshots/"])
    def test_condition_that_does_not_hold_is_412(self, api, world, path):
        etag = api(path)["ETag"]
        for headers in UNMET:
            response = api(path, headers=headers)
            problem(response, 412, "precondition-failed")
            assert response["ETag"] == etag, headers

    def test_condition_on_what_does_not_exist_leaves_the_404(self, api):
        problem(api("/galleries/nothing/", headers={"If-Match": '"x"'}), 404)
        problem(api("/galleries/nothing/", headers={"If-None-Match": "*"}), 404)


class TestCredentials:
    @pytest.mark.parametrize("value", ["Token", "Token a b", "Token wrong", "Token \xff", "Token a\x00b"])
    def test_token_that_is_not_valid_is_401_and_says_how_to_authenticate(self, api, value):
        response = api("/galleries/", headers={"Authorization": value})
        problem(response, 401)
        assert response["WWW-Authenticate"] == "Token"

    @pytest.mark.parametrize("value", ["", "Basic", "Bearer x", "\x80"])
    def test_scheme_that_is_not_ours_is_ignored(self, api, value):
        assert api("/galleries/", headers={"Authorization": value}).status_code == 200
