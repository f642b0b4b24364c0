"""What a million screenshots cost a list: page 20,000 beside page 1, and counts: `python -m benchmarks.scale`.

Makes a database of each kind (or finds it again: `--keep DIR`), and asks the API, past its cache, for two pages of each
list in turns: the first one and the one that a client comes to who has followed `next` 19,999 times. Its cursor is
made from the row before it, and its items are held against the page of that number. A list that has fewer items is
asked for smaller pages; one that has too few for that, for its last page. Writes `scale.md`.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks import query_plans
from benchmarks.query_plans import GALLERY, ORDERINGS, SCREENSHOTS, TAG, Api, _with

REPORT = Path(__file__).with_suffix(".md")
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
DEEP = 20_000
MOST = 1.5
"""How many times what page 1 costs page 20,000 may cost."""
PAGE_SIZE = 24
RANGE = "captured_after=2024-06-01&captured_before=2025-06-01"

LISTS: dict[str, str] = {
    "default": SCREENSHOTS,
    **{f"ordering={name}": f"{SCREENSHOTS}?ordering={name}" for name in ORDERINGS},
    "a gallery's": GALLERY,
    "a gallery's, ordering=-position": f"{GALLERY}?ordering=-position",
    "a gallery's, ordering=-captured_at": f"{GALLERY}?ordering=-captured_at",
    "a gallery's, ordering=created_at": f"{GALLERY}?ordering=created_at",
    "a gallery's, ordering=title": f"{GALLERY}?ordering=title",
    "a tag's": TAG,
    "a tag's, ordering=title": f"{TAG}?ordering=title",
    "tag=dark": f"{SCREENSHOTS}?tag=dark",
    "gallery=seed-00000": f"{SCREENSHOTS}?gallery=seed-00000",
    "domain": f"{SCREENSHOTS}?domain=site-0000.example",
    "status=ready": f"{SCREENSHOTS}?status=ready",
    "orientation=portrait": f"{SCREENSHOTS}?orientation=portrait",
    "orientation=square": f"{SCREENSHOTS}?orientation=square",
    "min_width=1024": f"{SCREENSHOTS}?min_width=1024",
    "captured_after": f"{SCREENSHOTS}?captured_after=2024-06-01",
    "captured_before": f"{SCREENSHOTS}?captured_before=2025-06-01",
    "captured range": f"{SCREENSHOTS}?{RANGE}",
    "captured range, ordering=captured_at": f"{SCREENSHOTS}?{RANGE}&ordering=captured_at",
    "captured range, ordering=title": f"{SCREENSHOTS}?{RANGE}&ordering=title",
    "captured range of a gallery": f"{GALLERY}?{RANGE}&ordering=-captured_at",
}
COUNTS: dict[str, str] = {
    "tags, each with its count": "/api/v1/tags/",
    "one tag with its count": "/api/v1/tags/dark/",
    "galleries, each with its count": "/api/v1/galleries/",
    "a hundred galleries": "/api/v1/galleries/?page_size=max",
    **{
        f"{name}, count={kind}": _with(address, count=kind)
        for name, address in {
            "all": SCREENSHOTS,
            "tag=dark": f"{SCREENSHOTS}?tag=dark",
            "domain": f"{SCREENSHOTS}?domain=site-0000.example",
            "captured range": f"{SCREENSHOTS}?{RANGE}",
            "a gallery's": GALLERY,
        }.items()
        for kind in ("none", "estimated", "exact")
    },
}


@dataclass
class Page:
    """A page of a list, and what each asking took, in ms: CPU of the database, the whole request, its CPU here."""

    address: str
    sql: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Pair:
    """The first page of a list and a deep one."""

    name: str
    number: int
    size: int
    pages: tuple[Page, Page]

    def ratio(self, what: Callable[[Page], list[float]]) -> float:
        first, deep = (statistics.median(what(page)) for page in self.pages)
        return deep / first


# --- What is asked ------------------------------------------------------------------------------------------------


def pair(name: str, address: str, api: Api, deep: int) -> Pair:
    """Find the pages of one list, and see that the deep one is the page of its number."""
    count = api.get(_with(address, count="exact", page_size=1))[0]["count"]
    size = max(1, min(PAGE_SIZE, count // deep))
    number = min(deep, -(-count // size))
    numbered = {"page_size": size, "count": "none"}
    before = api.get(_with(address, page=number - 1, **numbered))[0]["results"][-1]["id"]
    expected = api.get(_with(address, page=number, **numbered))[0]["results"]
    first, far = (
        _with(address, page_size=size),
        _with(address, page_size=size, cursor=cursor(address, before)),
    )
    if api.get(far)[0]["results"] != expected:
        raise SystemExit(f"{name}: the cursor does not lead to page {number:,}")
    return Pair(name, number, size, (Page(first), Page(far)))


def cursor(address: str, pk: int) -> str:
    """Return the cursor that leads beyond the screenshot `pk` in the order of the list."""
    from catalog.api.pagination import Cursor, Order  # noqa: PLC0415 - Django is set up by now
    from catalog.models import Screenshot  # noqa: PLC0415

    parts = urlsplit(address)
    own = "position" if "/galleries/" in parts.path else "-captured_at"
    (name,) = parse_qs(parts.query).get("ordering", [own])
    order = Order.of(Screenshot.objects.order_by(name))
    return Cursor.at(Screenshot.objects.get(pk=pk), order, backwards=False).encoded()


def ask(page: Page, api: Api, *, counted: bool) -> None:
    """Ask for a page once, then send its statements again to see what they take of the database."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.thread_time()
    _, noted = api.get(page.address)
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    taken = spent(noted)
    if counted:
        for found, seconds in ((page.sql, taken), (page.wall, wall), (page.cpu, cpu)):
            found.append(1000 * seconds)


