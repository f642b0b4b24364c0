"""Which URLs are hot, and how they are asked for again: politely, from outside, as anybody would ask.

A walk goes through one base URL (a CDN's edge, or the origin) at one pace, however many threads it has. Nothing
here is on the way of a request: what is hot is read from the entries that requests have left in the store, by
when they were made. An entry is made again only for somebody who asks after a change, so what was made last is
what is asked for.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.utils.encoding import iri_to_uri
from django.utils.http import parse_http_date_safe
from django.utils.module_loading import import_string

from keybits import surrogates
from keybits.codings import entity_tag, offered
from keybits.conf import conf
from keybits.entries import Entry, EntryError
from keybits.stamps import coarsened
from keybits.stores import get_store

__all__ = [
    "BROWSERS",
    "SAMPLE",
    "Afterwards",
    "Hot",
    "Manners",
    "Report",
    "Visit",
    "WarmingError",
    "base_url",
    "declared",
    "given",
    "once",
    "stored",
    "stored_under",
    "warm",
    "warm_after",
]

logger = logging.getLogger(__name__)

USER_AGENT = "keybits-warm/1 (cache warming; manage.py warm)"
BROWSERS = ("gzip, deflate, br, zstd", "gzip, deflate, br")
"""Accept-Encoding of Chrome, Edge and Firefox, and of Safari, over TLS."""
SAMPLE = 1000
"""Entries that a look at the store reads at most."""
ATTEMPTS = 3
"""Requests for one representation at most, where the answer is 429 or 503."""
MOST_FAILURES = 5
"""Failures in a row after which a base URL is given up."""
DEFAULT_PAUSE = 5.0
"""Seconds to stop for, after a 429 or a 503 that does not say how long."""
LONGEST_PAUSE = 120.0
"""Seconds to stop for at most; a base URL that asks for more is given up."""
MOST_AFTER_PURGE = 100
"""URLs that are warmed at most for the purges of one lull."""
LULL = 2.0
"""Seconds for which purges are gathered before the store is looked at, and so between two looks at least."""


class WarmingError(ValueError):
    """Nothing can be warmed that way; the message says what to give instead."""


# --- What is hot --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hot:
    """A URL to warm: path and query, escaped. `etags` are those of its entry; where it has one, it may be gone."""

    url: str
    etags: tuple[str, ...] = ()


def given(lines: Iterable[str]) -> list[Hot]:
    """Return the URLs of `lines`, each once; empty lines and comments (`#`) are none. Raises `WarmingError`.

    Of an absolute URL, path and query count: it is asked for at every base URL.
    """
    texts = (line.strip() for line in lines)
    return once(Hot(_target(text)) for text in texts if text and not text.startswith("#"))


def _target(text: str) -> str:
    """Return path and query of a URL, as they are sent."""
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    is_http = parts.scheme in {"http", "https"} if parts.netloc else not parts.scheme
    if not is_http or not parts.path.startswith("/"):
        raise WarmingError(f"{text!r} is no URL to warm. Give /path?query, or http(s)://host/path?query.")
    return iri_to_uri(parts._replace(scheme="", netloc="", fragment="").geturl())


def declared() -> list[Hot]:
    """Return what the function of `KEYBITS_WARM_URLS` yields, in its order; nothing where none is set."""
    if not conf.WARM_URLS:
        return []
    try:
        urls: Callable[[], Iterable[str]] = import_string(conf.WARM_URLS)
    except ImportError as error:
        raise WarmingError(f"KEYBITS_WARM_URLS cannot be imported: {error}") from error
    return given(urls())


def stored(most: int = SAMPLE) -> list[Hot]:
    """Return the URLs of up to `most` entries that anybody may ask for, stale ones too, most recently made first.

    Raises `StoreError`.
    """
    return _hottest(_entries(most))


def stored_under(scopes: Iterable[str], most: int = SAMPLE) -> list[Hot]:
    """Return those of `stored` whose entries a purge of `scopes` takes from the caches in front."""
    purged = frozenset(surrogates.purged(scopes))
    return _hottest(entry for entry in _entries(most) if not purged.isdisjoint(_keys(entry)))


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


def _keys(entry: Entry) -> Iterator[str]:
    """The surrogate keys of an entry, however a cache wants them written; among words that are none."""
    return chain.from_iterable(_TOKEN.findall(value) for _, value in entry.shared)


def once(hots: Iterable[Hot]) -> list[Hot]:
    """Return the first of each URL, in order."""
    first: dict[str, Hot] = {}
    for hot in hots:
        first.setdefault(hot.url, hot)
    return list(first.values())


# --- How it is asked for ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Manners:
    """How URLs are asked for: `rate` requests a second and `concurrency` URLs at a time, at most.

    Each is asked for once with every Accept-Encoding of `codings`. `timeout` is in seconds: to connect, and again
    between two pieces of an answer. `host` is sent, and expected of the certificate, in place of the base URL's.
    `conditional` says what the store has, so that what is unchanged there sends no content.
    """

    rate: float = 10.0
    concurrency: int = 2
    codings: tuple[str, ...] = BROWSERS
    timeout: float = 10.0
    host: str = ""
    conditional: bool = False

    def headers(self, hot: Hot, coding: str) -> dict[str, str]:
        """Return the fields of a request; there is nobody's name or cookie in them."""
        fields = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": coding}
        named = {"Host": self.host} if self.host else {}
        known = {"If-None-Match": ", ".join(hot.etags)} if self.conditional and hot.etags else {}
        return fields | named | known

    def extensions(self) -> dict[str, Any]:
        """Return what httpx has to know beside the fields: whom the certificate has to name."""
        name = urlsplit(f"//{self.host}").hostname
        return {"sni_hostname": name} if name else {}


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of one representation: the status, the error, or `not asked`; and what the nearest cache said."""

    url: str
    outcome: str
    cache: str = ""
    failed: bool = False


NOT_ASKED = "not asked"
_OF_THE_URL = frozenset({"400", "404", "406", "410", "414"})
"""Statuses that say something of the URL, and nothing against the server."""


@dataclass(slots=True)
class Report:
    """What became of a walk: visits by outcome and by what the nearest cache said, and those that failed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    caches: Counter[str] = field(default_factory=Counter)
    failures: list[Visit] = field(default_factory=list)

    def add(self, visit: Visit) -> None:
        """Count a visit, keep one that failed."""
        self.outcomes[visit.outcome] += 1
        if visit.cache:
            self.caches[visit.cache] += 1
        if visit.failed:
            self.failures.append(visit)

    @property
    def not_asked(self) -> int:
        """Representations that the walk did not come to."""
        return self.outcomes[NOT_ASKED]

    def __str__(self) -> str:
        return f"{_counted(self.outcomes)}; Cache-Status: {_counted(self.caches)}"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.most_common()) or "none"


