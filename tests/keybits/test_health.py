"""What a load balancer is told: whether this process can answer, and nothing that is nobody's business."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator
from pytest_django import Settings
from stacks.servers import Postgres, reserve_port
from stacks.ways import AsgiWays, Asked, Told, Ways, WsgiWays

from keybits import health, problems
from keybits.stores import StoreError, get_store

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/health"
Recorded: Any = MigrationRecorder.Migration
WELL = {"componentType": "datastore", "status": "pass"}


@pytest.fixture(autouse=True)
def _first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has met no outage yet."""
    for outage in (problems._outage, problems._unmigrated, health._outage):
        monkeypatch.setattr(outage, "_told", None)


def ask(method: str = "GET", **headers: str) -> HttpResponse:
    response: HttpResponse = Client().generic(method, PATH, headers=headers)
    return response


def told(response: HttpResponse) -> Any:
    assert response["Content-Type"] == "application/health+json"
    assert response["Cache-Control"] == "no-store"
    return json.loads(response.content)


def of_database(response: HttpResponse) -> tuple[int, str, str, str]:
    """Return the status code, the two statuses that it is made of, and what is said of the database."""
    document = told(response)
    ((check,), (of_store,)) = document["checks"]["database"], document["checks"]["store"]
    assert of_store == WELL
    return response.status_code, document["status"], check["status"], check["output"]


@contextmanager
def without(name: str) -> Iterator[None]:
    """Have the database lack a migration of the catalog, as long as it lasts."""
    Recorded.objects.filter(app="catalog", name=name).delete()
    try:
        yield
    finally:
        Recorded.objects.create(app="catalog", name=name)


LAST = "0017_one_name_of_each_host"


class TestAProcessThatCanAnswer:
    def test_is_told_of_by_a_200_that_nothing_keeps(self) -> None:
        response = ask()
        assert response.status_code == 200
        assert told(response) == {"status": "pass", "checks": {"database": [WELL], "store": [WELL]}}

    def test_is_told_of_to_head_by_the_same_fields(self) -> None:
        get, head = ask(), ask("HEAD")
        assert (head.status_code, head.headers, head.content) == (200, get.headers, b"")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_is_asked_for_it_and_told_nothing(self, method: str) -> None:
        response = ask(method)
        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
        assert response["Content-Type"] == problems.MEDIA_TYPE

    def test_is_known_by_one_statement_and_one_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store: Any = get_store().store
        commands = []
        for name in (name for name in dir(type(store)) if not name.startswith("_")):
            method = getattr(store, name)
            if callable(method):
                monkeypatch.setattr(
                    store, name, lambda *given, n=name, m=method: commands.append(n) or m(*given)
                )
        with CaptureQueriesContext(connection) as statements:
            assert ask(Cookie="sessionid=x", Authorization="Token x").status_code == 200
        assert len(statements) == 1
        assert commands == ["vouched"]

    def test_answers_to_no_host_but_ours(self) -> None:
        assert ask(Host="evil.example").status_code == 400

    def test_is_asked_by_http_where_everything_else_is_led_to_https(self, settings: Settings) -> None:
        settings.SECURE_SSL_REDIRECT = True
        assert ask().status_code == 200
        assert Client().get("/api/v1/").status_code == 308

    def test_is_no_resource_of_the_api(self) -> None:
        paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]  # type: ignore[no-untyped-call]
        assert not [path for path in paths if "health" in path]


