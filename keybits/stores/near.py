"""The store of many machines with stamps kept in each process: Redis says which have ended, and a hit asks nobody.

Each process has one connection that tracks every stamp (CLIENT TRACKING in broadcast mode, Redis 6 and later). At each
hit, all that Redis has sent over it is read before anything is believed. An invalidation that is still on its way is
not seen: a reader can be behind a write by the time that one message takes from Redis to this process. If a message
never arrives, the relay's vouching bounds the delay, as it does everywhere: it is read over the same connection, and
holds for `KEYBITS_RELAY_BOUND` seconds at most. `keybits.stores.redis`, with a round trip for each hit, has no such
delay.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from keybits import clock, stamps
from keybits.bounded import Bounded
from keybits.conf import conf
from keybits.stamps import Stamp
from keybits.stores.redis import REDIS_ERRORS, RedisStore, failed, redis_errors

__all__ = ["NearRedisStore"]

TIMEOUTS = (RedisTimeoutError, TimeoutError)
"""The errors of a Redis that does not answer in time."""
MOST_STAMPS = 100_000
"""Most stamps that a process remembers, some 200 bytes each; when there are more, it starts from none."""
MOST_KNOWN = 1_024
"""Most witnesses of them that a process remembers."""
LONGEST = 60.0
"""Most seconds for which stamps are remembered: Redis reports an expired key only when it comes across it."""


class NearRedisStore(RedisStore):
    """As `RedisStore`, but a hit takes no round trip where this process has the stamps. Opt in with `KEYBITS_STORE`."""

    def __init__(self) -> None:
        super().__init__()
        self._making = threading.Lock()
        self._tracked: _Tracked | None = None

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        try:  # not `with redis_errors()`, whose generator would cost every hit: `benchmarks/in_process.py`
            return self._here().witness(scopes)
        except REDIS_ERRORS as error:
            raise failed(error) from error

    def vouch(self, until: int, server: str = "") -> bool:
        """As `RedisStore.vouch`; also read pending invalidations, which otherwise only hits would read."""
        was_believed = super().vouch(until, server)
        self._hear()
        return was_believed

    def vouched(self) -> float:
        """As `RedisStore.vouched`; also read pending invalidations, for a relay that leaves vouching to others."""
        found = super().vouched()
        self._hear()
        return found

    def _reach(self, server: str) -> None:
        """As `RedisStore._reach`; track no stamps of another server any more."""
        super()._reach(server)
        tracked = self._tracked
        if tracked is not None and tracked.server not in {"", server}:
            self._tracked = None

    def _hear(self) -> None:
        tracked = self._tracked
        if tracked is not None and tracked.pid == os.getpid():
            with redis_errors():
                tracked.hear()

    def _here(self) -> _Tracked:
        """Return this process's own connection; after a fork, a new one."""
        tracked = self._tracked
        if tracked is None or tracked.pid != os.getpid():
            with self._making:
                tracked = self._tracked
                if tracked is None or tracked.pid != os.getpid():
                    needs_word = conf.RELAY != "off"
                    tracked = self._tracked = _Tracked(self._dial, self._reach, needs_word=needs_word)
        return tracked


