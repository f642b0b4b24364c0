"""How a picture is shown in a list: as its smallest rendition, or not at all where there is none yet."""

from __future__ import annotations

from django.utils.html import format_html

from catalog.models import Screenshot

__all__ = ["preview"]

HEIGHT = 48
"""Pixels; small enough for a row of a list."""


def preview(screenshot: Screenshot | None) -> str:
    """Return an `<img>` of the screenshot's smallest rendition, or "". Prefetched renditions are used."""
    smallest = next(iter(screenshot.renditions.all()), None) if screenshot else None
    if screenshot is None or smallest is None:
        return ""
    return format_html(
        '<img src="{}" alt="{}" height="{}" loading="lazy">',
        smallest.address,
        screenshot.alt or screenshot.title,
        HEIGHT,
    )
