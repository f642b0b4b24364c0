"""Nothing is ever stale, whatever dies, freezes or forgets, and when: real servers, writers and stores.

First each fault by itself, at the very moment where it could do harm; then all of them at random times, judged by
the oracle of `benchmarks.freshness`.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
import redis
from django.db import connection
from stacks.live import PATIENCE, Deployments, LiveServer
from stacks.plugin import Stack
from stacks.servers import Redis

from benchmarks.freshness import report
from benchmarks.freshness.oracle import History
from benchmarks.freshness.run import Options, Torture
from keybits.relay import Relay
from keybits.stores import StoreError, get_store

OPEN_LEASE = 3.0
BOUND = 1.0 + 0.1
"""Seconds within which a relay closes what a writer left to it: `KEYBITS_RELAY_BOUND` and one interval."""
SLACK = 1.0
"""Seconds that a busy machine may add to what a relay is promised to take."""
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "benchmarks.freshness.settings",
    "TORTURE_KEYBITS_OPEN_LEASE": str(OPEN_LEASE),
}
SEED = """
from catalog.models import Gallery, Screenshot
gallery = Gallery.objects.create(slug="g", title="G")
print(Screenshot.objects.create(gallery=gallery, title="old", source_url="https://a.example/").pk)
"""
WRITE = """
from catalog.models import Screenshot
Screenshot.objects.filter(title="old").update(title="new")
print("acknowledged", flush=True)
"""
DIES = """
import os, signal
from keybits.stores import get_store
store = get_store().store
original = store.{step}
def die(*arguments):
    {before}
    os.kill(os.getpid(), signal.SIGKILL)
store.{step} = die
"""
WAITS = """
from keybits.stores import get_store
store = get_store().store
opened = store.open
def wait(*arguments):
    opened(*arguments)
    print("open", flush=True)
    input()
store.open = wait
"""
TRIPS = """
import time
def trip(*arguments):
    wait(*arguments)
    get_store()._closed_until = time.monotonic() + 1
