"""Which stack a run is on: decided here from `--stack`, before Django reads its settings.

pytest-django loads the settings while pytest loads its first conftest files, so this module is named in
`addopts` and sets the environment in a wrapper around that hook.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stacks import beside, runs
from stacks.servers import Postgres, Redis, ServerStartError, start_postgres, start_redis

SETTINGS = Path(__file__).resolve().parents[2] / "gallery_api" / "settings.py"
SERVER_FIXTURES = frozenset({"redis_server", "postgres_server"})


@dataclass
class Stack:
    """What this process runs on; `redis` and `postgres` only on the server stack."""

    name: str
    run: Path
    redis: Redis | None = None
    postgres: Postgres | None = None
    totals_file: str = ""
    """Where the run that started this one wants the totals; empty if a person started it."""

    def end(self) -> None:
        """Stop the servers in order, then remove every trace."""
        for server in (self.redis, self.postgres):
            if server is not None:
                server.stop()
        runs.end(self.run)


STACK = pytest.StashKey[Stack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stacks")
    group.addoption(
        "--fast-path",
        choices=("on", "off"),
        default="on",
        help="off: every request of every server goes through Django (KEYBITS_FASTPATH).",
    )
    group.addoption(
        "--stack",
        choices=("embedded", "server", "all"),
        default="all",
        help="embedded: SQLite and LMDB. server: PostgreSQL and Redis. all (default): both at once.",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    options = early_config.known_args_namespace
    asked_for_help = options.help or options.version
    name = "server" if options.stack == "server" and not asked_for_help else "embedded"
    stack = Stack(name, runs.begin(), totals_file=os.environ.pop(beside.TOTALS, ""))
    early_config.stash[STACK] = stack
    early_config.add_cleanup(stack.end)
    _forget_the_shell()
    os.environ["KEYBITS_FASTPATH"] = str(options.fast_path == "on").lower()
    _start(stack)
    return (yield)


def _forget_the_shell() -> None:
    """Drop every variable that the settings or libpq read: a developer's shell must not change a test."""
    read = set(re.findall(r"\benv\.\w+\(\s*\"(\w+)\"", SETTINGS.read_text()))
    for variable in list(os.environ):
        if variable in read or variable.startswith(("PG", "GRANIAN_")):
            del os.environ[variable]


def _start(stack: Stack) -> None:
    """Start the stack's servers and tell the settings of them."""
    var = stack.run / "var"
    environment = {"VAR_DIR": str(var), "SECRET_KEY": secrets.token_urlsafe(50), "KEYBITS_AUDIT": "raise"}
    if stack.name == "server":
        try:
            stack.redis = start_redis(stack.run / "redis")
            stack.postgres = start_postgres(stack.run / "postgres")
        except ServerStartError as error:
            raise pytest.UsageError(str(error)) from error
        environment |= {"DATABASE_URL": stack.postgres.url, "REDIS_URL": stack.redis.url}
    os.environ.update(environment)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stack(name): run the test on the named stack only.")
    if _runs_both(config) and (config.option.usepdb or config.option.trace):
        raise pytest.UsageError("A debugger needs one stack: add --stack=embedded or --stack=server.")


def pytest_report_header(config: pytest.Config) -> str:
    stack = config.stash[STACK]
    beside_it = ", the server stack runs beside it" if _runs_both(config) else ""
    return f"stack: {stack.name}{beside_it}"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    from stacks import economies, flushing  # noqa: PLC0415 - they import Django

    economies.install()
    flushing.install()
    lists_fixtures = config.option.showfixtures or config.option.show_fixtures_per_test
    if _runs_both(config) and not lists_fixtures:
        second = beside.SecondRun(config, config.stash[STACK].run)
        config.pluginmanager.register(second, "second-run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what belongs to the other stack; between them the two runs leave nothing out."""
    here: list[pytest.Item] = []
    elsewhere: list[pytest.Item] = []
    for item in items:
        (here if _wanted(item, config.stash[STACK].name) else elsewhere).append(item)
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = here


def _wanted(item: pytest.Item, stack: str) -> bool:
    mark = item.get_closest_marker("stack")
    if mark is not None:
        return stack in mark.args
    return stack == "server" or SERVER_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    totals_file = session.config.stash[STACK].totals_file
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if totals_file and reporter is not None:
        beside.write_totals(reporter, Path(totals_file))


def _runs_both(config: pytest.Config) -> bool:
    """A worker of pytest-xdist runs a part of one stack, never a second one."""
    return config.option.stack == "all" and "PYTEST_XDIST_WORKER" not in os.environ
