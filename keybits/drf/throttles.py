"""Throttles whose rates hold exactly, however many processes count, because the store counts.

Periods do not slide: one begins with the first request that counts, and no more than the rate's number of requests are
allowed until it ends. Where the store cannot count, requests are allowed, because an outage is not the client's fault.
A throttle with `counts_hits` is asked on every request, the others only for what has to be computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import (
    AnonRateThrottle,
    ScopedRateThrottle,
    SimpleRateThrottle,
    UserRateThrottle,
)

from keybits.bits import class_of
from keybits.drf.order import LeadingMixin
from keybits.outages import Outage
from keybits.stores import StoreError, get_store

__all__ = ["AnonymousThrottle", "DeferredThrottlesMixin", "ScopedThrottle", "UserThrottle"]

_outage = Outage(logging.getLogger(__name__), "nobody is throttled", "rates are counted again")


class _ExactRate(SimpleRateThrottle):
    """A rate of REST framework's, counted in the store. A refusal raises at once, so that no later throttle counts."""

    counts_hits = False
    num_requests: int | None
    duration: int | None

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request. Where the rate is used up, raise `Throttled` (429) with the seconds to wait."""
        key = None if self.rate is None else self.get_cache_key(request, view)
        if key is None or get_store().is_tripped:
            return True
        try:
            left, wait = get_store().take(key, self.num_requests or 0, self.duration or 0)
        except StoreError as error:
            _outage.note(error)
            return True
        _outage.end()
        if left < 0:
            view.throttled(request, wait)
        return True


class AnonymousThrottle(_ExactRate, AnonRateThrottle):
    """The rate `anon`, counted for each client address, of requests without credentials."""

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return None if request.auth is not None else super().get_cache_key(request, view)


class UserThrottle(_ExactRate, UserRateThrottle):
    """The rate `user`, counted for each user, whatever the credentials. Counts hits, but no anonymous requests."""

    counts_hits = True
    keybits_closed = True

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return _key(self, _user_of(request))


class ScopedThrottle(_ExactRate, ScopedRateThrottle):
    """The rate that the view's `throttle_scope` names, counted for each user, or each address of anonymous clients."""

    def allow_request(self, request: Request, view: Any) -> bool:
        self.scope = getattr(view, self.scope_attr, None)
        if not self.scope:
            return True
        self.rate = self.get_rate()
        self.num_requests, self.duration = self.parse_rate(self.rate)
        return _ExactRate.allow_request(self, request, view)

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return _key(self, _user_of(request)) or super().get_cache_key(request, view)


def _key(throttle: Any, user: Any) -> str | None:
    return f"throttle:{throttle.scope}:user:{class_of(user)}:{user.pk}" if user is not None else None


def _user_of(request: Request) -> Any:
    """Return the user whose credentials were sent, who need not be `request.user`; None for nobody."""
    user = getattr(request.auth, "user", None) or request.user
    return user if user and user.is_authenticated else None


class DeferredThrottlesMixin(LeadingMixin):
    """Throttles count only what has to be computed: a hit costs nothing and counts nothing.

    Those with `counts_hits` are asked on every request. The viewset mixins include this; add it to an APIView whose
    `get` is cached.
    """

    throttle_classes: Any
    get_throttles: Callable[[], list[Any]]
    _are_put_off = False

    def check_throttles(self, request: Request) -> None:
        self._are_put_off = _is_cached(self, request)
        kinds = (True,) if self._are_put_off else (True, False)
        self._ask(request, kinds, super().check_throttles)  # type: ignore[misc]

    def check_throttles_now(self, request: Request) -> None:
        """Ask the throttles that were deferred, if any were."""
        if self._are_put_off:
            self._ask(request, (False,), super().check_throttles)  # type: ignore[misc]

    def _ask(self, request: Request, kinds: tuple[bool, ...], check: Callable[[Request], None]) -> None:
        """Have `check` ask throttles of these kinds. No others are instantiated (`python -m benchmarks server_cpu`)."""
        declared, given = self.throttle_classes, vars(self).get("get_throttles")
        self.throttle_classes = [each for each in declared if _counts_hits(each) in kinds]
        made: Any = self.get_throttles()  # a view may make its own
        vars(self)["get_throttles"] = lambda: [each for each in made if _counts_hits(each) in kinds]
        try:
            check(request)
        finally:
            del vars(self)["get_throttles"]
            if given:
                vars(self)["get_throttles"] = given
            self.throttle_classes = declared


def _counts_hits(throttle: Any) -> bool:
    return bool(getattr(throttle, "counts_hits", False))


def _is_cached(view: Any, request: Request) -> bool:
    method = request._request.method or ""
    handler = getattr(view, getattr(view, "action", None) or method.lower(), None)
    return method in {"GET", "HEAD"} and getattr(handler, "keybits_cached", False)
