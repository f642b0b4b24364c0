"""Stamps kept near: what Redis says has ended is believed no more, and with Redis gone nothing is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django_redis import get_redis_connection
from stacks.servers import Redis, start_redis
from stacks.threads import aside

from keybits.stores import StoreError, get_store
from keybits.stores import near as near_store
from keybits.stores.near import NearRedisStore, _Tracked

pytestmark = pytest.mark.stack("server")
SCOPES = ("a", "b")


@pytest.fixture
def near(settings: Any) -> Iterator[NearRedisStore]:
    settings.KEYBITS_STORE = "keybits.stores.near.NearRedisStore"
    settings.KEYBITS_RELAY = "off"
    store: Any = get_store()
    store.clear()
    yield store.store
    get_store().clear()


def asleep(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the machine sleep: CLOCK_MONOTONIC stands still meanwhile, CLOCK_BOOTTIME does not."""
    clock, boot = time.clock_gettime, time.CLOCK_BOOTTIME
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + (seconds if which == boot else 0))


@dataclass
class Queue:
    """A lock, and who has come to wait for it."""

    lock: Any
    joined: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __enter__(self) -> None:
        self.joined.release()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def eventually(true: Callable[[], bool]) -> bool:
    """Wait for a message of Redis to arrive: nothing here says when."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if true():
            return True
    return False


def commands(near: NearRedisStore) -> int:
    """Return how many MGET the server has seen."""
    stats = get_redis_connection("default").info("commandstats")
    return int(stats.get("cmdstat_mget", {}).get("calls", 0))


def is_known(near: NearRedisStore, scopes: tuple[str, ...]) -> bool:
    """Say whether a witness takes no question to Redis."""
    before = commands(near)
    assert near.witness(scopes) is not None
    return commands(near) == before


class TestWitness:
    def test_is_the_store_s_own(self, near: NearRedisStore) -> None:
        near.mint(SCOPES)
        assert near.witness(SCOPES) == near.read("none", SCOPES).witness is not None

    def test_is_asked_for_once(self, near: NearRedisStore) -> None:
        near.mint(SCOPES)
        assert eventually(lambda: near.witness(SCOPES) == near.read("none", SCOPES).witness)
        near.witness(SCOPES)
        before = commands(near)
        for _ in range(100):
            assert near.witness(SCOPES) is not None
        assert commands(near) == before

    def test_is_asked_for_again_after_a_while_whatever_else_has_been_meanwhile(
        self, near: NearRedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the end of a lease Redis may tell late."""
        near.mint((*SCOPES, "c"))
        assert eventually(lambda: is_known(near, SCOPES) and is_known(near, ("c",)))
        asleep(monkeypatch, seconds=61)
        assert not is_known(near, SCOPES)
        assert not is_known(near, ("c",))

    def test_so_many_are_remembered_and_not_more(
        self, near: NearRedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(near_store, "MOST_KNOWN", 8)
        near.mint(["a"])
        assert eventually(lambda: near.witness(("a",)) is not None)
        for number in range(1, 20):
            assert near.witness(("a",) * number) is not None
        tracked: Any = near._tracked
        assert len(tracked._known) <= 8

    @pytest.mark.parametrize("end", ["close", "open"])
    def test_ends_when_another_connection_ends_a_stamp(self, near: NearRedisStore, end: str) -> None:
        near.mint(SCOPES)
        assert near.witness(SCOPES) is not None
        if end == "open":
            near.open(["b"], "w" * 32)
        else:
            near.close(["b"])
        assert eventually(lambda: near.witness(SCOPES) is None)

    def test_ends_when_a_stamp_ends_while_others_are_asked_for(
        self, near: NearRedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        near.mint(SCOPES)
        assert near.witness(("a",)) is not None
        send = _Tracked._send

        def after_an_end(tracked: _Tracked, *commands: Any) -> None:
            near.close(["a"])
            send(tracked, *commands)

        with monkeypatch.context() as patch:
            patch.setattr(_Tracked, "_send", after_an_end)
            assert near.witness(("b",)) is not None
        assert eventually(lambda: near.witness(("a",)) is None)

    def test_a_stamp_that_is_minted_anew_is_another_witness(self, near: NearRedisStore) -> None:
        near.mint(SCOPES)
        first = near.witness(SCOPES)
        for _ in range(50):
            near.close(["a"])
            near.mint(SCOPES)
            assert eventually(lambda: near.witness(SCOPES) == near.read("none", SCOPES).witness)
        assert near.witness(SCOPES) != first

    def test_of_no_stamp_is_none_and_not_remembered(self, near: NearRedisStore) -> None:
        assert near.witness(SCOPES) is None
        near.mint(SCOPES)
        assert eventually(lambda: near.witness(SCOPES) is not None)

    def test_a_server_that_forgets_everything_is_believed(self, near: NearRedisStore) -> None:
        near.mint(SCOPES)
        assert near.witness(SCOPES) is not None
        get_redis_connection("default").flushall()
        assert eventually(lambda: near.witness(SCOPES) is None)


class TestWord:
    def test_without_a_relay_s_word_there_is_none(self, near: NearRedisStore, settings: Any) -> None:
        settings.KEYBITS_RELAY = "external"
        store: Any = get_store()
        store.mint(SCOPES)
        assert store.witness(SCOPES) is None
        store.vouch(store.now() + 1_000)
        assert store.witness(SCOPES) is not None

    def test_it_ends_without_a_message(self, near: NearRedisStore, settings: Any) -> None:
        settings.KEYBITS_RELAY = "external"
        store: Any = get_store()
        store.mint(SCOPES)
        store.vouch(store.now() + 100)
        assert eventually(lambda: store.witness(SCOPES) is None)

    def test_it_ends_while_the_machine_sleeps(
        self, near: NearRedisStore, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = self.vouched(settings)
        self.end_by_redis()
        asleep(monkeypatch, seconds=3600)
        assert store.witness(SCOPES) is None

    def test_it_holds_no_longer_where_redis_s_clock_was_set_back(
        self, near: NearRedisStore, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = self.vouched(settings, drawn_out=3600)
        self.end_by_redis()
        asleep(monkeypatch, seconds=settings.KEYBITS_RELAY_BOUND + 0.1)
        assert store.witness(SCOPES) is None

    def vouched(self, settings: Any, drawn_out: float = 0) -> Any:
        """Return a store whose relay's word this process has heard, and of which it hears nothing more."""
        settings.KEYBITS_RELAY, settings.KEYBITS_RELAY_BOUND = "external", 30
        store: Any = get_store()
        store.mint(SCOPES)
        store.vouch(store.now() + 30_000)
        if drawn_out:
            self.words().pexpire(self.word(), int(drawn_out * 1000))
        assert store.witness(SCOPES) is not None
        return store

    def end_by_redis(self) -> None:
        self.words().delete(self.word())

    def word(self) -> str:
        [name] = self.words().keys("*:vouched")
        return str(name.decode())

    def words(self) -> Any:
        return get_redis_connection("default")


class TestConnection:
    @pytest.mark.parametrize(
        "look",
        [lambda near: near.vouch(near.now() + 1_000), lambda near: near.vouched()],
        ids=["own", "spared"],
    )
    def test_what_redis_says_is_heard_at_each_look_of_a_relay_though_nobody_reads(
        self, near: Any, look: Callable[[Any], object]
    ) -> None:
        near.mint(SCOPES)
        assert near.witness(SCOPES) is not None
        near.close(SCOPES)
        assert near._tracked._poll.poll(30_000) != []
        look(near)
        assert near._tracked._poll.poll(0) == []
        assert near._tracked._stamps == {}

    def test_one_that_was_closed_is_noticed_at_a_look_of_a_relay(self, near: Any) -> None:
        near.mint(SCOPES)
        near.witness(SCOPES)
        client = get_redis_connection("default")
        for each in client.client_list():
            if "B" in each["flags"]:
                client.client_kill_filter(_id=each["id"])
        assert near._tracked._poll.poll(30_000) != []
        near.vouch(near.now() + 1_000)
        assert near._tracked._connection is None
        assert near.witness(SCOPES) is not None

    def test_nonsense_is_a_store_that_has_failed_and_the_next_answer_is_right(self, near: Any) -> None:
        near.mint(SCOPES)
        assert near.witness(SCOPES) is not None
        near._tracked._reader.feed(b"!?\r\n")
        with pytest.raises(StoreError):
            near.witness((*SCOPES, "c"))
        assert eventually(lambda: near.witness(SCOPES) == near.read("none", SCOPES).witness)

    def test_one_that_was_closed_is_made_anew_and_nothing_of_before_is_believed(
        self, near: NearRedisStore
    ) -> None:
        near.mint(SCOPES)
        before = near.witness(SCOPES)
        client = get_redis_connection("default")
        ours = client.client_list()
        for each in ours:
            if "T" in each["flags"] or "t" in each["flags"] or "B" in each["flags"]:
                client.client_kill_filter(_id=each["id"])
        near.close(["a"])
        near.mint(SCOPES)
        assert eventually(lambda: near.witness(SCOPES) == near.read("none", SCOPES).witness)
        assert near.witness(SCOPES) != before

    def test_with_nobody_there_it_is_an_error_and_everything_is_forgotten(
        self, near: NearRedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        near.mint(SCOPES)
        near.witness(SCOPES)
        tracked: Any = near._tracked
        tracked._socket.shutdown(2)

        def refuses() -> Any:
            raise ConnectionRefusedError("nobody there")

        monkeypatch.setattr(tracked, "_dial", refuses)
        with pytest.raises(StoreError):
            near.witness(SCOPES)
        assert tracked._stamps == {}

    def test_of_many_that_wait_while_nobody_answers_one_finds_out_and_the_others_take_its_word(
        self, near: Any, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise the last of twenty threads would wait for twenty time-outs."""
        near.mint(("a", "b"))
        near.witness(("a",))
        tracked, dialled = near._tracked, []
        dial, lock, queue = tracked._dial, tracked._lock, Queue(lock=tracked._lock)
        monkeypatch.setattr(tracked, "_dial", lambda: dialled.append(1) or dial())
        monkeypatch.setattr(tracked, "_lock", queue)
        redis_server.freeze()
        try:
            with lock:
                asked = [aside(lambda: near.witness(("b",))) for _ in range(8)]
                for _ in asked:
                    assert queue.joined.acquire(timeout=30)
            failures = [each.exception(30) for each in asked]
        finally:
            redis_server.thaw()
        assert {type(failure) for failure in failures} == {StoreError}
        assert dialled == []
        assert eventually(lambda: near.witness(("b",)) == near.read("none", ("b",)).witness)

    def test_leads_to_the_server_that_takes_over_as_soon_as_any_other_does(
        self, near: Any, tmp_path: Path
    ) -> None:
        """The old one may be alive, and the connection open: no hit would be answered from memory any more."""
        near.mint(SCOPES)
        near.witness(SCOPES)
        other = start_redis(tmp_path / "other")
        try:
            near._dial.keywords["port"] = other.port
            near._idle.clear()
            found = near.mint(SCOPES)
            assert near.witness(SCOPES) == b"".join(found)
            assert near._tracked.server == near.noted_by("any")[0].split()[-1]
        finally:
            get_store.cache_clear()
            other.kill()

    def test_a_child_has_one_of_its_own(self, near: NearRedisStore) -> None:
        near.mint(SCOPES)
        near.witness(SCOPES)
        theirs = near._tracked
        pid = os.fork()
        if pid == 0:
            os._exit(0 if near.witness(SCOPES) is not None and near._tracked is not theirs else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert near.witness(SCOPES) is not None


def test_the_stack_has_a_redis() -> None:
    assert configured.REDIS_URL
