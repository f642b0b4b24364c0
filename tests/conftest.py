"""What every test starts from: an empty store, an empty cache, and servers that work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.core.cache import cache
from django.db import connections
from django.utils import cache as django_utils_cache
from django.utils import translation
from stacks.live import Deployments, Interface, LiveServer
from stacks.plugin import STACK, Stack
from stacks.servers import Postgres, Redis

from keybits import fastpath, readthrough
from keybits.drf import exchange
from keybits.stores import get_store


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Stack:
    """The stack that this run is on: `stack.name` is "embedded" or "server"."""
    return request.config.stash[STACK]


@pytest.fixture(autouse=True)
def _leave_nothing_behind() -> Iterator[None]:
    """What one test stored, or used up of a rate, no other test sees."""
    yield
    get_store().clear()
    cache.clear()


@pytest.fixture
def fast_path_on(settings: Any) -> None:
    """For what is about the fast path itself, whichever way the other tests go."""
    settings.KEYBITS_FASTPATH = True


@pytest.fixture
def translated(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch translations on, which the gallery does without: Django decides it once in a process."""
    settings.USE_I18N = True
    monkeypatch.setattr(translation, "_trans", type(vars(translation)["_trans"])())


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, stack: Stack) -> None:
    """Keep SQLite in a file as a deployment does: in memory it has no WAL and locks whole tables."""
    if stack.name == "embedded":
        connections["default"].settings_dict["TEST"]["NAME"] = str(stack.run / "var" / "tests.sqlite3")


@pytest.fixture
def redis_server(stack: Stack) -> Iterator[Redis]:
    """The Redis of the server stack, mended afterwards. A test with it runs on that stack only."""
    server = cast("Redis", stack.redis)
    yield server
    server.heal()
    get_store.cache_clear()  # its circuit breaker may be open, its connections to a server that is gone


@pytest.fixture
def postgres_server(stack: Stack) -> Iterator[Postgres]:
    """The PostgreSQL of the server stack, mended afterwards. A test with it runs on that stack only."""
    server = cast("Postgres", stack.postgres)
    yield server
    server.heal()


@pytest.fixture(scope="session")
def deployments(stack: Stack) -> Deployments:
    """The maker of live servers; its database is migrated when the first test asks for one."""
    return Deployments(stack.run / "live", stack.postgres)


@pytest.fixture
def live_server_process(
    request: pytest.FixtureRequest, deployments: Deployments
) -> Iterator[Callable[..., LiveServer]]:
    """Start production servers: `live_server_process(workers=2, interface="wsgi", environment={...}, seed=SEED)`.

    Each has a migrated database, with the rows that `seed` makes, and a store of its own. A failed test shows what
    they printed.
    """
    started: list[LiveServer] = []

    def start(
        workers: int = 2,
        interface: Interface = "wsgi",
        environment: dict[str, Any] | None = None,
        seed: str = "",
    ) -> LiveServer:
        live = deployments.make({name: str(value) for name, value in (environment or {}).items()}, seed)
        started.append(live)
        live.start(workers, interface)
        return live

    yield start
    for live in started:
        request.node.add_report_section("teardown", f"granian on port {live.port}", live.output())
        deployments.discard(live)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock of everything that dates an answer; it stands still, but for who sets `clock.now`."""
    clock = SimpleNamespace(now=1_800_000_000.5)
    clock.time = lambda: clock.now
    for module in (exchange, fastpath, readthrough, django_utils_cache):
        monkeypatch.setattr(module, "time", clock)
    return clock
