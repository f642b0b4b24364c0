"""How one of very many rows is chosen: by the search of its own list. What cannot be an id is never queried."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.http import HttpRequest

from catalog.models import LONGEST_ID

__all__ = ["ChoosingAdmin", "RowSelect", "is_id"]


def is_id(text: str) -> bool:
    """Return whether `text` can be the id of a row, in the one way to write it, by which its history is found."""
    return text.isascii() and text.isdigit() and text[0] != "0" and len(text) <= LONGEST_ID


class RowSelect(AutocompleteSelect):
    """As Django's, but ignores values of the request that cannot be ids."""

    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        return super().optgroups(name, [each for each in value if is_id(str(each))], attr)


class ChoosingAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """An admin whose `autocomplete_fields` use `RowSelect`."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs["widget"] = RowSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
