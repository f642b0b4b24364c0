"""What freshness costs: `python -m benchmarks.freshness_cost`.

Of a write: statements, round trips to the store and time, beside the same write in plain Django, without triggers
and unwatched, and beside one that the triggers alone record; the three take turns within one run. Of reads: how
many are hits, and how many revalidations are answered 304, while somebody writes; with the scopes as declared, and
with one scope for everything. Writes `freshness_cost.md`.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import django

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path(__file__).with_suffix(".md")
sys.path.insert(0, str(ROOT / "tests"))

from stacks import runs  # noqa: E402
from stacks.live import Deployments  # noqa: E402
from stacks.servers import start_postgres  # noqa: E402

STACKS = {"embedded": "SQLite + LMDB", "server": "PostgreSQL + Redis"}
ARMS = ("plain", "recorded", "watched")
GALLERIES, SCREENSHOTS, TAGS = 50, 2_000, 30
CLIENTS = 20
PER_WRITE = 50
KINDS = {
    "screenshot": 30,
    "screenshots of a gallery": 30,
    "screenshots of a tag": 20,
    "gallery": 10,
    "screenshots": 5,
    "galleries or tags": 5,
}
EDITED = {"a screenshot's title": 60, "a screenshot's tags": 20, "a move to another gallery": 15}
RENAMES = {"a tag's own name": 5}


class Counts(NamedTuple):
    """How often each is done; a write in a turn more than is counted."""

    rounds: int
    writes: int
    reads: int
    warm_up: int
    edits: int


FULL, QUICK = Counts(12, 4, 3_000, 500, 20), Counts(1, 2, 100, 50, 1)


# --- What a write costs -------------------------------------------------------------------------------------


class Writes:
    """The ways to write that are measured, each with what takes it back outside the measurement."""

    def __init__(self) -> None:
        from catalog.models import Gallery, Screenshot, Tag  # noqa: PLC0415 - Django must be set up

        self.screenshots = Screenshot
        self.gallery = Gallery.objects.create(slug="cost", title="Cost")
        self.tag = Tag.objects.create(slug="cost", name="Cost")
        self.shot = self._new("one")
        self.shot.save()
        self.number = itertools.count()

    def _new(self, title: str) -> Any:
        url = "https://one.example/"
        return self.screenshots(gallery=self.gallery, title=title, source_url=url, domain="one.example")

    def save(self) -> None:
        self.shot.title = f"title {next(self.number)}"
        self.shot.save()

    def queryset_update(self) -> None:
        self.screenshots.objects.filter(pk=self.shot.pk).update(title=f"title {next(self.number)}")

    def bulk_create_of_100(self) -> None:
        self.screenshots.objects.bulk_create([self._new(str(number)) for number in range(100)])

    def m2m_add(self) -> None:
        self.shot.tags.add(self.tag)

    def transaction_of_20_saves(self) -> None:
        from django.db import transaction  # noqa: PLC0415 - Django must be set up

        with transaction.atomic():
            for _ in range(20):
                self.save()

    def all(self) -> list[Callable[[], None]]:
        return [
            self.save,
            self.queryset_update,
            self.bulk_create_of_100,
            self.m2m_add,
            self.transaction_of_20_saves,
        ]

    def take_back(self) -> None:
        """Take back what the writes added, and forget the record, as a relay does."""
        from django.db import connection  # noqa: PLC0415 - Django must be set up

        with unwatched(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM catalog_screenshot_tags WHERE screenshot_id = %s", [self.shot.pk])
            self.screenshots.objects.filter(gallery=self.gallery).exclude(pk=self.shot.pk)._raw_delete(
                "default"
            )
            cursor.execute("DELETE FROM keybits_change")


@contextmanager
def unwatched() -> Iterator[None]:
    """Write as Django does without keybits: no wrapper, and the connection's own commit and rollback."""
    from django.db import connection  # noqa: PLC0415 - Django must be set up

    connection.ensure_connection()
    named = [
        name for name in ("_commit", "_rollback") if name in connection.__dict__
    ]  # none where it is unwatched
    own = {name: connection.__dict__.pop(name) for name in named}
    wrappers, connection.execute_wrappers = connection.execute_wrappers, []
    try:
        yield
    finally:
        connection.execute_wrappers = wrappers
        connection.__dict__.update(own)


