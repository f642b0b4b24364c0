"""Which rows each address shows, to whom, and from which scopes the answer is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Subquery
from rest_framework import mixins, viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import SAFE_METHODS
from rest_framework_extensions.mixins import DetailSerializerMixin

from catalog import freshness, policy
from catalog.api import parameters
from catalog.api.authentication import AnonymousFirstMixin
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
from catalog.api.gone import GoneMixin
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
from keybits.bits import PurgeKeyBit, UpdatedAtKeyBit
from keybits.cache_control import Policy
from keybits.constructors import DefaultListKeyConstructor, DefaultObjectKeyConstructor
from keybits.drf import (
    CacheResponseAndETAGMixin,
    ClosedQueryMixin,
    CreateETAGMixin,
    ListCacheResponseAndETAGMixin,
    NestedViewSetMixin,
    ProjectedListMixin,
    settled,
)
from keybits.drf.closed import closed
from keybits.drf.parsers import has_content
from keybits.drf.rows import referred
from keybits.parameters import Choice, Parameter
from keybits.query import Grammar

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
DESCRIBED = 'rel="describedby"'
SLUG = r"[-a-zA-Z0-9_]{1,100}"
TAG_LOOKUP = "parent_lookup_tags__slug"
"""The URL keyword argument of the tag whose screenshots are listed."""


_grammars: dict[tuple[type, bool], Grammar] = {}


class QueryMixin(GoneMixin, ClosedQueryMixin, AnonymousFirstMixin):
    """The query parameters of a view: pagination and its own filters on lists, sparse fields everywhere."""

    keybits_closed = True
    filters: tuple[Parameter, ...] = ()
    embeds: tuple[Parameter, ...] = ()

    def get_query_parameters(self) -> list[Parameter]:
        if getattr(self, "is_bulk", False):
            return [*super().get_query_parameters(), *self.get_bulk_parameters()]  # type: ignore[attr-defined]
        if self._writes():
            return super().get_query_parameters()
        paging = () if self.detail else (*parameters.PAGES, *self.filters)  # type: ignore[attr-defined]
        return [*super().get_query_parameters(), *paging, *self.embeds, self._fields()]

    @property
    def bulk_filters(self) -> tuple[Parameter, ...]:
        """The filters that choose the rows of a bulk operation: those of the list, without ordering."""
        return parameters.without(self.filters, "ordering")

    def _writes(self) -> bool:
        """Return whether the request writes. Writes always concern, and answer with, the full representation."""
        method = getattr(getattr(self, "request", None), "method", None) or "GET"
        return method not in SAFE_METHODS and method.lower() in getattr(self, "action_map", {})

    def get_grammar(self) -> Grammar:
        """Return the grammar of the query. For reads it depends on the view alone, and is cached."""
        if self._writes():
            return super().get_grammar()
        kind = (type(self), self.detail)  # type: ignore[attr-defined]
        if kind not in _grammars:
            _grammars[kind] = super().get_grammar()
        return _grammars[kind]

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Link to the description of the answer (RFC 8288; `describedby` is in IANA's registry, from POWDER)."""
        final = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        links = final.get("Link", "")
        if final.status_code == 200 and DESCRIBED not in links:
            final["Link"] = f"{links}{', ' if links else ''}<{address('schema')}>; {DESCRIBED}"
        return final

    def _fields(self) -> Parameter:
        names = tuple(self.get_serializer_class().Meta.fields)  # type: ignore[attr-defined]
        return parameters.fields(names)


class DetailMixin(DetailSerializerMixin):  # type: ignore[misc]  # drf-extensions is untyped
    """Chooses the list or the detail serializer by the route, which the schema has too, not by the request's URL."""

    def _is_request_to_detail_endpoint(self) -> bool:
        return bool(self.detail) or getattr(self, "action", None) == "create"


