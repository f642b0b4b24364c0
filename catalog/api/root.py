"""What surrounds the resources: the index of them, their schema, and the way back from an address spelt wrongly."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import Resolver404, resolve, reverse
from drf_spectacular.utils import extend_schema, inline_serializer
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from keybits import cache_control
from keybits.drf import ClosedQueryMixin

__all__ = ["RootView", "SchemaView", "canonical"]

RESOURCES = {
    "galleries": "gallery-list",
    "screenshots": "screenshot-list",
    "tags": "tag-list",
    "schema": "schema",
    "docs": "docs",
}


class RootView(ClosedQueryMixin, APIView):
    """The resources that there are."""

    @extend_schema(
        operation_id="root",
        tags=["root"],
        responses=inline_serializer("Root", {name: serializers.CharField() for name in RESOURCES}),
    )
    def get(self, request: Request) -> Response:
        links = {name: reverse(view) for name, view in RESOURCES.items()}
        return Response(links, headers={"Cache-Control": cache_control.PUBLIC})


class SchemaView(SpectacularAPIView):
    """This API in OpenAPI 3.1."""


def canonical(request: HttpRequest, path: str) -> HttpResponse:
    """Send `x` and `x.json` on to `x/` (308, so that the method stays), if something lives there."""
    target = f"{request.path.removesuffix('.json')}/"
    try:
        match = resolve(target)
    except Resolver404:
        raise Http404 from None
    if match.func is canonical:
        raise Http404
    query = request.META.get("QUERY_STRING", "")
    location = f"{target}?{query}" if query else target
    headers = {"Location": location, "Cache-Control": cache_control.PUBLIC, "Content-Length": "0"}
    return HttpResponse(status=308, headers=headers)
