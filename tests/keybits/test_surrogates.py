"""Surrogate keys: whatever is tagged, and however coarse the change, a purge reaches what a change made stale."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_django import Settings

from keybits import stamps
from keybits.purge import Order
from keybits.surrogates import EVERYTHING, MOST_KEYS, key, parts, purged, tags

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

KINDS = ("", "a", "b", "page", "*", "+")
MEMBERS = ("", "1", "2", "3", "x:y", "+", "long" * 20)
plain = st.sampled_from(["pages", "a", "b", "1", ":", "+", "a+"])
members = st.builds("{}:{}".format, st.sampled_from(KINDS), st.sampled_from(MEMBERS))
families = st.builds("{}:*".format, st.sampled_from(KINDS))
scopes = st.sets(plain | members | families, max_size=20)
budgets = st.integers(2, 12)


def touches(made_from: Iterable[str], changed: Iterable[str]) -> bool:
    """Say whether a change makes the answer stale: one scope is the other, or the family of the other."""
    return any(
        one == other or one == stamps.family(other) or other == stamps.family(one)
        for one in made_from
        for other in changed
    )


def reached(made_from: Iterable[str], changed: Iterable[str], most: int = MOST_KEYS) -> bool:
    return not set(tags(made_from, most)).isdisjoint(purged(changed))


class TestReach:
    @given(scopes, scopes, budgets)
    @example({":m"}, {":m"}, 12)
    @example({":*"}, {":m"}, 12)
    @example({"a:*"}, {"a:1"}, 12)
    @example({"a:1"}, {"a:*"}, 12)
    @example({"a:1", "a:2"}, {"a:*"}, 2)
    @example({"a:1", "a:2", "a:3"}, {"a:3"}, 3)
    def test_a_change_of_what_an_answer_is_made_from_purges_it(
        self, made_from: set[str], changed: set[str], most: int
    ) -> None:
        if touches(made_from, changed):
            assert reached(made_from, changed, most)

    @given(st.integers(0, 3), st.integers(stamps.MOST_MEMBERS - 1, stamps.MOST_MEMBERS + 2), budgets)
    def test_so_does_a_change_of_very_many(self, first: int, count: int, most: int) -> None:
        """`stamps.coarsened` then names the family alone."""
        changed = [f"page:{n}" for n in range(first, first + count)]
        for made_from in ({changed[0]}, {changed[-1], "pages", "b:1"}, set(changed), {"page:*"}):
            assert reached(made_from, changed, most)
            assert reached(made_from, stamps.coarsened(changed), most)

    @given(scopes, scopes)
    def test_so_does_one_that_is_coarsened(self, made_from: set[str], changed: set[str]) -> None:
        coarse = stamps.coarsened(changed | {f"a:{n}" for n in range(stamps.MOST_MEMBERS)})
        if touches(made_from, coarse):
            assert reached(made_from, coarse)

    @given(
        st.sets(st.from_regex(r"[a-d](:[1-9])?", fullmatch=True), max_size=20),
        st.sets(st.from_regex(r"[a-d](:[1-9])?", fullmatch=True), max_size=20),
    )
    def test_a_change_of_anything_else_leaves_it_while_there_is_room(
        self, made_from: set[str], changed: set[str]
    ) -> None:
        """Twenty scopes fit: with their families and the key of everything they are 41 keys at most."""
        assert reached(made_from, changed) is not made_from.isdisjoint(changed)

    def test_what_is_crowded_is_the_kind_with_the_most_members(self) -> None:
        made_from = ["pages", "few:1", *(f"many:{n}" for n in range(60))]
        assert reached(made_from, ["many:nothing of it"])
        assert not reached(made_from, ["few:2"])
        assert not reached(made_from, ["other"])

    @given(scopes)
    def test_a_purge_of_everything_reaches_every_answer(self, made_from: set[str]) -> None:
        for most in (2, MOST_KEYS):
            assert key(EVERYTHING) in tags(made_from, most)

    @given(st.sets(st.from_regex(r"[a-d](:[1-9])?", fullmatch=True), max_size=9))
    def test_no_change_is_taken_for_a_purge_of_everything(self, changed: set[str]) -> None:
        assert key(EVERYTHING) not in purged(changed)


class TestRoom:
    @given(scopes, budgets)
    def test_no_answer_has_more_keys_than_the_cache_reads(self, made_from: set[str], most: int) -> None:
        assert 1 <= len(tags(made_from, most)) <= most

    def test_a_field_of_as_many_keys_as_there_can_be_is_short_enough(self) -> None:
        keys = tags(f"{kind}{n % 7}:{n}" for n in range(500) for kind in "ab")
        assert len(keys) <= MOST_KEYS
        assert len(", ".join(f'"{one}"' for one in keys)) < 1024

    def test_an_answer_with_as_many_keys_as_there_is_room_for_has_them_all(self) -> None:
        made_from = [f"page{n}" for n in range(9)]
        assert set(tags(made_from, 10)) == {key(EVERYTHING), *map(key, made_from)}
        assert len(tags(made_from, 9)) == 2

    def test_of_two_kinds_as_crowded_it_is_always_the_same_one(self) -> None:
        made_from = [f"{kind}:{n}" for n in range(3) for kind in "ab"]
        assert tags(made_from, 7) == tags(reversed(made_from), 7)
        assert key("b:1") in tags(made_from, 7)

    def test_an_answer_made_from_nothing_is_purged_with_everything_alone(self) -> None:
        assert tags([]) == (key(EVERYTHING),)

    @given(scopes, st.randoms(use_true_random=False))
    def test_the_order_of_the_scopes_decides_nothing(self, made_from: set[str], random: object) -> None:
        for read in (tags, purged):
            listed = sorted(made_from)
            random.shuffle(listed)  # type: ignore[attr-defined]
            assert read(listed) == read(sorted(made_from)) == tuple(sorted(set(read(made_from))))


class TestParts:
    @given(scopes, st.integers(1, 12))
    def test_of_a_purge_are_the_purge_and_have_no_more_keys_than_are_wanted(
        self, changed: set[str], most: int
    ) -> None:
        found = list(parts(sorted(changed), most))
        assert [scope for part in found for scope in part] == sorted(changed)
        assert {each for part in found for each in purged(part)} == (
            set(purged(changed)) if changed else set()
        )
        assert all(len(purged(part)) <= most or len(part) == 1 for part in found)

    def test_are_as_few_as_can_be(self, settings: Settings) -> None:
        members = [f"page:{number}" for number in range(196)]
        assert [len(part) for part in parts(members, 100)] == [98, 98]
        settings.SECRET_KEY_FALLBACKS = ["old"]
        assert [len(part) for part in parts(members, 100)] == [48, 48, 48, 48, 4]


class TestSecrecy:
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
    def test_a_key_can_stand_in_any_field_and_has_one_length(self, scope: str) -> None:
        assert re.fullmatch(r"[A-Za-z0-9_-]{12}", key(scope))

    def test_a_key_is_of_no_use_without_the_secret(self, settings: Settings) -> None:
        """Who guesses the name of a gallery cannot tell whether an answer shows it."""
        before = tags(["gallery:secret"]), purged(["gallery:secret"])
        settings.SECRET_KEY = "another"
        after = tags(["gallery:secret"]), purged(["gallery:secret"])
        assert set(before[0]).isdisjoint(after[0])
        assert set(before[1]).isdisjoint(after[1])

    @pytest.mark.parametrize("seed", ["0", "1"])
    def test_every_process_has_the_same(self, settings: Settings, seed: str) -> None:
        settings.SECRET_KEY = "the same"
        program = (
            "from django.conf import settings; settings.configure(SECRET_KEY='the same');"
            "from keybits.surrogates import tags; print(*tags(['a:1', 'b:2', 'c:*', 'd']))"
        )
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, check=True
        )
        assert tuple(done.stdout.decode().split()) == tags(["a:1", "b:2", "c:*", "d"])


class TestRotation:
    def test_what_was_tagged_before_a_new_secret_is_purged_while_the_old_one_is_kept(
        self, settings: Settings
    ) -> None:
        settings.SECRET_KEY = "old"
        before = set(tags(["gallery:spring"]))
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
        after = set(tags(["gallery:spring"]))
        assert not before & after
        assert before & set(purged(["gallery:spring"]))
        assert after & set(purged(["gallery:spring"]))

    def test_so_is_everything(self, settings: Settings) -> None:
        settings.SECRET_KEY = "old"
        before = set(tags(["gallery:spring"]))
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
        assert before & set(Order(everything=True).keys)
