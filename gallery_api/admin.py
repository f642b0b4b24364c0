"""The site of the admin: decides which addresses are none that it has."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.http import HttpRequest

__all__ = ["Site"]


class Site(AdminSite):
    """Django's, whose searches and filters would pass NUL on to PostgreSQL, which refuses it with an error."""

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if any("\x00" in text for name, values in request.GET.lists() for text in (name, *values)):
                raise BadRequest("No row holds the character NUL; leave it out of the address.")
            return view(request, *args, **kwargs)

        return super().admin_view(checked, cacheable)