class CuratedMixin(QueryMixin, CacheResponseAndETAGMixin, CreateETAGMixin):
    """Cached reads, and writes for curators: see `permissions`, `writing` and `catalog.curation`."""

    permission_classes: Sequence[Any] = [MayCurate]

    @property
    def throttle_scope(self) -> str | None:
        """The scope of a throttle rate in addition to those of all requests, or None."""
        return "curate" if self._writes() else None

    def get_written(self, instance: Any) -> Any:
        """Return the object after the write, even if the write has hidden it from the client."""
        return self.get_all().get(pk=instance.pk)

    def perform_destroy(self: Any, row: Any) -> None:
        """Delete the row; refuse a body."""
        if has_content(self.request):
            raise ValidationError("The address says what is deleted: send no body.")
        self.delete_row(row)

    def delete_row(self, row: Any) -> None:
        """Delete the row."""
        raise NotImplementedError

    def get_all(self) -> QuerySet[Any]:
        """Return all rows, including those that the client may not see, with everything that a detail shows."""
        raise NotImplementedError


class ShownMixin(ProjectedListMixin):
    """The rows that the view has shown decide how long the answer may be held, and which takedowns purge it.

    In a list these are not instances but projected rows: `projected` names the columns that are needed here.
    """

    cache_policy = Policy()
    projected: tuple[str, ...] = ("gallery__max_age", "gallery__edge_max_age")
    shown: Sequence[Any] = ()

    def get_object(self) -> Any:
        found = super().get_object()  # type: ignore[misc]
        self.shown = [found]
        return found

    def paginate_queryset(self, queryset: QuerySet[Any]) -> Any:
        page = super().paginate_queryset(queryset)  # type: ignore[misc]
        self.shown = page or ()
        return page

    def shown_galleries(self) -> Iterable[Gallery]:
        """Return the galleries that the answer shows something of; repetitions are allowed."""
        return referred(self.shown, "gallery")

    def shown_captures(self) -> Iterable[Screenshot]:
        """Return the screenshots that the whole answer is about."""
        return (row for row in self.shown if self.detail and isinstance(row, Screenshot))  # type: ignore[attr-defined]

    def get_cache_policy(self) -> Policy | None:
        if any(map(policy.is_pending, self.shown_captures())) or self._may_tell_of_others():
            return None
        return policy.for_galleries(self.cache_policy, self.shown_galleries())

    def _may_tell_of_others(self) -> bool:
        """Return whether the list is filtered and empty. If cached, its invalidation would reveal hidden rows."""
        narrowed = any(map(self.query.get, freshness.NARROWING)) or TAG_LOOKUP in self.kwargs  # type: ignore[attr-defined]
        return narrowed and not (self.detail or self.shown)  # type: ignore[attr-defined]


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


class GalleryListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.gallery_list())
    takedown = PurgeKeyBit(freshness.ANY_TAKEDOWN)


class GalleryObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.gallery("{slug}"))
    takedown = PurgeKeyBit(freshness.gallery_takedown("{slug}"))


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
    lookup_value_regex = SLUG
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


@closed
def _list_scopes(view_instance: Any, kwargs: dict[str, Any], **_: Any) -> tuple[str, ...]:
    return freshness.screenshot_list(
        view_instance.query,
        gallery=kwargs.get("parent_lookup_gallery__slug"),
        tag=kwargs.get(TAG_LOOKUP),
    )


def _list_takedowns(kwargs: dict[str, Any], **_: Any) -> Any:
    gallery = kwargs.get("parent_lookup_gallery__slug")
    return freshness.gallery_takedown(gallery) if gallery else freshness.ANY_TAKEDOWN


def _takedowns(view_instance: Any, **_: Any) -> list[str]:
    """Return the takedowns of the screenshots shown, or whose renditions are; if there are none, of any screenshot."""
    shown = ((capture.pk, capture.gallery.slug) for capture in view_instance.shown_captures())
    scopes = [scope for capture in shown for scope in freshness.screenshot_takedown(*capture)]
    return scopes or [freshness.ANY_TAKEDOWN]


class ScreenshotListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(_list_scopes)
    takedown = PurgeKeyBit(_list_takedowns)


class ScreenshotObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.screenshot("{id}"))
    takedown = PurgeKeyBit(_takedowns)


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
    lookup_value_regex = ID
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


class RenditionListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.screenshot("{parent_lookup_screenshot}"))
    takedown = PurgeKeyBit(_takedowns)


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


class TagListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.tag_list())
    takedown = PurgeKeyBit(freshness.ANY_TAKEDOWN)


class TagObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.tag("{slug}"))
    takedown = PurgeKeyBit(freshness.ANY_TAKEDOWN)


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
    lookup_value_regex = SLUG
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
