"""How text from untrusted sources is printed on a terminal."""

from __future__ import annotations

__all__ = ["on_one_line"]


def on_one_line(text: str) -> str:
    """Return `text` with all unprintable characters, such as line breaks and terminal controls, escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
