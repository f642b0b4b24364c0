"""`manage.py prune_usage`: how long events of use are kept is decided by who runs it; the counts stay."""

from __future__ import annotations

from datetime import datetime

from catalog.accounts.models import UsageEvent
from catalog.management.pruning import PruneByAgeCommand


class Command(PruneByAgeCommand):
    help = "Removes events of use that are older than so many days. What each month came to is kept."
    noun = "events"

    def prune(self, before: datetime) -> int:
        return UsageEvent.objects.prune(before)