@contextmanager
def arm(name: str) -> Iterator[None]:
    """Be `plain` (no triggers, unwatched), `recorded` (triggers, unwatched) or `watched` (as deployed)."""
    from django.db import connection  # noqa: PLC0415 - Django must be set up

    from keybits import invalidation, triggers  # noqa: PLC0415 - as above

    declared = invalidation.declarations()
    with ExitStack() as stack:
        if name != "watched":
            stack.enter_context(unwatched())
        if name == "plain":
            for declaration in declared:
                triggers.drop(connection, declaration.model)
        yield
    for declaration in declared:
        triggers.sync(connection, declaration.model, declaration.templates)


def cost_of_writes(counts: Counts) -> dict[str, dict[str, Any]]:
    """Return, by write and by arm: statements, calls of the store, wall and CPU milliseconds, ratios to plain."""
    writes = Writes()
    found: dict[str, dict[str, Any]] = {_words(write): {} for write in writes.all()}
    times: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for one in ARMS:
        with arm(one):
            for write in writes.all():
                write()
                writes.take_back()
                found[_words(write)][one] = _counted(write)
                writes.take_back()
    for number in range(counts.rounds):
        for one in ARMS if number % 2 else reversed(ARMS):
            with arm(one):
                for write in writes.all():
                    times[_words(write), one].append(_timed(write, writes.take_back, counts.writes))
    for name, one in itertools.product(found, ARMS):
        plain = times[name, "plain"]
        pairs = list(zip(times[name, one], plain, strict=True))
        wall, cpu = (statistics.median(each[part] for each in times[name, one]) for part in (0, 1))
        ratios = [statistics.median(mine[part] / theirs[part] for mine, theirs in pairs) for part in (0, 1)]
        found[name][one] |= {"wall": wall * 1000, "cpu": cpu * 1000, "ratios": ratios}
    return found


def _words(write: Callable[[], None]) -> str:
    return write.__name__.replace("_", " ")


def _counted(write: Callable[[], None]) -> dict[str, int]:
    from django.db import connection  # noqa: PLC0415 - Django must be set up
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415 - as above

    from keybits.stores import get_store  # noqa: PLC0415 - as above

    calls: Counter[str] = Counter()
    store: Any = get_store().store
    with ExitStack() as stack:
        for name in ("open", "close", "read", "mint", "write"):
            original = getattr(store, name)

            def call(*args: Any, name: str = name, original: Any = original) -> Any:
                calls[name] += 1
                return original(*args)

            stack.enter_context(mock.patch.object(store, name, call))
        queries = stack.enter_context(CaptureQueriesContext(connection))
        write()
    statements = [query["sql"].split()[0].upper() for query in queries.captured_queries]
    bounds = sum(word in {"BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"} for word in statements)
    return {"statements": len(statements) - bounds, "bounds": bounds, "calls": calls.total()}


def _timed(write: Callable[[], None], after: Callable[[], None], count: int) -> tuple[float, float]:
    """Return the median wall and CPU seconds of a few writes; the first of them is not counted."""
    found = []
    for _ in range(count):
        wall, cpu = time.perf_counter(), time.process_time()
        write()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
        after()
    return statistics.median(each[0] for each in found[1:]), statistics.median(each[1] for each in found[1:])


# --- What reads get -----------------------------------------------------------------------------------------


