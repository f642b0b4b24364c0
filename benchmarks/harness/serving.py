"""How each server product is started, with one worker and one thread, and what its answers must look like."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec

from benchmarks.harness.cases import (
    PAGE,
    Expected,
    WrongAnswerError,
    address,
    etag_of,
    fields,
    numbers,
    right,
    same_page,
)
from benchmarks.harness.client import Connection, Load, request
from benchmarks.harness.processes import cpu
from benchmarks.harness.rounds import CONTROL
from benchmarks.harness.variants import REFERENCE, Variant
from benchmarks.harness.world import ROOT, Deployment, World

from stacks.servers import Server  # isort: skip  # found by way of the world

__all__ = ["SERVERS", "Running", "application_server", "installed", "serving"]

GRANIAN = ["granian", "--workers", "1", "--runtime-threads", "1", "--no-log", "--host", "127.0.0.1"]
SERVERS = {"granian-wsgi": "wsgi", "granian-asgi": "asgi", "gunicorn": "wsgi", "uvicorn": "asgi"}


def _granian(interface: str, target: str, port: int) -> list[str]:
    threads = ["--blocking-threads", "1"] if interface == "wsgi" else []
    return [*GRANIAN, *threads, "--interface", interface, "--port", str(port), target]


def _gunicorn(interface: str, target: str, port: int) -> list[str]:
    """One thread; of its own workers only this one keeps connections open."""
    worker = ["--workers", "1", "--worker-class", "gthread", "--threads", "1", "--keep-alive", "120"]
    return ["gunicorn", *worker, "--log-level", "error", "--bind", f"127.0.0.1:{port}", target]


def _uvicorn(interface: str, target: str, port: int) -> list[str]:
    quiet = ["--log-level", "error", "--no-access-log", "--lifespan", "off"]
    return ["uvicorn", *quiet, "--timeout-keep-alive", "120", "--port", str(port), target]


COMMANDS: dict[tuple[str, str], Callable[[str, str, int], list[str]]] = {
    ("gunicorn", "wsgi"): _gunicorn,
    ("uvicorn", "asgi"): _uvicorn,
}


def installed(server: str) -> bool:
    return find_spec(server.partition("-")[0]) is not None


class ApplicationServer(Server):
    """One server with one application; its port answers once it is ready."""

    stop_signal = signal.SIGTERM

    def __init__(self, deployment: Deployment, command: Callable[[int], list[str]]) -> None:
        super().__init__(deployment.directory)
        self.environment = deployment.environment
        self._start_options = {"cwd": ROOT, "env": deployment.environment}
        self._command = command

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PAGE}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", *self._command(self.port)]

    def ready(self) -> bool:
        try:
            link = Connection(self.port)
            link.ask(request(PAGE))
            link.close()
        except OSError:
            return False
        return True


def application_server(deployment: Deployment, variant: Variant, server: str) -> ApplicationServer:
    """Return the server, not yet started. Where it lacks the variant's interface, granian has it."""
    interface, target = variant.target(SERVERS[server])
    command = COMMANDS.get((server, interface), _granian)
    return ApplicationServer(deployment, partial(command, interface, target))


@dataclass
class Running:
    """A variant that is being served, and what each case of it is answered with."""

    variant: Variant
    deployment: Deployment
    server: ApplicationServer
    expected: dict[str, Expected] = field(default_factory=dict)
    etag: str = ""
    fresh: Iterator[int] = field(default_factory=numbers)

    @property
    def port(self) -> int:
        return self.server.port

    def cpu(self) -> float:
        return cpu(self.server.pid)

    def learn(self, page: bytes) -> None:
        """Find out what the right answers are, and that they show the page: byte for byte, but for a miss's links."""
        link = Connection(self.port)
        link.ask(request(PAGE))
        head, body = link.ask(request(PAGE))
        if body != page:
            raise WrongAnswerError(
                f"{self.variant.key} serves other bytes: {body[:300]!r} not {page[:300]!r}"
            )
        self.etag = etag_of(head)
        self.expected = {case: self._right(link, case, page) for case in self.variant.cases}
        link.close()

    def _right(self, link: Connection, case: str, page: bytes) -> Expected:
        make = self.requests(case)
        link.ask(make())
        head, body = link.ask(make())
        same_page(case, head, body, page)
        etag = etag_of(head) if case == "coded" else self.etag
        return right(case, len(body), etag, self.variant.mark(case))

    def requests(self, case: str) -> Callable[[], bytes]:
        """Return what makes one request after the other."""
        if case == "miss":
            return lambda: request(address(next(self.fresh)))
        always = request(PAGE, fields(case, self.etag))
        return lambda: always

    def load(self, case: str, connections: int) -> Load:
        return Load(self.port, self.requests(case), self.expected[case], connections)


@contextmanager
def serving(world: World, variants: list[Variant], server: str) -> Iterator[dict[str, Running]]:
    """Serve all variants at once, the reference a second time by a process of its own."""
    names = {variant.key: variant for variant in variants}
    names[CONTROL] = names[REFERENCE]
    running = {name: _set_up(world, variant, server, name) for name, variant in names.items()}
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: one.server.start(), running.values()))
        for one in running.values():
            one.learn(world.page)
        yield running
    finally:
        for one in running.values():
            one.server.kill()


def _set_up(world: World, variant: Variant, server: str, name: str) -> Running:
    deployment = world.deployment(variant, f"{server}-{name}")
    return Running(variant, deployment, application_server(deployment, variant, server))
