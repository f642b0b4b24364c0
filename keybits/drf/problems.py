"""REST framework's exceptions as problem details (RFC 9457): which members each has."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as upstream_handler

from keybits import cache_control, problems

__all__ = ["exception_handler"]


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Return a problem document for `exc`, with the headers that REST framework sets; None leaves `exc` to Django.

    An exception's `members` are added to the document and its `header_fields` to the header; both are optional
    mappings. Errors are `private, no-store`.
    """
    response = upstream_handler(exc, context)
    if response is None:
        return None
    members = _members(exc) | _media_types(exc, context.get("view"))
    response.data = problems.body(response.status_code, detail=_detail(exc, context["request"]), **members)
    response["Cache-Control"] = cache_control.PRIVATE
    for name, value in _accepted(exc, context["request"], members).items():
        response[name] = value
    renderer = getattr(context["request"], "accepted_renderer", None)
    if renderer is None or renderer.format == "json":
        response.content_type = problems.MEDIA_TYPE
    return response


def _accepted(exc: Exception, request: Any, members: dict[str, Any]) -> dict[str, str]:
    """Return the fields that say what content is accepted (RFC 9110 section 15.5.16, RFC 5789 section 2.2)."""
    if not isinstance(exc, exceptions.UnsupportedMediaType):
        return dict(getattr(exc, "header_fields", {}))
    types = ", ".join(members.get("allowed", ()))
    named = ("Accept", "Accept-Patch") if request.method == "PATCH" else ("Accept",)
    return dict.fromkeys(named, types) if types else {}


def _detail(exc: Exception, request: Any) -> str:
    schemes = getattr(exc, "auth_header", None)
    if schemes and isinstance(exc, exceptions.NotAuthenticated) and _shows_credentials(request):
        return f"Authorization was ignored: its scheme is not one of {schemes}."
    if isinstance(exc, Http404):
        return "There is no such resource, or you may not see it."
    if isinstance(exc, PermissionDenied):
        return "You may not do this."
    detail = getattr(exc, "detail", "")
    if isinstance(detail, dict) and not isinstance(exc, exceptions.ValidationError):
        detail = detail.get("detail", detail)  # simplejwt has it so, with a code beside it
    return "Some values cannot be used." if isinstance(detail, dict | list) else str(detail)


def _shows_credentials(request: Any) -> bool:
    return bool(request.META.get("HTTP_AUTHORIZATION", "").strip())


def _members(exc: Exception) -> dict[str, Any]:
    members = dict(getattr(exc, "members", {}))
    if isinstance(exc, exceptions.ValidationError):
        members = {"type": "urn:problem:invalid-value", "errors": exc.detail} | members
    return members


def _media_types(exc: Exception, view: Any) -> dict[str, Any]:
    """Return the media types that would have been accepted, where the media type was refused."""
    if isinstance(exc, exceptions.NotAcceptable):
        offered = exc.available_renderers or ()
    elif isinstance(exc, exceptions.UnsupportedMediaType) and view is not None:
        offered = view.get_parsers()
    else:
        return {}
    return {"allowed": [each.media_type for each in offered]}
