"""The catalogue in Django's admin: what people change by hand."""

from __future__ import annotations

from django.contrib import admin

from catalog.models import Gallery, Rendition, Screenshot, Tag


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
