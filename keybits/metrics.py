"""How answers are counted: by their status, and by what the cache did (RFC 9211).

`keybits.fastpath` counts all that it hands to the server, so that its own answers and Django's are counted alike.
prometheus-client keeps the numbers: in files that all processes share where `PROMETHEUS_MULTIPROC_DIR` names a folder,
else in each process.
"""

from __future__ import annotations

import os
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from keybits import cache_status
from keybits.conf import conf, on_change

if TYPE_CHECKING:
    from prometheus_client import Counter

__all__ = ["FOLDER", "Answers", "answers", "outcome"]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that tells prometheus-client in which folder all processes keep their numbers."""
REASONS = frozenset({cache_status.MISS, cache_status.STALE, cache_status.BYPASS, cache_status.METHOD})
_FORWARDED = re.compile(r"keybits; fwd=([a-z-]+)")


class Answers:
    """Counts answers as `keybits_answers_total`, by `status` and `cache`. Safe under threads and after fork."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def count(self, code: int, told: str) -> None:
        """Count one answer with this status and this Cache-Status ("" where it has none)."""
        self._counter.labels(str(code), outcome(told)).inc()


@lru_cache(maxsize=256)
def outcome(told: str) -> str:
    """Return what a Cache-Status says, in one word.

    `hit`; `hit-stale`, for an entry shown after its end; `uri-miss`, `stale`, `bypass` or `method`, for why the view
    was called; `collapsed`, where the view answered another request for this one; `none`, for a value that is not
    keybits' own.
    """
    if told == cache_status.HIT:
        return "hit"
    if told.startswith(cache_status.HIT):
        return "hit-stale"
    if told.endswith("; collapsed"):
        return "collapsed"
    forwarded = _FORWARDED.match(told)
    return forwarded[1] if forwarded and forwarded[1] in REASONS else "none"


@lru_cache(maxsize=1)
def answers() -> Answers | None:
    """Return the counter of this process's answers; None where `KEYBITS_METRICS` is off."""
    return Answers(_counter()) if conf.METRICS else None


@cache
def _counter() -> Counter:
    """Return the counter, which is made once: prometheus-client accepts each name once a process."""
    if folder := os.environ.get(FOLDER):
        _make(Path(folder))
    try:
        from prometheus_client import Counter  # noqa: PLC0415 - optional: needed where answers are counted
    except ImportError:
        raise ImproperlyConfigured("KEYBITS_METRICS needs prometheus-client (extra `metrics`).") from None
    said = "Answers, by status and by what the cache did."
    return Counter("keybits_answers", said, ("status", "cache"))


def _make(folder: Path) -> None:
    """Create the folder and check it when the process starts: else every answer would raise an exception."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{FOLDER} names a folder that cannot be made: {error}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImproperlyConfigured(f"{FOLDER} names {str(folder)!r}, which this process cannot write to.")


on_change(answers.cache_clear)