def base_url(text: str) -> httpx.URL:
    """Return scheme, host and port to ask at. Raises `WarmingError` where that is not all there is."""
    with suppress(httpx.InvalidURL):
        url = httpx.URL(text)
        if url.scheme in {"http", "https"} and url.host and not url.userinfo and url.raw_path == b"/":
            return url
    raise WarmingError(
        f"{_redacted(text)!r} is no base URL. Give scheme and host, and a port if need be, as in "
        "https://gallery.example: no user, password or path."
    )


def _redacted(text: str) -> str:
    return re.sub(r"[^/@]*@", "...@", text)


def warm(
    base: httpx.URL,
    hots: Sequence[Hot],
    manners: Manners,
    on_visit: Callable[[Visit], object] = lambda visit: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] | None = None,
) -> Report:
    """Ask for each URL at `base`, and return what became of it; `on_visit` hears of each visit, in order.

    What answers 429 or 503 is left alone for as long as it asks, and asked again; a base URL that goes on failing
    is given up, and the rest not asked for. Raises only what `on_visit` does, and then asks for nothing more.
    """
    with _client(manners) as client:
        return _Walk(base, manners, client, clock, sleep).go(hots, on_visit)


def _client(manners: Manners) -> httpx.Client:
    """A client that goes straight to the base URL, through no proxy, and neither keeps nor sends cookies."""
    return httpx.Client(
        timeout=manners.timeout,
        limits=httpx.Limits(max_connections=manners.concurrency),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        verify=httpx.create_ssl_context(),
        trust_env=False,
        follow_redirects=False,
    )


