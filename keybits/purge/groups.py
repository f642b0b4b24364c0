"""The view that makes a cache in front invalidate groups: its answer names them (RFC 9875 section 3).

A cache obeys that field only on the answer to an unsafe request that it has forwarded. So `keybits.purge.cache_groups`
sends such requests through the cache, and this view answers with the groups that they name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare, salted_hmac
from django.views.decorators.csrf import csrf_exempt

from keybits.cache_control import cache_control
from keybits.problems import problem_response
from keybits.purge.webhook import signature

__all__ = ["GROUPS", "invalidate", "secrets"]

GROUPS = 32
"""The number of groups, of 32 characters each, that every cache must read from a field (RFC 9875 section 2)."""
BYTES = 4_096
"""The longest body that is read; 32 groups take less than a third of it."""
TOLERANCE = 300
"""Seconds that the clocks of two of our machines may differ, and for which a request can be replayed."""
UNKEPT = cache_control(no_store=True)
GROUP = re.compile(r"[A-Za-z0-9_-]{1,32}")


@csrf_exempt
def invalidate(request: HttpRequest) -> HttpResponse:
    """Answer 204 with the groups of a JSON list, if it is signed with `SECRET_KEY`; otherwise with a problem."""
    if request.method != "POST":
        refusal = problem_response(405, detail="Only POST invalidates.")
        refusal["Allow"] = "POST"
        return refusal
    body = request.read(BYTES + 1)
    if len(body) > BYTES:
        return problem_response(413, detail=f"Send at most {BYTES} bytes.")
    if not _is_ours(request, body):
        return problem_response(
            403, detail="The signature is missing or wrong, or its time differs too much from this server's."
        )
    groups = _groups(body)
    if groups is None:
        return problem_response(400, detail=f"Send a JSON list of 1 to {GROUPS} groups.")
    field = ", ".join(f'"{group}"' for group in groups)
    return HttpResponse(status=204, headers={"Cache-Group-Invalidation": field, "Cache-Control": UNKEPT})


def secrets() -> Iterator[bytes]:
    """Yield the secrets that requests may be signed with: that of `SECRET_KEY`, then those of its fallbacks."""
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield salted_hmac("keybits.purge.groups", b"", secret=secret, algorithm="sha256").digest()


def _is_ours(request: HttpRequest, body: bytes) -> bool:
    identity, timestamp, given = (
        request.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    return any(
        constant_time_compare(signature(secret, identity, timestamp, body), given) for secret in secrets()
    )


def _groups(body: bytes) -> list[str] | None:
    try:
        groups: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    fits = isinstance(groups, list) and 1 <= len(groups) <= GROUPS
    return (
        groups if fits and all(isinstance(each, str) and GROUP.fullmatch(each) for each in groups) else None
    )