class Catalogue:
    """What can be read and written, and chance: the same pages and rows for every mix, but values of its own.

    Else a second mix would write what the first left there, and change nothing.
    """

    def __init__(self, seed: int = 1, values: str = "") -> None:
        from catalog.models import Gallery, Screenshot, Tag  # noqa: PLC0415 - Django must be set up

        self.randomly = random.Random(seed)  # noqa: S311 - the same for the same seed
        self.values = random.Random(values)  # noqa: S311 - as above
        open_to_all = Gallery.objects.filter(visibility="public", slug__startswith="seed-")
        self.galleries = list(open_to_all.order_by("position"))
        self.shots = list(Screenshot.objects.filter(gallery__in=self.galleries).order_by("id"))
        self.tags = list(Tag.objects.exclude(slug="cost").order_by("id"))
        self.popular = self.randomly.sample(self.shots, len(self.shots))

    def zipf(self, among: list[Any]) -> Any:
        """Draw one: the n-th n times rarer than the first."""
        weights = list(itertools.accumulate(1 / rank for rank in range(1, len(among) + 1)))
        return self.randomly.choices(among, cum_weights=weights)[0]

    def address(self) -> tuple[str, str]:
        """Return a kind of page, and one page of it."""
        kind = self.randomly.choices(list(KINDS), list(KINDS.values()))[0]
        page = self.randomly.choices(["", "?page=2"], (4, 1))[0]
        if kind == "screenshot":
            return kind, f"screenshots/{self.zipf(self.popular).pk}/"
        if kind == "screenshots of a gallery":
            return kind, f"galleries/{self.zipf(self.galleries).slug}/screenshots/"
        if kind == "screenshots of a tag":
            return kind, f"tags/{self.zipf(self.tags).slug}/screenshots/"
        if kind == "gallery":
            return kind, f"galleries/{self.zipf(self.galleries).slug}/"
        return kind, f"screenshots/{page}" if kind == "screenshots" else self.randomly.choice(
            ["galleries/", "tags/"]
        )

    def write(self, mix: dict[str, int]) -> None:
        """Edit something: any screenshot as likely as any other."""
        what = self.randomly.choices(list(mix), list(mix.values()))[0]
        shot = self.randomly.choice(self.shots)
        if what == "a tag's own name":
            tag = self.randomly.choice(self.tags)
            tag.name = f"Name {self.values.random()}"
            tag.save()
        elif what == "a screenshot's tags":
            shot.tags.set(self.values.sample(self.tags, 2))
        elif what == "a move to another gallery":
            shot.gallery = self.values.choice(self.galleries)
            shot.save()
        else:
            shot.title = f"Title {self.values.random()}"
            shot.save()


class Reader:
    """The test client, many clients in one: each remembers the ETag that it was shown last of an address."""

    def __init__(self) -> None:
        from django.test import Client  # noqa: PLC0415 - Django must be set up

        self.client = Client(headers={"host": "localhost"})
        self.etags: dict[tuple[int, str], str] = {}

    def get(self, address: str, who: int = -1) -> tuple[int, bool, bool]:
        """Return the status, whether it was a hit, and whether the request was conditional."""
        known = self.etags.get((who, address)) if who >= 0 else None
        response: Any = self.client.get(
            f"/api/v1/{address}", headers={"if-none-match": known} if known else {}
        )
        assert response.status_code in (200, 304), f"{address}: {response.status_code}"
        self.etags[who, address] = response["ETag"]
        return response.status_code, response["Cache-Status"].startswith("keybits; hit"), known is not None


def one_scope() -> ExitStack:
    """Have everything be made from one scope, and every change close it."""
    stack = ExitStack()
    stack.enter_context(mock.patch.dict("keybits.drf.naming._named", clear=True))  # those that were declared
    stack.enter_context(mock.patch("keybits.stamps.scope_names", return_value=("all",)))
    for module in ("transactions", "relay"):
        stack.enter_context(
            mock.patch(f"keybits.{module}.coarsened", lambda scopes: ["all"] if scopes else [])
        )
    return stack


def mixed(name: str, mix: dict[str, int], counts: Counts) -> dict[str, Any]:
    """Read, and write after every fiftieth read; return the ratios of hits and of 304s."""
    from keybits.stores import get_store  # noqa: PLC0415 - Django must be set up

    get_store().clear()
    catalogue, reader = Catalogue(values=name), Reader()
    reads: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    conditional = unchanged = 0
    for number in range(counts.warm_up + counts.reads):
        if number % PER_WRITE == 0:
            catalogue.write(mix)
        kind, address = catalogue.address()
        status, hit, asked = reader.get(address, catalogue.randomly.randrange(CLIENTS))
        if number >= counts.warm_up:
            reads[kind] += 1
            hits[kind] += hit
            conditional += asked
            unchanged += status == 304
    return {
        "hits": hits.total() / reads.total(),
        "kinds": {kind: hits[kind] / reads[kind] for kind in KINDS},
        "conditional": conditional,
        "304": unchanged / conditional,
    }


