"""`manage.py cache_audit`: whether live entries are what their views would make now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm  # type: ignore[import-untyped]

from keybits.drf.consistency import Finding, examine
from keybits.stores import StoreError, get_store

MOST = 2**31 - 1


class Command(BaseCommand):
    help = "Sample live entries, make them again from the database under the same stamps, and report how many agree."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--sample", type=int, default=1000, help="Most entries to compare (default 1000)."
        )
        parser.add_argument("--quiet", action="store_true", help="No progress bar.")

    def handle(self, *args: Any, sample: int, quiet: bool, **options: Any) -> None:
        if not 1 <= sample <= MOST:
            raise CommandError(f"--sample takes a number from 1 to {MOST}, not {sample}.")
        try:
            frames = get_store().sample(sample)
        except StoreError as error:
            raise CommandError(f"The store cannot be read: {error}") from error
        findings = [examine(key, frame) for key, frame in tqdm(frames, unit=" entries", disable=quiet)]
        self._report(findings)

    def _report(self, findings: list[Finding]) -> None:
        """Print how many agree, and each fault. Raises `CommandError` where any entry has one."""
        wrong = [finding for finding in findings if finding.verdict == "inconsistent"]
        failed = [finding for finding in findings if finding.verdict == "failed"]
        compared = [finding for finding in findings if finding.verdict in {"consistent", "inconsistent"}]
        for finding in (*wrong, *failed):
            self.stderr.write(f"{finding.url}: {finding.fault}")
        agreed = len(compared) - len(wrong)
        share = f" ({agreed / len(compared):.2%})" if compared else ""
        skipped = len(findings) - len(compared) - len(failed)
        self.stdout.write(f"{agreed} of {len(compared)} entries are consistent{share}; {skipped} skipped")
        if wrong:
            raise CommandError(f"{len(wrong)} entries differ from what the database says.")
        if failed:
            raise CommandError(f"{len(failed)} entries could not be compared: see why their views fail.")
