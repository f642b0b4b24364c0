"""How the production server runs in a test: real processes, a migrated database and a store of their own."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg

from stacks import installed
from stacks.runs import wait_until_dead
from stacks.servers import Postgres, Redis, reserve_port, start_redis, wait_until_ready

CHECKOUT = Path(__file__).resolve().parents[2]
Interface = Literal["wsgi", "asgi"]
PATIENCE = 30.0
"""Seconds after which something that ought to happen by itself has not."""


class ManagementCommandError(AssertionError):
    """A management command failed; the message holds what it printed."""


class LiveServer:
    """One granian with its workers; `manage`, `shell` and `spawn` are other processes of its deployment."""

    def __init__(self, directory: Path, environment: Mapping[str, str], redis: Redis | None) -> None:
        self.directory = directory
        self.environment = {**os.environ, **installed.environment(), **environment}
        self.redis = redis
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "granian.log"
        self.seeded = ""
        """What the code printed that made the rows of its database."""
        self.client = self._connect()
        self.process: subprocess.Popen[bytes] | None = None
        self._spawned: list[subprocess.Popen[str]] = []
        self._replaces = False  # a worker: granian then no longer ends when it is asked to

    @property
    def beside(self) -> dict[str, str]:
        """The environment of a process of our own beside the deployment: whatever is installed is there for it."""
        return {**self.environment, installed.HIDDEN: ""}

    def start(self, workers: int = 2, interface: Interface = "wsgi") -> None:
        """Start granian and wait until every worker has started, and one of them answers a request."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", str(workers)]
        target = ["--interface", interface, f"gallery_api.{interface}:application"]
        with self.log.open("ab") as log:
            said_before = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "granian", "--respawn-failed-workers", *options, *target],
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until_ready(
            self.process, lambda: self._have_started(workers, said_before) and self._answers(), self.log
        )

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """GET `path`; redirects are not followed. `client` has the other methods."""
        return self.client.get(path, headers=headers)

    def output(self) -> str:
        """Everything that granian and its workers have printed."""
        return self.log.read_text(errors="replace")

    def manage(self, *arguments: str) -> str:
        """Run `manage.py` in another process against the same database and store; return what it printed."""
        done = subprocess.run(
            self._manage(arguments),
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ManagementCommandError(f"manage.py {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def shell(self, code: str) -> str:
        """Run Python in another process of the same deployment, models imported; return what it printed."""
        return self.manage("shell", "--verbosity", "0", "--command", code)

    def spawn(self, code: str) -> subprocess.Popen[str]:
        """As `shell`, but return at once; its pipes are yours, and it ends with the server at the latest."""
        return self._spawn(self._manage(("shell", "--verbosity", "0", "--command", code)))

    def spawn_client(self, code: str) -> subprocess.Popen[str]:
        """As `spawn`, for what knows the server by HTTP alone: plain Python, which starts sooner."""
        return self._spawn([sys.executable, "-c", code])

    def _spawn(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._spawned.append(process)
        return process

    def database(self) -> Any:
        """Return a connection to its database that knows nothing of Django, and is in no transaction."""
        url = self.environment["DATABASE_URL"]
        if url.startswith("sqlite"):
            return sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20, isolation_level=None)
        return psycopg.connect(url, autocommit=True)

    def settle(self) -> None:
        """Return when the record of changes is empty: all that was written has been closed, and purged."""
        deadline = monotonic() + PATIENCE
        with closing(self.database()) as database:
            while database.execute("SELECT count(*) FROM keybits_change").fetchone() != (0,):
                assert monotonic() < deadline, "no relay clears the record"
                sleep(0.05)

    def workers(self) -> list[int]:
        """The process ids of the workers that run now."""
        if self.process is None:
            return []
        children = psutil.Process(self.process.pid).children()
        return [child.pid for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def kill_worker(self) -> int:
        """Kill one worker as a crash would and return its process id once it is gone; granian starts another.

        Not twice within six seconds of the same worker: granian takes that for a crash loop and ends.
        """
        worker = psutil.Process(self.workers()[0])
        worker.kill()
        wait_until_dead([worker])
        self._replaces = True
        self.client.close()  # a connection that was kept open may have been to this worker
        self.client = self._connect()
        return int(worker.pid)

    def stop(self) -> None:
        """End every process of the deployment."""
        self.client.close()
        for writer in self._spawned:
            writer.kill()
            writer.communicate()
        if self.process is not None:
            _end(self.process, patience=0 if self._replaces else 10)
            self.process = None
        if self.redis is not None:
            self.redis.kill()

    def _connect(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def _have_started(self, workers: int, said_before: int) -> bool:
        """Say whether granian has said it of each: until then, nobody listens but those who have."""
        said = self.log.read_bytes()[said_before:]
        return all(b"Started worker-%d" % (number + 1) in said for number in range(workers))

    def _answers(self) -> bool:
        try:
            self.client.get("/is-anybody-there")
        except httpx.TransportError:
            return False
        return True

    def _manage(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, str(CHECKOUT / "manage.py"), *arguments]


class Deployments:
    """Makes a `LiveServer` over a fresh copy of a database that is migrated, and filled by each seed, once."""

    def __init__(self, directory: Path, postgres: Postgres | None) -> None:
        self.directory = directory
        self.postgres = postgres
        self._count = 0
        self._templates: dict[str, LiveServer] = {}

    def make(self, environment: Mapping[str, str], seed: str = "") -> LiveServer:
        """Return a deployment that is not started yet, with `environment` over the stack's own.

        Its database has the rows that `seed` makes, but no files; `live.seeded` is what that printed.
        """
        template = self._template(seed)
        self._count += 1
        name = f"live_{self._count}"
        home = self._home(name)
        self._copy(template, name)
        redis = start_redis(home / "redis") if self.postgres is not None else None
        live = LiveServer(home, {**self._environment(name, redis), **environment}, redis)
        live.seeded = template.seeded
        return live

    @contextmanager
    def seeded(self, code: str, environment: Mapping[str, str] | None = None) -> Iterator[LiveServer]:
        """Serve from one worker, with the rows that `code` makes: for tests that share a deployment."""
        live = self.make(environment or {})
        try:
            live.start(workers=1)
            live.shell(code)
            yield live
        finally:
            self.discard(live)

    def discard(self, live: LiveServer) -> None:
        """Stop the deployment and drop its database."""
        live.stop()
        if self.postgres is not None:
            self.postgres.heal()
            self.postgres.execute(f'DROP DATABASE "{live.directory.name}" WITH (FORCE)')
        shutil.rmtree(live.directory, ignore_errors=True)

    def _environment(self, name: str, redis: Redis | None) -> dict[str, str]:
        home = self.directory / name
        if self.postgres is None:
            return {"VAR_DIR": str(home), "DATABASE_URL": f"sqlite:///{home / 'gallery.sqlite3'}"}
        environment = {"VAR_DIR": str(home), "DATABASE_URL": self.postgres.database_url(name)}
        return environment | ({"REDIS_URL": redis.url} if redis is not None else {})

    def _template(self, seed: str) -> LiveServer:
        if seed not in self._templates:
            self._templates[seed] = self._filled(seed) if seed else self._migrated()
        return self._templates[seed]

    def _migrated(self) -> LiveServer:
        if self.postgres is not None:
            self.postgres.execute("DROP DATABASE IF EXISTS template")
            self.postgres.execute("CREATE DATABASE template")
        template = LiveServer(self._home("template"), self._environment("template", None), None)
        template.manage("migrate", "--verbosity", "0")
        return template

    def _filled(self, seed: str) -> LiveServer:
        name = f"template_{len(self._templates)}"
        template = LiveServer(self._home(name), self._environment(name, None), None)
        self._copy(self._template(""), name)
        template.seeded = template.shell(seed).strip()
        return template

    def _home(self, name: str) -> Path:
        home = self.directory / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _copy(self, template: LiveServer, name: str) -> None:
        if self.postgres is not None:
            self.postgres.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template.directory.name}"')
            return
        present, copy = (home / "gallery.sqlite3" for home in (template.directory, self.directory / name))
        with closing(sqlite3.connect(present)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)


def _end(process: subprocess.Popen[Any], patience: float) -> None:
    """Ask a process to end; after so many seconds, or if it leaves workers behind, kill its whole group."""
    main = psutil.Process(process.pid)
    family = [main, *main.children(recursive=True)] if process.poll() is None else []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_dead(family)
