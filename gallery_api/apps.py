"""Django's admin, with our site."""

from __future__ import annotations

from django.contrib.admin import apps

__all__ = ["AdminConfig"]


class AdminConfig(apps.AdminConfig):
    """Registers every app's `admin` module with `gallery_api.admin.Site`."""

    default_site = "gallery_api.admin.Site"
