"""The catalogue's tables for the peers: its models alone, nothing of keybits watching them."""

from __future__ import annotations

from django.apps import AppConfig


class CatalogModels(AppConfig):
    name = "catalog"
    default_auto_field = "django.db.models.BigAutoField"
