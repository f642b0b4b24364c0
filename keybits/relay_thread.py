"""How a relay runs in a serving process: in one thread, over connections of its own, and out of the way of forks."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Any

from django.db import connections

from keybits.conf import conf
from keybits.relay import Relay
from keybits.stores import get_store

__all__ = ["ensure_running"]

FIRST_LOOK = 1.0
"""The longest time, in seconds, that a process waits for its relay's first look. Without it, its first reads miss."""

_running_in = 0
_starting = threading.Lock()


class _Pause:
    """Makes forks wait for the look under way, for `FIRST_LOOK` seconds at most. Several threads may fork at once.

    If a process is forked while a thread is inside SQLite, the child may wait for ever for a lock of that thread.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.looking = threading.Lock()
        self._taker = 0

    def begin(self) -> None:
        if self.looking.acquire(timeout=FIRST_LOOK):
            self._taker = threading.get_ident()

    def end(self) -> None:
        """End the pause that this thread has begun; nothing if it has waited in vain."""
        if self._taker == threading.get_ident():
            self._taker = 0
            self.looking.release()


_pause = _Pause()


def _renew() -> None:
    """Give a child process new locks: a lock that a thread of the parent holds would never be released there."""
    global _starting  # noqa: PLW0603 - as below
    _pause.renew()
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_renew)


def _run_beside(relay: Relay) -> None:
    """Run a relay in this thread, over connections that it shares with no other thread."""
    for alias in relay.aliases:
        connections[alias] = _aside(connections[alias])
    relay.run(_pause.looking)


def _aside(connection: Any) -> Any:
    """Return a copy of the connection outside Django's pool, and without the SQL log that `DEBUG` turns on."""
    own = connection.copy()
    own.settings_dict["OPTIONS"].pop("pool", None)
    own.make_debug_cursor = own.make_cursor
    return own


@cache
def _pause_at_forks() -> None:
    """Register the pause, after the hooks of the store, so that a fork begins it before it takes the store's locks."""
    get_store()
    os.register_at_fork(before=_pause.begin, after_in_parent=_pause.end)


def ensure_running() -> None:
    """Start a relay in this process, if `KEYBITS_RELAY` is `thread` and none runs; after a fork, start a new one."""
    global _running_in  # noqa: PLW0603 - one relay a process is the point
    if _running_in == os.getpid() or conf.RELAY != "thread":
        return
    with _starting:
        if _running_in != os.getpid():
            relay = Relay()
            _pause_at_forks()
            threading.Thread(target=_run_beside, args=(relay,), name="keybits-relay", daemon=True).start()
            relay.looked.wait(FIRST_LOOK)
            _running_in = os.getpid()
