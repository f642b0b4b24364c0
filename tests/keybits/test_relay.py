"""What writers did not close, a relay does: from the record that was committed with the change."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import InterfaceError, OperationalError, connection, connections, router, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from stacks.threads import aside

from catalog.models import Tag
from keybits import changes, readthrough, transactions
from keybits import relay as relays
from keybits.relay import Relay
from keybits.stamps import MOST_MEMBERS
from keybits.stores import StoreError, get_store
from keybits.transactions import WriteRefusedError

pytestmark = pytest.mark.django_db(transaction=True)
SCOPES = ("tags", "tag:x")
RECORDS = f"INSERT INTO {changes.TABLE} (scope)"
RECORD = f"{RECORDS} VALUES ('{{}}')"
EDGE = {"edge": {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": ["http://[::1]:9"]}}
"""A cache in front, where nobody listens."""


@pytest.fixture
def tag() -> Tag:
    return Tag.objects.create(slug="x", name="X")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Callable[..., None]:
    """Break methods of the store: `broken("open", "close")`; `broken()` mends it."""
    settings.KEYBITS_STORE_RETRY = 0
    store: Any = get_store()
    out_of_reach: set[str] = set()
    for name in ("open", "close", "vouch"):
        original = getattr(type(store.store), name)

        def call(*args: Any, name: str = name, original: Any = original) -> None:
            if name in out_of_reach:
                raise StoreError("out of reach")
            original(*args)

        monkeypatch.setattr(type(store.store), name, call)

    def breaks(*names: str) -> None:
        out_of_reach.clear()
        out_of_reach.update(names)

    return breaks


def rows(where: str = "TRUE") -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT scope, writer FROM {changes.TABLE} WHERE {where} ORDER BY scope")  # noqa: S608
        return cursor.fetchall()


def settle() -> None:
    """Forget what the fixtures' own writes recorded."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {changes.TABLE}")  # noqa: S608


def unwatched(sql: str) -> None:
    """Write as somebody does who knows nothing of Django: nothing is claimed, opened or closed."""
    wrappers, connection.execute_wrappers = connection.execute_wrappers, []
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.execute_wrappers = wrappers


