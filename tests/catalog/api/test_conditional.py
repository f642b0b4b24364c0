"""What a repeat visit costs, resource by resource: a hit or a 304, no SQL, and the same header fields."""

from __future__ import annotations

import gzip
import json
import re
from html import unescape

import brotli
import pytest
from rest_framework.throttling import AnonRateThrottle

from catalog.models import Screenshot
from keybits.preconditions import format_http_date
from keybits.stores import get_store

# On one stack: that what is kept is answered alike from each store, the tests of the fast path ask of both.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.stack("embedded")]

RESOURCES = [
    "/",
    "/galleries/",
    "/galleries/?page_size=1",
    "/galleries/spring/",
    "/galleries/spring/screenshots/",
    "/galleries/spring/screenshots/?page=2&page_size=2",
    "/galleries/spring/screenshots/{cat}/",
    "/galleries/spring/screenshots/{cat}/renditions/",
    "/galleries/drafts/screenshots/",
    "/screenshots/",
    "/screenshots/?tag=dark&tag=chart&search=cat&include=gallery,renditions",
    "/screenshots/?limit=2&offset=2",
    "/screenshots/{cat}/",
    "/screenshots/{cat}/renditions/",
    "/tags/",
    "/tags/dark/",
    "/tags/dark/screenshots/",
    "/schema/",
]
ROWS = [path for path in RESOURCES if path not in {"/", "/schema/"}]
HIT = "keybits; hit"
STORED = "keybits; fwd=uri-miss; stored"
PUBLIC = "public, max-age=0, must-revalidate"

OF_THE_CONTENT = {"Content-Type", "Content-Length", "Content-Encoding", "Content-Language"}


class Clock:
    """The time of the answers, at rest between two seconds."""

    now = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def world(fresh_world):
    return fresh_world


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("keybits.drf.exchange.time.time", clock)
    return clock


@pytest.fixture
def warm(api, world, clock):
    """The targets of all resources, each asked for once; a second later."""
    targets = [world.at(path) for path in RESOURCES]
    for target in targets:
        assert api(target)["Cache-Status"] == STORED, target
    clock.now += 1
    return targets


SAME = [
    ("/screenshots/?tag=dark&page_size=2", "/screenshots/?page_size=2&tag=dark"),
    ("/screenshots/?tag=dark&tag=chart", "/screenshots/?tag=chart&tag=dark&tag=chart"),
    ("/screenshots/", "/screenshots/?utm_source=mail&utm_campaign=x&gclid=1&fbclid=2&_=1700000000"),
    ("/screenshots/", "/screenshots/?format=json"),
    ("/screenshots/?page_size=2", "/screenshots/?page_size=002"),
    ("/screenshots/?ids={cat},{dog}", "/screenshots/?ids={dog},{cat},0{dog}"),
    ("/screenshots/?fields=id,title", "/screenshots/?fields=title,id"),
    ("/screenshots/?include=gallery,renditions", "/screenshots/?include=renditions,gallery"),
    ("/screenshots/?domain=one.example", "/screenshots/?domain=ONE.example"),
    (
        "/screenshots/?domain=one.example",
        "/screenshots/?domain=%EF%BD%8F%EF%BD%8E%EF%BD%85.example.",
    ),  # wide letters
    (
        "/screenshots/?captured_after=2026-03-01",
        "/screenshots/?captured_after=2026-03-01T01:00:00%2B01:00",
    ),
    ("/screenshots/?search=caf%C3%A9+x", "/screenshots/?search=caf%c3%a9%20x"),
    ("/tags/dark/?_=1", "/tags/dark/"),
]
OTHER = [
    ("/screenshots/", "/screenshots/?page=1"),
    ("/screenshots/?page_size=1", "/screenshots/?page_size=2"),
    ("/screenshots/?ordering=title", "/screenshots/?ordering=-title"),
    ("/screenshots/?tag=dark", "/tags/dark/screenshots/"),
    ("/galleries/spring/screenshots/{cat}/", "/screenshots/{cat}/"),
    ("/tags/dark/", "/tags/chart/"),
    ("/screenshots/{cat}/renditions/", "/screenshots/{owl}/renditions/"),
    ("/screenshots/?search=a", "/screenshots/?search=b"),
]


