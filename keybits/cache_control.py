"""How long whom: every Cache-Control value (RFC 9111 section 5.2.2) that keybits sends is made here."""

from __future__ import annotations

__all__ = ["PRIVATE", "PUBLIC", "cache_control"]


def cache_control(**directives: int | bool) -> str:
    """Return the field value: `cache_control(public=True, max_age=0)` is `public, max-age=0`.

    Ages are in seconds; a directive that is False is left out.
    """
    return ", ".join(
        _directive(name.replace("_", "-"), value) for name, value in directives.items() if value is not False
    )


def _directive(name: str, value: int | bool) -> str:
    return name if value is True else f"{name}={value}"


PUBLIC = cache_control(public=True, max_age=0, must_revalidate=True)
"""Anybody may keep it, and asks before using it: nobody is shown what has changed."""

PRIVATE = cache_control(private=True, no_store=True)
"""For one person, or not worth keeping: credentials, private galleries, errors, pages for people."""