class TestADatabaseThatCannotBeUsed:
    def test_is_503_while_it_lacks_a_migration_of_the_code(self) -> None:
        with without(LAST):
            response = ask()
        assert of_database(response) == (503, "fail", "fail", "The database is not ready yet.")
        assert response["Retry-After"] == str(problems.RETRY_AFTER)
        assert ask().status_code == 200

    def test_is_told_to_the_log_once_with_the_cure(self, caplog: pytest.LogCaptureFixture) -> None:
        with without(LAST):
            content = [ask().content for _ in range(3)][-1]
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f"catalog.{LAST}" in record.getMessage()
        assert "manage.py migrate" in record.getMessage()
        assert b"catalog" not in content

    def test_is_none_that_has_migrations_of_the_next_release(self) -> None:
        Recorded.objects.create(app="catalog", name="9999_next")
        assert ask().status_code == 200
        Recorded.objects.filter(name="9999_next").delete()

    @pytest.mark.parametrize(
        ("stands_for_it", "status"), [("0016_longest_description", 200), ("0000_x", 503)]
    )
    def test_is_none_that_was_migrated_before_its_migrations_were_squashed(
        self, monkeypatch: pytest.MonkeyPatch, stands_for_it: str, status: int
    ) -> None:
        squashed = {("catalog", "0001_squashed"): frozenset({("catalog", stands_for_it)})}
        monkeypatch.setattr(health, "_migrations", lambda: squashed)
        assert ask().status_code == status

    def test_is_503_where_nothing_was_migrated_at_all(self) -> None:
        with altered("RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO django_migrations"):
            response = ask()
        assert of_database(response) == (503, "fail", "fail", "The database is not ready yet.")

    def test_is_503_whatever_else_keeps_it_from_answering(self, caplog: pytest.LogCaptureFixture) -> None:
        with altered(
            "RENAME COLUMN app TO label", "ALTER TABLE django_migrations RENAME COLUMN label TO app"
        ):
            response = [ask() for _ in range(3)][-1]
        assert of_database(response) == (503, "fail", "fail", "The database cannot be used at present.")
        (record,) = caplog.records
        assert record.exc_info
        assert b"label" not in response.content

    def test_is_503_while_it_cannot_be_reached_and_no_longer(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with monkeypatch.context() as patch:
            connection.close()
            patch.setitem(connection.settings_dict, "NAME", "/nowhere/at/all")
            patch.setitem(connection.settings_dict, "PORT", reserve_port())
            response = ask()
        assert of_database(response) == (503, "fail", "fail", "The database cannot be reached at present.")
        assert len(caplog.records) == 1
        assert ask().status_code == 200

    def test_is_told_of_as_health_also_where_each_request_is_a_transaction(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Django would begin it before the view, and fail for it."""
        with monkeypatch.context() as patch:
            connection.close()
            patch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
            patch.setitem(connection.settings_dict, "NAME", "/nowhere/at/all")
            patch.setitem(connection.settings_dict, "PORT", reserve_port())
            assert of_database(ask())[:2] == (503, "fail")

    def test_is_503_from_the_moment_when_a_server_dies_under_a_kept_connection(
        self, postgres_server: Postgres
    ) -> None:
        ways, asked = WsgiWays(), Asked(PATH)  # the test client ends no connection with its request
        assert ways.long(asked).status == 200
        postgres_server.kill()
        assert ways.long(asked).status == 503
        postgres_server.heal()
        assert ways.long(asked).status == 200


@contextmanager
def altered(how: str, back: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE django_migrations {how}")
        try:
            yield
        finally:
            cursor.execute(back)


class TestAStoreThatFails:
    """Reads go to the database, and are right: a balancer that took the process out would make it worse."""

    SLOW = {"componentType": "datastore", "status": "warn", "output": health.SLOW}

    @pytest.fixture
    def broken(self, request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> None:
        if "redis" in settings.KEYBITS_STORE:
            request.getfixturevalue("redis_server").kill()
        (tmp_path / "file").touch()
        settings.KEYBITS_LMDB_PATH = tmp_path / "file"

    def is_slow(self) -> bool:
        response = ask()
        assert response.status_code == 200
        assert not response.has_header("Retry-After")
        document = told(response)
        assert document["checks"]["database"] == [WELL]
        if document["status"] == "warn":
            assert document["checks"]["store"] == [self.SLOW]
        return bool(document["status"] == "warn")

    @pytest.mark.usefixtures("broken")
    def test_is_a_warning(self) -> None:
        assert self.is_slow()

    def test_is_a_warning_while_no_relay_vouches_for_it(self, settings: Settings) -> None:
        """As where it is full: what it has can be read, and nothing is believed."""
        settings.KEYBITS_RELAY, settings.KEYBITS_RELAY_BOUND = "external", 60
        assert self.is_slow()
        get_store().vouch(get_store().now() + 60_000)
        assert not self.is_slow()

    def test_is_left_to_the_relay_of_this_process(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else each question would wait for a time-out."""
        settings.KEYBITS_RELAY = "thread"
        get_store().trip(StoreError("down"))
        monkeypatch.setattr(get_store().store, "vouched", lambda: pytest.fail("it is asked"))
        monkeypatch.setattr(get_store(), "_next_trial", 0.0)
        assert self.is_slow()

    def test_is_tried_again_where_no_relay_of_this_process_would(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.KEYBITS_RELAY = "off"
        get_store().trip(StoreError("down"))
        assert self.is_slow()
        monkeypatch.setattr(get_store(), "_next_trial", 0.0)
        assert not self.is_slow()


@pytest.mark.parametrize("ways", [WsgiWays, AsgiWays])
@pytest.mark.usefixtures("fast_path_on")
def test_the_fast_path_repeats_nothing_of_it(ways: Callable[[], Ways]) -> None:
    both, asked = ways(), Asked(PATH)

    def answers() -> list[Told]:
        return [both.fast(asked), both.fast(asked), both.long(asked)]

    well = answers()
    with without(LAST):
        ill = answers()
    assert well == [well[0]] * 3
    assert ill == [ill[0]] * 3
    assert (well[0].status, ill[0].status) == (200, 503)
    assert both.fast_answers == 0
