"""The fields of every representation: few in lists, more in details, and only those that were requested."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from catalog.api.fields import ResourceUriField, ScreenshotUriField, SlugsField
from catalog.models import Gallery, Orientation, Rendition, Screenshot, State, Tag
from keybits.drf import reads

__all__ = [
    "GalleryDetailSerializer",
    "GallerySerializer",
    "RenditionSerializer",
    "ScreenshotDetailSerializer",
    "ScreenshotSerializer",
    "TagSerializer",
]


class SparseSerializer(serializers.ModelSerializer[Any]):
    """Leaves out fields that the query's `fields` does not name, and embeds those that its `include` names.

    `embeddable` are the fields that are present only on request.
    """

    embeddable: frozenset[str] = frozenset()

    @classmethod
    def shape(cls, view: Any) -> tuple[str | None, ...]:
        """Return the values that decide the fields, for `keybits.drf.projection`."""
        query = getattr(view, "query", None)
        described = getattr(view, "swagger_fake_view", False)
        return (query.get("fields"), query.get("include")) if query is not None and not described else ()

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        view = self.context.get("view")
        query = getattr(view, "query", None)
        if getattr(view, "swagger_fake_view", False):  # drf-spectacular describes all fields
            return fields
        if query is None or (self.parent is not None and self.parent.parent is not None):
            return fields
        wanted = set((query.get("fields") or "").split(",")) - {""} or set(fields) - self.embeddable
        wanted |= self.embedded(query.get("include"))
        return {name: field for name, field in fields.items() if name in wanted}

    def embedded(self, include: str | None) -> set[str]:
        """Return the names of the fields that `include` requests."""
        return set()


class RenditionSerializer(SparseSerializer):
    """One encoding of one picture. Its address is made of its content, so it can be cached for ever."""

    url = serializers.SerializerMethodField()

    class Meta:
        model = Rendition
        fields = ["id", "url", "width", "height", "format", "bytes", "sha256"]
        read_only_fields = fields

    @extend_schema_field({"type": "string", "format": "uri-reference"})
    @reads("sha256", "format")
    def get_url(self, rendition: Rendition) -> str:
        return rendition.address


class GalleryInfoSerializer(serializers.ModelSerializer[Gallery]):
    """A gallery as it is embedded in its screenshots."""

    url = ResourceUriField(view_name="gallery-detail", lookup_field="slug")

    class Meta:
        model = Gallery
        fields = ["url", "slug", "title", "description", "visibility"]
        read_only_fields = fields


class CoverSerializer(serializers.ModelSerializer[Screenshot]):
    """The picture that represents a gallery."""

    url = ScreenshotUriField()
    renditions = RenditionSerializer(many=True)

    class Meta:
        model = Screenshot
        fields = ["id", "url", "alt", "width", "height", "dominant_color", "placeholder", "renditions"]
        read_only_fields = fields


class GallerySerializer(SparseSerializer):
    """A gallery in a list."""

    url = ResourceUriField(view_name="gallery-detail", lookup_field="slug")
    screenshot_count = serializers.IntegerField(read_only=True, min_value=0)

    class Meta:
        model = Gallery
        fields = ["id", "url", "slug", "title", "visibility", "position", "screenshot_count", "updated_at"]
        read_only_fields = fields


class GalleryDetailSerializer(GallerySerializer):
    """A gallery at its own address."""

    cover = serializers.SerializerMethodField()

    class Meta(GallerySerializer.Meta):
        fields = [
            *GallerySerializer.Meta.fields,
            "description",
            "cover",
            "max_age",
            "edge_max_age",
            "created_at",
        ]
        read_only_fields = fields

    @extend_schema_field(CoverSerializer(allow_null=True))
    def get_cover(self, gallery: Gallery) -> Any:
        """The cover; null if there is none, or if it is not in the gallery any more, because another may hide it."""
        cover = gallery.cover
        if cover is None or cover.gallery_id != gallery.pk:
            return None
        return CoverSerializer(cover).data


class TagSerializer(SparseSerializer):
    """A tag, with the number of screenshots that the client may see."""

    url = ResourceUriField(view_name="tag-detail", lookup_field="slug")
    title = serializers.CharField(source="name", read_only=True)
    screenshot_count = serializers.IntegerField(read_only=True, min_value=0)

    class Meta:
        model = Tag
        fields = ["id", "url", "slug", "title", "kind", "screenshot_count"]
        read_only_fields = fields


class ScreenshotSerializer(SparseSerializer):
    """A screenshot in a list."""

    embeddable = frozenset({"gallery_info", "renditions"})

    url = ScreenshotUriField()
    gallery = serializers.SlugRelatedField[Gallery](slug_field="slug", read_only=True)
    tags = SlugsField("tags")
    status = serializers.ChoiceField(source="state", choices=State.choices, read_only=True)
    orientation = serializers.ChoiceField(
        choices=Orientation.choices,
        read_only=True,
        allow_blank=True,
        help_text="Empty while the size is unknown.",
    )
    gallery_info = GalleryInfoSerializer(source="gallery", required=False, read_only=True)
    renditions = RenditionSerializer(many=True, required=False, read_only=True)

    class Meta:
        model = Screenshot
        fields = [
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
            "gallery_info",
            "renditions",
        ]
        read_only_fields = fields

    def embedded(self, include: str | None) -> set[str]:
        names = {"gallery": "gallery_info", "renditions": "renditions"}
        return {names[name] for name in (include or "").split(",") if name}


class ScreenshotDetailSerializer(ScreenshotSerializer):
    """A screenshot at its own address, with its renditions."""

    embeddable = frozenset({"gallery_info"})

    final_url = serializers.CharField(read_only=True, help_text="Where redirects led; empty if nowhere else.")
    viewport = serializers.SerializerMethodField()

    class Meta(ScreenshotSerializer.Meta):
        fields = [
            *ScreenshotSerializer.Meta.fields,
            "source_url",
            "final_url",
            "page_title",
            "viewport",
            "device_pixel_ratio",
            "full_page",
            "color_scheme",
            "http_status",
            "error_code",
            "accent_color",
            "sha256",
            "dhash256",
            "metadata",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields

    @extend_schema_field(
        {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
            "required": ["width", "height"],
        }
    )
    def get_viewport(self, screenshot: Screenshot) -> dict[str, int]:
        return {"width": screenshot.viewport_width, "height": screenshot.viewport_height}
