"""What is asked, and what a right answer is: every answer that is counted is held against this."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

__all__ = [
    "CASES",
    "PAGE",
    "Expected",
    "WrongAnswerError",
    "address",
    "numbers",
    "said",
    "same_rows",
    "until_right",
]

PAGE = "/api/v1/screenshots/?page_size=50"
CASES = {"200": "200", "304": "304", "miss": "200, miss"}
MICROSECONDS = 999_999
TRIES = 4
T = TypeVar("T")


class WrongAnswerError(AssertionError):
    """An answer was not the one that is measured; the message holds its head."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A right answer: its status, the length of its body, and what its head must have, in lower case."""

    status: int
    length: int
    needles: tuple[bytes, ...]

    def check(self, head: bytes, length: int) -> None:
        """Raise `WrongAnswerError` unless this is it. `head` is in lower case, from the status line on."""
        right = int(head[9:12]) == self.status and length == self.length
        if not right or any(needle not in head for needle in self.needles):
            raise WrongAnswerError(
                f"expected {self}, got {length} bytes after {head.decode(errors='replace')}"
            )


def until_right(turn: Callable[[], T], thrown_away: list[str]) -> T:
    """Return what a turn found. One with a wrong answer is thrown away, noted, and taken again; not for ever.

    A machine that is busy with other things can keep a relay or a store from answering in time: rightly a miss.
    """
    for _ in range(TRIES - 1):
        try:
            return turn()
        except WrongAnswerError as error:
            thrown_away.append(str(error))
            time.sleep(1)
    return turn()


def said(thrown_away: list[str]) -> str:
    """Say how many turns were thrown away."""
    if not thrown_away:
        return "Every answer was right."
    return f"Turns thrown away, and taken again, as an answer was wrong: {len(thrown_away)}."


def address(number: int, base: str = PAGE) -> str:
    """Return the n-th address that nobody has asked for: the same rows, as all are younger than what it names."""
    minute, microsecond = divmod(number, MICROSECONDS)
    return f"{base}&captured_after=2000-01-01T00:{minute:02}:00.{microsecond + 1:06}Z"


def numbers() -> Iterator[int]:
    """Count up: every number stands for an address that has not been asked for yet."""
    return count()


def same_rows(body: bytes, page: bytes) -> None:
    """Raise `WrongAnswerError` unless both show the same rows; their links may differ."""
    if json.loads(body)["results"] != json.loads(page)["results"]:
        raise WrongAnswerError(f"other rows than the page: {body[:200]!r}")
