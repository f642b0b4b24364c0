"""How a stored response is framed: without pickle, so that whoever can write to the store can at most change bytes.

A frame is the magic, the lengths, a JSON head, the witness (the stamps that the entry was made under), the body and
its content codings. The `fingerprint` stands for the code and the settings that shape the bytes. It is part of every
entry's key, so a deployment never serves what older code made, and two deployments side by side do not interfere.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, util
from itertools import accumulate, chain, pairwise
from pathlib import Path
from sys import getsizeof
from typing import Any, TypeVar

import orjson
from django.conf import settings

from keybits.conf import conf, is_tested, on_change

__all__ = ["SHAPING_SETTINGS", "Entry", "EntryError", "fingerprint", "namespace"]

T = TypeVar("T")
MAGIC = b"KB\x00\x04"
LENGTHS = struct.Struct("<4sII")
RECORD = 900
"""Bytes that an entry takes beside its texts: for the object itself, and for its tuples and numbers."""
SHAPING_DISTRIBUTIONS = (
    "Django",
    "djangorestframework",
    "drf-extensions",
    "django-filter",
    "orjson",
)
SHAPING_SETTINGS = (
    "FORCE_SCRIPT_NAME",
    "FORMAT_MODULE_PATH",
    "KEYBITS_PURGERS",
    "LANGUAGE_CODE",
    "MEDIA_URL",
    "REST_FRAMEWORK",
    "ROOT_URLCONF",
    "SECRET_KEY",
    "SITE_ID",
    "STATIC_URL",
    "STORAGES",
    "TIME_ZONE",
    "USE_I18N",
    "USE_THOUSAND_SEPARATOR",
    "USE_TZ",
)
"""Settings that Django and REST framework read when they make an answer. `SITE_ID` often is all that deployments of one
code, with one store, differ by."""


class EntryError(ValueError):
    """The bytes are not a frame of keybits; treat the entry as missing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored representation.

    `etag` is quoted and strong. `changed` is the first whole second (Unix time) after the content changed: no other
    content of this URL was ever sent with that date as its Last-Modified. It is None where the entry is not kept: then
    later content could get the same date. `headers` are sent with a 200 and, except those that describe the content,
    with a 304. `shared` are further headers, sent where a shared cache may hold the answer: for how long, and its
    surrogate keys. `max_age` is how many seconds these grant everybody. `expires` (Unix time) is when the passing of
    time alone ends the entry; None for never. `url` is what was requested: the path and the canonical query. `coded`
    are the content codings of the body that have been sent. `cost` is how many seconds the entry took to make.

    `stale` is for how many seconds after its end the entry may be shown while another is made, as long as the stamps
    of the scopes `guard` (takedowns) are those of `guarded`.
    """

    witness: bytes
    etag: str
    changed: int | None
    headers: tuple[tuple[str, str], ...]
    body: bytes
    expires: float | None = None
    url: str = ""
    coded: tuple[tuple[str, bytes], ...] = ()
    shared: tuple[tuple[str, str], ...] = ()
    max_age: int = 0
    cost: float = 0.0
    stale: int = 0
    guard: tuple[str, ...] = ()
    guarded: bytes = b""

    @property
    def size(self) -> int:
        """The bytes that the entry takes in memory."""
        texts = (*chain(*self.headers, *self.shared, *self.coded, self.guard), self.etag, self.url)
        return sum(map(getsizeof, (self.body, self.witness, self.guarded, *texts))) + RECORD + 16 * len(texts)

    def pack(self) -> bytes:
        """Return the frame of the entry."""
        known = [getattr(self, name) for name in HEAD]
        coded = [(coding, len(body)) for coding, body in self.coded]
        head = orjson.dumps([*known, len(self.body), coded], default=bytes.hex)
        bodies = b"".join(body for _, body in self.coded)
        return LENGTHS.pack(MAGIC, len(head), len(self.witness)) + head + self.witness + self.body + bodies

    @classmethod
    def unpack(cls, frame: bytes) -> Entry:
        """Return the entry in `frame`, or raise `EntryError`."""
        try:
            magic, head_size, witness_size = LENGTHS.unpack_from(frame)
            if magic != MAGIC:
                raise EntryError("not a keybits entry")
            start = LENGTHS.size + head_size
            *known, size, coded = orjson.loads(frame[LENGTHS.size : start])
            values = {name: read(value) for (name, read), value in zip(HEAD.items(), known, strict=True)}
            codings = [_text(coding) for coding, _ in coded]
            sizes = [start, witness_size, size, *(length for _, length in coded)]
            ends = list(accumulate(map(_whole, sizes)))
        except (struct.error, ValueError, TypeError) as error:
            raise EntryError(str(error)) from error
        if ends[-1] != len(frame):
            raise EntryError(f"{len(frame)} bytes, where its head says {ends[-1]}")
        witness, body, *bodies = (frame[begin:end] for begin, end in pairwise(ends))
        return cls(witness=witness, body=body, coded=tuple(zip(codings, bodies, strict=True)), **values)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise EntryError(f"{value!r} is no text")
    return value


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(map(_text, values))


def _fields(values: Iterable[object]) -> tuple[tuple[str, str], ...]:
    return tuple(map(_field, values))


def _field(value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise EntryError(f"{value!r} is no header field")
    return _text(value[0]), _text(value[1])


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise EntryError(f"{value!r} is no whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise EntryError(f"{value!r} is no number")
    return value


def _unless_none(read: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else read(value)


HEAD: dict[str, Callable[[Any], Any]] = {
    "etag": _text,
    "changed": _unless_none(_whole),
    "headers": _fields,
    "expires": _unless_none(_number),
    "url": _text,
    "shared": _fields,
    "max_age": _whole,
    "cost": _number,
    "stale": _whole,
    "guard": _texts,
    "guarded": bytes.fromhex,
}
"""The attributes of an entry that its head has, in order, each with what reads and checks its value.

The length of the body, and the name and length of each coded one, follow them.
"""

SOURCES = frozenset({".html", ".mo", ".py"})
"""Suffixes of the files of a package that shape the bytes: code, templates, translations."""


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Return 32 hexadecimal digits that stand for all that shapes the bytes outside the request and the database."""
    digest = hashlib.blake2b(digest_size=16)
    for distribution in SHAPING_DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            digest.update(f"{distribution}={metadata.version(distribution)}\n".encode())
    # As they are written: a relative MEDIA_URL is remembered under the prefix that is set when it is first read.
    written = vars(settings)["_wrapped"]
    for name in (*SHAPING_SETTINGS, *conf.FINGERPRINT_SETTINGS):
        digest.update(f"{name}={getattr(written, name, None)!r}\n".encode())
    for package in ("keybits", *conf.FINGERPRINT_PACKAGES):
        _digest_source(digest, package)
    digest.update(conf.VERSION.encode())
    return digest.hexdigest()


def namespace() -> str:
    """Return the part of a name that all entries of a deployment share: the fingerprint, and in tests the process id.

    A process of Django's test runner has databases of its own, but may share the store with a server or other workers.
    """
    return f"{fingerprint()} {os.getpid()}" if is_tested() else fingerprint()


def _digest_source(digest: hashlib.blake2b, package: str) -> None:
    spec = util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        files = (path for path in Path(folder).rglob("*") if path.suffix in SOURCES and path.is_file())
        for path in sorted(files):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())


on_change(fingerprint.cache_clear)
