"""The protocol between keybits and the caches in front. Each adapter is a module of this package.

Every adapter passes the contract in `tests/keybits/purge/test_contract.py`. `keybits.delivery` decides when to purge;
an adapter decides only which requests purge its cache.
"""

from __future__ import annotations

import inspect
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import httpx
from django.core.exceptions import ImproperlyConfigured

from keybits import surrogates
from keybits.retry_after import pause_asked

__all__ = ["KEY_FIELDS", "Order", "PurgeError", "Purger", "absolute", "batches"]

KEY_FIELDS = {"Surrogate-Key": " ", "Cache-Tag": ",", "xkey": " ", "Cache-Groups": ", "}
"""The fields in which keybits can write surrogate keys, each with the separator between two keys."""
DEADLINE = 30.0
"""Seconds after which a response is given up: one that arrives byte by byte never meets a time-out."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to purge: answers made from `scopes`, the absolute `urls`, or every answer ever sent.

    A soft purge makes answers stale, so that the cache revalidates them and can still serve them while the origin is
    down; a hard one removes them. A cache that knows no soft purges does hard ones.

    `id` is the same for every attempt at one order, and never used for another, not even for one with the same
    content: a vendor that has seen it does nothing. Without an id, every attempt counts as new.
    """

    scopes: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    everything: bool = False
    soft: bool = True
    id: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The surrogate keys to purge: those of the scopes, or the key of everything."""
        if self.everything:
            return surrogates.keys(surrogates.EVERYTHING)
        return surrogates.purged(self.scopes) if self.scopes else ()

    def split(self, most: int | None) -> list[Order]:
        """Return orders that together do what this one does. One of scopes alone has `most` keys at most, if it can."""
        if most is None or not self.scopes or self.urls or self.everything:
            return [self]
        return [replace(self, scopes=part) for part in surrogates.parts(self.scopes, most)]


class PurgeError(Exception):
    """The cache did not acknowledge. `retry_after` is the pause, in seconds, that it asked for, or None.

    `permanent` means that the same order will fail again: the configuration is wrong, or the cache refuses it.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, permanent: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.permanent = permanent


