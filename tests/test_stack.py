"""What the other tests take for granted about the ground they stand on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
import redis
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from redis.backoff import NoBackoff
from redis.retry import Retry
from stacks import beside, runs
from stacks.live import Deployments, LiveServer, ManagementCommandError
from stacks.plugin import Stack
from stacks.servers import (
    Postgres,
    Redis,
    ServerStartError,
    reserve_port,
    start_postgres,
    start_redis,
    wait_until_ready,
)

from keybits.stores import Breaker, StoreError, get_store

Starter = Callable[..., LiveServer]
CHECKOUT = Path(__file__).resolve().parents[1]
STORES = {"embedded": "LMDBStore", "server": "RedisStore"}
WRITER = """
from django.contrib.auth.models import User
User.objects.create(username="written-elsewhere")
"""
READER = "from django.contrib.auth.models import User; print(User.objects.get().username)"


def query(sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[0])


class TestDatabase:
    @pytest.mark.stack("server")
    @pytest.mark.django_db
    def test_server_stack_is_postgresql(self) -> None:
        assert query("SELECT version()").startswith("PostgreSQL ")

    @pytest.mark.stack("embedded")
    @pytest.mark.django_db
    def test_embedded_stack_is_sqlite(self) -> None:
        assert query("SELECT sqlite_version()").startswith("3.")

    @pytest.mark.stack("embedded")
    @pytest.mark.django_db
    def test_sqlite_is_a_file_in_wal_mode_as_deployed(self) -> None:
        assert query("PRAGMA journal_mode") == "wal"

    @pytest.mark.django_db
    def test_migrations_have_been_applied(self) -> None:
        assert int(query("SELECT COUNT(*) FROM django_migrations WHERE app = 'catalog'")) > 0


class TestStore:
    def test_stack_decides_the_store(self, stack: Stack) -> None:
        store = get_store()
        assert isinstance(store, Breaker)
        assert type(store.store).__name__ == STORES[stack.name]

    @pytest.mark.parametrize("attempt", ["first", "second"])
    def test_store_and_cache_are_empty_when_a_test_begins(self, attempt: str) -> None:
        assert get_store().read("key", []).entry is None
        assert cache.get("key") is None
        get_store().write("key", attempt.encode())
        cache.set("key", attempt)


class TestRedis:
    def test_it_is_a_real_server_without_persistence(self, redis_server: Redis) -> None:
        with redis.Redis.from_url(redis_server.url) as client:
            assert client.info("server")["process_id"] == redis_server.pid
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}

    def test_settings_name_it(self, redis_server: Redis) -> None:
        assert redis_server.url == settings.REDIS_URL

    def test_restart_forgets_everything_and_keeps_the_port(self, redis_server: Redis) -> None:
        port, pid = redis_server.port, redis_server.pid
        with redis.Redis(port=port) as client:
            client.set("key", "value")
            redis_server.restart()
            assert client.get("key") is None
        assert (redis_server.port, redis_server.pid != pid) == (port, True)

    def test_frozen_it_keeps_connections_and_answers_nothing(self, redis_server: Redis) -> None:
        with redis.Redis(port=redis_server.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client:
            client.ping()
            redis_server.freeze()
            with pytest.raises(redis.TimeoutError):
                client.ping()
            redis_server.thaw()
            assert client.ping()

    @pytest.mark.parametrize("end", [Redis.stop, Redis.kill, Redis.freeze])
    def test_heal_brings_it_back(self, redis_server: Redis, end: Callable[[Redis], None]) -> None:
        end(redis_server)
        redis_server.heal()
        assert redis_server.ready()

    @pytest.mark.parametrize("attempt", ["first", "second"])
    def test_store_that_failed_in_one_test_serves_the_next(self, redis_server: Redis, attempt: str) -> None:
        get_store().write("key", attempt.encode())
        redis_server.stop()
        with pytest.raises(StoreError):
            get_store().write("key", attempt.encode())


class TestPostgres:
    def test_settings_name_it(self, postgres_server: Postgres) -> None:
        assert settings.DATABASES["default"]["PORT"] == postgres_server.port

    def test_restart_keeps_the_data_and_the_port(self, postgres_server: Postgres) -> None:
        postgres_server.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS one")
        port, pid = postgres_server.port, postgres_server.pid
        postgres_server.restart()
        postgres_server.execute("DROP TABLE kept")
        assert (postgres_server.port, postgres_server.pid != pid) == (port, True)

    def test_frozen_it_freezes_open_connections_too(self, postgres_server: Postgres) -> None:
        url = postgres_server.database_url("postgres")
        with psycopg.connect(url, autocommit=True) as client:
            postgres_server.freeze()
            backend = psutil.Process(client.info.backend_pid)
            assert backend.status() == psutil.STATUS_STOPPED
            postgres_server.thaw()
            assert client.execute("SELECT 1").fetchone() == (1,)

    @pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill, Postgres.freeze])
    def test_heal_brings_it_back(self, postgres_server: Postgres, end: Callable[[Postgres], None]) -> None:
        end(postgres_server)
        postgres_server.heal()
        assert postgres_server.ready()


@pytest.mark.stack("server")
class TestWhereNoServerIsInstalled:
    """The wheels serve; their PostgreSQL is kept apart from one that the machine may have."""

    def test_postgres_on_path_that_refuses_to_run_is_passed_over(
        self, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("postgres", "initdb"):
            refusing = tmp_path / name
            refusing.write_text("#!/bin/sh\nexit 1\n")
            refusing.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        server = start_postgres(stack.run / "passed-over")
        server.kill()
        assert tmp_path not in server.binaries.parents

    def test_postgres_starts_from_where_only_its_owner_may_enter(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in a virtual environment that root made in a temporary directory."""
        monkeypatch.setenv("PATH", "/nothing/is/here")
        wheel = start_postgres(stack.run / "wheel")
        wheel.kill()
        package = wheel.binaries.parent.parent
        private = stack.run / "private"
        private.mkdir(mode=0o700)
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, private / part.name, symlinks=True)
        home = stack.run / "home"
        home.mkdir()
        server = Postgres(home, private / wheel.binaries.relative_to(package.parent))
        server.initialise()
        server.start()
        server.kill()


