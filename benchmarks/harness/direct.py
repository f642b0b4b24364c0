"""The other end of a worker: orders to a process that calls an application without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.cases import Expected, WrongAnswerError, right
from benchmarks.harness.rounds import CONTROL
from benchmarks.harness.variants import REFERENCE, Variant
from benchmarks.harness.world import ROOT, Deployment, World

__all__ = ["Direct", "called"]


@dataclass
class Direct:
    """One variant's application in a process of its own."""

    variant: Variant
    deployment: Deployment
    process: subprocess.Popen[str] = field(init=False)
    expected: dict[str, Expected] = field(default_factory=dict)

    def start(self, interface: str) -> None:
        used, target = self.variant.target(interface)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.worker", used, target],
            cwd=ROOT,
            env=self.deployment.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, name: str, *arguments: Any) -> Any:
        """Have the worker do something, and return what came of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WrongAnswerError(f"{self.variant.key}: the worker ended; its error is above")
        found = json.loads(line)
        if isinstance(found, dict) and "wrong" in found:
            raise WrongAnswerError(found["wrong"])
        return found

    def learn(self) -> None:
        """Find out what the right answers are, and that they show the page."""
        page, cases = self.deployment.environment["BENCHMARK_PAGE"], self.variant.cases
        for case, (length, etag) in self.order("learn", page, cases).items():
            self.expected[case] = right(case, length, etag, self.variant.mark(case))

    def microseconds(self, case: str, count: int) -> float:
        found = self.expected[case]
        needles = [needle.decode() for needle in found.needles]
        answered = self.order("time", case, count, [found.status, found.length, needles])
        return float(answered["microseconds"])

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def called(world: World, variants: list[Variant], interface: str) -> Iterator[dict[str, Direct]]:
    """Have a worker for every variant, and a second one for the reference."""
    names = {variant.key: variant for variant in variants}
    names[CONTROL] = names[REFERENCE]
    workers = {
        name: Direct(variant, world.deployment(variant, f"direct-{name}")) for name, variant in names.items()
    }
    try:
        for worker in workers.values():
            worker.start(interface)
        for worker in workers.values():
            worker.read()
            worker.learn()
        yield workers
    finally:
        for worker in workers.values():
            worker.end()
