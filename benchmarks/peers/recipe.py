"""The same list by drf-extensions' documentation: `etag` and `cache_response`, their keys with `UpdatedAtKeyBit`."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework import mixins, viewsets
from rest_framework_extensions.cache.decorators import cache_response
from rest_framework_extensions.etag.decorators import etag

from benchmarks.freshness.recipe import CustomListKeyConstructor
from benchmarks.peers import plain

KEY = CustomListKeyConstructor()


class ScreenshotViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Any]):
    serializer_class = plain.ScreenshotSerializer
    pagination_class = plain.Pages
    get_queryset = plain.ScreenshotList.get_queryset

    @etag(etag_func=KEY)
    @cache_response(key_func=KEY)
    def list(self, *args: Any, **kwargs: Any) -> Any:
        return super().list(*args, **kwargs)


urlpatterns = [
    path("api/v1/screenshots/", ScreenshotViewSet.as_view({"get": "list"})),
    *plain.urlpatterns[1:],
]