class TestFiles:
    def test_nothing_is_written_into_the_checkout(self, stack: Stack) -> None:
        assert settings.VAR_DIR.is_relative_to(stack.run)
        assert not settings.VAR_DIR.is_relative_to(CHECKOUT)

    def test_shell_of_the_developer_does_not_reach_the_settings(self) -> None:
        assert "ALLOWED_HOSTS" not in os.environ


class TestPorts:
    def test_reserved_port_can_be_bound_and_is_not_given_twice(self) -> None:
        ports = [reserve_port() for _ in range(50)]
        assert len(set(ports)) == len(ports)

    def test_server_that_ends_at_once_fails_at_once_with_its_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("no such option")
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
        with pytest.raises(ServerStartError, match=r"ended with 7:\nno such option"):
            wait_until_ready(process, lambda: False, log)


class TestLiveServer:
    def test_stack_decides_its_database_and_store(self, live_server_process: Starter, stack: Stack) -> None:
        live = live_server_process(workers=1)
        code = (
            "from django.db import connection; from keybits.stores import Breaker, StoreError, get_store;"
            "print(connection.vendor, type(get_store().store).__name__)"
        )
        vendor = {"embedded": "sqlite", "server": "postgresql"}[stack.name]
        assert live.shell(code).split() == [vendor, STORES[stack.name]]

    @pytest.mark.stack("embedded")
    @pytest.mark.parametrize("interface", ["wsgi", "asgi"])
    def test_it_answers_over_http(self, live_server_process: Starter, interface: str) -> None:
        live = live_server_process(workers=1, interface=interface)
        assert live.get("/nothing-is-here").status_code == 404

    @pytest.mark.stack("server")
    def test_writers_in_other_processes_share_one_database_that_starts_empty(
        self, live_server_process: Starter
    ) -> None:
        live = live_server_process(workers=1)
        writer = live.spawn(WRITER)
        output, _ = writer.communicate()
        assert writer.returncode == 0, output
        assert live.shell(READER).strip() == "written-elsewhere"
        with pytest.raises(ManagementCommandError, match="DoesNotExist"):
            live_server_process(workers=1).shell(READER)

    @pytest.mark.stack("server")
    def test_killed_worker_is_replaced_while_the_others_answer(self, live_server_process: Starter) -> None:
        live = live_server_process(workers=2)
        assert len(live.workers()) == 2
        dead = live.kill_worker()
        assert live.get("/nothing-is-here").status_code == 404
        assert dead not in live.workers()

    @pytest.mark.stack("server")
    def test_environment_reaches_the_settings(self, live_server_process: Starter) -> None:
        live = live_server_process(workers=1, environment={"ALLOWED_HOSTS": "127.0.0.1,gallery.example"})
        shown = live.shell("from django.conf import settings; print(settings.ALLOWED_HOSTS)")
        assert shown.strip() == "['127.0.0.1', 'gallery.example']"

    @pytest.mark.stack("embedded")
    def test_it_finds_what_its_users_install_and_not_what_tests_do(self, deployments: Deployments) -> None:
        live = deployments.make({})
        assert live.shell("import botocore, granian, prometheus_client; print('there')").strip() == "there"
        with pytest.raises(ManagementCommandError, match="import of psutil halted"):
            live.shell("import psutil")
        deployments.discard(live)

    @pytest.mark.stack("server")
    def test_stop_leaves_no_process(self, live_server_process: Starter) -> None:
        live = live_server_process(workers=2)
        assert live.process is not None
        family = [live.process.pid, *live.workers()]
        live.stop()
        assert not [pid for pid in family if _runs(pid)]


