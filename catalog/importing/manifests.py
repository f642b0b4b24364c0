"""What a manifest may contain, and which rows and attributes it states."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rest_framework import serializers

from catalog.models import LARGEST, LONGEST_DESCRIPTION, ColorScheme, State, Visibility, page_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "ItemError",
    "Manifest",
    "ManifestError",
    "gallery_fields",
    "item_fields",
    "read_item",
    "read_manifest",
    "source_url",
]

SCHEMA = "demo-manifest/1"


class ManifestError(ValueError):
    """The manifest cannot be used at all. The message names the place, and what is accepted there."""


class ItemError(ValueError):
    """One picture cannot be imported; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose galleries are validated. Pictures are validated one by one, when they are imported."""

    root: Path
    """The folder that contains all pictures, with links resolved."""
    galleries: Sequence[Mapping[str, Any]]
    device_pixel_ratio: float

    @property
    def total(self) -> int:
        """The number of pictures in the manifest."""
        return sum(len(gallery["screenshots"]) for gallery in self.galleries)

    @property
    def covers(self) -> int:
        """The number of galleries in the manifest with a cover."""
        return sum(bool(gallery.get("cover")) for gallery in self.galleries)


def _choice(*values: str, **options: Any) -> serializers.ChoiceField:
    wrong = f"{{input}} is unknown here; write one of {', '.join(values)}."
    return serializers.ChoiceField(values, error_messages={"invalid_choice": wrong}, **options)


def _digits(pattern: str, wrong: str, **options: Any) -> serializers.RegexField:
    return serializers.RegexField(pattern, error_messages={"invalid": wrong}, **options)


def _color() -> serializers.RegexField:
    return _digits(r"^#[0-9a-f]{6}\Z", "Write a colour as # and six lower-case hex digits.", required=False)


class _Serializer(serializers.Serializer[Any]):
    pass


class _SourceFormat(_Serializer):
    package = serializers.CharField()
    version = serializers.CharField()
    licence = serializers.CharField()
    page_path = serializers.CharField()


class _ViewportFormat(_Serializer):
    width = serializers.IntegerField(min_value=1, max_value=100_000)
    height = serializers.IntegerField(min_value=1, max_value=100_000)


class _ItemFormat(_Serializer):
    slug = serializers.SlugField(max_length=100)
    file = serializers.CharField(trim_whitespace=False)
    sha256 = _digits(r"^[0-9a-f]{64}\Z", "Write the file's SHA-256 as 64 lower-case hexadecimal digits.")
    title = serializers.CharField(max_length=200)
    alt = serializers.CharField(max_length=500, allow_blank=True, required=False)
    page_title = serializers.CharField(max_length=500, allow_blank=True, required=False)
    page_key = serializers.CharField(required=False)
    source = _SourceFormat(required=False)  # type: ignore[assignment]
    source_url = serializers.CharField(max_length=2000, validators=[page_url], required=False)
    final_url = serializers.CharField(
        max_length=2000, validators=[page_url], allow_blank=True, required=False
    )
    viewport = _ViewportFormat()
    device_pixel_ratio = serializers.FloatField(min_value=0.1, max_value=10, required=False)
    full_page = serializers.BooleanField(required=False)
    color_scheme = _choice(*ColorScheme.values, required=False)
    state = _choice(*State.values, default=State.READY.value)
    http_status = serializers.IntegerField(min_value=100, max_value=599, allow_null=True, default=200)
    error_code = serializers.CharField(max_length=50, allow_blank=True, required=False)
    tags = serializers.ListField(child=serializers.SlugField(max_length=100), default=list)
    captured_at = serializers.DateTimeField()
    position = serializers.IntegerField(min_value=0, max_value=LARGEST, required=False)
    dominant_color = _color()
    accent_color = _color()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "source" not in attrs and "source_url" not in attrs:
            raise serializers.ValidationError("Give source (package, version, ...) or source_url.")
        return attrs


class _GalleryFormat(_Serializer):
    slug = serializers.SlugField(max_length=100)
    title = serializers.CharField(max_length=200)
    description = serializers.CharField(max_length=LONGEST_DESCRIPTION, allow_blank=True, required=False)
    visibility = _choice(*Visibility.values, required=False)
    position = serializers.IntegerField(min_value=0, max_value=LARGEST, required=False)
    cover = serializers.CharField(allow_null=True, required=False)
    screenshots = serializers.ListField()


class _CaptureFormat(_Serializer):
    device_scale_factor = serializers.FloatField(min_value=0.1, max_value=10, default=1.0)


class _ManifestFormat(_Serializer):
    schema = _choice(SCHEMA)
    capture = _CaptureFormat(required=False)
    galleries = _GalleryFormat(many=True, allow_empty=False)

    def validate_galleries(self, galleries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        twice = [slug for slug, n in Counter(gallery["slug"] for gallery in galleries).items() if n > 1]
        if twice:
            raise serializers.ValidationError(f"Use each slug once; used more often: {', '.join(twice)}.")
        return galleries


def read_manifest(*, path: Path) -> Manifest:
    """Read and validate a manifest, or the `manifest.json` of a folder. Raises `ManifestError`."""
    file = path
    try:
        file = path / "manifest.json" if path.is_dir() else path
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"{file}: {error.strerror}. Name a manifest, or the folder of one.") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{file} is not JSON in UTF-8: {error}.") from error
    try:
        found = _checked(_ManifestFormat, data, "$")
    except ItemError as error:
        raise ManifestError(f"{file} is not a manifest. {error}") from error
    scale = found.get("capture", {}).get("device_scale_factor", 1.0)
    return Manifest(root=file.parent.resolve(), galleries=found["galleries"], device_pixel_ratio=scale)


def read_item(data: object) -> dict[str, Any]:
    """Return one picture of a manifest, validated. Raises `ItemError`, which names every wrong place."""
    return _checked(_ItemFormat, data, "")


def _checked(format: type[_Serializer], data: object, place: str) -> dict[str, Any]:
    """Return the validated `data`. Raises `ItemError`, which names every wrong place."""
    serializer = format(data=data)
    if not serializer.is_valid():
        found = _messages(serializer.errors, place)
        raise ItemError(" ".join(f"{where.lstrip('.')}: {what}" if where else what for where, what in found))
    return dict(serializer.validated_data)


def _messages(errors: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield REST framework's errors, which mirror the data, each with its place as a JSON path."""
    if isinstance(errors, dict):
        for key, below in errors.items():
            yield from _messages(below, _below(place, key))
    elif isinstance(errors, list):
        for index, below in enumerate(errors):
            yield from _messages(below, place if isinstance(below, str) else f"{place}[{index}]")
    else:
        yield place, str(errors)


