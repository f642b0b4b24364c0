"""What one query parameter accepts, what the canonical form of its value is, and how OpenAPI describes it.

There is one class for each kind. `canonical` and `schema` define the same values, one for the server and one for
readers: a value that the schema admits is accepted; any other is refused, with what would have been accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

__all__ = [
    "LARGEST_ID",
    "MOST_REPEATED",
    "Choice",
    "CommaList",
    "Moment",
    "Number",
    "Parameter",
    "Text",
    "ValueRefusedError",
]

Schema = dict[str, Any]
LARGEST_ID = 2**63 - 1
"""The largest number that a database's 64 bits have room for: larger ones are refused before it is asked."""
MOST_REPEATED = 20
"""How often a request may give a parameter that is repeatable."""
_DIGITS = re.compile(r"[0-9]{1,19}")
_PRINTABLE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
"""No control characters, and not blank. It has no lookahead, so that tools can generate examples from the pattern."""
FIRST_YEAR, LAST_YEAR = 1900, 2099
_SIGNED = re.compile(r"-?[0-9]{1,19}")
_MOMENT = re.compile(
    r"(?P<date>(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2})"
    r"(?:T(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]+)?"
    r"(?P<offset>Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))?",
    re.IGNORECASE,
)


class ValueRefusedError(ValueError):
    """The parameter does not accept the value. `allowed` lists all values that it accepts, if these are few."""

    def __init__(self, detail: str, allowed: tuple[str, ...] = (), suggestion: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.allowed = allowed
        self.suggestion = suggestion


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter; the values of a `repeatable` one form a set."""

    name: str
    description: str = ""
    repeatable: bool = False

    def canonical(self, value: str) -> str:
        """Return the canonical form of `value`, or raise `ValueRefusedError`."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """Return the JSON Schema (2020-12) of one value."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Choice(Parameter):
    """One of a few words."""

    choices: tuple[str, ...]

    def canonical(self, value: str) -> str:
        if value not in self.choices:
            raise _not_among(value, self.choices)
        return value

    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.choices)}


@dataclass(frozen=True, kw_only=True)
class Number(Parameter):
    """A whole number from `minimum` to `maximum`, or one of `words`."""

    minimum: int = 0
    maximum: int = 2**31 - 1
    words: tuple[str, ...] = ()

    def canonical(self, value: str) -> str:
        if value in self.words:
            return value
        if not _SIGNED.fullmatch(value) or not self.minimum <= int(value) <= self.maximum:
            words = "".join(f", or {word}" for word in self.words)
            raise ValueRefusedError(f"Write a whole number from {self.minimum} to {self.maximum}{words}.")
        return str(int(value))

    def schema(self) -> Schema:
        number: Schema = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        return {"oneOf": [number, {"type": "string", "enum": list(self.words)}]} if self.words else number


@dataclass(frozen=True, kw_only=True)
class Text(Parameter):
    """Text of at most `longest` characters that `pattern` (a regular expression) matches as a whole."""

    longest: int
    pattern: str = ""
    expected: str = ""
    lower: bool = False

    def canonical(self, value: str) -> str:
        if len(value) > self.longest:
            raise ValueRefusedError(f"Write at most {self.longest} characters.")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise ValueRefusedError(self.expected)
        return value.lower() if self.lower else value

    def schema(self) -> Schema:
        # Anchored in every dialect. Without a pattern, anything but control characters and blank text is accepted.
        return {
            "type": "string",
            "minLength": 1,
            "maxLength": self.longest,
            "pattern": f"^(?:{self.pattern})$" if self.pattern else _PRINTABLE,
        }


@dataclass(frozen=True, kw_only=True)
class CommaList(Parameter):
    """A set of up to `most` members, separated by commas: of `choices`, or else of positive whole numbers."""

    most: int
    choices: tuple[str, ...] = ()

    def canonical(self, value: str) -> str:
        members = value.split(",")
        if len(members) > self.most:
            raise ValueRefusedError(f"Give at most {self.most} values.")
        if self.choices:
            return ",".join(sorted({self._choice(member) for member in members}))
        return ",".join(map(str, sorted({self._id(member) for member in members})))

    def schema(self) -> Schema:
        items: Schema = (
            {"type": "string", "enum": list(self.choices)}
            if self.choices
            else {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
        )
        return {"type": "array", "items": items, "minItems": 1, "maxItems": self.most}

    def _choice(self, member: str) -> str:
        if member not in self.choices:
            raise _not_among(member, self.choices)
        return member

    def _id(self, member: str) -> int:
        if not _DIGITS.fullmatch(member) or not 1 <= int(member) <= LARGEST_ID:
            raise ValueRefusedError("Write positive whole numbers, separated by commas.")
        return int(member)


@dataclass(frozen=True, kw_only=True)
class Moment(Parameter):
    """A date (midnight, UTC) or a date and time with its offset (RFC 3339), from 1900 to 2099."""

    def canonical(self, value: str) -> str:
        if not _MOMENT.fullmatch(value):
            raise ValueRefusedError("Write 2026-11-20 or 2026-11-20T14:30:00Z; in a URL, + is %2B.")
        try:
            moment = datetime.fromisoformat(value.upper())
        except ValueError as error:
            raise ValueRefusedError(f"There is no such date or time: {error}.") from None
        utc = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        if not FIRST_YEAR <= utc.year <= LAST_YEAR:
            raise ValueRefusedError(f"Write a date from {FIRST_YEAR} to {LAST_YEAR}, in UTC.")
        return utc.isoformat()

    def schema(self) -> Schema:
        return {
            "anyOf": [
                {"type": "string", "format": "date-time", "pattern": "^(19|20)"},
                {"type": "string", "format": "date", "pattern": "^(19|20)"},
            ]
        }


def _not_among(value: str, choices: tuple[str, ...]) -> ValueRefusedError:
    nearest = "".join(get_close_matches(value, choices, n=1))
    hint = f" Did you mean {nearest!r}?" if nearest else ""
    return ValueRefusedError(f"{value!r} is not one of {', '.join(choices)}.{hint}", choices, nearest)
