"""The site of the admin: which queries and actions it refuses as malformed before the database would fail on them."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import TO_FIELD_VAR, IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import BadRequest
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.csrf import csrf_failure
from django.views.decorators.cache import never_cache

__all__ = ["Site", "forged"]

SCRIPT = "i18n_javascript"
"""The only view of the admin that depends on no user, and so may be cached."""


class Site(AdminSite):
    """Django's, which answers 400 to searches, filters and fields that would otherwise be errors."""

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if any("\x00" in text for name, values in request.GET.lists() for text in (name, *values)):
                raise BadRequest("No row contains the character NUL; leave it out of the address.")
            if "" in (request.GET.get(TO_FIELD_VAR), request.POST.get(TO_FIELD_VAR)):
                raise BadRequest(f"{TO_FIELD_VAR} names no field; leave it out.")
            try:
                return view(request, *args, **kwargs)
            except OverflowError as error:
                raise BadRequest("A number in the request is larger than any that a row has.") from error

        return super().admin_view(checked, cacheable and view.__name__ == SCRIPT)

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Register as Django does, with `AskedLists` added to every app's admin class."""
        own = admin_class or ModelAdmin
        members = {"__module__": own.__module__, "__doc__": own.__doc__}
        super().register(model_or_iterable, type(own.__name__, (AskedLists, own), members), **options)


@never_cache
def forged(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Refuse a form without its CSRF token as Django does, in a response that nobody may store."""
    return csrf_failure(request, reason)


class AskedLists:
    """Lists that answer an impossible query as Django does a filter that it cannot read: with `?e=1`."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)  # type: ignore[misc]
        except (IndexError, OverflowError, ValueError, DatabaseError) as error:
            if request.GET.keys() <= {ERROR_FLAG}:  # no query, so it is not to blame
                raise
            raise IncorrectLookupParameters(error) from error

    def response_action(self, request: HttpRequest, queryset: Any) -> Any:
        from catalog.admin.choosing import is_id  # noqa: PLC0415 - its package registers with the site

        if not all(map(is_id, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            raise BadRequest("Rows are chosen by their ids.")
        return super().response_action(request, queryset)  # type: ignore[misc]
