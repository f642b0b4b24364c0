"""Nobody deletes what somebody else's cache has not been told of."""

from __future__ import annotations

import logging
import time
from typing import Any

import orjson
import pytest
from django.core.management import CommandError, call_command

from keybits import edge, roster
from keybits.relay import Relay
from keybits.roster import Roster
from keybits.stores import get_store


@pytest.fixture(autouse=True)
def _nobody_is_there() -> None:
    get_store().clear()


def there(*purgers: str) -> Roster:
    """Return a process that has said that it has these."""
    one = Roster(purgers)
    one.attend()
    return one


def test_processes_with_the_same_purgers_cover_each_other() -> None:
    assert [one.covers() for one in (there("near"), there("near"))] == [True, True]


def test_who_has_less_than_another_does_not_and_who_has_as_much_does() -> None:
    none, less, more, other = there(), there("near"), there("near", "far"), there("near", "far", "elsewhere")
    assert [one.covers() for one in (none, less, more, other)] == [False, False, False, True]


def test_of_two_that_each_have_something_of_their_own_neither_does() -> None:
    assert [one.covers() for one in (there("near"), there("far"))] == [False, False]


def test_who_has_gone_counts_no_more_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(roster, "PRESENCE", 0)
        there("far")
    assert there("near").covers()


def test_whom_the_store_has_forgotten_makes_himself_known_before_he_trusts_it() -> None:
    one, other = there("near"), there("near", "far")
    get_store().clear()
    assert not one.covers()
    assert not other.covers()
    assert not one.covers()


def test_whom_the_store_has_forgotten_trusts_nobody_who_comes_after_it() -> None:
    one, _ = there("near"), there("near", "far")
    get_store().clear()
    assert not one.covers()
    there("near")
    assert not one.covers()


def test_who_has_nothing_notices_too_that_the_store_has_forgotten() -> None:
    none, _ = there(), there("far")
    get_store().clear()
    assert not none.covers()
    assert not none.covers()


def test_whom_the_store_has_forgotten_waits_until_others_have_made_themselves_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, one, like_it, other = get_store(), there("near"), there("near"), there("near", "far")
    store.clear()
    assert [each.covers() for each in (one, one, like_it)] == [False] * 3
    other._announced_at -= roster.PRESENCE / 2
    other.attend()
    assert not other.covers()
    assert not caplog.records
    noted = orjson.loads(store.noted(roster.NOTE) or b"")
    store.note(roster.NOTE, orjson.dumps(noted | {roster.LOST: store.now()}))  # the time is over
    assert [each.covers() for each in (one, like_it, other)] == [False, False, True]


def test_presence_is_prolonged_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    one = there("near")
    said = one._announced_at
    one.attend()
    assert one._announced_at == said
    one._announced_at -= roster.PRESENCE / 2
    one.attend()
    assert one._announced_at >= said
    assert one.covers()


def test_who_finds_another_at_the_note_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = get_store()
    assert store.lease(roster.NOTE, "another", 60)
    monkeypatch.setattr(roster, "sleep", lambda _: store.release(roster.NOTE, "another"))
    assert there("near").covers()


@pytest.mark.django_db(transaction=True)
def test_who_has_never_made_himself_known_does_not_vouch(monkeypatch: pytest.MonkeyPatch) -> None:
    Relay(["default"]).once()
    store, relay = get_store(), Relay(["default"])
    assert store.lease(roster.NOTE, "another", 60)
    monkeypatch.setattr(roster, "LEASE", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "vouch", None)
        with pytest.raises(roster.UnannouncedError):
            relay.once()
        with pytest.raises(CommandError, match="announcing"):
            call_command("keybits_relay", once=True)
    store.release(roster.NOTE, "another")
    assert relay.once() == 0


def test_who_has_made_himself_known_leaves_another_at_it() -> None:
    store, one = get_store(), there("near")
    assert store.lease(roster.NOTE, "another", 60)
    one._announced_at -= roster.PRESENCE / 2
    one.attend()
    store.release(roster.NOTE, "another")
    assert one.covers()


def test_who_takes_too_long_does_not_overwrite_what_another_has_said(monkeypatch: pytest.MonkeyPatch) -> None:
    one, present, is_late = Roster(["near"]), Roster._present, [False, False, True]

    def late(self: Roster) -> dict[str, int]:
        found = present(self)
        if self is one and is_late.pop():
            time.sleep(0.2)
            there("near", "far")
        return found

    monkeypatch.setattr(roster, "LEASE", 0.1)
    monkeypatch.setattr(Roster, "_present", late)
    with pytest.raises(roster.UnannouncedError):
        one.attend()
    one.attend()
    assert not one.covers()


def test_the_log_says_so_once_and_says_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    less = there("near")
    there("near", "far")
    for _ in range(3):
        assert not less.covers()
    noted = orjson.loads(get_store().noted(roster.NOTE) or b"")
    get_store().note(roster.NOTE, orjson.dumps(noted | {"far": 0}))  # it has gone
    for _ in range(3):
        assert less.covers()
    lacks, has_all = caplog.messages
    assert "KEYBITS_PURGERS lacks some" in lacks
    assert "KEYBITS_PURGERS has all again" in has_all
    assert caplog.records[0].levelno == logging.WARNING


class TestIdentities:
    def of(self, settings: Any, **options: Any) -> frozenset[str]:
        settings.KEYBITS_PURGERS = {"edge": options}
        return edge.identities()

    def test_are_the_same_in_all_processes_whatever_an_option_is(self, settings: Any) -> None:
        assert self.of(settings, BACKEND="a.B", of=object()) == self.of(settings, BACKEND="a.B", of=object())

    def test_differ_where_an_option_does(self, settings: Any) -> None:
        (one,), (other,) = self.of(settings, servers=["http://a"]), self.of(settings, servers=["http://b"])
        assert one != other

    def test_show_no_option(self, settings: Any) -> None:
        (one,) = self.of(settings, token="s3cret")
        assert (len(one), "s3cret" in one) == (16, False)
