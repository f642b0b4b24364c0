"""Judges a run by its journals: what was acknowledged, what was seen, and whether the one follows the other.

A read is judged by the moment it *started*. The write that is the newest acknowledged by then, or a later one, is
what it must show. A write that was killed or raised an error may have happened or not, until somebody has seen it.

Two kinds of writes have a bound instead of a guarantee, and are measured: those of *external* writers, and those
that Django *recorded* for the relay because it could not reach the store (`KEYBITS_WRITE_POLICY` = `record`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.freshness.journal import events
from benchmarks.freshness.world import BITS, World, bit

__all__ = ["History", "Read", "Verdict", "Version"]

Key = tuple[Any, str]
"""A screenshot's id or a gallery's slug, and a field."""


@dataclass
class Version:
    """One attempt to write one version of one field of one row."""

    number: int
    author: str
    gallery: str
    how: str
    begun: float
    acked: float = math.inf
    aborted: bool = False
    external: bool = False
    recorded: bool = False

    @property
    def bounded(self) -> bool:
        return self.external or self.recorded


@dataclass
class Read:
    """One answer, and what it showed."""

    client: str
    path: str
    begun: float
    ended: float
    status: int
    cache: str
    port: int
    items: list[list[Any]]
    condition: str = ""
    why: str = ""


@dataclass
class Verdict:
    """What a run came to. Everything in `faults` but the counts must be empty."""

    counts: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Seconds for which a bounded write stayed unseen, at worst, by its kind; and the trace."""

    def measured(self, kind: str, seconds: float, trace: str) -> None:
        if seconds > self.worst.get(kind, (0.0, ""))[0]:
            self.worst[kind] = (seconds, trace)


class Floor:
    """The newest version that must be shown, as time goes on."""

    def __init__(self, steps: Iterable[tuple[float, int, str]]) -> None:
        self.times: list[float] = []
        self.steps: list[tuple[int, str]] = []
        for time, number, why in sorted(steps):
            if not self.steps or number > self.steps[-1][0]:
                self.times.append(time)
                self.steps.append((number, f"{why} at {time:.4f}"))

    def at(self, time: float) -> tuple[int, str]:
        place = bisect_left(self.times, time)
        return self.steps[place - 1] if place else (0, "the beginning")


class Field:
    """All versions of one field of one row."""

    def __init__(self, gallery: str) -> None:
        first = Version(0, "-", gallery, "seed", -math.inf, -math.inf)
        self.attempts: defaultdict[int, list[Version]] = defaultdict(list, {0: [first]})
        self.unknown: list[Version] = []
        self.seen: dict[int, tuple[float, str]] = {}

    def add(self, version: Version) -> None:
        if version.number < 0:
            self.unknown.append(version)
        else:
            self.attempts[version.number].append(version)

    def see(self, number: int, time: float, client: str) -> None:
        if time < self.seen.get(number, (math.inf, ""))[0]:
            self.seen[number] = (time, client)

    def settle(self) -> None:
        """Work out the floors once all is known."""
        self.numbers = sorted(self.attempts)
        self.begun = sorted(
            (version.begun, number)
            for number in self.numbers
            for version in self.attempts[number]
            if not version.aborted
        )
        self.highest: list[int] = []
        for _, number in self.begun:
            self.highest.append(max(number, self.highest[-1] if self.highest else 0))
        acks = [
            (v.acked, v.number, f"{v.how} {v.author} acknowledged") for v in self.firm() if v.acked < math.inf
        ]
        seen = [
            (time, number, f"seen by {client}")
            for number, (time, client) in self.seen.items()
            if not self.is_bounded(number)
        ]
        self.acknowledged, self.known = Floor(acks), Floor(acks + seen)
        self.loose = sorted(number for number in self.numbers if self.is_bounded(number))

    def firm(self) -> Iterator[Version]:
        return (
            v for number in self.numbers for v in self.attempts[number] if not v.bounded and not v.aborted
        )

    def happened(self, number: int) -> Version | None:
        """Return the attempt that became this version: the acknowledged one, else the last that may have."""
        possible = [version for version in self.attempts.get(number, ()) if not version.aborted]
        return next((v for v in possible if v.acked < math.inf), possible[-1] if possible else None)

    def is_bounded(self, number: int) -> bool:
        version = self.happened(number)
        if version is None:
            return any(unknown.bounded for unknown in self.unknown)
        return version.bounded

    def most(self, time: float) -> int:
        """Return the highest version that can have been committed by `time`."""
        place = bisect_left(self.begun, (time, -1))
        known = self.highest[place - 1] if place else 0
        return known + sum(version.begun < time for version in self.unknown)

    def possible(self, begun: float, ended: float) -> Iterator[Version]:
        """Yield what a read may show at all, by the floor and by what had been tried when it ended."""
        low, high = self.known.at(begun)[0], self.most(ended)
        for number in self.numbers[bisect_left(self.numbers, low) : bisect_right(self.numbers, high)]:
            yield from (v for v in self.attempts[number] if not v.aborted and v.begun < ended)