class TestHit:
    def test_first_request_is_stored_and_the_second_is_a_hit_without_sql(
        self, api, world, clock, count_queries
    ):
        for path in RESOURCES:
            target = world.at(path)
            miss = api(target)
            assert (miss.status_code, miss["Cache-Status"]) == (200, STORED), target
            with count_queries() as queries:
                hit = api(target)
            assert (hit.status_code, hit["Cache-Status"], len(queries)) == (200, HIT, 0), target
            assert hit.content == miss.content
            assert dict(hit.items()) | {"Cache-Status": ""} == dict(miss.items()) | {"Cache-Status": ""}

    def test_every_answer_carries_its_validators_and_its_length(self, api, warm):
        for target in warm:
            response = api(target)
            assert re.fullmatch(r'"[\w-]{22}"', response["ETag"]), target
            assert response["Last-Modified"] == format_http_date(1_800_000_001)
            assert response["Cache-Control"] == PUBLIC
            assert response["Content-Length"] == str(len(response.content))
            assert response["Content-Type"] == "application/json"

    def test_etags_differ_wherever_bytes_do(self, api, warm):
        etags: dict[str, bytes] = {}
        for target in warm:
            response = api(target)
            assert etags.setdefault(response["ETag"], response.content) == response.content

    def test_queries_that_mean_the_same_share_one_entry(self, api, world):
        for one, other in SAME:
            get_store().clear()
            first, second = api(world.at(one)), api(world.at(other))
            assert (first["Cache-Status"], second["Cache-Status"]) == (STORED, HIT), (one, other)
            assert second.content == first.content

    def test_queries_that_mean_something_else_do_not(self, api, world):
        for one, other in OTHER:
            get_store().clear()
            states = [api(world.at(target))["Cache-Status"] for target in (one, other)]
            assert states == [STORED, STORED], (one, other)

    def test_answer_depends_on_no_header_of_the_client(self, api, warm, clock):
        for headers in (
            {"Accept": "application/json; indent=4"},
            {"Accept-Language": "de"},
            {"Host": "localhost"},
            {"User-Agent": "x"},
            {"Origin": "https://elsewhere.example"},
        ):
            for target in warm:
                response = api(target, headers=headers)
                assert response["Cache-Status"] == HIT, (target, headers)
                assert response.content == api(target).content


class TestNotModified:
    def test_client_that_names_the_tag_gets_a_304_without_sql(self, api, warm, count_queries):
        for target in warm:
            etag = api(target)["ETag"]
            for field in (
                etag,
                f"W/{etag}",
                f'"a", {etag}',
                f'"a",W/"b" ,\t{etag},',
                f"W/{etag}, W/{etag}",
                "*",
            ):
                for method in ("GET", "HEAD"):
                    with count_queries() as queries:
                        response = api(target, method, headers={"If-None-Match": field})
                    assert (response.status_code, response.content, len(queries)) == (304, b"", 0), (
                        target,
                        field,
                    )

    def test_client_that_names_another_tag_gets_it_all(self, api, warm):
        for target in warm:
            inner = api(target)["ETag"].strip('"')
            for field in ('"a"', 'W/"a"', f'"{inner}-gzip"', f'"{inner}x"', "", '"*"', inner, f'w/"{inner}"'):
                response = api(target, headers={"If-None-Match": field})
                assert response.status_code == 200, (target, field)

    def test_304_has_the_fields_of_the_200_but_for_those_of_the_content(self, api, warm):
        linked = 0
        for target in warm:
            full = api(target)
            short = api(target, headers={"If-None-Match": full["ETag"]})
            kept = {name: value for name, value in full.items() if name not in OF_THE_CONTENT}
            assert dict(short.items()) == kept, target
            assert {"ETag", "Last-Modified", "Cache-Control", "Cache-Status", "Vary"} <= set(kept)
            assert {"Content-Location", "Expires", "No-Vary-Search"} <= set(kept)
            linked += 'rel="next"' in kept.get("Link", "")
        assert linked == 3

    def test_304_on_a_miss_stores_as_well(self, api, world, clock):
        for path in RESOURCES:
            target = world.at(path)
            response = api(target, headers={"If-None-Match": "*"})
            assert (response.status_code, response["Cache-Status"]) == (304, STORED), target
            assert api(target)["Cache-Status"] == HIT

    def test_if_none_match_outweighs_if_modified_since(self, api, warm):
        since = {"If-Modified-Since": format_http_date(1_900_000_000)}
        for target in warm:
            etag = api(target)["ETag"]
            assert api(target, headers={"If-None-Match": '"a"'} | since).status_code == 200, target
            past = {"If-Modified-Since": format_http_date(1)}
            assert api(target, headers={"If-None-Match": etag} | past).status_code == 304, target

    def test_if_match_lets_only_the_present_representation_through(self, api, warm):
        for target in warm:
            etag = api(target)["ETag"]
            for field, status in [
                (etag, 200),
                ("*", 200),
                (f'"a", {etag}', 200),
                (f"W/{etag}", 412),
                ('"a"', 412),
            ]:
                assert api(target, headers={"If-Match": field}).status_code == status, (target, field)
            assert api(target, headers={"If-Match": etag, "If-None-Match": etag}).status_code == 304