def _below(place: str, key: object) -> str:
    if key == "non_field_errors":
        return place
    return f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}"


def source_url(*, package: str, version: str, page_path: str) -> str:
    """Return the public URL of a file of an npm package. It is permanent: a version never changes."""
    return f"https://unpkg.com/{quote(package, safe='@/')}@{quote(version)}/{quote(page_path.lstrip('/'))}"


_GALLERY_AS_WRITTEN = ("title", "description", "visibility", "position")
_AS_WRITTEN = (
    "title",
    "alt",
    "page_title",
    "final_url",
    "device_pixel_ratio",
    "full_page",
    "color_scheme",
    "state",
    "http_status",
    "error_code",
    "captured_at",
    "position",
    "dominant_color",
    "accent_color",
)


def gallery_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `Gallery` that an entry states."""
    return {name: entry[name] for name in _GALLERY_AS_WRITTEN if name in entry}


def item_fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `Screenshot` that an item states; they take precedence over measured ones."""
    source = item.get("source", {})
    page = {"page_key": item["page_key"]} if "page_key" in item else {}
    return {
        **{name: item[name] for name in _AS_WRITTEN if name in item},
        "sha256": item["sha256"],
        "source_url": item.get("source_url") or _page(source),
        "viewport_width": item["viewport"]["width"],
        "viewport_height": item["viewport"]["height"],
        "metadata": {"slug": item["slug"], **source, **page},
    }


def _page(source: Mapping[str, str]) -> str:
    return source_url(package=source["package"], version=source["version"], page_path=source["page_path"])
