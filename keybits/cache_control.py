"""Every Cache-Control value that keybits sends (RFC 9111 section 5.2.2): who may store an answer, and for how long.

The fields for targeted caches (RFC 9213) have the same grammar and are made here too. A view declares a `Policy` as
`cache_policy`. By default every cache revalidates each time, except those that are told of every change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

__all__ = [
    "PRIVATE",
    "PUBLIC",
    "Lifetime",
    "Policy",
    "cache_control",
    "is_storable_by_all",
    "max_age",
    "strictest",
]


def cache_control(**directives: int | bool) -> str:
    """Return the field value: `cache_control(public=True, max_age=0)` is `public, max-age=0`.

    Ages are in seconds. A directive whose value is False is left out.
    """
    return ", ".join(
        _directive(name.replace("_", "-"), value) for name, value in directives.items() if value is not False
    )


def _directive(name: str, value: int | bool) -> str:
    return name if value is True else f"{name}={value}"


PUBLIC = cache_control(public=True, max_age=0, must_revalidate=True)
"""Any cache may store the answer and must revalidate it before each use: nobody is shown a stale one."""

PRIVATE = cache_control(private=True, no_store=True)
"""No cache may store the answer: it is for one person, or not worth storing (errors, pages for people)."""

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The seconds for which an answer may be used without revalidation, and those for which it may be used stale.

    The latter two are RFC 5861's: `stale_while_revalidate` shows old content to whoever asks first after a change.
    """

    max_age: int = 0
    stale_while_revalidate: int = 0
    stale_if_error: int = 0

    def __post_init__(self) -> None:
        """Refuse values below 0, which are not delta-seconds (RFC 9111 section 1.2.2)."""
        if min(self.max_age, self.stale_while_revalidate, self.stale_if_error) < 0:
            raise ValueError(f"{self} has an age below 0; give seconds from 0 on.")

    def directives(self) -> dict[str, int | bool]:
        """Return the directives; without any stale use, must-revalidate is among them (section 5.2.2.2)."""
        return {
            "max_age": self.max_age,
            "stale_while_revalidate": self.stale_while_revalidate or False,
            "stale_if_error": self.stale_if_error or False,
            "must_revalidate": not (self.stale_while_revalidate or self.stale_if_error),
        }


@dataclass(frozen=True, slots=True)
class Policy:
    """How long an answer may be held, by everybody (browsers too), and by the caches that we purge (`edge`).

    `s_maxage` is for shared caches that nobody purges: seconds for which they may show a stale answer. An age above 0
    for `everybody` is staleness that the project accepts; the default accepts none.
    """

    everybody: Lifetime = Lifetime()
    s_maxage: int | None = None
    edge: Lifetime = field(default=Lifetime(max_age=DAY, stale_if_error=DAY))

    def for_everybody(self, s_maxage: int | None = None) -> str:
        """Return the Cache-Control value; `s_maxage` overrides the policy's."""
        shared = self.s_maxage if s_maxage is None else s_maxage
        lasting = {"max_age": 0, "s_maxage": False if shared is None else shared}
        return cache_control(public=True, **(lasting | self.everybody.directives()))

    def for_the_edge(self) -> str:
        """Return the value of CDN-Cache-Control (RFC 9213) or Surrogate-Control, for the caches that we purge."""
        return cache_control(**self.edge.directives())

    def unheld(self) -> Policy:
        """Return the policy for an answer that purges may not reach: the edge revalidates it each time.

        While we are down the edge may not use it either: content that was taken down meanwhile must not come back.
        """
        return replace(self, edge=Lifetime())


def is_storable_by_all(value: str) -> bool:
    """Say whether a field value, whoever wrote it, lets a shared cache store the answer (RFC 9111 section 3)."""
    said = value.lower()
    return any(word in said for word in ("public", "max-age", "s-maxage")) and not any(
        word in said for word in ("private", "no-store")
    )


def max_age(value: str) -> int:
    """Return the max-age of a field value, whoever wrote it, in seconds; 0 where it has none that can be read."""
    found = _MAX_AGE.search(value)
    return int(found[1]) if found else 0


_MAX_AGE = re.compile(r"(?:\A|[,\s])max-age=(\d{1,9})(?:[,\s]|\Z)", re.IGNORECASE)


def strictest(first: Policy, *others: Policy) -> Policy:
    """Return the policy that allows no more than any of those given, for an answer that shows several objects."""
    policy = first
    for other in others:
        policy = _stricter(policy, other)
    return policy


def _stricter(one: Policy, other: Policy) -> Policy:
    shared = [
        policy.everybody.max_age if policy.s_maxage is None else policy.s_maxage for policy in (one, other)
    ]
    return Policy(
        _shorter(one.everybody, other.everybody),
        None if one.s_maxage is None and other.s_maxage is None else min(shared),
        _shorter(one.edge, other.edge),
    )


def _shorter(one: Lifetime, other: Lifetime) -> Lifetime:
    return Lifetime(
        min(one.max_age, other.max_age),
        min(one.stale_while_revalidate, other.stale_while_revalidate),
        min(one.stale_if_error, other.stale_if_error),
    )
