"""One run: servers, writers and readers as processes of their own, faults at random times, journals at the end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from stacks.live import CHECKOUT, Deployments, LiveServer
from stacks.servers import Postgres, Redis

from benchmarks.freshness.journal import clock
from benchmarks.freshness.proxy import Links, Proxy
from benchmarks.freshness.world import SEED, World

__all__ = ["Options", "Process", "Torture"]

STUCK = 10.0
"""Seconds without a finished read or write after which a process counts as stuck."""
START = 40.0
"""Seconds that a process may take to begin, on a busy machine."""
CALM = 3.0
"""Seconds at the end of a run without a fault, in which everything must work again."""


@dataclass(frozen=True)
class Options:
    """What a run is told; the same seed gives the same faults in the same order."""

    seconds: float = 60
    servers: int = 2
    workers: int = 2
    writers: int = 3
    readers: int = 4
    seed: int = 1
    faults: str = "all"
    subject: str = "gallery"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`KEYBITS_*` settings of every process."""


@dataclass
class Process:
    """A reader or a writer, and its journal."""

    name: str
    kind: str
    process: subprocess.Popen[bytes]
    journal: Path
    grown: float
    size: int = 0
    stuck: bool = False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def order(self, word: str) -> None:
        with suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.write(f"{word}\n".encode())
                self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()


