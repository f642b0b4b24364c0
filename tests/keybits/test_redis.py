"""The lines of hits to Redis: one hangs up, restarts, stalls or talks nonsense, and nothing old is believed."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import InvalidResponse, ResponseError
from stacks.servers import Redis, start_redis
from stacks.threads import at_once

from keybits.stores import StoreError, get_store
from keybits.stores import redis as redis_store
from keybits.stores.redis import _have_the_kernel_wait

pytestmark = pytest.mark.stack("server")
SCOPES = ("a", "b")


@pytest.fixture
def store() -> Any:
    found: Any = get_store().store
    found.clear()
    found._idle.clear()
    return found


def hang_up(store: Any) -> None:
    for line in tuple(store._idle):
        with suppress(OSError):  # somebody else was quicker
            line._socket.shutdown(socket.SHUT_RDWR)


def said(store: Any, reply: bytes) -> Any:
    """Have the line read `reply` in place of what the server says."""
    ours, theirs = socket.socketpair()
    theirs.sendall(reply)
    store._idle[-1]._socket = ours
    return theirs


class TestReconnects:
    def test_where_the_server_has_hung_up_it_asks_again(self, store: Any) -> None:
        stamps = store.mint(SCOPES)
        for _ in range(3):
            assert store.witness(SCOPES) == b"".join(stamps)
            hang_up(store)
        assert store.witness(SCOPES) == b"".join(stamps)

    def test_it_does_so_as_often_as_it_takes(self, store: Any) -> None:
        stamps = store.mint(SCOPES)
        for _ in range(150):  # a pool of redis-py's makes a hundred connections
            assert store.witness(SCOPES) == b"".join(stamps)
            hang_up(store)

    def test_where_the_server_is_another_it_believes_nothing_of_the_first(
        self, store: Any, redis_server: Redis
    ) -> None:
        store.mint(SCOPES)
        assert store.witness(SCOPES) is not None
        redis_server.restart()
        assert store.witness(SCOPES) is None
        stamps = store.mint(SCOPES)
        assert store.witness(SCOPES) == b"".join(stamps)

    def test_where_there_is_no_server_it_says_so(self, store: Any, redis_server: Redis) -> None:
        store.mint(SCOPES)
        store.witness(SCOPES)
        redis_server.stop()
        with pytest.raises(StoreError):
            store.witness(SCOPES)

    def test_an_answer_that_comes_too_late_is_nobodys(self, store: Any, redis_server: Redis) -> None:
        stamps = store.mint((*SCOPES, "c"))
        assert store.witness(SCOPES) == b"".join(stamps[:2])
        redis_server.freeze()
        with pytest.raises(StoreError):
            store.witness(SCOPES)
        redis_server.thaw()
        assert store.witness(("c",)) == stamps[2]
        assert store.witness(SCOPES) == b"".join(stamps[:2])


class TestNonsense:
    @pytest.mark.parametrize(
        "reply",
        [
            b"!?\r\n",
            b":1\r\n",
            b"+OK\r\n",
            b"*1\r\n$-1\r\n",
            b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
            b">3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
            b"-ERR no\r\n",
            b"*3\r\n$1\r\n1\r\n",
        ],
    )
    def test_is_a_store_that_has_failed_and_the_next_answer_is_right(self, store: Any, reply: bytes) -> None:
        stamps = store.mint(SCOPES)
        store.witness(SCOPES)
        theirs = said(store, reply)
        if reply.startswith(b"*3"):
            theirs.close()  # in the middle of what it says; that is a server that has hung up
            assert store.witness(SCOPES) == b"".join(stamps)
            return
        with pytest.raises(StoreError):
            store.witness(SCOPES)
        theirs.close()
        assert store.witness(SCOPES) == b"".join(stamps)

    def test_is_an_error_that_redis_py_knows(self, store: Any) -> None:
        store.mint(SCOPES)
        store.witness(SCOPES)
        theirs = said(store, b"!?\r\n")
        with pytest.raises(StoreError) as failure:
            store.witness(SCOPES)
        theirs.close()
        assert isinstance(failure.value.__cause__, InvalidResponse)


def test_a_socket_that_stands_in_for_python_s_keeps_its_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of gevent and eventlet do: the kernel never lets them wait."""

    class Green:
        timeout: float | None = 5.0

        def gettimeout(self) -> float | None:
            return self.timeout

        def settimeout(self, seconds: float | None) -> None:
            self.timeout = seconds

        def setsockopt(self, *_: Any) -> None:
            """Nobody looks at it."""

    monkeypatch.setattr(socket, "socket", Green)
    green: Any = Green()
    _have_the_kernel_wait(green)
    assert green.timeout == 5


