"""Every recorded change reaches every cache in front, at least twice, whoever dies or is away meanwhile."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.db.backends.sqlite3.base import DatabaseWrapper

from catalog.models import Gallery, Tag
from keybits import changes, delivery, edge, fencing, history, invalidation, relay, stamps, triggers
from keybits.delivery import Delivery, PurgeQueue, orders
from keybits.purge import Order, PurgeError, Purger
from keybits.relay import Relay
from keybits.stores import StoreError, get_store
from keybits.trigger_health import UntrackedError


class Cache(Purger):
    """A cache that notes what it was told; `failing` is what it answers with instead of acknowledging."""

    fields = ("xkey",)
    holds_by = ("Surrogate-Control",)
    told: list[Order]
    failing: Exception | None
    failing_of: dict[str, Exception]
    """By scope, what it answers with to an order that has it."""

    def __init__(self, client: httpx.Client, **given: Any) -> None:
        super().__init__(client, **given)
        self.told = []
        self.failing = None
        self.failing_of = {}
        self.heard = threading.Event()

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        return iter(())

    def purge(self, order: Order, sleep: Callable[[float], object] = lambda _: None) -> None:
        if self.failing is not None:
            raise self.failing
        for scope in self.failing_of.keys() & order.scopes:
            raise self.failing_of[scope]
        self.told.append(order)
        self.heard.set()

    @property
    def scopes(self) -> list[str]:
        return [scope for order in self.told for scope in order.scopes]


class Clock:
    """A clock that only tests move."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache() -> Cache:
    return Cache(httpx.Client())


@pytest.fixture
def queue(cache: Cache, clock: Clock) -> PurgeQueue:
    return PurgeQueue(cache, clock=clock)


def row(number: int) -> tuple[str, int]:
    return "default", number


class TestOrders:
    def test_are_soft_but_for_takedowns(self) -> None:
        hard, soft = orders(["gallery:a", "takedown:gallery/a", "galleries"])
        assert (hard.scopes, hard.soft) == (("takedown:gallery/a",), False)
        assert (soft.scopes, soft.soft) == (("galleries", "gallery:a"), True)

    def test_the_hard_one_comes_first(self) -> None:
        assert [order.soft for order in orders(["takedown:x", "y"])] == [False, True]

    def test_a_takedown_is_a_hard_one_also_where_everything_is_purged_softly(self) -> None:
        hard, soft = orders(["gallery:a", "*", "takedown:gallery/a"])
        assert (hard.scopes, hard.everything, hard.soft) == (("takedown:gallery/a",), False, False)
        assert (soft.scopes, soft.everything, soft.soft) == ((), True, True)

    def test_name_each_scope_once_and_kinds_for_very_many(self) -> None:
        many = [f"page:{n}" for n in range(stamps.MOST_MEMBERS + 1)]
        assert [order.scopes for order in orders([*many, "x", "x"])] == [("page:*", "x")]

    def test_of_nothing_are_none(self) -> None:
        assert orders([]) == []


