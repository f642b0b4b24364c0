"""What shared caches are told of an answer: for how long to hold it, and under which surrogate keys."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keybits import cache_control, edge, readthrough
from keybits.cache_control import Policy
from keybits.entries import Entry

__all__ = ["Tagged"]


@dataclass(frozen=True, slots=True)
class Tagged:
    """What an answer is made from, and what it and its view say to caches.

    `scopes` are those of freshness, and `surrogates` those whose changes purge it. `policy` is the view's; `own` is the
    Cache-Control that the view has set itself, or None; `more` are the fields for shared caches that it has set.
    """

    scopes: tuple[str, ...]
    surrogates: tuple[str, ...]
    policy: Policy
    own: str | None
    more: tuple[tuple[str, str], ...]

    def on(self, entry: Entry, *, held: bool) -> Entry:
        """Return the entry with these fields.

        The view's own Cache-Control replaces the policy's, except where caches that we purge must not hold the answer.
        """
        if self.own is not None and (held or not edge.purgers()):
            fields = [("Cache-Control", self.own), *edge.key_fields(self.surrogates)]
            seconds = cache_control.max_age(self.own)
            return replace(entry, shared=edge.joined(fields, self.more), max_age=seconds)
        policy = self.policy if held else self.policy.unheld()
        fields = edge.fields(policy, self.surrogates)
        shared = edge.joined(fields, self.more) if held else tuple(fields)
        return replace(entry, shared=shared, max_age=policy.everybody.max_age)

    def guarded(self, entry: Entry) -> Entry:
        """Return the entry; it may be shown stale, where the policy for everybody has stale-while-revalidate."""
        seconds = 0 if self.own is not None else self.policy.everybody.stale_while_revalidate
        takedowns = sorted(set(self.surrogates) - set(self.scopes))
        return readthrough.allow_stale(entry, self.scopes, takedowns, seconds)
