"""The store of one machine: an LMDB environment that all processes of the host map into memory.

Reads take no lock and no round trip, and see every committed write of every process at once. Nothing here
survives a reboot on purpose: pages that were not yet on disk could come back older than the database.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from keybits import stamps
from keybits.conf import conf
from keybits.stamps import Reading, Stamp
from keybits.stores import StoreError

__all__ = ["LMDBStore"]

T = TypeVar("T")
LONGEST_KEY = 400  # LMDB allows 511 bytes; the rest is for the prefix of a digest
DEADLINE = 8  # bytes of the deadline that stands before every value


class LMDBStore:
    """Stamps and entries in `KEYBITS_LMDB_PATH`. Safe under threads and after fork."""

    def __init__(self) -> None:
        self._path = conf.LMDB_PATH
        self._lease = conf.STAMP_LEASE
        self._ttl = conf.ENTRY_TTL
        self._lock = threading.Lock()
        self._pid = 0
        self._env: Any = None

    def read(self, key: str, scopes: Sequence[str]) -> Reading:
        with _errors(), self._environment().begin() as txn:
            now = _now()
            found = tuple(_live(txn.get(_name(scope), db=self._stamps), now) for scope in scopes)
            return Reading(_live(txn.get(_name(key), db=self._entries), now), found)

    def mint(self, scopes: Sequence[str]) -> tuple[Stamp | None, ...]:
        return self._write(lambda txn: tuple(self._mint_one(txn, _name(scope)) for scope in scopes))

    def write(self, key: str, entry: bytes) -> None:
        self._write(lambda txn: txn.put(_name(key), _until(self._ttl) + entry, db=self._entries))

    def close(self, scopes: Iterable[str]) -> None:
        names = [_name(scope) for scope in scopes]
        self._write(lambda txn: [txn.delete(name, db=self._stamps) for name in names])

    def clear(self) -> None:
        self._write(lambda txn: (txn.drop(self._stamps, delete=False), txn.drop(self._entries, delete=False)))

    def _mint_one(self, txn: Any, name: bytes) -> Stamp:
        present = _live(txn.get(name, db=self._stamps), _now())
        if present is None:
            present = stamps.new()
            txn.put(name, _until(self._lease) + present, db=self._stamps)
        return present

    def _write(self, change: Callable[[Any], T]) -> T:
        """Run `change` in one write transaction; where the map is full, drop the entries and run it once more."""
        with _errors():
            environment = self._environment()
            try:
                with environment.begin(write=True) as txn:
                    return change(txn)
            except lmdb.MapFullError:
                with environment.begin(write=True) as txn:
                    txn.drop(self._entries, delete=False)
                with environment.begin(write=True) as txn:
                    return change(txn)

    def _environment(self) -> Any:
        """Return this process's own handle: an LMDB environment must not be carried across fork."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._open()
        return self._env

    def _open(self) -> None:
        Path(self._path).mkdir(parents=True, exist_ok=True)
        self._env = lmdb.open(
            str(self._path),
            map_size=conf.LMDB_MAP_SIZE,
            max_dbs=3,
            max_readers=1024,
            sync=False,
            metasync=False,
        )
        self._env.reader_check()
        self._stamps = self._env.open_db(b"stamps")
        self._entries = self._env.open_db(b"entries")
        self._forget_other_boots(self._env.open_db(b"meta"))
        self._pid = os.getpid()

    def _forget_other_boots(self, meta: Any) -> None:
        with self._env.begin(write=True) as txn:
            if txn.get(b"boot", db=meta) != _boot():
                txn.drop(self._stamps, delete=False)
                txn.drop(self._entries, delete=False)
                txn.put(b"boot", _boot(), db=meta)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise StoreError(f"LMDB at {conf.LMDB_PATH}: {error}") from error


def _name(text: str) -> bytes:
    name = text.encode()
    return name if len(name) <= LONGEST_KEY else b"#" + blake2b(name, digest_size=32).digest()


def _now() -> int:
    """Nanoseconds of a clock that all processes of the host share, and that nobody can set."""
    return time.clock_gettime_ns(_CLOCK)


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _until(seconds: int) -> bytes:
    return (_now() + seconds * 1_000_000_000).to_bytes(DEADLINE, "big")


def _live(value: bytes | None, now: int) -> bytes | None:
    if value is None or int.from_bytes(value[:DEADLINE], "big") <= now:
        return None
    return value[DEADLINE:]


def _boot() -> bytes:
    """Name this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:  # not Linux: the moment of booting, to ten seconds
        return str(round((time.time() - time.monotonic()) / 10)).encode()
