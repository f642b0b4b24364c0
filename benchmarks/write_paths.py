"""Whether every way to write is seen at once: `python -m benchmarks.write_paths`.

Runs `tests/keybits/test_write_paths.py` on both stacks and reads the results it leaves; then has a client that
knows nothing of Django write beside a real server, and times how long the scopes of each write keep their stamps
after its COMMIT has returned. Writes `docs/write_paths.md`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import django
import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from stacks import runs  # noqa: E402
from stacks.live import Deployments  # noqa: E402
from stacks.servers import start_postgres  # noqa: E402

REPORT = ROOT / "docs" / "write_paths.md"
TESTS = "tests/keybits/test_write_paths.py"
STACKS = {"embedded": "SQLite + LMDB", "server": "PostgreSQL + Redis"}
SUFFIX = {"embedded": ".xml", "server": ".server.xml"}
NAMED = {
    "test_fixtures_loaded_end_what_they_touch": "fixtures loaded",
    "test_a_migration_s_data_operation_ends_what_it_touches": "data migration",
}
"""Tests of one way to write each, which have no id; those with an id are named by it."""
PARAMETRIZED = re.compile(r"test_a_write_ends_\w+\[(.+)\]")

SHOT = "UPDATE catalog_screenshot SET title = '{n}' WHERE id = {shot}"
TAGGED = "INSERT INTO catalog_screenshot_tags (screenshot_id, tag_id) VALUES ({shot}, {tag})"
UNTAGGED = "DELETE FROM catalog_screenshot_tags WHERE screenshot_id = {shot} AND tag_id = {tag}"
PAST_DJANGO: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str]] = {
    # name: what is done, the scopes that must end, what is done first, and where alone it can be
    "`UPDATE` of a screenshot": ((SHOT,), ("screenshot:{shot}", "gallery:a", "tag:x"), "", ""),
    "`INSERT` of a screenshot's tag": ((TAGGED,), ("screenshot:{shot}", "tag:y"), UNTAGGED, ""),
    "`DELETE` of a screenshot's tag": ((UNTAGGED,), ("screenshot:{shot}", "tag:y"), TAGGED, ""),
    "a transaction of twenty `UPDATE`s": ((SHOT,) * 20, ("screenshot:{shot}", "screenshots"), "", ""),
    "`TRUNCATE` of the screenshots' tags": (
        ("TRUNCATE catalog_screenshot_tags",),
        ("screenshot:*", "tag:*"),
        TAGGED,
        "server",
    ),
}
TIMES = 30
PATIENCE = 1.5
"""Seconds after which a write counts as not seen: long past every bound that is promised."""


# --- The tests ----------------------------------------------------------------------------------------------


def tested(directory: Path) -> dict[str, dict[str, bool]]:
    """Run the tests; return, by stack and by test, in their order, whether each passed."""
    results = directory / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", TESTS, "--junitxml", str(results)]
    subprocess.run(command, cwd=ROOT, check=False)
    return {stack: dict(_read(results.with_suffix(suffix))) for stack, suffix in SUFFIX.items()}


def _read(results: Path) -> Iterator[tuple[str, bool]]:
    for case in ElementTree.parse(results).iter("testcase"):  # noqa: S314 - pytest has just written it
        yield case.attrib["name"], case.find("failure") is None and case.find("error") is None


def _path(test: str) -> str:
    """Return which way to write a test is of; "" where it holds something else."""
    found = PARAMETRIZED.fullmatch(test)
    return found[1] if found else NAMED.get(test, "")


def _sentence(test: str) -> str:
    name, _, parameter = test.removeprefix("test_").partition("[")
    words = name.replace("_s_", "'s ").replace("_", " ")
    return f"{words} ({parameter.rstrip(']')} rows)" if parameter else words


# --- Past Django --------------------------------------------------------------------------------------------


def past_django(stack: str, deployments: Deployments, times: int = TIMES) -> dict[str, list[float]]:
    """Start a server of two processes, and write beside it; return the seconds that each write was not seen."""
    live = deployments.make({"KEYBITS_AUDIT": "off"})
    try:
        live.start(workers=2)
        for _ in range(20):  # each process starts its relay when it is first asked
            assert live.get("/api/v1/tags/").status_code == 200
        command = [sys.executable, "-m", "benchmarks.write_paths", "--beside", stack, "--times", str(times)]
        done = subprocess.run(
            command, cwd=ROOT, env=live.beside, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds: dict[str, list[float]] = json.loads(done.stdout)
        return seconds
    finally:
        deployments.discard(live)


def beside(stack: str, times: int) -> dict[str, list[float]]:
    """Be the writer: in the environment of the server, its store at hand to look at."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "gallery_api.settings"
    django.setup()
    from django.conf import settings  # noqa: PLC0415 - Django must be set up

    from catalog.models import Gallery, Screenshot, Tag  # noqa: PLC0415 - as above

    settings.KEYBITS_RELAY = "off"  # so that a stamp is seen whether a relay vouches for it or not
    gallery = Gallery.objects.create(slug="a", title="A")
    tags = [Tag.objects.create(slug=slug, name=slug) for slug in "xy"]
    shot = Screenshot.objects.create(gallery=gallery, title="0", source_url="https://one.example/")
    shot.tags.add(tags[0])
    rows = {"shot": shot.pk, "tag": tags[1].pk}
    execute = _client(stack, str(os.environ["DATABASE_URL"]))
    return {
        name: [_staleness(execute, rows, number, *how[:3]) for number in range(times)]
        for name, how in PAST_DJANGO.items()
        if how[3] in ("", stack)
    }


