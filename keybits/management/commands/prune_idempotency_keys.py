"""`manage.py prune_idempotency_keys`: delete expired idempotency keys, with the answers kept under them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from keybits.models import IdempotencyKey
from keybits.pruning import prune


class Command(BaseCommand):
    help = "Removes the idempotency keys that are older than KEYBITS_IDEMPOTENCY_TTL seconds."

    def handle(self, **_: Any) -> None:
        """Delete in batches, and print how many keys there were."""
        pruned = prune(IdempotencyKey.objects.expired().order_by("created_at"))
        self.stdout.write(f"{pruned:,} keys removed.")
