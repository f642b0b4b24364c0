"""An outage is told when it begins and when it ends, and does not fill the disk meanwhile."""

from __future__ import annotations

import logging

import pytest

from keybits.outages import Outage


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    found = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def outage(now: list[float]) -> Outage:
    return Outage(logging.getLogger(__name__), "it fails", "it works", clock=lambda: now[0])


def fail(outage: Outage, times: int = 1) -> None:
    for _ in range(times):
        try:
            raise ValueError("down")
        except ValueError as error:
            outage.note(error, traceback=True)


def test_it_is_told_once_with_its_traceback_and_then_once_a_minute(
    outage: Outage, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    fail(outage, 1_000)
    assert told(caplog) == [("it fails: down", True)]
    now[0] += 60
    fail(outage, 1_000)
    assert told(caplog) == [("it fails: down", False)]


def test_its_end_is_told_once_and_what_comes_and_goes_has_a_line_of_each_a_minute(
    outage: Outage, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    outage.end()
    assert told(caplog) == []
    for _ in range(3):
        for _ in range(100):
            fail(outage)
            outage.end()
            now[0] += 0.6
        assert told(caplog) == [("it fails: down", True), ("it works", False)]


def test_one_that_begins_anew_within_a_minute_and_stays_is_told_when_that_is_over(
    outage: Outage, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    fail(outage)
    outage.end()
    told(caplog)
    for _ in range(61):
        now[0] += 1
        fail(outage)
    assert told(caplog) == [("it fails: down", True)]
