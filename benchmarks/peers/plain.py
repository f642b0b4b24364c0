"""The list as REST framework's tutorial would write it: a serializer, its pagination by cursors, and no cache.

Only the address of the next page is written as the catalogue does: else the bytes would not be the same.
"""

from __future__ import annotations

from typing import Any

from django.urls import path, reverse
from rest_framework import generics, pagination, serializers

from catalog.api.pagination import Cursor, Order
from catalog.models import Gallery, Screenshot, Tag

FIELDS = [
    "id",
    "url",
    "title",
    "alt",
    "gallery",
    "position",
    "tags",
    "domain",
    "status",
    "width",
    "height",
    "orientation",
    "dominant_color",
    "placeholder",
    "captured_at",
]


class ScreenshotSerializer(serializers.ModelSerializer[Screenshot]):
    url = serializers.SerializerMethodField()
    gallery = serializers.SlugRelatedField[Gallery](slug_field="slug", read_only=True)
    tags = serializers.SlugRelatedField[Tag](slug_field="slug", many=True, read_only=True)
    status = serializers.CharField(source="state")

    class Meta:
        model = Screenshot
        fields = FIELDS

    def get_url(self, screenshot: Screenshot) -> str:
        return reverse("screenshot-detail", args=[screenshot.pk])


class Pages(pagination.CursorPagination):
    ordering = ("-captured_at", "-id")
    page_size_query_param = "page_size"

    def get_next_link(self) -> str | None:
        if not self.has_next or not self.page:
            return None
        order = Order(("captured_at",), descending=True)
        cursor = Cursor.at(self.page[-1], order, backwards=False).encoded()
        return f"/api/v1/screenshots/?cursor={cursor}&page_size={self.page_size}"


class ScreenshotList(generics.ListAPIView[Screenshot]):
    serializer_class = ScreenshotSerializer
    pagination_class = Pages

    def get_queryset(self) -> Any:
        listed = Screenshot.objects.filter(gallery__visibility="public")
        return listed.select_related("gallery").prefetch_related("tags")


class ScreenshotDetail(generics.RetrieveAPIView[Screenshot]):
    serializer_class = ScreenshotSerializer
    queryset = Screenshot.objects.all()


urlpatterns = [
    path("api/v1/screenshots/", ScreenshotList.as_view()),
    path("api/v1/screenshots/<int:pk>/", ScreenshotDetail.as_view(), name="screenshot-detail"),
]
