"""What many ask for at once is made once; nobody waits for the dead, and nobody is shown what was taken down."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from keybits import clock, flight, memory, readthrough, transactions
from keybits.bits import PurgeKeyBit, UpdatedAtKeyBit
from keybits.cache_control import Lifetime, Policy
from keybits.constructors import DefaultObjectKeyConstructor
from keybits.drf import cache_response_and_etag, expire
from keybits.drf.renderers import JSONRenderer
from keybits.entries import Entry
from keybits.flight import alone
from keybits.preconditions import parse_http_date
from keybits.stores import StoreError, get_store

pytestmark = pytest.mark.django_db(transaction=True)
SCOPES = ("thing",)


class Key(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit("thing")
    takedown = PurgeKeyBit("takedown:thing")


KEY = Key()


class Probe(APIView):
    """Says how often it was asked; `meanwhile` runs while it makes its answer."""

    authentication_classes = ()
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)
    asked = 0
    meanwhile: Callable[[Request], object] = staticmethod(lambda request: None)
    answers: Callable[[], Response] = staticmethod(lambda: Response({"asked": Probe.asked}))
    cache_policy = Policy()

    @cache_response_and_etag(KEY)
    def get(self, request: Request) -> Response:
        Probe.asked += 1
        Probe.meanwhile(request)
        return Probe.answers()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    get_store().clear()
    memory.entries().clear()
    for name in ("asked", "meanwhile", "answers"):
        monkeypatch.setattr(Probe, name, vars(Probe)[name])


def get() -> HttpResponse:
    try:
        response = Probe.as_view()(APIRequestFactory().get("/probe/"))
        response.render() if hasattr(response, "render") else None
        return response
    finally:
        if threading.current_thread() is not threading.main_thread():
            connections.close_all()


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=20) as pool:
        yield pool


def all_wait(number: int) -> Callable[[Request], object]:
    """Return what holds a leader up until `number` others wait for it."""

    def meanwhile(_: object) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and _waiting() < number:
            threading.Event().wait(0.001)

    return meanwhile


def _waiting() -> int:
    events = list(flight._flights.values())
    return sum(len(event._cond._waiters) for event in events)  # type: ignore[attr-defined]


class TestThreads:
    def test_of_twenty_that_ask_at_once_one_computes(
        self, crowd: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Probe, "meanwhile", staticmethod(all_wait(19)))
        answers = list(crowd.map(lambda _: get(), range(20)))
        assert Probe.asked == 1
        assert {answer.content for answer in answers} == {b'{"asked":1}'}
        statuses = sorted(answer["Cache-Status"] for answer in answers)
        assert statuses == ["keybits; fwd=uri-miss; collapsed"] * 19 + ["keybits; fwd=uri-miss; stored"]

    def test_those_who_waited_for_what_cannot_be_kept_compute_for_themselves_all_at_once(
        self, crowd: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One after the other, twenty askers of a missing thing would wait for nineteen answers."""
        together = threading.Barrier(4, timeout=30)
        first = threading.Event()

        def meanwhile(request: Request) -> None:
            if not first.is_set():
                first.set()
                all_wait(4)(request)
            else:
                together.wait()

        monkeypatch.setattr(Probe, "meanwhile", staticmethod(meanwhile))
        monkeypatch.setattr(Probe, "answers", staticmethod(lambda: Response({}, status=404)))
        answers = list(crowd.map(lambda _: get(), range(5)))
        assert [answer.status_code for answer in answers] == [404] * 5
        assert not together.broken

    def test_a_leader_that_fails_lets_the_others_go(
        self, crowd: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fails = iter([True])

        def meanwhile(request: Request) -> None:
            if next(fails, False):
                all_wait(1)(request)
                raise RuntimeError("the database has gone")

        monkeypatch.setattr(Probe, "meanwhile", staticmethod(meanwhile))
        answers = [crowd.submit(get) for _ in range(2)]
        failed = [answer for answer in answers if answer.exception(30) is not None]
        assert len(failed) == 1
        assert flight._flights == {}

    def test_what_a_write_overtook_is_given_to_nobody(
        self, crowd: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who asked after the write waits for an answer from before it, and must not be given that."""
        overtaken = iter([True])

        def meanwhile(request: Request) -> None:
            if next(overtaken, False):
                get_store().close(["thing"])
                all_wait(1)(request)

        monkeypatch.setattr(Probe, "meanwhile", staticmethod(meanwhile))
        answers = list(crowd.map(lambda _: get(), range(2)))
        assert Probe.asked == 2
        assert {answer.content for answer in answers} == {b'{"asked":1}', b'{"asked":2}'}
        assert get()["Cache-Status"] == "keybits; hit"  # what the second made is kept

    def test_while_a_scope_is_open_nobody_waits(
        self, crowd: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        together = threading.Barrier(4, timeout=30)
        monkeypatch.setattr(flight, "PATIENCE", 60)
        monkeypatch.setattr(Probe, "meanwhile", staticmethod(lambda _: together.wait()))
        get_store().open(["thing"], "w" * 32)
        answers = list(crowd.map(lambda _: get(), range(4)))
        get_store().close(["thing"], "w" * 32)
        assert {answer["Cache-Status"] for answer in answers} == {"keybits; fwd=uri-miss"}

    def test_where_nothing_may_be_kept_nobody_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flight, "alone", None)
        monkeypatch.setattr(transactions, "may_store", lambda: False)
        assert get()["Cache-Status"] == "keybits; fwd=uri-miss"

    def test_who_lands_twice_leaves_another_on_its_way(self) -> None:
        first, second = threading.Event(), threading.Event()
        flight._flights["key"] = first
        flight._land("key", first)
        flight._flights["key"] = second
        flight._land("key", first)
        assert flight._flights.pop("key") is second


def made() -> Entry:
    """Return an entry that is true under the stamps of now."""
    return Entry(readthrough.mint(SCOPES) or b"", '"e"', 1, (), b"x")


class TestProcesses:
    @pytest.mark.parametrize("leader", ["other", ""])
    def test_another_s_entry_is_taken_as_soon_as_it_is_there(
        self, monkeypatch: pytest.MonkeyPatch, leader: str
    ) -> None:
        get_store().lease("key", "other", 60)
        pauses = iter([lambda: None, lambda: get_store().write("key", made().pack(), leader)])
        monkeypatch.setattr(flight.time, "sleep", lambda _: next(pauses)())
        with alone("key", SCOPES) as landing:
            assert landing.entry == made()

    def test_a_leader_that_died_is_replaced_when_its_lease_ends(self) -> None:
        get_store().lease("key", "dead", 0.01)
        with alone("key", SCOPES) as landing:
            assert (landing.entry, landing.leads) == (None, True)

    def test_who_leads_after_another_makes_it_under_the_stamps_of_then(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def overtaken(_: float) -> None:
            get_store().close(SCOPES)
            get_store().release("key", "other")

        get_store().lease("key", "other", 60)
        before = readthrough.mint(SCOPES)
        monkeypatch.setattr(flight.time, "sleep", overtaken)
        with alone("key", SCOPES) as landing:
            assert landing.leads
            assert before != landing.witness == readthrough.mint(SCOPES)

    def test_nobody_waits_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flight, "PATIENCE", 0.01)
        get_store().lease("key", "frozen", 60)
        with alone("key", SCOPES) as landing:
            assert (landing.entry, landing.leads, landing.holder) == (None, False, "")
            assert landing.witness == readthrough.mint(SCOPES)

    def test_who_has_something_to_show_does_not_wait_for_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(flight.time, "sleep", None)
        get_store().lease("key", "other", 60)
        with alone("key", SCOPES, patient=False) as landing:
            assert (landing.entry, landing.leads) == (None, False)

    def test_nor_for_another_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with alone("key", SCOPES):
            monkeypatch.setattr(flight._flights["key"], "wait", None)
            with alone("key", SCOPES, patient=False) as landing:
                assert (landing.entry, landing.leads) == (None, False)

    def test_nobody_waits_once_a_scope_is_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        get_store().lease("key", "other", 60)
        monkeypatch.setattr(flight.time, "sleep", lambda _: get_store().open(SCOPES, "w" * 32))
        with alone("key", SCOPES) as landing:
            assert (landing.entry, landing.leads, landing.witness) == (None, True, None)
        get_store().close(SCOPES, "w" * 32)

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_lead_is_given_back(self, *, fails: bool) -> None:
        with suppress(RuntimeError), alone("key", SCOPES):
            assert not get_store().lease("key", "other", 60)
            if fails:
                raise RuntimeError
        assert get_store().lease("key", "other", 60)

    def test_a_lead_that_cannot_be_given_back_fails_no_answer(
        self, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        settings.KEYBITS_STORE_RETRY = 0

        def away(*_: Any) -> None:
            raise StoreError("out of reach")

        monkeypatch.setattr(type(get_store().store), "release", away)
        with alone("key", SCOPES) as landing:
            assert landing.holder
        assert get_store().is_tripped
        get_store.cache_clear()

    def test_the_lead_is_given_back_with_the_entry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(get_store().store), "release", None)
        get()
        ((key, _),) = get_store().sample(2)
        assert get_store().lease(key, "other", 60)

    def test_who_leads_looks_once_more(self) -> None:
        """It may have been made between the first look and the lead."""
        get_store().write("key", made().pack())
        with alone("key", SCOPES) as landing:
            assert (landing.entry, landing.leads) == (made(), True)

    def test_what_was_made_before_the_stamps_of_now_is_given_to_nobody(self) -> None:
        get_store().write("key", made().pack())
        get_store().close(SCOPES)
        with alone("key", SCOPES) as landing:
            assert landing.entry is None
        with alone("key", SCOPES) as landing:
            assert landing.entry is None

    def test_without_a_store_everybody_computes(self, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
        settings.KEYBITS_STORE_RETRY = 0

        def away(*_: Any) -> bool:
            raise StoreError("out of reach")

        with monkeypatch.context() as patch:
            patch.setattr(type(get_store().store), "lead", away)
            with alone("key", SCOPES) as landing:
                assert (landing.entry, landing.leads, landing.witness) == (None, True, None)

    def test_a_child_waits_for_no_thread_of_its_parent(self) -> None:
        flight._flights["key"] = threading.Event()
        with flight._lock:  # as another thread may, at any time
            pid = os.fork()
            if pid == 0:
                os._exit(0 if not flight._flights and flight._lock.acquire(blocking=False) else 1)
        flight._flights.clear()
        assert os.waitpid(pid, 0)[1] == 0


class TestEndsSoon:
    def test_one_makes_it_anew_while_it_serves_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def meanwhile(request: Request) -> None:
            expire(request, datetime.now(UTC) + timedelta(seconds=60))
            if Probe.asked == 2:
                others.append(get()["Cache-Status"])

        others: list[str] = []
        monkeypatch.setattr(Probe, "meanwhile", staticmethod(meanwhile))
        get()
        monkeypatch.setattr(readthrough, "MARGIN", 10**9)
        assert get()["Cache-Status"] == "keybits; fwd=stale; stored"
        assert others == ["keybits; hit"]

    def test_what_has_ended_is_shown_to_nobody_while_it_is_made_anew(
        self, monkeypatch: pytest.MonkeyPatch, clock: Any
    ) -> None:
        def meanwhile(request: Request) -> None:
            expire(request, datetime.fromtimestamp(clock.now + 60, UTC))
            if Probe.asked == 2:
                others.append(get().content)

        others: list[bytes] = []
        monkeypatch.setattr(flight, "PATIENCE", 0.01)
        monkeypatch.setattr(Probe, "meanwhile", staticmethod(meanwhile))
        get()
        clock.now += 60
        assert get().content == b'{"asked":3}'
        assert others == [b'{"asked":3}']


class TestStale:
    """RFC 5861 section 3, inside the server: who would have to wait is shown what has just ended."""

    @pytest.fixture(autouse=True)
    def _policy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Probe, "cache_policy", Policy(Lifetime(stale_while_revalidate=30)))

    def while_made_again(
        self, monkeypatch: pytest.MonkeyPatch, *, before: Callable[[], object]
    ) -> HttpResponse:
        """Return what a second request is sent while a first makes the answer again."""
        others: list[HttpResponse] = []
        monkeypatch.setattr(flight, "PATIENCE", 0.01)
        get()
        before()
        again = iter([True])

        def meanwhile(_: Request) -> None:
            if next(again, False):
                others.append(get())

        monkeypatch.setattr(Probe, "meanwhile", staticmethod(meanwhile))
        get()
        return others[0]

    def test_is_shown_with_its_age_while_another_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = self.while_made_again(monkeypatch, before=lambda: get_store().close(["thing"]))
        assert answer.content == b'{"asked":1}'
        assert answer["Age"] in {"0", "1"}
        assert answer["Cache-Status"] == f"keybits; hit; ttl=-{answer['Age']}"

    def test_is_not_shown_after_a_takedown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answer = self.while_made_again(
            monkeypatch, before=lambda: get_store().close(["thing", "takedown:thing"])
        )
        assert answer.content != b'{"asked":1}'

    def test_is_not_shown_after_a_takedown_of_a_member_that_its_key_does_not_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No change of a single member ends a family."""
        monkeypatch.setitem(KEY.bits, "takedown", PurgeKeyBit("takedown:*"))
        answer = self.while_made_again(
            monkeypatch, before=lambda: get_store().close(["thing", "takedown:thing"])
        )
        assert answer.content != b'{"asked":1}'

    def test_is_what_this_process_has_seen_to_be_true_whatever_a_slower_one_has_stored_since(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a takedown overtook while it was made is stored all the same: no stamps will vouch for it."""

        def before() -> None:
            ((key, frame),) = get_store().sample(2)
            late = replace(Entry.unpack(frame), witness=b"before", body=b"taken down", stale=0)
            get_store().write(key, late.pack())
            get_store().close(["thing"])

        answer = self.while_made_again(monkeypatch, before=before)
        assert (answer.content, answer["Cache-Status"][:18]) == (b'{"asked":1}', "keybits; hit; ttl=")

    def test_is_not_shown_where_this_process_has_never_seen_it_true(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def before() -> None:
            get_store().close(["thing"])
            memory.entries().clear()

        assert self.while_made_again(monkeypatch, before=before).content != b'{"asked":1}'

    def test_is_not_shown_where_a_takedown_came_while_it_was_made(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            Probe, "meanwhile", staticmethod(lambda _: get_store().close(["thing", "takedown:thing"]))
        )
        assert self.while_made_again(monkeypatch, before=lambda: None).content != b'{"asked":1}'

    def test_is_shown_for_as_long_from_when_it_was_last_seen_to_be_true(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = clock.seconds()

        def later() -> None:
            monkeypatch.setattr(clock, "seconds", lambda: now + 20)
            assert get()["Cache-Status"] == "keybits; hit"
            get_store().close(["thing"])
            monkeypatch.setattr(clock, "seconds", lambda: now + 45)

        answer = self.while_made_again(monkeypatch, before=later)
        assert (answer.content, answer["Age"]) == (b'{"asked":1}', "25")

    def test_has_no_date_that_what_came_after_it_may_have_as_well(
        self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> None:
        """It is dated to the second that followed it, in which it is shown; what ended it may have come before that."""
        wall, now = request.getfixturevalue("clock"), clock.seconds()
        made = int(wall.now)

        def later() -> None:
            get_store().close(["thing"])
            monkeypatch.setattr(clock, "seconds", lambda: now + 1)
            wall.now += 1

        monkeypatch.setattr(clock, "seconds", lambda: now)
        answer = self.while_made_again(monkeypatch, before=later)
        assert (answer.content, answer["Age"]) == (b'{"asked":1}', "1")
        assert parse_http_date(answer["Last-Modified"]) == made

    @pytest.mark.parametrize("step", ["witness", "read", "write"])
    def test_is_shown_for_as_long_from_when_the_store_was_asked_however_late_it_answers(
        self, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """Its stamps may have ended while the answer was on the way, or this process stood still."""
        now = [clock.seconds()]
        monkeypatch.setattr(clock, "seconds", lambda: now[0])
        store: Any = get_store()
        do = getattr(store, step)

        def late(*asked: Any) -> Any:
            done = do(*asked)
            now[0] += 20
            return done

        def before() -> None:
            if step != "witness":
                memory.entries().clear()
            if step == "write":
                store.clear()
            with monkeypatch.context() as patch:
                patch.setattr(store, step, late)
                get()
            store.close(["thing"])
            now[0] += 11

        shown = b'{"asked":2}' if step == "write" else b'{"asked":1}'
        assert self.while_made_again(monkeypatch, before=before).content != shown

    def test_is_not_shown_longer_than_the_policy_allows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = clock.seconds()

        def later() -> None:
            get_store().close(["thing"])
            monkeypatch.setattr(clock, "seconds", lambda: now + 31)

        assert self.while_made_again(monkeypatch, before=later).content != b'{"asked":1}'

    def test_is_not_shown_where_the_policy_does_not_say_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Probe, "cache_policy", Policy())
        answer = self.while_made_again(monkeypatch, before=lambda: get_store().close(["thing"]))
        assert answer.content != b'{"asked":1}'
