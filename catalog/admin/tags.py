"""Tags in the admin, and the form field in which tags are entered as slugs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import validate_slug
from django.db.models import QuerySet
from django.http import HttpRequest

from catalog.admin.cache import CachePage
from catalog.admin.curated import CuratedAdmin
from catalog.curation import bulk
from catalog.curation.tags import change_tag, create_tag
from catalog.models import MOST_TAGS, Screenshot, Tag

__all__ = ["SlugsField", "TagAdmin"]


class SlugsField(forms.CharField):
    """Slugs of tags, separated by spaces or commas; unknown ones become tags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, **options})

    def prepare_value(self, value: Any) -> Any:
        """Return tags, or a text from the query string, in the form in which they are entered."""
        return value if isinstance(value, str) or value is None else " ".join(_slugs(value))

    def clean(self, value: Any) -> list[str]:
        """Return the slugs, sorted. Raises Django's `ValidationError` for a word that is not a slug."""
        slugs = sorted(set(super().clean(value).replace(",", " ").split()))
        if len(slugs) > MOST_TAGS or any(len(slug) > 100 for slug in slugs):
            raise forms.ValidationError(f"At most {MOST_TAGS} tags, of at most 100 characters each.")
        for slug in slugs:
            validate_slug(slug)
        return slugs

    def has_changed(self, initial: Any, data: Any) -> bool:
        shown = self.prepare_value(initial) or ""
        return set((data or "").replace(",", " ").split()) != set(shown.split())


def _slugs(tags: Iterable[Tag | str]) -> list[str]:
    return sorted(tag if isinstance(tag, str) else tag.slug for tag in tags)


@admin.register(Tag)
class TagAdmin(CachePage, CuratedAdmin):
    list_display = ("name", "slug", "kind", "offered")
    list_filter = ("kind", "offered")
    search_fields = ("name", "slug")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the fields. A tag that is created here is offered."""
        return ("name", "slug", "kind", "offered") if obj else ("name", "slug", "kind")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the read-only fields. A slug is part of an address, and cannot be changed."""
        return ("slug",) if obj else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> dict[str, Sequence[str]]:
        return {} if obj else {"slug": ("name",)}

    def create(self, **values: Any) -> Tag:
        return create_tag(**values)

    def change(self, row: Any, **changes: Any) -> None:
        change_tag(tag=row, **changes)

    def going(self, rows: Any) -> dict[Any, QuerySet[Any]]:
        tagged = Screenshot.tags.through._base_manager.filter(tag__in=rows)
        return {
            Tag: rows if isinstance(rows, QuerySet) else Tag.objects.filter(pk__in=[tag.pk for tag in rows])
        } | {Screenshot.tags.through: tagged}

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = list(queryset)
        bulk.delete_tags(tags=rows, record=self.record(request, rows))
