"""Throttles that let requests through when they cannot count: an outage of the cache is not the client's fault."""

from __future__ import annotations

import logging
import time
from typing import Any

from django_redis.exceptions import ConnectionInterrupted
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle

from keybits.conf import conf
from keybits.stores import get_store

__all__ = ["AnonymousThrottle"]

logger = logging.getLogger(__name__)


class AnonymousThrottle(AnonRateThrottle):
    """REST framework's throttle for anonymous clients, behind a circuit breaker of its own.

    A cache that failed is left alone for `KEYBITS_STORE_RETRY` seconds, and while the store is out of reach, which
    mostly is the same server: requests do not queue up behind time-outs, and nobody is refused meanwhile.
    """

    closed_until = 0.0

    def allow_request(self, request: Request, view: Any) -> bool:
        if time.monotonic() < AnonymousThrottle.closed_until or get_store().is_tripped:
            return True
        try:
            return bool(super().allow_request(request, view))
        except (RedisError, ConnectionInterrupted, OSError):
            AnonymousThrottle.closed_until = time.monotonic() + conf.STORE_RETRY
            logger.warning("the cache is out of reach; nobody is throttled", exc_info=True)
            return True
