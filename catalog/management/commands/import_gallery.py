"""`manage.py import_gallery`: import the galleries of a manifest, with a progress bar and a summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm  # type: ignore[import-untyped]

from catalog.importing import KeepingError, Manifest, ManifestError, Report, import_manifest, read_manifest
from catalog.management.arguments import user_named, utf8
from catalog.management.printing import on_one_line

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Imports galleries from a manifest. What has been imported before and has not changed is not written. "
        "Exits with 1 if anything failed; the rest is imported all the same."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "path", type=Path, metavar="DIR|MANIFEST", help="The manifest, or the folder of a manifest.json."
        )
        parser.add_argument(
            "--owner", type=utf8, metavar="USER", help="The owner of the galleries that have none yet."
        )
        parser.add_argument("--quiet", action="store_true", help="Print failures only.")

    def handle(self, *, path: Path, owner: str | None, quiet: bool, **options: Any) -> None:
        """Import, report, and raise `CommandError` if anything failed."""
        report = Report()
        user = None if owner is None else user_named(owner)
        try:
            manifest = read_manifest(path=path)
            with tqdm(total=manifest.total, unit=" pictures", disable=quiet) as bar:
                import_manifest(manifest=manifest, owner=user, report=report, on_item=bar.update)
        except ManifestError as error:
            raise CommandError(on_one_line(str(error))) from error
        except KeepingError as error:
            self._tell(report, quiet)
            raise CommandError(on_one_line(str(error))) from error
        self._tell(report, quiet)
        if report.failures:
            raise CommandError(f"{_failed(report, manifest)} failed; correct them, then run this again.")

    def _tell(self, report: Report, quiet: bool) -> None:
        for failure in report.failures:
            self.stderr.write(on_one_line(f"{failure.item}: {failure.reason}"))
        if not quiet:
            self.stdout.write(str(report))


def _failed(report: Report, manifest: Manifest) -> str:
    pictures = f"{report.failed} of {manifest.total} pictures"
    covers = f"{report.failed_covers} of {manifest.covers} covers"
    return f"{pictures} and {covers}" if report.failed_covers else pictures
