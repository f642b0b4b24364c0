"""How long does an answer take? The median and the 99th percentile with wrk, or without it from Python threads."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.harness.cases import CASES, PAGE, WrongAnswerError, fields, said, until_right
from benchmarks.harness.client import Connection
from benchmarks.harness.options import Options
from benchmarks.harness.serving import Running
from benchmarks.harness.tables import table
from benchmarks.server_cpu import Cell, cells

__all__ = ["Latency", "generator", "measure", "written"]

SCRIPT = Path(__file__).with_name("latency.wrk.lua")
ROUNDS = 3


@dataclass
class Latency:
    """Of each round: requests a second, and milliseconds."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    thrown_away: list[str] = field(default_factory=list)

    def add(self, rate: float, p50: float, p99: float) -> None:
        self.rates.append(rate)
        self.p50.append(p50)
        self.p99.append(p99)


def generator() -> str:
    """Say what the load is made with."""
    return "wrk" if shutil.which("wrk") else "Python threads, slower than some servers (wrk is not on PATH)"


def measure(running: dict[str, Running], options: Options) -> dict[Cell, Latency]:
    ask = _by_wrk if shutil.which("wrk") else _by_threads
    turns = count()  # one that is taken again asks for other cold addresses
    found = {cell: Latency() for cell in cells(running)}
    for _ in range(1 if options.count else ROUNDS):
        for (name, case), one in found.items():
            with running[name].load(case, options.connections):  # the server is awake, and has the page
                turn = partial(ask, running[name], case, options, turns)
                one.add(*until_right(turn, one.thrown_away))
    return found


def _by_wrk(one: Running, case: str, options: Options, turns: Iterator[int]) -> tuple[float, float, float]:
    right = one.expected[case]
    hour, minute = divmod(next(turns), 60)
    path = f"{PAGE}&captured_after=2001-01-01T{hour:02}:{minute:02}:00.NUMBERZ" if case == "miss" else PAGE
    [(name, value)] = fields(case, one.etag).items() or [("", "")]
    told = [path, name, value, str(right.status), str(right.length), "0"]
    load = ["-t1", f"-c{options.connections}", f"-d{max(1, round(options.seconds))}s", "-s", str(SCRIPT)]
    done = subprocess.run(
        ["wrk", *load, f"http://127.0.0.1:{one.port}", "--", *told],
        capture_output=True,
        text=True,
        check=True,
    )
    return _read(done.stdout, options.seconds)


def _read(printed: str, seconds: float) -> tuple[float, float, float]:
    line = next(line for line in printed.splitlines() if line.startswith("FOUND "))
    requests, wrong, errors, p50, p99 = map(float, line.split()[1:])
    if wrong or errors or not requests:
        raise WrongAnswerError(
            f"of {requests:.0f} answers {wrong:.0f} were wrong, {errors:.0f} failed:\n{printed}"
        )
    return requests / max(1, round(seconds)), p50 / 1000, p99 / 1000


def _by_threads(one: Running, case: str, options: Options, _: Iterator[int]) -> tuple[float, float, float]:
    until = time.perf_counter() + options.seconds
    with ThreadPoolExecutor(options.connections) as pool:
        each = pool.map(lambda _: list(_asked(one, case, until)), range(options.connections))
        taken = [seconds for some in each for seconds in some]
    cuts = statistics.quantiles(taken, n=100)
    return len(taken) / options.seconds, cuts[49] * 1000, cuts[98] * 1000


def _asked(one: Running, case: str, until: float) -> Iterator[float]:
    """Ask again and again on one connection, and yield how long each answer took; it is checked afterwards."""
    make, link = one.requests(case), Connection(one.port)
    while (begun := time.perf_counter()) < until:
        head, body = link.ask(make())
        yield time.perf_counter() - begun
        one.expected[case].check(head, len(body))
    link.close()


def written(latency: dict[Cell, Latency], titles: dict[str, str], options: Options) -> list[str]:
    columns = ["", "answer", "p50, ms", "p99, ms", "requests a second"]
    how = f"Load by {generator()}, {options.connections} connections on the same machine; medians of the rounds."
    wrong = [error for one in latency.values() for error in one.thrown_away]
    return [f"{how} {said(wrong)}", "", *table(columns, _rows(latency, titles))]


def _rows(latency: dict[Cell, Latency], titles: dict[str, str]) -> Iterator[list[str]]:
    for (name, case), one in latency.items():
        p50, p99, rate = map(statistics.median, (one.p50, one.p99, one.rates))
        yield [titles[name], CASES[case], f"{p50:.2f}", f"{p99:.2f}", f"{rate:,.0f}"]
