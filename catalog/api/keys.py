"""From which scopes each answer is made, and which takedowns purge it; `catalog.freshness` decides what these end."""

from __future__ import annotations

from typing import Any

from catalog import freshness
from keybits.bits import PurgeKeyBit, UpdatedAtKeyBit
from keybits.constructors import DefaultListKeyConstructor, DefaultObjectKeyConstructor
from keybits.drf.closed import closed

__all__ = [
    "TAG_LOOKUP",
    "GalleryListKey",
    "GalleryObjectKey",
    "RenditionListKey",
    "ScreenshotListKey",
    "ScreenshotObjectKey",
    "TagListKey",
    "TagObjectKey",
]

TAG_LOOKUP = "parent_lookup_tags__slug"
"""The URL keyword argument of the tag whose screenshots are listed."""


class GalleryListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.gallery_list())
    takedown = PurgeKeyBit(freshness.ANY_TAKEDOWN)


class GalleryObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.gallery("{slug}"))
    takedown = PurgeKeyBit(freshness.gallery_takedown("{slug}"))


@closed
def _list_scopes(view_instance: Any, kwargs: dict[str, Any], **_: Any) -> tuple[str, ...]:
    return freshness.screenshot_list(
        view_instance.query,
        gallery=kwargs.get("parent_lookup_gallery__slug"),
        tag=kwargs.get(TAG_LOOKUP),
    )


def _list_takedowns(kwargs: dict[str, Any], **_: Any) -> Any:
    gallery = kwargs.get("parent_lookup_gallery__slug")
    return freshness.gallery_takedown(gallery) if gallery else freshness.ANY_TAKEDOWN


def _takedowns(view_instance: Any, **_: Any) -> list[str]:
    """Return the takedowns of the screenshots shown, or whose renditions are; if there are none, of any screenshot."""
    shown = ((capture.pk, capture.gallery.slug) for capture in view_instance.shown_captures())
    scopes = [scope for capture in shown for scope in freshness.screenshot_takedown(*capture)]
    return scopes or [freshness.ANY_TAKEDOWN]


class ScreenshotListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(_list_scopes)
    takedown = PurgeKeyBit(_list_takedowns)


class ScreenshotObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.screenshot("{id}"))
    takedown = PurgeKeyBit(_takedowns)


class RenditionListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.screenshot("{parent_lookup_screenshot}"))
    takedown = PurgeKeyBit(_takedowns)


class TagListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.tag_list())
    takedown = PurgeKeyBit(freshness.ANY_TAKEDOWN)


class TagObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit(freshness.tag("{slug}"))
    takedown = PurgeKeyBit(freshness.ANY_TAKEDOWN)