class Purger(ABC):
    """One cache in front of us. Subclasses turn orders into requests; options are those of `KEYBITS_PURGERS`.

    The options of a subclass are the keyword-only parameters of its `__init__`; others, or too few, raise
    `ImproperlyConfigured`. Their values appear in no message, log or `repr`: some are secret.
    """

    fields: tuple[str, ...] = ()
    """The fields that this cache reads keys from: any of `KEY_FIELDS`."""
    most_keys: int = surrogates.MOST_KEYS
    """The number of keys of one answer that this cache is sure to read: no more are sent (`surrogates.tags`)."""
    holds_by: tuple[str, ...] = ()
    """The fields that tell this cache alone how long to hold an answer, such as `CDN-Cache-Control` or
    `Surrogate-Control`. Empty for a cache that obeys only `s-maxage`."""
    at_once: int | None = None
    """The most keys of one request. A larger order is sent in parts, so that a part that was acknowledged is not sent
    again when another fails. None sends it whole."""
    pace: float = 0.0
    """The vendor's documented rate limit, as the seconds between two requests."""
    burst: int = 1
    """The number of requests that may be sent at once, after a rest of `burst` times `pace`."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        _check_names(cls, options)
        return super().__new__(cls)

    def __init__(self, client: httpx.Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        client.event_hooks["request"].append(_limit)
        self.client = client
        self._clock = clock
        self._earned = clock()

    @abstractmethod
    def requests(self, order: Order) -> Iterator[httpx.Request]:
        """Yield the requests that carry out `order`, each within the vendor's limits."""

    def apart(self) -> Sequence[Purger]:
        """Return a purger for each server that has its own copies, so that one that is down delays no other."""
        return (self,)

    def acknowledged(self, response: httpx.Response) -> bool:
        """Return whether the cache has carried out the request, or has accepted it."""
        return response.is_success

    def permanent(self, response: httpx.Response) -> bool:
        """Return whether the same request would fail again: it is refused, not put off."""
        return 300 <= response.status_code < 500 and response.status_code not in {408, 425, 429}

    def retry_after(self, response: httpx.Response) -> float | None:
        """Return the seconds that the cache asks to wait, or None."""
        return pause_asked(response.headers)

    def reason(self, response: httpx.Response) -> str:
        """Return the vendor's error codes, or "". Never return text that may repeat the request."""
        return ""

    def wait(self) -> float:
        """Return the seconds until the next request is due."""
        return max(0.0, self._earned - self.pace * (self.burst - 1) - self._clock())

    def purge(self, order: Order, sleep: Callable[[float], object] = time.sleep) -> None:
        """Carry out `order`; return when the cache has acknowledged all of it. Raises `PurgeError`. Safe to repeat.

        If the cache is several servers, one that fails does not keep the others from being purged.
        """
        failures: dict[bytes, PurgeError] = {}
        for request in self.requests(order):
            if request.url.netloc not in failures:
                self._pay(sleep)
                if failure := self._attempt(request):
                    failures[request.url.netloc] = failure
        if failures:
            raise _together(list(failures.values()))

    def misconfigured(self, option: str, demand: str) -> ImproperlyConfigured:
        """Return the error that says what `option` has to be. It does not contain the value."""
        return ImproperlyConfigured(f"{type(self).__name__} needs {option!r} to be {demand}.")

    def url(self, option: str, value: object) -> httpx.URL:
        """Return `value` as an absolute URL. One with a user or a password is refused: httpx would log it."""
        url = _parsed(value) if isinstance(value, str) else httpx.URL()
        has_port = url.port is None or 0 < url.port < 2**16
        if url.scheme in {"http", "https"} and url.host and has_port and not url.userinfo:
            return url
        raise self.misconfigured(option, "an http(s) URL without user and password")

    def text(self, option: str, value: object) -> str:
        """Return `value`, after checking that it fits in a header or a path: visible ASCII, and not empty."""
        if isinstance(value, str) and value and all("!" <= character <= "~" for character in value):
            return value
        raise self.misconfigured(option, "visible ASCII characters without spaces")

    def several(self, option: str, values: Any, demand: str) -> Sequence[Any]:
        """Return `values`, after checking that they are a list; a text would be one of its characters."""
        if isinstance(values, Sequence) and not isinstance(values, str):
            return values
        raise self.misconfigured(option, demand)

    def _pay(self, sleep: Callable[[float], object]) -> None:
        if wait := self.wait():
            sleep(wait)
        self._earned = max(self._earned, self._clock()) + self.pace

    def _attempt(self, request: httpx.Request) -> PurgeError | None:
        where = f"{request.method} {request.url.host}"
        try:
            response = self._answer(request)
        except httpx.HTTPError as error:  # its text may repeat a header
            return PurgeError(f"{where}: {type(error).__name__}")
        if self.acknowledged(response):
            return None
        return PurgeError(
            f"{where} answered {response.status_code} {self.reason(response)}".rstrip(),
            retry_after=self.retry_after(response),
            permanent=self.permanent(response),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        ends = self._clock() + DEADLINE
        request.extensions["trace"] = _watch
        token = _time_left.set(lambda: ends - self._clock())
        try:
            return self.client.send(request, auth=None, follow_redirects=False)
        finally:
            _time_left.reset(token)


def _limit(request: httpx.Request) -> None:
    """Have no phase of a request take longer than the deadline, whatever time-outs it was made with."""
    given = request.extensions.get("timeout", {})
    times = {phase: given.get(phase) for phase in ("connect", "read", "write", "pool")}
    request.extensions["timeout"] = {
        phase: DEADLINE if seconds is None else min(seconds, DEADLINE) for phase, seconds in times.items()
    }


_time_left: ContextVar[Callable[[], float]] = ContextVar("keybits_purge_time_left", default=lambda: math.inf)


def _watch(event: str, info: dict[str, Any]) -> None:
    """Have each read from a new connection keep the deadline of the request under way. httpx has none.

    It must be each read, because httpx returns nothing before the header section has ended.
    """
    if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
        stream = info["return_value"]
        stream.read = partial(_read, stream.read)


def _read(read: Callable[..., bytes], max_bytes: int, timeout: float | None = None) -> bytes:
    left = _time_left.get()()
    if left <= 0:
        raise httpx.ReadTimeout("the answer does not end")
    return read(max_bytes, timeout=left if timeout is None else min(timeout, left))


def batches(items: Iterable[str], most: int) -> Iterator[tuple[str, ...]]:
    """Yield `items` in order, `most` at a time."""
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == most:
            yield tuple(batch)
            batch = []
    if batch:
        yield tuple(batch)


def absolute(url: str) -> httpx.URL:
    """Return `url` parsed. Raises `PurgeError` if it has no scheme or no host."""
    parsed = _parsed(url)
    if not (parsed.scheme and parsed.host):
        raise PurgeError("Only absolute URLs can be purged.", permanent=True)
    return parsed


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        return httpx.URL()


def _check_names(purger: type[Purger], options: dict[str, Any]) -> None:
    parameters = inspect.signature(purger.__init__).parameters.values()
    known = {each.name: each for each in parameters if each.kind is each.KEYWORD_ONLY}
    unknown = sorted(options.keys() - known.keys())
    missing = sorted(
        name for name, each in known.items() if each.default is each.empty and name not in options
    )
    if unknown or missing:
        wrong = f"has no option {unknown[0]!r}" if unknown else f"needs the option {missing[0]!r}"
        names = ", ".join(sorted(known.keys() - {"clock"}))
        raise ImproperlyConfigured(f"{purger.__name__} {wrong}. Its options are {names}.")


def _together(failures: list[PurgeError]) -> PurgeError:
    if len(failures) == 1:
        return failures[0]
    waits = [each.retry_after for each in failures if each.retry_after is not None]
    return PurgeError(
        "; ".join(map(str, failures)),
        retry_after=max(waits, default=None),
        permanent=all(each.permanent for each in failures),
    )
