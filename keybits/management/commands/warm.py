"""`manage.py warm`: request hot URLs from the caches in front or the origin, with a progress bar and a summary."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import httpx
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm  # type: ignore[import-untyped]

from keybits import warming
from keybits.conf import conf
from keybits.stores import StoreError
from keybits.warming import Hot, Manners, Report, WarmingError

T = TypeVar("T", int, float)
MOST_NAMED = 20
"""Most failures that are printed for each base URL; the summary counts all."""
_HOST = re.compile(r"(?:(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?)?")
_VISIBLE = re.compile(r"[ -~]*")


class Command(BaseCommand):
    help = (
        "Request hot URLs, so that the next client finds them cached: the project's first pages, then what the "
        "store has entries of, latest first. With URLs given, only those. Exits with 1 if any failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        _which(parser)
        _where(parser)
        _how(parser)

    def handle(self, *args: Any, dry_run: bool, quiet: bool, **options: Any) -> None:
        """Request the URLs at one base URL after the other, and report on each."""
        try:
            bases = [warming.base_url(text) for text in options["base_url"] or _configured()]
            hots = _hot(**options)[: options["limit"]]
        except (WarmingError, StoreError) as error:
            raise CommandError(str(error)) from error
        if dry_run:
            self._list(bases, hots)
            return
        manners = _manners(**options)
        self._conclude([self._warm(base, hots, manners, quiet) for base in bases])

    def _list(self, bases: list[httpx.URL], hots: list[Hot]) -> None:
        for base in bases:
            for hot in hots:
                self.stdout.write(str(base.copy_with(raw_path=hot.url.encode())))

    def _warm(self, base: httpx.URL, hots: list[Hot], manners: Manners, quiet: bool) -> Report:
        total = len(hots) * len(manners.codings)
        with tqdm(total=total, unit=" requests", desc=base.host, disable=quiet) as bar:
            report = warming.warm(base, hots, manners, on_visit=lambda _: bar.update())
        for visit in report.failures[:MOST_NAMED]:
            self.stderr.write(f"{visit.url}: {visit.outcome}")
        self.stdout.write(f"{base}: {report}")
        return report

    def _conclude(self, reports: list[Report]) -> None:
        failed = sum(len(report.failures) for report in reports)
        not_asked = sum(report.not_asked for report in reports)
        if failed or not_asked:
            raise CommandError(
                f"{failed} requests failed, {not_asked} were not made because a server was given up."
            )


def _which(parser: CommandParser) -> None:
    parser.add_argument(
        "urls", nargs="*", metavar="URL", help="Paths, or URLs whose path and query are used."
    )
    parser.add_argument("--file", help="A file of URLs, one a line; - for standard input.")
    parser.add_argument("--limit", type=_whole, default=1000, help="Most URLs (default 1000).")
    parser.add_argument(
        "--sample",
        type=_whole,
        default=warming.SAMPLE,
        help=f"Most entries to look at (default {warming.SAMPLE}).",
    )


def _where(parser: CommandParser) -> None:
    parser.add_argument(
        "--base-url",
        action="append",
        metavar="URL",
        help="Scheme and host to send requests to; repeatable (default: KEYBITS_WARM_BASE_URL).",
    )
    parser.add_argument(
        "--host", type=_host, default="", help="Host to send, where the base URL has an IP address."
    )


def _how(parser: CommandParser) -> None:
    usual = Manners()
    add = parser.add_argument
    add(
        "--rate", type=_positive, default=usual.rate, help=f"Most requests a second (default {usual.rate:g})."
    )
    add(
        "--concurrency",
        type=_whole,
        default=usual.concurrency,
        help=f"Most URLs requested at a time (default {usual.concurrency}).",
    )
    add(
        "--codings",
        type=_field,
        action="append",
        metavar="FIELD",
        help="An Accept-Encoding to send; repeatable (default: those of browsers).",
    )
    add("--timeout", type=_positive, default=usual.timeout, help=f"Seconds (default {usual.timeout:g}).")
    add("--conditional", action="store_true", help="Fetch only what differs from what the store has.")
    add("--dry-run", action="store_true", help="List what would be requested.")
    add("--quiet", action="store_true", help="No progress bar.")


def _configured() -> list[str]:
    if not conf.WARM_BASE_URL:
        raise WarmingError("Give --base-url, as in https://gallery.example, or set KEYBITS_WARM_BASE_URL.")
    return [conf.WARM_BASE_URL]


def _hot(urls: list[str], file: str | None, sample: int, **_: Any) -> list[Hot]:
    """Return the URLs given, if any were; otherwise the project's first pages, and then what the store has."""
    if urls or file is not None:
        return warming.given([*urls, *_lines(file)])
    return warming.once(chain(warming.declared(), warming.stored(sample)))


def _lines(file: str | None) -> Sequence[str]:
    if file is None:
        return []
    try:
        return sys.stdin.readlines() if file == "-" else Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WarmingError(f"{file} cannot be read: {error}") from error


def _manners(codings: list[str] | None, **options: Any) -> Manners:
    named = {name: options[name] for name in ("rate", "concurrency", "timeout", "host", "conditional")}
    return Manners(codings=tuple(codings or warming.BROWSERS), **named)


def _whole(text: str) -> int:
    return _checked(text, int, lambda number: number >= 1, "a whole number of at least 1")


def _positive(text: str) -> float:
    return _checked(text, float, lambda number: 0 < number < float("inf"), "a number above 0")


def _checked(text: str, kind: Callable[[str], T], is_well: Callable[[T], bool], demand: str) -> T:
    with suppress(ValueError):
        number = kind(text)
        if is_well(number):
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not {demand}")


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host, with a port if need be")
    return text


def _field(text: str) -> str:
    if not _VISIBLE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an Accept-Encoding")
    return text
