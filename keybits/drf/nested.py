"""Nested lists under parents that must exist: a missing or invisible parent is a 404, never an empty list."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404
from rest_framework_extensions.mixins import NestedViewSetMixin as UpstreamNestedViewSetMixin
from rest_framework_extensions.settings import extensions_api_settings

from keybits.drf.order import LeadingMixin
from keybits.drf.spelling import compare_field

__all__ = ["NestedViewSetMixin"]

PREFIX = extensions_api_settings.DEFAULT_PARENT_LOOKUP_KWARG_NAME_PREFIX


class NestedViewSetMixin(LeadingMixin, UpstreamNestedViewSetMixin):  # type: ignore[misc]  # drf-extensions is untyped
    """drf-extensions' mixin, with a query for the parent when a page is empty.

    A page with rows proves that its parent exists; only an empty one costs the extra query. A URL without parents, as
    of the viewset at the root, costs none. A list under another spelling of its parent's key (`01`) is shown but not
    kept.
    """

    def get_parent_queryset(self) -> QuerySet[Any]:
        """Return the immediate parents that the URL names and the client may see: one row, or none."""
        raise NotImplementedError(
            f"{type(self).__name__} is nested: define get_parent_queryset() to return the parent that the URL "
            "names, if the client may see it."
        )

    def filter_queryset_by_parents_lookups(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by the URL's parents. Raises `Http404` for a value that the field cannot hold."""
        parents = self.get_parents_query_dict()
        if any("\x00" in str(value) for value in parents.values()):  # PostgreSQL's text has none
            raise Http404
        try:
            filtered = queryset.filter(**parents)
            for path in parents:
                compare_field(self, f"{PREFIX}{path}", queryset.model, path)
        except (ValueError, ValidationError, OverflowError):
            raise Http404 from None
        return filtered

    def paginate_queryset(self, queryset: QuerySet[Any]) -> Any:
        page = super().paginate_queryset(queryset)
        if not page and self.get_parents_query_dict() and not self.get_parent_queryset().exists():
            raise Http404
        return page
