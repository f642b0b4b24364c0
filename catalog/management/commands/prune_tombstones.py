"""`manage.py prune_tombstones`: what is remembered of deletions goes when nothing is answered by it any more."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from catalog.models import Tombstone
from keybits.pruning import prune


class Command(BaseCommand):
    help = "Removes the tombstones that are older than TOMBSTONE_DAYS days."

    def handle(self, **_: Any) -> None:
        """Prune in batches, and say how many tombstones there were."""
        pruned = prune(Tombstone.objects.fallen().order_by("deleted_at"))
        self.stdout.write(f"{pruned:,} tombstones removed.")
