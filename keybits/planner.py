"""How the functions of triggers find rows on PostgreSQL: by their keys, whatever the planner takes the tables for.

PL/pgSQL keeps what was planned when a connection first ran a statement, for the one row of that day; and a table that
has just been filled is taken for as small as it was when it was last analyzed. A plan that is cheap for so few then
compares each with each of a hundred thousand. So these are given nothing to choose: rows are looked up by `looked_up`,
or in a subquery with OFFSET 0 for each row, and what a statement has in hand is joined by hashing.
"""

from __future__ import annotations

__all__ = ["SETTINGS", "looked_up"]

SETTINGS = "SET enable_seqscan = off SET enable_indexonlyscan = off SET enable_nestloop = off SET jit = off"
"""What the functions are created with: nothing is read whole, neither a table nor an index that has all there is to
read. What cannot be had otherwise is done all the same."""


def looked_up(column: str, keys: str) -> str:
    """Return the condition that `column`, which an index begins with, is among what the query `keys` returns.

    No join, and so no other order than to find the keys first, and each of them in the index. Where what is found is to
    be DISTINCT or grouped, do that around a subquery with OFFSET 0: an index in that order would be read whole.
    """
    return f"{column} = ANY(ARRAY({keys}))"
