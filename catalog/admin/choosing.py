"""How one of very many rows is chosen: by the search of its own list. What cannot be a row's id is never asked for."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.widgets import AutocompleteSelect

__all__ = ["LONGEST_ID", "RowSelect", "is_id"]

LONGEST_ID = 18
"""Digits of a key that every database can hold."""


def is_id(text: str) -> bool:
    """Say whether `text` can be the id of a row."""
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_ID


class RowSelect(AutocompleteSelect):
    """As Django's, for any value that a request may hold."""

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        return super().optgroups(name, [each for each in value if is_id(str(each))], attr)
