"""How long a server asks to be left alone."""

from __future__ import annotations

import httpx
import pytest

from keybits.retry_after import pause_asked

pytestmark = pytest.mark.stack("embedded")  # neither database nor store


@pytest.mark.parametrize(
    ("fields", "pause"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "1.5"}, None),
        (
            {"Date": "Sun, 06 Nov 2094 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 2094 08:51:00 GMT"},
            83.0,
        ),
        ({"Date": "Sun, 06 Nov 2094 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
    ],
)
def test_seconds_and_dates_are_understood_and_anything_else_asks_for_nothing(
    fields: dict[str, str], pause: float | None
) -> None:
    assert pause_asked(httpx.Headers(fields)) == pause


def test_a_time_counts_from_the_present_where_the_response_has_no_date() -> None:
    assert (pause_asked(httpx.Headers({"Retry-After": "Sun, 06 Nov 2094 08:51:00 GMT"})) or 0) > 1_000_000_000