def elsewhere(counts: Counts) -> dict[str, list[int]]:
    """Edit screenshots; count, by kind, the pages that were hits before, and how many of them are hits after."""
    catalogue, reader = Catalogue(2), Reader()
    of_galleries = {
        gallery.pk: [f"galleries/{gallery.slug}/", f"galleries/{gallery.slug}/screenshots/"]
        for gallery in catalogue.galleries
    }
    of_tags = {tag.pk: [f"tags/{tag.slug}/", f"tags/{tag.slug}/screenshots/"] for tag in catalogue.tags}
    pages = [page for some in (of_galleries, of_tags) for each in some.values() for page in each]
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for number in range(counts.edits):
        shot = catalogue.randomly.choice(catalogue.shots)
        shot.refresh_from_db()
        tags = set(shot.tags.values_list("pk", flat=True))
        for page in pages:
            reader.get(page)
        warm = {page: reader.get(page)[1] for page in pages}
        shot.title = f"Edit {number}"
        shot.save()
        for name, groups, own in (
            ("gallery", of_galleries, {shot.gallery_id}),
            ("tag", of_tags, tags),
        ):
            for key, some in groups.items():
                count = found[f"own {name}" if key in own else f"other {name}"]
                for page in some:
                    count[0] += warm[page]
                    count[1] += warm[page] and reader.get(page)[1]
    return dict(found)


