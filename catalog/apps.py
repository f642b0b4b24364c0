"""The application's registration; freshness is declared once all models are known."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate


class CatalogConfig(AppConfig):
    name = "catalog"
    verbose_name = "Screenshot catalogue"

    def ready(self) -> None:
        from catalog import freshness  # noqa: PLC0415 - needs the models

        freshness.declare()
        post_migrate.connect(_mend_search, sender=self, dispatch_uid="catalog search")


def _mend_search(using: str, **_: Any) -> None:
    from catalog import search  # noqa: PLC0415 - needs the models

    search.mend_index(connections[using])
