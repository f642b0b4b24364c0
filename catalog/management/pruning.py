"""Commands that prune by an age which who runs them decides: what is told and refused is the same for each."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

__all__ = ["PruneByAgeCommand"]

LONGEST = 36_500


class PruneByAgeCommand(BaseCommand):
    """Prunes what is older than `--days`; a subclass says what that is."""

    noun: str

    def prune(self, before: datetime) -> int:
        """Remove what is older than `before`, in batches, and return how many that were."""
        raise NotImplementedError

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, required=True, help="Keep what is not older than this.")

    def handle(self, *, days: int, **_: Any) -> None:
        """Prune; raises `CommandError` for days that would keep nothing."""
        if not 1 <= days <= LONGEST:
            raise CommandError(f"--days takes a whole number from 1 to {LONGEST}; {days} is none.")
        pruned = self.prune(before=timezone.now() - timedelta(days=days))
        self.stdout.write(f"{pruned:,} {self.noun} removed.")