class History:
    """Everything that happened, read from the journals of one run."""

    def __init__(self, world: World, journals: Iterable[Path]) -> None:
        self.rows = {row for row, _ in world.rows}
        homes: dict[Any, str] = dict(world.rows)
        self.fields: defaultdict[Key, Field] = defaultdict(lambda: Field(""))
        for row, slug in homes.items():
            self.fields[row, "title"] = Field(slug)
        self.authors: dict[str, dict[Key, Version]] = defaultdict(dict)
        self.reads: list[Read] = []
        self.writes: list[Version] = []
        self.lost: list[dict[str, Any]] = []
        self.verdict = Verdict()
        for journal in sorted(journals):
            self._load(journal)
        self.reads.sort(key=lambda read: read.begun)
        for read in self.reads:
            for key, number, _ in _observed(read.items):
                self.fields[key].see(number, read.ended, read.client)
        for one in self.fields.values():
            one.settle()

    # --- Reading the journals -------------------------------------------------------------------------------

    def _load(self, journal: Path) -> None:
        bodies: dict[int, list[list[Any]]] = {}
        tries: dict[int, list[tuple[Key, Version]]] = {}
        external = journal.name.startswith("external")
        for event in events(journal):
            match event["e"]:
                case "body":
                    bodies[event["b"]] = event["i"]
                case "read":
                    self._load_read(journal.stem, event, bodies)
                case "try":
                    tries[event["n"]] = list(_versions(event, external))
                case "lost":
                    self._load_lost(event)
                case "wrong":
                    self.verdict.wrong.append(f"{journal.stem}: {event['u']}: {event['why']}")
                case other:
                    self._load_outcome(other, event, tries.get(event.get("n", 0), []))
        for key, version in (one for several in tries.values() for one in several):
            self.fields[key].add(version)
            self.authors[version.author][key] = version
        self.writes += [several[0][1] for several in tries.values() if several]

    def _load_read(self, client: str, event: dict[str, Any], bodies: dict[int, list[list[Any]]]) -> None:
        times = event["t0"], event["t1"]
        items = bodies.get(event["b"], [])
        rest = event["s"], event["c"], event["p"], items, event["if"], event.get("why", "")
        self.reads.append(Read(client, event["u"], *times, *rest))

    def _load_lost(self, event: dict[str, Any]) -> None:
        self.lost.append(event)
        self.verdict.counts["reads without an answer"] += 1

    def _load_outcome(self, outcome: str, event: dict[str, Any], versions: list[tuple[Key, Version]]) -> None:
        self.verdict.counts[f"writes: {outcome}"] += 1
        for _, version in versions:
            if outcome == "ack":
                version.acked = event["t"]
            elif outcome == "abort":
                version.aborted = True
            elif outcome == "recorded":
                version.recorded = True
            elif outcome == "known":
                version.number = event["v"]

    # --- Judging --------------------------------------------------------------------------------------------

    def judge(self) -> Verdict:
        """Judge every read."""
        mine: dict[tuple[str, Key], tuple[int, float]] = {}
        for read in self.reads:
            self._count(read)
            for key, number, author in _observed(read.items):
                self._judge_version(read, key, number, author)
                self._judge_order(read, key, number, mine)
            if read.status in {200, 304}:
                self._judge_members(read)
        return self.verdict

    def _count(self, read: Read) -> None:
        counts = self.verdict.counts
        counts["reads"] += 1
        counts[f"status {read.status}"] += 1
        counts[f"cache {read.cache.split(';')[0].removeprefix('fwd=') or 'none'}"] += 1
        if read.status not in {200, 304}:
            self.verdict.errors.append(f"{read.status} {_trace(read)} {read.why}")

    def _judge_version(self, read: Read, key: Key, number: int, author: str) -> None:
        one = self.fields[key]
        self.verdict.counts["versions seen"] += 1
        if number > one.most(read.ended) or (author and not self._was_written(key, number, author)):
            self.verdict.phantoms.append(f"{key} at {number} by {author!r}: {_trace(read)}")
            return
        floor, why = one.known.at(read.begun)
        if number < floor:
            acknowledged = number < one.acknowledged.at(read.begun)[0]
            kind = "acknowledged" if acknowledged else "seen before"
            self.verdict.stale.append(f"{kind}: {key} is at {number}, not {floor} ({why}): {_trace(read)}")
        for later in one.loose[bisect_right(one.loose, number) :][:4]:
            version = one.happened(later)
            since = min(version.acked, one.seen.get(later, (math.inf, ""))[0]) if version else math.inf
            if version is not None and since < read.begun:
                kind = "external" if version.external else "recorded"
                trace = f"{key} is at {number}, not {later} ({version.how} at {since:.4f}): {_trace(read)}"
                self.verdict.measured(kind, read.begun - since, trace)

    def _was_written(self, key: Key, number: int, author: str) -> bool:
        if author == "-":
            return number == 0
        version = self.authors.get(author, {}).get(key)
        return version is not None and version.number == number and not version.aborted

    def _judge_order(
        self, read: Read, key: Key, number: int, mine: dict[tuple[str, Key], tuple[int, float]]
    ) -> None:
        before, when = mine.get((read.client, key), (0, 0.0))
        if number >= before:
            mine[read.client, key] = number, read.ended
            return
        one = self.fields[key]
        if any(not one.is_bounded(version) for version in range(number + 1, before + 1)):
            self.verdict.back.append(f"{key} went from {before} ({when:.4f}) to {number}: {_trace(read)}")

    def _judge_members(self, read: Read) -> None:
        """A list holds what belongs to it, and nothing that does not; a count counts what belongs."""
        gallery, place = _place(read.path)
        if gallery is None and place is None and not _is_whole(read.path):
            return
        here = {item[0] for item in read.items}
        certain, possible = set(), set()
        for row in self.rows:
            belongs = {self._belongs(version, gallery, place) for version in self._versions(row, place, read)}
            if True in belongs:
                possible.add(row)
                if False not in belongs:
                    certain.add(row)
        if gallery is not None and read.items and read.items[0][0] == gallery:  # its own page
            if not len(certain) <= read.items[0][3] <= len(possible):
                self.verdict.stale.append(
                    f"count: {read.items[0][3]} is not {len(certain)} to {len(possible)}: {_trace(read)}"
                )
        elif not certain <= here <= possible:
            wrong = f"lacks {sorted(certain - here)}, has {sorted(here - possible)}"
            self.verdict.stale.append(f"members: {wrong}: {_trace(read)}")

    def _versions(self, row: int, place: int | None, read: Read) -> Iterator[Version]:
        name = "title" if place is None else "tags"
        return self.fields[row, name].possible(read.begun, read.ended)

    @staticmethod
    def _belongs(version: Version, gallery: str | None, place: int | None) -> bool:
        if place is not None:
            return bit(version.number, place)
        return gallery is None or version.gallery == gallery


