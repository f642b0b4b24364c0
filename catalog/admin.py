"""The catalogue in Django's admin: what people change by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from catalog.models import BulkOperation, Gallery, Rendition, Screenshot, Tag


@admin.register(Gallery)
class GalleryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("title", "slug", "visibility", "owner", "position", "updated_at")
    list_filter = ("visibility",)
    search_fields = ("title", "slug")
    raw_id_fields = ("cover", "owner")
    prepopulated_fields = {"slug": ("title",)}


class RenditionInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Rendition
    extra = 0
    can_delete = False
    readonly_fields = ("width", "height", "format", "bytes", "sha256")


@admin.register(Screenshot)
class ScreenshotAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("title", "gallery", "domain", "state", "captured_at")
    list_filter = ("state", "color_scheme")
    list_select_related = ("gallery",)
    search_fields = ("title", "domain")
    raw_id_fields = ("gallery",)
    filter_horizontal = ("tags",)
    inlines = (RenditionInline,)
    show_full_result_count = False


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("name", "slug", "kind")
    list_filter = ("kind",)
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}


@admin.register(BulkOperation)
class BulkOperationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The records of bulk operations, to be read: what has been done stays as it was written."""

    list_display = ("at", "username", "kind", "path", "query", "count")
    list_filter = ("kind",)
    search_fields = ("username", "path")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
