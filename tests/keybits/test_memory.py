"""A process's memory: bounded in bytes that are counted honestly, kept for what is used, whoever asks at once."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pytest_django import Settings
from stacks.threads import at_once

from keybits import fastpath, memory
from keybits.answers import answer
from keybits.drf.renderers import written
from keybits.entries import Entry
from keybits.fastpath import Holder, Lane
from keybits.memory import OVERHEAD, Memory
from keybits.preconditions import Conditions
from keybits.readthrough import made
from keybits.stores import get_store

pytestmark = [pytest.mark.usefixtures("fast_path_on"), pytest.mark.stack("embedded")]  # a process's own
KIB = 1024


def names(kept: Memory[str], keys: str) -> str:
    return "".join(key for key in keys if key in kept._slots)


class TestBound:
    def test_it_never_counts_more_than_its_budget(self) -> None:
        kept: Memory[int] = Memory(100 * KIB)
        for number in range(1_000):
            kept.put(number, number, number % 5_000)
            assert kept.size <= 100 * KIB
            assert kept.size == sum(slot.size for slot in kept._slots.values())

    def test_what_is_used_stays_and_what_is_not_goes(self) -> None:
        kept: Memory[str] = Memory(16 * KIB)
        for key in itertools.islice("abcdefghijklmnopqrstuvwxyz", 26):
            kept.put(key, key, 400)
            kept.get("a")
        assert kept.get("a") == "a"
        assert kept.get("b") is None

    def test_one_large_thing_is_not_kept_and_drives_nothing_out(self) -> None:
        kept: Memory[str] = Memory(16 * KIB)
        kept.put("a", "a", 100)
        kept.put("large", "large", KIB - OVERHEAD + 1)
        assert (kept.get("a"), kept.get("large")) == ("a", None)

    def test_what_grows_too_large_is_refused_and_still_there(self) -> None:
        kept: Memory[str] = Memory(16 * KIB)
        kept.put("a", "a", 100)
        assert kept.weigh("a", "a", 200)
        assert not kept.weigh("a", "a", KIB)
        assert (kept.get("a"), kept.size) == ("a", 200 + OVERHEAD)

    def test_what_has_been_replaced_is_not_weighed(self) -> None:
        kept: Memory[object] = Memory(16 * KIB)
        old, new = object(), object()
        kept.put("a", old, 100)
        kept.put("a", new, 100)
        assert not kept.weigh("a", old, 200)
        assert kept.size == 100 + OVERHEAD

    @pytest.mark.parametrize(
        "let_go",
        [
            lambda kept: kept.put("a", "b", 100),
            lambda kept: kept.clear(),
            lambda kept: [kept.put(str(number), "", 400) for number in range(60)],
        ],
    )
    def test_a_slot_has_what_is_kept_and_nothing_once_it_is_not(self, let_go: Callable[[Any], None]) -> None:
        kept: Memory[str] = Memory(16 * KIB)
        kept.put("a", "a", 100)
        slot = kept.slot("a")
        assert slot is not None
        assert slot.take() == "a"
        let_go(kept)
        assert slot.take() is None

    def test_what_is_taken_from_its_slot_is_used(self) -> None:
        kept: Memory[str] = Memory(16 * KIB)
        kept.put("a", "a", 400)
        slot = kept.slot("a")
        assert slot is not None
        for number in range(30):
            kept.put(number, "", 400)
            slot.take()
        assert kept.get("a") == "a"

    def test_threads_that_do_everything_at_once_leave_the_count_right(self) -> None:
        kept: Memory[int] = Memory(50 * KIB)

        def hammer(start: int) -> None:
            for number in range(start, start + 2_000):
                key = number % 60
                kept.put(key, key, number % 900)
                kept.weigh(key, key, number % 700)
                assert kept.get(key) in {key, None}
                if number % 500 == 0:
                    kept.clear()

        at_once(*(partial(hammer, number * 7) for number in range(4)))
        assert kept.size == sum(slot.size for slot in kept._slots.values()) <= 50 * KIB


@pytest.fixture
def lane(settings: Settings) -> Lane:
    settings.KEYBITS_MEMORY_BYTES = 2 * KIB * KIB
    get_store().clear()
    found = fastpath.lane()
    assert found is not None
    return found


SCOPES = ("galleries", "gallery:*", "gallery:spring")


def entry(number: int = 0, size: int = 2_000) -> Entry:
    stamps = get_store().mint(SCOPES)
    body = b"%d" % number * (size // len(b"%d" % number))
    witness = b"".join(stamp or b"" for stamp in stamps)
    return made(
        body, [("Content-Type", "application/json"), ("Link", "</x>; rel=next")], witness=witness, now=0
    )


def teach(lane: Lane, address: Any, context: Any, key: str, found: Entry, terms: Any = None) -> None:
    given = answer(found, "GET", Conditions(), terms or fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    sent = [*given.headers, ("X-Frame-Options", "DENY"), ("Referrer-Policy", "same-origin")]
    lane.learn(address, context, Holder(key, SCOPES, given), 200, sent)


ASK = ("GET", None, None, None, None, None, None)


def text(start: str, number: int, length: int = 200) -> str:
    """Text that nobody else has."""
    return f"{start}{number:08d}".ljust(length, "x")


def scan_addresses(lane: Lane, found: Entry) -> None:
    for number in range(1_500):
        address = (None, "", text("/api/v1/screenshots/", number), text("q=", number, 400))
        teach(lane, address, ("GET", "http", None, "localhost"), "key", found)


def scan_contexts(lane: Lane, found: Entry) -> None:
    for number in range(1_500):
        address = (None, "", "/api/v1/screenshots/", text("q=", number % 100, 20))
        teach(lane, address, ("GET", "http", None, "localhost", text("accept", number, 1_000)), "key", found)


def scan_conditions(lane: Lane, found: Entry) -> None:
    for address in range(40):
        memory.hold(f"key {address}", found)
        teach(lane, (address,), ("GET",), f"key {address}", found)
        for number in range(80):
            ask = ("GET", text("gzip;", number), None, text('"', number, 900), None, None, None)
            lane.answer((address,), ("GET",), ask)


def scan_sayings(lane: Lane, found: Entry) -> None:
    memory.hold("key", found)
    for address in range(100):
        teach(lane, (address,), ("GET",), "key", found)
        for number in range(10):
            lane.answer((address,), ("GET",), ASK, (text("said", address), text("so", number)))


def scan_long_sayings(lane: Lane, found: Entry) -> None:
    memory.hold("key", found)
    teach(lane, ("a",), ("GET",), "key", found)
    for number in range(100):
        lane.answer(("a",), ("GET",), ASK, (text("said", number, 60_000),))


def scan_long_conditions(lane: Lane, found: Entry) -> None:
    memory.hold("key", found)
    teach(lane, ("a",), ("GET",), "key", found)
    for number in range(100):
        ask = ("GET", text("gzip;", number, 60_000), None, text('"', number, 60_000), None, None, None)
        lane.answer(("a",), ("GET",), ask)


def scan_long_contexts(lane: Lane, found: Entry) -> None:
    for number in range(100):
        teach(lane, ("a", number % 20), ("GET", text("accept", number, 60_000)), "key", found)


def scan_entries(lane: Lane, found: Entry) -> None:
    for number in range(1_000):
        memory.hold(f"key {number}", entry(number))


def scan_answers(lane: Lane, found: Entry) -> None:
    for number in range(1_000):
        memory.hold(f"key {number}", made(written({"id": number}), (), witness=b"stamps", now=0.0))


SCANS = (
    scan_addresses,
    scan_contexts,
    scan_conditions,
    scan_sayings,
    scan_long_sayings,
    scan_long_conditions,
    scan_long_contexts,
    scan_entries,
    scan_answers,
)


@pytest.mark.parametrize("scan", SCANS)
def test_a_scan_takes_no_more_bytes_than_are_counted_nor_than_are_allowed(
    lane: Lane, scan: Callable[[Lane, Entry], None]
) -> None:
    found = entry()
    scan_addresses(lane, found)  # what is made once and kept
    fastpath.lane.cache_clear()
    memory.entries().clear()
    lane = fastpath.lane() or lane
    gc.collect()
    tracemalloc.start()
    try:
        scan(lane, found)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    counted = lane._targets.size + lane._understood.size + memory.entries().size
    assert counted <= 2 * KIB * KIB
    assert taken <= counted * 1.25 + 400 * KIB, (taken, counted)


def test_a_scan_of_one_entrys_conditions_drives_no_other_out(lane: Lane) -> None:
    found = entry()
    memory.hold("other", found)
    memory.hold("key", found)
    teach(lane, ("a",), ("GET",), "key", found)
    for number in range(1_000):
        lane.answer(("a",), ("GET",), ("GET", f"gzip;q=0.{number:04}", *ASK[2:]))
    assert memory.entries().get("other") is not None


def test_answers_that_were_forgotten_are_not_counted(lane: Lane, settings: Settings) -> None:
    settings.KEYBITS_MEMORY_BYTES = 16 * KIB * KIB  # room for more answers than are remembered
    found = entry()
    memory.hold("key", found)
    teach(lane, ("a",), ("GET",), "key", found)
    sizes = set()
    for number in range(1_000):
        lane.answer(("a",), ("GET",), ("GET", f"gzip;q=0.{number:04}", *ASK[2:]))
        sizes.add(memory.entries().size)
    assert len(sizes) <= fastpath.MOST_FINALS


def test_contexts_are_remembered_up_to_a_number(lane: Lane) -> None:
    for number in range(3 * fastpath.MOST_CONTEXTS):
        teach(lane, "a", ("GET", number), "key", entry())
    target = lane._targets.get("a")
    assert target is not None
    assert len(target.contexts) <= fastpath.MOST_CONTEXTS


def test_what_middlewares_say_since_takes_the_place_of_what_they_said(lane: Lane) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    for said in ("DENY", "SAMEORIGIN"):
        lane.learn("a", "c", Holder("key", SCOPES, given), 200, [*given.headers, ("X-Frame-Options", said)])
        told = lane.answer("a", "c", ASK)
        assert told is not None
        assert told.headers[-1] == ("X-Frame-Options", said)


SAID = ("all", "that", "was", "said")


def taught(lane: Lane) -> Entry:
    found = entry()
    memory.hold("key", found)
    teach(lane, "a", "c", "key", found)
    return found


def test_what_was_answered_once_is_answered_again_by_what_was_said_alone(lane: Lane) -> None:
    taught(lane)
    assert lane.again(SAID) is None
    told = lane.answer("a", "c", ASK, SAID)
    assert told is not None
    assert lane.again(SAID) is told
    assert lane.again((*SAID, "else")) is None


def test_what_was_not_kept_teaches_nothing_so_that_nobody_waits_for_it(lane: Lane) -> None:
    found = entry()
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; fwd=uri-miss"))
    assert not lane.learn("a", "c", Holder("key", SCOPES, given), 200, given.headers)
    memory.hold("key", found)
    assert lane.learn("a", "c", Holder("key", SCOPES, given), 200, given.headers)


def other_envelope(lane: Lane, found: Entry) -> None:
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    lane.learn("a", "c", Holder("key", SCOPES, given), 200, [*given.headers, ("X-Frame-Options", "ALLOW")])


def other_entry(lane: Lane, found: Entry) -> None:
    teach(lane, "a", "c", "other key", found)


def end(lane: Lane, found: Entry) -> None:
    get_store().close(SCOPES)


def forget_the_entry(lane: Lane, found: Entry) -> None:
    memory.entries().clear()


def forget_the_address(lane: Lane, found: Entry) -> None:
    scan_addresses(lane, found)


@pytest.mark.parametrize("change", [other_envelope, other_entry, end, forget_the_entry, forget_the_address])
def test_what_was_said_is_worth_nothing_once_it_means_something_else(
    lane: Lane, change: Callable[[Lane, Entry], None]
) -> None:
    found = taught(lane)
    assert lane.answer("a", "c", ASK, SAID) is not None
    change(lane, found)
    assert lane.again(SAID) is None


def test_who_answers_by_what_was_said_keeps_the_address_in_memory(lane: Lane) -> None:
    found = taught(lane)
    assert lane.answer("a", "c", ASK, SAID) is not None
    for number in range(1_500):
        teach(lane, ("other", number), "c", "key", found)
        assert lane.again(SAID) is not None


def test_scopes_that_have_changed_are_learnt_anew(lane: Lane) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    lane.learn("a", "c", Holder("key", ("yesterday",), given), 200, given.headers)
    assert lane.answer("a", "c", ASK) is None
    lane.learn("a", "c", Holder("key", SCOPES, given), 200, given.headers)
    assert lane.answer("a", "c", ASK) is not None


@pytest.mark.parametrize(
    "sent",
    [
        lambda given: [("X-First", "1"), *given],
        lambda given: given[1:],
        lambda given: [(name, "x" if name == "ETag" else value) for name, value in given],
        lambda given: [(name.lower(), value) for name, value in given],
        lambda given: [*given, ("Set-Cookie", "a=b")],
        lambda given: [*given, ("set-cookie", "a=b")],
    ],
)
def test_what_was_changed_on_the_way_out_is_not_learnt(lane: Lane, sent: Callable[[Any], Any]) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    lane.learn("a", "c", Holder("key", SCOPES, given), 200, sent(given.headers))
    assert lane.answer("a", "c", ASK) is None


@pytest.mark.parametrize("code", [206, 304, 412, 429, 500])
def test_a_status_that_the_mixin_did_not_decide_is_not_learnt(lane: Lane, code: int) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    lane.learn("a", "c", Holder("key", SCOPES, given), code, given.headers)
    lane.learn("a", "c", Holder(), 200, given.headers)
    assert lane.answer("a", "c", ASK) is None
    assert lane.answer("a", "c", ("GET", None, None, found.etag, None, None, None)) is None


def test_learning_in_many_threads_never_fails_an_answer(lane: Lane) -> None:
    found = entry()
    memory.hold("key", found)

    def learn(start: int) -> None:
        for number in range(start, start + 300):
            teach(lane, "a", number, "key", found)
            lane.answer("a", number, ("GET", f"gzip;q=0.{number}", *ASK[2:]))

    at_once(*(partial(learn, number * 10) for number in range(4)))
