"""What `docs/deploy/nginx.conf` does: told of no change, it asks each time, and never shows what has changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from edge.origin import TO_EVERYBODY, Origin
from edge.programs import Nginx, client, has_ipv6, raw
from gallery_api.content_security import DATA

pytestmark = pytest.mark.stack("embedded")

PAGE = "/api/v1/tags/"
PRIVATE = {"Cache-Control": "private, no-store"}
PICTURE = {"Cache-Control": "public, max-age=31536000, immutable", "Accept-Ranges": "bytes"}


class TestAsking:
    """Each request costs the origin a 304 at most, and shows what the origin shows."""

    def test_what_has_not_changed_costs_a_304_each_time(self, proxy: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", TO_EVERYBODY)
        assert [proxy.get(PAGE).text for _ in range(4)] == ["one"] * 4
        assert origin.statuses(PAGE) == [200, 304, 304, 304]

    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
    def test_who_asks_by_ipv6_is_answered_as_by_ipv4(self, proxy: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", TO_EVERYBODY)
        with client(f"http://[::1]:{proxy.base_url.port}") as connected:
            for _ in range(
                2
            ):  # nginx answers before it has stored, and takes the next of a connection afterwards
                assert connected.get(PAGE, headers={"Host": proxy.headers["Host"]}).text == "one"
        assert proxy.get(PAGE).text == "one"
        assert origin.statuses(PAGE) == [200, 304, 304]

    def test_what_has_changed_is_shown_at_once(self, proxy: httpx.Client, origin: Origin) -> None:
        for body in ("one", "two", "three"):
            origin.answer(PAGE, body, TO_EVERYBODY)
            assert proxy.get(PAGE).text == body

    def test_who_asks_after_a_change_is_not_given_what_was_asked_for_before(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        """Requests are not collapsed: nobody tells nginx that what it waits for is old."""
        origin.answer(PAGE, "old", TO_EVERYBODY)
        with ThreadPoolExecutor() as pool, origin.slow(PAGE) as gate:
            first = pool.submit(proxy.get, PAGE)
            gate.wait()
            origin.answer(PAGE, "new", TO_EVERYBODY)
            assert proxy.get(PAGE).text == "new"
            gate.open.set()
            first.result()
        assert proxy.get(PAGE).text == "new"

    def test_a_client_that_has_it_gets_a_304(self, proxy: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", TO_EVERYBODY)
        etag = proxy.get(PAGE).headers["etag"]
        for tag in (etag, f"W/{etag}", f'"x", {etag}'):
            assert proxy.get(PAGE, headers={"If-None-Match": tag}).status_code == 304

    def test_a_date_alone_proves_nothing(self, proxy: httpx.Client, origin: Origin) -> None:
        """Of two contents within a second nginx may have the first one's date."""
        long_ago = "Thu, 01 Jan 2015 00:00:00 GMT"
        origin.answer(PAGE, "one", TO_EVERYBODY | {"Last-Modified": long_ago})
        for _ in range(2):
            assert proxy.get(PAGE, headers={"If-Modified-Since": long_ago}).status_code == 200

    def test_pictures_are_held_and_served_in_parts(self, proxy: httpx.Client, origin: Origin) -> None:
        origin.answer("/files/a.webp", "0123456789", PICTURE)
        for _ in range(2):
            part = proxy.get("/files/a.webp", headers={"Range": "bytes=2-4"})
            assert (part.status_code, part.text) == (206, "234")
        assert proxy.get("/files/a.webp").text == "0123456789"
        assert origin.statuses("/files/a.webp") == [200, 304, 304]

    @pytest.mark.parametrize(
        "terms",
        ["public, max-age=31536000, immutable", "public, max-age=60", "public, s-maxage=86400", "max-age=60"],
    )
    def test_a_lifetime_spares_no_question(self, proxy: httpx.Client, origin: Origin, terms: str) -> None:
        """It would count twice, here and in a browser: nginx makes a Date anew and tells no Age."""
        for body in ("one", "two"):
            origin.answer(PAGE, body, {"Cache-Control": terms})
            assert [proxy.get(PAGE).text for _ in range(2)] == [body] * 2
        assert origin.statuses(PAGE) == [200, 304, 200, 304]

    def test_a_field_that_the_origin_changes_is_shown_with_its_next_content_or_once_the_folder_is_empty(
        self, proxy: httpx.Client, origin: Origin, nginx: Nginx
    ) -> None:
        """Such as a policy, or who may read: no 304 changes what is held, and no purge reaches nginx."""

        def shown(readers: str, body: str = "one") -> list[str]:
            origin.answer(PAGE, body, TO_EVERYBODY | {"Access-Control-Allow-Origin": readers})
            return [proxy.get(PAGE).headers["access-control-allow-origin"] for _ in range(2)]

        assert shown("*") == ["*"] * 2
        assert shown("https://a.example") == ["*"] * 2
        assert shown("https://a.example", "two") == ["https://a.example"] * 2
        for held in (path for path in (nginx.directory / "cache").rglob("*") if path.is_file()):
            held.unlink()
        assert shown("https://b.example", "two") == ["https://b.example"] * 2

    def test_head_asks_by_get_and_gets_no_content(self, proxy: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", TO_EVERYBODY)
        head = proxy.head(PAGE)
        assert (head.content, head.headers["content-length"]) == (b"", "3")
        assert proxy.get(PAGE).text == "one"


class TestNotHeld:
    """What nobody may hold is not there when the origin is gone."""

    @pytest.mark.parametrize(
        "headers",
        [
            PRIVATE,
            {},
            TO_EVERYBODY | {"Set-Cookie": "a=b"},
            TO_EVERYBODY | {"Vary": "*"},
            TO_EVERYBODY | {"Vary": "Accept-Encoding, Cookie"},
        ],
        ids=str,
    )
    def test_what_is_not_for_all_is_not_held(
        self, proxy: httpx.Client, origin: Origin, headers: dict[str, str]
    ) -> None:
        origin.answer(PAGE, "one", headers)
        assert proxy.get(PAGE).text == "one"
        proxy.get(PAGE)
        assert origin.statuses(PAGE) == [200, 200]
        origin.down()
        assert proxy.get(PAGE).status_code == 502

    @pytest.mark.parametrize(
        "credentials", [{"Authorization": "Token 1"}, {"Cookie": "a=b; sessionid=1"}], ids=str
    )
    def test_who_shows_a_credential_gets_the_origin_s_answer_and_it_is_not_held(
        self, proxy: httpx.Client, origin: Origin, credentials: dict[str, str]
    ) -> None:
        origin.answer(PAGE, "private", PICTURE)
        assert proxy.get(PAGE, headers=credentials).text == "private"
        origin.answer(PAGE, "public", PICTURE)
        assert proxy.get(PAGE).text == "public"
        origin.answer(PAGE, "private", PICTURE)
        assert proxy.get(PAGE, headers=credentials).text == "private"
        for name, value in credentials.items():
            assert origin.requests(PAGE)[-1].headers[name] == value

    def test_conditions_of_a_write_reach_the_origin(self, proxy: httpx.Client, origin: Origin) -> None:
        proxy.patch(PAGE, headers={"If-Match": '"x"', "Authorization": "Token 1"}, content=b"{}")
        assert origin.asked[0].headers["If-Match"] == '"x"'

    def test_other_cookies_do_not_reach_the_origin(self, proxy: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", TO_EVERYBODY)
        proxy.get(PAGE, headers={"Cookie": "csrftoken=1"})
        assert origin.requests(PAGE)[0].headers["Cookie"] is None

    @pytest.mark.parametrize(
        "path",
        ["/admin/", "/api//v1/", "/api/v1/tags;x/", "/api/v1/ta%67s/", "/api/v1/a/../b/", "/api/v1/a%2Fb/"],
    )
    def test_a_path_with_two_readings_is_passed_as_it_is(
        self, origin: Origin, proxy: httpx.Client, path: str
    ) -> None:
        origin.answer(path, "one", PICTURE)
        for _ in range(2):
            raw(proxy.base_url.port or 0, f"GET {path} HTTP/1.1\r\nHost: {proxy.headers['Host']}\r\n")
        assert [asked.target for asked in origin.asked] == [path] * 2


class TestNames:
    """Codings are representations of their own; headers rename nothing."""

    @pytest.mark.parametrize(
        ("accepted", "sent"),
        [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, zstd", "zstd"),
            ("gzip, deflate", "gzip"),
            ("gzip;q=1.0,deflate;q=0.6,identity;q=0.3", "gzip"),
            ("deflate", None),
            ("identity", None),
            (None, None),
            ("br;q=0.5, gzip;q=0.8", "br;q=0.5, gzip;q=0.8"),
            ("br;q=0, gzip", "br;q=0, gzip"),
            ("*", "*"),
            ("identity;q=0, br", "identity;q=0, br"),
        ],
    )
    def test_a_request_names_the_one_coding_it_will_get(
        self, proxy: httpx.Client, origin: Origin, accepted: str | None, sent: str | None
    ) -> None:
        proxy.get(PAGE, headers={} if accepted is None else {"Accept-Encoding": accepted})
        assert origin.asked[0].headers["Accept-Encoding"] == sent

    def test_codings_are_held_side_by_side_with_their_own_strong_tags(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        codings = {"gzip, br": "br", "zstd": "zstd", "gzip": "gzip", "": "identity"}
        for _ in range(2):
            for accepted, coding in codings.items():
                origin.answer(PAGE, coding, PICTURE | {"Vary": "Accept-Encoding", "ETag": f'"{coding}"'})
                answer = proxy.get(PAGE, headers={"Accept-Encoding": accepted})
                assert (answer.text, answer.headers["etag"]) == (coding, f'"{coding}"')
        assert origin.statuses(PAGE) == [200] * 4 + [304] * 4

    def test_scripts_of_other_origins_get_their_own(self, proxy: httpx.Client, origin: Origin) -> None:
        varying = PICTURE | {"Vary": "Accept-Encoding, Origin"}
        for _ in range(2):
            for site in ("https://a.example", "https://b.example"):
                origin.answer(PAGE, site, varying | {"Access-Control-Allow-Origin": site})
                answer = proxy.get(PAGE, headers={"Origin": site})
                assert answer.headers["access-control-allow-origin"] == answer.text == site
        assert origin.statuses(PAGE) == [200, 200, 304, 304]

    def test_a_second_line_does_not_choose_what_others_are_shown(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "theirs", PICTURE | {"Vary": "Origin"})
        lines = f"Host: {proxy.headers['Host']}\r\nOrigin: ours\r\nOrigin: theirs\r\n"
        raw(proxy.base_url.port or 0, f"GET {PAGE} HTTP/1.1\r\n{lines}")
        assert origin.asked[0].headers.get_all("Origin") in (["ours"], ["ours, theirs"])  # by nginx's version

    @pytest.mark.parametrize(
        "header",
        ["Forwarded", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-HTTP-Method-Override", "X-Original-URL"],
    )
    def test_a_header_that_renames_a_request_reaches_nobody(
        self, proxy: httpx.Client, origin: Origin, header: str
    ) -> None:
        proxy.get(PAGE, headers={header: "evil"})
        assert origin.asked[0].headers[header] is None

    def test_a_field_that_the_origin_would_take_for_another_reaches_nobody(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        """WSGI knows no hyphens."""
        proxy.get(PAGE, headers={"Accept_Encoding": "gzip", "X_Forwarded_Host": "evil"})
        assert [name for name in origin.asked[0].headers if "_" in name] == []

    def test_the_client_s_host_reaches_the_origin(self, proxy: httpx.Client, origin: Origin) -> None:
        proxy.get(PAGE, headers={"Host": "gallery.example", "X-Forwarded-Proto": "https"})
        assert origin.asked[0].headers["Host"] == "gallery.example"
        assert origin.asked[0].headers["X-Forwarded-Proto"] == "http"


class TestAnswers:
    """What is said to clients."""

    def test_headers_come_through_and_cache_status_is_appended(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        said = TO_EVERYBODY | {"Content-Location": PAGE, "No-Vary-Search": "key-order", "ETag": '"e"'}
        secret = {"Surrogate-Control": "max-age=1", "xkey": "k", "CDN-Cache-Control": "max-age=1"}
        origin.answer(PAGE, "one", said | secret | {"Cache-Status": "keybits; hit"})
        for did in ("fwd=uri-miss", "fwd=stale; fwd-status=304"):
            answer = proxy.get(PAGE)
            assert {name: answer.headers.get(name) for name in said} == said
            assert answer.headers["cache-status"] == f"keybits; hit, nginx; {did}"
            assert not {"surrogate-control", "xkey", "x-accel-expires"} & set(answer.headers)

    def test_cache_status_says_what_the_origin_said(self, proxy: httpx.Client, origin: Origin) -> None:
        """RFC 9211 section 2.3."""
        for body, status in (("one", 200), ("two", 200), ("gone", 404), ("broken", 500), ("three", 200)):
            origin.answer(PAGE, body, PRIVATE if status >= 400 else TO_EVERYBODY, status)
            did = proxy.get(PAGE).headers["cache-status"]
            assert did == (
                "nginx; fwd=uri-miss" if body == "one" else f"nginx; fwd=stale; fwd-status={status}"
            )

    def test_its_own_errors_are_problems_that_nobody_keeps(self, proxy: httpx.Client, origin: Origin) -> None:
        """RFC 9457."""
        origin.down()
        for answer, status in ((proxy.get(PAGE), 502), (proxy.post(PAGE, content=b" " * 3_000_000), 413)):
            assert answer.status_code == answer.json()["status"] == status
            assert answer.json()["title"] in {"Bad Gateway", "Content Too Large"}
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "private, no-store"
            assert answer.headers["content-security-policy"] == DATA
        assert proxy.head(PAGE).content == b""

    def test_its_own_pages_may_load_nothing(self, proxy: httpx.Client) -> None:
        for answer, status in ((proxy.request("TRACE", PAGE), 405), (proxy.get(f"/{'a' * 9_000}"), 414)):
            assert (answer.status_code, answer.headers["content-security-policy"]) == (status, DATA)

    def test_a_policy_of_the_origin_comes_through_once_and_is_held(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "one", TO_EVERYBODY | {"ETag": '"e"', "Content-Security-Policy": "sandbox"})
        for _ in range(2):
            assert proxy.get(PAGE).headers.get_list("content-security-policy") == ["sandbox"]

    def test_scripts_of_other_origins_may_read_its_own_errors_where_they_may_the_origin_s(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        origin.down()
        for path in (PAGE, "/files/a.webp"):
            for answer in (proxy.get(path), proxy.post(path, content=b" " * 3_000_000)):
                assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-origin" not in proxy.get("/admin/").headers

    def test_what_is_past_the_end_is_refused_and_nobody_keeps_the_refusal(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        """RFC 9110 section 15.5.17. The lifetime of the content is not that of its refusal."""
        origin.answer("/files/a.webp", "0123456789", PICTURE)
        for _ in range(2):
            refused = proxy.get("/files/a.webp", headers={"Range": "bytes=20-"})
            assert (refused.status_code, refused.headers["content-range"]) == (416, "bytes */10")
            assert "no-store" in refused.headers["cache-control"]
        for wanted in ({}, {"Range": "bytes=2-4"}):
            assert (
                proxy.get("/files/a.webp", headers=wanted).headers["cache-control"]
                == PICTURE["Cache-Control"]
            )

    @pytest.mark.parametrize("path", [PAGE, "/ws/captures/1/"])
    def test_nothing_is_upgraded(self, proxy: httpx.Client, origin: Origin, path: str) -> None:
        """What comes over an upgraded connection passes every rule here."""
        proxy.get(path, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        assert origin.asked[0].headers["Upgrade"] is None


class TestWhatIsTakenDown:
    """Nobody purges nginx: what it holds is shown by the origin's leave alone."""

    @pytest.mark.parametrize("status", [404, 410])
    @pytest.mark.parametrize("headers", [TO_EVERYBODY, PICTURE], ids=["a page", "a picture"])
    def test_it_is_not_shown_while_the_origin_is_there_nor_while_it_fails(
        self, proxy: httpx.Client, origin: Origin, headers: dict[str, str], status: int
    ) -> None:
        origin.answer(PAGE, "public", headers)
        assert [proxy.get(PAGE).text for _ in range(2)] == ["public"] * 2
        origin.answer(PAGE, "gone", PRIVATE, status)
        gone = proxy.get(PAGE)
        assert (gone.status_code, gone.text) == (status, "gone")
        assert gone.headers["cache-status"] == f"nginx; fwd=stale; fwd-status={status}"
        origin.answer(PAGE, "broken", PRIVATE, 500)
        assert (proxy.get(PAGE).status_code, proxy.get(PAGE).text) == (500, "broken")
        origin.down()
        assert proxy.get(PAGE).status_code == 502

    def test_it_is_not_shown_when_it_went_and_the_origin_failed_before_anybody_asked(
        self, proxy: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "public", TO_EVERYBODY)
        proxy.get(PAGE)
        origin.down()
        assert proxy.get(PAGE).status_code == 502
        origin.up()
        assert proxy.get(PAGE).text == "public"
        assert origin.statuses(PAGE) == [200, 304]

    def test_the_origin_s_own_error_comes_through(self, proxy: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "broken", PRIVATE | {"Retry-After": "7"}, 503)
        answer = proxy.get(PAGE)
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "broken", "7")