class _Tracked:
    """The stamps that Redis has not invalidated, and the connection over which it would. Safe under threads.

    `reach` is told of the server that each connection leads to.
    """

    def __init__(self, dial: Callable[[], Any], reach: Callable[[str], None], *, needs_word: bool) -> None:
        self.pid = os.getpid()
        self.server = ""
        self._dial = dial
        self._reach = reach
        self._needs_word = needs_word
        self._lock = threading.Lock()
        self._timeouts = 0
        self._connection: Any = None
        self._stamps: dict[str, Stamp] = {}
        self._known: Bounded[tuple[str, ...], bytes] = Bounded(MOST_KNOWN)
        self._known_until = 0.0
        self._word_holds = 0.0
        self._begun = 0.0

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        """Read pending invalidations, then look up; ask Redis for what is missing. Any failure drops everything.

        Of threads that wait for one another, the first finds out that Redis does not answer, for all.
        """
        timeouts = self._timeouts
        with self._lock:
            if timeouts != self._timeouts and self._connection is None:
                raise RedisTimeoutError("Redis did not answer another thread in time")
            try:
                return self._witness(scopes)
            except BaseException as error:
                self._timeouts += isinstance(error, TIMEOUTS)
                self._disconnect()
                raise

    def hear(self) -> None:
        """Read pending invalidations, which Redis buffers without bound until they are read."""
        with self._lock:
            try:
                if self._connection is not None and not self._hear():
                    self._disconnect()
            except BaseException:
                self._disconnect()
                raise

    def _witness(self, scopes: tuple[str, ...]) -> bytes | None:
        if self._connection is None or not self._hear():
            self._connect()
        now = clock.seconds()
        known = self._known.get(scopes)
        if known is not None and now < self._known_until:
            return known
        return self._looked_up(scopes, now)

    def _looked_up(self, scopes: tuple[str, ...], now: float) -> bytes | None:
        if now - self._begun > self._longest or len(self._stamps) > MOST_STAMPS:
            self._begin(now)
        if (self._needs_word and now >= self._word_holds) or not self._stamps.keys() >= set(scopes):
            self._ask(scopes, now)
        if self._needs_word and now >= self._word_holds:
            return None
        found = stamps.witness([self._stamps.get(scope) for scope in scopes])
        if found is not None:
            self._remember(scopes, found)
        return found

    def _remember(self, scopes: tuple[str, ...], found: bytes) -> None:
        """Remember the witness until any stamp is set or ends, or the relay's vouching ends."""
        self._known[scopes] = found
        begun_until = self._begun + self._longest
        self._known_until = min(begun_until, self._word_holds) if self._needs_word else begun_until

    def _ask(self, scopes: Sequence[str], now: float) -> None:
        """Ask how long the relay vouches, and for the stamps, in one round trip."""
        run = self.server
        names = [f"{run}:s:{scope}" for scope in scopes]
        self._send(["PTTL", f"{run}:vouched"], ["MGET", *names])
        left, found = self._answer(), self._answer()
        self._word_holds = now + min(left / 1000, conf.RELAY_BOUND)  # a clock that is set back prolongs it
        self._known.clear()
        for scope, stamp in zip(scopes, found, strict=True):
            if stamp is not None:
                self._stamps[scope] = stamp
            else:
                self._stamps.pop(scope, None)
        self._take_in()  # invalidations that came right after the answer

    def _hear(self) -> bool:
        """Process pending invalidations; return whether the connection is still open."""
        while self._poll.poll(0) or self._pending():
            data = self._receive()
            if not data:
                return False
            self._reader.feed(data)
            self._take_in()
        return True

    def _take_in(self) -> None:
        while (message := self._reader.gets()) is not False:
            self._note(message)

    def _note(self, message: Any) -> None:
        """Forget the stamps that an invalidation names, or all where it names none."""
        if not isinstance(message, hiredis.PushNotification) or message[0] != b"invalidate":
            raise RedisConnectionError(f"{message!r} was not asked for")
        self._known.clear()
        if message[1] is None:
            self._stamps.clear()
            return
        for name in message[1]:
            self._stamps.pop(name[self._prefix :].decode(), None)

    def _answer(self) -> Any:
        """Return the next answer, processing the invalidations that come before it."""
        while True:
            answer = self._reader.gets()
            if isinstance(answer, hiredis.PushNotification):
                self._note(answer)
            elif isinstance(answer, Exception):
                raise answer
            elif answer is not False:
                return answer
            else:
                self._wait()

    def _wait(self) -> None:
        if not self._pending() and not self._poll.poll(self._timeout * 1000):
            raise RedisTimeoutError("Redis did not answer in time")
        data = self._receive()
        if not data:
            raise RedisConnectionError("Redis closed the connection")
        self._reader.feed(data)

    def _receive(self) -> bytes:
        received: bytes = self._socket.recv(65_536)
        return received

    def _send(self, *commands: Sequence[Any]) -> None:
        self._socket.sendall(b"".join(b"".join(self._connection.pack_command(*each)) for each in commands))

    def _connect(self) -> None:
        self._disconnect()
        connection = self._dial()
        connection.connect()
        self._connection = connection
        self._socket = connection._sock
        self._pending = getattr(self._socket, "pending", int)  # bytes buffered by TLS, unseen by poll
        self._timeout = connection.socket_timeout or 5.0
        self.server = connection.namespace
        self._reach(self.server)
        self._prefix = len(f"{self.server}:s:")
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._send(["HELLO", "3"], ["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", f"{self.server}:s:"])
        self._answer()
        self._answer()
        self._begin(clock.seconds())

    def _begin(self, now: float) -> None:
        self._stamps.clear()
        self._known.clear()
        self._begun = now
        self._longest = min(LONGEST, conf.STAMP_LEASE / 10)

    def _disconnect(self) -> None:
        self._stamps.clear()
        self._word_holds = 0.0
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
