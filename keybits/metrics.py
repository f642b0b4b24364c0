"""What has been answered, counted: with which status, and what the cache did (RFC 9211).

`keybits.fastpath` counts what it hands to the server, so that both ways are counted alike. prometheus-client keeps the
numbers: in files that all processes share where `PROMETHEUS_MULTIPROC_DIR` names a folder, else in each process.
"""

from __future__ import annotations

import os
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from keybits import cache_status
from keybits.conf import conf

if TYPE_CHECKING:
    from prometheus_client import Counter

__all__ = ["FOLDER", "Answers", "answers", "outcome"]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus-client is told where all processes keep their numbers."""
REASONS = frozenset({cache_status.MISS, cache_status.STALE, cache_status.BYPASS, cache_status.METHOD})
_FORWARDED = re.compile(r"keybits; fwd=([a-z-]+)")


class Answers:
    """Counts answers as `keybits_answers_total`, by `status` and `cache`. Safe under threads and after fork."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def count(self, code: int, told: str) -> None:
        """Count one answer with this status, and this Cache-Status; "" where it has none."""
        self._counter.labels(str(code), outcome(told)).inc()


@lru_cache(maxsize=256)
def outcome(told: str) -> str:
    """Return in a word what a Cache-Status says.

    `hit`; `hit-stale`, of what was shown after its end; why the view was asked: `uri-miss`, `stale`, `bypass`,
    `method`; `collapsed`, where another request's view answered; `none`, where it is not keybits that says so.
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
    """Return what counts this process's answers; None where `KEYBITS_METRICS` is off."""
    return Answers(_counter()) if conf.METRICS else None


@cache
def _counter() -> Counter:
    """prometheus-client takes each name once a process."""
    if folder := os.environ.get(FOLDER):
        _make(Path(folder))
    try:
        from prometheus_client import Counter  # noqa: PLC0415 - only who counts has to have it
    except ImportError:
        raise ImproperlyConfigured("KEYBITS_METRICS needs prometheus-client: the extra `metrics`.") from None
    said = "Answers, by status and by what the cache did."
    return Counter("keybits_answers", said, ("status", "cache"))


def _make(folder: Path) -> None:
    """What cannot be kept there would be an exception with every answer: it is one when the process begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{FOLDER} names a folder that cannot be made: {error}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImproperlyConfigured(f"{FOLDER} names {str(folder)!r}, where this process may not write.")


def _forget(**_: object) -> None:
    answers.cache_clear()


setting_changed.connect(_forget)
