"""What a request has read before its stamps were looked up, and when an answer that may show it can be kept.

Middlewares, authentication, permissions, a view's `initial` and the bits of its key run before the stamps of an answer
are looked up. A row that they have read may be older than the stamps, and nothing would ever end an entry that shows
it. So where a declared table has been read that early, an entry is kept only under stamps that this process had seen
before the request began: then there was no change in between. Where a replica was asked, the row may be older all the
same, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from time import monotonic

from keybits import stamps
from keybits.bounded import Bounded

__all__ = ["Prelude", "begin", "end", "is_proven", "note", "over"]

MOST_STATEMENTS = 64
"""A request that sends this many statements before its stamps is taken to have read every table."""
MOST_SEEN = 1024
"""Lists of scopes whose stamps are remembered. When full, all are forgotten, and entries are kept one miss later."""


@dataclass(slots=True)
class Prelude:
    """The statements that a request has sent to databases before its stamps, and when it began (`monotonic`)."""

    began: float = field(default_factory=monotonic)
    statements: list[tuple[str, str]] = field(default_factory=list)
    """The alias of the database and the text of each, at most `MOST_STATEMENTS`."""
    databases: set[str] = field(default_factory=set)
    """The aliases of all databases that were sent a statement."""

    def read(self, tables: Collection[str]) -> set[str]:
        """Return the databases of which a statement may have read one of the tables: names it, in whatever case."""
        if len(self.statements) >= MOST_STATEMENTS:
            return self.databases
        names = [table.strip('"').casefold() for table in tables]
        texts = ((alias, statement.casefold()) for alias, statement in self.statements)
        return {alias for alias, text in texts if any(name in text for name in names)}


_present: ContextVar[Prelude | None] = ContextVar("keybits_prelude", default=None)
_seen: Bounded[tuple[str, ...], tuple[bytes, float]] = Bounded(MOST_SEEN)


def begin() -> Token[Prelude | None]:
    """Begin the prelude of a request: its statements are noted until it is over. Give the token to `end`."""
    return _present.set(Prelude())


def end(token: Token[Prelude | None]) -> None:
    """End the request of this token; the prelude of the request that it was made within, if any, goes on."""
    _present.reset(token)


def note(alias: str, statement: str) -> None:
    """Note a statement that is sent to the database `alias`, if a prelude is under way."""
    prelude = _present.get()
    if prelude is None:
        return
    prelude.databases.add(alias)
    if len(prelude.statements) < MOST_STATEMENTS:
        prelude.statements.append((alias, statement))


def over() -> Prelude | None:
    """End the prelude and return it; None outside a request. The next handler of the request has one that begins now.

    That handler may be called by a view that answers from several, and show what was read for an earlier one.
    """
    prelude = _present.get()
    if prelude is not None:
        _present.set(Prelude())
    return prelude


def is_proven(prelude: Prelude, scopes: Sequence[str], witness: bytes) -> bool:
    """Return whether the stamps of `scopes`, now `witness`, were seen to be the same before the prelude began.

    They are remembered for the requests that begin from now on.
    """
    names = stamps.scope_names(scopes)
    seen = _seen.get(names)
    if seen is not None and seen[0] == witness:
        return seen[1] < prelude.began
    _seen[names] = witness, monotonic()
    return False
