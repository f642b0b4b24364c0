"""Cache-Control values, by RFC 9111 section 5.2.2."""

from __future__ import annotations

from dataclasses import astuple
from itertools import combinations_with_replacement, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybits.cache_control import DAY, PRIVATE, PUBLIC, Lifetime, Policy, cache_control, strictest

ages = st.integers(0, 100)
lifetimes = st.builds(Lifetime, ages, ages, ages)
policies = st.builds(Policy, lifetimes, st.none() | ages, lifetimes)


def directives(value: str) -> dict[str, str]:
    return {name: age for name, _, age in (part.partition("=") for part in value.split(", "))}


def granted(value: str) -> tuple[int, ...]:
    """Return what a field value grants: to all, to shared caches, and stale, while asking and in need."""
    found = directives(value)
    mine = int(found["max-age"])
    shared = int(found.get("s-maxage", mine))
    return mine, shared, *(int(found.get(f"stale-{when}", 0)) for when in ("while-revalidate", "if-error"))


class TestSection522ResponseDirectives:
    @pytest.mark.parametrize(
        ("given", "value"),
        [
            ({"public": True, "max_age": 60}, "public, max-age=60"),
            ({"max_age": 60, "public": True}, "max-age=60, public"),
            ({"max_age": 0, "s_maxage": 0}, "max-age=0, s-maxage=0"),
            ({"stale_while_revalidate": 1}, "stale-while-revalidate=1"),
            ({"private": True, "no_transform": True}, "private, no-transform"),
            ({}, ""),
        ],
    )
    def test_written(self, given: dict[str, int | bool], value: str) -> None:
        assert cache_control(**given) == value

    def test_false_leaves_a_directive_out(self) -> None:
        assert cache_control(public=False, no_cache=True, max_age=False) == "no-cache"

    def test_an_age_of_zero_is_an_age(self) -> None:
        assert cache_control(max_age=0) == "max-age=0"


class TestPolicies:
    def test_public_is_kept_by_anybody_and_never_used_unasked(self) -> None:
        """Section 5.2.2.1 and 5.2.2.2: no second of freshness, and none granted when the origin is away."""
        assert directives(PUBLIC) == {"public": "", "max-age": "0", "must-revalidate": ""}

    def test_private_is_kept_by_nobody(self) -> None:
        """Section 5.2.2.5 alone would do; `private` says it to what does not know no-store."""
        assert directives(PRIVATE) == {"private": "", "no-store": ""}


class TestLifetimes:
    @pytest.mark.parametrize("name", ["max_age", "stale_while_revalidate", "stale_if_error"])
    def test_ages_begin_at_zero(self, name: str) -> None:
        """RFC 9111 section 1.2.2: delta-seconds are not negative."""
        Lifetime(**{name: 0})
        with pytest.raises(ValueError, match="from 0 on"):
            Lifetime(**{name: -1})

    @pytest.mark.parametrize(
        ("lifetime", "says"),
        [
            (Lifetime(), {"max-age": "0", "must-revalidate": ""}),
            (Lifetime(7), {"max-age": "7", "must-revalidate": ""}),
            (Lifetime(7, 8), {"max-age": "7", "stale-while-revalidate": "8"}),
            (Lifetime(0, 0, 9), {"max-age": "0", "stale-if-error": "9"}),
        ],
    )
    def test_what_is_never_used_stale_says_so_and_nothing_else_does(
        self, lifetime: Lifetime, says: dict[str, str]
    ) -> None:
        """Section 5.2.2.2: must-revalidate would take back what RFC 5861 section 3 and 4 give."""
        assert directives(Policy(edge=lifetime).for_the_edge()) == says
        assert directives(Policy(lifetime).for_everybody()) == {"public": "", **says}


class TestPolicy:
    def test_by_default_everybody_asks_and_the_caches_that_we_purge_do_not(self) -> None:
        assert Policy().for_everybody() == PUBLIC
        assert directives(Policy().for_the_edge()) == {"max-age": str(DAY), "stale-if-error": str(DAY)}

    @pytest.mark.parametrize(
        ("own", "given", "said"), [(None, None, None), (5, None, "5"), (5, 0, "0"), (None, 9, "9")]
    )
    def test_s_maxage_is_what_is_given_before_the_policy_s_own(
        self, own: int | None, given: int | None, said: str | None
    ) -> None:
        """Section 5.2.2.10; an s-maxage of 0 is one."""
        assert directives(Policy(s_maxage=own).for_everybody(given)).get("s-maxage") == said

    def test_what_is_for_the_edge_is_not_for_everybody(self) -> None:
        assert Policy(edge=Lifetime(7, 8, 9)).for_everybody() == PUBLIC

    @given(policies)
    def test_what_no_purge_may_reach_the_edge_never_uses_unasked_not_even_in_need(
        self, policy: Policy
    ) -> None:
        unheld = policy.unheld()
        assert directives(unheld.for_the_edge()) == {"max-age": "0", "must-revalidate": ""}
        assert unheld.for_everybody() == policy.for_everybody()


class TestStrictest:
    @given(policies, policies)
    def test_allows_nobody_more_than_any_does(self, one: Policy, other: Policy) -> None:
        both = strictest(one, other)
        for policy in (one, other):
            for strict, lax in (
                (both.for_everybody(), policy.for_everybody()),
                (both.for_the_edge(), policy.for_the_edge()),
            ):
                assert all(mine <= theirs for mine, theirs in zip(granted(strict), granted(lax), strict=True))
                assert "must-revalidate" in directives(strict) or "must-revalidate" not in directives(lax)

    @given(policies, policies)
    def test_takes_no_more_away_than_one_of_them_does(self, one: Policy, other: Policy) -> None:
        fields = [granted(policy.for_everybody()) for policy in (strictest(one, other), one, other)]
        assert fields[0] == tuple(map(min, fields[1], fields[2]))
        for name in ("everybody", "edge"):
            both, *each = (astuple(getattr(policy, name)) for policy in (strictest(one, other), one, other))
            assert both == tuple(map(min, *each))

    @given(policies, policies, policies)
    def test_depends_on_no_order(self, one: Policy, two: Policy, three: Policy) -> None:
        sent = {
            (found.for_everybody(), found.for_the_edge())
            for found in (strictest(*some) for some in permutations((one, two, three)))
        }
        assert len(sent) == 1

    @given(policies)
    def test_of_one_is_that_one(self, policy: Policy) -> None:
        for some in combinations_with_replacement([policy], 2):
            assert strictest(*some).for_everybody() == policy.for_everybody()
        assert strictest(policy) == policy
