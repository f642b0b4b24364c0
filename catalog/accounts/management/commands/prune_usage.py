"""`manage.py prune_usage`: remove usage events older than the operator decides; the monthly counts stay."""

from __future__ import annotations

from datetime import datetime

from catalog.accounts.models import UsageEvent
from catalog.management.pruning import PruneByAgeCommand


class Command(PruneByAgeCommand):
    help = "Removes usage events that are older than --days. The monthly counts are kept."
    noun = "events"

    def prune(self, before: datetime) -> int:
        return UsageEvent.objects.prune(before)
