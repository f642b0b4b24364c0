"""How text that others wrote is printed for people at a terminal."""

from __future__ import annotations

__all__ = ["on_one_line"]


def on_one_line(text: str) -> str:
    """Return `text` with what could end the line, or steer a terminal, escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