class TestPurgeQueue:
    def test_a_row_is_settled_when_it_was_acknowledged_twice(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        queue.offer({row(1): "a"})
        assert queue.once()
        assert (cache.scopes, queue.settled()) == (["a"], set())
        assert queue.once()
        assert cache.scopes == ["a"]
        clock.now += 2
        assert queue.once()
        assert (cache.scopes, queue.settled()) == (["a", "a"], {row(1)})

    def test_or_once_where_that_is_enough(self, queue: PurgeQueue, settings: Any) -> None:
        settings.KEYBITS_PURGE_AGAIN = 0
        queue.offer({row(1): "a"})
        queue.once()
        assert queue.settled() == {row(1)}

    def test_rows_of_one_scope_are_one_purge(self, queue: PurgeQueue, cache: Cache) -> None:
        queue.offer({row(1): "a", row(2): "a", row(3): "b"})
        queue.once()
        assert [order.scopes for order in cache.told] == [("a", "b")]

    def test_offering_again_is_offering_once(self, queue: PurgeQueue, cache: Cache) -> None:
        queue.offer({row(1): "a"})
        queue.once()
        queue.offer({row(1): "a"})
        queue.once()
        assert cache.scopes == ["a"]

    def test_the_last_purge_is_put_off_by_no_other_row_s(self, queue: PurgeQueue, clock: Clock) -> None:
        """Nor by one that has left the record, while another cache was told of it."""
        queue.offer({row(1): "a"})
        queue.once()
        clock.now += 1.5
        queue.finish([row(1), row(2)])
        clock.now += 0.5
        assert queue.once()
        assert queue.settled() == {row(1)}

    def test_what_has_left_the_record_is_forgotten(self, queue: PurgeQueue, cache: Cache) -> None:
        queue.offer({row(1): "a", row(2): "b"})
        queue.offer({row(2): "b"})
        queue.once()
        assert cache.scopes == ["b"]

    def test_a_cache_that_is_down_for_an_hour_hears_everything_afterwards(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("down")
        for minute in range(60):
            queue.offer({row(n): f"s{n}" for n in range(minute + 1)})
            queue.once()
            clock.now += 60
        assert cache.told == []
        cache.failing = None
        queue.once()
        assert set(cache.scopes) == {f"s{n}" for n in range(60)}

    def test_a_cache_that_is_down_is_tried_less_and_less_often(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("down")
        queue.offer({row(1): "a"})
        tried = []
        for _ in range(4_000):
            if clock.now >= queue._not_before:
                tried.append(clock.now)
                queue.once()
            clock.now += 0.1
        pauses = [later - earlier for earlier, later in pairwise(tried)]
        assert pauses[0] < delivery.FIRST_RETRY + 0.1
        assert 29 < pauses[-1] < 61

    def test_a_cache_that_is_down_for_days_is_still_tried(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("down")
        queue.offer({row(1): "a"})
        for _ in range(1_100):  # 2.0 ** 1024 is no number
            assert not queue.once()
            clock.now += 61
        cache.failing = None
        assert queue.once()
        assert cache.scopes == ["a"]

    def test_one_that_has_been_back_is_tried_again_as_soon_as_at_first(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        queue.offer({row(1): "a"})
        for failing in (*[PurgeError("down")] * 9, None, PurgeError("down")):
            cache.failing = failing
            assert queue.once() is (failing is None)
            clock.now += 61
        assert queue._not_before - (clock.now - 61) <= delivery.FIRST_RETRY

    def test_its_thread_waits_for_as_long_as_it_asks(
        self, queue: PurgeQueue, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.failing = PurgeError("too many", retry_after=300)
        queue.offer({row(1): "a"})
        queue.once()
        waits: list[float | None] = []
        monkeypatch.setattr(queue._changed, "wait", waits.append)
        assert queue._await()
        assert waits == [300]

    def test_it_is_left_alone_for_as_long_as_it_asks(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("too many", retry_after=300)
        queue.offer({row(1): "a"})
        queue.once()
        cache.failing = None
        clock.now += 299
        queue.once()
        assert cache.told == []
        clock.now += 1
        queue.once()
        assert cache.scopes == ["a"]

    @pytest.mark.parametrize("asked", [86_400 * 365, float("9" * 400)])
    def test_it_is_not_left_alone_for_ever(
        self, queue: PurgeQueue, cache: Cache, clock: Clock, asked: float
    ) -> None:
        cache.failing = PurgeError("too many", retry_after=asked)
        queue.offer({row(1): "a"})
        queue.once()
        cache.failing = None
        clock.now += 3600
        queue.once()
        assert cache.scopes == ["a"]

    def test_it_is_left_alone_also_where_more_changes_meanwhile(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("too many", retry_after=300)
        queue.offer({row(1): "a"})
        queue.once()
        cache.failing = None
        for number in range(2, 5):
            queue.offer({row(each): "a" for each in range(1, number + 1)})
            queue.once()
        assert cache.told == []
        clock.now += 300
        assert queue.once()
        assert cache.scopes == ["a"]

    def test_a_change_after_the_first_purge_is_purged_by_itself(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        queue.offer({row(1): "a"})
        queue.once()
        queue.offer({row(1): "a", row(2): "a"})
        queue.once()
        assert cache.scopes == ["a", "a"]
        assert queue.settled() == set()

    def test_what_is_hot_is_asked_for_again_after_its_last_purge(
        self, queue: PurgeQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        warmed: list[set[str]] = []
        monkeypatch.setattr(delivery, "warm_after", warmed.append)
        queue.offer({row(1): "a"})
        queue.once()
        assert not any(warmed)
        clock.now += 2
        queue.once()
        assert [scopes for scopes in warmed if scopes] == [{"a"}]

    def test_its_thread_ends_at_once_when_it_is_stopped(
        self, queue: PurgeQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where nothing is due, now or ever."""
        waits = threading.Event()
        wait = queue._changed.wait
        monkeypatch.setattr(queue._changed, "wait", lambda seconds: (waits.set(), wait(seconds)))
        thread = threading.Thread(target=queue.run, daemon=True)
        thread.start()
        assert waits.wait(30)
        queue.stop()
        thread.join(30)
        assert not thread.is_alive()

    def test_so_does_one_that_is_stopped_before_it_waits(
        self, queue: PurgeQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits: list[float | None] = []
        monkeypatch.setattr(queue._changed, "wait", waits.append)
        queue.stop()
        queue.run()
        assert waits == []

    @pytest.mark.parametrize("failure", [PurgeError("down"), KeyError("a function of the project's")])
    def test_its_thread_outlives_whatever_a_purge_raises(
        self, cache: Cache, monkeypatch: pytest.MonkeyPatch, failure: Exception
    ) -> None:
        """Nobody would start another, and the lease would keep every other process from delivering."""
        monkeypatch.setattr(delivery, "FIRST_RETRY", 0.001)
        cache.failing = failure
        queue = PurgeQueue(cache)
        failed = threading.Event()
        monkeypatch.setattr(queue, "_failed", lambda error, say=queue._failed: (say(error), failed.set()))
        thread = threading.Thread(target=queue.run, daemon=True)
        thread.start()
        queue.offer({row(1): "a"})
        assert failed.wait(30)
        cache.failing = None
        assert cache.heard.wait(30)
        queue.stop()
        thread.join(30)

    def test_it_outlives_what_fails_before_a_purge(
        self, queue: PurgeQueue, cache: Cache, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue.offer({row(1): "a"})
        with monkeypatch.context() as patch:
            patch.setattr(delivery, "orders", None)
            assert not queue.once()
        clock.now += 61
        assert queue.once()
        assert cache.scopes == ["a"]

    def test_an_unexpected_failure_is_told_with_its_traceback_when_it_begins(
        self, queue: PurgeQueue, cache: Cache, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue.offer({row(1): "a"})
        for failure in (PurgeError("down"), KeyError("a"), KeyError("b"), None, KeyError("c")):
            cache.failing = failure
            assert queue.once() is (failure is None)
            clock.now += 61
        assert [bool(record.exc_info) for record in caplog.records] == [False, True, False, True]

    def test_what_is_refused_keeps_nothing_else_from_being_told(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing_of = {"takedown:x": PurgeError("refused", permanent=True)}
        queue.offer({row(1): "takedown:x", row(2): "a"})
        for _ in range(3):
            assert not queue.once()
            clock.now += 61
        assert (cache.scopes, queue.settled()) == (["a", "a"], {row(2)})

    def test_each_attempt_at_an_order_has_its_id_and_no_other_order_has(
        self, queue: PurgeQueue, cache: Cache, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A vendor does nothing where it knows the id, though it has not said so in time."""
        ids: list[str] = []
        purge = cache.purge
        monkeypatch.setattr(cache, "purge", lambda order: (ids.append(order.id), purge(order)))
        for failing in (PurgeError("timeout"), PurgeError("timeout"), None, PurgeError("timeout"), None):
            queue.offer({row(1): "a", row(2): "b"})
            cache.failing = failing
            queue.once()
            clock.now += 61
        queue.offer({})
        queue.offer({row(1): "a", row(2): "b"})  # of a database that was restored
        queue.once()
        assert ids == [ids[0]] * 3 + [ids[3]] * 2 + [ids[5]]
        assert len({"", *ids}) == 4

    def test_no_two_processes_have_ids_in_common(self, cache: Cache) -> None:
        """One that takes over knows nothing of what the other has been answered."""
        for _ in range(2):
            queue = PurgeQueue(cache)
            queue.offer({row(1): "a"})
            queue.once()
        assert len({order.id for order in cache.told}) == 2

    @pytest.fixture
    def limited(self, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Cache:
        """A cache that acknowledges two requests, of three keys each, and then asks to be left alone."""
        purge, left = cache.purge, [2]

        def limit(order: Order) -> None:
            left[0] = (left[0] - 1) % 3
            if left[0] == 2:
                raise PurgeError("too many", retry_after=12)
            purge(order)

        monkeypatch.setattr(cache, "at_once", 3)
        monkeypatch.setattr(cache, "purge", limit)
        return cache

    def test_what_was_acknowledged_before_a_cache_had_enough_is_not_told_again(
        self, queue: PurgeQueue, limited: Cache, clock: Clock, settings: Any
    ) -> None:
        settings.KEYBITS_PURGE_AGAIN = 0
        rows = {row(n): f"s{n}" for n in range(10)}
        queue.offer(rows)
        done = []
        for _ in range(3):
            done.append(queue.once())
            clock.now += 12
        assert (done, queue.settled()) == ([False, False, True], set(rows))
        assert sorted(limited.scopes) == sorted(rows.values())

    def test_what_waits_longest_is_told_first_however_much_comes_meanwhile(
        self, queue: PurgeQueue, limited: Cache, clock: Clock, settings: Any
    ) -> None:
        settings.KEYBITS_PURGE_AGAIN = 0
        rows = {row(n): f"z{n}" for n in range(10)}
        for number in range(6):
            rows |= {row(100 * number + n): f"a{number}:{n}" for n in range(1, 5)}
            queue.offer(rows)
            queue.once()
            clock.now += 12
        assert {row(n) for n in range(10)} <= queue.settled()

    def test_who_asks_to_be_left_alone_is(self, queue: PurgeQueue, cache: Cache, clock: Clock) -> None:
        cache.failing_of = {"takedown:x": PurgeError("too many", retry_after=300)}
        queue.offer({row(1): "takedown:x", row(2): "a"})
        assert not queue.once()
        assert (cache.told, queue._not_before) == ([], clock.now + 300)

    def test_a_takedown_is_told_before_what_waits_longer(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("down")
        queue.offer({row(1): "a"})
        queue.once()
        clock.now += 61
        cache.failing = None
        queue.offer({row(1): "a", row(2): "takedown:x"})
        assert queue.once()
        assert cache.scopes == ["takedown:x", "a"]

    def test_of_several_pauses_asked_for_the_longest_is_made(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing_of = {
            "takedown:x": PurgeError("refused", retry_after=9, permanent=True),
            "a": PurgeError("too many", retry_after=300),
        }
        queue.offer({row(1): "takedown:x", row(2): "a"})
        assert not queue.once()
        assert queue._not_before == clock.now + 300

    @pytest.mark.parametrize(("permanent", "level"), [(False, "WARNING"), (True, "ERROR")])
    def test_only_what_will_not_pass_is_logged_as_an_error(
        self, queue: PurgeQueue, cache: Cache, caplog: pytest.LogCaptureFixture, permanent: bool, level: str
    ) -> None:
        cache.failing = PurgeError("no", permanent=permanent)
        queue.offer({row(1): "a"})
        queue.once()
        assert [record.levelname for record in caplog.records] == [level]

    def test_everything_is_purged_where_a_function_of_the_project_fails(
        self, queue: PurgeQueue, cache: Cache, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache.failing_of = {"takedown:x": KeyError("no path for it"), "a": KeyError("nor for this")}
        queue.offer({row(1): "takedown:x", row(2): "a", row(3): "b"})
        for _ in range(2):
            assert queue.once()
            clock.now += 2
        assert [(order.everything, order.soft) for order in cache.told] == [(True, False), (True, True)] * 2
        assert queue.settled() == {row(1), row(2), row(3)}
        assert [bool(record.exc_info) for record in caplog.records] == [True, False, False, False]

    def test_a_row_of_a_member_is_settled_with_its_kind(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        many = {row(n): f"page:{n}" for n in range(stamps.MOST_MEMBERS + 1)}
        queue.offer(many)
        for _ in range(2):
            assert queue.once()
            clock.now += 2
        assert (cache.scopes, queue.settled()) == (["page:*"] * 2, set(many))

    def test_rows_of_everything_and_of_less_are_settled_together(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        queue.offer({row(1): "*", row(2): "a", row(3): "page:1", row(4): "takedown:x"})
        for _ in range(2):
            assert queue.once()
            clock.now += 2
        assert [(order.scopes, order.everything) for order in cache.told] == [
            (("takedown:x",), False),
            ((), True),
        ] * 2
        assert queue.settled() == {row(n) for n in (1, 2, 3, 4)}

    def test_what_was_acknowledged_stays_so_where_warming_fails(
        self,
        queue: PurgeQueue,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fails(_: object) -> None:
            raise ValueError("of the project's")

        monkeypatch.setattr(delivery, "warm_after", fails)
        queue.offer({row(1): "a"})
        assert queue.once()
        clock.now += 2
        assert queue.once()
        assert queue.settled() == {row(1)}
        assert all("of the project's" in str(record.exc_info) for record in caplog.records)
        assert caplog.records

    def test_its_thread_delivers_as_soon_as_there_is_something(self, cache: Cache) -> None:
        queue = PurgeQueue(cache)
        thread = threading.Thread(target=queue.run, daemon=True)
        thread.start()
        queue.offer({row(1): "a"})
        assert cache.heard.wait(30)
        queue.stop()
        thread.join(30)
        assert not thread.is_alive()


class TestCachesInARow:
    """One caches what another gives it: what it was told of, it may fetch again from one that was not."""

    @pytest.fixture
    def outer(self, clock: Clock) -> PurgeQueue:
        return PurgeQueue(Cache(httpx.Client()), clock=clock)

    @pytest.fixture
    def inner(self, clock: Clock, outer: PurgeQueue) -> PurgeQueue:
        inner = PurgeQueue(Cache(httpx.Client()), clock=clock)
        inner.peers = outer.peers = (inner, outer)
        return inner

    def told(self, queue: PurgeQueue, clock: Clock, rows: dict[tuple[str, int], str]) -> list[float]:
        """Offer the rows, and return when the cache was told."""
        cache: Any = queue.purger
        queue.offer(rows)
        before = len(cache.told)
        queue.once()
        return [clock.now - Clock.now] * (len(cache.told) - before)

    def test_the_last_telling_of_each_comes_after_all_have_acknowledged(
        self, inner: PurgeQueue, outer: PurgeQueue, clock: Clock
    ) -> None:
        cache: Any = inner.purger
        cache.failing = PurgeError("unreachable")
        of_inner, of_outer = [], []
        for second in range(20):
            if second == 10:
                cache.failing, inner._not_before = None, 0
            of_outer += self.told(outer, clock, {row(1): "a"})
            of_inner += self.told(inner, clock, {row(1): "a"})
            assert (outer.settled(), inner.settled()) == (({row(1)},) * 2 if second >= 12 else (set(),) * 2)
            clock.now += 1
        assert (of_outer, of_inner) == ([0, 2, 12], [10, 12])

    def test_where_all_acknowledge_at_once_each_is_told_twice(
        self, inner: PurgeQueue, outer: PurgeQueue, clock: Clock
    ) -> None:
        of_inner, of_outer = [], []
        for _ in range(5):
            of_outer += self.told(outer, clock, {row(1): "a"})
            of_inner += self.told(inner, clock, {row(1): "a"})
            clock.now += 1
        assert (of_outer, of_inner) == ([0, 2], [0, 2])

    def test_a_telling_that_had_begun_before_is_not_the_last(
        self, inner: PurgeQueue, outer: PurgeQueue, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.told(outer, clock, {row(1): "a"})
        clock.now += 2
        purge = outer.purger.purge

        def meanwhile(order: Order) -> None:
            self.told(inner, clock, {row(1): "a"})
            purge(order)

        with monkeypatch.context() as patch:
            patch.setattr(outer.purger, "purge", meanwhile)
            assert self.told(outer, clock, {row(1): "a"}) == [2]
        clock.now += 2
        assert self.told(outer, clock, {row(1): "a"}) == [4]
        assert outer.settled() == {row(1)}

    def test_those_of_a_process_know_each_other(self, purgers: Any) -> None:
        one = Delivery()
        assert [list(queue.peers) for queue in one.queues] == [one.queues] * 2


@pytest.fixture
def purgers(settings: Any) -> Callable[[], dict[str, Any]]:
    """Configure two caches; called, return them."""
    settings.KEYBITS_PURGERS = {name: {"BACKEND": f"{__name__}.Cache"} for name in ("near", "far")}
    settings.KEYBITS_PURGE_AGAIN = 0

    def both() -> dict[str, Any]:
        return dict(edge.purgers())

    return both


def recorded() -> list[str]:
    return sorted(scope for _, scope, _ in changes.recorded(connection))


def unreachable(*_: Any) -> int:
    raise StoreError("out of reach")


def settle() -> None:
    changes.forget(connection, [id for id, _, _ in changes.recorded(connection)])


@pytest.fixture
def deliver(purgers: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Relay]]:
    """Look once with a relay whose queues are served here, without threads; `deliver()` returns the relay."""
    monkeypatch.setattr(Delivery, "_start", lambda self: None)
    get_store().clear()
    settle()
    one = Relay(["default"])

    def look() -> Relay:
        one._once_and_deliver()
        assert one.delivery is not None
        for queue in one.delivery.queues:
            queue.once()
        one.sweep()
        return one

    yield look
    settle()


def test_each_server_of_a_cache_has_a_line_so_that_one_that_is_down_holds_up_no_other(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def attempt(purger: Purger, request: httpx.Request) -> PurgeError | None:
        told.append(request.url.host)
        return PurgeError("down") if request.url.host == "down" else None

    monkeypatch.setattr(Purger, "_attempt", attempt)
    servers = ["http://down:6081", "http://up:6081"]
    settings.KEYBITS_PURGERS = {
        "edge": {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": servers, "token": "secret"}
    }
    one = Delivery()
    for number in (1, 2, 3):
        for queue in one.queues:
            queue.offer({row(each): f"s{each}" for each in range(1, number + 1)})
            queue.once()
    assert told == ["down", "up", "up", "up"]
    assert one.settled() == set()


@pytest.mark.django_db(transaction=True)
class TestFromTheRecord:
    def test_a_row_leaves_it_when_every_cache_has_acknowledged(self, deliver: Any, purgers: Any) -> None:
        near, far = purgers().values()
        far.failing = PurgeError("down")
        Tag.objects.create(slug="x", name="X")
        deliver()
        assert set(near.scopes) == {"tags", "tag:x"}
        assert recorded() == ["tag:x", "tags"]
        far.failing = None
        for queue in deliver().delivery.queues:
            queue._not_before = 0
        deliver()
        assert set(far.scopes) == {"tags", "tag:x"}
        assert recorded() == []

    def test_a_process_that_takes_over_tells_what_the_last_had_not_heard_acknowledged(
        self, deliver: Any, purgers: Any
    ) -> None:
        _, far = purgers().values()
        far.failing = PurgeError("down")
        Tag.objects.create(slug="x", name="X")
        deliver()
        get_store().clear()  # the lease of the dead ends
        far.failing = None
        successor = Relay(["default"])
        successor._once_and_deliver()
        assert successor.delivery is not None
        for queue in successor.delivery.queues:
            queue.once()
        assert set(far.scopes) == {"tags", "tag:x"}

    def test_one_process_delivers_and_the_others_leave_the_record_alone(
        self, deliver: Any, purgers: Any
    ) -> None:
        deliver()
        Tag.objects.create(slug="x", name="X")
        other = Relay(["default"])
        other._once_and_deliver()
        other.sweep()
        assert other.delivery is not None
        assert not other.delivery.leads()
        assert recorded() == ["tag:x", "tags"]
        deliver()
        assert recorded() == []

    @pytest.mark.parametrize("names", [(), ("near",), ("near", "elsewhere")])
    def test_a_process_that_has_other_purgers_leaves_the_record_alone(
        self,
        deliver: Any,
        purgers: Any,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
        names: tuple[str, ...],
    ) -> None:
        """As while a release is rolled out that adds one: nobody else would tell it."""
        monkeypatch.setattr(delivery, "LEASE", 0.001)
        ours = purgers().values()
        deliver()
        settings.KEYBITS_PURGERS = {name: {"BACKEND": f"{__name__}.Cache"} for name in names}
        other = Relay(["default"])
        Tag.objects.create(slug="x", name="X")
        while other.delivery and not other.delivery.leads():
            other.delivery._asked = -math.inf
        other._once_and_deliver()
        for queue in other.delivery.queues if other.delivery else ():
            assert queue.once()
        other.sweep()
        assert recorded() == ["tag:x", "tags"]
        deliver()
        assert [set(cache.scopes) for cache in ours] == [{"tags", "tag:x"}] * 2

    def test_who_has_all_that_others_have_deletes_for_them(
        self, deliver: Any, purgers: Any, settings: Any
    ) -> None:
        more = dict(settings.KEYBITS_PURGERS)
        settings.KEYBITS_PURGERS = {}
        Relay(["default"])._once_and_deliver()
        settings.KEYBITS_PURGERS = more
        Tag.objects.create(slug="x", name="X")
        deliver()
        assert recorded() == []

    def test_scopes_are_closed_before_they_are_purged(
        self, deliver: Any, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cache that is told earlier fetches again what is still believed here."""
        order: list[str] = []
        close = relay._close
        monkeypatch.setattr(relay, "_close", lambda scopes: (order.append("closed"), close(scopes)))
        monkeypatch.setattr(Cache, "purge", lambda self, _: order.append("purged"))
        with connection.cursor() as cursor:
            wrappers, connection.execute_wrappers = connection.execute_wrappers, []
            cursor.execute("INSERT INTO catalog_tag (slug, name, kind) VALUES ('x', 'X', 'topic')")
            connection.execute_wrappers = wrappers
        deliver()
        assert order[:2] == ["closed", "purged"]

    def test_while_the_store_is_away_the_caches_are_told_all_the_same(
        self, deliver: Any, purgers: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        near, _ = purgers().values()
        Tag.objects.create(slug="x", name="X")

        with monkeypatch.context() as patch:
            patch.setattr(type(get_store().store), "now", unreachable)
            with pytest.raises(StoreError):
                deliver()
            one = Relay(["default"])
            with pytest.raises(StoreError):
                one._once_and_deliver()
            assert one.delivery is not None
            for queue in one.delivery.queues:
                queue.once()
        assert set(near.scopes) == {"tags", "tag:x"}

    @pytest.fixture
    def untracked(self) -> Iterator[None]:
        """Drop the triggers of tags, until the test ends."""
        triggers.drop(connection, Tag)
        yield
        for each in invalidation.declarations():
            triggers.sync(connection, each.model, each.templates)

    def test_a_takedown_does_not_wait_for_missing_triggers_of_another_table(
        self, purgers: Any, deliver: Any, untracked: None
    ) -> None:
        gallery = Gallery.objects.create(slug="g", title="G")
        settle()
        with connection.cursor() as cursor:
            wrappers, connection.execute_wrappers = connection.execute_wrappers, []
            cursor.execute("UPDATE catalog_gallery SET visibility = 'private' WHERE id = %s", [gallery.pk])
            connection.execute_wrappers = wrappers
        before = get_store().mint(["gallery:g"])
        one = Relay(["default"])
        assert one.delivery is not None
        with pytest.raises(UntrackedError):
            one._once_and_deliver()
        assert get_store().mint(["gallery:g"]) != before
        for queue in one.delivery.queues:
            queue.once()
        near, _ = purgers().values()
        assert [order.scopes for order in near.told if not order.soft] == [("takedown:gallery/g",)]

    def test_the_record_is_cleared_also_while_triggers_are_missing(
        self, purgers: Any, deliver: Any, untracked: None
    ) -> None:
        one = Relay(["default"])
        assert one.delivery is not None
        Gallery.objects.create(slug="g", title="G")
        for _ in range(2):
            one._swept = -math.inf
            with pytest.raises(UntrackedError):
                one._once_and_deliver()
            for queue in one.delivery.queues:
                queue.once()
        assert recorded() == []

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[str]:
        """A second database, which has kept a record and is out of reach."""
        nowhere = {"NAME": str(tmp_path / "nowhere" / "db.sqlite3"), "OPTIONS": {}}
        connections["other"] = DatabaseWrapper({**connection.settings_dict, **nowhere}, "other")
        get_store().note(f"{history.NOTE}other", b"known 1 it")
        yield "other"
        del connections["other"]

    @pytest.mark.parametrize("is_first", [True, False])
    def test_a_change_does_not_wait_for_another_database_that_is_out_of_reach(
        self, purgers: Any, deliver: Any, other: str, is_first: bool
    ) -> None:
        near, _ = purgers().values()
        Tag.objects.create(slug="x", name="X")
        one = Relay([other, "default"] if is_first else ["default", other])
        assert one.delivery is not None
        for _ in range(2):
            one._swept = -math.inf
            with pytest.raises(OperationalError):
                one._once_and_deliver()
            for queue in one.delivery.queues:
                queue.once()
        assert {"tag:x", "tags"} <= set(near.scopes)
        assert recorded() == []

    @pytest.mark.parametrize("is_first", [True, False])
    def test_nor_while_the_store_is_away_as_well(
        self, purgers: Any, deliver: Any, other: str, is_first: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        near, _ = purgers().values()
        Tag.objects.create(slug="x", name="X")
        one = Relay([other, "default"] if is_first else ["default", other])
        assert one.delivery is not None
        with monkeypatch.context() as patch:
            for method in ("now", "noted_by", "lease"):
                patch.setattr(type(get_store().store), method, unreachable)
            with pytest.raises(StoreError):
                one._once_and_deliver()
        for queue in one.delivery.queues:
            queue.once()
        assert set(near.scopes) == {"tags", "tag:x"}

    def test_a_change_does_not_wait_until_the_store_is_no_longer_contested(
        self, purgers: Any, deliver: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where Redis moves to another server, back, and there again: nothing is believed for ten minutes."""
        monkeypatch.setattr(fencing, "_taken", {})
        near, _ = purgers().values()
        for _ in range(2):
            one = deliver()
            changes.set_store_name(connection, "another")
        Tag.objects.create(slug="x", name="X")
        try:
            with pytest.raises(fencing.ContestedError):
                deliver()
            for queue in one.delivery.queues:
                queue.once()
        finally:
            changes.set_store_name(connection, fencing.name("default"))
        assert set(near.scopes) == {"tags", "tag:x"}
        assert recorded() == ["tag:x", "tags"]

    @pytest.fixture
    def crowd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make 60 changes of 31 scopes, whose rows are more than may wait."""
        monkeypatch.setattr(relay, "MOST_ROWS", 50)
        for n in range(30):
            Tag.objects.create(slug=f"t{n}", name=str(n))
            Tag.objects.filter(slug=f"t{n}").update(name="again")

    def test_what_waits_for_a_cache_is_bounded(self, deliver: Any, purgers: Any, crowd: None) -> None:
        near, far = purgers().values()
        near.failing = far.failing = PurgeError("down")
        everything = set(recorded())
        deliver()
        left = recorded()
        assert len(left) == len(set(left)) < 50
        assert set(left) == everything

    @pytest.fixture
    def away(self, crowd: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Lose the store, after those changes."""
        with monkeypatch.context() as patch:
            for method in ("now", "lease"):
                patch.setattr(type(get_store().store), method, unreachable)
            yield

    def test_so_is_what_waits_for_the_store(self, deliver: Any, away: None) -> None:
        everything = set(recorded())
        with pytest.raises(StoreError):
            deliver()
        one = Relay(["default"])
        one._swept = -math.inf
        with pytest.raises(StoreError):
            one._once_and_deliver()
        assert len(recorded()) == len(everything) < 50
        assert set(recorded()) == everything

    def test_several_processes_that_do_so_do_it_once(self, deliver: Any, away: None) -> None:
        everything = set(recorded())
        relays = [Relay(["default"]) for _ in range(3)]
        for one in relays:
            with pytest.raises(StoreError):
                one._once_and_deliver()
        for one in relays:
            one.sweep()
        assert len(recorded()) == len(everything)
        assert set(recorded()) == everything

    def test_what_is_many_scopes_is_not_recorded_again_for_nothing(
        self, deliver: Any, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each of its rows would be new to every cache, again and again."""
        monkeypatch.setattr(relay, "MOST_ROWS", 2)
        for cache in purgers().values():
            cache.failing = PurgeError("down")
        Tag.objects.create(slug="x", name="X")
        before = changes.recorded(connection)
        deliver()
        assert changes.recorded(connection) == before

    def test_a_row_stays_where_one_of_another_database_by_its_id_was_acknowledged(
        self, deliver: Any, purgers: Any
    ) -> None:
        caches = purgers().values()
        for cache in caches:
            cache.failing = PurgeError("down")
        Tag.objects.create(slug="x", name="X")
        one = deliver()
        elsewhere = {("other", id): scope for id, scope, _ in changes.recorded(connection)}
        for cache, queue in zip(caches, one.delivery.queues, strict=True):
            cache.failing, queue._not_before = None, 0
            queue.offer(elsewhere)
            assert queue.once()
        one.sweep()
        assert recorded() == ["tag:x", "tags"]

    def test_a_takedown_is_recorded_with_the_change_and_purged_hard(self, deliver: Any, purgers: Any) -> None:
        gallery = Gallery.objects.create(slug="g", title="G")
        deliver()
        near, _ = purgers().values()
        near.told.clear()
        gallery.visibility = "private"
        gallery.save()
        deliver()
        assert [order.scopes for order in near.told if not order.soft] == [("takedown:gallery/g",)]

    def test_the_bell_rings_for_a_commit_of_this_process(self, purgers: Any) -> None:
        changes.bell.clear()
        Tag.objects.create(slug="x", name="X")
        assert changes.bell.is_set()


class TestLease:
    def test_without_a_store_every_process_delivers(
        self, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any) -> bool:
            raise StoreError("out of reach")

        monkeypatch.setattr(type(get_store().store), "lease", away)
        assert Delivery().leads()

    def test_it_is_the_same_for_the_same_purgers_in_whatever_order(
        self, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A set of texts has another order in each process."""
        asked: set[str] = set()
        monkeypatch.setattr(type(get_store().store), "lease", lambda _, name, *given: asked.add(name))
        for identities in (["a", "b"], ["b", "a"]):
            monkeypatch.setattr(edge, "identities", lambda identities=identities: identities)
            Delivery().leads()
        assert len(asked) == 1

    def test_it_is_prolonged_before_it_ends_and_asked_for_once_meanwhile(
        self, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []
        monkeypatch.setattr(type(get_store().store), "lease", lambda *given: not asked.append(given))
        one = Delivery()
        assert one.leads()
        assert one.leads()
        assert len(asked) == 1
        one._asked -= delivery.LEASE / 2
        assert one.leads()
        assert len(asked) == 2

    def test_a_process_that_has_lost_it_tells_nobody_what_it_still_had_to(
        self, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Delivery, "_start", lambda self: None)
        one = Delivery()
        for leads in (True, False):
            monkeypatch.setattr(one, "leads", lambda leads=leads: leads)
            one.offer({row(1): "a"})
        assert all(queue.once() for queue in one.queues)
        assert [cache.told for cache in purgers().values()] == [[], []]

    def test_a_process_that_has_it_starts_a_thread_for_each_cache_and_no_more(
        self, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = Delivery()
        monkeypatch.setattr(one, "leads", lambda: True)
        one.offer({row(1): "a"})
        threads = list(one._threads)
        heard = [cache.heard.wait(30) for cache in purgers().values()]
        one.offer({row(1): "a", row(2): "b"})
        one.stop()
        for thread in threads:
            thread.join(30)
        assert (one._threads, [thread.is_alive() for thread in threads]) == (threads, [False, False])
        assert all(heard)
        assert all(thread.daemon for thread in threads)

    def test_a_process_that_stops_prolonging_it_loses_it(
        self, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        get_store().clear()
        monkeypatch.setattr(delivery, "LEASE", 0.001)
        assert Delivery().leads()
        second = Delivery()
        monkeypatch.setattr(delivery, "LEASE", 60)
        while not second.leads():
            second._asked = -math.inf
        assert not Delivery().leads()


class TestBacklog:
    """What metrics tell of it, whichever process is asked."""

    @pytest.fixture(autouse=True)
    def _metrics(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.KEYBITS_METRICS = True
        monkeypatch.setattr(delivery, "NOTED", -1.0)
        monkeypatch.setattr(Delivery, "_start", lambda self: None)
        get_store().clear()

    def test_of_a_cache_is_what_it_has_acknowledged_no_purge_of(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("down")
        queue.offer({row(1): "a"})
        clock.now += 30
        queue.offer({row(1): "a", row(2): "b"})
        queue.once()
        assert queue.waiting() == (2, 30)
        cache.failing, queue._not_before = None, 0
        queue.once()
        assert not queue.settled()
        assert queue.waiting() == (0, 0)

    def test_is_as_old_as_it_was_where_its_rows_are_merged(
        self, queue: PurgeQueue, cache: Cache, clock: Clock
    ) -> None:
        cache.failing = PurgeError("down")
        queue.offer({row(1): "a", row(2): "b"})
        clock.now += 30
        queue.offer({row(3): "*"})
        assert queue.waiting() == (1, 30)

    def test_is_no_older_than_the_change_where_what_was_acknowledged_leaves(
        self, queue: PurgeQueue, clock: Clock
    ) -> None:
        queue.offer({row(1): "a"})
        queue.once()
        clock.now += 30
        queue.offer({row(2): "b"})
        assert queue.waiting() == (1, 0)

    def test_is_told_by_the_process_that_delivers_to_all(self, purgers: Any) -> None:
        near, _ = purgers().values()
        leader, other = Delivery(), Delivery()
        for each in (leader, other, leader, other):
            each.offer({row(1): "a", row(2): "b"})
        assert [queue.purger for queue in leader.queues].index(near) == 0
        leader.queues[0].once()
        leader.offer({row(1): "a", row(2): "b"})
        other.offer({row(1): "a", row(2): "b"})
        told = delivery.backlog()
        assert told["near"] == (0, 0)
        assert told["far"][0] == 2
        assert 0 <= told["far"][1] < 60

    def test_grows_older_while_nothing_is_noted(self, purgers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        one = Delivery()
        one.offer({row(1): "a"})
        one.queues[1].once()
        one.offer({row(1): "a"})
        now = get_store().now()
        monkeypatch.setattr(type(get_store().store), "now", lambda _: now + 9_000)
        told = delivery.backlog()
        assert 9 <= told["near"][1] < 60
        assert told["far"] == (0, 0)

    def test_is_unknown_where_nobody_delivers(self, purgers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        assert delivery.backlog() == {}
        Delivery().offer({row(1): "a"})
        now = get_store().now()
        monkeypatch.setattr(type(get_store().store), "now", lambda _: now + 11_000)
        assert delivery.backlog() == {}

    def test_of_other_purgers_is_theirs(self, purgers: Any, settings: Any) -> None:
        Delivery().offer({row(1): "a"})
        settings.KEYBITS_PURGERS = {"near": settings.KEYBITS_PURGERS["near"]}
        assert delivery.backlog() == {}

    def test_is_noted_once_a_second_and_only_where_it_is_counted(
        self, purgers: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noted: list[Any] = []
        monkeypatch.setattr(type(get_store().store), "note", lambda *given: noted.append(given))
        one = Delivery()
        settings.KEYBITS_METRICS = False
        one.offer({row(1): "a"})
        assert noted == []
        settings.KEYBITS_METRICS = True
        monkeypatch.setattr(delivery, "NOTED", 60.0)
        for _ in range(3):
            one.offer({row(1): "a"})
        assert len(noted) == 1

    def test_keeps_nothing_from_being_delivered_while_the_store_is_away(
        self, purgers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for method in ("now", "note", "lease"):
            monkeypatch.setattr(type(get_store().store), method, unreachable)
        one = Delivery()
        one.offer({row(1): "a"})
        assert all(queue.once() for queue in one.queues)
        assert [cache.scopes for cache in purgers().values()] == [["a"], ["a"]]


class TestCommand:
    def purge(self, *args: str) -> str:
        out = StringIO()
        call_command("purge", *args, stdout=out)
        return out.getvalue()

    def test_by_scope_address_and_all(self, purgers: Any) -> None:
        assert "near, far" in self.purge("--scope", "gallery:a", "--url", "https://a.example/x", "--hard")
        assert [cache.told for cache in purgers().values()] == [
            [Order(scopes=("gallery:a",), urls=("https://a.example/x",), soft=False)]
        ] * 2
        self.purge("--all", "--purger", "far")
        near, far = purgers().values()
        assert (len(near.told), far.told[-1]) == (1, Order(everything=True))

    def test_a_takedown_is_purged_hard_unasked(self, purgers: Any) -> None:
        near, _ = purgers().values()
        self.purge("--scope", "takedown:a", "--scope", "b", "--url", "https://a.example/x")
        assert near.told == [
            Order(scopes=("takedown:a",), soft=False),
            Order(scopes=("b",)),
            Order(urls=("https://a.example/x",)),
        ]
        near.told.clear()
        self.purge("--scope", "takedown:a", "--all")
        assert near.told == [Order(scopes=("takedown:a",), soft=False), Order(everything=True)]

    @pytest.mark.parametrize(
        ("args", "says"),
        [
            ([], "Give --url"),
            (["--url", "/x"], "not an absolute URL"),
            (["--scope", ""], "--scope is empty"),
            (["--scope", "a", "--scope", " "], "--scope is empty"),
            (["--all", "--purger", "x"], "there are: near, far"),
        ],
    )
    def test_says_what_is_missing(self, purgers: Any, args: list[str], says: str) -> None:
        with pytest.raises(CommandError, match=says):
            self.purge(*args)

    @pytest.mark.parametrize(
        ("failure", "says"),
        [
            (PurgeError("refused"), "near: refused"),
            (KeyError("a function of the project's"), "near: KeyError"),
        ],
    )
    def test_fails_where_a_cache_does_not_acknowledge_and_tells_the_others(
        self, purgers: Any, failure: Exception, says: str
    ) -> None:
        near, far = purgers().values()
        near.failing = failure
        with pytest.raises(CommandError, match=says):
            self.purge("--all")
        assert far.told == [Order(everything=True)]

    def test_without_caches_says_so(self, settings: Any) -> None:
        with pytest.raises(CommandError, match="KEYBITS_PURGERS is empty"):
            self.purge("--all")