def spent(noted: list[tuple[str, Any]]) -> float:
    """Return the seconds of CPU that the database takes for these statements, their rows fetched."""
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        clock = time.thread_time
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_backend_pid()")
            clock = partial(running, cursor.fetchone()[0])
        start = clock()
        for sql, parameters in noted:
            cursor.execute(sql, parameters)
            cursor.fetchall()
        return clock() - start


def running(pid: int) -> float:
    """Return the seconds for which a process has run, by Linux's scheduler."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def pairs(api: Api, options: argparse.Namespace) -> list[Pair]:
    """Take turns over all pages of all lists; the round that warms up is not counted."""
    found = [pair(name, address, api, options.deep) for name, address in LISTS.items()]
    for turn in range(options.rounds + 1):
        for each in found:
            for page in each.pages if turn % 2 else reversed(each.pages):
                ask(page, api, counted=turn > 0)
    return found


# --- The report ---------------------------------------------------------------------------------------------------


def section(found: list[Pair], api: Api, headline: str) -> Iterator[str]:
    yield from (
        headline,
        "",
        "| list | page | of | database, CPU ms | ratio | request, ms | ratio | request, CPU ms | ratio |",
    )
    yield f"| --- |{' --: |' * 8}"
    ways: tuple[Callable[[Page], list[float]], ...] = (lambda p: p.sql, lambda p: p.wall, lambda p: p.cpu)
    for each in found:
        cells = []
        for what in ways:
            first, deep = (statistics.median(what(page)) for page in each.pages)
            cells += [f"{first:.2f}, {deep:.2f}", f"{deep / first:.2f}"]
        yield f"| {each.name} | {each.number:,} | {each.size} | {' | '.join(cells)} |"
    yield from ("", verdict(found, ways), "", "| counts | SQL, ms | count |", "| --- | --: | --- |")
    for name, address in COUNTS.items():
        body, noted = api.get(address)
        taken = 1000 * sum(query_plans.measure(sql, parameters) for sql, parameters in noted)
        told = f"{body['count']:,}, {body['count_is']}" if "count" in body else ""
        yield f"| {name} | {taken:.1f} | {told} |"


def verdict(found: list[Pair], ways: tuple[Callable[[Page], list[float]], ...]) -> str:
    missed = [
        f"{each.name} ({max(map(each.ratio, ways)):.2f})"
        for each in found
        if any(each.ratio(what) > MOST for what in ways)
    ]
    if missed:
        return f"**Missed**: more than {MOST} times page 1 in {'; '.join(missed)}."
    worst = max(each.ratio(what) for each in found for what in ways)
    return f"Every deep page is within {MOST} times its first one; the furthest is {worst:.2f}."


def headline(database: str, options: argparse.Namespace) -> str:
    from catalog.models import Screenshot  # noqa: PLC0415

    packages = f"Django {importlib.metadata.version('django')}, Python {platform.python_version()}"
    return (
        f"{Screenshot.objects.count():,} screenshots in {query_plans._database()}; {packages}; "
        f"{query_plans._machine()}, load {os.getloadavg()[1]:.1f}; {datetime.datetime.now(datetime.UTC).date()}; "
        f"`python -m benchmarks.scale --database {database} --rounds {options.rounds}`. Medians: page 1, the deep one."
    )


# --- The databases ------------------------------------------------------------------------------------------------


@contextmanager
def database(name: str, directory: Path, screenshots: int) -> Iterator[None]:
    """Have Django on a database that is migrated, seeded and analysed."""
    import django  # noqa: PLC0415

    directory.mkdir(parents=True, exist_ok=True)
    start = {"sqlite": query_plans._sqlite, "postgresql": query_plans._postgresql}[name]
    with start(directory) as address, tempfile.TemporaryDirectory() as var:
        own = {"DATABASE_URL": address, "VAR_DIR": var, "REDIS_URL": "", "LOG_LEVEL": "ERROR"}
        own |= {"ANON_THROTTLE_RATE": "1000000/s", "DJANGO_SETTINGS_MODULE": "gallery_api.settings"}
        os.environ |= own
        django.setup()
        fill(screenshots)
        yield
        from django.db import connections  # noqa: PLC0415

        connections.close_all()


def fill(screenshots: int) -> None:
    """Migrate, and seed where nothing is; SQLite keeps all in memory meanwhile and need not survive a crash."""
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415

    from catalog.models import Screenshot  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        if not Screenshot.objects.exists():
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA synchronous=OFF")
                cursor.execute("PRAGMA cache_size=-2000000")
            call_command("seed", screenshots=screenshots, batch=20_000)
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    connection.close()


def measured(name: str, options: argparse.Namespace) -> str:
    """Return one database's part of the report."""
    with database(name, options.keep.resolve() / name, options.screenshots):
        api = Api()
        return "\n".join(section(pairs(api, options), api, headline(name, options)))


