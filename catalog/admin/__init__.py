"""The catalogue in Django's admin: galleries, screenshots and tags, changed only through `catalog.curation`."""

from __future__ import annotations

from catalog.admin import galleries, records, screenshots, tags

__all__ = ["galleries", "records", "screenshots", "tags"]
