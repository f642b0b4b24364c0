"""`manage.py seed`: galleries for load tests, the same for the same seed.

Decides the distribution: words, sites and galleries follow Zipf's law, as in real traffic to a cache. The rows are
real, but they have no renditions.
"""

from __future__ import annotations

import datetime
import itertools
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.models import DateTimeField
from tqdm import tqdm  # type: ignore[import-untyped]

from catalog.curation.tags import tag_kind, tag_name
from catalog.models import ColorScheme, Gallery, Screenshot, State, Tag, Visibility

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator, Sequence

PREFIX = "seed-"
FIRST_DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
SECONDS = 700 * 86_400
"""All dates lie within this many seconds after the first day."""

_DOMAINS = 2_000
_WORDS = ("dark", "light", "mobile", "tablet", "desktop", "landing-page", "dashboard", "form", "docs", "blog")
_PAGES = (
    "Start",
    "Pricing",
    "Sign in",
    "Dashboard",
    "Settings",
    "Search",
    "Checkout",
    "Profile",
    "Help",
    "Blog",
)
_SIZES = ((1280, 800), (390, 844), (1280, 3200), (1024, 1024), (768, 1024))
_COLORS = ("#ffffff", "#f5f7fb", "#1a2332", "#141b2d", "#0d6efd", "#1abc9c", "#b75c5d", "#e9ecef")
_PLACEHOLDER = "8/cVDIAQY5eHiIeIh4cQhhdQaw=="


class Command(BaseCommand):
    help = "Fills the database for load tests; the same seed gives the same rows."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--screenshots", type=int, required=True, help="Screenshots to add.")
        parser.add_argument("--galleries", type=int, default=1000, help="Galleries to use (default: 1000).")
        parser.add_argument("--tags", type=int, default=50, help="Tags to use (default: 50).")
        parser.add_argument("--seed", type=int, default=1, help="Any number; another one gives other rows.")
        parser.add_argument("--batch", type=int, default=5000, help="Rows per transaction (default: 5000).")
        parser.add_argument("--append", action="store_true", help="Add to the rows of earlier runs.")
        parser.add_argument("--quiet", action="store_true", help="No progress bar and no summary.")

    def handle(self, *, seed: int, append: bool, quiet: bool, **options: Any) -> None:
        """Fill, then refresh the planner's statistics. Raises `CommandError` before anything is written."""
        before = Screenshot.objects.filter(gallery__slug__startswith=PREFIX).count()
        _refuse_twice(append, before)
        wanted = _wanted(before, **{name: options[name] for name in Wanted._fields})
        with tqdm(total=wanted.screenshots, unit=" rows", unit_scale=True, disable=quiet) as bar:
            for batch, rows in enumerate(fill(wanted, seed=seed, before=before)):
                if not batch and rows < wanted.screenshots:
                    analyze()  # triggers of the others read tables that PostgreSQL took for empty
                bar.update(rows)
        analyze()
        if not quiet:
            self.stdout.write(f"{wanted.screenshots:,} screenshots added to {before:,} that were there.")


class Wanted(NamedTuple):
    """How much to add; `batch` is in rows per transaction."""

    screenshots: int
    galleries: int
    tags: int
    batch: int


MOST = Wanted(screenshots=10_000_000, galleries=100_000, tags=10_000, batch=100_000)
"""What titles and slugs can number; the rows of a batch are in memory at once."""


def _wanted(before: int, **numbers: int) -> Wanted:
    for name, number in numbers.items():
        most = getattr(MOST, name) - (before if name == "screenshots" else 0)
        if not 1 <= number <= most:
            raise CommandError(f"--{name} takes a whole number from 1 to {most:,}, not {number:,}.")
    return Wanted(**numbers)


def _refuse_twice(append: bool, before: int) -> None:
    if not append and Gallery.objects.filter(slug__startswith=PREFIX).exists():
        raise CommandError(
            f"This database was seeded already ({before:,} screenshots). Add to it with --append, or first "
            f"delete the galleries whose slug starts with {PREFIX}"
        )


def fill(wanted: Wanted, *, seed: int, before: int) -> Iterator[int]:
    """Write the rows, one batch per transaction, and yield the size of each batch.

    `before` is the number of screenshots of earlier runs; numbering continues after them.
    """
    draw = _Draw(f"{seed}:{before}", _galleries(wanted.galleries), _tags(wanted.tags))
    numbers = iter(range(before, before + wanted.screenshots))
    while batch := list(itertools.islice(numbers, wanted.batch)):
        yield _write([draw.screenshot(number) for number in batch], draw)


def analyze() -> None:
    """Refresh the statistics of the query planner, on databases that do not do so by themselves."""
    if connection.vendor in ("sqlite", "postgresql"):
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


@contextmanager
def _dates_as_given() -> Iterator[None]:
    """Make bulk_create keep `created_at` and `updated_at`, which it would set to the present."""
    dates = ("created_at", "updated_at")
    found = (model._meta.get_field(name) for model in (Gallery, Screenshot) for name in dates)
    fields = [field for field in found if isinstance(field, DateTimeField)]
    automatic = [(field, field.auto_now, field.auto_now_add) for field in fields]
    for field in fields:
        field.auto_now = field.auto_now_add = False
    try:
        yield
    finally:
        for field, auto_now, auto_now_add in automatic:
            field.auto_now, field.auto_now_add = auto_now, auto_now_add


