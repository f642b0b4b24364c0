"""Galleries in the admin, each with its first screenshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from catalog.admin.cache import CachePage
from catalog.admin.choosing import is_id
from catalog.admin.curated import CuratedAdmin
from catalog.admin.filters import SearchedFilter
from catalog.admin.previews import preview
from catalog.admin.refusals import RefusalForm
from catalog.admin.shown import ShownForm, ShownMixin
from catalog.admin.tags import SlugsField
from catalog.curation import bulk
from catalog.curation.galleries import change_gallery, create_gallery
from catalog.curation.screenshots import change_screenshot
from catalog.models import Gallery, Rendition, Screenshot, Visibility

__all__ = ["GalleryAdmin"]

FIRST = 20
"""Screenshots that are shown with a gallery; the others are in their own list."""
COVERS = 100
"""Screenshots that a cover can be chosen from, besides the present cover."""


class FirstScreenshots(BaseInlineFormSet):  # type: ignore[type-arg]
    """The first screenshots of a gallery; when the form is sent, those that it had shown, whatever their position."""

    def get_queryset(self) -> Any:
        if not hasattr(self, "_queryset"):
            rows = super().get_queryset().order_by("position", "id")
            self._queryset = rows.filter(pk__in=self._held()) if self.is_bound else rows[:FIRST]
        return self._queryset

    def clean(self) -> None:
        """Refuse where a screenshot has left the gallery meanwhile, which Django would ignore.

        Also refuse to delete one that has been changed since it was shown.
        """
        super().clean()
        if any(form.instance.pk is None for form in self.initial_forms):
            raise forms.ValidationError("A screenshot has left the gallery meanwhile. Look again.")
        forms_of_rows: Any = self.initial_forms
        if any(form.cleaned_data.get("DELETE") and form.is_overtaken() for form in forms_of_rows):
            raise forms.ValidationError(
                "Somebody else has changed a screenshot that was to be deleted. It is shown as it is now."
            )

    def _held(self) -> list[int]:
        """Lock the screenshots that were shown, until all is saved, and return their keys."""
        sent = Screenshot._base_manager.select_for_update(no_key=True).filter(pk__in=self._sent())
        return list(sent.order_by("pk").values_list("pk", flat=True))

    def _sent(self) -> list[int]:
        sent = (self.data.get(f"{self.prefix}-{number}-id", "") for number in range(FIRST))
        return [int(pk) for pk in sent if is_id(pk)]


class ScreenshotRowForm(ShownForm):
    """One screenshot of the inline."""

    tags = SlugsField(widget=forms.TextInput(attrs={"size": 30}))


class ScreenshotInline(ShownMixin, admin.TabularInline):  # type: ignore[type-arg]
    model = Screenshot
    form = ScreenshotRowForm
    formset = FirstScreenshots
    fields = ("picture", "title", "position", "tags", "state")
    readonly_fields = ("picture", "state")
    extra = 0
    show_change_link = True
    verbose_name_plural = f"the first {FIRST} screenshots"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a screenshot is added in its own form, which asks for its page."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("renditions", "tags")

    @admin.display(description="picture")
    def picture(self, screenshot: Screenshot) -> str:
        """The smallest rendition."""
        return preview(screenshot)


class GalleryForm(RefusalForm):
    """A gallery's own fields; its cover is one of its screenshots."""

    cover = forms.ModelChoiceField(
        Screenshot.objects.none(), required=False, help_text=f"One of the first {COVERS}, or the present one."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["cover"]
        field.queryset = Screenshot.objects.filter(gallery=self.instance.pk)
        field.widget.choices = [("", "---------"), *self._covers(field.queryset)]

    def _covers(self, rows: QuerySet[Screenshot]) -> list[tuple[int, str]]:
        first = list(rows.order_by("position", "id").values_list("pk", "title")[:COVERS])
        cover = self.instance.cover
        if cover is not None and cover.pk not in dict(first):
            first.append((cover.pk, cover.title))
        return first


@admin.register(Gallery)
class GalleryAdmin(CachePage, CuratedAdmin):
    form = GalleryForm
    list_display = (
        "picture",
        "title",
        "slug",
        "visibility",
        "owner",
        "screenshots",
        "position",
        "updated_at",
    )
    list_display_links = ("picture", "title")
    list_filter = ("visibility", ("owner", SearchedFilter))
    list_select_related = ("cover", "owner")
    sortable_by = ("title", "slug", "position", "updated_at")
    search_fields = ("title", "slug")
    autocomplete_fields = ("owner",)
    inlines = (ScreenshotInline,)
    actions = ("publish", "unlist", "hide", "delete_selected")
    deletes = (Screenshot,)

    @property
    def media(self) -> forms.Media:
        """The media, with the scripts of the searched filter."""
        return super().media + SearchedFilter.media_of(Gallery._meta.get_field("owner"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: Any = super().get_queryset(request)
        counted: QuerySet[Any] = rows.counted()
        return counted.prefetch_related("cover__renditions")

    @admin.display(description="cover")
    def picture(self, gallery: Gallery) -> str:
        """The smallest rendition of the cover."""
        return preview(gallery.cover)

    @admin.display(description="screenshots")
    def screenshots(self, gallery: Any) -> str:
        """The number of screenshots, as a link to their list."""
        address = f"{reverse('admin:catalog_screenshot_changelist')}?gallery__id__exact={gallery.pk}"
        return format_html('<a href="{}">{}</a>', address, gallery.screenshot_count)

    # --- Forms ------------------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        own = ("title", "slug", "description", "visibility", "owner", "position", "max_age", "edge_max_age")
        return (*own, "cover", "screenshots") if obj else own

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the read-only fields. A slug is part of an address, and cannot be changed."""
        return ("slug", "screenshots") if obj else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> dict[str, Sequence[str]]:
        return {} if obj else {"slug": ("title",)}

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Return no inlines for a new gallery, which is empty."""
        return self.inlines if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": str(request.user.pk), **super().get_changeform_initial_data(request)}

    def create(self, *, cover: None = None, **values: Any) -> Gallery:
        return create_gallery(**values)

    def change(self, row: Any, **changes: Any) -> None:
        change_gallery(gallery=row, **changes)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Pass the changes of each screenshot to curation, and delete those that were marked."""
        formset.save(commit=False)
        for row in formset.saved_forms:
            self._save_row(row)
        if formset.deleted_objects:
            named = Screenshot.objects.filter(pk__in=[shot.pk for shot in formset.deleted_objects])
            record = self.record(request, formset.deleted_objects)
            bulk.delete(rows=named, actor=request.user, most=len(formset.deleted_objects), record=record)

    def _save_row(self, form: forms.ModelForm[Screenshot]) -> None:
        shot = Screenshot.objects.get(pk=form.instance.pk)
        change_screenshot(screenshot=shot, **{name: form.cleaned_data[name] for name in form.changed_data})

    def going(self, rows: Any) -> dict[Any, QuerySet[Any]]:
        keys = [row.pk for row in rows]
        return {
            Gallery: Gallery.objects.filter(pk__in=keys),
            Screenshot: Screenshot.objects.filter(gallery__in=keys),
            Rendition: Rendition.objects.filter(screenshot__gallery__in=keys),
        }

    # --- Actions ----------------------------------------------------------------------------------------------

    @admin.action(description="Publish", permissions=["change"])
    def publish(self, request: HttpRequest, queryset: QuerySet[Gallery]) -> None:
        self._show(request, queryset, Visibility.PUBLIC)

    @admin.action(description="Take off the lists (unlisted)", permissions=["change"])
    def unlist(self, request: HttpRequest, queryset: QuerySet[Gallery]) -> None:
        self._show(request, queryset, Visibility.UNLISTED)

    @admin.action(description="Hide (private)", permissions=["change"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Gallery]) -> None:
        self._show(request, queryset, Visibility.PRIVATE)

    def _show(self, request: HttpRequest, queryset: QuerySet[Gallery], visibility: Visibility) -> None:
        changes = bulk.Changes({"visibility": visibility.value})
        count = self.update(request, self.chosen(queryset), changes, f"Made {visibility.value}.")
        self.message_user(request, f"{count} of the galleries chosen are {visibility.value}.")
