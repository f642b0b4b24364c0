"""`python -m benchmarks`: everything about reads, ours and the peers' in one run; `--write` keeps the figures."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import bars, footprint, in_process, latency, memory, round_trips, server_cpu, stampede
from benchmarks.harness import machine
from benchmarks.harness.cases import CASES, HITS, PAGE
from benchmarks.harness.direct import called
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import CONTROL, Rounds
from benchmarks.harness.serving import SERVERS, Running, installed, serving
from benchmarks.harness.tables import table
from benchmarks.harness.variants import REFERENCE, VARIANTS, Variant, chosen
from benchmarks.harness.world import DATABASES, ROOT, World, prepared

RESULTS = Path(__file__).with_name("reads.md")
SCANS = Path(__file__).with_name("memory.md")
README = ROOT / "README.md"
MARKERS = ("<!-- benchmarks: written by `python -m benchmarks --write` -->", "<!-- /benchmarks -->")
QUESTIONS = ("server_cpu", "in_process", "round_trips", "latency", "footprint", "stampede", "memory")
OF_SERVERS = {"server_cpu", "round_trips", "latency", "footprint"}
WITH_BARS = {"server_cpu", "in_process", "round_trips", "stampede"}
TITLES = {variant.key: variant.title for variant in VARIANTS}
TITLES[CONTROL] = f"{TITLES[REFERENCE]}, again (A/A)"


class Run:
    """One run: what is asked of whom, and what was found."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.told = told
        self.options = _options(told)
        self.variants, self.left_out = chosen(told.variants)
        self.asked = set(told.questions or QUESTIONS)
        self.servers = [server for server in told.servers if installed(server)]
        self.measured = bars.Measured()
        self.sections: list[str] = []
        self.mislabelled: list[str] = []
        self.made = machine.circumstances(f"python -m benchmarks {' '.join(told.words)}".strip())

    def report(self) -> str:
        """Measure everything, and return the page."""
        above = [*self._heading(), *self._absences()]
        with prepared(self.told.database, self.options.screenshots) as world:
            above += [f"{world.database}; the page has {len(world.page):,} bytes: `{PAGE}`.", ""]
            self._direct(world)
            self._servers(world)
            self._stores(world)
        judged = ["## The bars", "", *bars.judged(self.measured)] if self.asked & WITH_BARS else []
        return "\n".join([*above, *self.mislabelled, *judged, *self.sections])

    def _heading(self) -> list[str]:
        return ["# What a read costs", "", f"{self.made}.", "", f"{machine.versions()}.", ""]

    def _absences(self) -> list[str]:
        absent = [f"{TITLES[key]}: {reason}" for key, reason in self.left_out.items()]
        absent += [f"{server}: not installed" for server in self.told.servers if server not in self.servers]
        return ["Left out:", "", *(f"- {line}" for line in absent), ""] if absent else []

    def _section(self, title: str, lines: list[str]) -> None:
        print(f"\n## {title}\n", *lines, sep="\n", flush=True)
        self.sections += [f"## {title}", "", *lines]

    def _direct(self, world: World) -> None:
        """Ask what needs no server; keep the SQL for the table of round trips."""
        self.sql: dict[server_cpu.Cell, float] = {}
        if not self.asked & {"in_process", *OF_SERVERS}:
            return
        with called(world, self.variants, "wsgi") as workers:
            self.sql = in_process.statements(workers)
            self.mislabelled = list(map(_mislabelled, in_process.not_passed_by(workers)))
            if "in_process" in self.asked:
                self.measured.direct = in_process.measure(workers, self.options)
                lines = in_process.written(self.measured.direct, TITLES) + in_process.pauses(workers, TITLES)
                self._section("In-process", lines)

    def _servers(self, world: World) -> None:
        for number, server in enumerate(self.servers if self.asked & OF_SERVERS else ()):
            with serving(world, self._under(server), server) as running:
                self._served(server, running, first=number == 0)

    def _under(self, server: str) -> list[Variant]:
        """All variants under granian, whose figures are the ones that count; elsewhere the core of them."""
        return [variant for variant in self.variants if variant.core or server.startswith("granian")]

    def _served(self, server: str, running: dict[str, Running], *, first: bool) -> None:
        title = f"under {server}"
        if "server_cpu" in self.asked:
            rounds = server_cpu.measure(running, self.options)
            self.measured.server = rounds if first else self.measured.server
            self._section(f"CPU of the server, {title}", server_cpu.written(rounds, TITLES))
        if "round_trips" in self.asked and first:
            self.measured.trips = round_trips.measure(running, self.options)
            self._section("Round trips", round_trips.written(self.measured.trips, self.sql, TITLES))
        if "latency" in self.asked:
            found = latency.measure(running, self.options)
            self._section(f"Latency, {title}", latency.written(found, TITLES, self.options))
        if "footprint" in self.asked:
            self._section(
                f"Memory of the server, {title}", footprint.written(footprint.measure(running), TITLES)
            )

    def _stores(self, world: World) -> None:
        if "stampede" in self.asked:
            self.measured.storms = stampede.measure(world, self.variants, self.options)
            self._section("A stampede", stampede.written(self.measured.storms, TITLES, self.options))
        if "memory" in self.asked:
            scans = memory.measure(world, self.variants, self.options)
            self._section("A scan", memory.written(scans, TITLES, self.options))

    def summary(self) -> str:
        """Return what the README shows: the server's CPU beside the bare Django view, and where the rest is."""
        rounds = self.measured.server
        if rounds is None:
            raise SystemExit("--write needs the question server_cpu: the README shows its answer.")
        columns = ["", *(CASES[case] for case in HITS), "Redis trips", "SQL"]
        rows = ([TITLES[key], *self._cells(rounds, key)] for key in [each.key for each in self.variants])
        said = (
            f"Server CPU of one read (50 items), of that of a bare Django view which returns the same bytes; "
            f"{self.made}. {rounds.verdict()} All figures: "
            "[benchmarks/reads.md](benchmarks/reads.md)."
        )
        return "\n".join(["## What a read costs", "", said, "", *self.mislabelled, *table(columns, rows)])

    def _cells(self, rounds: Rounds[server_cpu.Cell], key: str) -> Iterator[str]:
        for case in HITS:
            yield f"{rounds.ratio((key, case)).median:.2f}" if (key, case) in rounds.costs else ""
        trips, sql = self.measured.trips.get((key, "200")), self.sql.get((key, "200"))
        yield "" if trips is None else f"{trips.trips:.0f}"
        yield "" if sql is None else f"{sql:.0f}"


