"""`manage.py projections`: which lists are read as columns, and why others are read by their serializer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand
from django.test import RequestFactory

from keybits.drf.lists import ProjectedListMixin, explain
from keybits.drf.projection import Projection
from keybits.view_checks import routes


class Command(BaseCommand):
    help = "Print for every list, requested without a query, whether it is read as columns."

    def handle(self, *args: Any, **options: Any) -> None:
        for name, view in _lists():
            found = explain(view)
            said = "columns" if isinstance(found, Projection) else f"serializer: {found}"
            self.stdout.write(f"{name}: {said}")


def _lists() -> Iterator[tuple[str, Any]]:
    """Yield the name of each list route, and its view as a request without a query would find it."""
    for pattern in routes():
        if issubclass(getattr(pattern.callback, "cls", object), ProjectedListMixin):
            actions: dict[str, str] = pattern.callback.actions  # type: ignore[attr-defined]
            if actions.get("get") == "list":
                yield str(pattern.name), _asked(pattern.callback)


def _asked(callback: Any) -> Any:
    view = callback.cls(**callback.initkwargs)
    view.action_map, view.kwargs, view.format_kwarg = callback.actions, {}, None
    view.request = view.initialize_request(RequestFactory().get("/"))
    return view