def _versions(event: dict[str, Any], external: bool) -> Iterator[tuple[Key, Version]]:
    for row, name, number, author, gallery in event["w"]:
        version = Version(number, author, gallery, event["how"], event["t"], external=external)
        yield (row, name), version


def _observed(items: list[list[Any]]) -> Iterator[tuple[Key, int, str]]:
    """Yield each version in a body."""
    for item in items:
        yield (item[0], "title"), item[1], item[2]
        if len(item) == 6:
            yield (item[0], "tags"), item[3], ""
            yield (item[0], "position"), item[4], ""


def _place(path: str) -> tuple[str | None, int | None]:
    """Return the gallery or the place of the tag that an address names."""
    parts = urlsplit(path)
    query = parse_qs(parts.query)
    kind, _, rest = parts.path.removeprefix("/api/v1/").partition("/")
    name = rest.split("/")[0]
    if kind == "galleries" and name:
        return name, None
    tag = name if kind == "tags" else query.get("tag", [""])[0]
    return None, int(tag[1:]) if tag[1:].isdigit() and int(tag[1:]) < BITS else None


def _is_whole(path: str) -> bool:
    return path.endswith("/screenshots/?page_size=max")


def _trace(read: Read) -> str:
    answer = f"{read.status} {read.cache} :{read.port} {read.condition}".rstrip()
    return f"{read.client} {read.begun:.4f}-{read.ended:.4f} {read.path} [{answer}]"
