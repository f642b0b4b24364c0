"""Of two stores that are used with one database one is believed: what the other has not heard of is in no record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from stacks.servers import start_redis

from keybits import changes, fencing
from keybits import relay as relays
from keybits.fencing import ContestedError
from keybits.relay import Relay
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)
SCOPES = ("tag:x", "tag:y")
NOTE = f"{fencing.NOTE}default"


@pytest.fixture(autouse=True)
def _held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has taken nothing, the database names this store, and the record holds nothing of other tests."""
    monkeypatch.setattr(fencing, "_taken", {})
    monkeypatch.setattr(fencing, "_seen", {})
    relay = Relay()
    relay.once()
    relay.sweep()
    yield
    changes.set_store_name(connection, name())


def name() -> str:
    return fencing.name(connection.alias)


def test_the_database_names_the_store_that_is_used_with_it() -> None:
    assert changes.store_name(connection) == name() != ""


def test_what_is_cached_is_left_where_nobody_else_has_used_the_database() -> None:
    before = get_store().mint(SCOPES)
    for _ in range(3):
        Relay().once()
    assert get_store().mint(SCOPES) == before


def test_everything_has_ended_where_another_store_was_used_since() -> None:
    """Its relay has closed changes, and deleted what recorded them."""
    before = get_store().mint(SCOPES)
    changes.set_store_name(connection, "another")
    Relay().once()
    assert not set(get_store().mint(SCOPES)) & set(before)
    assert changes.store_name(connection) == name()


def test_what_readers_kept_before_anybody_named_the_store_has_ended() -> None:
    """They need no relay for that; and what they read may have changed since, as only another store was told."""
    get_store().clear()
    before = get_store().mint(SCOPES)
    changes.set_store_name(connection, "another")
    Relay().once()
    assert not set(get_store().mint(SCOPES)) & set(before)


