"""Which rows each address shows, and to whom."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Subquery
from rest_framework import mixins, viewsets
from rest_framework.generics import get_object_or_404

from catalog import policy
from catalog.api import parameters
from catalog.api.bulk import BulkCreateScreenshotsMixin, BulkGalleriesMixin, BulkScreenshotsMixin
from catalog.api.counts import counted
from catalog.api.fields import ScreenshotUriField
from catalog.api.filters import (
    GalleryFilter,
    ScreenshotFilter,
    TagFilter,
    TagScreenshotFilter,
    with_tags,
)
from catalog.api.keys import (
    TAG_LOOKUP,
    GalleryListKey,
    GalleryObjectKey,
    RenditionListKey,
    ScreenshotListKey,
    ScreenshotObjectKey,
    TagListKey,
    TagObjectKey,
)
from catalog.api.mixins import CuratedMixin, DetailMixin, QueryMixin, ShownMixin
from catalog.api.permissions import MayCurate, MayCurateTags
from catalog.api.serializers import (
    GalleryDetailSerializer,
    GallerySerializer,
    RenditionSerializer,
    ScreenshotDetailSerializer,
    ScreenshotSerializer,
    TagSerializer,
)
from catalog.api.writing import (
    GalleryCreateSerializer,
    GalleryWriteSerializer,
    ScreenshotCreateSerializer,
    ScreenshotWriteSerializer,
    TagCreateSerializer,
    TagWriteSerializer,
)
from catalog.curation.galleries import delete_gallery
from catalog.curation.screenshots import delete_screenshot
from catalog.curation.tags import delete_tag
from catalog.models import Gallery, GalleryQuerySet, Rendition, Screenshot, Tag, Tombstone
from catalog.tallies import TagCount
from keybits.addresses import address
from keybits.drf import ListCacheResponseAndETAGMixin, NestedViewSetMixin, settled
from keybits.parameters import Choice

__all__ = [
    "GalleryRenditionViewSet",
    "GalleryScreenshotViewSet",
    "GalleryViewSet",
    "RenditionViewSet",
    "ScreenshotViewSet",
    "TagScreenshotViewSet",
    "TagViewSet",
]


class GalleryViewSet(  # type: ignore[misc]  # a mixin that counts on what comes after it
    BulkGalleriesMixin, CuratedMixin, ShownMixin, DetailMixin, viewsets.ReadOnlyModelViewSet[Gallery]
):
    """Galleries: public ones, and the client's own. An unlisted gallery is found only at its address."""

    serializer_class = GallerySerializer
    serializer_detail_class = GalleryDetailSerializer
    create_serializer_class = GalleryCreateSerializer
    write_serializer_class = GalleryWriteSerializer
    queryset = Gallery.objects.none()
    lookup_field = "slug"
    lookup_value_regex = parameters.SLUG_IN_PATH
    filterset_class = GalleryFilter
    filters = (parameters.SEARCH, parameters.ordering("position", "title", "created_at", "updated_at"))
    list_cache_key_func = GalleryListKey()
    object_cache_key_func = GalleryObjectKey()
    cache_policy = policy.GALLERIES
    projected = ("max_age", "edge_max_age")

    def shown_galleries(self) -> Iterable[Gallery]:
        return self.shown

    def get_queryset(self) -> QuerySet[Gallery]:
        if self.detail:
            return self.get_all().reachable_by(self.request.user)
        return _counted_galleries().listed_for(self.request.user)

    def get_all(self) -> GalleryQuerySet:
        shown = _counted_galleries().select_related("cover__gallery")
        return shown.prefetch_related("cover__renditions")

    def get_address(self, gallery: Gallery) -> str:
        return address("gallery-detail", slug=gallery.slug)

    def perform_create(self, serializer: Any) -> None:
        serializer.save(owner=self.request.user)

    def delete_row(self, gallery: Gallery) -> None:
        delete_gallery(gallery=gallery)


@cache
def _counted_galleries() -> GalleryQuerySet:
    return settled(Gallery.objects.counted())


def _listed_for(viewer: Any) -> QuerySet[Screenshot]:
    """Return the screenshots in this viewer's lists; for anonymous viewers, always the same queryset."""
    return _within(Gallery.objects.listed_for(viewer)) if viewer.is_authenticated else _public()


@cache
def _public() -> QuerySet[Screenshot]:
    return settled(_within(Gallery.objects.listed_for(None)))


def _within(galleries: QuerySet[Gallery]) -> QuerySet[Screenshot]:
    """Return the screenshots of `galleries`, by EXISTS.

    With a join, the planner may begin with the galleries and sort all of their screenshots for one page.
    """
    return Screenshot.objects.filter(Exists(galleries.filter(pk=OuterRef("gallery"))))


