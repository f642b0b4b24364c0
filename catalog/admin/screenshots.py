"""Screenshots in the admin: what people curate can be changed, what a capture has measured is only shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelectMultiple
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from catalog import search
from catalog.admin.cache import CachePage
from catalog.admin.choosing import RowSelect
from catalog.admin.curated import BoundedPaginator, CuratedAdmin
from catalog.admin.filters import OrientationFilter, SearchedFilter, TypedFilter
from catalog.admin.previews import preview
from catalog.admin.refusals import GIVEN_UP, RefusalForm, why
from catalog.admin.tags import SlugsField
from catalog.capture import images, redrawing
from catalog.curation import bulk
from catalog.curation.screenshots import change_screenshot, create_screenshot
from catalog.models import BulkOperation, Gallery, Rendition, Screenshot, Tag, page_url

__all__ = ["ScreenshotAdmin"]

Meaning = Callable[[forms.Form], tuple[bulk.Changes, str]]
"""Makes of a valid form the changes to be made, and the text that describes them."""
CURATED = ("gallery", "title", "alt", "position", "tags")
MEASURED = (
    "source_url",
    "final_url",
    "domain",
    "page_title",
    "state",
    "error_code",
    "http_status",
    "viewport_width",
    "viewport_height",
    "device_pixel_ratio",
    "full_page",
    "color_scheme",
    "width",
    "height",
    "orientation",
    "dominant_color",
    "accent_color",
    "sha256",
    "captured_at",
    "created_at",
    "updated_at",
)
MOST_REDRAWN = 20
"""Most pictures that are encoded while somebody waits; each takes about a second."""
REDRAWN = "Renditions made anew."
UNDRAWN = (
    redrawing.OriginalMissingError,
    redrawing.OvertakenError,
    images.ImageError,
    IntegrityError,
    OSError,
    *GIVEN_UP,
)
"""The errors that keep a screenshot's renditions from being made anew: of its picture, its files, or others' writes."""


class RenditionInline(admin.TabularInline):  # type: ignore[type-arg]
    """The renditions, read-only."""

    model = Rendition
    fields = readonly_fields = ("width", "height", "format", "bytes", "sha256")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ScreenshotForm(RefusalForm):
    """A screenshot's own fields, with its tags as slugs."""

    tags = SlugsField(help_text="Slugs with spaces between them; new ones become tags.")


class NewScreenshotForm(ScreenshotForm):
    """The form of a new screenshot, with the page that is to be pictured."""

    source_url = forms.URLField(max_length=2000, assume_scheme="https", validators=[page_url])


class MoveForm(forms.Form):
    """The gallery that screenshots are moved to."""

    gallery = forms.ModelChoiceField(
        Gallery.objects.all(),
        widget=RowSelect(Screenshot._meta.get_field("gallery"), admin.site),
    )


class TagsForm(forms.Form):
    """The tags to add or remove. They must exist; new ones are created under Tags."""

    tags = forms.ModelMultipleChoiceField(
        Tag.objects.all(),
        widget=AutocompleteSelectMultiple(Screenshot._meta.get_field("tags"), admin.site),
    )


