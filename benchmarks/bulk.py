"""What a bulk operation costs: `python -m benchmarks.bulk`.

Galleries of 1,000, 10,000 and 100,000 screenshots on PostgreSQL with Redis; each operation is one request to the whole
application, in a process of its own that has done the same to one row before: whatever PostgreSQL has planned for that
it goes by. Beside it the bare UPDATE, by psycopg, with the triggers of the table switched off: what the table's own
indexes take. They take turns, and the tables are vacuumed before each. Writes `bulk.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path(__file__).with_suffix(".md")
sys.path.insert(0, str(ROOT / "tests"))

from stacks import runs  # noqa: E402
from stacks.servers import start_postgres, start_redis  # noqa: E402

from benchmarks.harness.machine import circumstances, versions  # noqa: E402

SIZES = (1_000, 10_000, 100_000)
ONE_BY_ONE = 50
"""Screenshots of a gallery for those who are to have changed one before."""
BARE = "bare `UPDATE`, no triggers"
OPERATIONS: dict[str, tuple[str, Any]] = {
    "`PATCH` of a title": ("PATCH", {"title": "Changed {}"}),
    "`PATCH` of positions by a formula": ("PATCH", {"position": {"add": 1}}),
    "`PATCH` that adds and removes a tag": ("PATCH", {"tags": {"add": ["t{}"], "remove": ["dark"]}}),
    "`DELETE`": ("DELETE", None),
}


def fill() -> None:
    """Make the rows, and a gallery of each size."""
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, check=True)
    seeded = [sys.executable, "manage.py", "seed", "--quiet", "--galleries", "50", "--tags", "20"]
    subprocess.run([*seeded, "--screenshots", str(ONE_BY_ONE + sum(SIZES))], cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "benchmarks.bulk", "--make"], cwd=ROOT, check=True)


def make() -> None:
    from django.contrib.auth.models import User  # noqa: PLC0415 - Django must be set up
    from django.db import connection  # noqa: PLC0415 - as above
    from rest_framework.authtoken.models import Token  # noqa: PLC0415 - as above

    from catalog.models import Gallery, Screenshot  # noqa: PLC0415 - as above

    owner = User.objects.create_user("owner")
    Token.objects.create(user=owner, key="0" * 40)
    last = 0
    for size in (ONE_BY_ONE, *SIZES):
        gallery = Gallery.objects.create(slug=f"of-{size}", title=f"{size:,}", owner=owner)
        keys = Screenshot.objects.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:size]
        Screenshot.objects.filter(pk__in=keys).update(gallery=gallery)
        last = Screenshot.objects.filter(gallery=gallery).order_by("-pk").values_list("pk", flat=True)[0]
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def operate(name: str, size: int, number: int) -> dict[str, Any]:
    """Be the process that is measured: one request, after one that has done the same to one row."""
    from django.test import Client  # noqa: PLC0415 - Django must be set up

    from catalog.models import Screenshot  # noqa: PLC0415 - as above

    client = Client(headers={"Authorization": f"Token {'0' * 40}", "X-Bulk-Operation": "true"})
    method, body = OPERATIONS[name]
    content = json.dumps(body).replace("{}", str(number)) if body else ""
    one = Screenshot.objects.filter(gallery__slug=f"of-{ONE_BY_ONE}").values_list("pk", flat=True)[0]
    response: Any = client.generic(
        method, f"/api/v1/screenshots/?ids={one}", content, content_type="application/json"
    )
    assert response.json()["count"] == 1, response.content
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    target = f"/api/v1/galleries/of-{size}/screenshots/?all=true&max={size}"
    start = time.perf_counter()
    response = client.generic(method, target, content, content_type="application/json")
    seconds = time.perf_counter() - start
    assert response.status_code == 200, response.content
    assert response.json()["count"] == size, response.content
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak": after / 1024, "more": (after - before) / 1024}


def bare(size: int, number: int) -> dict[str, Any]:
    """Time the same change of a title, as the database does it without triggers; it is rolled back."""
    import psycopg  # noqa: PLC0415 - only here

    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("ALTER TABLE catalog_screenshot DISABLE TRIGGER USER")
        start = time.perf_counter()
        connection.execute(
            "UPDATE catalog_screenshot SET title = %s, updated_at = now() "
            "WHERE gallery_id = (SELECT id FROM catalog_gallery WHERE slug = %s)",
            [f"Bare {number}", f"of-{size}"],
        )
        seconds = time.perf_counter() - start
        connection.rollback()
    return {"seconds": seconds}


def asked(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.bulk", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def vacuum() -> None:
    """Leave no dead rows of the operation before, as autovacuum does within a minute or so."""
    import psycopg  # noqa: PLC0415 - only here

    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def measured(rounds: int) -> dict[tuple[str, int], list[dict[str, Any]]]:
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for number in range(rounds):
        for name in (BARE, *OPERATIONS):
            if name == "`DELETE`" and number < rounds - 1:
                continue
            for size in SIZES:
                vacuum()
                result = asked("--operation", name, "--size", str(size), "--number", str(number))
                found.setdefault((name, size), []).append(result)
                print(f"{name:40} {size:>8,} {result['seconds']:8.2f} s", file=sys.stderr)
    return found


def report(found: dict[tuple[str, int], list[dict[str, Any]]], command: str) -> str:
    lines = ["# Bulk operations", "", circumstances(command), "", versions(), "", PROSE, ""]
    lines += ["| operation | rows | seconds | rows/s | to the bare `UPDATE` | peak MB | of that for it |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for (name, size), results in found.items():
        seconds = statistics.median(each["seconds"] for each in results)
        base = statistics.median(each["seconds"] for each in found[BARE, size])
        memory = ["", ""]
        if "peak" in results[0]:
            memory = [f"{max(each[what] for each in results):.0f}" for what in ("peak", "more")]
        cells = [
            name,
            f"{size:,}",
            f"{seconds:.2f}",
            f"{size / seconds:,.0f}",
            f"{seconds / base:.2f}",
            *memory,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


PROSE = (
    "One request each, by the whole application in one process that has done the same to one row before. Seconds are\n"
    "the median; `DELETE` is measured once.\n"
    "Before each the tables are vacuumed. The bare `UPDATE` sets the same title without any trigger: what remains is\n"
    "the table with its indexes. Memory is the most that the process has had resident."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--operation", default="", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.operation == BARE:
        print(json.dumps(bare(options.size, options.number)))
        return
    if options.make or options.operation:
        _set_up()
        if options.make:
            make()
        else:
            print(json.dumps(operate(options.operation, options.size, options.number)))
        return
    _with_servers(options.rounds)


def _set_up() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "gallery_api.settings"
    import django  # noqa: PLC0415 - the environment first

    django.setup()


def _with_servers(rounds: int) -> None:
    run = runs.begin()
    try:
        postgres, redis = start_postgres(run / "postgres"), start_redis(run / "redis")
        postgres.execute("CREATE DATABASE gallery")
        os.environ |= {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "VAR_DIR": str(run / "var")}
        os.environ |= {"ALLOWED_HOSTS": "testserver", "SECRET_KEY": "benchmark" * 8}
        fill()
        REPORT.write_text(report(measured(rounds), "python -m benchmarks.bulk"), "utf-8")
    finally:
        runs.end(run)


if __name__ == "__main__":
    main()
