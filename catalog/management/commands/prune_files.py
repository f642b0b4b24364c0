"""`manage.py prune_files`: remove the files of pictures that were deleted or replaced."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.capture import storage
from catalog.capture.pruning import prune


class Command(BaseCommand):
    help = "Removes the files that no screenshot and no rendition names, a day after they were stored."

    def handle(self, **_: Any) -> None:
        """Prune, and print how many files were removed."""
        try:
            pruned = prune()
        except storage.NoFolderError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{pruned:,} files removed.")
