"""The addresses of the resources: version 1, under the prefix at which the project mounts it."""

from __future__ import annotations

from django.urls import path, re_path
from rest_framework_extensions.routers import ExtendedDefaultRouter

from catalog.api import viewsets
from catalog.api.root import DocsView, RootView, SchemaView, canonical
from keybits.drf.bulk import bulk_routes

__all__ = ["urlpatterns"]


class Router(ExtendedDefaultRouter):  # type: ignore[misc]  # drf-extensions is untyped
    """No suffixes and no stock root: one resource, one address. PATCH and DELETE of a list are bulk operations."""

    routes = bulk_routes(ExtendedDefaultRouter.routes)

    include_root_view = False
    include_format_suffixes = False


router = Router()
router.register("screenshots", viewsets.ScreenshotViewSet, basename="screenshot").register(
    "renditions", viewsets.RenditionViewSet, "screenshot-rendition", parents_query_lookups=["screenshot"]
)
galleries = router.register("galleries", viewsets.GalleryViewSet, basename="gallery")
galleries.register(
    "screenshots",
    viewsets.GalleryScreenshotViewSet,
    "gallery-screenshot",
    parents_query_lookups=["gallery__slug"],
).register(
    "renditions",
    viewsets.GalleryRenditionViewSet,
    "gallery-screenshot-rendition",
    parents_query_lookups=["screenshot__gallery__slug", "screenshot"],
)
router.register("tags", viewsets.TagViewSet, basename="tag").register(
    "screenshots", viewsets.TagScreenshotViewSet, "tag-screenshot", parents_query_lookups=["tags__slug"]
)

urlpatterns = [
    *router.urls,
    path("", RootView.as_view(), name="api-root"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(url_name="schema"), name="docs"),
    re_path(r"^(?P<path>.*[^/])$", canonical),
]