class ScreenshotViewSet(  # type: ignore[misc]  # as above
    BulkCreateScreenshotsMixin,
    CuratedMixin,
    ShownMixin,
    DetailMixin,
    viewsets.ReadOnlyModelViewSet[Screenshot],
):
    """Screenshots of all public galleries, and of the client's own."""

    serializer_class = ScreenshotSerializer
    serializer_detail_class = ScreenshotDetailSerializer
    create_serializer_class = ScreenshotCreateSerializer
    write_serializer_class = ScreenshotWriteSerializer
    queryset = Screenshot.objects.none()
    lookup_url_kwarg = "id"
    lookup_value_regex = parameters.ID_IN_PATH
    filterset_class = ScreenshotFilter
    filters = (
        *parameters.SCREENSHOT_FILTERS,
        parameters.ordering("captured_at", "created_at", "updated_at", "title"),
    )
    embeds = (parameters.INCLUDE,)
    list_cache_key_func = ScreenshotListKey()
    object_cache_key_func = ScreenshotObjectKey()
    cache_policy = policy.SCREENSHOTS

    def get_queryset(self) -> QuerySet[Screenshot]:
        return self.with_what_is_shown(_listed_for(self.request.user))

    def with_what_is_shown(self, screenshots: QuerySet[Screenshot]) -> QuerySet[Screenshot]:
        """Fetch what the representation shows: the gallery by a join, tags and renditions by one query each."""
        relations = ["tags"]
        shown = f"{self.query.get('include')},{self.query.get('fields')}"
        if self.detail or "renditions" in shown.split(","):
            relations.append("renditions")
        return screenshots.select_related("gallery").prefetch_related(*relations)

    def get_all(self) -> QuerySet[Screenshot]:
        return self.with_what_is_shown(Screenshot.objects.all())

    def get_address(self, screenshot: Screenshot) -> str:
        """Return the address of a detail of this view or, for a list, the one that the representation has."""
        if self.detail:
            return address("screenshot-detail", id=screenshot.pk)
        return ScreenshotUriField().to_representation(screenshot)

    def delete_row(self, screenshot: Screenshot) -> None:
        delete_screenshot(screenshot=screenshot)


class GalleryScreenshotViewSet(NestedViewSetMixin, ScreenshotViewSet):  # type: ignore[misc]  # drf-extensions is untyped
    """Screenshots of one gallery, in its order. An unlisted gallery is found by clients who know its slug."""

    parent: Gallery | None = None

    filters = (
        *parameters.without(parameters.SCREENSHOT_FILTERS, "gallery"),
        parameters.ordering("position", "captured_at", "created_at", "updated_at", "title"),
    )

    def get_queryset(self) -> QuerySet[Screenshot]:
        slug, viewer = self.kwargs["parent_lookup_gallery__slug"], self.request.user
        screenshots = _in_gallery(slug, viewer) if viewer.is_authenticated else _in_public_gallery(slug)
        return self.with_what_is_shown(screenshots).order_by("position", "id")

    def get_parent_queryset(self) -> QuerySet[Gallery]:
        return Gallery.objects.reachable_by(self.request.user).filter(
            slug=self.kwargs["parent_lookup_gallery__slug"]
        )

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "gallery": self.parent}

    def get_write_serializer(self, *args: Any, **kwargs: Any) -> Any:
        if "data" in kwargs and self.action == "create":
            self.demand_place()
        return super().get_write_serializer(*args, **kwargs)

    def demand_place(self) -> None:
        self.parent = get_object_or_404(self.get_parent_queryset())
        self.check_object_permissions(self.request, self.parent)

    def get_address(self, screenshot: Screenshot) -> str:
        within = {"parent_lookup_gallery__slug": screenshot.gallery.slug}
        return address("gallery-screenshot-detail", **within, id=screenshot.pk)


def _in_gallery(slug: str, viewer: Any) -> QuerySet[Screenshot]:
    """Return the gallery's screenshots, by its key: one key in order is one range of an index, unlike a join."""
    reachable = Gallery.objects.reachable_by(viewer).filter(slug=slug)
    return Screenshot.objects.filter(gallery=Subquery(reachable.values("pk")))


@lru_cache(maxsize=512)
def _in_public_gallery(slug: str) -> QuerySet[Screenshot]:
    return settled(_in_gallery(slug, None))


