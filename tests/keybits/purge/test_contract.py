"""The contract of every purger, over real connections, against a server that speaks its vendor's API."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured

from keybits.purge import (
    Order,
    PurgeError,
    Purger,
    cache_groups,
    cloudflare,
    cloudfront,
    fastly,
    varnish,
    webhook,
)

from .vendors import (
    FRESH,
    GONE,
    STALE,
    VENDORS,
    Ban,
    CacheGroups,
    Clock,
    Cloudflare,
    CloudFront,
    CloudFrontTags,
    Fastly,
    Said,
    Vendor,
    Webhook,
    Xkey,
    dripping,
    listening,
)

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once, as it takes a while; no connection here uses it."""
THOUSAND = tuple(f"picture:{number}" for number in range(1_000))
by_keys = pytest.mark.parametrize("vendor", [each for each in VENDORS if each.knows_keys], indirect=True)
by_urls = pytest.mark.parametrize("vendor", [each for each in VENDORS if each.knows_urls], indirect=True)
soft_ones = pytest.mark.parametrize("vendor", [each for each in VENDORS if each.knows_soft], indirect=True)
hard_ones = pytest.mark.parametrize(
    "vendor", [each for each in VENDORS if not each.knows_soft], indirect=True
)
with_header = pytest.mark.parametrize("vendor", [Xkey, Ban, Fastly, Cloudflare, Webhook], indirect=True)
with_secret = pytest.mark.parametrize("vendor", [each for each in VENDORS if each.secret], indirect=True)


pytestmark = pytest.mark.stack("embedded")  # a purger knows neither the database nor the store


@pytest.fixture(params=VENDORS, ids=lambda each: each.__name__)
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    with listening(request.param(Clock())) as found:
        yield found


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20, verify=PLAIN, trust_env=False) as found:
        yield found


@pytest.fixture
def purger(vendor: Vendor, client: httpx.Client) -> Purger:
    return vendor.purger(client)


def purge(vendor: Vendor, purger: Purger, *scopes: str, **members: Any) -> None:
    purger.purge(Order(scopes, **members), vendor.clock.sleep)


def failure(vendor: Vendor, purger: Purger, *scopes: str, **members: Any) -> PurgeError:
    with pytest.raises(PurgeError) as caught:
        purge(vendor, purger, *(scopes or ("picture:1",)), **members)
    return caught.value


