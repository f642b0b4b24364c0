"""Retry-After: for how long a server asks not to be asked again (RFC 9110 section 10.2.3)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from django.utils.http import parse_http_date_safe

__all__ = ["pause_asked"]


def pause_asked(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response asks to wait, by its own Date where it names a time; None if it does not ask.

    `headers` find their fields in whatever case, as httpx's do.
    """
    asked = headers.get("Retry-After", "")
    if asked.isdecimal():
        return float(asked)
    until = parse_http_date_safe(asked)
    return None if until is None else max(0.0, until - _sent(headers))


def _sent(headers: Mapping[str, str]) -> float:
    return parse_http_date_safe(headers.get("Date", "")) or time.time()
