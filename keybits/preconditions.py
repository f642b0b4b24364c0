"""Every decision between 200, 304 and 412, made from values alone: no request, no clock, no cache.

The decision between 200 and 206 that If-Range asks for, and the meaning of an HTTP-date, are here too. The sections are
those of RFC 9110, in the order of 13.2.2, 13.1.5 and 5.6.7.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from email.utils import formatdate
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

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
    """A request's precondition fields as received; None where a field is absent, not where it is empty."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, Any]) -> Conditions:
        """Return the conditions in a WSGI environ (or Django's `request.META`): always `NONE` where there are none."""
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


class Validators(NamedTuple):
    """The selected representation's validators (section 8.8); None where it has none of the kind."""

    etag: str | None = None
    """With its quotes, and with `W/` where it is weak."""
    last_modified: int | None = None
    """Whole seconds since the epoch. If-Range takes it for a strong validator: where ranges are served, leave it out
    if the content may have changed twice in that second (section 8.8.2.2)."""


class Outcome(Enum):
    """What the preconditions ask for."""

    PROCEED = "perform the method"
    NOT_MODIFIED = "304"
    PRECONDITION_FAILED = "412"


def evaluate(method: str, conditions: Conditions, validators: Validators) -> Outcome:
    """Return the outcome by section 13.2.2, for a target that has a current representation.

    Call it only where the answer would otherwise be a 2xx (section 13.2.1): a 404 or a 403 takes precedence over any
    precondition. The method is case-sensitive (section 9.1).
    """
    if conditions is NONE or method in _WITHOUT_SELECTION:
        return Outcome.PROCEED
    # 1. If-Match.
    if not _if_match_holds(conditions, validators):
        return Outcome.PRECONDITION_FAILED
    # 2. If-Unmodified-Since, where there is no If-Match.
    if not _if_unmodified_since_holds(conditions, validators):
        return Outcome.PRECONDITION_FAILED
    # 3. If-None-Match.
    if not _if_none_match_holds(conditions, validators):
        return Outcome.NOT_MODIFIED if method in _READS else Outcome.PRECONDITION_FAILED
    # 4. If-Modified-Since, where there is no If-None-Match, for reads only.
    if method in _READS and not _if_modified_since_holds(conditions, validators):
        return Outcome.NOT_MODIFIED
    # 5. If-Range: `range_applies`, for callers that serve ranges. 6. Otherwise:
    return Outcome.PROCEED


# Section 13.2.1: these methods neither select nor change a representation, so their preconditions are ignored.
_WITHOUT_SELECTION = frozenset({"CONNECT", "OPTIONS", "TRACE"})
_READS = frozenset({"GET", "HEAD"})


def _if_match_holds(conditions: Conditions, validators: Validators) -> bool:
    """Section 13.1.1. Strong comparison: a write must not be based on a representation that is merely equivalent."""
    field = conditions.if_match
    return field is None or etags.strongly_listed(validators.etag, field)


def _if_unmodified_since_holds(conditions: Conditions, validators: Validators) -> bool:
    """Section 13.1.4. Ignored beside If-Match, and where either side has no date."""
    if conditions.if_match is not None or conditions.if_unmodified_since is None:
        return True
    since = parse_http_date(conditions.if_unmodified_since)
    return since is None or validators.last_modified is None or validators.last_modified <= since


def _if_none_match_holds(conditions: Conditions, validators: Validators) -> bool:
    """Section 13.1.2. Weak comparison: compressors on the way weaken tags, and a cache needs no more."""
    field = conditions.if_none_match
    return field is None or not etags.weakly_listed(validators.etag, field)


def _if_modified_since_holds(conditions: Conditions, validators: Validators) -> bool:
    """Section 13.1.3. Ignored beside If-None-Match, even a failed one, and where either side has no date."""
    if conditions.if_none_match is not None or conditions.if_modified_since is None:
        return True
    since = parse_http_date(conditions.if_modified_since)
    return since is None or validators.last_modified is None or validators.last_modified > since


def range_applies(conditions: Conditions, validators: Validators) -> bool:
    """Say whether a GET's Range may be honoured (section 13.1.5); if not, the whole representation is sent.

    Without If-Range it may. A tag must be the same and strong, a date exactly equal: a later one is not enough.
    """
    field = conditions.if_range
    if field is None:
        return True
    if field.startswith('"'):  # a weak tag is not one, nor a date, and never applies
        return field == validators.etag
    return validators.last_modified is not None and parse_http_date(field) == validators.last_modified


# Section 5.6.7. Case-sensitive, single spaces, ASCII digits. The day name has to be valid but need not fit the date:
# the section asks recipients to be robust, and ignoring a date would make a conditional write unconditional.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, start=1)}
_DAY_NAME = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAY_NAME_L = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<time>(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]|23:59:60)"
_IMF_FIXDATE = re.compile(f"{_DAY_NAME}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT")
_RFC850_DATE = re.compile(f"{_DAY_NAME_L}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT")
_ASCTIME_DATE = re.compile(f"{_DAY_NAME} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})")

_EPOCH_DAY = date(1970, 1, 1).toordinal()
# 2025-01-01: two digits then mean a year from 1975 to 2074 (and the first second of 2075). HTTP is younger than that.
_REFERENCE = 1_735_689_600


def parse_http_date(value: str, now: int | None = None) -> int | None:
    """Return whole seconds since the epoch, or None where `value` is no HTTP-date (section 5.6.7: three forms).

    `now`, also in seconds since the epoch, is used for the two-digit years of RFC 850 only: a date that seems to be
    more than fifty years after it is taken to be in the past. The default is the start of 2025.
    """
    if parts := _IMF_FIXDATE.fullmatch(value) or _ASCTIME_DATE.fullmatch(value):
        return _seconds(int(parts["year"]), parts)
    if parts := _RFC850_DATE.fullmatch(value):
        return _seconds(_full_year(parts, _REFERENCE if now is None else now), parts)
    return None


@lru_cache(maxsize=1024)  # called for every hit, with few dates
def format_http_date(seconds: int) -> str:
    """Return the IMF-fixdate of a time in whole seconds since the epoch, up to the year 9999."""
    return formatdate(seconds, usegmt=True)


def _seconds(year: int, parts: re.Match[str]) -> int | None:
    clock = parts["time"]
    try:
        days = date(year, _MONTH_NUMBERS[parts["month"]], int(parts["day"])).toordinal() - _EPOCH_DAY
    except ValueError:  # no such day: 31 June, the year 0
        return None
    return days * 86_400 + int(clock[:2]) * 3_600 + int(clock[3:5]) * 60 + int(clock[6:])


def _full_year(parts: re.Match[str], now: int) -> int:
    """Return the latest year with these last two digits for which the date is at most fifty years after `now`."""
    present = time.gmtime(now)
    horizon = present.tm_year + 50
    year = horizon - (horizon - int(parts["year"])) % 100
    moment = (_MONTH_NUMBERS[parts["month"]], int(parts["day"]), parts["time"])
    is_beyond = moment > (present.tm_mon, present.tm_mday, time.strftime("%H:%M:%S", present))
    return year - 100 if year == horizon and is_beyond else year
