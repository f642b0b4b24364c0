"""Cache-Control values, by RFC 9111 section 5.2.2."""

from __future__ import annotations

import pytest

from keybits.cache_control import PRIVATE, PUBLIC, cache_control


def directives(value: str) -> dict[str, str]:
    return {name: age for name, _, age in (part.partition("=") for part in value.split(", "))}


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