store.open = trip
"""
DIES_BEFORE_CLOSE = DIES.format(step="close", before="pass")
DIES_AFTER_OPEN = DIES.format(step="open", before="original(*arguments)")

Starter = Callable[..., LiveServer]


class Site:
    """A server with one screenshot in one gallery, and what its readers are shown."""

    def __init__(self, live: LiveServer) -> None:
        self.live = live
        self.id = int(live.seeded)
        self.detail = f"/api/v1/screenshots/{self.id}/"
        self.list = "/api/v1/galleries/g/screenshots/"

    def read(self, path: str = "") -> tuple[str, bool]:
        """Return the title that is shown, and whether the cache showed it."""
        response = self.live.get(path or self.detail)
        assert response.status_code == 200, response.text
        body = response.json()
        hit = response.headers["Cache-Status"] == "keybits; hit"
        return (body["results"][0] if "results" in body else body)["title"], hit

    def until_hit(self, path: str = "") -> list[str]:
        """Read until the cache answers; return every title that was shown on the way."""
        titles = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            title, hit = self.read(path)
            titles.append(title)
            if hit:
                return titles
        raise AssertionError(f"never cached again; shown meanwhile: {set(titles)}")

    def until_new(self) -> float:
        """Read until "new" is shown; return the seconds from now to the start of the last read that did not."""
        begun = last = time.monotonic()
        while (now := time.monotonic()) < begun + PATIENCE:
            if self.read()[0] == "new":
                return last - begun
            last = now
        raise AssertionError("never seen")

    def write(self, code: str = WRITE) -> subprocess.Popen[str]:
        return self.live.spawn(code)

    def killed(self, code: str) -> None:
        """Have a writer run `code`, which kills it in the middle."""
        writer = self.write(code + WRITE)
        output, _ = writer.communicate(timeout=PATIENCE)
        assert writer.returncode == -signal.SIGKILL, output
        assert "acknowledged" not in output

    @contextmanager
    def writing(self, more: str = "") -> Iterator[subprocess.Popen[str]]:
        """A write that stands between `open` and COMMIT within the block, and is acknowledged at its end."""
        writer = self.write(WAITS + more + WRITE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        yield writer
        output, _ = writer.communicate("\n", timeout=PATIENCE)
        assert "acknowledged" in output

    def forget(self, how: str) -> None:
        """Have the store forget everything."""
        if self.live.redis is None:
            self.live.shell("from keybits.stores import get_store; get_store().clear()")
        elif how == "restarted":
            self.live.redis.restart()
        else:
            with redis.Redis(port=self.live.redis.port) as client:
                client.flushall()


@pytest.fixture
def site(live_server_process: Starter) -> Site:
    return _cached(Site(live_server_process(workers=1, environment=ENVIRONMENT, seed=SEED)))


def _cached(site: Site) -> Site:
    """Return the site when nothing is outstanding, and its detail and its list are cached."""
    site.live.settle()
    assert set(site.until_hit()) | set(site.until_hit(site.list)) == {"old"}
    return site


class TestWriterThatDies:
    def test_between_commit_and_close_nothing_old_is_shown_and_the_relay_makes_it_cacheable(
        self, site: Site
    ) -> None:
        site.killed(DIES_BEFORE_CLOSE)
        assert set(site.until_hit()) == {"new"}
        assert set(site.until_hit(site.list)) == {"new"}

    def test_between_open_and_commit_nothing_has_happened(self, site: Site) -> None:
        site.killed(DIES_AFTER_OPEN)
        assert set(site.until_hit()) == {"old"}


class TestStoreThatForgets:
    @pytest.mark.parametrize("how", ["flushed", pytest.param("restarted", marks=pytest.mark.stack("server"))])
    def test_between_open_and_commit(self, site: Site, how: str) -> None:
        with site.writing():
            site.forget(how)
            assert set(site.until_hit()) == {"old"}
        assert site.read()[0] == "new"
        assert set(site.until_hit()) == {"new"}

    def test_between_open_and_commit_of_a_writer_that_dies_before_close(self, site: Site) -> None:
        """Nobody was told that it was written; a relay finds it at its next look."""
        writer = site.write(WAITS + DIES_BEFORE_CLOSE + WRITE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        site.forget("flushed")
        assert set(site.until_hit()) == {"old"}
        writer.communicate("\n", timeout=PATIENCE)
        assert writer.returncode == -signal.SIGKILL
        assert site.until_new() <= BOUND + SLACK

    def test_between_open_and_commit_of_a_writer_whose_breaker_has_opened(
        self, live_server_process: Starter
    ) -> None:
        """As when another thread of its process met the store while it was away."""
        environment = {"DJANGO_SETTINGS_MODULE": ENVIRONMENT["DJANGO_SETTINGS_MODULE"]}
        site = _cached(Site(live_server_process(workers=1, environment=environment, seed=SEED)))
        with site.writing(TRIPS):
            site.forget("flushed")
            assert set(site.until_hit()) == {"old"}
        assert site.until_new() <= BOUND + SLACK

    @pytest.mark.stack("server")
    def test_it_comes_back_as_it_was(self, site: Site) -> None:
        server = site.live.redis
        assert server is not None
        with redis.Redis(port=server.port) as client:
            client.save()
        snapshot, kept = server.directory / "dump.rdb", server.directory / "kept.rdb"
        shutil.move(snapshot, kept)
        site.live.shell(WRITE)
        assert set(site.until_hit()) == {"new"}
        server.kill()
        shutil.move(kept, snapshot)
        server.start()
        assert set(site.until_hit()) == {"new"}
        assert set(site.until_hit(site.list)) == {"new"}


@pytest.mark.stack("server")
class TestRedisThatIsAway:
    @pytest.fixture
    def server(self, site: Site) -> Iterator[Redis]:
        server = site.live.redis
        assert server is not None
        yield server
        server.heal()

    @pytest.mark.parametrize("away", [Redis.freeze, Redis.kill])
    def test_reads_come_from_the_database_and_do_not_pile_up(
        self, site: Site, server: Redis, away: Callable[[Redis], None]
    ) -> None:
        away(server)
        begun = time.monotonic()
        for _ in range(20):
            assert site.read() == ("old", False)
        assert time.monotonic() - begun < PATIENCE / 2, "each read waits for the store again"
        assert "acknowledged" in site.live.shell(WRITE)
        assert site.read() == ("new", False)
        if away is Redis.freeze:
            server.thaw()
        else:
            server.start()
        assert set(site.until_hit()) == {"new"}

    def test_after_a_thaw_nothing_is_stale_however_long_it_was_frozen(
        self, site: Site, server: Redis
    ) -> None:
        """What was sent to it while it was frozen is done when it goes on; a vouch is none any more by then."""
        server.freeze()
        site.live.shell(WRITE)
        acknowledged = time.monotonic()
        ended, stale = threading.Event(), []
        port = site.live.port

        def read() -> None:
            with site.live._connect() as client:
                while not ended.is_set():
                    begun = time.monotonic()
                    title = client.get(f"http://127.0.0.1:{port}{site.detail}").json().get("title")
                    if title == "old" and begun > acknowledged:
                        stale.append(begun - acknowledged)

        readers = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for reader in readers:
            reader.start()
        ended.wait(3 * BOUND)
        server.thaw()
        assert set(site.until_hit()) == {"new"}
        ended.set()
        for reader in readers:
            reader.join(PATIENCE)
        assert stale == []


class TestWritesFromOutside:
    def test_raw_sql_is_seen_within_the_bound(self, site: Site) -> None:
        with closing(site.live.database()) as outside:
            outside.execute("UPDATE catalog_screenshot SET title = 'new'")
        assert site.until_new() <= BOUND + SLACK
        assert set(site.until_hit()) == {"new"}


class TestStatementsOutsideTransactions:
    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE catalog_screenshot SET title = 'new'",
            "UPDATE catalog_screenshot SET title = 'new' RETURNING id",
            "WITH old AS (SELECT 1) UPDATE catalog_screenshot SET title = 'new'",
        ],
    )
    def test_it_is_closed_when_it_returns(self, live_server_process: Starter, sql: str) -> None:
        """Nobody relays here: what is seen is what the writer itself has closed."""
        environment = {**ENVIRONMENT, "TORTURE_KEYBITS_RELAY": '"off"'}
        site = Site(live_server_process(workers=1, environment=environment, seed=SEED))
        assert set(site.until_hit()) == {"old"}
        site.live.shell(
            "from django.db import connection\n"
            f"with connection.cursor() as cursor:\n    cursor.execute({sql!r})\n"
            "    cursor.description and cursor.fetchall()\n"
        )
        assert site.read()[0] == "new"


class TestPolicies:
    def test_a_write_that_is_refused_leaves_everything_as_it_was(self, site: Site) -> None:
        refuse = (
            "from django.conf import settings\nsettings.KEYBITS_WRITE_POLICY = 'refuse'\n"
            "settings.KEYBITS_LMDB_PATH = '/dev/null/keybits.lmdb'\n"
            "from keybits.transactions import WriteRefusedError\n"
            "from catalog.models import Screenshot\n"
            "try:\n    Screenshot.objects.update(title='new')\n"
            "except WriteRefusedError as error:\n    print('refused:', error)\n"
            "print([row.title for row in Screenshot.objects.all()])\n"
        )
        if site.live.redis is not None:
            site.live.redis.kill()
        printed = site.live.shell(refuse)
        assert re.search(r"^refused: .+\n\['old'\]$", printed, re.M), printed
        if site.live.redis is not None:
            site.live.redis.start()
        assert set(site.until_hit()) == {"old"}

    def test_where_no_relay_vouches_nothing_is_believed(self, live_server_process: Starter) -> None:
        environment = {
            **ENVIRONMENT,
            "TORTURE_KEYBITS_RELAY": '"external"',
            "TORTURE_KEYBITS_RELAY_BOUND": "60",
        }
        site = Site(live_server_process(workers=1, environment=environment, seed=SEED))
        assert {site.read() for _ in range(10)} == {("old", False)}
        site.live.manage("keybits_relay", "--once")
        assert set(site.until_hit()) == {"old"}


@pytest.mark.stack("server")
@pytest.mark.django_db(transaction=True)
def test_a_relay_does_not_vouch_for_what_another_has_taken_and_not_closed(settings: Any) -> None:
    """The other may have been stopped in the middle; meanwhile nobody may believe what is not closed."""
    settings.KEYBITS_RELAY = "external"
    database = connection.settings_dict
    address = {"host": database["HOST"], "port": database["PORT"], "user": database["USER"]}
    with psycopg.connect(dbname=database["NAME"], **address) as other:
        other.execute("INSERT INTO keybits_change (scope) VALUES ('galleries')")
        other.commit()
        other.execute("SELECT id FROM keybits_change FOR UPDATE")
        stamps = get_store().mint(["galleries"])
        Relay().once()
        assert get_store().read("key", ["galleries"]).stamps != stamps
        other.rollback()
        Relay().once()


@pytest.mark.django_db(transaction=True)
def test_a_vouch_that_arrives_late_is_none(redis_server: Redis, settings: Any) -> None:
    """Redis does after a thaw what it was sent before, also where the sender has given it up long ago."""
    settings.KEYBITS_RELAY = "external"
    settings.KEYBITS_RELAY_BOUND = 0.5
    settings.KEYBITS_STORE_RETRY = 0
    get_store().mint(["galleries"])
    relay = Relay()
    relay.once()
    redis_server.freeze()
    with pytest.raises(StoreError):  # a second later
        relay.once()
    redis_server.thaw()
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert get_store().read("key", ["galleries"]).stamps == (None,)


@pytest.mark.stack("embedded")  # dates are neither the database's nor the store's
class TestDates:
    def test_a_content_that_comes_back_is_newer_than_the_one_between(self, site: Site) -> None:
        """Even where the one between was never stored, so that nothing remembers it but a client."""
        hold = f"from keybits.stores import get_store; get_store().open(['screenshot:{site.id}'], 'h' * 32)"
        change = "from catalog.models import Screenshot; Screenshot.objects.update(title={!r})"
        site.live.shell(f"{change.format('new')}\n{hold}")
        between = site.live.get(site.detail)
        assert between.json()["title"] == "new"
        site.live.shell("import time; time.sleep(1.1)\n" + change.format("old").replace("; ", "\n"))
        assert "Last-Modified" not in between.headers  # a client may take the Date instead
        condition = {"If-Modified-Since": between.headers["Date"]}
        again = site.live.get(site.detail, headers=condition)
        assert again.status_code == 200
        assert again.json()["title"] == "old"


def test_torture(deployments: Deployments, stack: Stack) -> None:
    """Everything at once, for ten seconds."""
    options = Options(
        seconds=10,
        servers=2,
        workers=1,
        writers=2,
        readers=2,
        seed=7,
        settings={"KEYBITS_OPEN_LEASE": OPEN_LEASE},
    )
    run = Torture(options, deployments)
    try:
        run.run()
        history = History(run.world, run.home.glob("*.journal"))
        verdict = history.judge()
        text, passed = report.written(stack.name, run, history, verdict)
        assert passed, text
        assert verdict.counts["reads"] > 50, text
        assert verdict.counts["writes: ack"] > 10, text
        assert run.happened, text
    finally:
        deployments.discard(run.first)
