"""The store of one machine: an LMDB environment that all processes of the host map into memory.

Reads take no lock and no round trip, and see every committed write of every process at once. Nothing survives a
reboot, on purpose: pages that had not reached the disk could come back older than the database.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from keybits import clock, stamps
from keybits.conf import conf
from keybits.stamps import Reading, Stamp
from keybits.stores import REMEMBERED, StoreError

__all__ = ["LMDBStore"]

T = TypeVar("T")
LONGEST_KEY = 400  # LMDB allows 511 bytes; the rest leaves room for prefixes
DEADLINE = 8  # bytes of the deadline that begins every value
STAMPED = DEADLINE + stamps.SIZE
WRITER = 32  # bytes of a writer's name
HOLD = DEADLINE + WRITER
NEVER = b"\xff" * DEADLINE
OPEN = b"\x00" * (stamps.SIZE + 1)  # precedes the holds of an open scope; longer than a stamp
VOUCHED = b"vouched"
DONE = b"done:"
LEASE = b"lease:"
TAKEN = b"taken:"
NOTE = b"note:"
SWEPT = 100
READERS = 1024
LOCK_BYTES = 64 * READERS + 4096  # LMDB needs 64 bytes for each reader, and a header of less than a page
NANO = 1_000_000_000
MOST_KNOWN = 1_024
"""Most witnesses that a process remembers for one snapshot."""

Known = tuple[int, dict[tuple[str, ...], tuple[bytes, int]]]
"""A snapshot's transaction id, and the witnesses read in it, each with the time (nanoseconds) when it ends."""


