"""Which URLs are hot: those that are named, and those whose entries in the store were made last.

An entry is made again only when a client asks for it after a change, so the entries made last are those in demand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from urllib.parse import urlsplit

from django.utils.encoding import iri_to_uri
from django.utils.module_loading import import_string

from keybits import edge, surrogates
from keybits.codings import entity_tag, offered
from keybits.conf import conf
from keybits.entries import Entry, EntryError
from keybits.stores import get_store

__all__ = ["SAMPLE", "Hot", "WarmingError", "declared", "given", "once", "stored", "stored_under"]

SAMPLE = 1000
"""Most entries that one look at the store reads."""


class WarmingError(ValueError):
    """The arguments cannot be used for warming; the message says what to give instead."""


@dataclass(frozen=True, slots=True)
class Hot:
    """A URL to warm: path and query, escaped. `etags` are those of its entry, if any; with one, a 404 is no failure."""

    url: str
    etags: tuple[str, ...] = ()


def given(lines: Iterable[str]) -> list[Hot]:
    """Return the URLs of `lines`, each once, without empty lines and comments (`#`). Raises `WarmingError`.

    Of an absolute URL only path and query are used: it is requested at every base URL.
    """
    texts = (line.strip() for line in lines)
    return once(Hot(_target(text)) for text in texts if text and not text.startswith("#"))


def _target(text: str) -> str:
    """Return the path and query of a URL, as they are sent."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    is_http = parts.scheme in {"http", "https"} if parts.netloc else not parts.scheme
    if not is_http or not parts.path.startswith("/"):
        raise WarmingError(f"{text!r} is not a URL to warm. Give /path?query, or http(s)://host/path?query.")
    return iri_to_uri(parts._replace(scheme="", netloc="", fragment="").geturl())


def declared() -> list[Hot]:
    """Return the URLs that the function of `KEYBITS_WARM_URLS` yields, in its order; none where it is not set.

    Raises `WarmingError`.
    """
    if not conf.WARM_URLS:
        return []
    try:
        urls: Callable[[], Iterable[str]] = import_string(conf.WARM_URLS)
    except ImportError as error:
        raise WarmingError(f"KEYBITS_WARM_URLS cannot be imported: {error}") from error
    return given(urls())


def stored(most: int = SAMPLE) -> list[Hot]:
    """Return the URLs of the public ones among up to `most` entries, stale or not, most recently made first.

    Raises `StoreError`.
    """
    return _hottest(_entries(most))


def stored_under(scopes: Iterable[str]) -> list[Hot]:
    """Return those of `stored` whose entries a purge of `scopes` marks stale or removes in the caches in front.

    An entry without keys is for caches that are purged by paths (CloudFront without tags), and counts as one of them.
    """
    purged = frozenset(surrogates.purged(scopes))
    return _hottest(entry for entry in _entries(SAMPLE) if _is_purged(entry, purged))


def _entries(most: int) -> Iterator[Entry]:
    for _, frame in get_store().sample(most):
        with suppress(EntryError):
            yield Entry.unpack(frame)


def _hottest(entries: Iterable[Entry]) -> list[Hot]:
    public = (entry for entry in entries if entry.url and entry.url.isascii())
    latest = sorted(public, key=lambda entry: entry.changed or 0, reverse=True)
    return once(Hot(entry.url, _tags(entry)) for entry in latest)


def _tags(entry: Entry) -> tuple[str, ...]:
    return (entry.etag, *(entity_tag(entry.etag, coding) for coding in offered(entry.body)))


_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


def _is_purged(entry: Entry, purged: frozenset[str]) -> bool:
    fields = [value for name, value in entry.shared if edge.is_key_field(name)]
    return not fields or not purged.isdisjoint(chain.from_iterable(map(_TOKEN.findall, fields)))


def once(hots: Iterable[Hot]) -> list[Hot]:
    """Return the first item for each URL, in order."""
    first: dict[str, Hot] = {}
    for hot in hots:
        first.setdefault(hot.url, hot)
    return list(first.values())
