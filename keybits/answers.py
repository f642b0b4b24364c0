"""What a stored representation answers to one request: the one place where 200, 304 and 412 get their headers.

Values in, values out. The viewset mixin and everything in front of it send what is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

from keybits.entries import Entry
from keybits.preconditions import Conditions, Outcome, Validators, evaluate, format_http_date

__all__ = ["Answer", "answer", "last_modified"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, its header fields in order, and the content (empty for a 304, and for the 412 to be described)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def answer(
    entry: Entry, method: str, conditions: Conditions, *, now: float, cache_control: str, cache_status: str
) -> Answer:
    """Evaluate the preconditions (RFC 9110 section 13.2.2) against the entry; `now` is Unix time in seconds.

    A 304 carries what the 200 would, but for the fields that describe the content itself (section 15.4.5).
    """
    headers = [
        ("ETag", entry.etag),
        ("Last-Modified", format_http_date(last_modified(entry, now))),
        ("Cache-Control", cache_control),
        ("Cache-Status", cache_status),
    ]
    outcome = evaluate(method, conditions, Validators(entry.etag, entry.changed))
    if outcome is Outcome.NOT_MODIFIED:
        kept = [(name, value) for name, value in entry.headers if not name.startswith("Content-")]
        return Answer(304, headers + kept, b"")
    if outcome is Outcome.PRECONDITION_FAILED:
        return Answer(412, headers[:1], b"")
    length = ("Content-Length", str(len(entry.body)))
    return Answer(200, [*headers, *entry.headers, length], b"" if method == "HEAD" else entry.body)


def last_modified(entry: Entry, now: float) -> int:
    """Return the Last-Modified to send, in Unix seconds: never later than now (RFC 9110 section 8.8.2.1).

    The date of a content is the first whole second after it appeared, so that two contents within one second
    never share one. Until that second has come the second before is sent, which no condition ever matches.
    """
    return entry.changed if entry.changed <= now else entry.changed - 1
