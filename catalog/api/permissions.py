"""Who may write what: a signed-in client, if its key allows it, what its user owns. Reads are open to all.

The setting `CURATION_HIDES` decides whether a write to what a client may see but not change is a 403 or a 404. What it
cannot see is a 404 in either case, by the querysets.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from catalog.accounts.models import Scope
from catalog.accounts.permissions import HasCurateScope, reaches
from catalog.curation.ownership import may_change

__all__ = ["MayCurate", "MayCurateTags"]


class MayCurate(BasePermission):
    """Writes need a user, a key that is used needs the scope `curate`, and an object needs its owner or staff.

    A method without a handler is allowed, so that it becomes a 405.
    """

    keybits_closed = True
    message = "You may not change this."

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS or view.action is None:
            return True
        if not reaches(request, Scope.CURATE):
            self.message = HasCurateScope().message
            return False
        return bool(request.user and request.user.is_authenticated)

    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        if request.method in SAFE_METHODS or may_change(request.user, obj):
            return True
        if settings.CURATION_HIDES:
            raise Http404
        return False


class MayCurateTags(MayCurate):
    """As `MayCurate`. Tags belong to everybody: anybody may add one, but only staff may change or delete it."""

    keybits_closed = True
    message = "Tags belong to everybody: only staff may change or delete one."