def _mislabelled(cell: server_cpu.Cell) -> str:
    name, case = cell
    return f"**{CASES[case]} of {name} went into Django: the fast path was not taken, its rows do not measure it.**\n"


def _options(told: argparse.Namespace) -> Options:
    options = Options().quick() if told.quick else Options()
    given = {name: getattr(told, name) for name in Options.__slots__ if getattr(told, name, None) is not None}
    return replace(options, **given)


def keep(report: str, summary: str) -> None:
    """Write the page beside the questions, and the summary between its marks in the README."""
    begin, end = MARKERS
    text = README.read_text()
    if begin not in text or end not in text:
        raise SystemExit(f"README.md has no block between {begin} and {end}.")
    block = f"{begin}\n\n{summary}\n{end}"
    README.write_text(re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: block, text, flags=re.S))
    RESULTS.write_text(report.rstrip() + "\n")


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"any of {', '.join(QUESTIONS)}")
    parser.add_argument(
        "--servers", type=_list(list(SERVERS)), default=["granian-wsgi"], help=", ".join(SERVERS)
    )
    keys = [variant.key for variant in VARIANTS]
    parser.add_argument("--variants", type=_list(keys), default=[], help=f"all, or some of {', '.join(keys)}")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument(
        "--rounds", type=int, help=f"rounds in which all take turns (default: {Options().rounds})"
    )
    parser.add_argument("--budget", type=float, help="CPU seconds of one turn")
    parser.add_argument("--requests", type=int, help="of a stampede")
    parser.add_argument("--urls", type=int, help="of a scan")
    parser.add_argument(
        "--quick", action="store_true", help="tiny counts: proves that it works, measures nothing"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="keep the figures: in reads.md and the README, or, of `memory` alone, in memory.md",
    )
    told = parser.parse_args(words)
    unknown = set(told.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    told.words = words
    return told


def _list(known: list[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = known if text == "all" else text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(
                f"no such: {', '.join(sorted(unknown))}; there are {', '.join(known)}"
            )
        return names

    return read


def main(words: list[str]) -> int:
    run = Run(arguments(words))
    report = run.report()
    if run.told.write and run.asked == {"memory"}:  # takes twice as long as all the others: a page of its own
        SCANS.write_text(report.rstrip() + "\n")
    elif run.told.write:
        keep(report, run.summary())
    print("\n# The whole report\n", report, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
