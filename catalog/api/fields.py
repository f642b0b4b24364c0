"""How a representation names other resources: by path-absolute references, which do not depend on the Host header."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from catalog.models import Visibility
from keybits.addresses import addresses

__all__ = ["ResourceUriField", "ScreenshotUriField", "SlugsField"]


@extend_schema_field({"type": "string", "format": "uri-reference"})
class ResourceUriField(serializers.Field):  # type: ignore[type-arg]
    """The object's own address, `/api/v1/...`: the same bytes for any Host, scheme or proxy of the request.

    Modelled on drf-extensions' field of this name, whose addresses include the Host, and which needs a queryset.
    `lookup_field` is the attribute, and the route's name for it.
    """

    def __init__(self, view_name: str, lookup_field: str = "pk", **kwargs: Any) -> None:
        self.view_name = view_name
        self.lookup_field = lookup_field
        super().__init__(source="*", read_only=True, **kwargs)

    @property
    def reads(self) -> tuple[str, ...]:
        """The paths that an address is made from."""
        return (self.lookup_field,)

    def to_representation(self, value: Any) -> str:
        return self.of_columns(*([attrgetter(path.replace("__", "."))(value)] for path in self.reads))[0]

    def of_columns(self, *columns: Sequence[Any]) -> list[str]:
        """Return the addresses of a whole page, from one column for each path of `reads`."""
        write = addresses(self.view_name, self.lookup_field)
        return [write(**{self.lookup_field: value}) for value in columns[0]]


class ScreenshotUriField(ResourceUriField):
    """A screenshot's address; under its gallery where that is unlisted, as only clients that know it may see it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("screenshot-detail", **kwargs)

    @property
    def reads(self) -> tuple[str, ...]:
        """The paths that an address is made from."""
        return (*super().reads, "gallery__visibility", "gallery__slug")

    def of_columns(self, *columns: Sequence[Any]) -> list[str]:
        own = addresses(self.view_name, "id")
        nested = addresses("gallery-screenshot-detail", "parent_lookup_gallery__slug", "id")
        return [
            own(id=pk)
            if visibility != Visibility.UNLISTED
            else nested(parent_lookup_gallery__slug=slug, id=pk)
            for pk, visibility, slug in zip(*columns, strict=True)
        ]


@extend_schema_field({"type": "array", "items": {"type": "string"}})
class SlugsField(serializers.Field):  # type: ignore[type-arg]
    """The slugs of a to-many relation's rows, sorted, so that the bytes are the same on every database."""

    def __init__(self, relation: str, **kwargs: Any) -> None:
        self.relation = relation
        super().__init__(source="*", read_only=True, **kwargs)

    @property
    def reads(self) -> tuple[str]:
        """The path that the list is made from."""
        return (f"{self.relation}__slug",)

    def to_representation(self, value: Any) -> list[str]:
        return self.of_columns([[related.slug for related in getattr(value, self.relation).all()]])[0]

    def of_columns(self, slugs: Sequence[list[str]]) -> list[list[str]]:
        """Return the sorted lists of a whole page."""
        return list(map(sorted, slugs))
