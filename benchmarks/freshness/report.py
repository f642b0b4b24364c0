"""The figures of a run, for people; and where they are kept."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
import sys
from collections import Counter, defaultdict
from pathlib import Path

import django

from benchmarks.freshness.oracle import History, Verdict
from benchmarks.freshness.run import Torture

__all__ = ["failures", "keep", "written"]

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = """# Freshness under faults

Written by `python -m benchmarks.freshness --write`; the words are explained in that package's modules.
"""
SHOWN = 12
LONGEST = 200
SLACK = 0.25
"""Seconds that a busy machine may take beyond the documented bound, between a moment and its being noticed."""


def failures(run: Torture, verdict: Verdict) -> dict[str, list[str]]:
    """Return everything that must not have happened, by its name."""
    return {
        "stale reads": verdict.stale,
        "reads gone back": verdict.back,
        "what nobody committed": verdict.phantoms,
        "wrong answers": verdict.wrong,
        "errors (neither 200 nor 304)": verdict.errors,
        "stuck": run.stuck,
        "crashed": run.crashed,
        "later than the bound": list(_late(run, verdict)),
    }


def _late(run: Torture, verdict: Verdict) -> list[str]:
    bound = run.options.settings.get("KEYBITS_RELAY_BOUND", 1.0)
    interval = run.options.settings.get("KEYBITS_RELAY_INTERVAL", 0.1)
    allowed = bound + interval + SLACK
    return [
        f"{kind}: {seconds:.3f} s: {trace}"
        for kind, (seconds, trace) in verdict.worst.items()
        if seconds > allowed
    ]


def written(stack: str, run: Torture, history: History, verdict: Verdict) -> tuple[str, bool]:
    """Return the figures, and whether nothing failed."""
    failed = failures(run, verdict)
    lines = [_circumstances(stack, run), "", "| figure | |", "| --- | --: |"]
    lines += [f"| {name} | {value:,} |" for name, value in _counts(run, verdict).items()]
    lines += [f"| **{name}** | **{len(found):,}** |" for name, found in failed.items()]
    for kind in ("external", "recorded"):
        seconds, _ = verdict.worst.get(kind, (0.0, ""))
        lines.append(f"| worst staleness of {kind} writes, ms | {seconds * 1000:,.0f} |")
    lines += ["", *_faults(run, history)]
    for name, found in failed.items():
        lines += ["", f"{name}:", "", *(f"- `{trace[:LONGEST]}`" for trace in found[:SHOWN])] if found else []
    return "\n".join(lines) + "\n", not any(failed.values())


def _circumstances(stack: str, run: Torture) -> str:
    cores, model = os.cpu_count(), _model()
    options = run.options
    command = (
        f"python -m benchmarks.freshness --stack {stack} --seconds {options.seconds:g} --servers {options.servers} "
        f"--writers {options.writers} --readers {options.readers} --seed {options.seed} --faults {options.faults} "
        f"--subject {options.subject}"
    )
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{cores} cores of {model}; Python {platform.python_version()}, Django {django.__version__}; {today}; "
        f"`{command}`"
    )


def _model() -> str:
    found = (
        re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if sys.platform == "linux"
        else None
    )
    return found[1].strip() if found else platform.processor()


def _counts(run: Torture, verdict: Verdict) -> dict[str, int]:
    names = {
        "reads": "reads",
        "cache hit": "hits",
        "status 304": "304s",
        "cache stale": "misses, entry no longer true",
        "cache uri-miss": "misses, no entry",
        "cache bypass": "reads without the cache",
        "reads without an answer": "reads that a killed server did not answer",
        "versions seen": "versions compared",
        "writes: ack": "writes acknowledged",
        "writes: abort": "writes rolled back",
        "writes: error": "writes that raised an error",
        "writes: recorded": "writes left to the relay, the store out of reach before COMMIT",
        "writes: unclosed": "writes left to the relay, the store out of reach after COMMIT",
    }
    counts = {shown: verdict.counts[name] for name, shown in names.items()}
    return counts | {"faults": len(run.happened)}


def _faults(run: Torture, history: History) -> list[str]:
    """A row for each kind of fault: how often, and how the time during it and just after it was."""
    if not run.happened:
        return []
    kinds = Counter(name for name, _, _ in run.happened)
    fresh = _times_to_fresh(history)
    lines = [
        "| fault | times | acknowledged to fresh, ms: median | worst | slowest write, ms | slowest read, ms "
        "| cached again after, ms |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    ends = [*(begun for _, begun, _ in run.happened[1:]), run.until][: len(run.happened)]
    spans: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for (name, begun, ended), following in zip(run.happened, ends, strict=True):
        spans[name].append((begun, ended, max(following, ended)))
    for name in sorted(kinds):
        times = [s for begun, _, last in spans[name] for acked, s in fresh if begun <= acked < last]
        writes = [
            version.acked - version.begun
            for version in history.writes
            if version.how != "slow" and any(b <= version.begun < e for b, _, e in spans[name])
        ]
        writes = [seconds for seconds in writes if seconds < 1e6]
        reads = [r.ended - r.begun for r in history.reads if any(b <= r.begun < e for b, _, e in spans[name])]
        hits = (_until_hit(history, ended) for _, ended, _ in spans[name])
        again = [seconds for seconds in hits if seconds is not None]  # none yet, where the run ended first
        cells = [
            statistics.median(times) if times else None,
            max(times, default=None),
            max(writes, default=None),
            max(reads, default=None),
            max(again, default=None),
        ]
        lines.append(f"| {name} | {kinds[name]} | " + " | ".join(_ms(cell) for cell in cells) + " |")
    return lines


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f}"


def _times_to_fresh(history: History) -> list[tuple[float, float]]:
    """Return for each acknowledged write the time of its acknowledgement and the seconds to the end of the first
    read that started afterwards and showed it."""
    seen: defaultdict[object, list[tuple[float, float, int]]] = defaultdict(list)
    for read in history.reads:
        for item in read.items:
            seen[item[0], "title"].append((read.begun, read.ended, item[1]))
    found = []
    for (row, name), one in history.fields.items():
        if name != "title":
            continue
        looks = sorted(seen[row, name])
        place = 0
        for acked, number in sorted((v.acked, v.number) for v in one.firm() if 0 < v.acked < 1e9):
            while place < len(looks) and looks[place][0] < acked:
                place += 1
            first = next((end for _, end, shown in looks[place:] if shown >= number), None)
            if first is not None:
                found.append((acked, first - acked))
    return sorted(found)


def _until_hit(history: History, moment: float) -> float | None:
    hits = (read.ended for read in history.reads if read.begun >= moment and read.cache == "hit")
    first = next(hits, None)
    return None if first is None else first - moment


def keep(stack: str, subject: str, text: str) -> None:
    """Put the figures in the place of those of the last run on the same stack."""
    title = f"## {subject}, {stack}"
    old = RESULTS.read_text() if RESULTS.exists() else HEADING
    head, *sections = re.split(r"^(?=## )", old, flags=re.M)
    others = [section for section in sections if not section.startswith(f"{title}\n")]
    parts = [head.rstrip(), *(section.rstrip() for section in sorted([*others, f"{title}\n\n{text}"]))]
    RESULTS.write_text("\n\n".join(parts) + "\n")
