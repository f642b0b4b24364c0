"""Cache-Status (RFC 9211): every value is a structured field (RFC 9651) of the parameters that it defines."""

from __future__ import annotations

import itertools
import re

import pytest

from keybits.cache_status import BYPASS, HIT, MISS, STALE, forwarded

# RFC 9651 section 3: a list of one item, a token with parameters; values are tokens, strings or integers.
_TOKEN = r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
_STRING = r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_VALUE = rf"(?:{_TOKEN}|{_STRING}|-?[0-9]{{1,15}})"
_PARAMETER = rf"; *([a-z*][a-z0-9_.*-]*)(?:=({_VALUE}))?"
_ITEM = re.compile(rf"({_TOKEN})((?:{_PARAMETER})*)")

# Section 2.2 of RFC 9211.
REASONS = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}
EVERY = [
    HIT,
    *(forwarded(reason, stored=stored) for reason in (MISS, STALE, BYPASS) for stored in (True, False)),
]


def parsed(value: str) -> tuple[str, dict[str, str]]:
    """Return the cache's name and its parameters; fail where the value is no structured field."""
    found = _ITEM.fullmatch(value)
    assert found, f"{value!r} is no structured field"
    return found[1], dict(re.findall(_PARAMETER, found[2]))


class TestStructuredField:
    @pytest.mark.parametrize("value", EVERY)
    def test_every_value_is_one_of_this_cache(self, value: str) -> None:
        name, parameters = parsed(value)
        assert name == "keybits"
        assert set(parameters) <= {"hit", "fwd", "stored", "detail"}

    def test_every_value_means_something_else(self) -> None:
        assert all(parsed(one) != parsed(other) for one, other in itertools.combinations(EVERY, 2))

    def test_a_detail_is_a_token(self) -> None:
        assert parsed(forwarded(MISS, stored=True, detail="too-long"))[1] == {
            "fwd": "uri-miss",
            "stored": "",
            "detail": "too-long",
        }

    @pytest.mark.parametrize("detail", ["the store is down", 'say "no"', "8 MiB", "a;b"])
    def test_or_a_string(self, detail: str) -> None:
        escaped = detail.replace('"', r"\"")
        assert parsed(forwarded(MISS, detail=detail))[1] == {"fwd": MISS, "detail": f'"{escaped}"'}


class TestSection2Parameters:
    def test_a_hit_has_not_been_forwarded(self) -> None:
        """Section 2.1: hit and fwd exclude each other."""
        assert parsed(HIT)[1] == {"hit": ""}

    @pytest.mark.parametrize("reason", [MISS, STALE, BYPASS])
    def test_why_it_was_forwarded_is_registered(self, reason: str) -> None:
        assert reason in REASONS
        assert parsed(forwarded(reason))[1] == {"fwd": reason}

    def test_stored_is_said_only_where_it_was(self) -> None:
        assert parsed(forwarded(STALE, stored=True))[1] == {"fwd": "stale", "stored": ""}
        assert "stored" not in parsed(forwarded(STALE))[1]
