"""What a cache in front is worth: `python -m benchmarks.edge`.

Real Varnish, configured by `docs/deploy/varnish.vcl`, before the real server, which purges it. How long after a
writer's commit the edge shows the new content, by each way to write; and, while somebody writes every second, how
many reads the origin does not hear of, and whether what has not changed costs it a 304. Writes `edge.md`.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import math
import os
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import django
import httpx
import psycopg

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path(__file__).with_suffix(".md")
sys.path.insert(0, str(ROOT / "tests"))

from edge.programs import Varnish, client  # noqa: E402
from stacks import runs  # noqa: E402
from stacks.live import Deployments, LiveServer  # noqa: E402
from stacks.servers import reserve_port, start_postgres  # noqa: E402

from benchmarks.freshness_cost import GALLERIES, KINDS, SCREENSHOTS, TAGS  # noqa: E402
from benchmarks.write_paths import machine  # noqa: E402

STACKS = {"embedded": "SQLite + LMDB", "server": "PostgreSQL + Redis"}
PATIENCE = 10.0
"""Seconds after which a write counts as not seen."""
RATES = (500, 2_000)
"""Reads a second; the ratio of hits is one of reads to writes."""
API = "/api/v1/"


# --- The deployment -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edge:
    """A Varnish, and the server that purges it."""

    live: LiveServer
    varnish: Varnish

    def beside(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a process that writes beside the server and, where it looks, looks at the edge."""
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.edge", *arguments, "--edge", self.varnish.url],
            cwd=ROOT,
            env=self.live.beside,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