class TestCodings:
    def test_each_coding_is_a_representation_of_its_own_with_a_tag_of_its_own(self, api, warm):
        coded = 0
        for target in warm:
            plain = api(target)
            assert "Accept-Encoding" in plain["Vary"]
            for coding, decode in (("gzip", gzip.decompress), ("br", brotli.decompress)):
                response = api(target, headers={"Accept-Encoding": coding})
                if not response.has_header("Content-Encoding"):
                    assert response.content == plain.content
                    continue
                coded += 1
                assert response["Content-Encoding"] == coding
                assert response["Vary"] == plain["Vary"]
                assert decode(response.content) == plain.content
                assert response["Content-Length"] == str(len(response.content))
                assert response["ETag"] == f'{plain["ETag"][:-1]}-{coding}"'
        assert coded > len(warm)

    def test_client_revalidates_the_coding_that_it_holds(self, api, warm, count_queries):
        for target in warm:
            full = api(target, headers={"Accept-Encoding": "gzip"})
            for field in (full["ETag"], f"W/{full['ETag']}"):
                with count_queries() as queries:
                    short = api(target, headers={"Accept-Encoding": "gzip", "If-None-Match": field})
                assert (short.status_code, short["ETag"], len(queries)) == (304, full["ETag"], 0)
                assert not short.has_header("Content-Encoding")

    def test_client_that_takes_no_coding_at_all_gets_406(self, api, warm):
        for target in warm:
            response = api(target, headers={"Accept-Encoding": "identity;q=0, *;q=0"})
            assert (response.status_code, response["Content-Type"]) == (406, "application/problem+json")
            assert response["Cache-Control"] == "private, no-store"


class TestHead:
    def test_head_of_a_hit_equals_get_field_by_field(self, api, warm):
        for target in warm:
            full, head = api(target), api(target, "HEAD")
            assert (head.status_code, head.content) == (200, b"")
            assert dict(head.items()) == dict(full.items()), target

    def test_head_of_a_miss_stores_what_get_is_given(self, api, world, clock):
        for path in RESOURCES:
            target = world.at(path)
            head, full = api(target, "HEAD"), api(target)
            assert (head["Cache-Status"], full["Cache-Status"]) == (STORED, HIT), target
            assert dict(head.items()) | {"Cache-Status": ""} == dict(full.items()) | {"Cache-Status": ""}
            assert full.content

    @pytest.mark.parametrize(
        "target", ["/nothing/", "/galleries/nothing/", "/galleries/?bogus=1", "/tags", "/docs/"]
    )
    def test_head_of_anything_else_equals_get_too(self, api, target):
        full, head = api(target), api(target, "HEAD")
        assert (head.status_code, head.content) == (full.status_code, b"")
        assert dict(head.items()) == dict(full.items())


