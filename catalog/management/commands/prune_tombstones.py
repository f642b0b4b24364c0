"""`manage.py prune_tombstones`: remove tombstones that are too old to be answered with 410."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from catalog.models import Tombstone
from keybits.pruning import prune


class Command(BaseCommand):
    help = "Removes the tombstones that are older than TOMBSTONE_DAYS days."

    def handle(self, **_: Any) -> None:
        """Prune in batches, and print how many tombstones were removed."""
        pruned = prune(Tombstone.objects.fallen().order_by("deleted_at"))
        self.stdout.write(f"{pruned:,} tombstones removed.")