def _client(stack: str, url: str) -> Callable[[str], object]:
    if stack == "server":
        return psycopg.connect(url, autocommit=True).execute  # type: ignore[return-value]
    path = url.removeprefix("sqlite:///")
    return sqlite3.connect(path, timeout=20, isolation_level=None).execute


def _staleness(
    execute: Callable[[str], object],
    rows: dict[str, int],
    number: int,
    statements: tuple[str, ...],
    scopes: tuple[str, ...],
    first: str,
) -> float:
    """Write once; return the seconds from the end of COMMIT until the last of the scopes has lost its stamp."""
    from keybits.stores import get_store  # noqa: PLC0415 - Django must be set up

    if first:
        execute(UNTAGGED.format(**rows))
        execute(first.format(**rows))
        time.sleep(0.3)
    time.sleep(random.uniform(0.15, 0.3))  # noqa: S311 - at any moment of a relay's interval
    names = [scope.format(**rows) for scope in scopes]
    before = get_store().mint(names)
    assert None not in before
    execute("BEGIN")
    for nth, statement in enumerate(statements):
        execute(statement.format(**rows, n=f"{number}-{nth}"))
    execute("COMMIT")
    committed = time.perf_counter()
    while True:
        looked = time.perf_counter()
        after = get_store().read("none", names).stamps
        if not any(old == new for old, new in zip(before, after, strict=True)):
            return looked - committed
        if looked - committed > PATIENCE:
            return math.inf
        time.sleep(0.0005)


# --- The report ---------------------------------------------------------------------------------------------


def written(results: dict[str, dict[str, bool]], seconds: dict[str, dict[str, list[float]]]) -> str:
    """Return the page."""
    return "\n".join(
        [
            *_heading(),
            *_table("through Django", _rows(results, "at once", _path)),
            "",
            "What else these tests hold:",
            "",
            *_table("", _rows(results, "holds", lambda test: "" if _path(test) else _sentence(test))),
            "",
            *_past(seconds),
        ]
    )


def _heading() -> list[str]:
    today = datetime.datetime.now(datetime.UTC).date()
    return [
        "# Ways to write",
        "",
        f"{machine()}; {today}; `python -m benchmarks.write_paths`",
        "",
        f"What `{TESTS}` found, by its ids. *At once*: after the write returned, every scope that the rows were and",
        "are part of has a new stamp, no other scope has one, and nothing was left to a relay. So the next GET shows",
        "it, and everything else stays cached.",
        "",
    ]


def _rows(
    results: dict[str, dict[str, bool]], good: str, named: Callable[[str], str]
) -> list[tuple[str, list[str]]]:
    tests = list(dict.fromkeys(test for found in results.values() for test in found))
    return [
        (named(test), [good if results[stack].get(test) else "FAILED" for stack in STACKS])
        for test in tests
        if named(test)
    ]


def _table(head: str, rows: list[tuple[str, list[str]]]) -> list[str]:
    lines = [f"| {head} | {' | '.join(STACKS.values())} |", "| --- |" + " --- |" * len(STACKS)]
    return [*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)]


def _past(seconds: dict[str, dict[str, list[float]]]) -> list[str]:
    def cell(stack: str, name: str) -> str:
        found = seconds[stack].get(name)
        if found is None:
            return "no such statement"
        seen = [one * 1000 for one in found if one < math.inf]
        text = f"{statistics.median(seen):.1f}, worst {max(seen):.1f}" if seen else ""
        missed = len(found) - len(seen)
        return f"{text}; **{missed} of {TIMES} NOT SEEN** within {PATIENCE:g} s" if missed else text

    return [
        f"Writes past Django (sqlite3, psycopg), {TIMES} of each beside a server of two processes at rest, up to 0.3 s",
        "apart: milliseconds from the return of COMMIT until the last of the scopes had lost its stamp, median and",
        "worst. The promise is `KEYBITS_RELAY_INTERVAL`, 100 ms, and the time that the look itself takes.",
        "",
        *_table("past Django", [(name, [cell(stack, name) for stack in STACKS]) for name in PAST_DJANGO]),
        "",
    ]


def machine() -> str:
    """Return what the figures were made on."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return (
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}; "
        f"Python {platform.python_version()}, Django {django.__version__}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", choices=STACKS, help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.beside:
        print(json.dumps(beside(options.beside, options.times)))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        results = tested(Path(directory))
    run = runs.begin()
    try:
        postgres = start_postgres(run / "postgres")
        seconds = {
            "embedded": past_django("embedded", Deployments(run / "embedded", None)),
            "server": past_django("server", Deployments(run / "server", postgres)),
        }
        postgres.stop()
    finally:
        runs.end(run)
    text = written(results, seconds)
    print(text)
    REPORT.write_text(text, "utf-8")
    every = [passed for found in results.values() for passed in found.values()]
    seen = [one < math.inf for found in seconds.values() for each in found.values() for one in each]
    return 0 if all([*every, *seen]) else 1


if __name__ == "__main__":
    sys.exit(main())
