"""What `docs/deploy/varnish.vcl` holds, for how long, for whom, and under which name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime
from time import time

import httpx
import pytest

from edge.origin import TO_EVERYBODY, Origin, held
from edge.programs import Varnish, client, eventually, raw
from gallery_api.content_security import DATA

pytestmark = pytest.mark.stack("embedded")

PAGE = "/api/v1/tags/"
LONG_AGO = "Thu, 01 Jan 2015 00:00:00 GMT"
BROWSER = "gzip, deflate, br, zstd"
PRIVATE = {"Cache-Control": "private, no-store"}


class TestHolding:
    """Surrogate-Control is for us; who is not purged asks each time."""

    def test_what_surrogate_control_lets_it_hold_is_asked_for_once(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "one", held("k"))
        assert [edge.get(PAGE).text for _ in range(3)] == ["one"] * 3
        assert len(origin.requests(PAGE)) == 1

    def test_without_surrogate_control_it_asks_each_time(self, edge: httpx.Client, origin: Origin) -> None:
        for body in ("one", "two", "three"):
            origin.answer(PAGE, body, TO_EVERYBODY)
            assert edge.get(PAGE).text == body

    def test_what_is_to_be_held_for_no_time_is_asked_for_each_time(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        for body in ("one", "two"):
            origin.answer(PAGE, body, held("k", "max-age=0, must-revalidate"))
            assert edge.get(PAGE).text == body

    def test_an_answer_that_was_not_to_be_held_does_not_keep_the_next_from_it(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "one", held("k", "max-age=0"))
        edge.get(PAGE)
        origin.answer(PAGE, "two", held("k"))
        assert [edge.get(PAGE).text for _ in range(3)] == ["two"] * 3
        assert len(origin.requests(PAGE)) == 2

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 200),
            ({"Expires": formatdate(time() + 999, usegmt=True)}, 200),
            ({"Last-Modified": "Thu, 01 Jan 2015 00:00:00 GMT"}, 200),
            ({"Location": "/elsewhere/"}, 301),
            (PRIVATE, 200),
            (PRIVATE, 404),
            (PRIVATE | {"Surrogate-Control": "max-age=86400"}, 200),
            (held() | {"Surrogate-Control": "no-store, max-age=86400"}, 200),
            (held(Set_Cookie="a=b"), 200),
            (held(Vary="*"), 200),
            (held(), 500),
        ],
        ids=str,
    )
    def test_what_nobody_may_hold_or_nobody_spoke_of_is_not_held(
        self, edge: httpx.Client, origin: Origin, headers: dict[str, str], status: int
    ) -> None:
        for body in ("one", "two"):
            origin.answer(PAGE, body, headers, status)
            answer = edge.get(PAGE)
            assert (answer.status_code, answer.text) == (status, body)

    def test_pictures_are_held_by_their_own_cache_control_and_served_in_parts(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer("/files/a.webp", "0123456789", {"Cache-Control": "public, max-age=31536000, immutable"})
        part = edge.get("/files/a.webp", headers={"Range": "bytes=2-4"})
        assert (part.status_code, part.text) == (206, "234")
        assert part.headers["content-range"] == "bytes 2-4/10"
        assert edge.get("/files/a.webp").text == "0123456789"
        assert len(origin.requests("/files/a.webp")) == 1

    def test_a_large_answer_is_passed_on_while_it_arrives_and_whole(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        body = "x" * 5_000_000
        origin.answer("/files/big.webp", body, {"Cache-Control": "public, max-age=31536000, immutable"})
        assert edge.get("/files/big.webp").text == edge.get("/files/big.webp").text == body

    def test_many_at_once_are_one_request(self, edge: httpx.Client, origin: Origin, varnish: Varnish) -> None:
        origin.answer(PAGE, "one", held("k"))
        with ThreadPoolExecutor(10) as pool, origin.slow(PAGE) as gate:
            answers = [pool.submit(edge.get, PAGE) for _ in range(10)]
            eventually(lambda: varnish.waiting() == 9)
            gate.open.set()
            assert [answer.result().text for answer in answers] == ["one"] * 10
        assert len(origin.requests(PAGE)) == 1

    def test_nobody_waits_for_what_cannot_be_shared(
        self, edge: httpx.Client, origin: Origin, varnish: Varnish
    ) -> None:
        origin.answer(PAGE, "one", PRIVATE, 404)
        edge.get(PAGE)
        gates = origin.gate(PAGE, 10)
        with ThreadPoolExecutor(10) as pool:
            answers = [pool.submit(edge.get, PAGE) for _ in range(10)]
            for gate in gates:
                gate.wait()
            for gate in gates:
                gate.open.set()
            assert [answer.result().status_code for answer in answers] == [404] * 10

    def test_head_is_answered_from_what_get_holds(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", held("k"))
        first, head = edge.head(PAGE), edge.head(PAGE)
        assert [asked.method for asked in origin.requests(PAGE)] == ["GET"]
        assert (first.content, head.content, head.headers["content-length"]) == (b"", b"", "3")
        assert edge.get(PAGE).text == "one"


class TestForWhom:
    """RFC 9111 section 3.5, and what Django's sessions mean."""

    @pytest.mark.parametrize(
        "credentials",
        [
            {"Authorization": "Token 1"},
            {"Cookie": "sessionid=1"},
            {"Cookie": "a=b; sessionid=1"},
            {"Cookie": "sessionid =1"},
        ],
        ids=str,
    )
    def test_who_shows_a_credential_is_neither_answered_from_the_cache_nor_held(
        self, edge: httpx.Client, origin: Origin, credentials: dict[str, str]
    ) -> None:
        origin.answer(PAGE, "public", held("k"))
        edge.get(PAGE)
        origin.answer(PAGE, "private", held("k"))
        assert edge.get(PAGE, headers=credentials).text == "private"
        assert edge.get(PAGE).text == "public"
        for name, value in credentials.items():
            assert origin.requests(PAGE)[-1].headers[name] == value

    @pytest.mark.parametrize("cookie", ["_ga=1", "csrftoken=1", "notsessionid=1", "a=sessionid"])
    def test_other_cookies_do_not_split_the_cache_and_do_not_reach_the_origin(
        self, edge: httpx.Client, origin: Origin, cookie: str
    ) -> None:
        origin.answer(PAGE, "one", held("k"))
        edge.get(PAGE, headers={"Cookie": cookie})
        assert edge.get(PAGE).headers["cache-status"].startswith("varnish; hit")
        assert origin.requests(PAGE)[0].headers["Cookie"] is None

    def test_conditions_of_those_with_credentials_reach_the_origin(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "one", PRIVATE)
        etag = edge.get(PAGE).headers["etag"]
        headers = {"Authorization": "Token 1", "If-None-Match": etag}
        assert edge.get(PAGE, headers=headers).status_code == 304

    @pytest.mark.parametrize("name", ["Accept-Language", "Origin"])
    def test_a_second_line_does_not_choose_what_others_are_shown(
        self, edge: httpx.Client, varnish: Varnish, origin: Origin, name: str
    ) -> None:
        """Vary goes by the first, the origin by both, or by the last."""
        origin.answer(PAGE, "theirs", held("k", Vary=name))
        raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: a\r\n{name}: ours\r\n{name}: theirs\r\n")
        assert origin.asked[0].headers.get_all(name) == ["ours, theirs"]
        origin.answer(PAGE, "ours", held("k", Vary=name))
        assert edge.get(PAGE, headers={"Host": "a", name: "ours"}).text == "ours"

    def test_a_session_in_a_second_line_of_cookies_counts(self, varnish: Varnish, origin: Origin) -> None:
        """RFC 9110 section 5.3; HTTP/2 gateways send each cookie in a line of its own."""
        origin.answer(PAGE, "public", held("k"))
        raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: a\r\n")
        origin.answer(PAGE, "private", held("k"))
        lines = "Cookie: a=b\r\nCookie: sessionid=1\r\n"
        assert raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: a\r\n{lines}").endswith(b"private")
        assert origin.requests(PAGE)[-1].headers.get_all("Cookie") == ["a=b; sessionid=1"]

    def test_other_methods_go_to_the_origin_as_they_are(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", held("k"))
        edge.get(PAGE)
        for method in ("PATCH", "DELETE", "OPTIONS", "POST"):
            headers = {"If-Match": '"x"', "X-HTTP-Method-Override": "GET"}
            answer = edge.request(method, PAGE, headers=headers, content=b"{}")
            assert answer.headers["cache-status"] == "varnish; fwd=method"
            assert origin.asked[-1].method == method
            assert origin.asked[-1].headers["If-Match"] == '"x"'
            assert origin.asked[-1].headers["X-HTTP-Method-Override"] is None

    @pytest.mark.parametrize("path", ["/admin/", "/elsewhere", "/"])
    def test_what_is_not_the_api_is_passed(self, edge: httpx.Client, origin: Origin, path: str) -> None:
        origin.answer(path, "one", held("k"))
        edge.get(path, headers={"Cookie": "csrftoken=1"})
        edge.get(path)
        assert len(origin.requests(path)) == 2
        assert origin.requests(path)[0].headers["Cookie"] == "csrftoken=1"


class TestConditions:
    """RFC 9110 section 13: a client's conditions are evaluated here, on what is held."""

    def test_a_client_that_has_it_gets_a_304_whether_its_tag_is_weak_or_strong(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "one", held("k"))
        etag = edge.get(PAGE).headers["etag"]
        for tag in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            answer = edge.get(PAGE, headers={"If-None-Match": tag})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == etag
            assert answer.headers["cache-control"] == TO_EVERYBODY["Cache-Control"]
            assert answer.headers["vary"] == "Accept-Encoding"
        assert edge.get(PAGE, headers={"If-None-Match": '"x"'}).status_code == 200
        assert len(origin.requests(PAGE)) == 1

    def test_two_lines_of_tags_are_one_list(self, varnish: Varnish, origin: Origin) -> None:
        """RFC 9110 section 5.3."""
        origin.answer(PAGE, "one", held("k", ETag='"one"'))
        lines = 'If-None-Match: "x"\r\nIf-None-Match: "one"\r\n'
        assert b" 304 " in raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: a\r\n{lines}").splitlines()[0]

    @pytest.mark.parametrize(("later", "status"), [(0, 200), (1, 304), (60, 304)])
    def test_a_date_proves_something_when_its_second_had_passed(
        self, edge: httpx.Client, origin: Origin, later: int, status: int
    ) -> None:
        """RFC 9110 section 8.8.2.2: of two contents within a second the first one's date is no validator."""
        changed = formatdate(time() - 999, usegmt=True)
        dated = {"Last-Modified": changed, "Date": formatdate(time() - 999 + later, usegmt=True)}
        origin.answer(PAGE, "one", held("k") | dated)
        for _ in range(2):
            assert edge.get(PAGE, headers={"If-Modified-Since": changed}).status_code == status

    def test_the_strong_tag_stays_strong(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", held("k", ETag='"s-br"', Content_Encoding="x"))
        assert edge.get(PAGE).headers["etag"] == edge.get(PAGE).headers["etag"] == '"s-br"'


class TestRanges:
    """RFC 9110 section 14: one range of bytes is a part, and what else Range says is ignored."""

    PICTURE = "/files/a.webp"

    @pytest.fixture(autouse=True)
    def _held(self, edge: httpx.Client, origin: Origin) -> None:
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "ETag": '"a"',
            "Last-Modified": LONG_AGO,
        }
        origin.answer(self.PICTURE, "0123456789", headers)
        edge.get(self.PICTURE)

    @pytest.mark.parametrize(
        ("asked", "sent"),
        [
            ("bytes=2-4", "234"),
            ("BYTES=2-4", "234"),
            ("bytes=0-0", "0"),
            ("bytes=8-", "89"),
            ("bytes=8-99", "89"),
            (f"bytes=8-{10**14}", "89"),
            ("bytes=-3", "789"),
            ("bytes=-30", "0123456789"),
        ],
    )
    def test_one_range_of_bytes_is_a_part(self, edge: httpx.Client, asked: str, sent: str) -> None:
        part = edge.get(self.PICTURE, headers={"Range": asked})
        assert (part.status_code, part.text) == (206, sent)

    @pytest.mark.parametrize(
        "asked",
        [
            *(
                "bytes=0-1,3-4",
                "lines=1-2",
                "bytes=4-2",
                "bytes=10-2",
                "bytes=-0",
                "bytes=-",
                "bytes=",
                "bytes",
                "x",
                "",
            ),
            *("bytes=a-b", "bytes=+1-2", f"bytes={10**30}-", f"bytes=0-{10**30}"),
        ],
    )
    def test_what_cannot_be_sent_in_one_part_is_sent_whole(self, edge: httpx.Client, asked: str) -> None:
        assert edge.get(self.PICTURE, headers={"Range": asked}).text == "0123456789"

    def test_two_lines_are_two_ranges(self, varnish: Varnish) -> None:
        lines = "Range: bytes=0-1\r\nRange: bytes=3-4\r\n"
        assert (
            b" 200 "
            in raw(varnish.port, f"GET {self.PICTURE} HTTP/1.1\r\nHost: a\r\n{lines}").splitlines()[0]
        )

    @pytest.mark.parametrize("asked", ["bytes=0-1", "bytes=20-"])
    def test_head_has_no_parts(self, edge: httpx.Client, asked: str) -> None:
        """Section 14.2."""
        head = edge.head(self.PICTURE, headers={"Range": asked})
        assert (head.status_code, head.headers["content-length"]) == (200, "10")
        assert "content-range" not in head.headers

    @pytest.mark.parametrize(
        ("condition", "status"),
        [('"a"', 206), ('"another"', 200), ('W/"a"', 200), (LONG_AGO, 200), ('"x", "a"', 200), ("", 200)],
    )
    def test_a_part_of_what_the_client_has_is_a_part_of_the_same_bytes(
        self, edge: httpx.Client, condition: str, status: int
    ) -> None:
        """Section 13.1.5. Two contents within a second share a date, so it proves nothing."""
        for asked in ("bytes=2-4", "bytes=20-") if status == 200 else ("bytes=2-4",):
            headers = {"Range": asked, "If-Range": condition}
            assert edge.get(self.PICTURE, headers=headers).status_code == status

    def test_a_weak_tag_proves_no_bytes(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(
            "/files/weak.webp", "0123456789", {"Cache-Control": "public, max-age=60", "ETag": 'W/"a"'}
        )
        headers = {"Range": "bytes=2-4", "If-Range": 'W/"a"'}
        assert edge.get("/files/weak.webp", headers=headers).status_code == 200

    @pytest.mark.parametrize("asked", ["bytes=10-", "bytes=20-30"])
    def test_what_is_past_the_end_is_refused_and_nobody_keeps_the_refusal(
        self, edge: httpx.Client, asked: str
    ) -> None:
        """RFC 9110 section 15.5.17. The lifetime of the content is not that of its refusal."""
        refused = edge.get(self.PICTURE, headers={"Range": asked})
        assert refused.status_code == refused.json()["status"] == 416
        assert refused.headers["content-range"] == "bytes */10"
        assert refused.headers["cache-control"] == "private, no-store"
        assert refused.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("asked", ["bytes=2-4", "bytes=20-"])
    @pytest.mark.parametrize(
        "condition", [{"If-None-Match": '"a"'}, {"If-Modified-Since": LONG_AGO}], ids=str
    )
    def test_who_has_it_is_told_so_whatever_the_range(
        self, edge: httpx.Client, condition: dict[str, str], asked: str
    ) -> None:
        """Section 13.2.2."""
        assert edge.get(self.PICTURE, headers={"Range": asked} | condition).status_code == 304

    def test_who_shows_a_credential_is_sent_parts_by_the_origin(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        edge.get(self.PICTURE, headers={"Range": "bytes=0-1", "Authorization": "Token 1"})
        assert origin.asked[-1].headers["Range"] == "bytes=0-1"

    @pytest.mark.parametrize(
        ("asked", "status"),
        [
            *(("bytes=0-1,3-4", 200), ("lines=1-2", 200), ("bytes=4-2", 200), ("bytes=-0", 200)),
            *(("bytes=0-1", 206), ("bytes=20-", 416)),
        ],
    )
    def test_it_means_the_same_of_what_is_passed_to_an_origin_that_ignores_it(
        self, edge: httpx.Client, asked: str, status: int
    ) -> None:
        answer = edge.get(self.PICTURE, headers={"Range": asked, "Authorization": "Token 1"})
        assert answer.status_code == status


class TestCodings:
    """Each coding is a representation of the origin's; Varnish makes none and undoes none."""

    @pytest.mark.parametrize(
        ("accepted", "sent"),
        [
            (BROWSER, "br"),
            ("gzip, deflate, zstd", "zstd"),
            ("gzip, deflate", "gzip"),
            ("x-gzip", "gzip"),
            ("GZIP ; Q=1.0", "gzip"),
            ("gzip;q=1.0,deflate;q=0.6,identity;q=0.3", "gzip"),
            ("br;q=0, gzip", "gzip"),
            ("br;q=0.000,zstd;q=0,gzip;q=0", None),
            ("deflate, identity", None),
            ("compress;q=0.5", None),
            ("", None),
            (None, None),
        ],
    )
    def test_a_request_names_the_one_coding_it_will_get(
        self, edge: httpx.Client, origin: Origin, accepted: str | None, sent: str | None
    ) -> None:
        origin.answer(PAGE, "one", held("k"))
        edge.get(PAGE, headers={} if accepted is None else {"Accept-Encoding": accepted})
        assert origin.requests(PAGE)[0].headers["Accept-Encoding"] == sent

    @pytest.mark.parametrize(
        ("lines", "sent"),
        [
            (("deflate", "br"), "br"),
            (("gzip", "br"), "br"),
            (("br;q=0", "gzip"), "gzip"),
            (("br", "identity;q=0"), "br, identity;q=0"),
            (("br", "br;q=0"), "br, br;q=0"),
            (("br;q=0, gzip", "br"), "br;q=0, gzip, br"),
        ],
    )
    def test_two_lines_of_codings_are_one_list(
        self, varnish: Varnish, origin: Origin, lines: tuple[str, str], sent: str
    ) -> None:
        """RFC 9110 section 5.3."""
        accepted = "".join(f"Accept-Encoding: {line}\r\n" for line in lines)
        raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: a\r\n{accepted}")
        assert origin.requests(PAGE)[0].headers.get_all("Accept-Encoding") == [sent]

    @pytest.mark.parametrize("accepted", ["br;q=0.5, gzip;q=0.8", "*", "identity;q=0, br", "gzip, *;q=0"])
    def test_where_weights_decide_the_origin_does(
        self, edge: httpx.Client, origin: Origin, accepted: str
    ) -> None:
        origin.answer(PAGE, "one", held("k"))
        for _ in range(2):
            edge.get(PAGE, headers={"Accept-Encoding": accepted})
        assert [asked.headers["Accept-Encoding"] for asked in origin.requests(PAGE)] == [accepted] * 2

    @pytest.mark.parametrize("more", [{}, {"Authorization": "Token 1"}], ids=["weights", "credentials"])
    def test_head_of_what_is_passed_names_the_coding_that_its_tag_is_of(
        self, edge: httpx.Client, origin: Origin, more: dict[str, str]
    ) -> None:
        """RFC 9110 section 9.3.2: the fields of GET."""
        origin.answer(PAGE, "coded", PRIVATE | {"ETag": '"one-gzip"', "Content-Encoding": "gzip"})
        head = edge.head(PAGE, headers={"Accept-Encoding": "gzip;q=0.5"} | more)
        assert [asked.method for asked in origin.asked] == ["HEAD"]
        assert {name: head.headers.get(name) for name in ("etag", "content-encoding", "content-length")} == {
            "etag": '"one-gzip"',
            "content-encoding": "gzip",
            "content-length": "5",
        }
        assert not [name for name in head.headers if name.startswith("x-")]

    def test_codings_are_held_side_by_side_and_each_client_gets_its_own(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        codings = {BROWSER: "br", "gzip, zstd": "zstd", "gzip, deflate": "gzip", "": "identity"}
        for accepted, coding in codings.items():
            origin.answer(PAGE, coding, held("k", ETag=f'"{coding}"'))
            edge.get(PAGE, headers={"Accept-Encoding": accepted})
        for accepted, coding in codings.items():
            answer = edge.get(PAGE, headers={"Accept-Encoding": accepted})
            assert (answer.text, answer.headers["etag"]) == (coding, f'"{coding}"')
        assert len(origin.requests(PAGE)) == 4

    def test_a_varnish_that_would_make_codings_itself_refuses_to_serve(
        self, origin: Origin, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        varnish = Varnish(tmp_path_factory.mktemp("gzip"), origin.port, "http_gzip_support=on")
        varnish.start()
        try:
            with client(varnish.url) as edge:
                origin.answer(PAGE, "one", held("k"))
                assert edge.get(PAGE, headers={"Accept-Encoding": BROWSER}).status_code == 500
        finally:
            varnish.stop()


class TestNames:
    """One page has one name; nothing else can pass for it."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("?a=1&b=2", "?b=2&a=1"),
            ("?a=1", "?a=1&utm_source=x&utm_medium=y"),
            ("?a=1", "?utm_source=x&gclid=1&a=1&fbclid=2&_=3"),
            ("?a=1", "?_&a=1"),
            ("?a=1", "?&a=1&&"),
            ("", "?utm_campaign=x"),
            ("", "?gclid=1&_=2&utm_x="),
            ("", "?"),
        ],
    )
    def test_queries_that_mean_the_same_are_one_entry(
        self, edge: httpx.Client, origin: Origin, one: str, other: str
    ) -> None:
        origin.answer(PAGE + one, "one", held("k"))
        assert edge.get(PAGE + one).text == edge.get(PAGE + other).text == "one"
        assert [asked.target for asked in origin.asked] == [PAGE + one]

    @pytest.mark.parametrize(
        "query",
        [
            "?search=a?_=1",
            "?search=a%26_=1",
            "?_x=1",
            "?xgclid=1",
            "?a=utm_source",
            "?Gclid=1",
            "?a=&b=1",
            "?a",
            "?=x",
            "?=x&page=1",
            "?a=1?",
            "??",
        ],
    )
    def test_what_only_looks_like_tracking_stays(
        self, edge: httpx.Client, origin: Origin, query: str
    ) -> None:
        """What the origin refuses must reach it."""
        edge.get(PAGE + query)
        assert [asked.target for asked in origin.asked] == [PAGE + query]

    @pytest.mark.parametrize(
        "path",
        [
            "/api/v1/tags%2F",
            "/api//v1/tags/",
            "/api/v1/./tags/",
            "/api/v1/a/../tags/",
            "/api/v1/tags;x=1/",
            "/api/v1/tags/%2e%2e/",
            "/api/v1/ta%67s/",
            "/api/v1/tags\\",
            "/api/v1/.hidden/",
            "//api/v1/tags/",
        ],
    )
    def test_a_path_with_two_readings_is_passed_and_never_held(
        self, varnish: Varnish, origin: Origin, path: str
    ) -> None:
        origin.answer(path, "one", held("k"))
        for _ in range(2):
            assert b"varnish; fwd=bypass" in raw(varnish.port, f"GET {path} HTTP/1.1\r\nHost: a\r\n")
        assert [asked.target for asked in origin.asked] == [path] * 2

    @pytest.mark.parametrize(
        "header",
        [
            "Forwarded",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X-Forwarded-Scheme",
            "X-Forwarded-Server",
            "X-Host",
            "X-HTTP-Method",
            "X-HTTP-Method-Override",
            "X-Method-Override",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Origin-Failed",
        ],
    )
    def test_a_header_that_renames_a_request_reaches_nobody(
        self, edge: httpx.Client, origin: Origin, header: str
    ) -> None:
        for path in (PAGE, "/admin/"):
            origin.answer(path, "one", held("k"))
            assert edge.get(path, headers={header: "evil"}).status_code == 200
            assert origin.requests(path)[0].headers[header] is None

    @pytest.mark.parametrize("path", [PAGE, "/admin/"])
    def test_a_field_that_the_origin_would_take_for_another_reaches_nobody(
        self, varnish: Varnish, origin: Origin, path: str
    ) -> None:
        """WSGI knows no hyphens: `Accept_Encoding` would choose the coding of what is held for all who name none."""
        lines = "Accept_Encoding: gzip\r\nX_Forwarded_Host: evil\r\nIf_None_Match: *\r\nX-Kept: a_b: c\r\n_: 1\r\n"
        raw(varnish.port, f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}")
        headers = origin.requests(path)[0].headers
        assert [name for name in headers if "_" in name] == []
        assert (headers["X-Kept"], headers["X-Underscored"]) == ("a_b: c", None)

    @pytest.mark.parametrize("host", ["GALLERY.example", "gallery.example.", "gallery.example:80"])
    def test_a_host_has_one_spelling(self, varnish: Varnish, origin: Origin, host: str) -> None:
        origin.answer(PAGE, "one", held("k"))
        for spelt in ("gallery.example", host):
            assert b" 200 " in raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: {spelt}\r\n").splitlines()[0]
        assert [asked.headers["Host"] for asked in origin.asked] == ["gallery.example"]

    @pytest.mark.parametrize("host", ["a b", "a/b", "a@b", "a:b", "<a>", ""])
    def test_what_cannot_be_a_host_is_refused(self, varnish: Varnish, origin: Origin, host: str) -> None:
        assert b" 400 " in raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: {host}\r\n").splitlines()[0]
        assert origin.asked == []

    def test_hosts_do_not_share_entries(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "one", held("k"))
        edge.get(PAGE, headers={"Host": "a.example"})
        origin.answer(PAGE, "two", held("k"))
        assert edge.get(PAGE, headers={"Host": "b.example"}).text == "two"

    def test_what_was_asked_by_https_is_another_entry(self, edge: httpx.Client, origin: Origin) -> None:
        secure = {"X-Forwarded-Proto": "https"}
        for body, headers in (("one", {}), ("two", secure)):
            origin.answer(PAGE, body, held("k"))
            edge.get(PAGE, headers=headers)
        assert (edge.get(PAGE).text, edge.get(PAGE, headers=secure).text) == ("one", "two")
        assert [asked.headers["X-Forwarded-Proto"] for asked in origin.asked] == ["http", "https"]


class TestAnswers:
    """What is said to clients, and what is not."""

    def test_what_was_said_to_the_edge_alone_stays_there(self, edge: httpx.Client, origin: Origin) -> None:
        more = {"CDN-Cache-Control": "max-age=1", "Surrogate-Key": "k"}
        for path in (PAGE, "/admin/"):
            origin.answer(path, "one", held("k") | more)
            for _ in range(2):
                names = set(edge.get(path).headers)
                assert names.isdisjoint({"surrogate-control", "xkey", "cdn-cache-control", "surrogate-key"})
                assert not {name for name in names if name.startswith("x-")}

    def test_every_other_header_comes_through(self, edge: httpx.Client, origin: Origin) -> None:
        said = TO_EVERYBODY | {
            "Last-Modified": "Thu, 01 Jan 2015 00:00:00 GMT",
            "Content-Location": PAGE,
            "No-Vary-Search": "key-order",
            "ETag": '"e"',
        }
        origin.answer(PAGE, "one", held("k") | said)
        for answer in (edge.get(PAGE), edge.get(PAGE), edge.get(PAGE, headers={"If-None-Match": '"e"'})):
            assert {name: answer.headers.get(name) for name in said} == said

    def test_cache_status_is_appended_to_the_origin_s(self, edge: httpx.Client, origin: Origin) -> None:
        """RFC 9211 section 2: the nearest to the origin comes first."""
        origin.answer(PAGE, "one", held("k", Cache_Status="keybits; hit"))
        assert edge.get(PAGE).headers["cache-status"] == "keybits; hit, varnish; fwd=uri-miss; stored"
        own, ours = edge.get(PAGE).headers["cache-status"].split(", ")
        assert own == "keybits; hit"
        assert ours in {"varnish; hit; ttl=86399", "varnish; hit; ttl=86400"}

    def test_cache_status_says_what_was_not_looked_up_or_not_held(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "one", PRIVATE)
        assert edge.get(PAGE).headers["cache-status"] == "varnish; fwd=uri-miss"
        credentials = {"Authorization": "Token 1"}
        asked = edge.get(PAGE, headers=credentials)
        assert asked.headers["cache-status"] == "varnish; fwd=request; detail=credentials"

    def test_age_is_told_where_everybody_must_ask(self, edge: httpx.Client, origin: Origin) -> None:
        """RFC 9111 section 5.1."""
        origin.answer(PAGE, "one", held("k", Age="100"))
        edge.get(PAGE)
        assert int(edge.get(PAGE).headers["age"]) >= 100

    def test_what_browsers_may_hold_counts_from_when_they_get_it(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        long_ago = "Thu, 01 Jan 2015 00:00:00 GMT"
        said = {"Cache-Control": "public, max-age=60", "Date": long_ago, "Age": "100"}
        origin.answer(PAGE, "one", held("k") | said)
        for answer in (edge.get(PAGE), edge.get(PAGE)):
            assert answer.headers["age"] == "0"
            assert parsedate_to_datetime(answer.headers["date"]).year > 2015
            assert "expires" not in answer.headers

    def test_age_of_pictures_stays(self, edge: httpx.Client, origin: Origin) -> None:
        said = {"Cache-Control": "public, max-age=31536000, immutable", "Age": "100"}
        origin.answer("/files/a.webp", "one", said)
        edge.get("/files/a.webp")
        assert int(edge.get("/files/a.webp").headers["age"]) >= 100

    def test_its_own_errors_are_problems_that_nobody_keeps(self, edge: httpx.Client, origin: Origin) -> None:
        """RFC 9457."""
        origin.down()
        answer = edge.get(PAGE)
        assert answer.status_code == answer.json()["status"] == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.headers["content-security-policy"] == DATA
        assert edge.request("TRACE", PAGE).headers["allow"]

    def test_scripts_of_other_origins_may_read_its_own_errors_where_they_may_the_origin_s(
        self, edge: httpx.Client, varnish: Varnish, origin: Origin
    ) -> None:
        origin.down()
        for answer in (edge.get(PAGE), edge.get("/files/a.webp"), edge.request("TRACE", PAGE)):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["access-control-expose-headers"] == "Allow, Content-Range"
        assert b"Access-Control-Allow-Origin: *" in raw(varnish.port, f"GET {PAGE} HTTP/1.1\r\nHost: a/b\r\n")
        for answer in (edge.get("/admin/"), edge.request("PURGE", PAGE)):
            assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("path", [PAGE, "/ws/captures/1/"])
    def test_nothing_is_piped(self, varnish: Varnish, origin: Origin, path: str) -> None:
        """A pipe is a way past every rule here, for all that comes over the connection after a refusal, too."""
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        later = f"GET {PAGE}?later HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: evil\r\nConnection: close\r\n"
        raw(varnish.port, f"GET {path} HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n{later}")
        assert origin.requests(path)[0].headers["Upgrade"] is None
        assert origin.requests(f"{PAGE}?later")[0].headers["X-Forwarded-Host"] is None