class TestChangesPastDjango:
    def test_they_are_recorded_by_the_database_and_closed_by_the_next_look(self, tag: Tag) -> None:
        settle()
        before = get_store().mint(SCOPES)
        unwatched("UPDATE catalog_tag SET name = 'psql'")
        assert rows() == [("tag:x", ""), ("tags", "")]
        assert get_store().mint(SCOPES) == before
        relay = Relay()
        assert relay.once() == 2
        assert not set(get_store().mint(SCOPES)) & set(before)
        relay.sweep()
        assert rows() == []

    def test_a_change_that_is_rolled_back_leaves_no_record(self, tag: Tag) -> None:
        settle()
        with transaction.atomic():
            unwatched("UPDATE catalog_tag SET name = 'psql'")
            transaction.set_rollback(True)
        assert rows() == []

    def test_a_store_that_is_away_loses_nothing(self, tag: Tag, broken: Callable[..., None]) -> None:
        settle()
        unwatched("UPDATE catalog_tag SET name = 'psql'")
        broken("close", "vouch")
        relay = Relay()
        with pytest.raises(StoreError):
            relay.once()
        relay.sweep()
        assert len(rows()) == 2
        broken()
        assert relay.once() == 2
        relay.sweep()
        assert rows() == []

    def test_what_waits_for_a_store_that_is_away_is_bounded_without_caches_in_front_too(
        self, tag: Tag, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settle()
        monkeypatch.setattr(relays, "MOST_ROWS", 50)
        for number in range(30):
            Tag.objects.update(name=str(number))
        assert len(rows()) == 60

        def out_of_reach(_: Any) -> int:
            raise StoreError("out of reach")

        relay = Relay()
        relay._swept = -math.inf
        with monkeypatch.context() as away:
            away.setattr(type(get_store().store), "now", out_of_reach)
            with pytest.raises(StoreError):
                relay._once_and_deliver()
        get_store().is_tripped = False
        assert rows() == [("tag:x", ""), ("tags", "")]

    def test_a_change_of_what_was_closed_and_not_yet_swept_is_a_change(self, tag: Tag) -> None:
        settle()
        relay = Relay()
        for name in ("one", "two", "three"):
            before = get_store().mint(SCOPES)
            unwatched(f"UPDATE catalog_tag SET name = '{name}'")  # noqa: S608
            assert relay.once() == 2
            assert not set(get_store().mint(SCOPES)) & set(before), name

    def test_a_row_is_closed_once_however_often_it_is_seen(self, tag: Tag) -> None:
        settle()
        unwatched("UPDATE catalog_tag SET name = 'psql'")
        relay = Relay()
        relay.once()
        minted = get_store().mint(SCOPES)
        assert relay.once() == 0
        assert get_store().mint(SCOPES) == minted


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite wakes nobody")
def test_postgresql_itself_is_asked_to_wake_it(settings: Any) -> None:
    settings.KEYBITS_RELAY_INTERVAL = 0.01
    relay = Relay()
    relay.once()
    relay._wait()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_listening_channels()")
            assert cursor.fetchall() == [(changes.CHANNEL,)]
    finally:
        connection.close()


@pytest.mark.stack("server")  # SQLite wakes nobody
def test_who_calls_before_a_look_begins_wakes_nobody_after_it(tag: Tag) -> None:
    relay = Relay()
    relay.once()
    relay._wait()
    raw: Any = connection.connection
    try:
        for name in ("one", "two"):
            unwatched(f"UPDATE catalog_tag SET name = '{name}'")  # noqa: S608
        relay._look()
        assert list(raw.notifies(timeout=0)) == []
        unwatched("UPDATE catalog_tag SET name = 'three'")
        assert list(raw.notifies(timeout=30, stop_after=1)) != []
    finally:
        connection.close()


def spin(seconds: float) -> None:
    """Let so much time go by."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.stack("server")  # SQLite wakes nobody
@pytest.mark.parametrize("purges", [True, False])
def test_who_purges_the_caches_in_front_looks_as_soon_as_it_is_called_and_others_wait_for_the_first(
    tag: Tag, settings: Any, monkeypatch: pytest.MonkeyPatch, purges: bool
) -> None:
    settings.KEYBITS_PURGERS = EDGE if purges else {}
    settings.KEYBITS_RELAY_INTERVAL = 30
    relay, waited = Relay(), []
    relay.once()
    monkeypatch.setattr(relay.stopped, "wait", waited.append)
    try:
        connection.connection._keybits_listens = relays._may_listen(connection)
        unwatched("UPDATE catalog_tag SET name = 'psql'")
        before = time.monotonic()
        assert relay._wait() >= before
        assert [0 <= each <= relays.PAUSE for each in waited] == [True] * (not purges)
    finally:
        connection.close()


@pytest.mark.stack("server")  # SQLite wakes nobody
def test_one_that_loses_its_connection_looks_next_whoever_has_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = Relay()
    relay.once()
    relay._wait()
    monkeypatch.setattr(relay.stopped, "wait", lambda _: None)
    connection.connection.close()
    assert relay._wait() == -math.inf


class TestManyRelays:
    """Each process has one: were all to look at every change, a change would cost the database as many looks."""

    @pytest.fixture(autouse=True)
    def lasting(self, settings: Any) -> None:
        settings.KEYBITS_RELAY_BOUND = 60

    @pytest.fixture
    def other(self) -> Relay:
        """A relay that has looked before the other one does."""
        relay = Relay()
        relay._look()
        return relay

    def test_one_that_was_woken_before_another_began_to_look_leaves_it_at_that(self, other: Relay) -> None:
        woken = time.monotonic()
        spin(2 * relays.ROUNDING)
        Relay().once()
        spin(2 * relays.ROUNDING)
        assert other._is_spared(woken)
        assert 0 < other._age < time.monotonic() - woken

    def test_one_that_was_woken_afterwards_looks_itself(self, other: Relay) -> None:
        Relay().once()
        assert not other._is_spared(time.monotonic())

    def test_nobody_is_spared_the_first_look(self) -> None:
        Relay().once()
        assert not Relay()._is_spared(-math.inf)

    def test_nobody_is_spared_for_longer_than_a_word_holds(self, other: Relay) -> None:
        """The other may be of another release, and look at fewer databases."""
        other._began -= 61
        Relay().once()
        assert not other._is_spared(time.monotonic() - 3600)
        other._look()
        assert other._is_spared(time.monotonic() - 3600)

    def test_nobody_is_spared_without_a_word(self, other: Relay) -> None:
        get_store().clear()
        assert not other._is_spared(time.monotonic() - 3600)

    def test_nobody_is_spared_by_a_word_that_holds_for_longer_than_its_own(self, settings: Any) -> None:
        """Who gave it says nothing of when it began to look."""
        Relay().once()
        settings.KEYBITS_RELAY_BOUND = 30
        relay = Relay()
        relay._began = time.monotonic()
        assert not relay._is_spared(time.monotonic() - 3600)

    @pytest.mark.parametrize("error", [StoreError, AttributeError])
    def test_nobody_is_spared_where_the_store_does_not_tell(
        self, other: Relay, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        """Be it away, or one of a project's own: were the relay to end, nobody would start another."""

        def away(_: Any) -> float:
            raise error

        Relay().once()
        monkeypatch.setattr(type(get_store().store), "vouched", away)
        assert not other._is_spared(time.monotonic() - 3600)

    def test_who_purges_the_caches_in_front_is_not_spared(self, settings: Any) -> None:
        settings.KEYBITS_PURGERS = EDGE
        relay = Relay()
        relay.once()
        relay._began = time.monotonic()
        assert not relay._is_spared(time.monotonic() - 3600)

    def test_what_is_spared_is_not_looked_at_and_what_is_not_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks: list[int] = []
        turns = iter([True, True, False])
        relay = Relay()
        monkeypatch.setattr(Relay, "once", lambda _: looks.append(1) or 0)

        def wait(_: Relay) -> float:
            turn = next(turns, None)
            if turn is None:
                relay.stopped.set()
            return 1.0 if turn else 0.0

        monkeypatch.setattr(Relay, "_wait", wait)
        monkeypatch.setattr(Relay, "_is_spared", lambda _, woken: woken == 1.0)
        relay.run()
        assert len(looks) == 2

    @pytest.mark.parametrize("age", [0.0, 0.05, 1.0])
    def test_one_of_them_looks_before_the_word_is_older_than_the_interval(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, age: float
    ) -> None:
        settings.KEYBITS_RELAY_INTERVAL = 0.1
        waited: list[float] = []
        relay = Relay([])
        monkeypatch.setattr(relay.stopped, "wait", waited.append)
        relay._age = age
        for _ in range(50):
            before = time.monotonic()
            woken = relay._wait()
            assert before - 0.001 < woken + 0.075 < time.monotonic() + 0.001
        assert all(max(0.0, 0.075 - age) <= each <= max(0.0, 0.1 - age) for each in waited)
        assert age >= 0.1 or len(set(waited)) > 1


def test_its_own_work_is_committed_where_a_project_does_that_itself(
    tag: Tag, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would keep SQLite's lock with the first row that it deletes, and see nothing new of a snapshot."""

    def look() -> None:
        relay = Relay()
        relay.once()
        relay.sweep()
        connections["default"].close()

    monkeypatch.setitem(connections.settings["default"], "AUTOCOMMIT", False)
    tag.save()
    aside(look).result(30)
    assert rows() == []


class TestWritersThatDied:
    def test_what_they_left_open_is_closed_after_the_grace(
        self, tag: Tag, settings: Any, broken: Any
    ) -> None:
        settle()
        before = get_store().mint(SCOPES)
        broken("close")  # killed between COMMIT and close, as far as the store can tell
        tag.save()
        broken()
        assert get_store().mint(SCOPES) == (None, None)
        assert Relay().once() == 2
        after = get_store().mint(SCOPES)
        assert None not in after
        assert not set(after) & set(before)

    def test_what_they_left_open_as_a_whole_kind_is_closed_as_one(self, tag: Tag, broken: Any) -> None:
        broken("close")
        Tag.objects.bulk_create(Tag(slug=f"t{n}", name="T") for n in range(MOST_MEMBERS + 1))
        broken()
        assert get_store().mint(("tag:*",)) == (None,)
        Relay().once()
        assert get_store().mint(("tag:*",)) != (None,)

    def test_what_they_did_close_is_not_closed_again(self, tag: Tag) -> None:
        settle()
        tag.save()
        minted = get_store().mint(SCOPES)
        assert Relay().once() == 2
        assert get_store().mint(SCOPES) == minted


class TestAWriterCutOffFromTheStore:
    def test_its_write_is_committed_and_its_scopes_are_the_relay_s_at_once(
        self, tag: Tag, broken: Any
    ) -> None:
        settle()
        before = get_store().mint(SCOPES)
        broken("open", "close")
        tag.save()
        broken()
        assert rows("writer = ''") == [("tag:x", ""), ("tags", "")]
        Relay().once()
        assert not set(get_store().mint(SCOPES)) & set(before)

    def test_the_policy_refuse_fails_the_write_before_commit(
        self, tag: Tag, settings: Any, broken: Any
    ) -> None:
        settings.KEYBITS_WRITE_POLICY = "refuse"
        settle()
        broken("open", "close")
        with pytest.raises(WriteRefusedError, match="Nothing was written"):
            Tag.objects.update(name="new")
        broken()
        assert Tag.objects.get().name == "X"
        assert rows() == []
        Tag.objects.update(name="new")  # the connection is as good as before


class TestVouching:
    def test_a_word_that_arrives_late_holds_from_when_the_relay_looked(self, settings: Any) -> None:
        settings.KEYBITS_RELAY = "external"
        store = get_store()
        store.mint(SCOPES)
        store.vouch(store.now() - 1)
        assert store.read("key", SCOPES).stamps == (None, None)

    def test_it_holds_from_before_the_relay_looked(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is committed while it looks it may have missed."""
        settings.KEYBITS_RELAY, settings.KEYBITS_RELAY_BOUND = "external", 0.05
        store, seen = get_store(), changes.seen

        def for_long(*args: Any) -> Any:
            past = store.now() + 51
            while store.now() < past:
                pass
            return seen(*args)

        monkeypatch.setattr(changes, "seen", for_long)
        Relay().once()
        store.mint(SCOPES)
        assert store.read("key", SCOPES).stamps == (None, None)

    def test_a_word_never_shortens_another_s(self, settings: Any) -> None:
        settings.KEYBITS_RELAY, settings.KEYBITS_RELAY_BOUND = "external", 60
        store = get_store()
        store.mint(SCOPES)
        store.vouch(store.now() + 60_000)
        store.vouch(store.now() + 1)
        past = store.now() + 2
        while store.now() < past:
            pass
        assert None not in store.read("key", SCOPES).stamps

    def test_a_relay_that_fails_vouches_for_nothing(self, tag: Tag, settings: Any, broken: Any) -> None:
        settings.KEYBITS_RELAY = "external"
        unwatched("UPDATE catalog_tag SET name = 'psql'")
        get_store().mint(SCOPES)
        broken("close")
        with pytest.raises(StoreError):
            Relay().once()
        broken()
        assert get_store().read("key", SCOPES).stamps == (None, None)
        Relay().once()
        get_store().mint(SCOPES)
        assert None not in get_store().read("key", SCOPES).stamps

    def test_a_relay_that_nobody_started_is_told_to_the_log_and_not_at_every_read(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It looks like a busy site otherwise: each read is a miss."""
        monkeypatch.setattr(readthrough._no_word, "_told", None)
        settings.KEYBITS_RELAY = "external"
        Relay().once()
        readthrough.look_up("key", SCOPES)
        assert caplog.messages == []
        get_store().clear()
        for _ in range(3):
            readthrough.look_up("key", SCOPES)
        assert [
            message for message in caplog.messages if "manage.py keybits_relay" in message
        ] == caplog.messages
        assert len(caplog.messages) == 1

    @pytest.mark.parametrize("error", [OperationalError, InterfaceError, StoreError, LookupError])
    def test_a_relay_that_fails_looks_again_whatever_it_was(
        self, monkeypatch: pytest.MonkeyPatch, settings: Any, error: type[Exception]
    ) -> None:
        """Nobody would start another: this process would believe nothing any more."""
        settings.KEYBITS_RELAY_INTERVAL = 0.01
        relay, looks = Relay(), []

        def once(_: Relay) -> int:
            looks.append(len(looks))
            if len(looks) == 1:
                raise error("closed")
            relay.stopped.set()
            return 0

        monkeypatch.setattr(Relay, "once", once)
        aside(relay.run).result(30)
        assert looks == [0, 1]

    def test_a_relay_whose_looks_take_longer_than_its_word_holds_says_so_once_and_when_they_do_not(
        self, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where the store or the database is far away: it looks like a busy site otherwise."""
        relay = Relay()
        with caplog.at_level("WARNING", logger="keybits.relay"):
            relay._look()
            relay._look()
            assert caplog.messages == []
            get_store().clear()
            settings.KEYBITS_RELAY_BOUND, settings.KEYBITS_RELAY_INTERVAL = 0.000_02, 0.000_01
            for _ in range(4):
                relay._look()
            (told,) = caplog.messages
            assert told.startswith("the relay vouches too late")
            assert told.endswith("KEYBITS_RELAY_BOUND is 2e-05 s")
            settings.KEYBITS_RELAY_BOUND = 60
            relay._look()
            relay._look()
            assert caplog.messages[1:] == ["the relay vouches in time again"]

    def test_what_kept_a_relay_from_looking_is_not_told_as_slowness_too(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.KEYBITS_RELAY_BOUND, settings.KEYBITS_RELAY_INTERVAL = 0.000_02, 0.000_01
        relay = Relay()
        relay._look()
        get_store().clear()
        with monkeypatch.context() as patch:
            patch.setattr(Relay, "once", lambda _: 1 / 0)
            relay._look()
        relay._look()
        assert not [message for message in caplog.messages if "vouches too late" in message]

    def test_a_word_that_ended_while_the_machine_was_busy_is_no_slowness(
        self, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.KEYBITS_RELAY_BOUND = 60
        relay = Relay()
        relay._look()
        get_store().clear()
        relay._look()
        assert caplog.messages == []

    def test_a_word_of_another_s_that_holds_meanwhile_is_no_gap(
        self, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.KEYBITS_RELAY_BOUND, settings.KEYBITS_RELAY_INTERVAL = 60, 0.1
        Relay().once()
        settings.KEYBITS_RELAY_BOUND, settings.KEYBITS_RELAY_INTERVAL = 0.000_02, 0.000_01
        relay = Relay()
        for _ in range(3):
            relay._look()
        assert caplog.messages == []

    @pytest.mark.skipif(connection.vendor != "sqlite", reason="readers of others wait for no COMMIT")
    def test_a_look_after_a_sweep_waits_for_a_commit_as_long_as_the_project_says(self, tag: Tag) -> None:
        """Without WAL a COMMIT keeps readers out: a look that gave up would vouch for nothing meanwhile."""

        def patience() -> list[Any]:
            with connection.cursor() as cursor:
                return cursor.execute("PRAGMA busy_timeout").fetchall()

        def swept() -> tuple[list[Any], list[Any]]:
            before, relay = patience(), Relay()
            relay.once()
            relay.sweep()
            return before, patience()

        before, after = aside(swept).result(30)
        assert rows() == []
        assert after == before

    @pytest.mark.parametrize("error", [OperationalError("gone"), LookupError("gone")], ids=type)
    def test_a_relay_that_fails_for_hours_is_told_once_a_minute_and_when_it_works_again(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        relay = Relay()

        def fails(_: Relay) -> int:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Relay, "once", fails)
            for _ in range(100):
                relay._look()
        relay._look()
        assert [(record.getMessage(), bool(record.exc_info)) for record in caplog.records] == [
            ("the relay failed; nothing is believed until it succeeds: gone", True),
            ("the relay works again", False),
        ]


@pytest.mark.stack("server")
class TestWhileNothingMayBeVacuumed:
    """Somebody dumps the database for an hour, or has left a transaction open."""

    @pytest.fixture(autouse=True)
    def _old_snapshot(self) -> Iterator[None]:
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM catalog_tag")
            yield
        other.close()

    @pytest.fixture
    def relay(self, monkeypatch: pytest.MonkeyPatch) -> Relay:
        """A relay that has looked at the whole record, and will not do so again."""
        monkeypatch.setattr(relays, "SPARED", math.inf)
        relay = Relay()
        relay.once()
        return relay

    def test_a_look_passes_by_what_has_been_deleted(self, relay: Relay) -> None:
        asked: list[tuple[str, Any]] = []
        unwatched(f"{RECORDS} SELECT 'tags' FROM generate_series(1, 20000)")  # noqa: S608 - our own name
        unwatched(f"DELETE FROM {changes.TABLE}")  # noqa: S608 - as above
        relay.once()
        with connection.execute_wrapper(lambda run, *args: asked.append(args[:2]) or run(*args)):
            relay.once()
        ((sql, params),) = [each for each in asked if changes.SEEN in each[0]]
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            (((explained,),),) = cursor.fetchall()
        assert explained["Plan"]["Shared Hit Blocks"] < 50  # of the 165 that the rows were in

    def test_what_began_before_a_look_and_commits_after_it_is_seen_by_the_next(self, relay: Relay) -> None:
        late = connection.copy()
        with late.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(RECORD.format("tag:late"))
            unwatched(RECORD.format("tag:early"))
            assert [relay.once() for _ in range(2)] == [1, 0]
            before = get_store().mint(("tag:late",))
            cursor.execute("COMMIT")
        late.close()
        assert [relay.once() for _ in range(2)] == [1, 0]
        assert get_store().mint(("tag:late",)) != before

    def test_what_could_not_be_closed_is_seen_again(self, relay: Relay, broken: Callable[..., None]) -> None:
        unwatched(RECORD.format("tag:x"))
        broken("close")
        with pytest.raises(StoreError):
            relay.once()
        broken()
        assert [relay.once() for _ in range(2)] == [1, 0]

    def test_the_whole_record_is_looked_at_where_that_takes_no_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows that are copied from elsewhere have numbers of transactions elsewhere."""
        monkeypatch.setattr(relays, "SPARED", 0)
        relay = Relay()
        relay.once()
        unwatched(RECORDS.replace("scope", "scope, tx") + " VALUES ('tag:x', '3')")
        assert relay.once() == 1


class TestCommand:
    def test_looks_once_and_says_what_it_saw(self, tag: Tag, capsys: pytest.CaptureFixture[str]) -> None:
        settle()
        tag.save()
        call_command("keybits_relay", "--once")
        assert capsys.readouterr().out == "2 rows\n"
        assert rows() == []

    def test_says_what_keeps_it_from_looking_once(self, tag: Tag, broken: Callable[..., None]) -> None:
        broken("vouch")
        with pytest.raises(CommandError, match="vouched for: out of reach"):
            call_command("keybits_relay", "--once")


class TestReadersInTransactions:
    def test_one_that_has_written_keeps_and_believes_nothing(self, tag: Tag) -> None:
        with transaction.atomic():
            tag.save()
            assert transactions.sees_its_own_writes()
            assert readthrough.mint(SCOPES) is None
            assert readthrough.look_up("key", SCOPES).reason == "bypass"
        assert not transactions.sees_its_own_writes()
        assert readthrough.mint(SCOPES) is not None

    def test_one_that_looks_at_the_past_keeps_nothing(self, tag: Tag) -> None:
        with transaction.atomic():
            list(Tag.objects.all())
            may = readthrough.mint(SCOPES) is not None
        assert may is (
            connection.vendor == "postgresql"
        )  # READ COMMITTED sees the present; SQLite a snapshot

    @pytest.mark.stack("server")
    @pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
    def test_one_told_in_sql_to_look_at_the_past_keeps_nothing(self, tag: Tag, level: str) -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            assert readthrough.mint(SCOPES) is None
        with transaction.atomic():
            assert readthrough.mint(SCOPES) is not None


def test_a_child_that_is_forked_while_the_bell_is_rung_can_ring_its_own() -> None:
    """Whoever commits rings it, and would wait for a thread that is not in the child."""
    with changes.bell._cond:  # type: ignore[attr-defined]
        pid = os.fork()
        if pid == 0:
            signal.alarm(5)
            changes.bell.set()
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.skipif(
    connection.vendor != "sqlite", reason="nobody waits for the write lock of another database"
)
def test_a_relay_of_its_own_process_waits_no_longer_for_sqlite_s_lock_than_one_of_a_server() -> None:
    with relays._hurrying(connection):
        assert relays._busy_timeout(connection) == relays.HURRY


class TestDatabasesOutOfReach:
    """One that nothing declared is in keeps nobody from believing the store; any other keeps everybody."""

    @pytest.fixture
    def relay(self) -> Iterator[Relay]:
        """A relay of the database there is, and of one at an address where nobody listens."""
        nowhere = {"HOST": "127.0.0.1", "PORT": "9", "OPTIONS": {}}
        connections["reports"] = DatabaseWrapper({**connection.settings_dict, **nowhere}, "reports")
        yield Relay(["default", "reports"])
        del connections["reports"]

    def test_of_nothing_declared_it_is_left_alone(self, tag: Tag, relay: Relay, caplog: Any) -> None:
        for _ in range(3):
            relay.once()
        assert readthrough.mint(SCOPES) is not None
        assert caplog.text.count("reports") == 1

    def test_of_a_replica_nobody_is_kept_from_believing(
        self, tag: Tag, relay: Relay, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What it has is a copy, and nothing that is kept is read from it."""
        get_store().note("history:reports", b"known 1 it")
        settings.KEYBITS_REPLICAS = ["reports"]
        monkeypatch.setitem(connections.settings, "reports", connections["reports"].settings_dict)
        assert Relay().once() > 0
        assert readthrough.mint(SCOPES) is not None

    def test_of_what_is_declared_nothing_is_believed(
        self, tag: Tag, relay: Relay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(router, "db_for_write", lambda model, **_: "reports")
        with pytest.raises(OperationalError):
            relay.once()

    def test_of_one_that_has_kept_a_record_nothing_is_believed(self, tag: Tag, relay: Relay) -> None:
        get_store().note("history:reports", b"known 1 it")
        with pytest.raises(OperationalError):
            relay.once()

    def test_of_one_whose_record_was_read_nothing_is_believed_although_the_store_has_forgotten_it(
        self, tag: Tag, relay: Relay
    ) -> None:
        """It is written by an alias that no router gives without a hint, such as a shard, and Redis came back empty."""
        nowhere, connections["reports"] = connections["reports"], connection.copy(alias="reports")
        relay.once()
        connections["reports"].close()
        connections["reports"] = nowhere
        get_store().clear()
        with pytest.raises(OperationalError):
            relay.once()