class TagScreenshotViewSet(  # type: ignore[misc]
    NestedViewSetMixin,
    QueryMixin,
    BulkScreenshotsMixin,
    ListCacheResponseAndETAGMixin,
    ShownMixin,
    mixins.ListModelMixin,
    viewsets.GenericViewSet[Screenshot],
):
    """Screenshots that have one tag."""

    permission_classes = [MayCurate]
    throttle_scope = CuratedMixin.throttle_scope
    serializer_class = ScreenshotSerializer
    queryset = Screenshot.objects.none()
    filterset_class = TagScreenshotFilter
    filters = ScreenshotViewSet.filters
    embeds = (parameters.INCLUDE,)
    list_cache_key_func = ScreenshotListKey()
    with_what_is_shown = ScreenshotViewSet.with_what_is_shown
    get_address = ScreenshotViewSet.get_address  # type: ignore[assignment]  # it names its argument
    cache_policy = policy.SCREENSHOTS

    def get_queryset(self) -> QuerySet[Screenshot]:
        listed = self.with_what_is_shown(_listed_for(self.request.user))
        slugs = sorted({self.kwargs[TAG_LOOKUP], *self.query.all("tag")})
        return with_tags(listed, slugs, with_count=counted(self.request.query_params))

    def get_parent_queryset(self) -> QuerySet[Tag]:
        return Tag.objects.listed_for(self.request.user).filter(slug=self.kwargs[TAG_LOOKUP])


class RenditionViewSet(  # type: ignore[misc]
    NestedViewSetMixin,
    QueryMixin,
    ListCacheResponseAndETAGMixin,
    ShownMixin,
    mixins.ListModelMixin,
    viewsets.GenericViewSet[Rendition],
):
    """The sizes and formats of one screenshot."""

    serializer_class = RenditionSerializer
    queryset = Rendition.objects.none()
    list_cache_key_func = RenditionListKey()
    cache_policy = policy.SCREENSHOTS
    projected = (
        "screenshot__state",
        "screenshot__gallery__slug",
        "screenshot__gallery__max_age",
        "screenshot__gallery__edge_max_age",
    )

    def shown_galleries(self) -> Iterable[Gallery]:
        return (screenshot.gallery for screenshot in self.shown_captures())

    def shown_captures(self) -> Iterable[Screenshot]:
        return (rendition.screenshot for rendition in self.shown)

    def get_queryset(self) -> QuerySet[Rendition]:
        renditions = Rendition.objects.filter(screenshot__in=self.get_parent_queryset())
        renditions = renditions.select_related("screenshot__gallery")
        return self.filter_queryset_by_parents_lookups(renditions)

    def get_parent_queryset(self) -> QuerySet[Screenshot]:
        screenshots = Screenshot.objects.listed_for(self.request.user)
        return screenshots.filter(pk=self.kwargs["parent_lookup_screenshot"])


class GalleryRenditionViewSet(RenditionViewSet):
    """The sizes and formats of one screenshot of one gallery."""

    def get_parent_queryset(self) -> QuerySet[Screenshot]:
        return Screenshot.objects.reachable_by(self.request.user).filter(
            pk=self.kwargs["parent_lookup_screenshot"],
            gallery__slug=self.kwargs["parent_lookup_screenshot__gallery__slug"],
        )


class TagViewSet(  # type: ignore[misc]  # as above
    CuratedMixin, ShownMixin, viewsets.ReadOnlyModelViewSet[Tag]
):
    """Tags, each with the number of screenshots that the client may see."""

    serializer_class = TagSerializer
    create_serializer_class = TagCreateSerializer
    write_serializer_class = TagWriteSerializer
    permission_classes = [MayCurateTags]
    slug_names = Tombstone.Kind.TAG
    queryset = Tag.objects.none()
    lookup_field = "slug"
    lookup_value_regex = parameters.SLUG_IN_PATH
    filterset_class = TagFilter
    filters = (
        Choice(name="kind", choices=tuple(Tag.Kind.values), description="Only tags of this kind."),
        parameters.ordering("slug", "name"),
    )
    list_cache_key_func = TagListKey()
    object_cache_key_func = TagObjectKey()
    cache_policy = policy.TAGS
    projected = ()

    def shown_galleries(self) -> Iterable[Gallery]:
        return ()

    def get_queryset(self) -> QuerySet[Tag]:
        viewer = self.request.user
        return _listed_tags(viewer) if viewer.is_authenticated else _public_tags()

    def get_all(self) -> QuerySet[Tag]:
        return _counted(Tag.objects.all(), self.request.user)

    def get_address(self, tag: Tag) -> str:
        return address("tag-detail", slug=tag.slug)

    def delete_row(self, tag: Tag) -> None:
        delete_tag(tag=tag)


def _counted(tags: QuerySet[Tag], viewer: Any) -> QuerySet[Tag]:
    return tags.annotate(screenshot_count=TagCount(Gallery.objects.listed_for(viewer)))


def _listed_tags(viewer: Any) -> QuerySet[Tag]:
    return _counted(Tag.objects.listed_for(viewer), viewer)


@cache
def _public_tags() -> QuerySet[Tag]:
    return settled(_listed_tags(None))
