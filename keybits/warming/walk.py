"""How URLs are requested: at one base URL (a CDN's edge, or the origin), at one rate however many threads there are."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import httpx

from keybits.retry_after import pause_asked
from keybits.warming.hot import Hot, WarmingError

__all__ = [
    "ATTEMPTS",
    "BROWSERS",
    "DEFAULT_PAUSE",
    "MOST_FAILURES",
    "NOT_ASKED",
    "Manners",
    "Report",
    "Visit",
    "base_url",
    "warm",
]

USER_AGENT = "keybits-warm/1 (cache warming; manage.py warm)"
BROWSERS = ("gzip, deflate, br, zstd", "gzip, deflate, br")
"""The Accept-Encoding of Chrome, Edge and Firefox, and that of Safari, over TLS."""
ATTEMPTS = 3
"""Most requests for one representation, where the answer is 429 or 503."""
MOST_FAILURES = 5
"""Consecutive failures after which a base URL is given up."""
DEFAULT_PAUSE = 5.0
"""Seconds to pause after a 429 or a 503 without a valid Retry-After."""
LONGEST_PAUSE = 120.0
"""Longest pause in seconds; a base URL that asks for more is given up."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How URLs are requested: at most `rate` requests a second, and `concurrency` URLs at a time.

    Each is requested once with every Accept-Encoding of `codings`. `timeout` is in seconds: to connect, and between two
    pieces of an answer. `host` is sent, and expected in the certificate, in place of the base URL's. `conditional`
    sends the entity tags of the store's entry, so that an unchanged representation is answered without content.
    """

    rate: float = 10.0
    concurrency: int = 2
    codings: tuple[str, ...] = BROWSERS
    timeout: float = 10.0
    host: str = ""
    conditional: bool = False

    def headers(self, hot: Hot, coding: str) -> dict[str, str]:
        """Return the fields of a request, which has neither credentials nor cookies."""
        fields = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": coding}
        named = {"Host": self.host} if self.host else {}
        known = {"If-None-Match": ", ".join(hot.etags)} if self.conditional and hot.etags else {}
        return fields | named | known

    def extensions(self) -> dict[str, Any]:
        """Return httpx's extensions of a request: the host name that the certificate has to have."""
        name = urlsplit(f"//{self.host}").hostname
        return {"sni_hostname": name} if name else {}


@dataclass(frozen=True, slots=True)
class Visit:
    """The result for one representation: the status, the error, or `not asked`; and the nearest cache's verdict."""

    url: str
    outcome: str
    cache: str = ""
    failed: bool = False


NOT_ASKED = "not asked"
_OF_THE_URL = frozenset({"400", "404", "406", "410", "414"})
"""Statuses that are failures of the URL, not of the server."""