class LMDBStore:
    """Stamps and entries in `KEYBITS_LMDB_PATH`. Safe under threads and after fork.

    The value of a scope with a stamp is a deadline and the stamp. The value of an open scope is a deadline, `OPEN`,
    and then a deadline and a name for each writer that holds it open.
    """

    _known: Known

    def __init__(self) -> None:
        self._path = conf.LMDB_PATH
        self._lease = conf.STAMP_LEASE
        self._open_lease = conf.OPEN_LEASE
        self._ttl = conf.ENTRY_TTL
        self._map_size = conf.LMDB_MAP_SIZE
        self._needs_word = conf.RELAY != "off"
        self._swept: dict[bytes, bytes] = {}
        self._opened = 0
        self._env: Any = None

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        with _errors(), self._environment().begin() as txn:
            now = clock.nanoseconds()
            entry = _live(txn.get(_name(key), db=self._entries), now)
            if not self._is_vouched(txn, now):
                return Reading(entry, (None,) * len(scopes), vouched=False)
            return Reading(entry, self._present(txn, scopes, now))

    def witness(self, scopes: tuple[str, ...]) -> bytes | None:
        try:
            txn = self._environment().begin()
            try:  # `with` takes twice as long as the rest of the transaction: `benchmarks/in_process.py`
                return self._witness(txn, scopes)
            finally:
                txn.abort()
        except (lmdb.Error, OSError) as error:
            raise _failed(error) from error

    def _witness(self, txn: Any, scopes: tuple[str, ...]) -> bytes | None:
        """As `Reading.witness`. What was read in a snapshot stays true of it, until a deadline passes."""
        snapshot, now = txn.id(), clock.nanoseconds()
        known = self._known
        if known[0] != snapshot or len(known[1]) >= MOST_KNOWN:
            known = self._known = (snapshot, {})
        found = known[1].get(scopes)
        if found is None or found[1] <= now:
            found = self._looked_up(txn, scopes)
            if found is None or found[1] <= now:
                return None
            known[1][scopes] = found
        return found[0]

    def _looked_up(self, txn: Any, scopes: tuple[str, ...]) -> tuple[bytes, int] | None:
        """Return the witness and when it ends (nanoseconds); None where a scope has no stamp."""
        get, stamps = txn.get, self._stamps
        found, ends = [], [get(VOUCHED, b"", self._meta)] if self._needs_word else []
        for name in _names(scopes):
            value = get(name, None, stamps)
            if value is None or len(value) != STAMPED:
                return None
            found.append(value[DEADLINE:])
            ends.append(value[:DEADLINE])
        return b"".join(found), int.from_bytes(min(ends, default=NEVER), "big")

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        def change(txn: Any) -> tuple[Stamp | None, ...]:
            self._make_room(txn)
            return tuple(self._mint_one(txn, _name(scope)) for scope in scopes)

        return self._write(change)

    def lead(self, key: str, scopes: Sequence[str], holder: str, seconds: float) -> tuple[bool, Reading]:
        def change(txn: Any) -> tuple[bool, Reading]:
            self._make_room(txn)
            before = self._present(txn, scopes, clock.nanoseconds())
            found = tuple(self._mint_one(txn, _name(scope)) for scope in scopes)
            if None in found:
                return False, Reading(None, found)
            leads = self._leased(txn, key, holder, seconds)
            return leads, Reading(self._entry(txn, key) if found == before else None, found)

        return self._write(change)

    def write(self, key: str, entry: bytes, holder: str = "") -> None:
        def change(txn: Any) -> None:
            self._make_room(txn)
            txn.put(_name(key), _until(self._ttl) + entry, db=self._entries)
            if holder:
                self._give_back(txn, key, holder)

        self._write(change)

    def open(self, scopes: Sequence[str], writer: str) -> None:
        def change(txn: Any) -> None:
            for scope in scopes:
                self._hold(txn, _name(scope), writer)

        self._write(change)

    def close(self, scopes: Sequence[str], writer: str = "") -> None:
        def change(txn: Any) -> None:
            for scope in scopes:
                self._release(txn, _name(scope), writer)
            if writer:
                txn.put(DONE + writer.encode(), _until(REMEMBERED), db=self._meta)

        self._write(change)

    def closed(self, writers: Sequence[str]) -> set[str]:
        with _errors(), self._environment().begin() as txn:
            now = clock.nanoseconds()
            return {
                writer
                for writer in writers
                if _live(txn.get(DONE + writer.encode(), db=self._meta), now) is not None
            }

    def now(self) -> int:
        return clock.nanoseconds() // 1_000_000

    def vouch(self, until: int, server: str = "") -> bool:
        deadline = (until * 1_000_000).to_bytes(DEADLINE, "big")

        def change(txn: Any) -> bool:
            present = txn.get(VOUCHED, db=self._meta) or b""
            if deadline > present:
                txn.put(VOUCHED, deadline, db=self._meta)
            for kind in (DONE, TAKEN, LEASE):
                self._sweep(txn, kind)
            return _left(present) > 0

        return self._write(change)

    def vouched(self) -> float:
        with _errors(), self._environment().begin() as txn:
            return _left(txn.get(VOUCHED, db=self._meta) or b"")

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        return self._write(lambda txn: self._leased(txn, name, holder, seconds))

    def release(self, name: str, holder: str) -> None:
        self._write(lambda txn: self._give_back(txn, name, holder))

    def take(self, name: str, most: int, seconds: float) -> tuple[int, float]:
        key = TAKEN + _name(name)

        def change(txn: Any) -> tuple[int, float]:
            now, value = clock.nanoseconds(), txn.get(key, db=self._meta)
            live = _live(value, now)
            taken = int.from_bytes(live or b"", "big")
            until = now + int(seconds * NANO) if live is None else int.from_bytes(value[:DEADLINE], "big")
            if taken < most:
                numbers = (until, taken + 1)
                txn.put(key, b"".join(each.to_bytes(DEADLINE, "big") for each in numbers), db=self._meta)
            return max(most - taken - 1, -1), (until - now) / NANO

        return self._write(change)

    def note(self, name: str, value: bytes, server: str = "") -> None:
        self._write(lambda txn: txn.put(NOTE + _name(name), value, db=self._meta))

    def noted(self, name: str) -> bytes | None:
        with _errors(), self._environment().begin() as txn:
            found: bytes | None = txn.get(NOTE + _name(name), db=self._meta)
            return found

    def noted_by(self, name: str) -> tuple[str, bytes | None]:
        return "", self.noted(name)

    def sample(self, most: int) -> list[tuple[str, bytes]]:
        with _errors(), self._environment().begin() as txn, txn.cursor(db=self._entries) as cursor:
            now = clock.nanoseconds()
            live = ((bytes(key).decode(), _live(value, now)) for key, value in islice(cursor, most))
            return [(key, entry) for key, entry in live if entry is not None]

    def clear(self) -> None:
        self._write(self._forget)

    def _is_vouched(self, txn: Any, now: int) -> bool:
        return not self._needs_word or _live(txn.get(VOUCHED, db=self._meta), now) is not None

    def _present(self, txn: Any, scopes: Sequence[str], now: int) -> tuple[Stamp | None, ...]:
        return tuple(_stamp(txn.get(_name(scope), db=self._stamps), now) for scope in scopes)

    def _entry(self, txn: Any, key: str) -> bytes | None:
        """Return the entry under `key`, or None where it has expired or no relay vouches. Stamps are not compared."""
        now = clock.nanoseconds()
        return _live(txn.get(_name(key), db=self._entries), now) if self._is_vouched(txn, now) else None

    def _leased(self, txn: Any, name: str, holder: str, seconds: float) -> bool:
        key = LEASE + _name(name)
        mine = _live(txn.get(key, db=self._meta), clock.nanoseconds()) in {None, holder.encode()}
        if mine:
            txn.put(key, _until(seconds) + holder.encode(), db=self._meta)
        return mine

    def _give_back(self, txn: Any, name: str, holder: str) -> None:
        key = LEASE + _name(name)
        if _live(txn.get(key, db=self._meta), clock.nanoseconds()) == holder.encode():
            txn.delete(key, db=self._meta)

    def _mint_one(self, txn: Any, name: bytes) -> Stamp | None:
        present = _live(txn.get(name, db=self._stamps), clock.nanoseconds())
        if present is None or (len(present) > stamps.SIZE and not _holders(present)):
            present = stamps.new()
            txn.put(name, _until(self._lease) + present, db=self._stamps)
        return present if len(present) == stamps.SIZE else None

    def _make_room(self, txn: Any) -> None:
        """Drop all entries when they take half of the map, and all stamps when they take a quarter.

        A full map cannot even be cleared, because deleting takes pages, too.
        """
        for db, share in ((self._entries, 2), (self._stamps, 4)):
            found = txn.stat(db)
            pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
            if pages * found["psize"] * share > self._map_size:
                txn.drop(db, delete=False)

    def _hold(self, txn: Any, name: bytes, writer: str) -> None:
        value = _live(txn.get(name, db=self._stamps), clock.nanoseconds()) or b""
        until = _until(self._open_lease)
        holders = {**_holders(value), writer.encode(): until}
        txn.put(name, until + _held(holders), db=self._stamps)

    def _release(self, txn: Any, name: bytes, writer: str) -> None:
        value = _live(txn.get(name, db=self._stamps), clock.nanoseconds()) or b""
        holders = _holders(value)
        holders.pop(writer.encode(), None)
        if holders:
            txn.put(name, max(holders.values()) + _held(holders), db=self._stamps)
        else:
            txn.delete(name, db=self._stamps)

    def _sweep(self, txn: Any, kind: bytes) -> None:
        """Delete expired values of one kind; at most `SWEPT` are looked at, from where the last sweep stopped."""
        now = clock.nanoseconds()
        with txn.cursor(db=self._meta) as cursor:
            found = cursor.set_range(self._swept.pop(kind, kind))
            for _ in range(SWEPT):
                if not found or not cursor.key().startswith(kind):
                    return
                found = cursor.delete() if _live(cursor.value(), now) is None else cursor.next()
            if found:
                self._swept[kind] = bytes(cursor.key())

    def _write(self, change: Callable[[Any], T]) -> T:
        """Run `change` in one write transaction; where the map is full, make room and run it once more.

        All entries are dropped, and the slots of killed readers are freed: pages that those could still read are not
        reused until then.
        """
        with _errors(), _environments.lock:
            environment = self._environment()
            try:
                with environment.begin(write=True) as txn:
                    return change(txn)
            except lmdb.MapFullError:
                environment.reader_check()
                with environment.begin(write=True) as txn:
                    txn.drop(self._entries, delete=False)
                with environment.begin(write=True) as txn:
                    return change(txn)

    def _environment(self) -> Any:
        """Return the environment, opened again where this process was forked, or has forked, since it was opened."""
        if self._opened != _environments.count:
            with _environments.lock:
                if self._opened != _environments.count:
                    self._open()
        return self._env

    def _open(self) -> None:
        Path(self._path).mkdir(parents=True, exist_ok=True)
        self._env = _environments.open(str(Path(self._path).resolve()))
        self._stamps = self._env.open_db(b"stamps")
        self._entries = self._env.open_db(b"entries")
        self._meta = self._env.open_db(b"meta")
        self._forget_other_boots()
        self._known = (0, {})
        self._opened = _environments.count

    def _forget_other_boots(self) -> None:
        with self._env.begin(write=True) as txn:
            if txn.get(b"boot", db=self._meta) != _boot():
                self._forget(txn)

    def _forget(self, txn: Any) -> None:
        for db in (self._stamps, self._entries, self._meta):
            txn.drop(db, delete=False)
        txn.put(b"boot", _boot(), db=self._meta)


