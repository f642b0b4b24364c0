"""`manage.py prune_bulk_operations`: remove records of bulk operations older than the operator decides."""

from __future__ import annotations

from datetime import datetime

from catalog.management.pruning import PruneByAgeCommand
from catalog.models import BulkOperation
from keybits.pruning import prune


class Command(PruneByAgeCommand):
    help = "Removes records of bulk operations that are older than --days. No other command does."
    noun = "records"

    def prune(self, before: datetime) -> int:
        return prune(BulkOperation.objects.filter(at__lt=before).order_by("at", "id"))