def measured(counts: Counts) -> dict[str, Any]:
    """Be the process that measures, in the environment of a deployment."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "gallery_api.settings"
    django.setup()
    from django.core.management import call_command  # noqa: PLC0415 - Django must be set up

    found: dict[str, Any] = {"writes": cost_of_writes(counts)}
    call_command("seed", screenshots=SCREENSHOTS, galleries=GALLERIES, tags=TAGS, quiet=True)
    found["elsewhere"] = elsewhere(counts)
    found["declared"] = mixed("declared", EDITED | RENAMES, counts)
    with one_scope():
        found["one scope"] = mixed("one scope", EDITED | RENAMES, counts)
    found["without renames"] = mixed("without renames", EDITED, counts)
    return found


# --- The report ---------------------------------------------------------------------------------------------


def written(found: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    return "\n".join([*_heading(), *_writes(found), *_reads(found), *_elsewhere(found)])


def _heading() -> list[str]:
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return [
        "# What freshness costs",
        "",
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}, shared with other work; Python "
        f"{platform.python_version()}, Django {django.__version__}; {datetime.datetime.now(datetime.UTC).date()}; "
        "`python -m benchmarks.freshness_cost`",
        "",
    ]


def _writes(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "## Of a write",
        "",
        "*Plain* is Django without triggers and unwatched; *recorded* has the triggers, as a write past Django has;",
        "*watched* is as deployed. The three took turns in one process; times are medians, in ms, and ratios are",
        "medians of the ratios to plain in the same round. CPU is this process's: on SQLite the database is in it,",
        "PostgreSQL and Redis are not. `2 + 2` is two statements and two of BEGIN, COMMIT and savepoints.",
        "",
    ]
    for stack, title in STACKS.items():
        lines += [
            f"{title}:",
            "",
            "| write | SQL, plain | SQL, watched | store round trips | wall, plain | wall, watched "
            "| wall, recorded / plain | wall, watched / plain | CPU, watched / plain |",
            "| --- |" + " --: |" * 8,
        ]
        for name, arms in found[stack]["writes"].items():
            plain, recorded, watched = (arms[one] for one in ARMS)
            sql = (f"{one['statements']} + {one['bounds']}" for one in (plain, watched))
            lines.append(
                f"| {name} | {' | '.join(sql)} | {watched['calls']} | {plain['wall']:.2f} | {watched['wall']:.2f} "
                f"| {recorded['ratios'][0]:.2f} | {watched['ratios'][0]:.2f} | {watched['ratios'][1]:.2f} |"
            )
        lines.append("")
    return lines


def _reads(found: dict[str, dict[str, Any]]) -> list[str]:
    def mix(parts: dict[str, int]) -> str:
        return ", ".join(f"{share} {name}" for name, share in parts.items())

    runs_of = {
        "one scope for everything": "one scope",
        "scopes as declared": "declared",
        "scopes as declared, no tag renamed": "without renames",
    }
    lines = [
        "## Of reads, while somebody writes",
        "",
        f"{GALLERIES} galleries, {SCREENSHOTS:,} screenshots and {TAGS} tags (`manage.py seed`); {FULL.reads:,} reads "
        f"after {FULL.warm_up:,} that are not counted,",
        f"a write every {PER_WRITE}: as 500 reads/s beside 10 writes/s. Each kind of page by Zipf's law. Reads in",
        f"hundredths: {mix(KINDS)}.",
        f"Writes: {mix(EDITED | RENAMES)}; every screenshot as likely as any other.",
        f"A renamed tag ends every list and detail that shows tags, on purpose. {CLIENTS} clients ask again with the",
        "ETag they were shown last: *304* is the share of those requests that was answered 304.",
        "",
        "| | " + " | ".join(f"{title}: hits | 304" for title in STACKS.values()) + " |",
        "| --- |" + " --: |" * 2 * len(STACKS),
    ]
    for title, key in runs_of.items():
        cells = (f"{found[stack][key]['hits']:.1%} | {found[stack][key]['304']:.1%}" for stack in STACKS)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [*lines, "", *_by_kind(found), ""]


def _by_kind(found: dict[str, dict[str, Any]]) -> list[str]:
    """Hits of each kind of page, with one scope and as declared."""
    lines = [
        "Hits by kind of page:",
        "",
        "| | "
        + " | ".join(f"{title}: {key}" for title in STACKS.values() for key in ("one scope", "declared"))
        + " |",
        "| --- |" + " --: |" * 2 * len(STACKS),
    ]
    for kind in KINDS:
        cells = (
            f"{found[stack][key]['kinds'][kind]:.0%}" for stack in STACKS for key in ("one scope", "declared")
        )
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def _elsewhere(found: dict[str, dict[str, Any]]) -> list[str]:
    sentences = {
        "other gallery": "An edit in one gallery leaves the pages of the others hits",
        "other tag": "An edit of a screenshot leaves the pages of the tags that it does not have hits",
        "own gallery": "The pages of its own gallery that are still hits",
        "own tag": "The pages of its own tags that are still hits",
    }
    lines = [
        "## An edit here, a page there",
        "",
        f"{FULL.edits} edits of a screenshot each, and before each the first list page and the detail of every gallery",
        "and tag in the cache: how many of those were still hits right after it.",
        "",
        "| | " + " | ".join(STACKS.values()) + " |",
        "| --- |" + " --: |" * len(STACKS),
    ]
    for key, sentence in sentences.items():
        counts = (found[stack]["elsewhere"].get(key, [0, 0]) for stack in STACKS)
        lines.append(f"| {sentence} | {' | '.join(f'{after:,} of {before:,}' for before, after in counts)} |")
    return [*lines, ""]


def asked(deployments: Deployments, *, quick: bool = False) -> dict[str, Any]:
    """Have a process beside a deployment measure, and return what it has found; `quick` measures nothing."""
    live = deployments.make({"KEYBITS_AUDIT": "off", "ANON_THROTTLE_RATE": "100000000/min"})
    command = [sys.executable, "-m", "benchmarks.freshness_cost", "--on", "quick" if quick else "full"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=live.beside, stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    finally:
        deployments.discard(live)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=("full", "quick"), help=argparse.SUPPRESS)
    counts = parser.parse_args().on
    if counts:
        print(json.dumps(measured(FULL if counts == "full" else QUICK)))
        return 0
    run = runs.begin()
    try:
        postgres = start_postgres(run / "postgres")
        found = {
            name: asked(Deployments(run / name, postgres if name == "server" else None)) for name in STACKS
        }
        postgres.stop()
    finally:
        runs.end(run)
    text = written(found)
    print(text)
    REPORT.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
