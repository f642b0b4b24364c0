"""When a key's account has used up its monthly quota, and what clients are told about it.

A request with a key counts once it has been let in: the key can be used, its scopes suffice, and no rate is exceeded.
What becomes of it then does not matter: a hit, a 304, a 404, a 406 for Accept-Encoding and the 403 of an object that is
not the client's to change all count. A 401, a 429 or a 406 for Accept does not, nor a 403 for a missing scope.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from catalog.accounts import usage
from catalog.accounts.models import ApiKey, UsageEvent
from catalog.accounts.usage import Tally
from keybits.drf.attempts import atomically

__all__ = ["QuotaExceededError", "QuotaThrottle"]

POLICY = "month"


class QuotaExceededError(Throttled):
    """429: the account's monthly quota is used up; `Retry-After` is when the next month begins."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(detail=f"All {tally.quota} requests of the plan for this month (UTC) are used up.")
        self.wait = tally.resets_in
        self.members = {"type": "urn:problem:quota-exceeded", "violated-policies": [POLICY]}


class QuotaThrottle(BaseThrottle):
    """Counts every request with a key, hit or miss. Put it last, so that a request refused by a rate does not count."""

    counts_hits = True
    keybits_closed = True

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request and tell the client what is left. Raises `QuotaExceededError` where nothing is left.

        Raises `BusyError` where others keep the request from being counted: what cannot be counted is not let in.
        """
        if not isinstance(request.auth, ApiKey):
            return True
        match = request.resolver_match
        route = (match.view_name if match else "") or ""
        count = partial(usage.count, key=request.auth, method=request.method or "", route=route)
        tally = atomically(UsageEvent, count)
        view.headers |= _fields(tally)
        if tally.event is None:
            raise QuotaExceededError(tally)
        _note_answer(view, tally.event)
        return True


def _note_answer(view: Any, event: int) -> None:
    """Have the status of the view's response noted once it has been sent.

    A view that caches finalizes two responses: what it has rendered, and what it answers. Only the second is sent and
    closed.
    """
    finalize = view.finalize_response

    def finalize_response(*args: Any, **kwargs: Any) -> Any:
        response = finalize(*args, **kwargs)
        response._resource_closers.append(lambda: usage.note_answer(event=event, status=response.status_code))
        return response

    view.finalize_response = finalize_response


def _fields(tally: Tally) -> dict[str, str]:
    """Return the fields of draft-ietf-httpapi-ratelimit-headers; none where the plan has no quota."""
    if tally.quota is None:
        return {}
    return {
        "RateLimit-Policy": f'"{POLICY}";q={tally.quota};w={tally.window}',
        "RateLimit": f'"{POLICY}";r={tally.left};t={tally.resets_in}',
    }
