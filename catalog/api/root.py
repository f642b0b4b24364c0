"""What surrounds the resources: their index, their schema, and redirects to canonical addresses."""

from __future__ import annotations

from string import punctuation
from typing import Any
from urllib.parse import quote

import drf_spectacular
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.utils import extend_schema, inline_serializer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.api.pages import PageRenderer
from keybits import cache_control
from keybits.bits import UpdatedAtKeyBit
from keybits.constructors import DefaultObjectKeyConstructor
from keybits.drf import ClosedQueryMixin, DeferredThrottlesMixin, cache_response_and_etag
from keybits.drf.closed import closed
from keybits.drf.query import query_string
from keybits.drf.renderers import JSONRenderer
from keybits.parameters import Choice, Parameter
from keybits.problems import problem_response

__all__ = ["DocsView", "RootView", "SchemaView", "canonical", "not_found"]

RESOURCES = {
    "galleries": "gallery-list",
    "screenshots": "screenshot-list",
    "tags": "tag-list",
    "schema": "schema",
    "docs": "docs",
}


class CodeKey(DefaultObjectKeyConstructor):
    """The key of answers made from code alone: its fingerprint covers our code, its scope the schema generator's."""

    updated_at = UpdatedAtKeyBit(f"code:{drf_spectacular.__version__}")


class RootView(DeferredThrottlesMixin, ClosedQueryMixin, APIView):
    """The addresses of all resources."""

    @extend_schema(
        operation_id="root",
        tags=["root"],
        responses=inline_serializer("Root", {name: serializers.CharField() for name in RESOURCES}),
    )
    @cache_response_and_etag(CodeKey())
    def get(self, request: Request) -> Response:
        return Response({name: reverse(view) for name, view in RESOURCES.items()})


@closed
class SchemaView(DeferredThrottlesMixin, ClosedQueryMixin, SpectacularAPIView):
    """This API in OpenAPI 3.1, as JSON like everything else."""

    renderer_classes = [JSONRenderer]

    def get_query_parameters(self) -> list[Parameter]:
        return [Choice(name="format", choices=("json",))]

    @extend_schema(exclude=True)
    @cache_response_and_etag(CodeKey())
    def get(self, request: Request) -> Response:
        response: Response = super().get(request)  # type: ignore[no-untyped-call]
        return response


class DocsView(ClosedQueryMixin, SpectacularSwaggerView):
    """The schema as a page for people; like the browsable API, not to be stored. Its errors are JSON."""

    http_method_names = ["get", "head"]
    renderer_classes = [PageRenderer]
    template_name = "catalog/api/docs.html"

    def get_query_parameters(self) -> list[Parameter]:
        return []

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        response: Response = super().get(request)  # type: ignore[no-untyped-call]
        response["Cache-Control"] = cache_control.PRIVATE
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            response.data["csrf_token"] = ""  # making one sets a cookie, and only a session needs it
        return response

    def handle_exception(self, exc: Exception) -> Any:
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(exc)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler404`: no route matches. The answer names the index of the API."""
    detail = f"There is nothing at this address; {reverse('api-root')} lists what there is."
    return problem_response(404, detail=detail)


@csrf_exempt  # the target checks
def canonical(request: HttpRequest, path: str) -> HttpResponse:
    """Redirect `x` and `x.json` to `x/` (308, which preserves the method), if that address exists."""
    try:
        match = resolve(f"{request.path_info.removesuffix('.json')}/")
    except Resolver404:
        raise Http404 from None
    if match.func is canonical:
        raise Http404
    query = quote(query_string(request).encode("latin-1"), safe=punctuation)
    target = f"{request.path.removesuffix('.json')}/"
    credentialed = "HTTP_AUTHORIZATION" in request.META or settings.SESSION_COOKIE_NAME in request.COOKIES
    headers = {
        "Location": f"{target}?{query}" if query else target,
        "Cache-Control": cache_control.PRIVATE if credentialed else cache_control.PUBLIC,
        "Content-Length": "0",
    }
    return HttpResponse(status=308, headers=headers)
