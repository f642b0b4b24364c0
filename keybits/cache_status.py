"""What the Cache-Status field (RFC 9211) says of each answer, under the cache name `keybits`."""

from __future__ import annotations

import re

__all__ = ["BYPASS", "HIT", "METHOD", "MISS", "STALE", "forwarded", "stale"]

HIT = "keybits; hit"
"""The value for an answer from the cache."""
MISS, STALE, BYPASS, METHOD = "uri-miss", "stale", "bypass", "method"
"""The reasons for which a request is `forwarded`."""
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")


def stale(seconds: int) -> str:
    """Return the value for an entry that is sent although it may be stale by `seconds` (RFC 9211 section 2.4)."""
    return f"keybits; hit; ttl={-seconds}"


def forwarded(reason: str, *, stored: bool = False, collapsed: bool = False, detail: str = "") -> str:
    """Return the value for a request that was forwarded to the view, with the reason (RFC 9211 section 2.2).

    `uri-miss`: there was no entry. `stale`: there was one, no longer true. `bypass`: the cache was not asked.
    `method`: a write, which no cache answers. `collapsed`: the view answered a concurrent request, for this one too.
    """
    value = f"keybits; fwd={reason}"
    if stored:
        value += "; stored"
    if collapsed:
        value += "; collapsed"
    return f"{value}; detail={_item(detail)}" if detail else value


def _item(text: str) -> str:
    """Return `text` as a token where it is one, else as a string (RFC 9651 sections 3.3.3 and 3.3.4)."""
    if _TOKEN.fullmatch(text):
        return text
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