class TestClear:
    def test_comes_to_an_end_while_others_go_on(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each reader gives new stamps to what has none: there is never a moment without any."""
        before, call = store.mint(SCOPES), store._call
        calls: list[Any] = []

        def go_on(command: Any) -> Any:
            assert len(calls) < 20
            calls.append(call(lambda run: ["SET", f"{run}:e:{len(calls)}", "new"]))
            return call(command)

        with monkeypatch.context() as patch:
            patch.setattr(store, "_call", go_on)
            store.clear()
        assert not set(store.mint(SCOPES)) & set(before)
        store.clear()

    def test_that_ends_halfway_leaves_no_stamp_without_the_note(
        self, store: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the note a relay knows that it has to go on."""
        store.mint(SCOPES)
        store.note("history:a", b"known")
        unlinked = []

        def fail(names: Any, run: str) -> Any:
            unlinked.append(names)
            if len(unlinked) == 2:
                raise ResponseError
            return ["UNLINK", *names]

        with monkeypatch.context() as patch:
            patch.setattr(redis_store, "_unlink", fail)
            with pytest.raises(StoreError):
                store.clear()
        assert store.witness(SCOPES) is None
        assert store.noted("history:a") == b"known"


class TestThreads:
    def test_each_gets_the_answers_to_its_own_questions(self, store: Any) -> None:
        scopes = [f"scope {number}" for number in range(6)]
        stamps = dict(zip(scopes, store.mint(scopes), strict=True))
        wrong: list[Any] = []

        def ask(scope: str) -> None:
            for number in range(200):
                if store.witness((scope,)) != stamps[scope]:
                    wrong.append(scope)
                if number % 50 == 0:
                    hang_up(store)

        at_once(*(partial(ask, scope) for scope in scopes))
        assert wrong == []

    def test_two_that_ask_at_once_have_a_line_each(self, store: Any) -> None:
        store.witness(SCOPES)
        first = store._idle_line()
        assert store._idle_line() is not first

    def test_those_that_ask_one_after_the_other_share_one(self, store: Any) -> None:
        for _ in range(3):
            store.witness(SCOPES)
        assert len(store._idle) == 1

    def test_a_line_of_the_parent_is_not_the_childs(self, store: Any) -> None:
        store.witness(SCOPES)
        line = store._idle[-1]
        pid = os.fork()
        if pid == 0:
            os._exit(0 if store._idle_line() is not line else 1)
        assert os.waitpid(pid, 0)[1] == 0
        store.witness(SCOPES)
        assert store._idle[-1] is line

    def test_none_goes_to_the_old_server_once_another_has_taken_over(
        self, store: Any, tmp_path: Path
    ) -> None:
        """The old one may be alive, and lines to it open: what is closed there alone stays open for all others."""
        lines = [store._idle_line() for _ in range(3)]
        for line in lines[1:]:
            line.call(lambda _: ["PING"])
        other = start_redis(tmp_path / "other")
        try:
            store._dial.keywords["port"] = other.port
            lines[0].call(lambda _: ["PING"])
            store._idle.extend(lines)
            found = {store.noted_by("any")[0].split()[-1] for _ in range(3)}
            assert found == {lines[0]._connection.namespace}
        finally:
            get_store.cache_clear()
            other.kill()

    def test_it_remembers_no_more_questions_than_it_may(
        self, store: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("keybits.stores.redis.QUESTIONS", 10)
        for number in range(50):
            store.witness((f"scope {number}",))
            assert len(store._idle[-1]._questions) <= 10