@_dates_as_given()
@transaction.atomic
def _write(screenshots: list[Screenshot], draw: _Draw) -> int:
    tagged = Screenshot.tags.through
    Screenshot.objects.bulk_create(screenshots)
    tagged.objects.bulk_create(
        tagged(screenshot_id=shot.pk, tag_id=tag) for shot in screenshots for tag in draw.tags_of_one()
    )
    return len(screenshots)


# --- What is drawn ------------------------------------------------------------------------------------------


@_dates_as_given()
def _galleries(count: int) -> list[int]:
    """Create missing galleries, and return the keys of the first `count`, the busiest first."""
    slugs = [f"{PREFIX}{number:05}" for number in range(count)]
    there = set(Gallery.objects.filter(slug__startswith=PREFIX).values_list("slug", flat=True))
    missing = (_gallery(number, slug) for number, slug in enumerate(slugs) if slug not in there)
    Gallery.objects.bulk_create(missing, batch_size=1000)
    keys = dict(Gallery.objects.filter(slug__startswith=PREFIX).values_list("slug", "pk"))
    return [keys[slug] for slug in slugs]


def _gallery(number: int, slug: str) -> Gallery:
    """Return a gallery, unsaved. Of twenty, three are unlisted and one is private, some of the busy ones included."""
    hidden = {7: Visibility.UNLISTED, 12: Visibility.UNLISTED, 17: Visibility.UNLISTED, 4: Visibility.PRIVATE}
    return Gallery(
        slug=slug,
        title=f"Seed gallery {number:05}",
        description="Made for load tests.",
        visibility=hidden.get(number % 20, Visibility.PUBLIC),
        position=number,
        created_at=FIRST_DAY + datetime.timedelta(minutes=number),
        updated_at=FIRST_DAY + datetime.timedelta(minutes=number),
    )


def _tags(count: int) -> list[int]:
    """Create the words that are missing, and return the keys of the first `count`, the commonest first."""
    slugs = [*_WORDS, *(f"{PREFIX}topic-{number:04}" for number in range(count))][:count]
    there = set(Tag.objects.values_list("slug", flat=True))
    words = (
        Tag(slug=slug, name=tag_name(slug=slug), kind=tag_kind(slug=slug))
        for slug in slugs
        if slug not in there
    )
    Tag.objects.bulk_create(words, batch_size=1000)
    keys = dict(Tag.objects.values_list("slug", "pk"))
    return [keys[slug] for slug in slugs]


class _Zipf:
    """Draws from a list whose n-th entry is n times rarer than its first."""

    def __init__(self, chance: random.Random, entries: Sequence[int]) -> None:
        self._chance = chance
        self._entries = entries
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, len(entries) + 1)))

    def draw(self, count: int = 1) -> list[int]:
        return self._chance.choices(self._entries, cum_weights=self._weights, k=count)


class _Draw:
    """Draws screenshots and, from a separate sequence, their tags, so that the batch size does not affect the rows."""

    def __init__(self, seed: str, galleries: Sequence[int], tags: Sequence[int]) -> None:
        self._chance = chance = random.Random(seed)  # noqa: S311 - deterministic on purpose
        self._tag_chance = random.Random(f"{seed}:tags")  # noqa: S311 - as above
        self._galleries = _Zipf(chance, galleries)
        self._domains = _Zipf(chance, range(_DOMAINS))
        self._tags = _Zipf(self._tag_chance, tags)

    def tags_of_one(self) -> list[int]:
        """Return the keys of one to four tags, each once."""
        return sorted(set(self._tags.draw(self._tag_chance.randint(1, 4))))

    def screenshot(self, number: int) -> Screenshot:
        """Return the screenshot with this number, unsaved."""
        chance = self._chance
        domain = f"site-{self._domains.draw()[0]:04}.example"
        taken = FIRST_DAY + datetime.timedelta(seconds=chance.randrange(SECONDS))
        (state,) = chance.choices((State.READY, State.PENDING, State.FAILED), (96, 2, 2))
        return Screenshot(
            gallery_id=self._galleries.draw()[0],
            position=number,
            title=f"{chance.choice(_PAGES)} {number:07}",
            alt=f"Screenshot of page {number} of {domain}",
            source_url=f"https://{domain}/pages/{number}",
            domain=domain,
            page_title=f"Page {number} of {domain}",
            color_scheme=chance.choices((ColorScheme.LIGHT, ColorScheme.DARK), (80, 20))[0],
            state=state,
            metadata={"seed": number},
            captured_at=taken,
            created_at=taken,
            updated_at=taken,
            **(self._pixels() if state == State.READY else self._nothing(state)),
        )

    def _pixels(self) -> dict[str, Any]:
        chance = self._chance
        width, height = chance.choices(_SIZES, (60, 15, 10, 5, 10))[0]
        return {
            "width": width,
            "height": height,
            "viewport_width": width,
            "viewport_height": min(height, 1024),
            "full_page": height > 2000,
            "http_status": chance.choices((200, 404, 500), (95, 4, 1))[0],
            "dominant_color": chance.choice(_COLORS),
            "accent_color": chance.choice(_COLORS),
            "placeholder": _PLACEHOLDER,
            "sha256": f"{chance.getrandbits(256):064x}",
            "dhash256": f"{chance.getrandbits(256):064x}",
        }

    def _nothing(self, state: State) -> dict[str, Any]:
        return {"error_code": "timeout"} if state == State.FAILED else {}
