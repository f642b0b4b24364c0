"""Which rows each address shows, to whom, and what it is made from."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Exists, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from rest_framework import mixins, viewsets
from rest_framework_extensions.mixins import DetailSerializerMixin

from catalog import freshness
from catalog.api import parameters
from catalog.api.filters import (
    GalleryFilter,
    ScreenshotFilter,
    TagFilter,
    TagScreenshotFilter,
    counted,
    with_tags,
)
from catalog.api.serializers import (
    GalleryDetailSerializer,
    GallerySerializer,
    RenditionSerializer,
    ScreenshotDetailSerializer,
    ScreenshotSerializer,
    TagSerializer,
)
from catalog.models import Gallery, Rendition, Screenshot, Tag
from keybits.bits import UpdatedAtKeyBit
from keybits.constructors import DefaultListKeyConstructor, DefaultObjectKeyConstructor
from keybits.drf import (
    CacheResponseAndETAGMixin,
    ClosedQueryMixin,
    ListCacheResponseAndETAGMixin,
    NestedViewSetMixin,
)
from keybits.parameters import Choice, Parameter

__all__ = [
    "GalleryRenditionViewSet",
    "GalleryScreenshotViewSet",
    "GalleryViewSet",
    "RenditionViewSet",
    "ScreenshotViewSet",
    "TagScreenshotViewSet",
    "TagViewSet",
]

ID = r"[1-9][0-9]{0,17}"
SLUG = r"[-a-zA-Z0-9_]{1,100}"


class QueryMixin(ClosedQueryMixin):
    """The parameters of a view: pages and its own filters on lists, sparse fields everywhere."""

    filters: tuple[Parameter, ...] = ()
    embeds: tuple[Parameter, ...] = ()

    def get_query_parameters(self) -> list[Parameter]:
        paging = () if self.detail else (*parameters.PAGES, *self.filters)  # type: ignore[attr-defined]
        return [*super().get_query_parameters(), *paging, *self.embeds, self._fields()]

    def _fields(self) -> Parameter:
        names = tuple(self.get_serializer_class().Meta.fields)  # type: ignore[attr-defined]
        return parameters.fields(names)


class DetailMixin(DetailSerializerMixin):  # type: ignore[misc]  # drf-extensions is untyped
    """List items small, details rich: by the route, which the schema knows too, not by the URL of a request."""

    def _is_request_to_detail_endpoint(self) -> bool:
        return bool(self.detail)


def _count(rows: QuerySet[Any], by: str) -> Any:
    """The number of `rows` for each outer row that `by` points to."""
    counted = rows.filter(**{by: OuterRef("pk")}).order_by().values(by).annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def _within(galleries: QuerySet[Gallery]) -> QuerySet[Screenshot]:
    """The screenshots of `galleries`, each asked on its own.

    As a join it would let the planner begin with the galleries, and sort all that they have for one page.
    """
    return Screenshot.objects.filter(Exists(galleries.filter(pk=OuterRef("gallery"))))


class GalleryListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.gallery_list())


class GalleryObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.gallery("{slug}"))


class GalleryViewSet(
    QueryMixin, CacheResponseAndETAGMixin, DetailMixin, viewsets.ReadOnlyModelViewSet[Gallery]
):
    """Galleries: public ones, and the client's own. An unlisted one answers at its address only."""

    serializer_class = GallerySerializer
    serializer_detail_class = GalleryDetailSerializer
    queryset = Gallery.objects.none()
    lookup_field = "slug"
    lookup_value_regex = SLUG
    filterset_class = GalleryFilter
    filters = (parameters.SEARCH, parameters.ordering("position", "title", "created_at", "updated_at"))
    list_cache_key_func = GalleryListKey()
    object_cache_key_func = GalleryObjectKey()

    def get_queryset(self) -> QuerySet[Gallery]:
        galleries = Gallery.objects.annotate(screenshot_count=_count(Screenshot.objects.all(), "gallery"))
        if self.detail:
            reachable = galleries.reachable_by(self.request.user)
            return reachable.select_related("cover__gallery").prefetch_related("cover__renditions")
        return galleries.listed_for(self.request.user)


def _list_scopes(view_instance: Any, kwargs: dict[str, Any], **_: Any) -> tuple[str, ...]:
    return freshness.screenshot_list(
        view_instance.query,
        gallery=kwargs.get("parent_lookup_gallery__slug"),
        tag=kwargs.get("parent_lookup_tags__slug"),
    )


class ScreenshotListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(_list_scopes)


class ScreenshotObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.screenshot("{id}"))


