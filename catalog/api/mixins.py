"""What all views have in common: their query, how their rows are written, and for how long an answer may be held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework_extensions.mixins import DetailSerializerMixin

from catalog import freshness, policy
from catalog.api import parameters
from catalog.api.authentication import AnonymousFirstMixin
from catalog.api.gone import GoneMixin
from catalog.api.keys import TAG_LOOKUP
from catalog.api.permissions import MayCurate
from catalog.models import Gallery, Screenshot
from keybits.addresses import address
from keybits.cache_control import Policy
from keybits.drf import CacheResponseAndETAGMixin, ClosedQueryMixin, CreateETAGMixin, ProjectedListMixin
from keybits.drf.parsers import has_content
from keybits.drf.rows import referred
from keybits.parameters import Parameter
from keybits.query import Grammar

__all__ = ["CuratedMixin", "DetailMixin", "QueryMixin", "ShownMixin"]

DESCRIBED = 'rel="describedby"'

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