class Torture:
    """Everything that runs, and who is who. `redis` and `postgres` only on the server stack."""

    def __init__(self, options: Options, deployments: Deployments) -> None:
        self.options = options
        self.randomly, self._order, self._seeds = (
            random.Random(f"{options.seed} {what}")  # noqa: S311 - not for secrets
            for what in ("faults", "order", "processes")
        )
        self.deployments = deployments
        self.first = deployments.make(self._settings())
        self.servers: list[LiveServer] = [self.first]
        self.redis: Redis | None = self.first.redis
        self.postgres: Postgres | None = deployments.postgres
        self.home = self.first.directory
        self.links = Links()
        self.server_links: list[Proxy] = []
        self.writer_link: Proxy | None = None
        self.processes: list[Process] = []
        self.stuck: list[str] = []
        self.crashed: list[str] = []
        self.happened: list[tuple[str, float, float]] = []
        self.workers_killed: dict[int, float] = {}
        self.counts: Counter[str] = Counter()
        self._watching = threading.Event()
        self._respawn = True
        self._lock = threading.RLock()

    # --- The run --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run for the time that was asked for; afterwards everything has ended but the database servers."""
        try:
            self._start()
            watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
            watcher.start()
            try:
                self._disturb()
            finally:
                self._watching.set()
                watcher.join(20)
                self._stop_processes()
        finally:
            self._stop()

    def _start(self) -> None:
        self._link()
        self.world = World.load(self.first.shell(SEED))
        if self.postgres is not None:
            self._prepare_postgres()
        for number in range(1, self.options.servers):
            home = self.home / f"server-{number}"
            home.mkdir()
            environment = {**self.first.environment, **self._redis_of(number)}
            self.servers.append(LiveServer(home, environment, None))
        for server in self.servers:
            server.start(self.options.workers)
        self.until = clock() + self.options.seconds
        for number in range(self.options.writers):
            self.spawn("writer", relay=number % 2 == 1)
        self.spawn("external")
        for _ in range(self.options.readers):
            self.spawn("reader")

    def _settings(self) -> dict[str, str]:
        chosen = {f"TORTURE_{name}": json.dumps(value) for name, value in self.options.settings.items()}
        return {
            "DJANGO_SETTINGS_MODULE": "benchmarks.freshness.settings",
            "ANON_THROTTLE_RATE": "1000000/s",
            "TORTURE_SUBJECT": self.options.subject,
            **chosen,
        }

    def _link(self) -> None:
        """Give each server and the writers a link to Redis of their own, that can be cut."""
        if self.redis is None:
            return
        self.server_links = [Proxy(self.links, self.redis.port) for _ in range(self.options.servers)]
        self.writer_link = Proxy(self.links, self.redis.port)
        self.first.environment.update(self._redis_of(0))

    def _redis_of(self, number: int) -> dict[str, str]:
        return {"REDIS_URL": _url(self.server_links[number])} if self.server_links else {}

    def _prepare_postgres(self) -> None:
        """Let a COMMIT hang where a writer asks for it: before it is durable, or after, waiting for a replica."""
        with self.database() as connection:
            connection.execute("SET synchronous_commit = 'local'")  # here at once: reloading takes its time
            connection.execute("ALTER SYSTEM SET synchronous_commit = 'local'")
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE TABLE torture_pause (seconds float)")
            connection.execute(
                "CREATE FUNCTION torture_pause() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_sleep(NEW.seconds); RETURN NULL; END $$"
            )
            connection.execute(
                "CREATE CONSTRAINT TRIGGER torture_pause AFTER INSERT ON torture_pause "
                "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION torture_pause()"
            )

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of the tormentor's own."""
        with psycopg.connect(self.first.environment["DATABASE_URL"], autocommit=True) as connection:
            yield connection

    # --- Processes ------------------------------------------------------------------------------------------

    def spawn(
        self, kind: str, *, relay: bool = False, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a `writer`, an `external` writer or a `reader`."""
        with self._lock:
            self.counts[kind] += 1
            name = f"{kind}-{self.counts[kind]}"
            told = {
                "name": name,
                "journal": str(self.home / f"{name}.journal"),
                "world": self.world.dump(),
                "ports": [server.port for server in self.servers],
                "seed": self._seeds.randrange(2**32),
                "until": self.until,
                "relay": relay,
                "subject": self.options.subject,
                "database": self.first.environment["DATABASE_URL"],
            }
            with (self.home / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", f"benchmarks.freshness.{kind}", json.dumps(told)],
                    cwd=CHECKOUT,
                    env={**self._environment(kind), **(environment or {})},
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            one = Process(name, kind, process, Path(told["journal"]), clock())
            self.processes.append(one)
            return one

    def _environment(self, kind: str) -> dict[str, str]:
        environment = dict(self.first.environment)
        if kind == "writer" and self.writer_link is not None:
            environment["REDIS_URL"] = _url(self.writer_link)
        return environment

    def writers(self) -> list[Process]:
        """The writers of the Django kind that write at present."""
        with self._lock:
            return [one for one in self.processes if one.kind == "writer" and one.alive and one.size]

    def _watch(self) -> None:
        """See that each process gets on, and start another for each writer that was killed."""
        while not self._watching.wait(0.2):
            with self._lock:
                for one in list(self.processes):
                    self._look_at(one)

    def _look_at(self, one: Process) -> None:
        if one.kind == "gone":
            return
        if not one.alive:
            self._note_end(one)
            return
        size = one.journal.stat().st_size if one.journal.exists() else 0
        if size > one.size:
            one.size, one.grown = size, clock()
        elif clock() - one.grown > (STUCK if one.size else START) and not one.stuck:
            one.stuck = True
            self.stuck.append(f"{one.name} at {clock():.4f}")

    def _note_end(self, one: Process) -> None:
        kind, one.kind = one.kind, "gone"
        if one.process.returncode not in {0, -9}:
            log = self.home / f"{one.name}.log"
            self.crashed.append(f"{one.name} ended with {one.process.returncode}: {log.read_text()[-2000:]}")
        if self._respawn and clock() < self.until - 2:
            self.spawn(kind)

    def _stop_processes(self) -> None:
        self._respawn = False
        left = [one for one in self.processes if one.alive]
        for one in left:
            one.order("stop")
        deadline = clock() + STUCK
        for one in left:
            one.end(max(0.1, deadline - clock()))
            if one.process.returncode == -9 and not one.stuck:
                self.stuck.append(f"{one.name} did not end")
            elif one.process.returncode not in {0, -9}:
                self._note_end(one)

    def _stop(self) -> None:
        for one in self.processes:
            if one.alive:
                one.kill()
        for server in self.servers[1:]:
            server.stop()
        if self.postgres is not None:
            with suppress(psycopg.Error), self.database() as connection:
                connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
                connection.execute("ALTER SYSTEM RESET synchronous_commit")
                connection.execute("SELECT pg_reload_conf()")
        if self.first.process is not None:
            self.first.stop()
        for proxy in [*self.server_links, *([self.writer_link] if self.writer_link else [])]:
            with suppress(TimeoutError):
                proxy.close()
        self.links.close()

    # --- Faults ---------------------------------------------------------------------------------------------

    def _disturb(self) -> None:
        """Bring about one fault after the other, in random order, until the calm at the end."""
        from benchmarks.freshness.faults import chosen  # noqa: PLC0415 - faults know the run

        faults = chosen(self)
        waiting: list[str] = []
        time.sleep(min(2.0, self.options.seconds / 5))
        while faults and (left := self.until - CALM - clock()) > 0.5:
            if not waiting:
                waiting = sorted(faults)
                self._order.shuffle(waiting)
            name = waiting.pop()
            begun = clock()
            lasting, pause = self._order.uniform(0.2, 3), self._order.uniform(0.1, 0.8)
            if faults[name](self, min(lasting, max(0.2, left - 0.5))):
                self.happened.append((name, begun, clock()))
                time.sleep(pause)
        time.sleep(max(0.0, self.until - clock()))

    def children(self, server: LiveServer) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in server.workers()]


def _url(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"
