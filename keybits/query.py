"""What a query string means: a closed grammar, and one canonical way to write each query.

Pure functions of values: no request, no view. A parameter that is unknown to the grammar, repeated, empty or badly
encoded is an error that says what would be accepted. Nothing is ignored except tracking parameters, which are listed
by name. Two query strings that mean the same have the same `canonical` text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode

from keybits.parameters import MOST_REPEATED, Parameter, ValueRefusedError

__all__ = ["LONGEST", "NO_QUERY", "NO_VARY_SEARCH", "Grammar", "Query", "QueryError"]

LONGEST = 8192
SHORT, REMEMBERED = 128, 512
"""Longest query string, in characters, whose meaning is remembered, and how many are remembered for one view."""
TRACKING = re.compile(r"utm_.*|gclid|fbclid|_")
_OF_NO_ACCOUNT = (
    *("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id"),
    *("gclid", "fbclid", "_"),
)
NO_VARY_SEARCH = (
    "No-Vary-Search",
    "key-order, params=({})".format(" ".join(f'"{name}"' for name in _OF_NO_ACCOUNT)),
)
"""What a client's cache may leave out of its key. The field has no `utm_*`, so it lists those in common use."""
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class QueryError(ValueError):
    """The grammar does not accept the query string.

    `kind` is a problem type, `parameter` the name at fault ("" for the string as a whole), `allowed` what would be
    accepted, and `suggestion` the nearest of those, or "".
    """

    def __init__(
        self, kind: str, detail: str, parameter: str = "", allowed: Iterable[str] = (), suggestion: str = ""
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.parameter = parameter
        self.allowed = list(allowed)
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Query:
    """A query that the grammar accepts: `pairs` are sorted and canonical, `canonical` is the text that they make."""

    pairs: tuple[tuple[str, str], ...]
    canonical: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "canonical", urlencode(self.pairs))

    def all(self, name: str) -> list[str]:
        """Return every value of `name`, sorted."""
        return [value for key, value in self.pairs if key == name]

    def get(self, name: str) -> str | None:
        """Return the value of `name`, or None where it is not given."""
        return next((value for key, value in self.pairs if key == name), None)


NO_QUERY = Query(())


class Grammar:
    """The parameters that one view accepts.

    The meaning of short query strings is remembered, least recently used first out (`python -m benchmarks server_cpu`).
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = {parameter.name: parameter for parameter in parameters}
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._parsed)

    def parse(self, query_string: str) -> Query:
        """Return the query in `query_string` (as WSGI gives it: latin-1), or raise `QueryError`."""
        if not query_string:
            return NO_QUERY
        return (self._remembered if len(query_string) <= SHORT else self._parsed)(query_string)

    def _parsed(self, query_string: str) -> Query:
        pairs = {(name, value) for name, value in self._accepted(_decoded(query_string))}
        return Query(tuple(sorted(pairs)))

    def _accepted(self, pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
        seen: Counter[str] = Counter()
        for name, value in pairs:
            if TRACKING.fullmatch(name):
                continue
            parameter = self._known(name)
            seen[name] += 1
            if seen[name] > (MOST_REPEATED if parameter.repeatable else 1):
                often = f"at most {MOST_REPEATED} times" if parameter.repeatable else "once"
                raise QueryError("urn:problem:repeated-parameter", f"Give {name!r} {often}.", name)
            yield name, _canonical(parameter, value)

    def _known(self, name: str) -> Parameter:
        if name in self.parameters:
            return self.parameters[name]
        nearest = get_close_matches(name, self.parameters, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise QueryError(
            "urn:problem:unknown-parameter",
            f"There is no parameter {name!r} here.{hint}",
            name,
            sorted(self.parameters),
            "".join(nearest),
        )


def _decoded(query_string: str) -> list[tuple[str, str]]:
    if len(query_string) > LONGEST:
        raise QueryError("urn:problem:query-too-long", f"A query string has at most {LONGEST:,} characters.")
    if bad := _BAD_ESCAPE.search(query_string):
        raise QueryError(
            "urn:problem:malformed-query",
            f"The % at character {bad.start() + 1} does not start an escape; write %25.",
        )
    try:
        text = query_string.encode("latin-1").decode("utf-8")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except UnicodeError:
        raise QueryError("urn:problem:malformed-query", "The query string is not UTF-8.") from None
    except ValueError:
        raise QueryError(
            "urn:problem:malformed-query", "A query string has at most 100 parameters."
        ) from None


def _canonical(parameter: Parameter, value: str) -> str:
    name = parameter.name
    if not value.strip():  # a filter would ignore a blank value, and return everything
        raise QueryError(
            "urn:problem:malformed-parameter", f"{name!r} is empty; leave it out or give it a value.", name
        )
    if _CONTROL.search(value):
        raise QueryError("urn:problem:malformed-parameter", f"{name!r} contains a control character.", name)
    try:
        return parameter.canonical(value)
    except ValueRefusedError as refusal:
        detail = f"{name!r}: {refusal.detail}"
        raise QueryError(
            "urn:problem:malformed-parameter", detail, name, refusal.allowed, refusal.suggestion
        ) from None
