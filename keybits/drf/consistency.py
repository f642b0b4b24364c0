"""Whether a stored entry is what its view would make now. One entry at a time, without changing anything.

The view is run again, through the whole application, with the store bypassed. The entry is compared only if its stamps
still hold afterwards; if they do not, a change in between could explain a difference. An entry that differs is stale
for ever, or was made for somebody else, so the finding says what no scope or bit accounts for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.test import Client

from keybits import etags, readthrough
from keybits.audit import recording_fills
from keybits.entries import Entry, EntryError
from keybits.stores import get_store

__all__ = ["Finding", "examine"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one entry: `consistent`, `skipped` (not fresh, not public), or with a `fault`.

    With a fault it is `inconsistent`, or `failed` where the view cannot make it at present, so that nothing is known.
    """

    url: str
    verdict: str
    fault: str = ""


def examine(key: str, frame: bytes) -> Finding:
    """Compare the entry in `frame`, stored under `key`, with what its view makes now, and return the finding."""
    try:
        entry = Entry.unpack(frame)
    except EntryError:
        return Finding("", "skipped")
    if not entry.url:
        return Finding("", "skipped")
    with readthrough.without_store() as asked, recording_fills() as missing:
        response: Any = _client().get(entry.url, secure=settings.SECURE_SSL_REDIRECT)
    if asked.get(key) is None or get_store().read(key, asked[key]).witness != entry.witness:
        return Finding(entry.url, "skipped")
    if response.status_code >= 500:
        return Finding(entry.url, "failed", f"could not be made again: {response.status_code}")
    if response.status_code == 200 and etags.strong(response.content) == entry.etag:
        return Finding(entry.url, "consistent")
    return Finding(entry.url, "inconsistent", _fault(asked[key], missing))


def _client() -> Client:
    host = next(
        (host.lstrip(".") for host in settings.ALLOWED_HOSTS if not host.startswith("*")), "localhost"
    )
    return Client(SERVER_NAME=host, raise_request_exception=False)


def _fault(scopes: tuple[str, ...], missing: list[str]) -> str:
    named = ", ".join(scopes)
    if missing:
        return f"made under {named}; " + "; ".join(missing)
    return f"changed without ending any of its scopes: {named}"
