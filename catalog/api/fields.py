"""How a representation names other resources: by path-absolute references that depend on no Host header."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from catalog.models import Visibility

__all__ = ["ResourceUriField", "ScreenshotUriField"]


@extend_schema_field({"type": "string", "format": "uri-reference"})
class ResourceUriField(serializers.Field):  # type: ignore[type-arg]
    """The object's own address, `/api/v1/...`: the same bytes whatever Host, scheme or proxy the request came by.

    drf-extensions' field of this name had the idea; its addresses hold the Host, and it cannot be made without
    a queryset. `lookup_field` is the attribute, `lookup_url_kwarg` (by default the same) the route's name for it.
    """

    def __init__(
        self, view_name: str, lookup_field: str = "pk", lookup_url_kwarg: str = "", **kwargs: Any
    ) -> None:
        self.view_name = view_name
        self.lookup_field = lookup_field
        self.lookup_url_kwarg = lookup_url_kwarg or lookup_field
        super().__init__(source="*", read_only=True, **kwargs)

    def to_representation(self, value: Any) -> str:
        return reverse(self.view_name, kwargs={self.lookup_url_kwarg: getattr(value, self.lookup_field)})


class ScreenshotUriField(ResourceUriField):
    """A screenshot's address: under its gallery where that is unlisted, for only who knows the gallery may see it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("screenshot-detail", "pk", "id", **kwargs)

    def to_representation(self, value: Any) -> str:
        if value.gallery.visibility != Visibility.UNLISTED:
            return super().to_representation(value)
        nested = {"parent_lookup_gallery__slug": value.gallery.slug, "id": value.pk}
        return reverse("gallery-screenshot-detail", kwargs=nested)