class TestScopes:
    def test_what_is_made_from_one_is_served_fresh_no_more(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["picture:1", "galleries"])
        vendor.keep("/all", ["picture:*"])
        vendor.keep("/crowded", [f"picture:{number}" for number in range(500)])
        vendor.keep("/motley", [f"kind{number}:1" for number in range(500)] + ["picture:1"])
        purge(vendor, purger, "picture:1")
        assert FRESH not in vendor.states.values()

    def test_one_without_a_kind(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["picture:1", "galleries"])
        purge(vendor, purger, "galleries")
        assert FRESH not in vendor.states.values()

    def test_a_whole_kind(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["picture:1"])
        vendor.keep("/2", ["picture:2", "tag:3"])
        purge(vendor, purger, "picture:*")
        assert FRESH not in vendor.states.values()

    @pytest.mark.parametrize("soft", [True, False])
    def test_a_thousand_at_once(self, vendor: Vendor, purger: Purger, soft: bool) -> None:
        for number, scope in enumerate(THOUSAND):
            vendor.keep(f"/{number}", [scope])
        purge(vendor, purger, *THOUSAND, soft=soft)
        assert FRESH not in vendor.states.values()

    @by_keys
    def test_what_is_made_from_others_stays(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/2", ["picture:2", "galleries"])
        vendor.keep("/1", ["tag:1"])
        purge(vendor, purger, "picture:1", *(f"gallery:{number}" for number in range(1_000)))
        assert vendor.states == {"/1": FRESH, "/2": FRESH}

    def test_again_and_again_does_it_again(self, vendor: Vendor, purger: Purger) -> None:
        for attempt in range(40):
            vendor.keep("/1", ["picture:1"])
            purge(vendor, purger, "picture:1")
            assert vendor.states["/1"] != FRESH, attempt

    def test_an_order_of_nothing_sends_nothing(self, vendor: Vendor, purger: Purger) -> None:
        purge(vendor, purger)
        assert not vendor.heard

    def test_no_name_of_a_scope_is_sent(self, vendor: Vendor, purger: Purger) -> None:
        purge(vendor, purger, "picture:holiday-in-private", "wedding:*", id="1")
        heard = b"".join(heard.lines for heard in vendor.heard)
        assert heard
        assert not any(name in heard for name in (b"holiday-in-private", b"wedding", b"picture"))


class TestSoftAndHard:
    @soft_ones
    def test_a_soft_purge_leaves_something_to_show_in_need(self, vendor: Vendor, purger: Purger) -> None:
        url = vendor.keep("/2?page=3", ["picture:2"])
        vendor.keep("/1", ["picture:1"])
        vendor.keep("/3", ["tag:3"])
        purge(vendor, purger, "picture:1", urls=(url,))
        assert vendor.states == {"/1": STALE, "/2?page=3": STALE, "/3": FRESH}

    @soft_ones
    def test_of_everything_too(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["picture:1"])
        purge(vendor, purger, everything=True)
        assert vendor.states == {"/1": STALE}

    def test_a_hard_purge_removes(self, vendor: Vendor, purger: Purger) -> None:
        url = vendor.keep("/2?page=3", ["picture:2"])
        vendor.keep("/1", ["picture:1"])
        purge(vendor, purger, "picture:1", urls=(url,), soft=False)
        assert set(vendor.states.values()) == {GONE}

    def test_of_everything(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["picture:1"])
        vendor.keep("/2", [])
        purge(vendor, purger, everything=True, soft=False)
        assert set(vendor.states.values()) == {GONE}

    @pytest.mark.parametrize(
        "vendor", [Fastly, Cloudflare, CloudFront, CloudFrontTags, Webhook], indirect=True
    )
    def test_of_what_has_no_keys_too(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/static", [])
        vendor.tags["/static"] = set()
        purge(vendor, purger, everything=True, soft=False)
        assert vendor.states == {"/static": GONE}

    @hard_ones
    def test_who_knows_no_soft_one_removes(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["picture:1"])
        purge(vendor, purger, "picture:1")
        assert vendor.states == {"/1": GONE}


class TestUrls:
    def test_what_is_at_them_is_served_fresh_no_more(self, vendor: Vendor, purger: Purger) -> None:
        urls = [vendor.keep(f"/api/v1/pictures?page={number}&q=%C3%A9", ["x:1"]) for number in range(250)]
        purge(vendor, purger, urls=tuple(urls))
        assert FRESH not in vendor.states.values()

    @by_urls
    def test_what_is_elsewhere_stays(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["x:1"])
        purge(vendor, purger, urls=(vendor.keep("/1?page=2", ["x:1"]),))
        assert vendor.states["/1"] == FRESH

    @pytest.mark.parametrize("vendor", [Xkey, Ban, Fastly, CloudFront], indirect=True)
    @pytest.mark.parametrize("url", ["/1", "gallery.example/1", "http://", "http://a:b/", ""])
    def test_one_that_is_not_absolute_is_refused(self, vendor: Vendor, purger: Purger, url: str) -> None:
        assert failure(vendor, purger, urls=(url,)).permanent


class TestLimits:
    @pytest.mark.parametrize(
        ("vendor", "module", "limit"),
        [
            (Xkey, varnish, "KEYS"),
            (Ban, varnish, "KEYS"),
            (Fastly, fastly, "KEYS"),
            (Cloudflare, cloudflare, "MOST"),
            (CacheGroups, cache_groups, "GROUPS"),
        ],
        indirect=["vendor"],
    )
    def test_a_thousand_keys_in_one_request_would_be_refused(
        self, vendor: Vendor, purger: Purger, module: ModuleType, limit: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, limit, 10_000)
        assert failure(vendor, purger, *THOUSAND).permanent

    @pytest.mark.parametrize(
        ("vendor", "module", "limit"),
        [(CloudFrontTags, cloudfront, "ITEMS"), (Webhook, webhook, "KEYS")],
        indirect=["vendor"],
    )
    def test_so_would_four_thousand(
        self, vendor: Vendor, purger: Purger, module: ModuleType, limit: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scopes = [f"picture:{number}" for number in range(4_000)]
        purge(vendor, purger, *scopes)
        monkeypatch.setattr(module, limit, 10_000)
        assert failure(vendor, purger, *scopes).permanent

    @pytest.mark.parametrize("vendor", [Cloudflare, CloudFront, CloudFrontTags], indirect=True)
    def test_without_a_pace_there_would_be_too_many(self, vendor: Vendor, purger: Purger) -> None:
        many = Order(tuple(f"picture:{number}" for number in range(3_000)))
        for _ in range(3):
            purger.purge(many, vendor.clock.sleep)
        with pytest.raises(PurgeError, match=r"429|TooMany") as caught:
            self.purge_hastily(purger, many)
        assert not caught.value.permanent

    def purge_hastily(self, purger: Purger, order: Order) -> None:
        for _ in range(30):
            purger.purge(order, lambda seconds: None)

    @pytest.mark.parametrize("vendor", [Cloudflare], indirect=True)
    def test_what_a_bucket_holds_is_not_waited_for(self, vendor: Vendor, purger: Purger) -> None:
        before = vendor.clock.now
        for _ in range(25):
            purge(vendor, purger, "picture:1")
        assert vendor.clock.now == before
        purge(vendor, purger, "picture:1")
        assert vendor.clock.now > before

    def test_a_part_of_an_order_is_one_request(self, vendor: Vendor, purger: Purger) -> None:
        """So of what was acknowledged nothing has to be told again."""
        order = Order(THOUSAND, soft=False, id="1")
        parts = order.split(purger.at_once)
        assert [len(list(purger.requests(part))) for part in parts] == [1] * len(parts)
        assert {key for part in parts for key in part.keys} == set(order.keys)
        assert {(part.soft, part.id) for part in parts} == {(False, "1")}

    def test_what_is_no_order_of_scopes_alone_is_not_split(self, vendor: Vendor, purger: Purger) -> None:
        for order in (Order(THOUSAND, everything=True), Order(THOUSAND, urls=("http://a/",)), Order()):
            assert order.split(purger.at_once) == [order]


class TestRefusals:
    @with_secret
    def test_a_wrong_secret(self, vendor: Vendor, client: httpx.Client) -> None:
        wrong = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmcx"
        vendor.keep("/1", ["picture:1"])
        error = failure(vendor, vendor.purger(client, secret=wrong))
        assert error.permanent
        assert vendor.states == {"/1": FRESH}

    @pytest.mark.parametrize("vendor", [CacheGroups], indirect=True)
    def test_a_wrong_secret_key(self, vendor: Vendor, purger: Purger, settings: Any) -> None:
        order = Order(("picture:1",))
        (request,) = purger.requests(order)
        settings.SECRET_KEY = "another"
        assert failure(vendor, Sent(purger, [request])).permanent

    def test_429_says_when_to_come_back(self, vendor: Vendor, purger: Purger) -> None:
        vendor.next = [Said(429, headers={"Retry-After": "7"})]
        error = failure(vendor, purger)
        assert (error.retry_after, error.permanent) == (7, False)

    def test_or_at_what_time(self, vendor: Vendor, purger: Purger) -> None:
        later = {"Date": "Sun, 06 Nov 2094 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 2094 08:51:00 GMT"}
        vendor.next = [Said(503, headers=later)]
        assert failure(vendor, purger).retry_after == 83

    @pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "²", "Sun, 06 Nov 1994 25:61:00 GMT"])
    def test_what_cannot_be_read_says_nothing(self, vendor: Vendor, purger: Purger, value: str) -> None:
        vendor.next = [Said(429, headers={"Retry-After": value})]
        assert failure(vendor, purger).retry_after is None

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_not_permanent(self, vendor: Vendor, purger: Purger, status: int) -> None:
        vendor.next = [Said(status)]
        assert not failure(vendor, purger).permanent

    @pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 405, 410, 413, 422, 431])
    def test_what_will_not_pass_is(self, vendor: Vendor, purger: Purger, status: int) -> None:
        vendor.next = [Said(status, headers={"Location": "/elsewhere"})]
        assert failure(vendor, purger).permanent
        assert len(vendor.heard) == 1

    def test_one_refusal_among_many_requests_is_a_refusal(self, vendor: Vendor, purger: Purger) -> None:
        purge(vendor, purger, *THOUSAND)
        requests = len(vendor.heard)
        vendor.next = [vendor.answer(vendor.heard[0]), Said(500)] if requests > 1 else [Said(500)]
        assert not failure(vendor, purger, *THOUSAND).permanent

    @pytest.mark.parametrize("vendor", [Fastly], indirect=True)
    def test_fastly_says_when_a_rate_is_whole_again(self, vendor: Vendor, purger: Purger) -> None:
        vendor.next = [Said(429, headers={"Fastly-RateLimit-Reset": "9999999999"})]
        error = failure(vendor, purger)
        assert error.retry_after
        assert error.retry_after > 1_000_000_000

    @pytest.mark.parametrize("vendor", [Cloudflare], indirect=True)
    @pytest.mark.parametrize(
        "body", [{"success": False, "errors": [{"code": 1}]}, {"success": "true"}, [], None, "OK"]
    )
    def test_a_200_of_cloudflare_may_be_a_failure(self, vendor: Vendor, purger: Purger, body: Any) -> None:
        vendor.next = [Said(200, body)]
        assert not failure(vendor, purger).permanent

    @pytest.mark.parametrize("vendor", [CacheGroups], indirect=True)
    def test_a_page_of_the_origin_is_no_answer_of_the_view(
        self, vendor: Vendor, client: httpx.Client
    ) -> None:
        failure(vendor, vendor.purger(client, url=f"{vendor.address}/elsewhere"))

    @pytest.mark.parametrize(
        ("vendor", "said", "code"),
        [
            (Cloudflare, Said(403, {"success": False, "errors": [{"code": 9109, "message": "x"}]}), "9109"),
            (
                CloudFront,
                Said(400, "<ErrorResponse><Error><Code>TooMany</Code></Error></ErrorResponse>"),
                "TooMany",
            ),
        ],
        indirect=["vendor"],
    )
    def test_the_code_of_the_vendor_is_told(
        self, vendor: Vendor, purger: Purger, said: Said, code: str
    ) -> None:
        vendor.next = [said]
        assert code in str(failure(vendor, purger))

    @pytest.mark.parametrize("vendor", [Cloudflare], indirect=True)
    def test_no_text_is_told_for_one(self, vendor: Vendor, purger: Purger) -> None:
        """It may repeat the request."""
        vendor.next = [Said(400, {"errors": [{"code": "Bearer s3cret"}, {"code": 6003}, "s3cret", {}]})]
        assert str(failure(vendor, purger)).endswith(" answered 400 6003")


