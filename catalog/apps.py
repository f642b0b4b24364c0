"""The application's configuration: declares freshness, and connects the signals that maintain triggers."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_delete


class CatalogConfig(AppConfig):
    name = "catalog"
    verbose_name = "Screenshot catalogue"

    def ready(self) -> None:
        from catalog import freshness  # noqa: PLC0415 - needs the models

        freshness.declare()
        post_migrate.connect(_mend, sender=self, dispatch_uid="catalog triggers")
        pre_delete.connect(_bury, sender="catalog.Tag", dispatch_uid="catalog tombstones")


def _mend(using: str, **_: Any) -> None:
    from catalog import search, tallies, tombstones  # noqa: PLC0415 - needs the models

    search.mend_index(connections[using])
    tombstones.make_triggers(connections[using])
    tallies.mend(connections[using])


def _bury(**told: Any) -> None:
    from catalog import tombstones  # noqa: PLC0415 - needs the models

    tombstones.bury_tag(**told)