class ScreenshotViewSet(
    QueryMixin, CacheResponseAndETAGMixin, DetailMixin, viewsets.ReadOnlyModelViewSet[Screenshot]
):
    """Screenshots of all public galleries, and of the client's own."""

    serializer_class = ScreenshotSerializer
    serializer_detail_class = ScreenshotDetailSerializer
    queryset = Screenshot.objects.none()
    lookup_url_kwarg = "id"
    lookup_value_regex = ID
    filterset_class = ScreenshotFilter
    filters = (
        *parameters.SCREENSHOT_FILTERS,
        parameters.ordering("captured_at", "created_at", "updated_at", "title"),
    )
    embeds = (parameters.INCLUDE,)
    list_cache_key_func = ScreenshotListKey()
    object_cache_key_func = ScreenshotObjectKey()

    def get_queryset(self) -> QuerySet[Screenshot]:
        return self.shown(_within(Gallery.objects.listed_for(self.request.user)))

    def shown(self, screenshots: QuerySet[Screenshot]) -> QuerySet[Screenshot]:
        """Add what the representation shows: the gallery by a join, tags and renditions by a query each."""
        relations = ["tags"]
        shown = f"{self.query.get('include')},{self.query.get('fields')}"
        if self.detail or "renditions" in shown.split(","):
            relations.append("renditions")
        return screenshots.select_related("gallery").prefetch_related(*relations)


class GalleryScreenshotViewSet(NestedViewSetMixin, ScreenshotViewSet):  # type: ignore[misc]  # drf-extensions is untyped
    """Screenshots of one gallery, in its own order; an unlisted gallery's too, for who knows its slug."""

    filters = (
        *parameters.without(parameters.SCREENSHOT_FILTERS, "gallery"),
        parameters.ordering("position", "captured_at", "created_at", "updated_at", "title"),
    )

    def get_queryset(self) -> QuerySet[Screenshot]:
        """Filter by the gallery's key: an equal key and an order are one range of one index, a join is not."""
        key = Subquery(self.get_parent_queryset().values("pk"))
        return self.shown(Screenshot.objects.filter(gallery=key)).order_by("position", "id")

    def get_parent_queryset(self) -> QuerySet[Gallery]:
        return Gallery.objects.reachable_by(self.request.user).filter(
            slug=self.kwargs["parent_lookup_gallery__slug"]
        )


class TagScreenshotViewSet(  # type: ignore[misc]
    NestedViewSetMixin,
    QueryMixin,
    ListCacheResponseAndETAGMixin,
    mixins.ListModelMixin,
    viewsets.GenericViewSet[Screenshot],
):
    """Screenshots that have one tag."""

    serializer_class = ScreenshotSerializer
    queryset = Screenshot.objects.none()
    filterset_class = TagScreenshotFilter
    filters = ScreenshotViewSet.filters
    embeds = (parameters.INCLUDE,)
    list_cache_key_func = ScreenshotListKey()
    shown = ScreenshotViewSet.shown

    def get_queryset(self) -> QuerySet[Screenshot]:
        listed = self.shown(_within(Gallery.objects.listed_for(self.request.user)))
        slugs = sorted({self.kwargs["parent_lookup_tags__slug"], *self.query.all("tag")})
        return with_tags(listed, slugs, with_count=counted(self.request.query_params))

    def get_parent_queryset(self) -> QuerySet[Tag]:
        return Tag.objects.listed_for(self.request.user).filter(slug=self.kwargs["parent_lookup_tags__slug"])


class RenditionListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.screenshot("{parent_lookup_screenshot}"))


class RenditionViewSet(  # type: ignore[misc]
    NestedViewSetMixin,
    QueryMixin,
    ListCacheResponseAndETAGMixin,
    mixins.ListModelMixin,
    viewsets.GenericViewSet[Rendition],
):
    """The sizes and formats of one screenshot."""

    serializer_class = RenditionSerializer
    queryset = Rendition.objects.none()
    list_cache_key_func = RenditionListKey()

    def get_queryset(self) -> QuerySet[Rendition]:
        renditions = Rendition.objects.filter(screenshot__in=self.get_parent_queryset())
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


class TagListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.tag_list())


class TagObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.tag("{slug}"))


class TagViewSet(QueryMixin, CacheResponseAndETAGMixin, viewsets.ReadOnlyModelViewSet[Tag]):
    """Tags, each with the number of screenshots that the client may see."""

    serializer_class = TagSerializer
    queryset = Tag.objects.none()
    lookup_field = "slug"
    lookup_value_regex = SLUG
    filterset_class = TagFilter
    filters = (
        Choice(name="kind", choices=tuple(Tag.Kind.values), description="Only tags of this kind."),
        parameters.ordering("slug", "name"),
    )
    list_cache_key_func = TagListKey()
    object_cache_key_func = TagObjectKey()

    def get_queryset(self) -> QuerySet[Tag]:
        listed = Screenshot.objects.listed_for(self.request.user)
        return Tag.objects.listed_for(self.request.user).annotate(screenshot_count=_count(listed, "tags"))
