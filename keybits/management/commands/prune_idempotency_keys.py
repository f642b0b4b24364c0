"""`manage.py prune_idempotency_keys`: delete expired idempotency keys, with the answers kept under them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections, router

from keybits.conf import conf
from keybits.models import IdempotencyKey
from keybits.pruning import prune

NONE = "django.db.backends.dummy"
"""The engine that Django gives an empty `default`, as there may be where a router decides for every model."""


class Command(BaseCommand):
    help = "Removes the idempotency keys that are older than KEYBITS_IDEMPOTENCY_TTL seconds."

    def handle(self, **_: Any) -> None:
        """Delete in batches, in each database that keeps keys, and print how many there were."""
        expired = IdempotencyKey.objects.expired().order_by("created_at")
        pruned = sum(prune(expired, using=alias) for alias in connections if _keeps_keys(alias))
        self.stdout.write(f"{pruned:,} keys removed.")


def _keeps_keys(alias: str) -> bool:
    if alias in conf.REPLICAS or not router.allow_migrate_model(alias, IdempotencyKey):
        return False
    if connections.settings[alias]["ENGINE"] == NONE:
        return False
    return IdempotencyKey._meta.db_table in connections[alias].introspection.table_names()
