"""The store of many machines: one Redis, reached through the connection settings of django-redis.

A stamp is a string; an open scope is a hash of the writers that hold it. One MGET tells them apart, because it returns
nil for a hash. Every name begins with the server's `run_id`, read when a connection is made: a server that restarts
from an old snapshot has another `run_id`, and finds nothing of the old data. Values are our own bytes, never pickles.
"""

from __future__ import annotations

import _socket
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import chain, count, islice
from typing import Any, TypeVar

import hiredis
from django_redis import get_redis_connection
from django_redis.exceptions import ConnectionInterrupted
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.retry import Retry

from keybits import stamps
from keybits.bounded import Bounded
from keybits.conf import conf
from keybits.stamps import Reading, Stamp
from keybits.stores import REMEMBERED, StoreError

__all__ = ["REDIS_ERRORS", "RedisStore", "failed", "redis_errors"]

QUESTIONS = 2_000
"""Most packed commands that a connection remembers, some 1,000 bytes each, not counted in `KEYBITS_MEMORY_BYTES`."""

# KEYS: stamps. Leases are measured by one clock, the server's.
NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function held(key)
  local hold = redis.call('HGETALL', key)
  local left = 0
  for i = 1, #hold, 2 do
    if tonumber(hold[i + 1]) <= now then redis.call('HDEL', key, hold[i]) else left = left + 1 end
  end
  return left > 0
end
"""
MINTED = (
    NOW
    + """
local function minted(key, new)
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then return redis.call('GET', key) end
  if kind == 'hash' and held(key) then return false end
  redis.call('SET', key, new, 'EX', ARGV[1])
  return new
end
"""
)
MINT = (
    MINTED
    + """
local found = {}
for i, key in ipairs(KEYS) do found[i] = minted(key, ARGV[i + 1]) end
return found
"""
)
# A Redis that is full refuses what may need room, but nothing in a script that has deleted something: so that is first.
OPEN = (
    NOW
    + """
for _, key in ipairs(KEYS) do
  if redis.call('TYPE', key).ok == 'string' then redis.call('DEL', key) end
end
for _, key in ipairs(KEYS) do
  redis.call('HSET', key, ARGV[2], now + ARGV[1])
  redis.call('PEXPIRE', key, ARGV[1])
end
"""
)
CLOSE = (
    NOW
    + """
local last = #KEYS
if ARGV[1] ~= '' then last = last - 1 end
for i = 1, last do
  if redis.call('TYPE', KEYS[i]).ok == 'hash' then
    redis.call('HDEL', KEYS[i], ARGV[1])
    if not held(KEYS[i]) then redis.call('DEL', KEYS[i]) end
  else
    redis.call('DEL', KEYS[i])
  end
end
if last < #KEYS then redis.call('SET', KEYS[#KEYS], '1', 'EX', ARGV[2]) end
"""
)

# A clock that was set back has prolonged whatever holds for longer than ARGV[2]: it is shortened.
VOUCH = """
local time = redis.call('TIME')
local left = ARGV[1] - (time[1] * 1000 + math.floor(time[2] / 1000))
local longest, present = tonumber(ARGV[2]), redis.call('PTTL', KEYS[1])
if left > 0 and left <= longest and (left > present or present > longest) then
  redis.call('SET', KEYS[1], '1', 'PX', left)
end
return present > 0 and 1 or 0
"""

LEASED = """
local function leased(key, holder, left)
  local present = redis.call('GET', key)
  if present and present ~= holder then return 0 end
  redis.call('SET', key, holder, 'PX', left)
  return 1
end
"""
LEASE = LEASED + "return leased(KEYS[1], ARGV[1], ARGV[2])"
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

# KEYS: stamps, the lease, the entry, and the relay's vouching where it is required.
BEGIN = (
    MINTED
    + LEASED
    + """
local scopes = tonumber(ARGV[4])
local answer, open, known = {0, false}, false, true
for i = 1, scopes do
  local stamp = minted(KEYS[i], ARGV[i + 4])
  answer[i + 2] = stamp
  open = open or not stamp
  known = known and stamp ~= ARGV[i + 4]
end
if open then return answer end
answer[1] = leased(KEYS[scopes + 1], ARGV[2], ARGV[3])
local word = KEYS[scopes + 3]
if known and (not word or redis.call('EXISTS', word) == 1) then answer[2] = redis.call('GET', KEYS[scopes + 2]) end
return answer
"""
)
WRITE = (
    RELEASE
    + """
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
"""
)
# A clock that was set back has prolonged a period with longer to go than ARGV[2]: it is shortened.
TAKE = """
local used = tonumber(redis.call('GET', KEYS[1]) or 0)
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if used >= tonumber(ARGV[1]) then
  return {-1, used > 0 and redis.call('PTTL', KEYS[1]) or tonumber(ARGV[2])}