@contextmanager
def deployed(deployments: Deployments) -> Iterator[Edge]:
    port = reserve_port()
    purger = {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": [f"http://127.0.0.1:{port}"]}
    live = deployments.make({"KEYBITS_AUDIT": "off", "PURGERS": json.dumps({"edge": purger})})
    home = live.directory / "varnish"
    home.mkdir()
    varnish = Varnish(home, live.port)
    varnish.port = port
    varnish.start()
    try:
        live.manage("seed", f"--galleries={GALLERIES}", f"--screenshots={SCREENSHOTS}", f"--tags={TAGS}")
        live.start(workers=2)
        for _ in range(20):  # each process starts its relay when it is first asked
            assert live.get(f"{API}tags/").status_code == 200
        live.settle()  # migrations and the seed are purged, too
        yield Edge(live, varnish)
    finally:
        varnish.stop()
        deployments.discard(live)


# --- How late -----------------------------------------------------------------------------------------------


def lateness(stack: str, edge: str, times: int) -> dict[str, list[float]]:
    """Be the writer; return, by way to write, the seconds after each commit until the edge showed it."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "gallery_api.settings"
    django.setup()
    with client(edge) as connected:
        return {
            name: [_unseen(connected, page, write, number) for number in range(times)]
            for name, (page, write) in _ways(stack).items()
        }


def _ways(stack: str) -> dict[str, tuple[str, Callable[[int], object]]]:
    """Return of each way to write a page that the write changes, and the write."""
    from django.db import connection  # noqa: PLC0415 - Django must be set up

    from catalog.models import Screenshot, Tag  # noqa: PLC0415 - as above

    shot = Screenshot.objects.filter(gallery__visibility="public", state="ready").latest("pk")
    tag = Tag.objects.create(slug="edge", name="Edge")
    this, its_gallery = Screenshot.objects.filter(pk=shot.pk), f"galleries/{shot.gallery.slug}/"
    statement = f"UPDATE catalog_screenshot SET title = 'raw {{}}' WHERE id = {shot.pk}"  # noqa: S608 - our own
    execute = _client(stack)
    made = {"gallery": shot.gallery, "source_url": "https://one.example/", "state": "ready"}

    def save(number: int) -> None:
        shot.title = f"saved {number}"
        shot.save(update_fields=["title"])

    page = f"screenshots/{shot.pk}/"
    return {
        "save": (page, save),
        "queryset update": (page, lambda n: this.update(title=f"updated {n}")),
        "bulk_create": (
            its_gallery,
            lambda n: Screenshot.objects.bulk_create([Screenshot(title=f"new {n}", **made)]),
        ),
        "delete": (its_gallery, lambda n: Screenshot.objects.get(title=f"new {n}").delete()),
        "many to many": (page, lambda n: shot.tags.remove(tag) if n % 2 else shot.tags.add(tag)),
        "raw SQL through Django": (page, lambda n: connection.cursor().execute(statement.format(n))),
        "raw SQL past Django": (page, lambda n: execute(statement.format(f"past {n}"))),
    }


def _client(stack: str) -> Callable[[str], object]:
    """Return what runs one statement, committed when it returns, and knows nothing of Django."""
    url = os.environ["DATABASE_URL"]
    if stack == "server":
        return psycopg.connect(url, autocommit=True).execute  # type: ignore[return-value]
    return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20, isolation_level=None).execute


def _unseen(edge: httpx.Client, page: str, write: Callable[[int], object], number: int) -> float:
    """Write once; return the seconds from the return of the write until the edge had answered with something else.

    Held just before: else a second purge, of an earlier write, would do this one's work.
    """
    time.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - at any moment of a relay's interval
    before = _held(edge, page)
    write(number)
    returned = time.perf_counter()
    while time.perf_counter() - returned < PATIENCE:
        if edge.get(f"{API}{page}").headers["etag"] != before:
            return time.perf_counter() - returned
        time.sleep(0.0005)
    return math.inf


def _held(edge: httpx.Client, page: str) -> str:
    """Ask until the edge holds the page; return its tag."""
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        answer = edge.get(f"{API}{page}")
        if "varnish; hit" in answer.headers["cache-status"]:
            return answer.headers["etag"]
        time.sleep(0.01)
    raise TimeoutError(f"The edge holds no {page}: {answer.headers}")


# --- How many -----------------------------------------------------------------------------------------------


def write_every_second() -> None:
    """Be the writer: change the title of a screenshot, any as likely as any other, until standard input ends."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "gallery_api.settings"
    django.setup()
    from catalog.models import Screenshot  # noqa: PLC0415 - Django must be set up

    randomly = random.Random(1)  # noqa: S311 - to be drawn again
    shots = list(Screenshot.objects.order_by("pk").values_list("pk", flat=True))
    print("ready", flush=True)
    for _ in sys.stdin:
        Screenshot.objects.filter(pk=randomly.choice(shots)).update(title=f"written {time.time_ns()}")


class Pages:
    """Addresses drawn as those of `benchmarks.freshness_cost` are: each kind in its share, each page by Zipf's law."""

    def __init__(self, live: LiveServer) -> None:
        self.randomly = random.Random(1)  # noqa: S311 - to be drawn again
        # What is still being captured is not to be held.
        code = "from catalog.models import *\nprint(*{}.order_by('pk').values_list('{}', flat=True))"
        listed = {
            name: live.shell(code.format(model, field)).split()
            for name, model, field in (
                ("screenshot", "Screenshot.objects.listed_for(None).filter(state='ready')", "pk"),
                ("gallery", "Gallery.objects.listed_for(None)", "slug"),
                ("tag", "Tag.objects", "slug"),
            )
        }
        self.members = {name: self._shuffled(members) for name, members in listed.items()}
        self.weights = {
            name: list(itertools.accumulate(1 / rank for rank in range(1, len(members) + 1)))
            for name, members in self.members.items()
        }

    def draw(self, count: int) -> list[str]:
        kinds = self.randomly.choices(list(KINDS), list(KINDS.values()), k=count)
        return [f"{API}{self._page(kind)}" for kind in kinds]

    def all(self) -> Iterator[str]:
        """Yield every address that can be drawn."""
        for kind in KINDS:
            for member in self.members.get(kind.removeprefix("screenshots of a "), ()):
                yield f"{API}{_address(kind, member)}"
        yield from (f"{API}{page}" for page in ("screenshots/", "screenshots/?page=2", "galleries/", "tags/"))

    def _shuffled(self, members: list[str]) -> list[str]:
        return self.randomly.sample(members, len(members))

    def _page(self, kind: str) -> str:
        if kind == "screenshots":
            return self.randomly.choices(["screenshots/", "screenshots/?page=2"], (4, 1))[0]
        if kind == "galleries or tags":
            return self.randomly.choice(["galleries/", "tags/"])
        name = kind.removeprefix("screenshots of a ")
        return _address(kind, self.randomly.choices(self.members[name], cum_weights=self.weights[name])[0])


def _address(kind: str, member: str) -> str:
    return {
        "screenshot": f"screenshots/{member}/",
        "screenshots of a gallery": f"galleries/{member}/screenshots/",
        "screenshots of a tag": f"tags/{member}/screenshots/",
        "gallery": f"galleries/{member}/",
    }[kind]


class Reader:
    """One connection to the edge, read without a client's cost: what counts is what Varnish does."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.received = b""

    def get(self, target: str) -> tuple[int, str, str]:
        """Return the status, the tag and what the edge says it did."""
        self.connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head, _, rest = self.received.partition(b"\r\n\r\n")
        lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
        fields = {name.lower(): value for name, _, value in lines}
        length = int(fields["content-length"])
        self.received = rest
        while len(self.received) < length:
            self._receive()
        self.received = self.received[length:]
        return int(head[9:12]), fields.get("etag", ""), fields["cache-status"].partition("varnish; ")[2]

    def held(self, target: str) -> str:
        """Ask until the edge holds it, and return its tag; on a busy machine the origin may not let it at once."""
        for _ in range(50):
            _, tag, did = self.get(target)
            if did.startswith("hit"):
                return tag
        raise TimeoutError(f"The edge does not hold {target}: {did}")

    def _receive(self) -> None:
        part = self.connection.recv(65_536)
        if not part:
            raise ConnectionError("Varnish has closed the connection.")
        self.received += part


def hits(edge: Edge, rate: int, seconds: int) -> dict[str, float]:
    """Read at `rate` for `seconds` while somebody writes every second; return what came of it."""
    writer = edge.beside("--write")
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    pages, reader = Pages(edge.live), Reader(edge.varnish.port)
    tags = {target: reader.held(target) for target in pages.all()}
    counted: Counter[str] = Counter()
    began = time.perf_counter()
    for number, target in enumerate(pages.draw(rate * seconds)):
        if number % rate == 0:
            writer.stdin.write("\n")
            writer.stdin.flush()
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        counted[_outcome(target, reader.get(target), tags)] += 1
    took = time.perf_counter() - began
    writer.communicate()
    return {**counted, "reads a second": rate * seconds / took, "writes": seconds}


def _outcome(target: str, answer: tuple[int, str, str], tags: dict[str, str]) -> str:
    """Name what the edge did; note the tag, by which the next one can be told to have changed."""
    status, tag, did = answer
    known = tags.get(target)
    tags[target] = tag
    if status != 200:
        return f"status {status}"
    if did.startswith("hit"):
        return "hit"
    if did.startswith("fwd=stale"):
        how = "304" if "fwd-status=304" in did else "200"
        return f"{'unchanged' if tag == known else 'changed'}, {how}"
    return "asked for the first time" if known is None else f"lost: {did}"


# --- The report ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What was measured on one stack."""

    late: dict[str, list[float]]
    rates: dict[int, dict[str, float]]


def measured(stack: str, deployments: Deployments, times: int, seconds: int) -> Found:
    with deployed(deployments) as edge:
        rates = {rate: hits(edge, rate, seconds) for rate in RATES}
        with edge.beside("--late", stack, "--times", str(times)) as writer:
            printed, _ = writer.communicate()
        return Found(json.loads(printed), rates)


def report(found: dict[str, Found], command: str) -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    return "\n".join(
        [
            "# What a cache in front is worth",
            "",
            f"{machine()}, shared with other work; {today}; `{command}`",
            "",
            "Varnish 7.1 by `docs/deploy/varnish.vcl` before two processes of granian.",
            "",
            *_late(found),
            "",
            *_hits(found),
            "",
        ]
    )


def _late(found: dict[str, Found]) -> list[str]:
    names = next(iter(found.values())).late
    return [
        "## How late",
        "",
        "Milliseconds from the return of the write, in a process beside the server, until the edge, asked again and",
        "again, had answered with the new content, which the origin makes meanwhile: median, 95th percentile, worst.",
        "",
        f"| write | {' | '.join(STACKS[stack] for stack in found)} |",
        "| --- |" + " --: |" * len(found),
        *(
            f"| {name} | {' | '.join(_spread(each.late[name]) for each in found.values())} |"
            for name in names
        ),
    ]


def _spread(seconds: list[float]) -> str:
    seen = sorted(one * 1000 for one in seconds if one < math.inf)
    missed = len(seconds) - len(seen)
    if missed:
        return f"**{missed} of {len(seconds)} NOT SEEN** within {PATIENCE:g} s"
    late = seen[math.ceil(0.95 * len(seen)) - 1]
    return f"{statistics.median(seen):.1f}, {late:.1f}, {seen[-1]:.1f}"


def _hits(found: dict[str, Found]) -> list[str]:
    shares = ", ".join(f"{share} {kind}" for kind, share in KINDS.items())
    return [
        "## How many",
        "",
        f"{GALLERIES} galleries, {SCREENSHOTS:,} screenshots and {TAGS} tags (`manage.py seed`); one write a second,",
        "of any screenshot's title. Every page is asked for once, then each kind by Zipf's law. Reads in hundredths:",
        f"{shares}. A write is purged twice, `KEYBITS_PURGE_AGAIN` apart.",
        "",
        "*Unchanged* are the revalidations whose content was as before, *of these 304* those that cost a 304.",
        "",
        "| | reads a second | hits | revalidations | a write | changed | unchanged | of these 304 | anything else |",
        "| --- |" + " --: |" * 8,
        *(_row(STACKS[stack], rate) for stack, each in found.items() for rate in each.rates.values()),
    ]


def _row(stack: str, rate: dict[str, float]) -> str:
    counted = Counter(
        {name: int(count) for name, count in rate.items() if name not in ("reads a second", "writes")}
    )
    changed = counted["changed, 200"] + counted["changed, 304"]
    unchanged = counted["unchanged, 200"] + counted["unchanged, 304"]
    other = {name: n for name, n in counted.items() if name != "hit" and "changed" not in name}
    cells = [
        stack,
        f"{rate['reads a second']:,.0f}",
        f"{counted['hit'] / counted.total():.2%}",
        f"{changed + unchanged:,}",
        f"{(changed + unchanged) / rate['writes']:.1f}",
        f"{changed:,}",
        f"{unchanged:,}",
        f"{counted['unchanged, 304'] / unchanged:.0%}" if unchanged else "none",
        ", ".join(f"{n:,} {name}" for name, n in other.items()) or "none",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", choices=(*STACKS, "all"), default="all")
    parser.add_argument("--times", type=int, default=40, help="how often each way to write is timed")
    parser.add_argument("--seconds", type=int, default=60, help="for how long hits are counted, at each rate")
    parser.add_argument("--late", choices=STACKS, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--edge", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.late:
        print(json.dumps(lateness(options.late, options.edge, options.times)))
    elif options.write:
        write_every_second()
    else:
        run(options)


def run(options: argparse.Namespace) -> None:
    home = runs.begin()
    stacks = [stack for stack in STACKS if options.stack in (stack, "all")]
    found: dict[str, Found] = {}
    try:
        for stack in stacks:
            postgres = start_postgres(home / "postgres") if stack == "server" else None
            deployments = Deployments(home / stack, postgres)
            found[stack] = measured(stack, deployments, options.times, options.seconds)
            if postgres is not None:
                postgres.stop()
    finally:
        runs.end(home)
    text = report(found, " ".join(["python -m benchmarks.edge", *sys.argv[1:]]))
    print(text)
    if stacks == list(STACKS):
        REPORT.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
