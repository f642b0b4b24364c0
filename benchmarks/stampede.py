"""What happens when everybody asks for the same cold list at once? How often the database computes it, and the wait.

The servers are as deployed: granian with two workers of four threads. The connections are open before
the first request is sent, and all requests are sent before the first answer is read. The lists are cold, the workers
are not: storms that are not counted come first. What computes nothing and answers from a constant takes part as well:
nobody's answers come sooner on this machine, whose cores the client shares.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.harness.cases import PAGE, WrongAnswerError, address, numbers
from benchmarks.harness.client import Connection, request
from benchmarks.harness.options import Options
from benchmarks.harness.serving import ApplicationServer
from benchmarks.harness.tables import table
from benchmarks.harness.variants import CONSTANT, Variant
from benchmarks.harness.world import Deployment, World

__all__ = ["Stampede", "able", "measure", "written"]

WARMING, COLD = 3, 9
"""How many cold lists are stormed, each once: before it counts, and then."""
SINGLE = 20
WORKERS, THREADS = 2, 4
"""Of granian, as the README has it deployed, on two cores."""


@dataclass
class Stampede:
    """Computations of each cold list; milliseconds of one miss alone, and of every right answer in a storm.

    `failed` are the storms' other answers: what a server does when it is overrun is part of what is asked.
    """

    computed: list[int] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    storm: list[float] = field(default_factory=list)
    failed: int = 0

    def most(self) -> int:
        """Return how often the list was computed that was computed most often."""
        return max(self.computed)

    def wait(self) -> float:
        """Return the 99th percentile of the right answers, in misses that come alone."""
        return self.p99() / statistics.median(self.single)

    def p99(self) -> float:
        """Return the 99th percentile of the right answers; without any there is none."""
        return statistics.quantiles(self.storm, n=100)[98] if len(self.storm) > 1 else math.inf


def able(variant: Variant) -> bool:
    """Say whether the variant computes something and keeps it, or answers from a constant."""
    return "miss" in variant.cases or variant.key == CONSTANT


def measure(world: World, variants: list[Variant], options: Options) -> dict[str, Stampede]:
    return {variant.key: _storms(world, variant, options) for variant in variants if able(variant)}


def _storms(world: World, variant: Variant, options: Options) -> Stampede:
    deployment, count = _counted(world.deployment(variant, "stampede"), variant)
    server = ApplicationServer(deployment, _command)
    server.start()
    try:
        return _stormed(server.port, count, options)
    finally:
        server.kill()


def _counted(deployment: Deployment, variant: Variant) -> tuple[Deployment, Path]:
    """Return the deployment with its entry point replaced by the one that counts, and where it counts."""
    path = deployment.directory / "computed"
    path.touch()
    more = {"BENCHMARK_TARGET": variant.wsgi, "BENCHMARK_COUNT": str(path)}
    return replace(deployment, environment={**deployment.environment, **more}), path


def _command(port: int) -> list[str]:
    target = ["--interface", "wsgi", "benchmarks.harness.counting:application"]
    return [
        "granian",
        "--workers",
        str(WORKERS),
        "--blocking-threads",
        str(THREADS),
        "--no-log",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *target,
    ]


def _stormed(port: int, count: Path, options: Options) -> Stampede:
    found, fresh = Stampede(), numbers()
    for _ in range(WARMING):  # every thread of every worker has then answered something
        _storm(port, request(address(next(fresh))), options.requests)
    link = Connection(port)
    for _ in range(SINGLE):
        begun = time.perf_counter()
        head, body = link.ask(request(address(next(fresh))))
        found.single.append((time.perf_counter() - begun) * 1000)
        if not _is_right(head, body):
            raise WrongAnswerError(head.decode(errors="replace"))
    link.close()
    for _ in range(COLD):
        before = os.path.getsize(count)
        taken = _storm(port, request(address(next(fresh))), options.requests)
        found.storm += taken
        found.failed += options.requests - len(taken)
        found.computed.append(os.path.getsize(count) - before)
    return found


def _storm(port: int, sent: bytes, count: int) -> list[float]:
    """Return the milliseconds from each request that was answered rightly to its answer.

    Nothing is read before all have begun to be answered: the client takes as little as it can of the server's cores.
    """
    links = [Connection(port) for _ in range(count)]
    begun = {link: _sent_at(link, sent) for link in links}
    taken = {link: (ended - begun[link]) * 1000 for link, ended in _as_they_answer(links)}
    right = [milliseconds for link, milliseconds in taken.items() if _is_right(*link.receive())]
    for link in links:
        link.close()
    return right


def _sent_at(link: Connection, sent: bytes) -> float:
    link.send(sent)
    return time.perf_counter()


def _as_they_answer(links: list[Connection]) -> Iterator[tuple[Connection, float]]:
    with selectors.DefaultSelector() as waiting:
        for link in links:
            waiting.register(link.socket, selectors.EVENT_READ, link)
        while waiting.get_map():
            ready = waiting.select()
            now = time.perf_counter()
            for key, _ in ready:
                waiting.unregister(key.fileobj)
                yield key.data, now


def _is_right(head: bytes, body: bytes) -> bool:
    return head[9:12] == b"200" and len(json.loads(body)["results"]) == 50


def written(found: dict[str, Stampede], titles: dict[str, str], options: Options) -> list[str]:
    said = (
        f"{options.requests} requests at once for `{PAGE}` under an address that nobody had asked for, {COLD} times; "
        f"granian, {WORKERS} workers of {THREADS} threads. "
        "*Computed* is how often the database was asked for the page, at most and at best. "
        "The bare callable computes nothing: its p99 is what it takes to answer so many at once."
    )
    columns = ["", "computed", "one miss alone, ms", "p99 in the storm, ms", "ratio", "failed"]
    return [said, "", *table(columns, _rows(found, titles))]


def _rows(found: dict[str, Stampede], titles: dict[str, str]) -> Iterator[list[str]]:
    for key, one in found.items():
        often = f"{one.most()} (best {min(one.computed)})"
        single, p99 = f"{statistics.median(one.single):.1f}", f"{one.p99():.0f}"
        yield [titles[key], often, single, p99, "" if key == CONSTANT else f"{one.wait():.1f}", one.failed]