class _Pace:
    """When the next request is due: `rate` a second at most, and none in a pause. Threads take turns."""

    def __init__(
        self,
        rate: float,
        stopped: threading.Event,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        self._interval = 1 / rate
        self._stopped = stopped
        self._clock = clock
        self._sleep = sleep
        self._due = self._paused_until = clock()
        self._turn = threading.Lock()
        self._pausing = threading.Lock()

    def wait(self) -> bool:
        """Return when a request is due, or with False when there is to be none."""
        with self._turn:
            while (left := self._left()) > 0 and not self._stopped.is_set():
                self._sleep(left)
            self._due = self._clock() + self._interval
        return not self._stopped.is_set()

    def pause(self, seconds: float) -> None:
        """Have no request go for `seconds`, also none that waits already."""
        with self._pausing:
            self._paused_until = max(self._paused_until, self._clock() + seconds)

    def _left(self) -> float:
        return max(self._due, self._paused_until) - self._clock()


class _Walk:
    """One walk through one base URL, by as many threads as the manners allow."""

    def __init__(
        self,
        base: httpx.URL,
        manners: Manners,
        client: httpx.Client,
        clock: Callable[[], float],
        sleep: Callable[[float], object] | None,
    ) -> None:
        self._base = base
        self._manners = manners
        self._client = client
        self._stopped = threading.Event()
        self._pace = _Pace(manners.rate, self._stopped, clock, sleep or self._stopped.wait)
        self._in_a_row = 0
        self._counting = threading.Lock()

    def go(self, hots: Sequence[Hot], on_visit: Callable[[Visit], object]) -> Report:
        report = Report()
        for visit in self._visits(hots):
            report.add(visit)
            on_visit(visit)
        return report

    def _visits(self, hots: Sequence[Hot]) -> Iterator[Visit]:
        """Yield what becomes of each. Whoever stops listening ends the walk, and whoever waits in it."""
        if (
            self._manners.concurrency == 1
        ):  # without a pool: a process that ends waits for every pool's threads
            yield from chain.from_iterable(map(self._visit, hots))
            return
        with ThreadPoolExecutor(self._manners.concurrency) as pool:
            try:
                yield from chain.from_iterable(pool.map(self._visit, hots))
            finally:
                self._stopped.set()

    def _visit(self, hot: Hot) -> list[Visit]:
        """Ask for one coding after the other: the first has the origin make what is coded."""
        return [self._insist(hot, coding) for coding in self._manners.codings]

    def _insist(self, hot: Hot, coding: str) -> Visit:
        """Ask until the answer is not to come back later, `ATTEMPTS` times at most."""
        visit = Visit(hot.url, NOT_ASKED)
        for _ in range(ATTEMPTS):
            if not self._pace.wait():
                return visit
            visit, pause = self._ask(hot, coding)
            if pause is None:
                break
            self._rest(pause)
        self._count(visit)
        return visit

    def _ask(self, hot: Hot, coding: str) -> tuple[Visit, float | None]:
        """Ask once; return what became of it, and for how many seconds to stop, if at all."""
        try:
            with self._client.stream(
                "GET",
                self._base.copy_with(raw_path=hot.url.encode("ascii")),
                headers=self._manners.headers(hot, coding),
                extensions=self._manners.extensions(),
            ) as response:
                for _ in response.iter_raw():
                    pass
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Visit(hot.url, type(error).__name__, failed=True), None
        return _visited(hot, response), _pause(response)

    def _rest(self, seconds: float) -> None:
        if seconds > LONGEST_PAUSE:
            self._stopped.set()
        self._pace.pause(seconds)

    def _count(self, visit: Visit) -> None:
        """Give up where the server, rather than the URL, has failed too often in a row."""
        with self._counting:
            is_at_fault = visit.failed and visit.outcome not in _OF_THE_URL
            self._in_a_row = self._in_a_row + 1 if is_at_fault else 0
            if self._in_a_row >= MOST_FAILURES:
                self._stopped.set()


def _visited(hot: Hot, response: httpx.Response) -> Visit:
    is_gone = bool(hot.etags) and response.status_code in {404, 410}  # since it was stored
    is_well = response.is_success or response.status_code == 304 or is_gone
    cache = _nearest(response.headers.get("Cache-Status", ""))
    return Visit(hot.url, str(response.status_code), cache, failed=not is_well)


def _pause(response: httpx.Response) -> float | None:
    """Return the seconds to stop for (RFC 9110 section 10.2.3), or None."""
    if response.status_code not in {429, 503}:
        return None
    asked = response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return float(asked)
    until = parse_http_date_safe(asked)
    if until is None:
        return DEFAULT_PAUSE
    return max(0.0, until - (parse_http_date_safe(response.headers.get("Date", "")) or time.time()))


_MEMBER = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+')
_PART = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+')


def _nearest(cache_status: str) -> str:
    """Return name and verdict of the cache that answered, the last of a Cache-Status (RFC 9211 section 2)."""
    members = _MEMBER.findall(cache_status)
    if not members:
        return ""
    name, *parameters = (part.strip() for part in _PART.findall(members[-1]))
    verdict = next((each for each in parameters if each == "hit" or each.startswith("fwd")), "")
    return f"{name} {verdict}".strip()


# --- After a purge ------------------------------------------------------------------------------------------


def warm_after(scopes: Iterable[str]) -> None:
    """Have what was made from those of `scopes` that `KEYBITS_WARM_AFTER_PURGE` names asked for again, soon.

    To be called when the caches in front have acknowledged the purge. Returns at once; a thread of this
    process does it, and what it has not done when the process ends, nobody does.
    """
    hot = [scope for scope in scopes if any(fnmatchcase(scope, like) for like in conf.WARM_AFTER_PURGE)]
    if hot:
        _afterwards(os.getpid()).add(hot)


class Afterwards:
    """Gathers what was purged, and warms it in a thread that ends when there is nothing left.

    One walk at a time, one request at a time, `MOST_AFTER_PURGE` URLs at most; what is purged meanwhile waits for
    the next, each scope once.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.thread: threading.Thread | None = None
        self._clock = clock
        self._sleep = sleep
        self._is_running = False
        self._waiting: list[str] = []
        self._lock = threading.Lock()

    def add(self, scopes: Iterable[str]) -> None:
        """Have `scopes` seen to. Too many of a kind become the kind."""
        with self._lock, suppress(RuntimeError):  # no thread starts in a process that ends
            self._waiting = coarsened([*self._waiting, *scopes])
            if not self._is_running:
                self.thread = threading.Thread(target=self._run, name="keybits-warming", daemon=True)
                self.thread.start()
                self._is_running = True

    def _run(self) -> None:
        while scopes := self._next():
            try:
                self._warm(scopes)
            except Exception:
                logger.warning("what was purged is not warmed", exc_info=True)

    def _next(self) -> list[str]:
        """Return what was purged until now, after a lull; nothing, where the thread is to end."""
        with self._lock:
            self._is_running = bool(self._waiting)
        if not self._is_running:
            return []
        self._sleep(LULL)
        with self._lock:
            scopes, self._waiting = self._waiting, []
        return scopes

    def _warm(self, scopes: Sequence[str]) -> None:
        base = base_url(conf.WARM_BASE_URL)
        hots = stored_under(scopes)[:MOST_AFTER_PURGE]
        report = warm(base, hots, Manners(concurrency=1), clock=self._clock, sleep=self._sleep)
        log = logger.warning if report.failures or report.not_asked else logger.info
        log("after a purge, at %s: %s", base, report)


@lru_cache(maxsize=1)
def _afterwards(process: int) -> Afterwards:
    """The one of this process: a thread does not survive a fork, nor do locks in whatever state."""
    return Afterwards()
