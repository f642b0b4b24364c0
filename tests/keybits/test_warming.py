"""Warming asks for what is hot and for nothing else, as a stranger would, and stops when it is told to."""

from __future__ import annotations

import ssl
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from keybits import edge, surrogates, warming
from keybits.entries import Entry
from keybits.stores import StoreError, get_store
from keybits.warming import Afterwards, Hot, Manners, Report, Visit, WarmingError
from keybits.warming.afterwards import LULL, _afterwards
from keybits.warming.walk import (
    ATTEMPTS,
    DEFAULT_PAUSE,
    LONGEST_PAUSE,
    MOST_FAILURES,
    NOT_ASKED,
    _client,
    _Pace,
)

PLAIN = Manners(codings=("gzip",), concurrency=1)


@dataclass
class Clock:
    """A clock that only those who wait move on."""

    now: float = 1_000.0
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@dataclass
class Heard:
    target: str
    headers: dict[str, str]
    at: float


@dataclass
class Said:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    times: int = 1
    """How often the body is sent, one after the other."""
    missing: int = 0
    """Bytes that are announced and never sent."""


class Stub:
    """A server that remembers what it is asked, and answers what `says` returns."""

    def __init__(self, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        self.clock = clock
        self.scheme = "https" if tls else "http"
        self.heard: list[Heard] = []
        self.says: Callable[[Heard], Said] = lambda heard: Said()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_port}"

    @property
    def base(self) -> httpx.URL:
        return warming.base_url(self.address)

    @property
    def targets(self) -> list[str]:
        return [heard.target for heard in self.heard]

    def answer(self, target: str, headers: dict[str, str]) -> Said:
        heard = Heard(target, headers, self.clock())
        self.heard.append(heard)
        return self.says(heard)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one packet an answer, unless it is large

            def do_GET(self) -> None:
                said = stub.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
                self.send_response_only(said.status)
                length = 0 if said.status == 304 else len(said.body) * said.times
                announced = {"Content-Length": str(length + said.missing)}
                for name, value in (said.headers | announced).items():
                    self.send_header(name, value)
                self.end_headers()
                for _ in range(said.times if length else 0):
                    self.wfile.write(said.body)
                self.close_connection = said.missing > 0

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stub(clock: Clock) -> Iterator[Stub]:
    server = Stub(clock)
    yield server
    server.stop()


def hots(number: int) -> list[Hot]:
    return [Hot(f"/{each}/") for each in range(number)]


def walk(stub: Stub, what: list[Hot], manners: Manners = PLAIN) -> Report:
    return warming.warm(stub.base, what, manners, clock=stub.clock, sleep=stub.clock.sleep)


def keep(
    url: str, *scopes: str, changed: int | None = 1, name: str = "Surrogate-Key", most: int = 50
) -> None:
    keys = surrogates.tags(scopes, most)
    keyed = ((name, edge._written(name, keys)),) if name else ()
    shared = (("Cache-Control", "public, max-age=0"), *keyed)
    get_store().write(
        f"key of {url} {changed}",
        Entry(b"w" * 16, '"tag"', changed, (), b"{}", url=url, shared=shared).pack(),
    )


class TestWhatIsGiven:
    def test_paths_are_taken_once_in_order_without_empty_lines_and_comments(self) -> None:
        lines = ["/b/?x=1\n", "", "  ", "# /c/\n", "/a/", "/b/?x=1"]
        assert [hot.url for hot in warming.given(lines)] == ["/b/?x=1", "/a/"]

    def test_of_an_absolute_url_only_path_and_query_count(self) -> None:
        for scheme in ("http", "https"):
            assert warming.given([f"{scheme}://u:pw@gallery.example:8443/a/?b=c#d"]) == [Hot("/a/?b=c")]

    def test_what_would_not_be_sent_as_it_is_is_escaped_and_what_is_escaped_is_left(self) -> None:
        assert warming.given(["/ä b/%C3%A4/?q=a+b%2B'"]) == [Hot("/%C3%A4%20b/%C3%A4/?q=a+b%2B'")]

    @pytest.mark.parametrize(
        "text", ["a/", "ftp://h/a", "//h/a", "http:///a", "mailto:a@b", "?a", "http://[x/"]
    )
    def test_anything_else_is_refused_by_name(self, text: str) -> None:
        with pytest.raises(WarmingError, match="Give /path"):
            warming.given([text])


