"""What OPTIONS says of the bodies of writes: the members that a client may set, not those that are represented."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework.exceptions import APIException
from rest_framework.metadata import SimpleMetadata
from rest_framework.request import Request, clone_request

__all__ = ["BodyMetadata"]

ACTIONS = {"PUT": "update", "POST": "create"}


class BodyMetadata(SimpleMetadata):
    """REST framework's, whose `actions` have the members of what PUT and POST take; none where the client may not."""

    def determine_actions(self, request: Request, view: Any) -> dict[str, Any]:
        methods = [method for method in ACTIONS if method in view.allowed_methods]
        if not hasattr(view, "get_write_serializer"):
            return super().determine_actions(request, view)
        own = view.request, view.action
        try:
            return {method: found for method in methods if (found := self._members(request, view, method))}
        finally:
            view.request, view.action = own

    def _members(self, request: Request, view: Any, method: str) -> Any:
        """Return the members of the body of `method`, or None where the client may not send one."""
        view.request, view.action = clone_request(request, method), ACTIONS[method]
        try:
            view.check_permissions(view.request)
            if view.detail:
                view.get_object()
        except (APIException, PermissionDenied, Http404):
            return None
        return self.get_serializer_info(view.get_write_serializer())
