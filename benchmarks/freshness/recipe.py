"""The recipe of drf-extensions' documentation, word for word where it matters: what the oracle must find fault with.

`UpdatedAtKeyBit` reads a timestamp from the cache, `post_save` and `post_delete` change it, and `cache_response`
keeps rendered responses under keys that hold it.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.core.cache import cache
from django.db.models.signals import post_delete, post_save
from django.urls import path
from django.utils.encoding import force_str
from rest_framework import serializers, viewsets
from rest_framework.renderers import JSONRenderer
from rest_framework_extensions.cache.decorators import cache_response
from rest_framework_extensions.key_constructor.bits import (
    KeyBitBase,
    ListSqlQueryKeyBit,
    PaginationKeyBit,
    QueryParamsKeyBit,
    RetrieveSqlQueryKeyBit,
)
from rest_framework_extensions.key_constructor.constructors import DefaultKeyConstructor

from catalog.models import Gallery, Screenshot

TIMESTAMP = "api_updated_at_timestamp"


class UpdatedAtKeyBit(KeyBitBase):
    def get_data(self, **kwargs: Any) -> str:
        value = cache.get(TIMESTAMP, None)
        if not value:
            value = str(datetime.datetime.now(datetime.UTC))
            cache.set(TIMESTAMP, value)
        return force_str(value)


class CustomObjectKeyConstructor(DefaultKeyConstructor):
    retrieve_sql = RetrieveSqlQueryKeyBit()
    updated_at = UpdatedAtKeyBit()


class CustomListKeyConstructor(DefaultKeyConstructor):
    list_sql = ListSqlQueryKeyBit()
    pagination = PaginationKeyBit()
    query = QueryParamsKeyBit()
    updated_at = UpdatedAtKeyBit()


def change_api_updated_at(sender: Any = None, instance: Any = None, **kwargs: Any) -> None:
    cache.set(TIMESTAMP, str(datetime.datetime.now(datetime.UTC)))


def connect() -> None:
    for model in (Screenshot, Gallery):
        for signal in (post_save, post_delete):
            signal.connect(receiver=change_api_updated_at, sender=model, dispatch_uid=f"{model} {signal}")


class ScreenshotSerializer(serializers.ModelSerializer[Screenshot]):
    gallery = serializers.SlugRelatedField[Gallery](slug_field="slug", read_only=True)
    tags = serializers.SlugRelatedField(slug_field="slug", many=True, read_only=True)

    class Meta:
        model = Screenshot
        fields = ["id", "title", "gallery", "tags", "position"]


class ScreenshotViewSet(viewsets.ReadOnlyModelViewSet[Screenshot]):
    serializer_class = ScreenshotSerializer
    pagination_class = None
    filter_backends = []
    throttle_classes = []
    renderer_classes = [JSONRenderer]

    def get_queryset(self) -> Any:
        screenshots = Screenshot.objects.select_related("gallery").prefetch_related("tags")
        if "slug" in self.kwargs:
            screenshots = screenshots.filter(gallery__slug=self.kwargs["slug"])
        if "tag" in self.kwargs:
            screenshots = screenshots.filter(tags__slug=self.kwargs["tag"])
        return screenshots

    @cache_response(key_func=CustomObjectKeyConstructor())
    def retrieve(self, *args: Any, **kwargs: Any) -> Any:
        return super().retrieve(*args, **kwargs)

    @cache_response(key_func=CustomListKeyConstructor())
    def list(self, *args: Any, **kwargs: Any) -> Any:
        response = super().list(*args, **kwargs)
        response.data = {"results": response.data}
        return response


many = ScreenshotViewSet.as_view({"get": "list"})
urlpatterns = [
    path("api/v1/screenshots/", many),
    path("api/v1/screenshots/<int:pk>/", ScreenshotViewSet.as_view({"get": "retrieve"})),
    path("api/v1/galleries/<slug:slug>/screenshots/", many),
    path("api/v1/tags/<slug:tag>/screenshots/", many),
]
