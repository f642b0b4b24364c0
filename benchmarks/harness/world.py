"""The data that everybody serves: seeded once, copied for each, with the page's bytes as the catalogue makes them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from stacks import runs  # noqa: E402
from stacks.servers import Postgres, Redis, start_postgres, start_redis  # noqa: E402

from benchmarks.harness.cases import PAGE  # noqa: E402
from benchmarks.harness.variants import Variant  # noqa: E402

__all__ = ["ROOT", "Deployment", "World", "prepared"]

GALLERIES, TAGS = 50, 30
DATABASES = ("sqlite", "postgresql")
BUSY = {"ANON_THROTTLE_RATE": "100000000/min", "KEYBITS_AUDIT": "off", "LOG_LEVEL": "ERROR"}
RENDER = """
from pathlib import Path
from catalog.models import Screenshot
from django.test import Client
Screenshot.objects.update(alt="", placeholder="")
response = Client(headers={"host": "127.0.0.1"}).get(PAGE)
assert response.status_code == 200, response.content
Path(KEPT).write_bytes(response.content)
"""
"""The page is to have some 15 KB: without the longest two of its fields, which nothing else reads."""


@dataclass
class Deployment:
    """What one variant runs on: a directory, a database and a Redis of its own, and the environment that says so."""

    directory: Path
    environment: dict[str, str]
    redis: Redis | None


@dataclass
class World:
    """Makes deployments, all with the same rows."""

    directory: Path
    postgres: Postgres | None
    page: bytes = b""
    _made: dict[str, Deployment] = field(default_factory=dict)

    @property
    def database(self) -> str:
        return "SQLite" if self.postgres is None else "PostgreSQL"

    def seed(self, screenshots: int) -> None:
        """Fill the template, and have the catalogue render the page from it."""
        if self.postgres is not None:
            self.postgres.execute("CREATE DATABASE template")
        home = self.home("template")
        environment = self.environment("template", {})
        numbers = {"screenshots": screenshots, "galleries": GALLERIES, "tags": TAGS}
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "seed", "--quiet", *(f"--{name}={value}" for name, value in numbers.items()))
        manage(
            environment,
            "shell",
            "--verbosity",
            "0",
            "--command",
            f"KEPT, PAGE = {str(home / 'page')!r}, {PAGE!r}\n{RENDER}",
        )
        self.page = (home / "page").read_bytes()

    def home(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(exist_ok=True)
        return path

    def environment(self, name: str, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process that serves the database of this name."""
        home = self.directory / name
        url = f"sqlite:///{home / 'gallery.sqlite3'}"
        if self.postgres is not None:
            url = self.postgres.database_url(name)
        page = str(self.directory / "template" / "page")
        own = {"VAR_DIR": str(home), "DATABASE_URL": url, "BENCHMARK_PAGE": page, "PYTHONPATH": str(ROOT)}
        inherited = {key: value for key, value in os.environ.items() if key != "REDIS_URL"}
        return {**inherited, **BUSY, **own, **more}

    def deployment(self, variant: Variant, use: str) -> Deployment:
        """Return what `variant` runs on, for one `use` of it: two uses share nothing."""
        name = f"{variant.key}-{use}".replace("-", "_")
        if name not in self._made:
            self._made[name] = self._deploy(name, variant)
        return self._made[name]

    def _deploy(self, name: str, variant: Variant) -> Deployment:
        home = self.home(name)
        self._copy(name)
        redis = start_redis(home / "redis") if variant.redis else None
        reached = {"REDIS_URL": redis.local_url if variant.local else redis.url} if redis else {}
        return Deployment(home, self.environment(name, {**variant.environment, **reached}), redis)

    def _copy(self, name: str) -> None:
        if self.postgres is not None:
            self.postgres.execute(f'CREATE DATABASE "{name}" TEMPLATE template')
            return
        files = (self.directory / each / "gallery.sqlite3" for each in ("template", name))
        template, copy = map(sqlite3.connect, files)
        with closing(template), closing(copy):
            template.backup(copy)

    def end(self) -> None:
        servers = [made.redis for made in self._made.values()] + [self.postgres]
        for server in filter(None, servers):
            with suppress(OSError):
                server.kill()


def manage(environment: Mapping[str, str], *arguments: str) -> None:
    """Run `manage.py` of the gallery."""
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdin=subprocess.DEVNULL)


@contextmanager
def prepared(database: str, screenshots: int) -> Iterator[World]:
    """Make a world, and leave nothing of it behind."""
    directory = runs.begin()
    world = World(directory, None)
    try:
        world.postgres = start_postgres(directory / "postgres") if database == "postgresql" else None
        world.seed(screenshots)
        yield world
    finally:
        world.end()
        runs.end(directory)