class TestWhatIsDeclared:
    def test_nothing_without_the_setting(self, settings: Any) -> None:
        settings.KEYBITS_WARM_URLS = ""
        assert warming.declared() == []

    def test_what_the_function_yields(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("catalog.first_pages.urls", lambda: iter(["/b/", "/a/", "/b/"]))
        settings.KEYBITS_WARM_URLS = "catalog.first_pages.urls"
        assert warming.declared() == [Hot("/b/"), Hot("/a/")]

    def test_a_function_that_is_not_there_is_named(self, settings: Any) -> None:
        settings.KEYBITS_WARM_URLS = "catalog.first_pages.nothing"
        with pytest.raises(WarmingError, match=r"KEYBITS_WARM_URLS cannot be imported.*nothing"):
            warming.declared()


class TestWhatIsStored:
    def test_each_url_once_the_most_recently_made_first(self) -> None:
        for url, changed in (("/a/", 1), ("/b/", 3), ("/c/", 2), ("/a/", 4), ("/d/", None)):
            keep(url, changed=changed)
        assert [hot.url for hot in warming.stored()] == ["/a/", "/b/", "/c/", "/d/"]

    def test_what_was_made_for_one_person_has_no_url_and_is_not_asked_for(self) -> None:
        keep("")
        assert warming.stored() == []

    def test_what_is_no_entry_of_ours_is_passed_over(self) -> None:
        get_store().write("k", b"something else")
        keep("/a/")
        assert [hot.url for hot in warming.stored()] == ["/a/"]

    def test_no_more_entries_are_read_than_were_asked_for(self) -> None:
        for number in range(5):
            keep(f"/{number}/")
        assert len(warming.stored(3)) == 3

    def test_the_entity_tags_of_all_its_codings_come_with_it(self) -> None:
        get_store().write("k", Entry(b"", '"t"', 1, (), bytes(256), url="/a/").pack())
        assert warming.stored() == [Hot("/a/", ('"t"', '"t-br"', '"t-zstd"', '"t-gzip"'))]


class TestWhatWasPurged:
    @pytest.mark.parametrize("name", ["Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups"])
    def test_entries_are_found_by_their_keys_however_a_cache_wants_them_written(self, name: str) -> None:
        keep("/a/", "gallery:a", "galleries", name=name)
        keep("/b/", "gallery:b", "galleries", name=name)
        assert [hot.url for hot in warming.stored_under(["gallery:a"])] == ["/a/"]

    def test_a_change_of_a_whole_kind_finds_every_member(self) -> None:
        keep("/a/", "gallery:a")
        keep("/t/", "tag:t")
        assert [hot.url for hot in warming.stored_under(["gallery:*"])] == ["/a/"]

    def test_what_has_no_room_to_name_its_members_is_found_by_any_of_the_kind(self) -> None:
        keep("/many/", *(f"gallery:{number}" for number in range(20)), most=10)
        keep("/t/", "tag:t")
        assert [hot.url for hot in warming.stored_under(["gallery:7"])] == ["/many/"]

    def test_what_has_no_keys_is_found_by_any_purge_since_its_cache_is_purged_by_paths(self) -> None:
        keep("/a/", name="")
        keep("/b/", "gallery:b")
        assert [hot.url for hot in warming.stored_under(["gallery:a"])] == ["/a/"]


class TestTheBaseURL:
    @pytest.mark.parametrize(
        "text", ["https://gallery.example", "http://192.0.2.7:81/", "http://[2001:db8::1]"]
    )
    def test_is_scheme_host_and_port(self, text: str) -> None:
        assert warming.base_url(text).raw_path == b"/"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "gallery.example",
            "ftp://h",
            "https://",
            "https://h/api/",
            "https://h/?a",
            "http://h:x",
            "http://gallery..example",
            f"https://{'x' * 64}.example",
        ],
    )
    def test_anything_else_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(WarmingError, match=r"https://gallery\.example"):
            warming.base_url(text)

    @pytest.mark.parametrize(
        "text", ["https://me:s3cret@h", "https://s3cret@h/path", "https://me:s3cret/@h", "s3cret/@h"]
    )
    def test_credentials_are_refused_and_not_repeated(self, text: str) -> None:
        with pytest.raises(WarmingError) as refusal:
            warming.base_url(text)
        assert "s3cret" not in str(refusal.value)


