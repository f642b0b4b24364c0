"""What the cache says it did: the Cache-Status field (RFC 9211), under the name `keybits`."""

from __future__ import annotations

__all__ = ["BYPASS", "HIT", "MISS", "STALE", "forwarded"]

HIT = "keybits; hit"
MISS = "uri-miss"
STALE = "stale"
BYPASS = "bypass"


def forwarded(reason: str, *, stored: bool = False, detail: str = "") -> str:
    """Return the value for a request that went on to the view, and why (RFC 9211 section 2.2).

    `uri-miss`: there was no entry. `stale`: there was one, no longer true. `bypass`: the cache was not asked.
    """
    value = f"keybits; fwd={reason}"
    if stored:
        value += "; stored"
    return f"{value}; detail={detail}" if detail else value
