"""The site of the admin: decides which addresses are none that it has, and what its lists and forms cannot be asked."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import BadRequest
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.csrf import csrf_failure
from django.views.decorators.cache import never_cache

__all__ = ["Site", "forged"]

SCRIPT = "i18n_javascript"
"""The one view of the admin that holds nothing of anybody."""


class Site(AdminSite):
    """Django's, whose searches and filters would pass on to the database what that refuses with an error."""

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if any("\x00" in text for name, values in request.GET.lists() for text in (name, *values)):
                raise BadRequest("No row holds the character NUL; leave it out of the address.")
            try:
                return view(request, *args, **kwargs)
            except OverflowError as error:
                raise BadRequest("No row has a number as large as one of these.") from error

        return super().admin_view(checked, cacheable and view.__name__ == SCRIPT)

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Register as Django does, whichever app's admin it is, with the lists of ours."""
        own = admin_class or ModelAdmin
        members = {"__module__": own.__module__, "__doc__": own.__doc__}
        super().register(model_or_iterable, type(own.__name__, (AskedLists, own), members), **options)


@never_cache
def forged(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Refuse a form without its token as Django does, for nobody to keep."""
    return csrf_failure(request, reason)


class AskedLists:
    """Lists that answer what they cannot be asked as Django answers a filter that it cannot read: `?e=1`."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)  # type: ignore[misc]
        except (IndexError, OverflowError, ValueError, DatabaseError) as error:
            if request.GET.keys() <= {ERROR_FLAG}:  # then it is not about what was asked
                raise
            raise IncorrectLookupParameters(error) from error

    def response_action(self, request: HttpRequest, queryset: Any) -> Any:
        from catalog.admin.choosing import is_id  # noqa: PLC0415 - its package registers with the site

        if not all(map(is_id, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            raise BadRequest("Rows are chosen by their ids.")
        return super().response_action(request, queryset)  # type: ignore[misc]
