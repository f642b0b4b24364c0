"""Every decision between 200, 304 and 412 is made here, from values alone: no request, no clock, no cache.

So is every decision between 200 and 206 that If-Range asks for, and what an HTTP-date means (RFC 9110 sections
5.6.7 and 13).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from email.utils import formatdate
from enum import Enum
from typing import Any, Final

from keybits import etags

__all__ = [
    "NONE",
    "Conditions",
    "Outcome",
    "Validators",
    "evaluate",
    "format_http_date",
    "parse_http_date",
    "range_applies",
]


@dataclass(frozen=True, slots=True)
class Conditions:
    """A request's precondition fields as they were received; None where the field is absent, not where it is empty."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, Any]) -> Conditions:
        """Read a WSGI environ (or Django's `request.META`); without any such field it is always `NONE`."""
        fields = tuple(map(environ.get, _ENVIRON_KEYS))
        return NONE if fields == _ABSENT else cls(*fields)


NONE: Final = Conditions()
"""An unconditional request."""

# In the order of the attributes above.
_ENVIRON_KEYS = (
    "HTTP_IF_MATCH",
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_IF_RANGE",
)
_ABSENT = (None,) * len(_ENVIRON_KEYS)


@dataclass(frozen=True, slots=True)
class Validators:
    """The selected representation's validators (section 8.8); None where it has none of the kind."""

    etag: str | None = None
    """With its quotes, and `W/` where it is weak."""
    last_modified: int | None = None
    """Whole seconds since the epoch. If-Range takes it for a strong validator, so leave it out where the
    representation may change twice in one second (section 8.8.2.2) and ranges are served."""


class Outcome(Enum):
    """What the preconditions ask for."""

    PROCEED = "perform the method"
    NOT_MODIFIED = "304"
    PRECONDITION_FAILED = "412"


def evaluate(method: str, conditions: Conditions, validators: Validators) -> Outcome:
    """Decide by section 13.2.2, for a target that has a current representation.

    Ask only where the answer would otherwise be a 2xx (section 13.2.1): a 404 or a 403 comes before any
    precondition. The method is case-sensitive (section 9.1).
    """
    if conditions is NONE or method in _WITHOUT_SELECTION:
        return Outcome.PROCEED
    # Steps 1 and 2: is the client's idea of the current state right? Otherwise nothing may be done on top of it.
    if not _expected_state(conditions, validators):
        return Outcome.PRECONDITION_FAILED
    # Steps 3 and 4: does the client already hold what would be sent, or forbid that anything is there?
    if method in _READS:
        return Outcome.NOT_MODIFIED if _already_held(conditions, validators) else Outcome.PROCEED
    if conditions.if_none_match is not None and not _none_matches(conditions.if_none_match, validators):
        return Outcome.PRECONDITION_FAILED
    # Step 5 is `range_applies`, for who serves ranges. Step 6:
    return Outcome.PROCEED


# Section 13.2.1: their preconditions are ignored, since no representation is selected or changed.
_WITHOUT_SELECTION = frozenset({"CONNECT", "OPTIONS", "TRACE"})
_READS = frozenset({"GET", "HEAD"})


def _expected_state(conditions: Conditions, validators: Validators) -> bool:
    # Step 1: If-Match, where present, decides alone.
    if conditions.if_match is not None:
        return _matches(conditions.if_match, validators)
    # Step 2: otherwise If-Unmodified-Since.
    if conditions.if_unmodified_since is not None:
        return _unmodified_since(conditions.if_unmodified_since, validators)
    return True


def _already_held(conditions: Conditions, validators: Validators) -> bool:
    # Step 3: If-None-Match, where present, decides alone; a tag that failed is never overruled by a date.
    if conditions.if_none_match is not None:
        return not _none_matches(conditions.if_none_match, validators)
    # Step 4: otherwise If-Modified-Since.
    if conditions.if_modified_since is not None:
        return not _modified_since(conditions.if_modified_since, validators)
    return False