class _Environments:
    """Every environment that this process has open. LMDB allows one handle for each, and none to be used across fork.

    All are therefore closed before a fork, and both processes open them again when they need them. A read at that very
    moment fails with `StoreError`. `lock` is held while opening and while writing, so closing waits for a write; it
    waits for ever where somebody keeps an error whose traceback holds the write transaction.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.count = 1
        self._open: dict[str, Any] = {}

    def open(self, path: str) -> Any:
        """Return the environment at `path`, opening it if it is not open yet."""
        if path not in self._open:
            _allocate_lock_file(path)
            self._open[path] = lmdb.open(
                path, map_size=_map_size(path), max_dbs=3, max_readers=READERS, sync=False, metasync=False
            )
            self._open[path].reader_check()
        return self._open[path]

    def close(self) -> None:
        """Close all environments, and let nobody open one until `go_on`."""
        self.lock.acquire()
        self.count += 1
        while self._open:
            self._open.popitem()[1].close()

    def go_on(self) -> None:
        self.lock.release()

    def renew(self) -> None:
        """Have every environment opened again, for what another process has changed."""
        self.close()
        self.go_on()


_environments = _Environments()
os.register_at_fork(
    before=_environments.close,
    after_in_parent=_environments.go_on,
    after_in_child=_environments.go_on,
)


def _allocate_lock_file(path: str) -> None:
    """Allocate the lock file's disk space. LMDB would map a sparse file, and a full disk then kills with SIGBUS.

    Call it only while this process does not have the environment open: closing the file gives up its locks on it.
    """
    descriptor = os.open(f"{path}/lock.mdb", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if hasattr(os, "posix_fallocate") and os.fstat(descriptor).st_size == 0:
            os.posix_fallocate(descriptor, 0, LOCK_BYTES)
    finally:
        os.close(descriptor)


def _map_size(path: str) -> int:
    """Return how many bytes to map: as set, or more where a larger map was set when the file was filled.

    A map of no more than such a file could never be cleared, because deleting takes pages, too.
    """
    try:
        size = os.path.getsize(f"{path}/data.mdb")
    except FileNotFoundError:
        size = 0
    return conf.LMDB_MAP_SIZE if size <= conf.LMDB_MAP_SIZE else size + size // 4


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise _failed(error) from error


def _failed(error: Exception) -> StoreError:
    """Return the `StoreError` to raise; where a process with a larger map has outgrown ours, map more from now on."""
    if isinstance(error, lmdb.MapResizedError):
        _environments.renew()
    return StoreError(f"LMDB at {conf.LMDB_PATH}: {error}")


def _name(text: str) -> bytes:
    name = text.encode()
    return name if len(name) <= LONGEST_KEY else b"#" + blake2b(name, digest_size=32).digest()


@lru_cache(maxsize=8_192)  # some 500 bytes each, not counted in KEYBITS_MEMORY_BYTES
def _names(scopes: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(map(_name, scopes))


def _until(seconds: float) -> bytes:
    return (clock.nanoseconds() + int(seconds * NANO)).to_bytes(DEADLINE, "big")


def _left(deadline: bytes) -> float:
    """Return the seconds until `deadline`; 0 where it has passed."""
    return max(0.0, (int.from_bytes(deadline, "big") - clock.nanoseconds()) / NANO)


def _live(value: bytes | None, now: int) -> bytes | None:
    """Return what follows the deadline of `value`, or None where the deadline has passed."""
    if value is None or int.from_bytes(value[:DEADLINE], "big") <= now:
        return None
    return value[DEADLINE:]


def _stamp(value: bytes | None, now: int) -> Stamp | None:
    present = _live(value, now)
    return present if present is not None and len(present) == stamps.SIZE else None


def _holders(value: bytes) -> dict[bytes, bytes]:
    """Return, by writer, the deadlines of the holds in `value` (without its own deadline) that have not passed."""
    now = clock.nanoseconds().to_bytes(DEADLINE, "big")
    holds = (value[start : start + HOLD] for start in range(len(OPEN), len(value), HOLD))
    return {hold[DEADLINE:]: hold[:DEADLINE] for hold in holds if hold[:DEADLINE] > now}


def _held(holders: dict[bytes, bytes]) -> bytes:
    return OPEN + b"".join(deadline + writer for writer, deadline in holders.items())


def _boot() -> bytes:
    """Return an identifier of the machine's present boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:  # not Linux: the boot time, to ten seconds
        return str(round((time.time() - time.monotonic()) / 10)).encode()
