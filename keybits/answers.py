"""The answer of a stored representation to one request: the one place where 200, 304 and 412 get their headers.

Pure functions of their arguments. The viewset mixin and the fast path send what is decided here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from keybits import cache_control, codings, etags
from keybits.entries import Entry
from keybits.preconditions import NONE, Conditions, Outcome, Validators, evaluate, format_http_date

__all__ = ["Answer", "Terms", "answer", "last_modified", "missing_coding"]

VARY = ("Vary", "Accept-Encoding")
LONG_AGO = format_http_date(0)
KEPT_BY_NOBODY = (("Cache-Control", cache_control.PRIVATE),)
OF_THE_CONTENT = frozenset({"content-type", "content-language", "content-encoding", "content-length"})
"""Fields that a 304 omits, because the client's copy has them. It repeats Content-Location."""


class Answer(NamedTuple):
    """A status, its header fields in order, and the content: empty for a 304, 406 or 412 (callers describe errors)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Terms(NamedTuple):
    """The terms of one answer: the time (Unix seconds), its Cache-Status, and whether it is for one client alone.

    `seen` is when the content was last known to be the present one; by default, it is so now.
    """

    now: float
    cache_status: str
    accept_encoding: str | None = None
    is_private: bool = False
    seen: float = math.inf
    age: int | None = None
    """Seconds since a stale entry was last confirmed (RFC 9111 section 5.1); None for a fresh one."""


def answer(entry: Entry, method: str, conditions: Conditions, terms: Terms) -> Answer:
    """Return the answer to a request with these preconditions (RFC 9110 section 13.2.2): 200, 304, 406 or 412.

    A 304 has the fields of the 200, except those that describe the content itself (section 15.4.5). A client that
    accepts none of the available content codings gets a 406. A private answer has no date and matches none: at the
    same address, somebody else's answer may be older or newer.
    """
    changed = None if terms.is_private else entry.changed
    coding = _selected(entry, terms.accept_encoding, conditions)
    if coding is None:
        return Answer(406, [VARY], b"")
    etag = codings.entity_tag(entry.etag, coding)
    outcome = evaluate(method, conditions, Validators(etag, changed))
    headers = [("ETag", etag), *_dated(changed, terms), *_held(entry, terms), *entry.headers]
    headers += [("Cache-Status", terms.cache_status), *_vary(entry)]
    headers += [] if terms.age is None else [("Age", str(terms.age))]
    if outcome is Outcome.NOT_MODIFIED:
        return Answer(304, [field for field in headers if field[0].lower() not in OF_THE_CONTENT], b"")
    if outcome is Outcome.PRECONDITION_FAILED:
        return Answer(412, headers[:1], b"")
    body = dict(entry.coded).get(coding) or codings.encode(entry.body, coding)
    headers += [] if coding == codings.IDENTITY else [("Content-Encoding", coding)]
    headers += [("Content-Length", str(len(body)))]
    return Answer(200, headers, b"" if method == "HEAD" else body)


def _vary(entry: Entry) -> list[tuple[str, str]]:
    """Return `Vary: Accept-Encoding`, unless the entry has a Vary of its own, which then includes it."""
    return [] if "Vary" in dict(entry.headers) else [VARY]


def _dated(changed: int | None, terms: Terms) -> list[tuple[str, str]]:
    if changed is None or changed > terms.now + 1:  # made by a clock that is ahead
        return []
    return [("Last-Modified", format_http_date(last_modified(changed, min(terms.now, terms.seen))))]


def _held(entry: Entry, terms: Terms) -> tuple[tuple[str, str], ...]:
    """Return who may hold the answer, and for how long. Expires tells old caches the same (RFC 9111 section 5.3).

    Nobody may hold a stale entry: its purges have been sent already, and no later purge would remove it.
    """
    if terms.is_private or terms.age is not None or not entry.shared:
        return KEPT_BY_NOBODY
    until = format_http_date(int(terms.now) + entry.max_age) if entry.max_age else LONG_AGO
    return (*entry.shared, ("Expires", until))


def missing_coding(
    entry: Entry, method: str, conditions: Conditions, accept_encoding: str | None
) -> str | None:
    """Return the content coding that `answer` would have to compute before it sends the entry; None for none."""
    if accept_encoding is None:
        return None
    coding = _selected(entry, accept_encoding, conditions)
    if coding is None or coding in {codings.IDENTITY, *(made for made, _ in entry.coded)}:
        return None
    validators = Validators(codings.entity_tag(entry.etag, coding), entry.changed)
    return coding if evaluate(method, conditions, validators) is Outcome.PROCEED else None


def _selected(entry: Entry, accept_encoding: str | None, conditions: Conditions) -> str | None:
    """Return the coding to send: the one that the client holds, if it is still acceptable, else the best.

    So a client whose Accept-Encoding has changed can revalidate its copy. None where no coding is acceptable.
    """
    admitted = codings.admitted(accept_encoding, entry.body)
    if conditions is NONE:
        return admitted[0] if admitted else None
    tags = {coding: codings.entity_tag(entry.etag, coding) for coding in admitted}
    for listed, is_listed in (
        (conditions.if_match, etags.strongly_listed),  # first, in the order in which conditions are evaluated
        (conditions.if_none_match, etags.weakly_listed),
    ):
        named = (coding for coding in admitted if listed and is_listed(tags[coding], listed))
        if found := next(named, None):
            return found
    return admitted[0] if admitted else None


def last_modified(changed: int, seen: float) -> int:
    """Return the Last-Modified to send, in Unix seconds: never later than now (RFC 9110 section 8.8.2.1).

    Content is dated to the first whole second after it appeared, so that two contents within one second never share
    a date. Unless it was `seen` after that second had come, the one before it is sent, which no condition ever matches:
    while an answer is on its way to the client, other content may appear, and get that date.
    """
    return changed if changed <= seen else changed - 1