def _matches(field: str, validators: Validators) -> bool:
    """Section 13.1.1: strong comparison, because a write must not rest on a representation that is merely alike."""
    return etags.strongly_listed(validators.etag, field)


def _none_matches(field: str, validators: Validators) -> bool:
    """Section 13.1.2: weak comparison, because a cache asks for nothing better and compressors weaken tags."""
    return not etags.weakly_listed(validators.etag, field)


def _modified_since(field: str, validators: Validators) -> bool:
    """Section 13.1.3: without a date on either side the field is ignored, as if modified."""
    since = parse_http_date(field)
    return validators.last_modified is None or since is None or validators.last_modified > since


def _unmodified_since(field: str, validators: Validators) -> bool:
    """Section 13.1.4: without a date on either side the field is ignored, as if unmodified."""
    since = parse_http_date(field)
    return validators.last_modified is None or since is None or validators.last_modified <= since


def range_applies(conditions: Conditions, validators: Validators) -> bool:
    """Say whether a GET's Range may be honoured (section 13.1.5; step 5 of 13.2.2); if not, send it all.

    Without If-Range it may. A tag must be the same and strong; a date must be the same second, later is not enough.
    """
    field = conditions.if_range
    if field is None:
        return True
    if '"' in field[:3]:
        return field == validators.etag and not etags.is_weak(field)
    return validators.last_modified is not None and parse_http_date(field) == validators.last_modified


# Section 5.6.7. Case-sensitive, single spaces, ASCII digits. The name of the day has to be one, but not the right one:
# the section asks recipients to be robust, and a date that is ignored is a write that is not guarded.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, start=1)}
_DAY_NAME = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAY_NAME_L = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<time>(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]|23:59:60)"
_IMF_FIXDATE = re.compile(f"{_DAY_NAME}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT")
_RFC850_DATE = re.compile(f"{_DAY_NAME_L}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT")
_ASCTIME_DATE = re.compile(f"{_DAY_NAME} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})")

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_REFERENCE = 1_735_689_600
"""2025-01-01: where no present is given, two digits mean a year from 1975 to 2074, and HTTP is younger than that."""


def parse_http_date(value: str, now: int | None = None) -> int | None:
    """Return whole seconds since the epoch, or None where it is no HTTP-date (section 5.6.7, all three forms).

    `now`, in the same seconds, serves the two-digit years of RFC 850 only: what appears to be more than fifty
    years after it is taken for the past. Leave it out and 2025 stands for the present.
    """
    if parts := _IMF_FIXDATE.fullmatch(value) or _ASCTIME_DATE.fullmatch(value):
        return _seconds(int(parts["year"]), parts)
    if parts := _RFC850_DATE.fullmatch(value):
        return _recent_seconds(int(parts["year"]), parts, _REFERENCE if now is None else now)
    return None


def format_http_date(seconds: int) -> str:
    """Return the IMF-fixdate of a time in whole seconds since the epoch, up to the year 9999."""
    return formatdate(seconds, usegmt=True)


def _seconds(year: int, parts: re.Match[str]) -> int | None:
    clock = parts["time"]
    try:
        day = date(year, _MONTH_NUMBERS[parts["month"]], int(parts["day"])).toordinal() - _EPOCH_DAY
    except ValueError:  # no such day: 31 June, the year 0
        return None
    return day * 86_400 + int(clock[:2]) * 3_600 + int(clock[3:5]) * 60 + int(clock[6:])


def _recent_seconds(two_digits: int, parts: re.Match[str], now: int) -> int | None:
    present = time.gmtime(now)
    horizon = present.tm_year + 50
    year = horizon - (horizon - two_digits) % 100
    moment = (_MONTH_NUMBERS[parts["month"]], int(parts["day"]), parts["time"])
    if year == horizon and moment > (present.tm_mon, present.tm_mday, time.strftime("%H:%M:%S", present)):
        year -= 100
    return _seconds(year, parts)
