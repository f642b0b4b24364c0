"""The querysets of each filter and ordering. Values have been validated: see `parameters`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import django_filters
from django.db import connections
from django.db.models import BooleanField, Exists, Func, OuterRef, Q, QuerySet, Subquery, Value
from django.utils.functional import cached_property
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request

from catalog.api.counts import counted
from catalog.models import Gallery, Screenshot, Tag
from catalog.search import matching, words
from keybits.bounded import Bounded

__all__ = [
    "FilterBackend",
    "GalleryFilter",
    "ScreenshotFilter",
    "TagFilter",
    "TagScreenshotFilter",
    "with_tags",
]

FEW = 5_000
"""The number of matching rows at which sorting all takes as long as finding a page along the order of a million."""
MANY = 50_000
"""The number of rows beyond which SQLite should not sort for one page."""
MOST_FORMS = 256
"""The most form classes that are kept, one for each combination of filters in use."""


class FilterBackend(DjangoFilterBackend):  # type: ignore[misc]  # django-filter is untyped
    """django-filter, for lists only: a detail is chosen by its address alone."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        if getattr(view, "detail", False):
            return queryset
        filtered: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return filtered


class OrderedFilterSet(django_filters.FilterSet):  # type: ignore[misc]
    """Orders by `ordering`, or by the view's default, and always by id last, so that no two rows tie.

    Filters that are not given are not instantiated: they would keep everything.
    """

    base_filters: Any

    def __init__(self, data: Any, *args: Any, **kwargs: Any) -> None:
        self.base_filters = {name: each for name, each in self.base_filters.items() if name in data}
        super().__init__(data, *args, **kwargs)

    def get_form_class(self) -> Any:
        """Return the form class, cached by filters: making one takes 5 % of a miss (`benchmarks server_cpu`)."""
        return _kept((type(self), *self.filters), super().get_form_class)

    def is_valid(self) -> bool:
        return not self.filters or bool(super().is_valid())

    @property
    def qs(self) -> Any:
        return super().qs if self.filters else self.filter_queryset(self.queryset)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        filtered: QuerySet[Any] = super().filter_queryset(queryset) if self.filters else queryset
        name = self.data.get("ordering")
        if name is None:
            return filtered
        sign = "-" if name.startswith("-") else ""
        return filtered.order_by(name, f"{sign}id")


_forms: Bounded[Hashable, Any] = Bounded(MOST_FORMS)


def _kept(question: Hashable, make: Callable[[], Any]) -> Any:
    found = _forms.get(question) or make()
    _forms[question] = found
    return found


class SearchFilter(django_filters.CharFilter):  # type: ignore[misc]
    """Full-text search, by the database's index."""

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        return matching(qs, value) if value else qs


class TitleFilter(django_filters.CharFilter):  # type: ignore[misc]
    """`search` as for screenshots, but in the title only, and without an index: these lists are short."""

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        if not value:
            return qs
        terms = words(value)
        # A word has no ASCII punctuation, so nothing that is special in a regular expression.
        starts = (Q(title__iregex=rf"(^|\W|_){term}") for term in terms)
        return qs.filter(*starts) if terms else qs.none()


class GalleryFilterBySlug(django_filters.CharFilter):  # type: ignore[misc]
    """One gallery that the client may see, by its key: one key in order is one range of an index."""

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        if not value:
            return qs
        listed = Gallery.objects.listed_for(self.parent.request.user)
        return qs.filter(gallery=Subquery(listed.filter(slug=value).values("pk")))


class AtLeastFilter(django_filters.NumberFilter):  # type: ignore[misc]
    """A minimum size. Pictures have only a few sizes, so nearly all rows match, or nearly none."""

    def filter(self, qs: QuerySet[Any], value: Any) -> QuerySet[Any]:
        if value is None:
            return qs
        passing = Q(**{f"{self.field_name}__gte": value})
        if connections[qs.db].vendor != "sqlite" or not self._may_ask():
            return qs.filter(passing)
        large = Screenshot.objects.filter(passing).order_by()
        if large[FEW : FEW + 1].exists():
            return qs.filter(Func(passing, function="likely", output_field=BooleanField()))
        return qs.filter(pk__in=large.values("pk"))

    def _may_ask(self) -> bool:
        """Return whether a statement may be spent on estimating: a page has one for that, and tags come first."""
        data = self.parent.data
        first = self.field_name == "width" or "min_width" not in data
        return first and self.parent.tags_cost_nothing and not counted(data)


