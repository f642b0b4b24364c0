"""How a stored response is framed: no pickle, so whoever can write to the store can at most change bytes.

A frame is the magic, the lengths, a JSON head, the witness (the stamps that it was built under) and the body.
The `fingerprint` names the code and the settings that shape the bytes; it is part of every entry's key, so a
deployment never serves an older shape, and two deployments side by side do not disturb each other.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

import orjson
from django.conf import settings
from django.core.signals import setting_changed

from keybits.conf import conf

__all__ = ["Entry", "EntryError", "fingerprint"]

MAGIC = b"KB\x00\x02"
LENGTHS = struct.Struct("<4sII")
SHAPING_DISTRIBUTIONS = (
    "Django",
    "djangorestframework",
    "drf-extensions",
    "django-filter",
    "orjson",
)
SHAPING_SETTINGS = (
    "FORCE_SCRIPT_NAME",
    "LANGUAGE_CODE",
    "REST_FRAMEWORK",
    "ROOT_URLCONF",
    "STORAGES",
    "TIME_ZONE",
    "USE_I18N",
    "USE_TZ",
)


class EntryError(ValueError):
    """The bytes are no frame of ours; treat the entry as missing."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored representation.

    `etag` is quoted and strong. `changed` is the first whole second (Unix time) after the content changed: no
    other content of this URL was ever sent with that date as its Last-Modified. `headers` are those that both
    the 200 and, but for `Content-*`, the 304 carry. `expires` (Unix time) is when the passing of time alone ends
    the entry, None where it does not. `url` is what was asked for: the path and the canonical query.
    """

    witness: bytes
    etag: str
    changed: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    expires: float | None = None
    url: str = ""

    def pack(self) -> bytes:
        """Return the frame."""
        head = orjson.dumps([self.etag, self.changed, self.headers, self.expires, self.url])
        return LENGTHS.pack(MAGIC, len(head), len(self.witness)) + head + self.witness + self.body

    @classmethod
    def unpack(cls, frame: bytes) -> Entry:
        """Return the entry in `frame`, or raise `EntryError`."""
        try:
            magic, head_size, witness_size = LENGTHS.unpack_from(frame)
            if magic != MAGIC:
                raise EntryError("not a keybits entry")
            body_start = LENGTHS.size + head_size + witness_size
            etag, changed, headers, expires, url = orjson.loads(
                frame[LENGTHS.size : LENGTHS.size + head_size]
            )
            pairs = tuple((name, value) for name, value in headers)
        except (struct.error, ValueError, TypeError) as error:
            raise EntryError(str(error)) from error
        witness = frame[body_start - witness_size : body_start]
        return cls(witness, etag, changed, pairs, frame[body_start:], expires, url)


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Return 32 hexadecimal digits that stand for everything outside the request and the database."""
    digest = hashlib.blake2b(digest_size=16)
    for distribution in SHAPING_DISTRIBUTIONS:
        digest.update(f"{distribution}={metadata.version(distribution)}\n".encode())
    for name in (*SHAPING_SETTINGS, *conf.FINGERPRINT_SETTINGS):
        digest.update(f"{name}={getattr(settings, name, None)!r}\n".encode())
    for package in ("keybits", *conf.FINGERPRINT_PACKAGES):
        _digest_source(digest, package)
    digest.update(conf.VERSION.encode())
    return digest.hexdigest()


def _digest_source(digest: hashlib.blake2b, package: str) -> None:
    spec = util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())


def _forget(**_: object) -> None:
    fingerprint.cache_clear()


setting_changed.connect(_forget)
