"""How one of very many rows is chosen: by the search of its own list. What cannot be a row's id is never asked for."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.http import HttpRequest

__all__ = ["LONGEST_ID", "ChoosingAdmin", "RowSelect", "is_id"]

LONGEST_ID = 18
"""Digits of a key that every database can hold."""


def is_id(text: str) -> bool:
    """Say whether `text` can be the id of a row."""
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_ID


class RowSelect(AutocompleteSelect):
    """As Django's, for any value that a request may hold."""

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        return super().optgroups(name, [each for each in value if is_id(str(each))], attr)


class ChoosingAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Has what it names in `autocomplete_fields` chosen so."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = RowSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
