"""When a 404 becomes a 410: for a while after a deletion, for clients that could see what was deleted."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import Http404
from rest_framework.exceptions import APIException

from catalog.models import Gallery, Screenshot, Tag, Tombstone

__all__ = ["GoneError", "GoneMixin"]

GALLERY = ("parent_lookup_gallery__slug", "parent_lookup_screenshot__gallery__slug")

MODELS: dict[str, Any] = {
    Tombstone.Kind.GALLERY: Gallery,
    Tombstone.Kind.SCREENSHOT: Screenshot,
    Tombstone.Kind.TAG: Tag,
}


class GoneError(APIException):
    """410: the resource at this address has been deleted (RFC 9110 section 15.5.11)."""

    status_code = 410
    default_detail = "The resource at this address has been deleted."
    members = {"type": "urn:problem:gone"}


class GoneMixin:
    """Looks for a tombstone where the address leads to a 404: one query, and only then."""

    slug_names = Tombstone.Kind.GALLERY
    """The kind of the resource that `slug` names in the view's own address."""

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, Http404) and settings.TOMBSTONE_DAYS and self._is_gone():
            exc = GoneError()
        return super().handle_exception(exc)  # type: ignore[misc]

    def _is_gone(self) -> bool:
        """Return whether the most specific resource that the address names has a tombstone that counts."""
        named: dict[str, str] = self.kwargs  # type: ignore[attr-defined]
        gallery = next((named[name] for name in GALLERY if name in named), "")
        screenshot = named.get("id") or named.get("parent_lookup_screenshot")
        tag = named.get("parent_lookup_tags__slug")
        if screenshot:
            return self._was(Tombstone.Kind.SCREENSHOT, screenshot, gallery)
        if gallery or tag:
            return self._was(Tombstone.Kind.GALLERY if gallery else Tombstone.Kind.TAG, gallery or tag or "")
        return "slug" in named and self._was(self.slug_names, named["slug"])

    def _was(self, kind: Tombstone.Kind, name: str, gallery: str = "") -> bool:
        """Return whether the client could see it, and sees no row of its name now; a row hidden from it is ignored."""
        tombstones, alive = Tombstone.objects.standing(), MODELS[kind].objects.all()
        if gallery:
            tombstones, alive = tombstones.filter(gallery=gallery), alive.filter(gallery__slug=gallery)
        by_name = bool(gallery) or kind == Tombstone.Kind.GALLERY  # reaches unlisted galleries
        return bool(self._seen(tombstones, by_name).of(kind, name, self._seen(alive, by_name)).exists())

    def _seen(self, rows: Any, by_name: bool) -> Any:
        viewer = self.request.user  # type: ignore[attr-defined]
        return rows.reachable_by(viewer) if by_name else rows.listed_for(viewer)
