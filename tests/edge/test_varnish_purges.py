"""What `docs/deploy/varnish.vcl` does when it is told of a change, and while the origin fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from edge.origin import PATIENCE, TO_EVERYBODY, Origin, held
from edge.programs import Varnish, client, eventually

pytestmark = pytest.mark.stack("embedded")

PAGE = "/api/v1/tags/"
OTHER = "/api/v1/galleries/"


@dataclass
class How:
    """One way to purge what is tagged `key`, or what `PAGE` is."""

    method: str
    path: str
    headers: dict[str, str]
    soft: bool

    def __call__(self, edge: httpx.Client) -> None:
        answer = edge.request(self.method, self.path, headers=self.headers)
        assert answer.status_code == 200, answer.text


WAYS = {
    "xkey": How("PURGE", "/", {"xkey-purge": "nothing key"}, soft=False),
    "xkey, softly": How("PURGE", "/", {"xkey-softpurge": "nothing key"}, soft=True),
    "url": How("PURGE", PAGE, {}, soft=False),
    "url, softly": How("PURGE", PAGE, {"x-soft": "1"}, soft=True),
    "ban": How("BAN", "/", {"xkey-ban": "nothing|key"}, soft=False),
}
SOFT = {name: how for name, how in WAYS.items() if how.soft}
HARD = {name: how for name, how in WAYS.items() if not how.soft}
every_way = pytest.mark.parametrize("purge", WAYS.values(), ids=WAYS)
every_soft_way = pytest.mark.parametrize("purge", SOFT.values(), ids=SOFT)
every_hard_way = pytest.mark.parametrize("purge", HARD.values(), ids=HARD)


class TestPurges:
    """What was purged is never shown again while the origin answers; what was not, stays."""

    @every_way
    def test_the_next_answer_is_the_new_one(self, edge: httpx.Client, origin: Origin, purge: How) -> None:
        origin.answer(PAGE, "old", held("some key"))
        edge.get(PAGE)
        origin.answer(PAGE, "new", held("some key"))
        assert edge.get(PAGE).text == "old"
        purge(edge)
        assert [edge.get(PAGE).text for _ in range(3)] == ["new"] * 3
        assert len(origin.requests(PAGE)) == 2

    @every_way
    def test_nothing_else_goes(self, edge: httpx.Client, origin: Origin, purge: How) -> None:
        for number, keys in enumerate(("some", "", "keyed", "monkey", "ke y")):
            origin.answer(f"{OTHER}?a={number}", "one", held(keys))
            edge.get(f"{OTHER}?a={number}")
        asked = len(origin.asked)
        purge(edge)
        for target in {each.target for each in origin.asked}:
            assert edge.get(target).headers["cache-status"].startswith("varnish; hit"), target
        assert len(origin.asked) == asked

    @every_way
    def test_every_variant_goes(self, edge: httpx.Client, origin: Origin, purge: How) -> None:
        variants: list[dict[str, str]] = [{}, {"Accept-Encoding": "br"}, {"X-Forwarded-Proto": "https"}]
        for body in ("old", "new"):
            origin.answer(PAGE, body, held("key"))
            assert [edge.get(PAGE, headers=variant).text for variant in variants] == [body] * 3
            purge(edge)

    @every_soft_way
    def test_what_has_not_changed_costs_a_304(self, edge: httpx.Client, origin: Origin, purge: How) -> None:
        origin.answer(PAGE, "one", held("key"))
        for _ in range(3):
            assert edge.get(PAGE).text == "one"
            purge(edge)
        answer = edge.get(PAGE)
        assert origin.statuses(PAGE) == [200, 304, 304, 304]
        assert answer.headers["cache-status"] == "varnish; fwd=stale; fwd-status=304; stored"
        assert edge.get(PAGE).headers["cache-status"].startswith("varnish; hit")

    @every_soft_way
    def test_so_does_what_may_not_be_shown_stale(
        self, edge: httpx.Client, origin: Origin, purge: How
    ) -> None:
        origin.answer(PAGE, "one", held("key", "max-age=86400"))
        edge.get(PAGE)
        purge(edge)
        edge.get(PAGE)
        assert origin.statuses(PAGE) == [200, 304]

    @every_soft_way
    def test_so_does_what_could_not_be_held_before(
        self, edge: httpx.Client, origin: Origin, purge: How
    ) -> None:
        origin.answer(PAGE, "nothing", {"Cache-Control": "private, no-store"}, 404)
        edge.get(PAGE)
        origin.answer(PAGE, "one", held("key"))
        edge.get(PAGE)
        purge(edge)
        edge.get(PAGE)
        assert origin.statuses(PAGE) == [404, 200, 304]

    @every_soft_way
    @pytest.mark.parametrize("vary", ["Accept-Encoding", "Origin", ""])
    def test_what_is_held_does_not_grow_however_often_it_was_found_unchanged(
        self, edge: httpx.Client, origin: Origin, varnish: Varnish, purge: How, vary: str
    ) -> None:
        """A 304 without a field leaves what is held as it is: with what was added to it the last time."""
        origin.answer(PAGE, "one", held("key", Vary=vary), terse=True)
        first = edge.get(PAGE)
        for _ in range(4):
            purge(edge)
            assert edge.get(PAGE).headers.get("vary") == first.headers.get("vary")
        for grown in ("xkey ~ fetched-.*fetched-", "xkey !~ ^key.fetched-", "vary ~ Proto.*Proto"):
            varnish.admin("ban", f"obj.http.{grown}")
        assert edge.get(PAGE).headers["cache-status"].startswith("varnish; hit")
        assert origin.statuses(PAGE) == [200, 304, 304, 304, 304]

    @every_hard_way
    def test_a_hard_purge_leaves_nothing_to_show_and_nothing_to_ask_with(
        self, edge: httpx.Client, origin: Origin, purge: How
    ) -> None:
        origin.answer(PAGE, "one", held("key"))
        edge.get(PAGE)
        purge(edge)
        edge.get(PAGE)
        assert origin.statuses(PAGE) == [200, 200]
        purge(edge)
        origin.down()
        assert edge.get(PAGE).status_code == 503

    def test_keys_that_came_with_a_304_count(self, edge: httpx.Client, origin: Origin) -> None:
        for keys in ("first", "second"):
            origin.answer(PAGE, "one", held(keys))
            edge.request("PURGE", "/", headers={"xkey-softpurge": "first"})
            edge.get(PAGE)
        asked = len(origin.asked)
        edge.request("PURGE", "/", headers={"xkey-softpurge": "first"})
        edge.get(PAGE)
        assert len(origin.asked) == asked
        edge.request("PURGE", "/", headers={"xkey-softpurge": "second"})
        edge.get(PAGE)
        assert len(origin.asked) == asked + 1

    def test_as_many_keys_as_the_purger_sends_are_purged(self, edge: httpx.Client, origin: Origin) -> None:
        keys = [f"{number:012}" for number in range(512)]
        origin.answer(PAGE, "one", held(" ".join(keys[-50:])))
        for headers in ({"xkey-softpurge": " ".join(keys)}, {"xkey-purge": " ".join(keys)}):
            edge.get(PAGE)
            assert edge.request("PURGE", "/", headers=headers).text != "Purged 0\n"
        assert edge.request("BAN", "/", headers={"xkey-ban": "|".join(keys)}).status_code == 200

    def test_a_purged_url_may_be_spelt_otherwise(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(f"{PAGE}?a=1&b=2", "one", held())
        edge.get(f"{PAGE}?a=1&b=2")
        edge.request("PURGE", f"{PAGE}?b=2&utm_source=x&a=1")
        edge.get(f"{PAGE}?a=1&b=2")
        assert len(origin.asked) == 2


class TestWhoMayPurge:
    """Whoever may purge may make the origin work."""

    @pytest.mark.parametrize("purge", WAYS.values(), ids=WAYS)
    def test_not_who_comes_through_a_proxy(self, edge: httpx.Client, origin: Origin, purge: How) -> None:
        headers = purge.headers | {"X-Forwarded-For": "203.0.113.1"}
        assert edge.request(purge.method, purge.path, headers=headers).status_code == 403

    def test_not_who_is_elsewhere_who_is_not_believed_to_end_tls_either(
        self, origin: Origin, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        varnish = Varnish(tmp_path_factory.mktemp("elsewhere"), origin.port)
        text = varnish.vcl.read_text()
        varnish.vcl.write_text(text.replace('    "127.0.0.1"; # yours', '    "192.0.2.1"; # yours'))
        with started(varnish) as edge:
            assert edge.request("PURGE", "/", headers={"xkey-purge": "key"}).status_code == 403
            edge.get(PAGE, headers={"X-Forwarded-Proto": "https"})
            assert origin.asked[0].headers["X-Forwarded-Proto"] == "http"

    def test_not_who_does_not_know_the_token(
        self,
        origin: Origin,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("VARNISH_PURGE_TOKEN", "secret")
        with started(Varnish(tmp_path_factory.mktemp("token"), origin.port)) as edge:
            for token, status in (("secret", 200), ("guess", 403), ("", 403)):
                headers = {"xkey-purge": "key", "x-purge-token": token}
                assert edge.request("PURGE", "/", headers=headers).status_code == status

    @pytest.mark.parametrize("ban", ["", "a b", "a|", ".*", 'a" || obj.status != "0'])
    def test_a_ban_is_of_keys_alone(self, edge: httpx.Client, ban: str) -> None:
        assert edge.request("BAN", "/", headers={"xkey-ban": ban}).status_code == 400


class TestPurgesDuringAFetch:
    """A purge finds what is in the cache. What the origin is working on is not yet, and may be from before."""

    @every_way
    def test_what_was_asked_for_before_a_purge_is_not_held_after_it(
        self, edge: httpx.Client, origin: Origin, purge: How
    ) -> None:
        origin.answer(PAGE, "old", held("key"))
        with ThreadPoolExecutor() as pool, origin.slow(PAGE) as gate:
            first = pool.submit(edge.get, PAGE)
            gate.wait()
            origin.answer(PAGE, "new", held("key"))
            purge(edge)
            gate.open.set()
            first.result()
        assert edge.get(PAGE).text == "new"

    @every_way
    def test_who_asked_after_the_purge_and_waited_gets_the_new_one(
        self, edge: httpx.Client, origin: Origin, varnish: Varnish, purge: How
    ) -> None:
        origin.answer(PAGE, "old", held("key"))
        with ThreadPoolExecutor(6) as pool, origin.slow(PAGE) as gate:
            first = pool.submit(edge.get, PAGE)
            gate.wait()
            origin.answer(PAGE, "new", held("key"))
            purge(edge)
            later = [pool.submit(edge.get, PAGE) for _ in range(5)]
            eventually(lambda: varnish.waiting() == 5)
            gate.open.set()
            first.result()
            assert [each.result().text for each in later] == ["new"] * 5

    @every_soft_way
    def test_the_same_holds_while_what_is_held_is_revalidated(
        self, edge: httpx.Client, origin: Origin, purge: How
    ) -> None:
        origin.answer(PAGE, "old", held("key"))
        edge.get(PAGE)
        purge(edge)
        with ThreadPoolExecutor() as pool, origin.slow(PAGE) as gate:
            first = pool.submit(edge.get, PAGE)  # a 304, since nothing has changed yet
            gate.wait()
            origin.answer(PAGE, "new", held("key"))
            purge(edge)
            gate.open.set()
            first.result()
        assert edge.get(PAGE).text == "new"
        assert origin.statuses(PAGE) == [200, 304, 200]

    @pytest.mark.parametrize("purge", [WAYS["xkey"], WAYS["url, softly"]], ids=["xkey", "url, softly"])
    def test_a_purge_between_the_last_look_and_the_insertion_is_made_up_for(
        self, origin: Origin, tmp_path_factory: pytest.TempPathFactory, purge: How
    ) -> None:
        """A barrier holds Varnish where it has seen no purge and its object is not to be seen by one."""
        origin.answer(PAGE, "old", held("key"))
        varnish = Varnish(tmp_path_factory.mktemp("barrier"), origin.port)
        with socket.create_server(("127.0.0.1", 0)) as barrier, ThreadPoolExecutor() as pool:
            hold_at(barrier, varnish)
            with started(varnish) as edge:
                first = pool.submit(edge.get, PAGE)
                held_back, _ = barrier.accept()
                origin.answer(PAGE, "new", held("key"))
                purge(edge)
                held_back.close()
                assert first.result().text == "old"
                later = pool.submit(edge.get, PAGE)
                barrier.accept()[0].close()
                assert later.result().text == "new"

    def test_a_storm_of_purges_ends_in_an_answer_that_nobody_shares(
        self, edge: httpx.Client, origin: Origin, varnish: Varnish
    ) -> None:
        origin.answer(PAGE, "0", held("key"))
        with ThreadPoolExecutor() as pool:
            first = stormed(pool, edge, origin, rounds=3)
        assert first.text == "2"
        assert first.headers["cache-status"] == "varnish; fwd=uri-miss"
        assert edge.get(PAGE).text == "3"


class TestWhileTheOriginFails:
    """`stale-if-error` (RFC 5861 section 4), and nothing stale a moment longer."""

    @every_soft_way
    def test_what_is_stale_is_shown_while_the_origin_is_gone_and_no_longer(
        self, edge: httpx.Client, origin: Origin, purge: How
    ) -> None:
        origin.answer(PAGE, "old", held("key"))
        edge.get(PAGE)
        purge(edge)
        origin.down()
        for _ in range(2):
            stale = edge.get(PAGE)
            assert (stale.status_code, stale.text) == (200, "old")
            assert stale.headers["cache-status"].endswith(
                "varnish; fwd=stale; fwd-status=503; detail=stale-if-error"
            )
        origin.up()
        origin.answer(PAGE, "new", held("key"))
        assert edge.get(PAGE).text == "new"

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_an_error_of_the_origin_is_a_failure(
        self, edge: httpx.Client, origin: Origin, status: int
    ) -> None:
        origin.answer(PAGE, "old", held("key"))
        edge.get(PAGE)
        WAYS["xkey, softly"](edge)
        origin.answer(PAGE, "broken", {"Cache-Control": "private, no-store"}, status)
        stale = edge.get(PAGE)
        assert stale.text == "old"
        assert f"fwd-status={status}" in stale.headers["cache-status"]
        origin.answer(PAGE, "new", held("key"))
        assert edge.get(PAGE).text == "new"

    def test_showing_it_asks_the_origin_no_second_time(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "old", held("key"))
        edge.get(PAGE)
        WAYS["xkey, softly"](edge)
        origin.answer(PAGE, "broken", {"Cache-Control": "private, no-store"}, 500)
        for _ in range(3):
            assert edge.get(PAGE).text == "old"
        assert origin.statuses(PAGE) == [200, 500, 500, 500]

    def test_a_client_s_own_conditions_hold_for_what_is_stale(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "old", held("key"))
        etag = edge.get(PAGE).headers["etag"]
        WAYS["xkey, softly"](edge)
        origin.down()
        assert edge.get(PAGE, headers={"If-None-Match": etag}).status_code == 304

    def test_a_4xx_is_an_answer(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "old", held("key"))
        edge.get(PAGE)
        WAYS["xkey, softly"](edge)
        origin.answer(PAGE, "gone", {"Cache-Control": "private, no-store"}, 404)
        assert edge.get(PAGE).status_code == 404
        origin.down()
        assert edge.get(PAGE).status_code == 503

    def test_without_stale_if_error_nothing_stale_is_shown(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "old", held("key", "max-age=86400"))
        edge.get(PAGE)
        WAYS["xkey, softly"](edge)
        origin.down()
        assert edge.get(PAGE).status_code == 503

    def test_with_nothing_to_show_the_origin_s_own_error_comes_through(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        origin.answer(PAGE, "broken", {"Cache-Control": "private, no-store", "Retry-After": "7"}, 503)
        answer = edge.get(PAGE)
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "broken", "7")

    def test_who_shows_a_credential_gets_the_error(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "old", held("key"))
        edge.get(PAGE)
        origin.down()
        assert edge.get(PAGE, headers={"Authorization": "Token 1"}).status_code == 503
        assert edge.get(PAGE).text == "old"

    def test_those_who_wait_do_not_each_wait_for_a_failure_of_their_own(
        self, edge: httpx.Client, origin: Origin, varnish: Varnish
    ) -> None:
        origin.answer(PAGE, "old", held("key"))
        edge.get(PAGE)
        WAYS["xkey, softly"](edge)
        origin.answer(PAGE, "broken", {"Cache-Control": "private, no-store"}, 500)
        with ThreadPoolExecutor(10) as pool, origin.slow(PAGE) as gate:
            answers = [pool.submit(edge.get, PAGE) for _ in range(10)]
            eventually(lambda: varnish.waiting() == 9)
            gate.open.set()
            assert [answer.result(PATIENCE).text for answer in answers] == ["old"] * 10
        assert len(origin.requests(PAGE)) < 10
        origin.answer(PAGE, "new", held("key"))
        assert edge.get(PAGE).text == "new"

    def test_stale_while_revalidate_shows_the_old_one_once_more_where_it_was_declared(
        self, edge: httpx.Client, origin: Origin
    ) -> None:
        """RFC 5861 section 3: staleness that a project has asked for."""
        origin.answer(PAGE, "old", held("key", "max-age=86400, stale-while-revalidate=60"))
        edge.get(PAGE)
        WAYS["xkey, softly"](edge)
        origin.answer(PAGE, "new", held("key"))
        assert edge.get(PAGE).text == "old"
        eventually(lambda: edge.get(PAGE).text == "new")

    def test_what_was_not_to_be_held_is_not_shown_either(self, edge: httpx.Client, origin: Origin) -> None:
        origin.answer(PAGE, "old", TO_EVERYBODY)
        edge.get(PAGE)
        origin.down()
        assert edge.get(PAGE).status_code == 503


@contextmanager
def started(varnish: Varnish) -> Iterator[httpx.Client]:
    """Start a Varnish of the test's own; yield a client of it."""
    varnish.start()
    try:
        with client(varnish.url) as connected:
            yield connected
    finally:
        varnish.stop()


def hold_at(barrier: socket.socket, varnish: Varnish) -> None:
    """Have Varnish wait at the last moment before an object is inserted until the test lets it go on."""
    wait = f'vtc.barrier_sync("127.0.0.1:{barrier.getsockname()[1]}");'
    text = varnish.vcl.read_text().replace("import std;", "import std;\nimport vtc;")
    varnish.vcl.write_text(text.replace("sub hold {", f"sub hold {{ {wait}"))
    barrier.settimeout(PATIENCE)


def stormed(pool: ThreadPoolExecutor, edge: httpx.Client, origin: Origin, rounds: int) -> httpx.Response:
    """Ask for the page, and purge it each time that the origin has made it and not yet sent it."""
    gates = origin.gate(PAGE, rounds)
    first: Future[httpx.Response] = pool.submit(edge.get, PAGE)
    for number, gate in enumerate(gates, start=1):
        gate.wait()
        origin.answer(PAGE, str(number), held("key"))
        WAYS["xkey"](edge)
        gate.open.set()
    return first.result(PATIENCE)
