"""A process's memory: bounded in bytes that are counted honestly, kept for what is used, whoever asks at once."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_django import Settings
from stacks.threads import at_once

from keybits import clock, fastpath, memory
from keybits.answers import answer
from keybits.drf.renderers import written
from keybits.entries import Entry
from keybits.fastpath import AnswerCache, Holder
from keybits.memory import OVERHEAD, Memory
from keybits.preconditions import Conditions, format_http_date
from keybits.readthrough import new_entry
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
def cache(settings: Settings) -> AnswerCache:
    settings.KEYBITS_MEMORY_BYTES = 2 * KIB * KIB
    get_store().clear()
    found = fastpath.answer_cache()
    assert found is not None
    return found


SCOPES = ("galleries", "gallery:*", "gallery:spring")


def entry(number: int = 0, size: int = 2_000) -> Entry:
    stamps = get_store().mint(SCOPES)
    body = b"%d" % number * (size // len(b"%d" % number))
    witness = b"".join(stamp or b"" for stamp in stamps)
    return new_entry(
        body, [("Content-Type", "application/json"), ("Link", "</x>; rel=next")], witness=witness, now=0
    )


def teach(cache: AnswerCache, address: Any, context: Any, key: str, found: Entry, terms: Any = None) -> None:
    given = answer(found, "GET", Conditions(), terms or fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    sent = [*given.headers, ("X-Frame-Options", "DENY"), ("Referrer-Policy", "same-origin")]
    cache.learn(address, context, Holder(key, SCOPES, given), 200, sent)


ASK = ("GET", None, None, None, None, None, None)


def text(start: str, number: int, length: int = 200) -> str:
    """Text that nobody else has."""
    return f"{start}{number:08d}".ljust(length, "x")


def scan_addresses(cache: AnswerCache, found: Entry) -> None:
    for number in range(1_500):
        address = (None, "", text("/api/v1/screenshots/", number), text("q=", number, 400))
        teach(cache, address, ("GET", "http", None, "localhost"), "key", found)


def scan_contexts(cache: AnswerCache, found: Entry) -> None:
    for number in range(1_500):
        address = (None, "", "/api/v1/screenshots/", text("q=", number % 100, 20))
        teach(cache, address, ("GET", "http", None, "localhost", text("accept", number, 1_000)), "key", found)


def scan_conditions(cache: AnswerCache, found: Entry) -> None:
    for address in range(40):
        memory.hold(f"key {address}", found)
        teach(cache, (address,), ("GET",), f"key {address}", found)
        for number in range(80):
            ask = ("GET", text("gzip;", number), None, text('"', number, 900), None, None, None)
            cache.answer((address,), ("GET",), ask)


def scan_sayings(cache: AnswerCache, found: Entry) -> None:
    memory.hold("key", found)
    for address in range(100):
        teach(cache, (address,), ("GET",), "key", found)
        for number in range(10):
            cache.answer((address,), ("GET",), ASK, (text("said", address), text("so", number)))


def scan_long_sayings(cache: AnswerCache, found: Entry) -> None:
    memory.hold("key", found)
    teach(cache, ("a",), ("GET",), "key", found)
    for number in range(100):
        cache.answer(("a",), ("GET",), ASK, (text("said", number, 60_000),))


def scan_long_conditions(cache: AnswerCache, found: Entry) -> None:
    memory.hold("key", found)
    teach(cache, ("a",), ("GET",), "key", found)
    for number in range(100):
        ask = ("GET", text("gzip;", number, 60_000), None, text('"', number, 60_000), None, None, None)
        cache.answer(("a",), ("GET",), ask)


def scan_long_contexts(cache: AnswerCache, found: Entry) -> None:
    for number in range(100):
        teach(cache, ("a", number % 20), ("GET", text("accept", number, 60_000)), "key", found)


def scan_entries(cache: AnswerCache, found: Entry) -> None:
    for number in range(1_000):
        memory.hold(f"key {number}", entry(number))


def scan_answers(cache: AnswerCache, found: Entry) -> None:
    for number in range(1_000):
        memory.hold(f"key {number}", new_entry(written({"id": number}), (), witness=b"stamps", now=0.0))


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
    cache: AnswerCache, scan: Callable[[AnswerCache, Entry], None]
) -> None:
    found = entry()
    scan_addresses(cache, found)  # what is made once and kept
    fastpath.answer_cache.cache_clear()
    memory.entries().clear()
    cache = fastpath.answer_cache() or cache
    gc.collect()
    tracemalloc.start()
    try:
        scan(cache, found)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    counted = cache._targets.size + cache._understood.size + memory.entries().size
    assert counted <= 2 * KIB * KIB
    assert taken <= counted * 1.25 + 400 * KIB, (taken, counted)


def test_a_scan_of_one_entrys_conditions_drives_no_other_out(cache: AnswerCache) -> None:
    found = entry()
    memory.hold("other", found)
    memory.hold("key", found)
    teach(cache, ("a",), ("GET",), "key", found)
    for number in range(1_000):
        cache.answer(("a",), ("GET",), ("GET", f"gzip;q=0.{number:04}", *ASK[2:]))
    assert memory.entries().get("other") is not None


def test_answers_that_were_forgotten_are_not_counted(cache: AnswerCache, settings: Settings) -> None:
    settings.KEYBITS_MEMORY_BYTES = 16 * KIB * KIB  # room for more answers than are remembered
    found = entry()
    memory.hold("key", found)
    teach(cache, ("a",), ("GET",), "key", found)
    sizes = set()
    for number in range(1_000):
        cache.answer(("a",), ("GET",), ("GET", f"gzip;q=0.{number:04}", *ASK[2:]))
        sizes.add(memory.entries().size)
    assert len(sizes) <= fastpath.MOST_FINALS


def test_an_answer_that_is_made_anew_each_second_weighs_no_more_each_time(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(entry(), max_age=60)
    held, moment = memory.hold("key", found), SimpleNamespace(now=100.0)
    monkeypatch.setattr(fastpath, "time", SimpleNamespace(time=lambda: moment.now))
    teach(cache, "a", "c", "key", found)
    weights = set()
    for _ in range(5):
        moment.now += 1
        assert cache.answer("a", "c", ASK) is not None
        weights.add((held.weight, memory.entries().size))
    assert len(weights) == 1


def test_contexts_are_remembered_up_to_a_number(cache: AnswerCache) -> None:
    for number in range(3 * fastpath.MOST_CONTEXTS):
        teach(cache, "a", ("GET", number), "key", entry())
    target = cache._targets.get("a")
    assert target is not None
    assert len(target.contexts) <= fastpath.MOST_CONTEXTS


def test_what_middlewares_say_since_takes_the_place_of_what_they_said(cache: AnswerCache) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    for said in ("DENY", "SAMEORIGIN"):
        cache.learn("a", "c", Holder("key", SCOPES, given), 200, [*given.headers, ("X-Frame-Options", said)])
        told = cache.answer("a", "c", ASK)
        assert told is not None
        assert told.headers[-1] == ("X-Frame-Options", said)


SAID = ("all", "that", "was", "said")


def taught(cache: AnswerCache) -> Entry:
    found = entry()
    memory.hold("key", found)
    teach(cache, "a", "c", "key", found)
    return found


def test_what_was_answered_once_is_answered_again_by_what_was_said_alone(cache: AnswerCache) -> None:
    taught(cache)
    assert cache.again(SAID) is None
    told = cache.answer("a", "c", ASK, SAID)
    assert told is not None
    assert cache.again(SAID) is told
    assert cache.again((*SAID, "else")) is None


def test_whoever_is_answered_in_front_has_seen_that_the_entry_is_true(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be shown for a while after its end, counted from when its stamps were asked for."""
    found = replace(entry(), stale=30)
    held = memory.hold("key", found)
    teach(cache, "a", "c", "key", found)
    store, moment = get_store().store, SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(clock, "seconds", lambda: moment.now)
    witness = store.witness

    def slowly(scopes: Any) -> Any:
        moment.now += 1
        return witness(scopes)

    monkeypatch.setattr(store, "witness", slowly)
    assert cache.answer("a", "c", ASK) is not None
    assert held.confirmed == 1_000.0


