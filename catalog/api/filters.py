"""What each filter and ordering means as a queryset. The values have been checked: see `parameters`."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request

from catalog.models import Gallery, Screenshot, Tag
from catalog.search import matching, words

__all__ = ["FilterBackend", "GalleryFilter", "ScreenshotFilter", "TagFilter"]


class FilterBackend(DjangoFilterBackend):  # type: ignore[misc]  # django-filter is untyped
    """django-filter, for lists alone: a detail is what its address says."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        if getattr(view, "detail", False):
            return queryset
        filtered: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return filtered


class OrderedFilterSet(django_filters.FilterSet):  # type: ignore[misc]
    """Orders by `ordering`, else by the view's own default, and always by id last: no two rows tie."""

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        filtered: QuerySet[Any] = super().filter_queryset(queryset)
        name = self.data.get("ordering")
        if name is None:
            return filtered
        sign = "-" if name.startswith("-") else ""
        return filtered.order_by(name, f"{sign}id")


class SearchFilter(django_filters.CharFilter):  # type: ignore[misc]
    """Full-text search, by the index that the database has for it."""

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        return matching(qs, value) if value else qs


class TitleFilter(django_filters.CharFilter):  # type: ignore[misc]
    """What `search` means for screenshots, in a title alone and without an index: these lists are short."""

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        if not value:
            return qs
        terms = words(value)
        # Words are letters and digits, so nothing in them is special to the expression.
        starts = (Q(title__iregex=rf"(^|\W|_){term}") for term in terms)
        return qs.filter(*starts) if terms else qs.none()


class AllTagsFilter(django_filters.Filter):  # type: ignore[misc]
    """Every tag that is given, by semi-joins: no row comes twice."""

    def filter(self, qs: QuerySet[Any], value: list[str]) -> QuerySet[Any]:
        through = Screenshot.tags.through
        for slug in value:
            tagged = through.objects.filter(tag__slug=slug)
            qs = qs.filter(pk__in=tagged.values("screenshot_id"))
        return qs


class IdsFilter(django_filters.BaseInFilter, django_filters.NumberFilter):  # type: ignore[misc]
    """A comma-separated set of ids."""


class ScreenshotFilter(OrderedFilterSet):
    gallery = django_filters.CharFilter(field_name="gallery__slug")
    domain = django_filters.CharFilter(field_name="domain")
    captured_after = django_filters.IsoDateTimeFilter(field_name="captured_at", lookup_expr="gte")
    captured_before = django_filters.IsoDateTimeFilter(field_name="captured_at", lookup_expr="lt")
    min_width = django_filters.NumberFilter(field_name="width", lookup_expr="gte")
    min_height = django_filters.NumberFilter(field_name="height", lookup_expr="gte")
    orientation = django_filters.CharFilter(field_name="orientation")
    status = django_filters.CharFilter(field_name="state")
    ids = IdsFilter(field_name="pk")
    search = SearchFilter()

    class Meta:
        model = Screenshot
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        tagged = AllTagsFilter().filter(queryset, self.data.getlist("tag"))
        return super().filter_queryset(tagged)


class GalleryFilter(OrderedFilterSet):
    search = TitleFilter()

    class Meta:
        model = Gallery
        fields: list[str] = []


class TagFilter(OrderedFilterSet):
    kind = django_filters.CharFilter(field_name="kind")

    class Meta:
        model = Tag
        fields: list[str] = []
