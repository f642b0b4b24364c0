"""Rates that hold exactly, however many processes count: each request takes one of so many from the store.

The periods of a rate do not slide: one begins with the first request that counts, and no more than the rate's number
are let through until it ends. Where the store cannot count, requests are let through: an outage is not the client's
fault. A throttle with `counts_hits` is asked on every request, the others only for what has to be computed.
"""

from __future__ import annotations

import logging
from typing import Any

from rest_framework.request import Request
from rest_framework.throttling import (
    AnonRateThrottle,
    ScopedRateThrottle,
    SimpleRateThrottle,
    UserRateThrottle,
)

from keybits.outages import Outage
from keybits.stores import StoreError, get_store

__all__ = ["AnonymousThrottle", "ScopedThrottle", "UserThrottle"]

_outage = Outage(logging.getLogger(__name__), "nobody is throttled", "rates are counted again")


class _ExactRate(SimpleRateThrottle):
    """A rate of REST framework's, counted in the store. A refusal ends it: no throttle after it counts."""

    counts_hits = False
    num_requests: int | None
    duration: int | None

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request; refuse it, with the time to wait, where the rate is used up (429)."""
        key = None if self.rate is None else self.get_cache_key(request, view)
        if key is None or get_store().is_tripped:
            return True
        try:
            left, wait = get_store().take(key, self.num_requests or 0, self.duration or 0)
        except StoreError as error:
            _outage.goes_on(error)
            return True
        _outage.is_over()
        if left < 0:
            view.throttled(request, wait)
        return True


class AnonymousThrottle(_ExactRate, AnonRateThrottle):
    """The rate `anon`, of each client address, for those who have shown no credentials."""

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return None if request.auth is not None else super().get_cache_key(request, view)


class UserThrottle(_ExactRate, UserRateThrottle):
    """The rate `user`, of each user, by whatever credentials; nobody else is counted. Hits are."""

    counts_hits = True
    keybits_closed = True

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return _key(self, _user_of(request))


class ScopedThrottle(_ExactRate, ScopedRateThrottle):
    """The rate that the view's `throttle_scope` names, of each user; of each address, where nobody has signed in."""

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
    return f"throttle:{throttle.scope}:user:{user.pk}" if user is not None else None


def _user_of(request: Request) -> Any:
    """Return whose credentials the client showed; None for nobody. Credentials may be another's than `request.user`."""
    user = getattr(request.auth, "user", None) or request.user
    return user if user and user.is_authenticated else None
