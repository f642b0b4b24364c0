"""`manage.py prune_tombstones`: what is remembered of deletions goes when nothing is answered by it any more."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from catalog.models import Tombstone


class Command(BaseCommand):
    help = "Removes the tombstones that are older than TOMBSTONE_DAYS days."

    def handle(self, **_: Any) -> None:
        """Prune, and say how many there were."""
        pruned, _by_model = Tombstone.objects.fallen().delete()
        self.stdout.write(f"{pruned:,} tombstones removed.")
