"""Lists that are read as columns where their serializer can be compiled, and by the serializer where it cannot.

Decides which of the two, for each view and each shape of its items; `explain` says which. Both give the same bytes.
`keybits.drf.projection` decides what can be compiled.
"""

from __future__ import annotations

import logging
from typing import Any

from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from keybits.drf.order import LeadingMixin
from keybits.drf.projection import Projection, UndeclaredReadError, give_up, projection

__all__ = ["ProjectedListMixin", "explain"]

logger = logging.getLogger(__name__)


class ProjectedListMixin(LeadingMixin):
    """REST framework's `list`, over stand-ins (`keybits.drf.rows`) in place of instances wherever that is possible.

    `projected` are the paths that the view itself reads from the rows of a page, in addition to those of the items.
    """

    projected: tuple[str, ...] = ()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        found = explain(self)
        if isinstance(found, Projection):
            try:
                return self._list(found)
            except UndeclaredReadError as error:
                give_up(found, str(error))
                logger.warning("%s is read by its serializer from now on: %s", type(self).__name__, error)
        response: Response = super().list(request, *args, **kwargs)  # type: ignore[misc]
        return response

    def _list(self: Any, found: Projection) -> Response:
        queryset = self.filter_queryset(self.get_queryset())
        refusal = found.refusal(queryset)
        if refusal:
            logger.warning("%s is read by its serializer: %s", type(self).__name__, refusal)
        rows = queryset if refusal else found.over(queryset)
        page = self.paginate_queryset(rows)
        shown = rows if page is None else page
        items = self.get_serializer(shown, many=True).data if refusal else found.items(list(shown))
        return Response(items) if page is None else self.get_paginated_response(items)


def explain(view: Any) -> Projection | str:
    """Return the projection by which `view` makes its list, or the reason why its serializer does."""
    behind: Any = super(ProjectedListMixin, view)
    if getattr(behind, "list", None) is None or behind.list.__func__ is not ListModelMixin.list:
        return f"{type(view).__name__} has a list of its own"
    return projection(view)
