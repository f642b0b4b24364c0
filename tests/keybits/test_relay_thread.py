"""A relay in a serving process: beside requests, of whose connections and logs it uses none, and out of forks' way."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import Any

import pytest
from django.db import connection
from stacks.threads import aside

from catalog.models import Tag
from keybits import changes, relay_thread
from keybits.relay import Relay

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tag() -> Tag:
    return Tag.objects.create(slug="x", name="X")


class TestBesideRequests:
    def test_its_statements_are_in_no_log_of_sql(
        self, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Ten looks a second would bury what a developer looks for there."""
        settings.DEBUG = True
        caplog.set_level("DEBUG", logger="django.db.backends")
        relay = Relay()
        running = aside(partial(relay_thread._run_beside, relay))
        assert relay.looked.wait(30)
        relay.stopped.set()
        running.result(30)
        assert [message for message in caplog.messages if changes.TABLE in message] == []

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="Django has no pool for others")
    def test_it_takes_none_of_their_pool_of_connections(
        self, tag: Tag, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It would keep one for good, and give back what listens."""
        relay = Relay()
        with monkeypatch.context() as patch:
            patch.setitem(connection.settings_dict, "OPTIONS", {"pool": {"no": "pool"}})
            running = aside(partial(relay_thread._run_beside, relay))
            assert relay.looked.wait(30)
            relay.stopped.set()
            running.result(30)
        assert caplog.messages == []


def test_a_child_that_is_forked_while_a_relay_starts_is_not_kept_waiting_for_ever() -> None:
    """The thread that would give the lock back is not in the child."""
    begun, done = threading.Event(), threading.Event()

    def start() -> None:
        with relay_thread._starting:
            begun.set()
            assert done.wait(30)

    starter = threading.Thread(target=start)
    starter.start()
    assert begun.wait(30)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if relay_thread._starting.acquire(timeout=5) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    done.set()
    starter.join()


def test_a_fork_waits_for_the_look_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child of a process that is inside SQLite may never get its locks."""
    looks, forks, has_looked = threading.Event(), threading.Event(), threading.Event()

    def look(relay: Relay) -> None:
        looks.set()
        assert forks.wait(30)
        time.sleep(0.05)  # still inside when the fork would have been
        has_looked.set()
        relay.stopped.set()

    relay_thread._pause_at_forks()
    os.register_at_fork(before=forks.set)  # called before the hooks that are there
    monkeypatch.setattr(Relay, "_look", look)
    relay = threading.Thread(target=partial(relay_thread._run_beside, Relay()))
    relay.start()
    assert looks.wait(30)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if has_looked.is_set() else 1)
    relay.join()
    assert os.waitpid(pid, 0)[1] == 0


class TestThreadsThatForkAtOnce:
    """One may wait for the look in vain, and goes on: it must neither keep the other's pause nor end it."""

    @pytest.fixture
    def pause(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(relay_thread, "FIRST_LOOK", 0.1)
        return relay_thread._Pause()

    def test_leave_no_pause_behind(self, pause: Any) -> None:
        pause.begin()
        aside(pause.begin).result(30)  # in vain
        pause.end()
        aside(pause.end).result(30)
        assert not pause.looking.locked()

    def test_do_not_end_each_other_s_pause(self, pause: Any) -> None:
        forks = threading.Event()

        def fork() -> None:
            pause.begin()
            forks.set()
            assert ended.wait(30)
            pause.end()

        ended = threading.Event()
        with pause.looking:
            one = aside(fork)  # in vain
            assert forks.wait(30)
        pause.begin()
        ended.set()
        one.result(30)
        assert pause.looking.locked()
        pause.end()
        assert not pause.looking.locked()