class TestSeveralDatabases:
    """The end of everything in the store, which names one of them, also forgets what the others call it."""

    @pytest.fixture
    def cleared(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What there is for each time that the store is cleared; to begin with it is empty, and nothing is known."""
        times: list[str] = []
        clear = get_store().clear

        def count() -> None:
            times.append("cleared")
            clear()

        clear()
        monkeypatch.setattr(fencing, "_seen", {})
        monkeypatch.setattr(get_store(), "clear", count)
        return times

    def test_are_each_named_once(self, monkeypatch: pytest.MonkeyPatch, cleared: list[str]) -> None:
        names: dict[str, str] = {}
        monkeypatch.setattr(changes, "store_name", lambda database: names.get(database.alias, ""))
        monkeypatch.setattr(
            changes, "set_store_name", lambda database, name: names.update({database.alias: name})
        )
        for alias in ("one", "other") * 3:
            fencing.ensure_named(SimpleNamespace(alias=alias))  # type: ignore[arg-type]
        assert len(cleared) == 2
        assert {alias: fencing.name(alias) for alias in names} == names

    def test_that_are_one_by_two_aliases_are_named_once(self, cleared: list[str]) -> None:
        beside: Any = connection.copy(alias="beside")
        try:
            for _ in range(3):
                fencing.ensure_named(connection)
                fencing.ensure_named(beside)
        finally:
            beside.close()
        assert len(cleared) == 1
        assert fencing.name("beside") == name() == changes.store_name(connection)


def test_who_comes_second_finds_the_store_named_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    changes.set_store_name(connection, "another")
    lease, first = fencing._lease, []

    def be_late(alias: str, holder: str) -> None:
        if not first:
            first.append(holder)
            Relay().once()
            first.extend(get_store().mint(SCOPES))
        lease(alias, holder)

    monkeypatch.setattr(fencing, "_lease", be_late)
    Relay().once()
    assert list(get_store().mint(SCOPES)) == first[1:]


def test_who_comes_as_another_is_at_it_waits_for_that_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two workers that start at once."""
    changes.set_store_name(connection, "another")
    relay = Relay(["default"])
    assert get_store().lease(NOTE, "a worker", 60)
    relay._look()
    assert (changes.store_name(connection), caplog.records) == ("another", [])
    get_store().release(NOTE, "a worker")
    relay._look()
    assert changes.store_name(connection) == name()


def test_nothing_is_believed_of_a_store_beside_which_another_is_used() -> None:
    Relay().once()
    changes.set_store_name(connection, "another")
    Relay().once()
    changes.set_store_name(connection, "another")
    with pytest.raises(ContestedError, match="is used with another store at the same time"):
        Relay().once()
    with pytest.raises(CommandError, match="vouched for: the database 'default'"):
        call_command("keybits_relay", once=True)


def test_nothing_is_vouched_for_where_another_store_was_named_in_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clear = get_store().clear

    def clear_as_another_comes() -> None:
        clear()
        changes.set_store_name(connection, "one more")

    changes.set_store_name(connection, "another")
    monkeypatch.setattr(get_store(), "clear", clear_as_another_comes)
    with pytest.raises(ContestedError, match="another process"):
        Relay().once()
    assert name() == ""


def test_a_relay_deletes_nothing_where_another_store_was_named_since_it_looked() -> None:
    """That one's relay may not have seen it yet."""
    changes.replace(connection, [id for id, _, _ in changes.recorded(connection)], SCOPES)
    relay = Relay()
    relay.once()
    changes.set_store_name(connection, "another")
    relay.sweep()
    assert sorted(scope for _, scope, _ in changes.recorded(connection)) == sorted(SCOPES)
    changes.set_store_name(connection, name())
    relay.once()
    relay.sweep()
    assert not changes.recorded(connection)


def test_what_was_closed_in_one_store_is_closed_in_the_next_before_anybody_vouches_for_it() -> None:
    """Other processes may have used the next one for a while, and named it, before this one came to it."""
    changes.replace(connection, [id for id, _, _ in changes.recorded(connection)], SCOPES)
    relay = Relay()
    relay.once()
    changes.set_store_name(connection, "the next")
    get_store().note(NOTE, b"the next")
    before = get_store().mint(SCOPES)
    relay.once()
    assert not set(get_store().mint(SCOPES)) & set(before)


@pytest.mark.stack("server")
def test_nobody_vouches_for_a_server_that_takes_over_after_something_was_closed(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was closed at the old server, and others may have been using the new one."""
    settings.KEYBITS_RELAY = "external"
    relay, other = Relay(), start_redis(tmp_path / "other")
    relay.once()
    store: Any = get_store().store
    attend = relay._roster.attend

    def others_turn() -> None:
        attend()
        store._dial.keywords["port"] = other.port
        store._idle.clear()

    try:
        monkeypatch.setattr(relay._roster, "attend", others_turn)
        relay.once()
        assert get_store().vouched() == 0
        monkeypatch.undo()
        relay.once()
        assert get_store().vouched() > 0
    finally:
        get_store.cache_clear()
        other.kill()


@pytest.fixture
def turn(tmp_path: Path, settings: Any) -> Iterator[Callable[[], None]]:
    """Have this process reach the other of two servers from now on; both answer all the time."""
    settings.KEYBITS_RELAY = "external"
    store: Any = get_store().store
    here, other = store._dial.keywords["port"], start_redis(tmp_path / "other")

    def turn() -> None:
        store._dial.keywords["port"] = other.port if store._dial.keywords["port"] == here else here
        store._idle.clear()

    yield turn
    store._dial.keywords["port"] = here
    get_store.cache_clear()
    other.kill()


@pytest.mark.stack("server")
def test_nobody_vouches_for_a_server_that_is_back_after_something_was_closed_at_another(
    turn: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each new connection leads to one of two servers."""
    relay, close = Relay(), relays._close
    relay.once()
    before = get_store().mint(SCOPES)
    changes.replace(connection, [id for id, _, _ in changes.recorded(connection)], SCOPES)
    store: Any = get_store().store
    store._call(lambda run: ["DEL", f"{run}:vouched"])

    def elsewhere(scopes: dict[str, list[str]]) -> None:
        turn()
        close(scopes)
        turn()

    with monkeypatch.context() as patch:
        patch.setattr(relays, "_close", elsewhere)
        relay.once()
    assert get_store().vouched() == 0
    relay.once()
    assert get_store().vouched() > 0
    assert not set(get_store().mint(SCOPES)) & set(before)


@pytest.mark.stack("server")
def test_a_server_that_takes_over_while_another_is_named_is_not_named_before_all_in_it_has_ended(
    turn: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    relay, clear = Relay(), get_store().clear
    turn()
    before = get_store().mint(SCOPES)
    turn()
    changes.set_store_name(connection, "another")

    def cleared() -> None:
        clear()
        turn()

    with monkeypatch.context() as patch:
        patch.setattr(get_store(), "clear", cleared)
        relay.once()
    assert get_store().vouched() == 0
    relay.once()
    assert get_store().vouched() > 0
    assert not set(get_store().mint(SCOPES)) & set(before)


def test_whoever_dies_between_the_name_and_the_end_leaves_the_end_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die() -> None:
        raise SystemExit

    before = get_store().mint(SCOPES)
    changes.set_store_name(connection, "another")
    with monkeypatch.context() as dying:
        dying.setattr(get_store(), "clear", die)
        with pytest.raises(SystemExit):
            Relay().once()
    assert changes.store_name(connection) not in {"another", name()}
    Relay().once()
    assert not set(get_store().mint(SCOPES)) & set(before)


def test_a_database_that_another_store_has_left_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for patience in (fencing.PATIENCE, 0.0):
        changes.set_store_name(connection, "another")
        monkeypatch.setattr(fencing, "PATIENCE", patience)
        Relay().once()
        assert changes.store_name(connection) == name()


def test_a_store_that_comes_back_empty_takes_the_database_whatever_was_before() -> None:
    for _ in range(3):
        get_store().clear()
        Relay().once()
        assert changes.store_name(connection) == name()


def test_a_database_that_names_no_store_names_this_one_whatever_was_before() -> None:
    for is_flushed in (False, False, True):
        changes.set_store_name(connection, "")
        if is_flushed:
            get_store().clear()
        Relay().once()
        assert changes.store_name(connection) == name() != ""


def test_a_store_in_place_of_the_one_that_a_process_knew_has_ended() -> None:
    """It has a name of its own: it was used before, and not since."""
    Relay().once()
    get_store().note(NOTE, b"of before")
    before = get_store().mint(SCOPES)
    Relay().once()
    assert not set(get_store().mint(SCOPES)) & set(before)


@pytest.mark.stack("server")
def test_a_server_that_took_another_s_place_is_not_reminded_and_that_one_is_not_believed_when_it_is_back(
    tmp_path: Path, settings: Any
) -> None:
    """The other has the stamps of then, and its own name; what has been closed meanwhile is in no record any more."""
    Relay().once()
    first, before = changes.store_name(connection), get_store().mint(SCOPES)
    usual, other = settings.CACHES, start_redis(tmp_path / "other")
    settings.CACHES = {"default": {**usual["default"], "LOCATION": other.url}}
    get_store.cache_clear()
    try:
        Relay().once()
        assert changes.store_name(connection) not in {"", first}
        changes.replace(connection, [], ["tag:x"])
        Relay().once()
    finally:
        settings.CACHES = usual
        get_store.cache_clear()
        other.kill()
    Relay().once()
    assert not set(get_store().mint(SCOPES)) & set(before)


def test_a_store_that_was_flushed_is_reminded_of_its_name_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Relay().once()
    before = name()
    get_store().clear()
    with monkeypatch.context() as writing:
        writing.setattr(changes, "set_store_name", None)
        Relay().once()
    assert name() == before


def test_one_process_takes_a_database_and_the_others_wait() -> None:
    changes.set_store_name(connection, "another")
    get_store().lease(NOTE, "somebody", 60)
    with pytest.raises(ContestedError, match="another process"):
        Relay().once()
    get_store().release(NOTE, "somebody")
    Relay().once()