end
redis.call('INCR', KEYS[1])
if used == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {ARGV[1] - used - 1, redis.call('PTTL', KEYS[1])}
"""

Command = Callable[[str], Sequence[Any]]
T = TypeVar("T")
R = TypeVar("R")


class RedisStore:
    """Stamps and entries in the primary that `KEYBITS_CACHE_ALIAS` names. Safe under threads and after fork."""

    def __init__(self) -> None:
        self._alias = conf.CACHE_ALIAS
        self._lease = conf.STAMP_LEASE
        self._open_lease = int(conf.OPEN_LEASE * 1000)
        self._ttl = conf.ENTRY_TTL
        self._needs_word = conf.RELAY != "off"
        self._idle: deque[_Line] = deque()
        self._reached = ""
        self._turn = 0
        """Another number each time that a server other than the last is reached."""
        self._turns = count(1)

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        entry, vouched, *found = self._call(
            lambda run: ["MGET", f"{run}:e:{key}", f"{run}:vouched", *_stamps(run, scopes)]
        )
        if conf.RELAY != "off" and vouched is None:
            return Reading(entry, (None,) * len(scopes), vouched=False)
        return Reading(entry, tuple(found))

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        return self._over_a_line(_Line.witness, scopes)

    def _call(self, command: Command) -> Any:
        """Send one command, with the names of the server that this connection reaches, and return the answer."""
        return self._over_a_line(_Line.call, command)

    def _over_a_line(self, ask: Callable[[_Line, T], R], what: T) -> R:
        try:  # not `with redis_errors()`, whose generator would cost every hit: `benchmarks/in_process.py`
            line = self._idle_line()
            answer = ask(line, what)
            self._idle.append(line)  # a line that failed is not returned
            return answer
        except REDIS_ERRORS as error:
            raise failed(error) from error

    def _idle_line(self) -> _Line:
        """Return an idle line that was made in this process: answers on an inherited one could be another process's.

        It leads to the server that was reached last: once another has taken over, no call goes to the old one any more.
        Lines are pooled, not kept per thread: Django's ASGI handler uses a new thread for each request.
        """
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return _Line(self._dial, self._reach, needs_word=self._needs_word)
            if line.server == self._reached and line.pid == os.getpid():
                return line

    def _reach(self, server: str) -> None:
        if server != self._reached:
            self._turn = next(self._turns)  # first: whoever finds the server below finds this too
            self._reached = server

    def _name(self, server: str, run: str) -> str:
        """Return what names begin with at `server` (of `noted_by`; "" for any), or what no name that is read does."""
        return run if server in {"", f"{self._turn} {run}"} else f"{run}:no-longer"

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        fresh = [stamps.new() for _ in scopes]
        found = self._call(
            lambda run: ["EVAL", MINT, len(scopes), *_stamps(run, scopes), self._lease, *fresh]
        )
        return tuple(found)

    def lead(self, key: str, scopes: Sequence[str], holder: str, seconds: float) -> tuple[bool, Reading]:
        fresh = [stamps.new() for _ in scopes]

        def command(run: str) -> Sequence[Any]:
            keys = [*_stamps(run, scopes), f"{run}:lease:{key}", f"{run}:e:{key}"]
            if self._needs_word:
                keys.append(f"{run}:vouched")
            numbers = (int(seconds * 1000), len(scopes))
            return ["EVAL", BEGIN, len(keys), *keys, self._lease, holder, *numbers, *fresh]

        leads, entry, *found = self._call(command)
        return bool(leads), Reading(entry, tuple(found))

    def write(self, key: str, entry: bytes, holder: str = "") -> None:
        def command(run: str) -> Sequence[Any]:
            name = f"{run}:e:{key}"
            if not holder:
                return ["SET", name, entry, "EX", self._ttl]
            return ["EVAL", WRITE, 2, f"{run}:lease:{key}", name, holder, entry, self._ttl]

        self._call(command)

    def open(self, scopes: Sequence[str], writer: str) -> None:
        self._call(lambda run: ["EVAL", OPEN, len(scopes), *_stamps(run, scopes), self._open_lease, writer])

    def close(self, scopes: Sequence[str], writer: str = "") -> None:
        def command(run: str) -> Sequence[Any]:
            keys = _stamps(run, scopes) + ([f"{run}:done:{writer}"] if writer else [])
            return ["EVAL", CLOSE, len(keys), *keys, writer, REMEMBERED]

        self._call(command)

    def closed(self, writers: Sequence[str]) -> set[str]:
        if not writers:
            return set()
        found = self._call(lambda run: ["MGET", *(f"{run}:done:{writer}" for writer in writers)])
        return {writer for writer, done in zip(writers, found, strict=True) if done is not None}

    def now(self) -> int:
        seconds, microseconds = self._call(lambda _: ["TIME"])
        return int(seconds) * 1000 + int(microseconds) // 1000

    def vouch(self, until: int, server: str = "") -> bool:
        """As `Store.vouch`. If another server was reached since, the word gets a name that is never read."""
        longest = int(conf.RELAY_BOUND * 1000)
        return bool(
            self._call(lambda run: ["EVAL", VOUCH, 1, f"{self._name(server, run)}:vouched", until, longest])
        )

    def vouched(self) -> float:
        return max(0.0, int(self._call(lambda run: ["PTTL", f"{run}:vouched"])) / 1000)

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        left = int(seconds * 1000)
        return bool(self._call(lambda run: ["EVAL", LEASE, 1, f"{run}:lease:{name}", holder, left]))

    def release(self, name: str, holder: str) -> None:
        self._call(lambda run: ["EVAL", RELEASE, 1, f"{run}:lease:{name}", holder])

    def take(self, name: str, most: int, seconds: float) -> tuple[int, float]:
        window = int(seconds * 1000)
        left, wait = self._call(lambda run: ["EVAL", TAKE, 1, f"{run}:taken:{name}", most, window])
        return int(left), int(wait) / 1000

    def note(self, name: str, value: bytes, server: str = "") -> None:
        """As `Store.note`. If another server was reached since, nothing is noted."""
        self._call(lambda run: ["SET", f"{self._name(server, run)}:note:{name}", value])

    def noted(self, name: str) -> bytes | None:
        return self.noted_by(name)[1]

    def noted_by(self, name: str) -> tuple[str, bytes | None]:
        """As `Store.noted_by`. A server that is reached again after another one has another name."""
        asked: list[str] = []

        def command(run: str) -> Sequence[Any]:
            asked.append(f"{self._turn} {run}")
            return ["GET", f"{run}:note:{name}"]

        found: bytes | None = self._call(command)
        return asked[-1], found

    def sample(self, most: int) -> list[tuple[str, bytes]]:
        names = list(islice(chain.from_iterable(self._names("e:*")), most))
        if not names:
            return []
        values = self._call(lambda run: ["MGET", *names])
        keys = [name.decode().rsplit(":e:", 1)[1] for name in names]
        return [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]

    def clear(self) -> None:
        """As `Store.clear`. Stamps are deleted first, because without them nothing is believed."""
        for pattern in ("s:*", "*"):
            for names in filter(None, self._names(pattern)):
                self._call(partial(_unlink, names))

    def _names(self, pattern: str) -> Iterator[list[bytes]]:
        """Yield this server's names that match, in batches; each name that exists throughout the scan is included."""
        cursor: Any = None
        while cursor != b"0":
            cursor, names = self._call(partial(_scan, cursor or b"0", pattern))
            yield names

    @cached_property
    def _dial(self) -> Callable[[], Any]:
        """Return the factory of connections to the primary that know their server's `run_id`.

        Never to a replica, which may not know yet that a stamp has ended. Never from a redis-py pool, which counts the
        connections that it has made, and gives none after the hundredth.
        """
        theirs: Any = get_redis_connection(self._alias, write=True).connection_pool
        known = type("NamedConnection", (_Named, theirs.connection_class), {})
        once = Retry(NoBackoff(), 0)  # the breaker decides when to try again
        return partial(known, **{**theirs.connection_kwargs, "retry": once})