def apart(name: str, options: argparse.Namespace) -> str:
    """Measure in a process of its own: Django is set up for one database."""
    own = [f"--{key}={getattr(options, key)}" for key in ("screenshots", "rounds", "deep", "keep")]
    command = [sys.executable, "-m", "benchmarks.scale", "--alone", f"--database={name}", *own]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=query_plans.ROOT).stdout


def write(parts: dict[str, str]) -> None:
    """Replace the parts of the report that were measured, and leave the others."""
    old = REPORT.read_text() if REPORT.exists() else ""
    text = "# Scale\n\nWritten by `python -m benchmarks.scale`; see README.md for how to read it.\n"
    for name, title in DATABASES.items():
        part = parts.get(name) or query_plans._part(old, f"## {title}")
        text += f"\n## {title}\n\n{part.strip()}\n" if part else ""
    REPORT.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--database", choices=tuple(DATABASES), help="one alone (default: both)")
    parser.add_argument("--screenshots", type=int, default=1_000_000, help="how many (default: 1000000)")
    parser.add_argument(
        "--deep", type=int, default=DEEP, help=f"the number of the deep page (default: {DEEP})"
    )
    parser.add_argument(
        "--rounds", type=int, default=15, help="how often each page is asked for (default: 15)"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        default=Path(tempfile.gettempdir()) / "gallery-scale",
        help="where the databases are, and are found again (default: %(default)s)",
    )
    parser.add_argument("--dry", action="store_true", help="leave the report as it is")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(measured(options.database, options))
        return
    names = [options.database] if options.database else list(DATABASES)
    for name in names:
        part = apart(name, options)
        print(part)
        if not options.dry:
            write({name: part})


if __name__ == "__main__":
    main()