class Sent(Purger):
    """Another's requests, sent later than they were made."""

    def __init__(self, purger: Purger, requests: list[httpx.Request]) -> None:
        super().__init__(purger.client)
        self.held = requests

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        yield from self.held


class Stream:
    """A connection as httpcore has it."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, float | None]] = []

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.heard.append((max_bytes, timeout))
        return b""


class TestConnections:
    def test_nobody_listens(self, vendor: Vendor, client: httpx.Client) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            vendor.address = f"http://127.0.0.1:{closed.getsockname()[1]}"
            error = failure(vendor, vendor.purger(client))
        assert "ConnectError" in str(error)
        assert not error.permanent

    def test_nobody_answers(self, vendor: Vendor) -> None:
        vendor.next = [None]
        with httpx.Client(timeout=0.2, verify=PLAIN, trust_env=False) as impatient:
            error = failure(vendor, vendor.purger(impatient))
        assert "ReadTimeout" in str(error)
        assert not error.permanent

    @pytest.mark.parametrize(
        "begins",
        [
            b"HTTP/1.1 200 OK\r\nX: ",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
        ],
        ids=["header", "body", "chunk"],
    )
    @pytest.mark.parametrize("answered", [0, 1], ids=["at once", "on a connection that is kept"])
    def test_an_answer_that_does_not_end_is_not_waited_for(
        self, client: httpx.Client, begins: bytes, answered: int
    ) -> None:
        """Each byte of it comes in time."""
        vendor = Xkey(Clock())
        with dripping(vendor, begins, answered):
            purger = vendor.purger(client)
            for _ in range(answered):
                purge(vendor, purger, "picture:1")
            error = failure(vendor, purger)
        assert (str(error).endswith("ReadTimeout"), error.permanent) == (True, False)

    @pytest.mark.parametrize(
        ("given", "kept"), [(None, [30] * 4), (99, [30] * 4), (httpx.Timeout(None, read=5), [5, 30, 30, 30])]
    )
    def test_no_phase_of_a_request_may_take_longer_whatever_its_purger_allows(
        self, client: httpx.Client, given: Any, kept: list[float]
    ) -> None:
        sent: list[httpx.Request] = []

        class Patient(Purger):
            def requests(self, order: Order) -> Iterator[httpx.Request]:
                yield self.client.build_request("PURGE", f"{vendor.address}/", timeout=given)

            def acknowledged(self, response: httpx.Response) -> bool:
                sent.append(response.request)
                return True

        with listening(Xkey(Clock())) as vendor:
            Patient(client).purge(Order(scopes=("picture:1",)))
        times = sent[0].extensions["timeout"]
        assert [times[phase] for phase in ("read", "connect", "write", "pool")] == kept

    def test_a_request_made_without_its_client_has_the_time_outs_of_that(self, client: httpx.Client) -> None:
        sent: list[httpx.Request] = []

        class Plain(Purger):
            def requests(self, order: Order) -> Iterator[httpx.Request]:
                yield httpx.Request("PURGE", f"{vendor.address}/")

            def acknowledged(self, response: httpx.Response) -> bool:
                sent.append(response.request)
                return True

        client.timeout = httpx.Timeout(7, read=None)
        with listening(Xkey(Clock())) as vendor:
            Plain(client).purge(Order(scopes=("picture:1",)))
        assert sent[0].extensions["timeout"] == {"connect": 7, "read": 30, "write": 7, "pool": 7}

    def test_a_socks_proxy_may_be_in_between(self) -> None:
        """There httpcore names the parameter of its reads."""
        stream, vendor = Stream(), Xkey(Clock())
        vendor.address = "http://varnish.example"

        def answer(request: httpx.Request) -> httpx.Response:
            request.extensions["trace"]("socks.connect_tcp.complete", {"return_value": stream})
            return httpx.Response(200, content=stream.read(max_bytes=4096) + stream.read(4096, 20))

        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            purge(vendor, vendor.purger(client), "picture:1")
        assert stream.heard == [(4096, 30), (4096, 20)]

    def test_a_cache_that_has_come_back_is_told(self, vendor: Vendor, purger: Purger) -> None:
        vendor.keep("/1", ["picture:1"])
        vendor.next = [Said(503)]
        failure(vendor, purger, id="7")
        purge(vendor, purger, "picture:1", id="7")
        assert vendor.states["/1"] != FRESH


class TestServersOfVarnish:
    @pytest.fixture
    def vendors(self) -> Iterator[list[Vendor]]:
        clock = Clock()
        with listening(Xkey(clock)) as one, listening(Xkey(clock)) as other:
            yield [one, other]

    def purger(self, vendors: list[Vendor], client: httpx.Client) -> Purger:
        return vendors[0].purger(client, servers=[each.address for each in vendors])

    def test_each_is_told(self, vendors: list[Vendor], client: httpx.Client) -> None:
        urls = [each.keep("/2", ["tag:2"]) for each in vendors if each.keep("/1", ["picture:1"])]
        purge(vendors[0], self.purger(vendors, client), "picture:1", urls=tuple(urls[:1]))
        assert [each.states for each in vendors] == [{"/1": STALE, "/2": STALE}] * 2

    @pytest.mark.parametrize("ill", [0, 1])
    def test_one_that_fails_keeps_no_other_from_being_told(
        self, vendors: list[Vendor], client: httpx.Client, ill: int
    ) -> None:
        for each in vendors:
            each.keep("/1", ["picture:1"])
        vendors[ill].next = [Said(503, headers={"Retry-After": "3"})]
        error = failure(vendors[0], self.purger(vendors, client), *THOUSAND)
        assert (error.retry_after, error.permanent) == (3, False)
        assert vendors[1 - ill].states == {"/1": STALE}
        assert len(vendors[ill].heard) == 1

    def test_what_one_refuses_and_another_puts_off_is_tried_again(
        self, vendors: list[Vendor], client: httpx.Client
    ) -> None:
        vendors[0].next = [Said(403, headers={"Retry-After": "3"})]
        vendors[1].next = [Said(503, headers={"Retry-After": "9"})]
        error = failure(vendors[0], self.purger(vendors, client))
        assert (error.retry_after, error.permanent) == (9, False)
        assert "403" in str(error)
        assert "503" in str(error)


class TestPathsOfCloudFront:
    @pytest.mark.parametrize("vendor", [CloudFront], indirect=True)
    def test_a_function_names_them(self, vendor: Vendor, client: httpx.Client) -> None:
        for path in ("/pictures/1", "/pictures/1?x=1", "/pictures/2"):
            vendor.keep(path, [])
        purge(vendor, vendor.purger(client, paths=f"{__name__}.paths"), "picture:1", "galleries")
        assert vendor.states == {"/pictures/1": GONE, "/pictures/1?x=1": GONE, "/pictures/2": FRESH}

    @pytest.mark.parametrize("vendor", [CloudFront], indirect=True)
    def test_more_wildcards_than_there_may_be_are_everything(
        self, vendor: Vendor, client: httpx.Client
    ) -> None:
        vendor.keep("/", [])
        purge(vendor, vendor.purger(client, paths=f"{__name__}.paths"), *THOUSAND)
        assert vendor.states == {"/": GONE}

    @pytest.mark.parametrize("vendor", [CloudFront], indirect=True)
    def test_as_many_as_there_may_be_are_no_more_than_themselves(
        self, vendor: Vendor, client: httpx.Client
    ) -> None:
        vendor.keep("/", [])
        purge(vendor, vendor.purger(client, paths=f"{__name__}.paths"), *THOUSAND[: cloudfront.WILDCARDS])
        assert vendor.states == {"/": FRESH}

    @pytest.mark.parametrize("vendor", [CloudFront], indirect=True)
    def test_an_order_is_not_split_so_that_all_its_wildcards_are_counted(self, purger: Purger) -> None:
        assert Order(THOUSAND).split(purger.at_once) == [Order(THOUSAND)]

    @pytest.mark.parametrize("vendor", [CloudFront], indirect=True)
    def test_what_means_something_in_xml_is_a_path_like_any_other(
        self, vendor: Vendor, purger: Purger
    ) -> None:
        purge(vendor, purger, urls=(vendor.keep("/?a=1&b=2", []),))
        assert vendor.states == {"/?a=1&b=2": GONE}


def paths(scopes: tuple[str, ...]) -> list[str]:
    return [f"/pictures/{scope.partition(':')[2]}*" for scope in scopes if ":" in scope]


class TestIds:
    @pytest.mark.parametrize("vendor", [CloudFront, CloudFrontTags, Webhook], indirect=True)
    def test_an_order_that_is_tried_again_is_the_same_to_the_vendor(
        self, vendor: Vendor, purger: Purger
    ) -> None:
        for identity in ("a", "a", "b", "", ""):
            purge(vendor, purger, "picture:1", id=identity)
        assert len({self.identity(heard.lines) for heard in vendor.heard}) == 4

    def identity(self, lines: bytes) -> bytes:
        for line in lines.replace(b"<CallerReference>", b"\nwebhook-id: ").splitlines():
            if line.lower().startswith(b"webhook-id: "):
                return line
        raise AssertionError


class TestSecrets:
    @with_secret
    @pytest.mark.parametrize("said", [Said(403), Said(200, "ok"), Said(500), None])
    def test_are_in_no_error_no_log_and_no_repr(
        self, vendor: Vendor, said: Said | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        vendor.next = [said]
        with (
            httpx.Client(timeout=0.2, verify=PLAIN, trust_env=False) as client,
            caplog.at_level(logging.DEBUG),
        ):
            purger = vendor.purger(client)
            shown = [repr(purger), str(purger)]
            try:
                purge(vendor, purger, "picture:1")
            except PurgeError as error:
                shown += [repr(error), *traceback.format_exception(error)]
        secret = vendor.secret.removeprefix("whsec_")
        assert secret not in "".join(shown)
        assert secret not in caplog.text

    @with_header
    @pytest.mark.parametrize("secret", ["two\r\nlines-s3cret", "ünïcode-s3cret", "spa ce-s3cret"])
    def test_one_that_no_header_can_hold_is_refused_unseen(
        self, vendor: Vendor, client: httpx.Client, secret: str
    ) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            vendor.purger(client, secret=secret)
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))

    def test_none_is_taken_in_a_url(self, vendor: Vendor, client: httpx.Client) -> None:
        vendor.address = vendor.address.replace("http://", "http://user:s3cret@")
        with pytest.raises(ImproperlyConfigured, match="URL") as caught:
            vendor.purger(client)
        assert "s3cret" not in str(caught.value)


class TestOptions:
    def test_one_that_there_is_not(self, vendor: Vendor, client: httpx.Client) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"Purger has no option 'tokem'\. Its options are \w+"):
            vendor.purger(client, tokem="x")

    def test_one_that_is_missing(self, vendor: Vendor, purger: Purger, client: httpx.Client) -> None:
        with pytest.raises(ImproperlyConfigured, match=rf"{type(purger).__name__} needs the option '\w+'"):
            type(purger)(client)

    def test_the_clock_is_none(self, vendor: Vendor, purger: Purger, client: httpx.Client) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            type(purger)(client)
        assert "clock" not in str(caught.value)

    @pytest.mark.parametrize(
        ("vendor", "options", "named"),
        [
            (Xkey, {"servers": []}, "servers"),
            (Xkey, {"servers": "http://varnish"}, "servers"),
            (Xkey, {"servers": ["varnish:6081"]}, "servers"),
            (Xkey, {"servers": 6081}, "servers"),
            (Fastly, {"service": ""}, "service"),
            (Fastly, {"api": "ftp://x"}, "api"),
            *((Fastly, {"api": f"https://x:{port}"}, "api") for port in (0, 65_536)),
            (Cloudflare, {"plan": "gold"}, "plan"),
            (Cloudflare, {"plan": ["free"]}, "plan"),
            (Cloudflare, {"zone": None}, "zone"),
            (CloudFront, {"paths": "no.such.function"}, "paths"),
            (CloudFront, {"paths": "django.VERSION"}, "paths"),
            (CloudFront, {"paths": ["/*"]}, "paths"),
            (CloudFrontTags, {"paths": f"{__name__}.paths"}, "paths"),
            (Webhook, {"secret": "c2hvcnQ="}, "secret"),
            (Webhook, {"secret": "whsec_!" + "A" * 40}, "secret"),
            (Webhook, {"url": "/hook"}, "url"),
            (Webhook, {"url": "http://a:b/"}, "url"),
            (Webhook, {"url": "http:///hook"}, "url"),
            (Webhook, {"fields": "xkey"}, "fields"),
            (Webhook, {"fields": ["X-Keys"]}, "fields"),
            (Webhook, {"fields": None}, "fields"),
            (Webhook, {"holds_by": ["a b"]}, "holds_by"),
            (Webhook, {"holds_by": True}, "holds_by"),
        ],
        indirect=["vendor"],
    )
    def test_one_that_cannot_be_used_is_named(
        self, vendor: Vendor, options: dict[str, Any], named: str, client: httpx.Client
    ) -> None:
        with pytest.raises(ImproperlyConfigured, match=rf"Purger needs '{named}' to be "):
            vendor.purger(client, **options)

    @pytest.mark.parametrize("vendor", [CloudFront], indirect=True)
    def test_botocore_is_asked_for_where_it_is_missing(
        self, vendor: Vendor, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cloudfront, "session", None)
        with pytest.raises(ImproperlyConfigured, match="botocore: the extra `cloudfront`"):
            vendor.purger(client)

    @pytest.mark.parametrize("vendor", [CloudFront], indirect=True)
    def test_credentials_are_asked_for_where_there_are_none(
        self, vendor: Vendor, purger: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(purger._session, "get_credentials", lambda: None)
        assert failure(vendor, purger).permanent
        assert not vendor.heard

    @pytest.mark.parametrize("vendor", [Webhook], indirect=True)
    @pytest.mark.parametrize(("size", "fits"), [(23, False), (24, True), (64, True), (65, False)])
    def test_a_secret_has_the_length_that_standard_webhooks_asks_for(
        self, vendor: Vendor, client: httpx.Client, size: int, fits: bool
    ) -> None:
        secret = base64.b64encode(bytes(size)).decode()
        with nullcontext() if fits else pytest.raises(ImproperlyConfigured, match="24 to 64"):
            vendor.purger(client, secret=secret)


class TestFields:
    @pytest.mark.parametrize(
        ("vendor", "fields", "holds_by"),
        [
            (Xkey, ("xkey",), ("Surrogate-Control",)),
            (Ban, ("xkey",), ("Surrogate-Control",)),
            (Fastly, ("Surrogate-Key",), ("Surrogate-Control",)),
            (Cloudflare, ("Cache-Tag",), ("Cloudflare-CDN-Cache-Control",)),
            (CloudFront, (), ()),
            (CloudFrontTags, ("Cache-Tag",), ()),
            (Webhook, ("Surrogate-Key",), ("Surrogate-Control",)),
            (CacheGroups, ("Cache-Groups",), ("CDN-Cache-Control",)),
        ],
        indirect=["vendor"],
    )
    def test_are_the_vendors(
        self, vendor: Vendor, purger: Purger, fields: tuple[str, ...], holds_by: tuple[str, ...]
    ) -> None:
        assert (purger.fields, purger.holds_by) == (fields, holds_by)
        assert purger.most_keys == vendor.most_keys

    @pytest.mark.parametrize("vendor", [Webhook], indirect=True)
    def test_a_webhook_is_told_them(self, vendor: Vendor, client: httpx.Client) -> None:
        purger = vendor.purger(client, fields=["Cache-Tag"], holds_by=[])
        assert (purger.fields, purger.holds_by) == (("Cache-Tag",), ())
