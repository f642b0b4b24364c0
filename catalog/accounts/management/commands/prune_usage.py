"""`manage.py prune_usage`: how long events of use are kept is decided by who runs it; the counts stay."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from catalog.accounts.models import UsageEvent

LONGEST = 36_500


class Command(BaseCommand):
    help = "Removes events of use that are older than so many days. What each month came to is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, required=True, help="Keep what is not older than this.")

    def handle(self, *, days: int, **_: Any) -> None:
        """Prune; raises `CommandError` for days that would keep nothing."""
        if not 1 <= days <= LONGEST:
            raise CommandError(f"--days takes a whole number from 1 to {LONGEST}; {days} is none.")
        pruned = UsageEvent.objects.prune(before=timezone.now() - timedelta(days=days))
        self.stdout.write(f"{pruned:,} events removed.")