@dataclass(slots=True)
class Report:
    """The result of a walk: visits counted by outcome and by the nearest cache's verdict, and those that failed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    caches: Counter[str] = field(default_factory=Counter)
    failures: list[Visit] = field(default_factory=list)

    def add(self, visit: Visit) -> None:
        """Count a visit, and keep it if it failed."""
        self.outcomes[visit.outcome] += 1
        if visit.cache:
            self.caches[visit.cache] += 1
        if visit.failed:
            self.failures.append(visit)

    @property
    def not_asked(self) -> int:
        """The number of representations that were not requested."""
        return self.outcomes[NOT_ASKED]

    def __str__(self) -> str:
        return f"{_counted(self.outcomes)}; Cache-Status: {_counted(self.caches)}"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.most_common()) or "none"


def base_url(text: str) -> httpx.URL:
    """Return the URL `text`: scheme, host and optional port. Raises `WarmingError` where there is less, or more."""
    with suppress(httpx.InvalidURL, UnicodeError):
        url = httpx.URL(text)
        url.raw_host.decode("ascii").encode("idna")  # connecting does it: no label may be empty or too long
        if url.scheme in {"http", "https"} and url.host and not url.userinfo and url.raw_path == b"/":
            return url
    raise WarmingError(
        f"{_redacted(text)!r} is not a base URL. Give scheme and host, and a port if needed, as in "
        "https://gallery.example: no user, password or path."
    )


def _redacted(text: str) -> str:
    """Return `text` without what may be a user and a password, which may have slashes that should be escaped."""
    return re.sub(r"(?s)^([a-z]*://)?.*@", r"\1...@", text)


def warm(
    base: httpx.URL,
    hots: Sequence[Hot],
    manners: Manners,
    on_visit: Callable[[Visit], object] = lambda visit: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] | None = None,
) -> Report:
    """Request each URL at `base`, and return a report; `on_visit` is called with each visit, in order.

    After a 429 or 503 the walk pauses for as long as it says, and asks again. A base URL that keeps failing is given
    up, and the rest is not requested. Raises only what `on_visit` raises, and then requests nothing more.
    """
    with _client(manners) as client:
        return _Walk(base, manners, client, clock, sleep).go(hots, on_visit)


def _client(manners: Manners) -> httpx.Client:
    """Return a client that uses no proxy, follows no redirect, and neither keeps nor sends cookies."""
    return httpx.Client(
        timeout=manners.timeout,
        limits=httpx.Limits(max_connections=manners.concurrency),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        verify=httpx.create_ssl_context(),
        trust_env=False,
        follow_redirects=False,
    )


class _Pace:
    """When the next request is due: at most `rate` a second, and none during a pause. Threads take turns."""

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
        """Wait until a request is due. Return False where the walk has been stopped and none is to be made."""
        with self._turn:
            while (left := self._left()) > 0 and not self._stopped.is_set():
                self._sleep(left)
            self._due = self._clock() + self._interval
        return not self._stopped.is_set()

    def pause(self, seconds: float) -> None:
        """Delay every request by `seconds` from now, including those that wait already."""
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
        """Yield each visit. Closing the generator ends the walk, and all threads that wait in it."""
        if self._manners.concurrency == 1:  # no pool: a process that exits waits for pool threads
            yield from chain.from_iterable(map(self._visit, hots))
            return
        with ThreadPoolExecutor(self._manners.concurrency) as pool:
            try:
                yield from chain.from_iterable(pool.map(self._visit, hots))
            finally:
                self._stopped.set()

    def _visit(self, hot: Hot) -> list[Visit]:
        """Request one content coding after the other: the first request has the origin make the representation."""
        return [self._insist(hot, coding) for coding in self._manners.codings]

    def _insist(self, hot: Hot, coding: str) -> Visit:
        """Request until the answer is not 429 or 503, at most `ATTEMPTS` times."""
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
        """Request once; return the visit, and the seconds to pause before another attempt, or None."""
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
        """Stop the walk where the server, rather than the URL, has failed `MOST_FAILURES` times in a row."""
        with self._counting:
            is_at_fault = visit.failed and visit.outcome not in _OF_THE_URL
            self._in_a_row = self._in_a_row + 1 if is_at_fault else 0
            if self._in_a_row >= MOST_FAILURES:
                self._stopped.set()


def _visited(hot: Hot, response: httpx.Response) -> Visit:
    is_gone = bool(hot.etags) and response.status_code in {404, 410}  # deleted since it was stored
    is_well = response.is_success or response.status_code == 304 or is_gone
    cache = _nearest(response.headers.get("Cache-Status", ""))
    return Visit(hot.url, str(response.status_code), cache, failed=not is_well)


def _pause(response: httpx.Response) -> float | None:
    """Return the seconds to pause before another attempt, or None for no further attempt."""
    if response.status_code not in {429, 503}:
        return None
    asked = pause_asked(response.headers)
    return DEFAULT_PAUSE if asked is None else asked


_MEMBER = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+')
_PART = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+')


def _nearest(cache_status: str) -> str:
    """Return name and verdict of the nearest cache, which is the last in Cache-Status (RFC 9211 section 2); "" if none.

    No field value raises: it comes from whichever server is warmed.
    """
    members = _MEMBER.findall(cache_status)
    parts = [part.strip() for part in _PART.findall(members[-1] if members else "")]
    verdict = next((each for each in parts[1:] if each == "hit" or each.startswith("fwd")), "")
    return " ".join([*parts[:1], verdict]).strip()