class TestTheRequest:
    def test_its_target_is_the_url_to_the_letter(self, stub: Stub) -> None:
        urls = ["/a'(b)/%C3%A4%2F/?q=a+b%2B%5B&r=%27*", "/a/?b=c%26d", "/a/?"]
        walk(stub, [Hot(url) for url in urls])
        assert stub.targets == urls

    def test_each_coding_is_asked_for_as_its_own(self, stub: Stub) -> None:
        walk(stub, hots(2), Manners(concurrency=1, codings=("gzip, br", "identity")))
        assert [(heard.target, heard.headers["accept-encoding"]) for heard in stub.heard] == [
            ("/0/", "gzip, br"),
            ("/0/", "identity"),
            ("/1/", "gzip, br"),
            ("/1/", "identity"),
        ]

    def test_it_says_who_asks_and_nothing_about_anybody(self, stub: Stub) -> None:
        walk(stub, hots(1))
        assert stub.heard[0].headers["user-agent"].startswith("keybits-warm")
        assert set(stub.heard[0].headers) == {"host", "connection", "user-agent", "accept", "accept-encoding"}

    def test_a_cookie_that_is_set_is_not_sent_back(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(headers={"Set-Cookie": "sessionid=1; Path=/"})
        walk(stub, hots(2))
        assert not any("cookie" in heard.headers for heard in stub.heard)

    def test_no_proxy_of_the_shell_is_asked(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert walk(stub, hots(1)).outcomes == {"200": 1}

    def test_the_host_is_the_one_that_was_named(self, stub: Stub) -> None:
        walk(stub, hots(1), Manners(codings=("br",), host="gallery.example:8443"))
        assert stub.heard[0].headers["host"] == "gallery.example:8443"

    def test_the_certificate_is_held_against_that_host_without_its_port(self) -> None:
        assert Manners(host="gallery.example:8443").extensions() == {"sni_hostname": "gallery.example"}
        assert Manners().extensions() == {}

    def test_no_part_of_it_is_waited_for_longer_than_was_said(self) -> None:
        with _client(Manners(timeout=3)) as client:
            assert client.timeout == httpx.Timeout(3)

    def test_it_is_conditional_only_where_that_was_asked_for_and_a_tag_is_known(self, stub: Stub) -> None:
        what = [Hot("/a/", ('"t"', '"t-br"')), Hot("/b/")]
        walk(stub, what)
        walk(stub, what, Manners(codings=("br",), concurrency=1, conditional=True))
        assert [heard.headers.get("if-none-match") for heard in stub.heard] == [
            None,
            None,
            '"t", "t-br"',
            None,
        ]


CERTIFIED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcxedtej0oXjld0YL
aryCKEdBzcdgyXiCsntzFSWridyhRANCAASW4cRC1g+F0aneEF51d0pw1sewpa0P
WRnqdNY6HEZEc0kPuvU8r5T15B8f9fZWxh30OFmYqzHsuaKGvWEPgQzz
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBYDCCAQagAwIBAgIBATAKBggqhkjOPQQDAjAAMCAXDTAwMDEwMTAwMDAwMFoY
DzIxMDAwMTAxMDAwMDAwWjAAMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEluHE
QtYPhdGp3hBedXdKcNbHsKWtD1kZ6nTWOhxGRHNJD7r1PK+U9eQfH/X2VsYd9DhZ
mKsx7Lmihr1hD4EM86NvMG0wDAYDVR0TAQH/BAIwADAdBgNVHREBAf8EEzARgg9n
YWxsZXJ5LmV4YW1wbGUwHQYDVR0OBBYEFJGEGT/aUzqWVpttZII+J3/Fv2QiMB8G
A1UdIwQYMBaAFJGEGT/aUzqWVpttZII+J3/Fv2QiMAoGCCqGSM49BAMCA0gAMEUC
IE5ZIcPHoD7130Oeh+2yIkhUPnGNGtbpjRMa8cqtDz9JAiEAhqx/0cmOkYtVTvyJ
+bv7Syx/dCouzTu09VgUyhcrCGs=
-----END CERTIFICATE-----
"""
"""A key made for this test alone, and its own certificate for gallery.example, until the year 2100."""


class TestTheCertificate:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "certified.pem"
        file.write_text(CERTIFIED)
        return file

    @pytest.fixture
    def secure(self, clock: Clock, file: Path) -> Iterator[Stub]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(file)
        server = Stub(clock, tls)
        yield server
        server.stop()

    @pytest.mark.parametrize(
        ("host", "outcome"),
        [("gallery.example", "200"), ("other.example", "ConnectError"), ("", "ConnectError")],
    )
    def test_is_that_of_the_host(
        self, secure: Stub, file: Path, monkeypatch: pytest.MonkeyPatch, host: str, outcome: str
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        report = walk(secure, hots(1), Manners(codings=("br",), concurrency=1, host=host))
        assert (report.outcomes, len(secure.heard)) == ({outcome: 1}, outcome == "200")

    def test_that_nobody_vouches_for_is_refused(self, secure: Stub) -> None:
        report = walk(secure, hots(1), Manners(codings=("br",), concurrency=1, host="gallery.example"))
        assert (report.outcomes, secure.heard) == ({"ConnectError": 1}, [])


class TestTheAnswer:
    def test_a_long_one_is_never_in_memory_as_a_whole(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(body=b"x" * 65_536, times=512)
        tracemalloc.start()
        try:
            assert walk(stub, hots(1)).outcomes == {"200": 1}
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
        finally:
            tracemalloc.stop()

    def test_its_content_is_not_decoded(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(headers={"Content-Encoding": "gzip"}, body=b"no gzip")
        assert walk(stub, hots(1)).outcomes == {"200": 1}

    def test_one_that_breaks_off_has_failed(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(missing=1)
        assert walk(stub, hots(1)).failures == [Visit("/0/", "RemoteProtocolError", failed=True)]
        assert stub.targets == ["/0/"]

    def test_a_redirect_is_not_followed_and_has_failed(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(308, {"Location": "/elsewhere/"})
        report = walk(stub, hots(1))
        assert (stub.targets, report.failures) == (["/0/"], [Visit("/0/", "308", failed=True)])

    @pytest.mark.parametrize("status", [404, 410])
    def test_what_the_store_had_may_be_gone_and_what_somebody_named_may_not(
        self, stub: Stub, status: int
    ) -> None:
        stub.says = lambda heard: Said(status)
        report = walk(stub, [Hot("/stored/", ('"t"',)), Hot("/named/")])
        assert report.outcomes == {str(status): 2}
        assert [visit.url for visit in report.failures] == ["/named/"]

    def test_a_304_is_well(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(304)
        assert not walk(stub, [Hot("/a/", ('"t"',))]).failures

    def test_no_answer_is_named_by_its_error(self, stub: Stub) -> None:
        base = stub.base
        stub.stop()
        report = warming.warm(base, hots(1), PLAIN, clock=stub.clock, sleep=stub.clock.sleep)
        assert report.failures == [Visit("/0/", "ConnectError", failed=True)]

    def test_a_url_too_long_for_any_request_fails_alone(self, stub: Stub) -> None:
        report = walk(stub, [Hot("/" + "x" * 70_000), Hot("/a/")])
        assert report.outcomes == {"InvalidURL": 1, "200": 1}


class TestWhatTheNearestCacheSaid:
    @pytest.mark.parametrize(
        ("field", "said"),
        [
            ("keybits; hit", "keybits hit"),
            ("keybits; fwd=uri-miss; stored", "keybits fwd=uri-miss"),
            ('keybits; fwd=stale, "a,b; hit"; fwd=miss;stored; detail="x, y; hit"', '"a,b; hit" fwd=miss'),
            ("keybits; fwd=uri-miss, edge; ttl=3;hit", "edge hit"),
            ("edge", "edge"),
            ("", ""),
            ('edge; detail="\\", b; fwd=miss"; hit', "edge hit"),
            ("edge; hit,", "edge hit"),
            (";", ""),
            ("edge; hit, ;;", ""),
        ],
    )
    def test_is_the_last_member_of_cache_status(self, stub: Stub, field: str, said: str) -> None:
        stub.says = lambda heard: Said(headers={"Cache-Status": field} if field else {})
        assert walk(stub, hots(1)).caches == Counter([said] if said else [])

    def test_the_summary_counts_answers_and_verdicts(self) -> None:
        report = Report()
        for visit in (
            Visit("/", "200", "edge hit"),
            Visit("/", "200", "edge fwd=miss"),
            Visit("/", "304", "edge hit"),
        ):
            report.add(visit)
        assert str(report) == "2 200, 1 304; Cache-Status: 2 edge hit, 1 edge fwd=miss"
        assert str(Report()) == "none; Cache-Status: none"


class TestPoliteness:
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_requests_are_at_least_a_rates_share_of_a_second_apart(
        self, stub: Stub, concurrency: int
    ) -> None:
        walk(stub, hots(6), Manners(rate=4, concurrency=concurrency, codings=("br", "gzip")))
        sent = sorted(heard.at for heard in stub.heard)
        assert len(sent) == 12
        assert sum(stub.clock.waits) >= 11 / 4
        if concurrency == 1:
            assert {later - sooner for sooner, later in pairwise(sent)} == {0.25}

    def test_a_slow_answer_earns_no_burst(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(headers=stub.clock.sleep(60 if heard.target == "/0/" else 0) or {})
        walk(stub, hots(4), Manners(rate=4, concurrency=1, codings=("br",)))
        sent = [heard.at for heard in stub.heard]
        assert [later - sooner for sooner, later in pairwise(sent)] == [60, 0.25, 0.25]

    def test_while_one_waits_for_its_turn_no_other_does(self, clock: Clock) -> None:
        pace = _Pace(1, threading.Event(), clock, clock.sleep)
        taken: list[bool] = []

        def sleep(seconds: float) -> None:
            taken.append(pace._turn.locked())
            clock.sleep(seconds)

        pace._sleep = sleep
        pace.wait()
        pace.wait()
        assert taken == [True]

    def test_so_many_urls_are_asked_for_at_a_time_and_no_more(self, stub: Stub) -> None:
        together = threading.Barrier(3, timeout=30)
        lock, now, most = threading.Lock(), [0], [0]

        def says(heard: Heard) -> Said:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            together.wait()  # nobody is answered before three have asked
            with lock:
                now[0] -= 1
            return Said()

        stub.says = says
        report = walk(stub, hots(9), Manners(rate=1000, concurrency=3, codings=("br",)))
        assert report.outcomes == {"200": 9}
        assert most == [3]

    def test_one_at_a_time_needs_no_pool_which_a_process_that_exits_would_wait_for(self, stub: Stub) -> None:
        pools: list[str] = []
        others = threading.enumerate()  # of tests before this one

        def says(heard: Heard) -> Said:
            new = set(threading.enumerate()).difference(others)
            pools.extend(each.name for each in new if "PoolExecutor" in each.name)
            return Said()

        stub.says = says
        assert walk(stub, hots(2)).outcomes == {"200": 2}
        assert pools == []

    def test_the_codings_of_one_url_are_never_asked_for_at_once(self, stub: Stub) -> None:
        asked: set[str] = set()
        twice: list[str] = []

        def says(heard: Heard) -> Said:
            twice.extend({heard.target} & asked)
            asked.add(heard.target)
            barrier.wait()
            asked.discard(heard.target)
            return Said()

        barrier = threading.Barrier(2, timeout=30)
        stub.says = says
        walk(stub, hots(4), Manners(rate=1000, concurrency=2, codings=("br", "gzip", "zstd")))
        assert len(stub.heard) == 12
        assert twice == []

    def test_whoever_interrupts_it_ends_it_at_once(self, stub: Stub) -> None:
        def interrupt(visit: Visit) -> None:
            raise KeyboardInterrupt

        slow = Manners(rate=1 / 60, concurrency=2, codings=("br",))  # the second is due in a minute
        with pytest.raises(KeyboardInterrupt):
            warming.warm(stub.base, hots(5), slow, on_visit=interrupt)
        assert len(stub.heard) == 1


class TestRetryAfter:
    """RFC 9110 section 10.2.3."""

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"Retry-After": "7"}, 7),
            ({"Retry-After": "120"}, LONGEST_PAUSE),
            ({"Retry-After": "0"}, 1 / 1000),  # as any request at this rate
            ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
            ({"Retry-After": "soon"}, DEFAULT_PAUSE),
            ({}, DEFAULT_PAUSE),
        ],
    )
    def test_nothing_is_asked_for_until_then_and_then_the_same_again(
        self, stub: Stub, status: int, headers: dict[str, str], seconds: float
    ) -> None:
        answers = [Said(status, headers), Said(), Said()]
        stub.says = lambda heard: answers.pop(0)
        report = walk(stub, hots(2), Manners(rate=1000, concurrency=1, codings=("br",)))
        assert stub.targets == ["/0/", "/0/", "/1/"]
        assert stub.heard[1].at - stub.heard[0].at == pytest.approx(seconds)
        assert report.outcomes == {"200": 2}
        assert not report.failures

    def test_nobody_who_waits_already_goes_before_that(self, clock: Clock) -> None:
        pace = _Pace(1, threading.Event(), clock, clock.sleep)
        pace.wait()
        sleep = clock.sleep

        def pause_meanwhile(seconds: float) -> None:
            if len(clock.waits) == 0:
                pace.pause(60)
            sleep(seconds)

        pace._sleep = pause_meanwhile
        assert pace.wait()
        assert clock.now == 1_060

    def test_a_shorter_pause_does_not_end_a_longer_one(self, clock: Clock) -> None:
        pace = _Pace(1000, threading.Event(), clock, clock.sleep)
        pace.pause(60)
        pace.pause(1)
        pace.wait()
        assert clock.now == 1_060

    def test_of_pauses_that_begin_at_once_each_is_judged_by_what_the_other_left(self, clock: Clock) -> None:
        pace = _Pace(1000, threading.Event(), clock, clock.sleep)
        taken: list[bool] = []

        def now() -> float:
            taken.append(pace._pausing.locked())
            return clock()

        pace._clock = now
        pace.pause(60)
        assert taken == [True]

    def test_three_times_in_all_and_then_it_has_failed(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(503) if heard.target == "/0/" else Said()
        report = walk(stub, hots(2))
        assert stub.targets == ["/0/"] * ATTEMPTS + ["/1/"]
        assert report.failures == [Visit("/0/", "503", failed=True)]

    def test_a_server_that_wants_very_long_is_given_up_and_not_waited_for(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(429, {"Retry-After": "121"})
        report = walk(stub, hots(3))
        assert stub.targets == ["/0/"]
        assert stub.clock.now == 1_000
        assert report.outcomes == {"429": 1, NOT_ASKED: 2}
        assert report.not_asked == 2


class TestGivingUp:
    @pytest.mark.parametrize("status", [500, 403, 301])
    def test_after_failures_in_a_row_the_rest_is_not_asked_for(self, stub: Stub, status: int) -> None:
        stub.says = lambda heard: Said(status)
        report = walk(stub, hots(20))
        assert len(stub.heard) == MOST_FAILURES
        assert len(report.failures) == MOST_FAILURES
        assert report.not_asked == 20 - MOST_FAILURES

    def test_one_that_cannot_be_reached_as_well(self, stub: Stub) -> None:
        base = stub.base
        stub.stop()
        report = warming.warm(base, hots(20), PLAIN, clock=stub.clock, sleep=stub.clock.sleep)
        assert report.outcomes == {"ConnectError": 5, NOT_ASKED: 15}

    def test_an_answer_in_between_begins_the_count_anew(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(200 if heard.target in {"/4/", "/9/"} else 500)
        assert walk(stub, hots(12)).not_asked == 0

    def test_what_is_wrong_with_the_url_says_nothing_against_the_server(self, stub: Stub) -> None:
        stub.says = lambda heard: Said(404)
        report = walk(stub, hots(12))
        assert (len(report.failures), report.not_asked) == (12, 0)

    def test_refusals_of_many_at_once_are_waited_out(self, stub: Stub) -> None:
        together = threading.Barrier(8, timeout=30)
        refused: set[str] = set()

        def says(heard: Heard) -> Said:
            if heard.target in refused:
                return Said()
            together.wait()
            refused.add(heard.target)
            return Said(503, {"Retry-After": "1"})

        stub.says = says
        report = walk(stub, hots(8), Manners(rate=1000, concurrency=8, codings=("br",)))
        assert report.outcomes == {"200": 8}


class TestAfterAPurge:
    @pytest.fixture(autouse=True)
    def _hot_galleries(self, settings: Any, stub: Stub) -> None:
        settings.KEYBITS_WARM_BASE_URL = stub.address
        settings.KEYBITS_WARM_AFTER_PURGE = ["gallery:*"]

    @pytest.fixture
    def afterwards(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Afterwards:
        made = Afterwards(stub.clock, stub.clock.sleep)
        monkeypatch.setattr("keybits.warming.afterwards._afterwards", lambda process: made)
        return made

    def end(self, afterwards: Afterwards) -> None:
        if afterwards.thread is not None:
            afterwards.thread.join(30)
            assert not afterwards.thread.is_alive()

    def test_what_was_made_from_it_is_asked_for_with_every_usual_coding(
        self, stub: Stub, afterwards: Afterwards
    ) -> None:
        keep("/a/", "gallery:a")
        keep("/b/", "gallery:b")
        warming.warm_after(["gallery:a", "screenshots"])
        self.end(afterwards)
        assert stub.targets == ["/a/", "/a/"]
        assert [heard.headers["accept-encoding"] for heard in stub.heard] == list(warming.BROWSERS)

    def test_a_scope_that_no_pattern_names_warms_nothing(self, stub: Stub, afterwards: Afterwards) -> None:
        keep("/t/", "tag:t", "screenshots")
        warming.warm_after(["tag:t", "screenshots", "takedown:gallery/a"])
        assert afterwards.thread is None

    def test_without_the_setting_there_is_no_thread(self, settings: Any, afterwards: Afterwards) -> None:
        settings.KEYBITS_WARM_AFTER_PURGE = []
        warming.warm_after(["gallery:a"])
        assert afterwards.thread is None

    def test_purges_are_gathered_and_the_store_is_looked_at_once(
        self, stub: Stub, afterwards: Afterwards, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep("/a/", "gallery:a")
        keep("/b/", "gallery:b", changed=2)
        looks = self.count_looks(monkeypatch)
        all_said = threading.Event()

        def sleep(seconds: float) -> None:
            assert all_said.wait(30)
            stub.clock.sleep(seconds)

        afterwards._sleep = sleep
        for scope in ("gallery:a", "gallery:b", "gallery:a", "gallery:a"):
            warming.warm_after([scope])
        all_said.set()
        self.end(afterwards)
        assert looks == [["gallery:a", "gallery:b"]]

    def test_no_second_thread_is_begun_before_the_first_gets_its_turn(
        self, afterwards: Afterwards, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun: list[bool] = []
        waiting = SimpleNamespace(start=lambda: begun.append(True))
        monkeypatch.setattr(
            "keybits.warming.afterwards.threading", SimpleNamespace(Thread=lambda **_: waiting)
        )
        for _ in range(2):
            warming.warm_after(["gallery:a"])
        assert len(begun) == 1

    def test_one_url_is_asked_for_at_a_time_and_no_process_stays_for_it(
        self, afterwards: Afterwards, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        walks: list[Manners] = []
        walked = warming.warm

        def noted(base: str, hots: Any, manners: Manners, **others: Any) -> Report:
            walks.append(manners)
            return walked(base, hots, manners, **others)

        monkeypatch.setattr("keybits.warming.afterwards.warm", noted)
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert [manners.concurrency for manners in walks] == [1]
        assert afterwards.thread is not None
        assert afterwards.thread.daemon

    def test_what_is_purged_meanwhile_is_seen_to_by_the_same_thread(
        self, stub: Stub, afterwards: Afterwards
    ) -> None:
        keep("/a/", "gallery:a")
        keep("/b/", "gallery:b")
        threads: set[Any] = set()

        def says(heard: Heard) -> Said:
            threads.add(afterwards.thread)
            if len(stub.heard) == 1:
                warming.warm_after(["gallery:b"])
            return Said()

        stub.says = says
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert stub.targets == ["/a/", "/a/", "/b/", "/b/"]
        assert len(threads) == 1

    def test_between_two_looks_there_is_a_lull(self, stub: Stub, afterwards: Afterwards) -> None:
        again = [["gallery:a"], ["gallery:a"]]
        keep("/a/", "gallery:a")
        stub.says = lambda heard: (again and warming.warm_after(again.pop())) or Said()
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert stub.clock.waits.count(LULL) == len(stub.heard) / 2 >= 2

    def test_later_purges_have_a_thread_of_their_own(self, stub: Stub, afterwards: Afterwards) -> None:
        keep("/a/", "gallery:a")
        for _ in range(2):
            warming.warm_after(["gallery:a"])
            self.end(afterwards)
        assert len(stub.heard) == 4

    def test_it_asks_for_no_more_than_so_many_urls(
        self, stub: Stub, afterwards: Afterwards, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("keybits.warming.afterwards.MOST_AFTER_PURGE", 2)
        for number in range(4):
            keep(f"/{number}/", "gallery:a", changed=number)
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert sorted(set(stub.targets)) == ["/2/", "/3/"]

    def test_very_many_scopes_of_a_kind_wait_as_one(self, afterwards: Afterwards, monkeypatch: Any) -> None:
        looks = self.count_looks(monkeypatch)
        warming.warm_after([f"gallery:{number}" for number in range(1000)])
        self.end(afterwards)
        assert looks == [["gallery:*"]]

    def test_what_fails_once_keeps_nothing_later_from_being_warmed(
        self, stub: Stub, afterwards: Afterwards, monkeypatch: pytest.MonkeyPatch, settings: Any, caplog: Any
    ) -> None:
        def broken(most: int) -> Any:
            raise StoreError("out of reach")

        keep("/a/", "gallery:a")
        with monkeypatch.context() as patch:
            patch.setattr(get_store(), "sample", broken)
            warming.warm_after(["gallery:a"])
            self.end(afterwards)
        settings.KEYBITS_WARM_BASE_URL = ""
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert [record.message for record in caplog.records] == ["what was purged is not warmed"] * 2
        settings.KEYBITS_WARM_BASE_URL = stub.address
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert stub.targets == ["/a/", "/a/"]

    def test_requests_that_fail_are_a_warning_in_the_log(
        self, stub: Stub, afterwards: Afterwards, caplog: pytest.LogCaptureFixture
    ) -> None:
        keep("/a/", "gallery:a")
        stub.says = lambda heard: Said(500)
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert "2 500" in caplog.text

    def test_requests_that_succeed_are_none(
        self, stub: Stub, afterwards: Afterwards, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "keybits.warming.afterwards")
        keep("/a/", "gallery:a")
        warming.warm_after(["gallery:a"])
        self.end(afterwards)
        assert [record.levelname for record in caplog.records if "2 200" in record.message] == ["INFO"]

    def test_another_process_has_threads_of_its_own(self) -> None:
        assert _afterwards(1) is _afterwards(1)
        assert _afterwards(1) is not _afterwards(2)
        _afterwards.cache_clear()

    def count_looks(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        looks: list[list[str]] = []
        look = warming.stored_under

        def counted(scopes: Any) -> Any:
            looks.append(list(scopes))
            return look(scopes)

        monkeypatch.setattr("keybits.warming.afterwards.stored_under", counted)
        return looks
