"""What is asked, and what a right answer is: every answer that is counted is held against this."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import brotli

__all__ = [
    "CASES",
    "HITS",
    "PAGE",
    "Expected",
    "WrongAnswerError",
    "address",
    "etag_of",
    "fields",
    "numbers",
    "right",
    "said",
    "same_page",
    "until_right",
]

PAGE = "/api/v1/screenshots/?page_size=50"
CASES = {"200": "200", "coded": "200, in brotli", "304": "304", "miss": "200, miss"}
HITS = ("200", "coded", "304")
BROWSERS = "gzip, deflate, br, zstd"
"""What browsers accept by HTTPS. The other cases do not say what they accept: they are sent the page as it is."""
ETAG = re.compile(rb"\r\netag: ([^\r\n]+)")
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


def fields(case: str, etag: str) -> dict[str, str]:
    """Return the header fields that requests of this case have, and others have not."""
    return {"304": {"If-None-Match": etag}, "coded": {"Accept-Encoding": BROWSERS}}.get(case, {})


def etag_of(head: bytes) -> str:
    """Return the entity tag in an answer's head, "" if it has none."""
    found = ETAG.search(head)
    return found[1].decode() if found else ""


def right(case: str, length: int, etag: str, mark: bytes) -> Expected:
    """Return the right answer to a case: how long its body is, its entity tag, and what else its head has."""
    tag = b"etag: " + etag.encode() if etag and case != "miss" else b""
    return Expected(304 if case == "304" else 200, length, tuple(filter(None, (tag, mark))))


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


def same_page(case: str, head: bytes, body: bytes, page: bytes) -> None:
    """Raise `WrongAnswerError` unless an answer to this case shows the rows of the page; its links may differ."""
    if case == "304":
        return
    if (b"content-encoding: br" in head) != (case == "coded"):
        raise WrongAnswerError(f"not coded as it was asked for: {head!r}")
    shown = brotli.decompress(body) if case == "coded" else body
    if json.loads(shown)["results"] != json.loads(page)["results"]:
        raise WrongAnswerError(f"other rows than the page: {shown[:200]!r}")