class _Named:
    """A connection that, once made, asks for the server's `run_id`, which is new at every start of a server."""

    namespace = ""

    def on_connect_check_health(self, check_health: bool = True) -> None:
        super().on_connect_check_health(check_health=check_health)  # type: ignore[misc]
        self.send_command("INFO", "server")  # type: ignore[attr-defined]
        lines = self.read_response().decode().splitlines()  # type: ignore[attr-defined]
        run = next((line[7:] for line in lines if line.startswith("run_id:")), "")
        if not run:
            raise InvalidResponse("the server does not say which one it is (run_id)")
        self.namespace = f"keybits:{run}"


REDIS_ERRORS = (RedisError, ConnectionInterrupted, OSError)
"""The errors of talking to Redis."""


class _Line:
    """One connection: redis-py makes it (TLS, password, database), and we use its socket directly.

    The command of every hit is packed once for each set of scopes, and hiredis alone parses the answers: redis-py's own
    code costs more than the network (`benchmarks/in_process.py`). Where the server has closed the connection, it is
    made anew and the command is sent again. Commands are idempotent, except that `take` may then count one too many.
    `reach` is told of the server that each connection leads to.
    """

    def __init__(self, dial: Callable[[], Any], reach: Callable[[str], None], *, needs_word: bool) -> None:
        self.pid = os.getpid()
        self.server = ""
        self._dial = dial
        self._reach = reach
        self._needs_word = needs_word
        self._connection: Any = None
        self._questions: Bounded[tuple[str, ...], bytes] = Bounded(QUESTIONS)

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        """Return the witness of `scopes`; None where a scope has no stamp, or no relay vouches."""
        return self._heard(self._ask, scopes)

    def call(self, command: Command) -> Any:
        """Return the answer to one command."""
        return self._heard(self._say, command)

    def _heard(self, speak: Callable[[T], R], what: T) -> R:
        if self._connection is None:
            self._connect()
            return speak(what)
        try:
            return speak(what)
        except (RedisConnectionError, ConnectionError):
            self._connect()
            return speak(what)

    def _ask(self, scopes: tuple[str, ...]) -> bytes | None:
        answer = self._exchange(self._questions.get(scopes) or self._pack(scopes))
        if type(answer) is not list or len(answer) != len(scopes) + 1:
            raise InvalidResponse(f"the server said {answer!r}, where {scopes} were asked for")
        vouched, *found = answer
        return stamps.witness(found) if vouched is not None or not self._needs_word else None

    def _say(self, command: Command) -> Any:
        connection = self._connection
        return self._exchange(b"".join(connection.pack_command(*command(connection.namespace))))

    def _exchange(self, packed: bytes) -> Any:
        """Send a command and return the answer. On failure disconnect: a late answer would be taken for the next."""
        try:
            self._socket.sendall(packed)
            answer = self._answer()
            if isinstance(answer, hiredis.PushNotification):
                raise InvalidResponse(f"the server said {answer!r}, and nobody had asked")
        except BaseException:
            self._disconnect()
            raise
        return answer

    def _answer(self) -> Any:
        while (answer := self._reader.gets()) is False:
            data = self._socket.recv(65_536)
            if not data:
                raise RedisConnectionError("the server closed the connection")
            self._reader.feed(data)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _pack(self, scopes: tuple[str, ...]) -> bytes:
        run = self._connection.namespace
        packed = b"".join(self._connection.pack_command("MGET", f"{run}:vouched", *_stamps(run, scopes)))
        self._questions[scopes] = packed
        return packed

    def _connect(self) -> None:
        connection = self._dial()
        connection.connect()
        self._connection = connection
        self.server = connection.namespace
        self._reach(self.server)
        self._socket = connection._sock
        _have_the_kernel_wait(self._socket)
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self._questions.clear()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        connection.disconnect()