class TestLastModified:
    """The date of a content is the first whole second after it appeared."""

    TARGET = "/screenshots/?tag=dark"

    def test_content_in_its_first_second_has_a_date_that_no_condition_matches(self, api, world, clock):
        for _ in range(2):
            date = api(self.TARGET)["Last-Modified"]
            assert date == format_http_date(1_800_000_000)
            assert api(self.TARGET, headers={"If-Modified-Since": date}).status_code == 200

    def test_content_is_revalidated_by_its_date_from_the_next_second_on(
        self, api, world, clock, count_queries
    ):
        api(self.TARGET)
        clock.now = 1_800_000_001.0
        date = api(self.TARGET)["Last-Modified"]
        assert date == format_http_date(1_800_000_001)
        for since, status in [(-1, 200), (0, 304), (1, 304), (10**8, 304)]:
            headers = {"If-Modified-Since": format_http_date(1_800_000_001 + since)}
            with count_queries() as queries:
                response = api(self.TARGET, headers=headers)
            assert (response.status_code, len(queries)) == (status, 0)
            assert response["Last-Modified"] == date

    def test_two_contents_within_one_second_never_share_a_date(self, api, world, clock):
        api(self.TARGET)
        clock.now = 1_800_000_001.1
        first = api(self.TARGET)
        rename(world, "Changed")
        clock.now = 1_800_000_001.2
        assert api(self.TARGET, headers={"If-Modified-Since": first["Last-Modified"]}).status_code == 200
        clock.now = 1_800_000_002.0
        second = api(self.TARGET, headers={"If-Modified-Since": first["Last-Modified"]})
        assert (second.status_code, second["Last-Modified"]) == (200, format_http_date(1_800_000_002))

    def test_date_is_never_in_the_future(self, api, world, clock):
        for step in (0.0, 0.5, 0.74, 0.75, 1.0, 5.0):
            clock.now = 1_800_000_000.25 + step
            rename(world, f"At {step}")
            assert api(self.TARGET)["Last-Modified"] <= format_http_date(int(clock.now))

    def test_if_unmodified_since_before_the_change_is_412(self, api, world, clock):
        api(self.TARGET)
        clock.now += 1
        for since, status in [(-1, 412), (0, 200)]:
            headers = {"If-Unmodified-Since": format_http_date(1_800_000_001 + since)}
            assert api(self.TARGET, headers=headers).status_code == status


def rename(world, title):
    world.shots["cat"].title = title
    world.shots["cat"].save()


class TestContent:
    def test_write_that_changes_no_byte_changes_no_tag(self, api, world, clock):
        targets = ["/screenshots/", "/screenshots/?tag=dark", "/tags/dark/", "/galleries/spring/screenshots/"]
        before = {target: api(target) for target in targets}
        clock.now += 5
        world.shots["cat"].save()
        for target, old in before.items():
            headers = {"If-None-Match": old["ETag"]}
            revalidated = api(target, headers=headers)
            assert (revalidated.status_code, revalidated["Cache-Status"]) == (
                304,
                "keybits; fwd=stale; stored",
            )
            assert api(target, headers=headers)["Cache-Status"] == HIT

    def test_write_that_changes_a_byte_changes_the_validators(self, api, world, clock):
        old = api("/screenshots/")
        clock.now += 5
        rename(world, "Changed")
        for headers in (
            {"If-None-Match": old["ETag"]},
            {"If-Modified-Since": format_http_date(1_800_000_001)},
        ):
            assert api("/screenshots/", headers=headers).status_code == 200
        assert api("/screenshots/")["ETag"] != old["ETag"]

    def test_change_and_its_undoing_bring_the_tag_back_but_not_the_date(self, api, world, clock):
        old = api("/screenshots/")
        clock.now += 5
        rename(world, "Changed")
        api("/screenshots/")
        clock.now += 5
        rename(world, "Cat")
        again = api("/screenshots/")
        assert again["ETag"] == old["ETag"]
        clock.now += 5
        assert api("/screenshots/")["Last-Modified"] == format_http_date(1_800_000_011)


