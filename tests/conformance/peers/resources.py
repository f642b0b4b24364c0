"""The resources of the peers before anything is cached: plain REST framework over the same models."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers, viewsets

from catalog.models import Gallery, Screenshot

__all__ = ["Galleries", "Screenshots"]


class GallerySerializer(serializers.ModelSerializer[Gallery]):
    class Meta:
        model = Gallery
        fields = ["id", "slug", "title", "description", "visibility", "position", "created_at", "updated_at"]


class ScreenshotSerializer(serializers.ModelSerializer[Screenshot]):
    gallery = serializers.SlugRelatedField[Gallery](slug_field="slug", read_only=True)
    tags: Any = serializers.SlugRelatedField(slug_field="slug", many=True, read_only=True)

    class Meta:
        model = Screenshot
        fields = ["id", "title", "gallery", "tags", "position", "source_url", "alt", "page_title"]


class Galleries(viewsets.ReadOnlyModelViewSet[Gallery]):
    serializer_class = GallerySerializer
    lookup_field = "slug"

    def get_queryset(self) -> Any:
        return Gallery.objects.listed_for(self.request.user)


class Screenshots(viewsets.ReadOnlyModelViewSet[Screenshot]):
    serializer_class = ScreenshotSerializer

    def get_queryset(self) -> Any:
        listed = Screenshot.objects.listed_for(self.request.user).order_by("id")
        return listed.select_related("gallery").prefetch_related("tags")