def _have_the_kernel_wait(line: socket.socket) -> None:
    """Let the kernel enforce a plain socket's time-out, instead of Python, which polls before each call.

    A time-out then raises `BlockingIOError`. A hit takes two system calls instead of four
    (`python -m benchmarks in_process --variants bare-view,fast-redis`). The sockets by which gevent and eventlet
    replace `socket.socket` never block in the kernel: without Python's time-out they would wait for ever.
    """
    seconds = line.gettimeout()
    if isinstance(line, _socket.socket) and not isinstance(line, ssl.SSLSocket) and seconds:
        limit = struct.pack("@ll", int(seconds), max(1, int(seconds % 1 * 1_000_000)))  # zero is for ever
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        line.settimeout(None)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raise every error of `REDIS_ERRORS` in the block as `StoreError`."""
    try:
        yield
    except REDIS_ERRORS as error:
        raise failed(error) from error


def failed(error: Exception) -> StoreError:
    """Return the `StoreError` to raise for `error`."""
    return StoreError(f"Redis: {error}")


def _stamps(run: str, scopes: Sequence[str]) -> list[str]:
    return [f"{run}:s:{scope}" for scope in scopes]


def _scan(cursor: bytes, pattern: str, run: str) -> list[Any]:
    return ["SCAN", cursor, "MATCH", f"{run}:{pattern}", "COUNT", 1000]


def _unlink(names: Sequence[bytes], run: str) -> list[Any]:
    return ["UNLINK", *names]
