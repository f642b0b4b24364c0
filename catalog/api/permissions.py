"""Who may write what: a signed-in client whose key allows it, to what is its user's. Reads are open to all.

Whether what a client may see but not change is a 403, or hides as a 404, is the setting `CURATION_HIDES`. What it
cannot see is a 404 either way, by the querysets.
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
    """Writes need a user, and of a key the scope `curate`; an object its owner, or staff. A method that no handler
    has is left to be a 405.
    """

    keybits_closed = True
    message = "This is not yours to change."

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
    """As `MayCurate`: tags are everybody's, so that anybody adds one, and staff alone changes or deletes it."""

    keybits_closed = True
    message = "Tags are everybody's: staff alone changes or deletes one."
