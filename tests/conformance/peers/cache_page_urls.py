"""`cache_page` with `vary_on_headers`, as the page on caching of REST framework's documentation has them."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from django.views.decorators.vary import vary_on_headers
from rest_framework.routers import DefaultRouter

from conformance.peers import probes, resources

TEN_MINUTES = 600


class CachedMixin:
    @method_decorator(cache_page(TEN_MINUTES))
    @method_decorator(vary_on_headers("Authorization", "Cookie"))
    def retrieve(self, *args: Any, **kwargs: Any) -> Any:
        return super().retrieve(*args, **kwargs)  # type: ignore[misc]

    @method_decorator(cache_page(TEN_MINUTES))
    @method_decorator(vary_on_headers("Authorization", "Cookie"))
    def list(self, *args: Any, **kwargs: Any) -> Any:
        return super().list(*args, **kwargs)  # type: ignore[misc]


class GalleryViewSet(CachedMixin, resources.Galleries):
    """Galleries."""


class ScreenshotViewSet(CachedMixin, resources.Screenshots):
    """Screenshots."""


router = DefaultRouter()
router.register("galleries", GalleryViewSet, basename="gallery")
router.register("screenshots", ScreenshotViewSet, basename="screenshot")
urlpatterns = [
    path("api/v1/", include(router.urls)),
    path("probe/<slug:name>/", cache_page(TEN_MINUTES)(probes.Probe.as_view())),
]
