"""The other end of a worker: orders to a process that calls an application without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.cases import WrongAnswerError
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
    right: dict[str, list[Any]] = field(default_factory=dict)

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
        found = self.order("learn", self.deployment.environment["BENCHMARK_PAGE"])
        for case in self.variant.cases:
            tag = [f"etag: {found['etag']}"] if found["etag"] and case != "miss" else []
            mark = self.variant.mark(case).decode()
            status, length = {"304": (304, 0), "miss": (200, found["missed"])}.get(
                case, (200, found["length"])
            )
            self.right[case] = [status, length, [*tag, *([mark] if mark else [])]]

    def microseconds(self, case: str, count: int) -> float:
        return float(self.order("time", case, count, self.right[case])["microseconds"])

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