@admin.register(Screenshot)
class ScreenshotAdmin(CachePage, CuratedAdmin):
    """The list takes a constant number of queries, none of which reads the whole table."""

    form = ScreenshotForm
    list_display = ("picture", "title", "gallery", "domain", "state", "captured_at")
    list_display_links = ("picture", "title")
    list_filter = (
        "state",
        ("gallery", SearchedFilter),
        ("tags", SearchedFilter),
        ("domain", TypedFilter),
        "color_scheme",
        OrientationFilter,
    )
    list_select_related = ("gallery",)
    ordering = ("-captured_at", "-id")
    sortable_by = ("title", "domain", "state", "captured_at")
    search_fields = ("title",)
    search_help_text = (
        "Words, or their beginnings, of the title, the alternative text, the page's title or the domain."
    )
    autocomplete_fields = ("gallery",)
    inlines = (RenditionInline,)
    actions = ("move", "add_tags", "remove_tags", "redraw", "delete_selected")
    paginator = BoundedPaginator

    @property
    def media(self) -> forms.Media:
        """The media, with the scripts of the searched filters."""
        return super().media + SearchedFilter.media_of(Screenshot._meta.get_field("gallery"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("renditions")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by the index of the API's search."""
        return (search.matching(queryset, search_term) if search_term else queryset), False

    @admin.display(description="picture")
    def picture(self, screenshot: Screenshot) -> str:
        """The smallest rendition."""
        return preview(screenshot)

    # --- Forms ------------------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("picture", *CURATED, *MEASURED) if obj else ("source_url", *CURATED)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("picture", *MEASURED) if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(
            request, obj, change=change, **(kwargs if obj else {"form": NewScreenshotForm, **kwargs})
        )

    def create(self, **values: Any) -> Screenshot:
        return create_screenshot(**values)

    def change(self, row: Any, **changes: Any) -> None:
        change_screenshot(screenshot=row, **changes)

    def going(self, rows: Any) -> dict[Any, QuerySet[Any]]:
        keys = [row.pk for row in rows]
        return {
            Screenshot: Screenshot.objects.filter(pk__in=keys),
            Rendition: Rendition.objects.filter(screenshot__in=keys),
        }

    # --- Actions ----------------------------------------------------------------------------------------------

    @admin.action(description="Move to a gallery …", permissions=["change"])
    def move(self, request: HttpRequest, queryset: QuerySet[Screenshot]) -> HttpResponse | None:
        def changes(form: forms.Form) -> tuple[bulk.Changes, str]:
            gallery = form.cleaned_data["gallery"]
            return bulk.Changes({"gallery": gallery}), f"Moved to {gallery.slug}"

        return self._ask_and_change(request, queryset, MoveForm, "Move to which gallery?", changes)

    @admin.action(description="Add tags …", permissions=["change"])
    def add_tags(self, request: HttpRequest, queryset: QuerySet[Screenshot]) -> HttpResponse | None:
        changes = _tagging("Tagged", lambda slugs: bulk.Tagging(added=slugs))
        return self._ask_and_change(request, queryset, TagsForm, "Add which tags?", changes)

    @admin.action(description="Remove tags …", permissions=["change"])
    def remove_tags(self, request: HttpRequest, queryset: QuerySet[Screenshot]) -> HttpResponse | None:
        changes = _tagging("No longer tagged", lambda slugs: bulk.Tagging(removed=slugs))
        return self._ask_and_change(request, queryset, TagsForm, "Remove which tags?", changes)

    def _ask_and_change(
        self,
        request: HttpRequest,
        queryset: QuerySet[Screenshot],
        kind: type[forms.Form],
        title: str,
        changes: Meaning,
    ) -> HttpResponse | None:
        """Show a form of this kind and, once it is valid and confirmed, make the changes that it asks for."""
        rows = self.chosen(queryset)
        form = kind(request.POST if "confirmed" in request.POST else None)
        if not (form.is_valid() and self.confirmed(request, rows)):
            return self.ask(request, rows, form, title)
        wanted, told = changes(form)
        count = self.update(request, rows, wanted, f"{told}.")
        self.message_user(request, f"{told}: {count} of the screenshots chosen.")
        return None

    @admin.action(description="Make the renditions anew", permissions=["change"])
    def redraw(self, request: HttpRequest, queryset: QuerySet[Screenshot]) -> None:
        """Make renditions anew, for each screenshot independently; name those for which it fails."""
        rows = self.chosen(queryset, MOST_REDRAWN)
        redrawn = [row for row in rows if self._redrawn(request, row)]
        if redrawn:
            self._record_redrawn(request, redrawn)
        self.message_user(
            request, f"Renditions were made anew for {len(redrawn)} of {len(rows)} screenshots."
        )

    def _redrawn(self, request: HttpRequest, row: Screenshot) -> bool:
        try:
            redrawing.redraw(screenshot=row)
        except UNDRAWN as error:
            self.message_user(request, f"{row} ({row.pk}) stays as it is. {why(error)}", messages.WARNING)
            return False
        return True

    def _record_redrawn(self, request: HttpRequest, rows: list[Screenshot]) -> None:
        """Record and log what has been done, in one transaction."""
        record = self.record(request, rows, REDRAWN)
        try:
            with transaction.atomic():
                bulk.recorded(record, BulkOperation.Kind.UPDATE, len(rows))
                self.note(request, rows, REDRAWN)
        except self.refusals as error:
            self.message_user(request, f"What was done could not be recorded. {why(error)}", messages.WARNING)


def _tagging(told: str, tagging: Callable[[frozenset[str]], bulk.Tagging]) -> Meaning:
    """Return the meaning of a form of tags: the changes by `tagging`, described by `told`."""

    def changes(form: forms.Form) -> tuple[bulk.Changes, str]:
        slugs = frozenset(tag.slug for tag in form.cleaned_data["tags"])
        return bulk.Changes(tagging=tagging(slugs)), f"{told} {', '.join(sorted(slugs))}"

    return changes
