"""The base of commands that remove rows older than the operator decides."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

__all__ = ["PruneByAgeCommand"]

LONGEST = 36_500


class PruneByAgeCommand(BaseCommand):
    """Removes what is older than `--days`; subclasses define what that is."""

    noun: str

    def prune(self, before: datetime) -> int:
        """Remove what is older than `before`, in batches, and return the number removed."""
        raise NotImplementedError

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days", type=int, required=True, help="Remove what is older than this many days."
        )

    def handle(self, *, days: int, **_: Any) -> None:
        """Prune. Raises `CommandError` for days out of range."""
        if not 1 <= days <= LONGEST:
            raise CommandError(f"--days takes a whole number from 1 to {LONGEST}, not {days}.")
        pruned = self.prune(before=timezone.now() - timedelta(days=days))
        self.stdout.write(f"{pruned:,} {self.noun} removed.")