def test_the_answer_is_that_of_the_entry_whose_stamps_were_compared(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slower thread may put an older one in its place meanwhile."""
    found = taught(cache)
    store = get_store().store
    witness = store.witness

    def meanwhile(scopes: Any) -> Any:
        memory.hold("key", replace(found, body=b"older", etag='"older"', witness=b"ended"))
        return witness(scopes)

    monkeypatch.setattr(store, "witness", meanwhile)
    told = cache.answer("a", "c", ASK)
    assert told is not None
    assert told.body == found.body


def test_an_answer_has_no_date_that_came_after_its_stamps_were_compared(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other content may have appeared in between, and has that date."""
    found = replace(taught(cache), changed=11)
    memory.hold("key", found)
    store, moment = get_store().store, SimpleNamespace(now=10.9)
    monkeypatch.setattr(fastpath, "time", SimpleNamespace(time=lambda: moment.now))
    witness = store.witness

    def slowly(scopes: Any) -> Any:
        stamps = witness(scopes)
        moment.now = 11.2
        return stamps

    monkeypatch.setattr(store, "witness", slowly)
    told = cache.answer("a", "c", ASK)
    assert told is not None
    assert dict(told.headers)["Last-Modified"] == format_http_date(10)
    told = cache.answer("a", "c", ASK)
    assert told is not None
    assert dict(told.headers)["Last-Modified"] == format_http_date(11)


def test_what_was_not_kept_teaches_nothing_so_that_nobody_waits_for_it(cache: AnswerCache) -> None:
    found = entry()
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; fwd=uri-miss"))
    assert not cache.learn("a", "c", Holder("key", SCOPES, given), 200, given.headers)
    memory.hold("key", found)
    assert cache.learn("a", "c", Holder("key", SCOPES, given), 200, given.headers)


def other_envelope(cache: AnswerCache, found: Entry) -> None:
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    cache.learn("a", "c", Holder("key", SCOPES, given), 200, [*given.headers, ("X-Frame-Options", "ALLOW")])


def other_entry(cache: AnswerCache, found: Entry) -> None:
    teach(cache, "a", "c", "other key", found)


def end(cache: AnswerCache, found: Entry) -> None:
    get_store().close(SCOPES)


def forget_the_entry(cache: AnswerCache, found: Entry) -> None:
    memory.entries().clear()


def forget_the_address(cache: AnswerCache, found: Entry) -> None:
    scan_addresses(cache, found)


@pytest.mark.parametrize("change", [other_envelope, other_entry, end, forget_the_entry, forget_the_address])
def test_what_was_said_is_worth_nothing_once_it_means_something_else(
    cache: AnswerCache, change: Callable[[AnswerCache, Entry], None]
) -> None:
    found = taught(cache)
    assert cache.answer("a", "c", ASK, SAID) is not None
    change(cache, found)
    assert cache.again(SAID) is None


def test_who_answers_by_what_was_said_keeps_the_address_in_memory(cache: AnswerCache) -> None:
    found = taught(cache)
    assert cache.answer("a", "c", ASK, SAID) is not None
    for number in range(1_500):
        teach(cache, ("other", number), "c", "key", found)
        assert cache.again(SAID) is not None


def test_scopes_that_have_changed_are_learnt_anew(cache: AnswerCache) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    cache.learn("a", "c", Holder("key", ("yesterday",), given), 200, given.headers)
    assert cache.answer("a", "c", ASK) is None
    cache.learn("a", "c", Holder("key", SCOPES, given), 200, given.headers)
    assert cache.answer("a", "c", ASK) is not None


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
def test_what_was_changed_on_the_way_out_is_not_learnt(
    cache: AnswerCache, sent: Callable[[Any], Any]
) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    cache.learn("a", "c", Holder("key", SCOPES, given), 200, sent(given.headers))
    assert cache.answer("a", "c", ASK) is None


@pytest.mark.parametrize("code", [206, 304, 412, 429, 500])
def test_a_status_that_the_mixin_did_not_decide_is_not_learnt(cache: AnswerCache, code: int) -> None:
    found = entry()
    memory.hold("key", found)
    given = answer(found, "GET", Conditions(), fastpath.Terms(now=10.0, cache_status="keybits; hit"))
    cache.learn("a", "c", Holder("key", SCOPES, given), code, given.headers)
    cache.learn("a", "c", Holder(), 200, given.headers)
    assert cache.answer("a", "c", ASK) is None
    assert cache.answer("a", "c", ("GET", None, None, found.etag, None, None, None)) is None


def test_learning_in_many_threads_never_fails_an_answer(cache: AnswerCache) -> None:
    found = entry()
    memory.hold("key", found)

    def learn(start: int) -> None:
        for number in range(start, start + 300):
            teach(cache, "a", number, "key", found)
            cache.answer("a", number, ("GET", f"gzip;q=0.{number}", *ASK[2:]))

    at_once(*(partial(learn, number * 10) for number in range(4)))