def with_tags(screenshots: QuerySet[Any], slugs: list[str], *, with_count: bool) -> QuerySet[Any]:
    """Return those of `screenshots` that have all these tags.

    If a tag has few rows, a page is found fastest from these; if it has many, along the order of the list. PostgreSQL
    knows which, given the keys of the tags; SQLite has to be told. A page with a count (`with_count`) reads all rows
    anyway, so that no statement is spent on that.
    """
    through = Screenshot.tags.through.objects
    tags = Tag.objects.filter(slug__in=slugs).order_by()
    if with_count:
        keys = [(Subquery(Tag.objects.filter(slug=slug).values("pk")), False) for slug in slugs]
    else:
        # The more tags, the fewer rows have them all, and the longer is the scan along the order.
        few = FEW * len(slugs) ** 2
        beyond = through.filter(tag=OuterRef("pk")).order_by().values("pk")[few : few + 1]
        sqlite = connections[screenshots.db].vendor == "sqlite"
        keys = list(tags.values_list("pk", Exists(beyond) if sqlite else Value(False)))
    if len(keys) < len(slugs):
        return screenshots.none()
    for key, many in keys:
        tagged = through.filter(tag=key)
        if many:
            screenshots = screenshots.filter(Exists(tagged.filter(screenshot=OuterRef("pk"))))
        else:
            screenshots = screenshots.filter(pk__in=tagged.values("screenshot_id"))
    return screenshots


class IdsFilter(django_filters.BaseInFilter, django_filters.NumberFilter):  # type: ignore[misc]
    """A comma-separated set of ids."""


class Unindexed(Func):
    """A condition for which SQLite uses no index."""

    template = "+(%(expressions)s)"
    output_field = BooleanField()

    def __init__(self, field: str, value: Any) -> None:
        self.keybits_made_of = (field, value)
        super().__init__(Q(**{field: value}))


class CapturedFilter(django_filters.Filter):  # type: ignore[misc]
    """A condition on `captured_at`, or on a column whose index continues with `captured_at`.

    In another order SQLite would sort all matching rows. If these are many, the page is found along the order instead.
    """

    def filter(self, qs: QuerySet[Any], value: Any) -> QuerySet[Any]:
        if not value:
            return qs
        name = f"{self.field_name}__{self.lookup_expr}"
        return (
            qs.filter(Unindexed(name, value))
            if self.parent.is_found_along_order
            else qs.filter(**{name: value})
        )


class CapturedValueFilter(CapturedFilter, django_filters.CharFilter):  # type: ignore[misc]
    """An exact value of such a column."""


class CapturedBoundFilter(CapturedFilter, django_filters.IsoDateTimeFilter):  # type: ignore[misc]
    """A bound of `captured_at`."""


class ScreenshotFilter(OrderedFilterSet):
    gallery = GalleryFilterBySlug()
    domain = CapturedValueFilter(field_name="domain")
    captured_after = CapturedBoundFilter(field_name="captured_at", lookup_expr="gte")
    captured_before = CapturedBoundFilter(field_name="captured_at", lookup_expr="lt")
    min_width = AtLeastFilter(field_name="width")
    min_height = AtLeastFilter(field_name="height")
    orientation = CapturedValueFilter(field_name="orientation")
    status = CapturedValueFilter(field_name="state")
    ids = IdsFilter(field_name="pk")
    search = SearchFilter()

    class Meta:
        model = Screenshot
        fields: list[str] = []

    @property
    def tags_cost_nothing(self) -> bool:
        """Whether no statement is spent on tags."""
        return not self.data.getlist("tag")

    @cached_property
    def is_found_along_order(self) -> bool:
        """Whether SQLite should find a page along its order: many rows match, and their index has another order."""
        if connections[self.queryset.db].vendor != "sqlite" or not self._may_ask():
            return False
        given = [(each, name) for name, each in self.filters.items() if isinstance(each, CapturedFilter)]
        first = given[0][0].field_name  # an index counts the rows of one column, not of two
        asked = {
            f"{first}__{each.lookup_expr}": self.form.cleaned_data[name]
            for each, name in given
            if each.field_name == first
        }
        return Screenshot.objects.filter(**asked).order_by()[MANY : MANY + 1].exists()

    def _may_ask(self) -> bool:
        """Return whether the order is unrelated to `captured_at`, and a statement may be spent on estimating."""
        order = (self.data.get("ordering") or "captured_at").removeprefix("-")
        if order == "captured_at" or (
            order != "title" and any(name.startswith("captured_") for name in self.filters)
        ):
            return False
        spent = {"min_width", "min_height", "ids", "search"} & self.filters.keys()
        return self.tags_cost_nothing and not spent and not counted(self.data)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        slugs = self.data.getlist("tag")
        tagged = with_tags(queryset, slugs, with_count=counted(self.data)) if slugs else queryset
        return super().filter_queryset(tagged)


class TagScreenshotFilter(ScreenshotFilter):
    """The filters of the list of a tag: the view has already applied all tags, its own and those given."""

    tags_cost_nothing = False

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return OrderedFilterSet.filter_queryset(self, queryset)


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
