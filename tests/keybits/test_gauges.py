"""What metrics tell of the record, the relay, the caches in front and the store: the same, whoever is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from prometheus_client import CollectorRegistry
from pytest_django import Settings
from stacks.live import LiveServer
from stacks.servers import Postgres, reserve_port
from stacks.threads import aside, eventually

from catalog.models import Tag
from keybits import changes
from keybits.delivery import Delivery
from keybits.gauges import Gauges
from keybits.stores import get_store

Samples = dict[tuple[str, str], float]


def collected() -> Samples:
    """Return the values that are told now, by name and the one label ("" where there is none)."""
    registry = CollectorRegistry()
    registry.register(Gauges())
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


@pytest.mark.django_db(transaction=True)
class TestTheRecord:
    @pytest.fixture(autouse=True)
    def _settled(self) -> Iterator[None]:
        changes.forget(connection, [id for id, _, _ in changes.recorded(connection)])
        yield
        changes.forget(connection, [id for id, _, _ in changes.recorded(connection)])

    def test_is_counted(self) -> None:
        assert collected()["keybits_recorded_changes", "default"] == 0
        Tag.objects.create(slug="x", name="X")
        assert collected()["keybits_recorded_changes", "default"] == len(changes.recorded(connection)) == 2

    def test_of_a_replica_is_not_counted_twice(self, settings: Settings) -> None:
        settings.KEYBITS_REPLICAS = ["default"]
        assert ("keybits_recorded_changes", "default") not in collected()

    def test_is_not_told_while_its_database_is_away_and_all_else_is(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(connection.settings_dict, "NAME", "/nowhere/at/all")
        monkeypatch.setitem(connection.settings_dict, "PORT", reserve_port())
        told = collected()
        monkeypatch.undo()
        assert ("keybits_recorded_changes", "default") not in told
        assert told["keybits_store_up", ""] == 1
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    def test_of_a_server_that_answers_nothing_keeps_all_else_from_being_told_for_seconds_only(
        self, postgres_server: Postgres
    ) -> None:
        """Else Prometheus gives up, and nobody learns that the relay lags."""
        postgres_server.freeze()
        try:
            told = aside(collected).result(60)
        finally:
            postgres_server.thaw()
        assert ("keybits_recorded_changes", "default") not in told
        assert told["keybits_store_up", ""] == 1

    @pytest.mark.stack("server")
    def test_is_counted_past_a_pool(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would keep connections for the next look. The package of the pools is not installed."""
        with monkeypatch.context() as patch:
            patch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
            patch.setitem(connection.settings_dict["OPTIONS"], "pool", True)
            told = collected()
        assert told["keybits_recorded_changes", "default"] == 0

    def test_leaves_no_connection_behind_in_a_thread_that_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As each scrape has one of its own."""
        made: list[Any] = []
        kind = type(connections["default"])
        copy = kind.copy
        monkeypatch.setattr(kind, "copy", lambda own: made.append(copy(own)) or made[-1])
        aside(collected).result(60)
        assert made
        assert all(each.connection is None for each in made)


@pytest.mark.django_db
class TestTheRelay:
    def test_lags_by_the_age_of_its_word(self, settings: Settings) -> None:
        settings.KEYBITS_RELAY, settings.KEYBITS_RELAY_BOUND = "external", 100
        store = get_store()
        store.vouch(store.now() + 60_000)
        assert 40 <= collected()["keybits_relay_lag_seconds", ""] < 99

    def test_lags_without_a_bound_where_none_vouches(self, settings: Settings) -> None:
        settings.KEYBITS_RELAY = "external"
        get_store().clear()
        assert collected()["keybits_relay_lag_seconds", ""] == float("inf")

    def test_has_no_lag_where_there_is_none(self, settings: Settings) -> None:
        settings.KEYBITS_RELAY = "off"
        assert ("keybits_relay_lag_seconds", "") not in collected()


@pytest.mark.django_db
class TestTheStore:
    @pytest.fixture
    def broken(self, request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> None:
        settings.KEYBITS_RELAY = "external"
        settings.KEYBITS_PURGERS = {"edge": VARNISH}
        if "redis" in settings.KEYBITS_STORE:
            request.getfixturevalue("redis_server").kill()
        (tmp_path / "file").touch()
        settings.KEYBITS_LMDB_PATH = tmp_path / "file"

    def test_that_answers_is_up(self) -> None:
        assert collected()["keybits_store_up", ""] == 1

    @pytest.mark.usefixtures("broken")
    def test_that_does_not_is_down_and_nobody_s_word_holds(self) -> None:
        told = collected()
        assert told["keybits_store_up", ""] == 0
        assert told["keybits_relay_lag_seconds", ""] == float("inf")
        assert ("keybits_purges_waiting", "edge") not in told


VARNISH = {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": ["http://127.0.0.1:1"]}


@pytest.mark.django_db
def test_what_waits_for_a_cache_is_told_as_the_delivering_process_has_noted_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KEYBITS_METRICS, settings.KEYBITS_PURGERS = True, {"edge": VARNISH}
    monkeypatch.setattr(Delivery, "_start", lambda self: None)
    Delivery().offer({("default", number): f"s{number}" for number in range(3)})
    told = collected()
    assert told["keybits_purges_waiting", "edge"] == 3
    assert 0 <= told["keybits_purges_waiting_seconds", "edge"] < 60


SEED = "from catalog.models import Tag; Tag.objects.create(slug='x', name='X')"


def test_of_a_deployment_whose_cache_is_down_all_is_told_by_a_process_beside_it(
    live_server_process: Callable[..., LiveServer], tmp_path: Path
) -> None:
    purgers = {"edge": {**VARNISH, "servers": [f"http://127.0.0.1:{reserve_port()}"]}}
    live = live_server_process(
        workers=2,
        environment={
            "PURGERS": json.dumps(purgers),
            "KEYBITS_METRICS": "true",
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        },
    )
    live.shell(SEED)
    with closing(live.database()) as database:
        recorded = database.execute("SELECT count(*) FROM keybits_change").fetchone()[0]
    told: dict[str, float] = {}

    def is_told() -> bool:
        lines = [line for line in live.manage("keybits_metrics").splitlines() if not line.startswith("#")]
        told.update((name, float(value)) for name, _, value in (line.rpartition(" ") for line in lines))
        return told.get('keybits_purges_waiting{purger="edge"}') == recorded > 0

    eventually(is_told)
    assert told['keybits_recorded_changes{database="default"}'] == recorded
    assert told['keybits_purges_waiting_seconds{purger="edge"}'] > 0
    assert told["keybits_store_up"] == 1
    assert told["keybits_relay_lag_seconds"] >= 0
