"""The documented recipe: `@etag` over `@cache_response`, under constructors with the documented `UpdatedAtKeyBit`."""

from __future__ import annotations

import datetime
from typing import Any

from django.core.cache import cache
from django.db.models.signals import post_delete, post_save
from django.urls import include, path
from django.utils.encoding import force_str
from rest_framework.request import Request
from rest_framework.routers import DefaultRouter
from rest_framework_extensions.cache.decorators import cache_response
from rest_framework_extensions.etag.decorators import etag
from rest_framework_extensions.key_constructor.bits import (
    HeadersKeyBit,
    KeyBitBase,
    KwargsKeyBit,
    ListSqlQueryKeyBit,
    PaginationKeyBit,
    RetrieveSqlQueryKeyBit,
    UserKeyBit,
)
from rest_framework_extensions.key_constructor.constructors import DefaultKeyConstructor

from catalog.models import Gallery, Screenshot
from conformance.peers import probes, resources

TIMESTAMP = "api_updated_at_timestamp"


class UpdatedAtKeyBit(KeyBitBase):  # type: ignore[misc]  # drf-extensions is untyped
    def get_data(self, **kwargs: Any) -> str:
        value = cache.get(TIMESTAMP, None)
        if not value:
            value = datetime.datetime.now(datetime.UTC)
            cache.set(TIMESTAMP, value=value)
        return force_str(value)


class CustomObjectKeyConstructor(DefaultKeyConstructor):  # type: ignore[misc]
    retrieve_sql = RetrieveSqlQueryKeyBit()
    updated_at = UpdatedAtKeyBit()


class CustomListKeyConstructor(DefaultKeyConstructor):  # type: ignore[misc]
    list_sql = ListSqlQueryKeyBit()
    pagination = PaginationKeyBit()
    updated_at = UpdatedAtKeyBit()


class ProbeKeyConstructor(DefaultKeyConstructor):  # type: ignore[misc]
    kwargs = KwargsKeyBit()
    user = UserKeyBit()
    variant = HeadersKeyBit(params=["X-Variant"])


def change_api_updated_at(sender: Any = None, instance: Any = None, **kwargs: Any) -> None:
    cache.set(TIMESTAMP, datetime.datetime.now(datetime.UTC))


def connect() -> None:
    for model in (Screenshot, Gallery):
        for signal in (post_save, post_delete):
            signal.connect(receiver=change_api_updated_at, sender=model)


class CachedMixin:
    @etag(CustomObjectKeyConstructor())  # type: ignore[untyped-decorator]
    @cache_response(key_func=CustomObjectKeyConstructor())  # type: ignore[untyped-decorator]
    def retrieve(self, *args: Any, **kwargs: Any) -> Any:
        return super().retrieve(*args, **kwargs)  # type: ignore[misc]

    @etag(CustomListKeyConstructor())  # type: ignore[untyped-decorator]
    @cache_response(key_func=CustomListKeyConstructor())  # type: ignore[untyped-decorator]
    def list(self, *args: Any, **kwargs: Any) -> Any:
        return super().list(*args, **kwargs)  # type: ignore[misc]


class GalleryViewSet(CachedMixin, resources.Galleries):
    """Galleries."""


class ScreenshotViewSet(CachedMixin, resources.Screenshots):
    """Screenshots."""


class Probe(probes.Probe):
    @cache_response(key_func=ProbeKeyConstructor())  # type: ignore[untyped-decorator]
    def get(self, request: Request, name: str) -> Any:
        return super().get(request, name)


router = DefaultRouter()
router.register("galleries", GalleryViewSet, basename="gallery")
router.register("screenshots", ScreenshotViewSet, basename="screenshot")
urlpatterns = [path("api/v1/", include(router.urls)), path("probe/<slug:name>/", Probe.as_view())]
