"""A database that is restored, or exchanged for another, is noticed: nothing of what was cached is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import NotSupportedError, OperationalError, ProgrammingError, connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Tag
from keybits import changes, history
from keybits import relay as relays
from keybits.delivery import orders
from keybits.history import History
from keybits.relay import Relay
from keybits.stores import StoreError, get_store

pytestmark = pytest.mark.django_db(transaction=True)
SCOPES = ("tags", "tag:x")


def run(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def fail(_: Any) -> None:
    raise StoreError("it takes too long")


def go_back() -> None:
    """Have the record count as it did a hundred changes ago, which is what a backup that is restored brings."""
    if connection.vendor == "sqlite":
        run("UPDATE sqlite_sequence SET seq = max(0, seq - 100) WHERE name = %s", changes.TABLE)
    else:
        run(f"SELECT setval('{history.SEQUENCE}', greatest(1, last_value - 100)) FROM {history.SEQUENCE}")  # noqa: S608


@pytest.fixture(autouse=True)
def _no_row_has_an_id_of_the_future() -> Iterator[None]:
    yield
    run(f"DELETE FROM {changes.TABLE}")  # noqa: S608


@pytest.fixture
def relay() -> Relay:
    """A relay that has looked at a database of some changes."""
    for number in range(60):
        Tag.objects.create(slug=f"tag-{number}", name="One of many")
    relay = Relay()
    relay.once()
    relay.sweep()
    return relay


def test_a_database_that_goes_on_leaves_what_is_cached(relay: Relay) -> None:
    before = get_store().mint(SCOPES)
    Tag.objects.create(slug="y", name="Y")
    for _ in range(3):
        relay.once()
    assert get_store().mint(("tag:x",)) == before[1:]


def test_a_database_that_went_back_ends_everything(relay: Relay) -> None:
    before = get_store().mint((*SCOPES, "declared:nowhere"))
    get_store().write("key", b"an entry")
    go_back()
    relay.once()
    assert not set(get_store().mint((*SCOPES, "declared:nowhere"))) & set(before)
    assert get_store().read("key", ()).entry is None


@pytest.mark.stack("server")
def test_a_disk_that_went_back_ends_everything_though_the_record_s_numbers_went_on(relay: Relay) -> None:
    """PostgreSQL's sequences go on up to 32 numbers ahead after a crash, and a snapshot of its disk begins with one."""
    before, note = get_store().mint(SCOPES), f"{history.NOTE}default"
    past, numbers, name = (get_store().noted(note) or b"").decode().split(" ", 2)
    position, log = map(int, numbers.split("/"))
    assert log > 0
    get_store().note(note, f"{past} {position - 1}/{log + 2**40} {name}".encode())
    relay.once()
    assert not set(get_store().mint(SCOPES)) & set(before)


def test_a_note_of_before_there_was_a_log_in_it_is_understood(relay: Relay) -> None:
    before, note = get_store().mint(SCOPES), f"{history.NOTE}default"
    past, numbers, name = (get_store().noted(note) or b"").decode().split(" ", 2)
    get_store().note(note, f"{past} {numbers.partition('/')[0]} {name}".encode())
    relay.once()
    assert get_store().mint(SCOPES) == before


def test_another_relay_does_not_end_everything_again(relay: Relay) -> None:
    go_back()
    relay.once()
    before = get_store().mint(SCOPES)
    Relay().once()
    relay.once()
    assert get_store().mint(SCOPES) == before


def test_a_relay_that_another_overtakes_ends_nothing(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    present = history.present

    def overtaken(connection: Any) -> History | None:
        found = present(connection)
        monkeypatch.setattr(history, "present", present)
        Tag.objects.create(slug="y", name="Y")
        Relay().once()
        return found

    before = get_store().mint(("tag:x",))
    monkeypatch.setattr(history, "present", overtaken)
    relay.once()
    assert get_store().mint(("tag:x",)) == before


def test_rows_of_another_past_are_closed_though_others_had_their_ids(relay: Relay) -> None:
    run(f"INSERT INTO {changes.TABLE} (scope) VALUES ('tag:x')")  # noqa: S608
    relays = [relay, Relay()]
    assert [each.once() for each in relays] == [1, 1]
    run(f"UPDATE {changes.TABLE} SET scope = 'tag:y'")  # noqa: S608 - the same id
    go_back()
    assert [each.once() for each in relays] == [2, 2]  # that row, and the one of everything
    assert [each.once() for each in relays] == [0, 0]


@pytest.mark.stack("server")
@pytest.mark.usefixtures("relay")
def test_rows_of_another_past_are_seen_though_its_transactions_have_lower_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relays, "SPARED", math.inf)
    relay = Relay()
    relay.once()
    run(f"INSERT INTO {changes.TABLE} (scope, tx) VALUES ('tag:x', '3')")  # noqa: S608
    assert relay.once() == 0
    go_back()
    assert relay.once() == 2  # that row, and the one of everything


def test_the_caches_in_front_are_told_to_drop_everything(relay: Relay) -> None:
    go_back()
    relay.once()
    scopes = {scope for _, scope, _ in changes.recorded(connection)}
    assert scopes == {"*"}
    (order,) = orders({*scopes, "tag:x"})
    assert order.everything