class TestCacheStatus:
    def test_values_in_the_life_of_an_entry(self, api, world):
        seen = [api("/screenshots/")["Cache-Status"] for _ in range(2)]
        rename(world, "Changed")
        seen += [api("/screenshots/")["Cache-Status"] for _ in range(2)]
        assert seen == [STORED, HIT, "keybits; fwd=stale; stored", HIT]

    def test_error_is_not_stored(self, api, world):
        for _ in range(2):
            assert "stored" not in api("/galleries/new/").get("Cache-Status", "")
        world.galleries["spring"].slug = "new"
        world.galleries["spring"].save()
        assert api("/galleries/new/").status_code == 200

    def test_entry_too_long_for_the_store_is_computed_each_time(self, api, world, settings):
        settings.KEYBITS_MAX_ENTRY_BYTES = 10
        for _ in range(2):
            response = api("/screenshots/")
            assert (response.status_code, response["Cache-Status"]) == (200, "keybits; fwd=uri-miss")
            assert api("/screenshots/", headers={"If-None-Match": response["ETag"]}).status_code == 304

    def test_page_for_people_is_made_each_time_and_kept_by_nobody(self, api, world):
        for path in ("/", *ROWS):
            target = world.at(path) + ("&" if "?" in path else "?") + "format=api"
            for headers in ({}, {"If-None-Match": "*"}):
                response = api(target, headers=headers)
                assert (response.status_code, response["Content-Type"]) == (
                    200,
                    "text/html; charset=utf-8",
                ), target
                assert response["Cache-Control"] == "private, no-store"
                assert response["Cache-Status"] == "keybits; fwd=bypass"
                assert not response.has_header("ETag")

    def test_page_for_people_shows_the_json_indented_and_escaped(self, api, world):
        title = "<script>alert('&')</script>"
        Screenshot.objects.filter(pk=world.shots["cat"].pk).update(title=title)
        target = world.at("/screenshots/{cat}/")
        page = api(f"{target}?format=api").content.decode()
        assert f'\n  "title": "{title}",\n' in unescape(page)
        assert title not in page

    def test_page_for_people_leaves_the_json_as_it_is(self, api, world):
        before = api("/screenshots/")
        api("/screenshots/?format=api")
        after = api("/screenshots/")
        assert (after.content, after["Cache-Status"]) == (before.content, HIT)


class TestThrottle:
    @pytest.fixture(autouse=True)
    def _rate(self, monkeypatch):
        monkeypatch.setattr(AnonRateThrottle, "THROTTLE_RATES", {"anon": "3/hour"})

    def test_misses_are_counted_and_hits_are_not(self, api, world):
        for target in ("/screenshots/", "/galleries/", "/tags/"):
            for _ in range(5):
                assert api(target).status_code == 200
        assert api("/galleries/spring/").status_code == 429
        assert api("/screenshots/")["Cache-Status"] == HIT
        assert api("/tags/", headers={"If-None-Match": "*"}).status_code == 304

    def test_so_it_is_with_what_is_no_viewset(self, api, world):
        for target in ("/", "/schema/"):
            for _ in range(5):
                assert api(target).status_code == 200
        assert api("/tags/").status_code == 200
        assert api("/galleries/spring/").status_code == 429
        assert api("/schema/", headers={"If-None-Match": "*"}).status_code == 304

    def test_throttled_client_is_told_when_to_come_back_by_a_problem_that_nobody_keeps(self, api, world):
        for number in range(3):
            assert api(f"/screenshots/?page_size={number + 1}").status_code == 200
        for method in ("GET", "HEAD"):
            response = api("/screenshots/?page_size=9", method)
            assert response.status_code == 429
            assert 0 < int(response["Retry-After"]) <= 3600
            assert response["Content-Type"] == "application/problem+json"
            assert response["Cache-Control"] == "private, no-store"
        document = json.loads(api("/screenshots/?page_size=9").content)
        assert (document["status"], document["title"]) == (429, "Too Many Requests")

    def test_stale_answer_counts_like_a_miss(self, api, world):
        for number in range(3):
            assert api("/screenshots/").status_code == 200
            rename(world, f"Change {number}")
        assert api("/screenshots/").status_code == 429

    def test_missing_objects_count_too(self, api, world):
        for _ in range(3):
            assert api("/galleries/nothing/").status_code == 404
        assert api("/galleries/nothing/").status_code == 429

    def test_client_that_signed_in_is_not_counted(self, as_owner, by_token, world):
        for client in (as_owner, by_token):
            for number in range(5):
                assert client(f"/screenshots/?page_size={number + 1}").status_code == 200

    def test_address_in_a_header_buys_no_new_rate(self, api, world):
        for number in range(3):
            api(f"/screenshots/?page_size={number + 1}", headers={"X-Forwarded-For": f"10.0.0.{number}"})
        assert api("/screenshots/?page_size=9", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 429


class TestCookies:
    def test_a_malformed_csrf_cookie_puts_no_cookie_on_an_answer_for_everybody(self, api, world):
        plain = api("/screenshots/")
        for cookie in ("csrftoken=bad", "csrftoken=", "csrftoken=x; theme=dark"):
            response = api("/screenshots/", headers={"Cookie": cookie})
            assert not response.cookies, cookie
            assert (response["Vary"], response["Cache-Control"]) == (plain["Vary"], plain["Cache-Control"])