class TestVerdictOfTwoRuns:
    @pytest.mark.parametrize(
        ("first", "second", "verdict"),
        [
            (0, 0, 0),
            (0, 1, 1),
            (1, 0, 1),
            (2, 1, 2),
            (5, 5, 5),
            (5, 0, 0),
            (0, 5, 0),
            (5, 1, 1),
            (0, -signal.SIGKILL, 3),
        ],
    )
    def test_failure_of_either_fails_both(self, first: int, second: int, verdict: int) -> None:
        assert beside.verdict(first, second) == verdict


CRASH = """
import os, signal, sys
from pathlib import Path
from stacks import runs, servers
run = runs.begin()
redis, postgres = servers.start_redis(run / "redis"), servers.start_postgres(run / "postgres")
postgres.freeze()
print(run, redis.pid, postgres.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

HEADLESS = """
import ctypes, threading, psutil

def remain():
    while psutil.Process().status() != "zombie":
        pass
    print("the first thread has ended", flush=True)
    input()

threading.Thread(target=remain).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.stack("embedded")
class TestEndOfARun:
    @pytest.mark.parametrize("reaped", [True, False])
    def test_crash_leaves_no_server_and_no_file(self, reaped: bool) -> None:
        """Even where a server was frozen and could not have noticed, and where nobody reaps the dead."""
        with subprocess.Popen(
            [sys.executable, "-c", CRASH],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / "tests")},
            stdout=subprocess.PIPE,
            text=True,
        ) as crashed:
            assert crashed.stdout is not None
            run, *pids = crashed.stdout.readline().split()
            if reaped:
                crashed.wait()
            janitor = [p for p in psutil.process_iter(["cmdline"]) if run in (p.info["cmdline"] or [])]
            runs.wait_until_dead(janitor, seconds=60)
        assert crashed.returncode == -signal.SIGKILL
        assert not Path(run).exists()
        assert not [pid for pid in pids if _runs(int(pid))]

    def test_end_kills_only_what_belongs_to_the_run(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", "input()"]
        marked = {**os.environ, runs.MARK: str(tmp_path)}
        with (
            subprocess.Popen(command, stdin=subprocess.PIPE, env=marked) as inside,
            subprocess.Popen(command, stdin=subprocess.PIPE) as outside,
        ):
            runs.end(tmp_path)
            assert not _runs(inside.pid)
            assert _runs(outside.pid)
            outside.communicate(b"\n")
        assert not tmp_path.exists()

    def test_process_is_not_dead_while_a_thread_of_it_holds_its_sockets(self) -> None:
        """As it is for moments after a kill: the first thread, whose state is the process's, ends before others."""
        with subprocess.Popen(
            [sys.executable, "-c", HEADLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "the first thread has ended\n"
            assert _runs(process.pid)
            process.kill()
            runs.wait_until_dead([psutil.Process(process.pid)])
            assert not _runs(process.pid)


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and runs.alive(psutil.Process(pid))


def test_redis_of_a_second_run_does_not_collide(tmp_path: Path) -> None:
    first, second = start_redis(tmp_path / "first"), start_redis(tmp_path / "second")
    try:
        assert first.port != second.port
        assert first.ready()
        assert second.ready()
    finally:
        first.kill()
        second.kill()