def test_the_caches_in_front_are_told_though_that_could_not_be_recorded_at_once(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any) -> None:
        raise OperationalError("database is locked")

    go_back()
    with monkeypatch.context() as patch:
        patch.setattr(changes, "replace", locked)
        with pytest.raises(OperationalError):
            relay.once()
    relay.once()
    assert "*" in {scope for _, scope, _ in changes.recorded(connection)}


def test_a_store_that_knows_nothing_is_told_and_loses_nothing(relay: Relay) -> None:
    get_store().clear()
    before = get_store().mint(SCOPES)
    relay.once()
    assert get_store().mint(SCOPES) == before
    go_back()
    relay.once()
    assert not set(get_store().mint(SCOPES)) & set(before)


class TestAnotherProjectInTheStore:
    """Its relay notes its own database, and this one's this one: each would end what the other has at each look."""

    @pytest.fixture
    def look(self, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
        """Look after the other has, and say whether everything has ended."""
        monkeypatch.setattr(history, "_ended", {}, raising=False)
        monkeypatch.setattr(history, "_told", set(), raising=False)

        def look() -> bool:
            get_store().note(f"history:{connection.alias}", b"its 5 another")
            before = get_store().mint(SCOPES)
            relay.once()
            return get_store().mint(SCOPES) != before

        return look

    def test_ends_everything_once_and_is_told_of_once(
        self, look: Callable[[], bool], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert [look() for _ in range(4)] == [True, False, False, False]
        assert [record.levelname for record in caplog.records].count("ERROR") == 1

    def test_hides_no_database_that_is_exchanged(
        self, look: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert [look(), look()] == [True, False]
        monkeypatch.setattr(history, "present", lambda _: History("a third", 9))
        assert [look(), look()] == [True, False]

    def test_hides_no_database_for_which_everything_could_not_be_ended_at_once(
        self, look: Callable[[], bool], settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.KEYBITS_STORE_RETRY = 0
        with monkeypatch.context() as patch:
            patch.setattr(type(get_store().store), "clear", fail)
            with pytest.raises(StoreError):
                look()
        assert look()

    def test_hides_no_database_that_goes_back(self, look: Callable[[], bool], relay: Relay) -> None:
        look()
        before = get_store().mint(SCOPES)
        go_back()
        relay.once()
        assert not set(get_store().mint(SCOPES)) & set(before)


class TestHistory:
    @pytest.mark.parametrize(
        ("present", "goes_on"),
        [
            (History("one", 5), True),
            (History("one", 6), True),
            (History("one", 4), False),
            (History("another", 6), False),
            (History("on", 6), True),
            (History("one/more", 6), True),
        ],
    )
    def test_goes_on_from_an_earlier_moment_of_the_same(self, present: History, goes_on: bool) -> None:
        assert present.goes_on_from(History("one", 5)) is goes_on

    @pytest.mark.parametrize(("log", "goes_on"), [(8, True), (7, True), (6, False), (0, True)])
    def test_goes_on_also_where_it_is_not_known_how_far_the_log_has_come(
        self, log: int, goes_on: bool
    ) -> None:
        assert History("one", 6, log).goes_on_from(History("one", 5, 7)) is goes_on


@pytest.mark.stack("server")
class TestPostgreSQL:
    def test_tells_the_cluster_the_timeline_and_the_objects(self) -> None:
        found = history.present(connection)
        assert found is not None
        database, table, cluster, timeline = found.name.split("/")
        assert min(map(int, (database, table, cluster))) > 0
        assert timeline == "00000001"

    def test_that_does_not_tell_everybody_its_timeline_is_followed_by_the_rest(self) -> None:
        """As Aurora is, or a server whose administrator keeps these functions."""
        run("CREATE ROLE guarded")
        run("REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC")
        run(f"GRANT SELECT ON {history.SEQUENCE} TO guarded")
        try:
            run("SET ROLE guarded")
            found = history.present(connection)
            with CaptureQueriesContext(connection) as queries:
                assert history.present(connection) == found
        finally:
            run("RESET ROLE")
            run("GRANT EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) TO PUBLIC")
            run("DROP OWNED BY guarded")
            run("DROP ROLE guarded")
            connection.close()
        whole = history.present(connection)
        assert found is not None
        assert whole is not None
        assert whole.name != found.name
        assert whole.goes_on_from(found)
        assert len(queries) == 1

    @pytest.mark.parametrize("refusal", [ProgrammingError, NotSupportedError])
    def test_so_is_one_that_has_no_such_functions(
        self, monkeypatch: pytest.MonkeyPatch, refusal: type[Exception]
    ) -> None:
        def fetch(_: object, sql: str) -> list[Any]:
            if sql == history.POSTGRESQL:
                raise refusal
            return [("1/2/", 5, 0)]

        monkeypatch.setattr(history, "_fetch", fetch)
        try:
            assert history.present(connection) == History("1/2/", 5)
        finally:
            connection.close()

    def test_in_recovery_has_the_past_that_the_store_knows(
        self, relay: Relay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It follows its primary, which goes on."""
        past = history.follow(connection)
        monkeypatch.setattr(history, "_fetch", lambda *_: [])
        assert history.follow(connection) == past != ""
