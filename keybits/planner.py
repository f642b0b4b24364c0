"""How trigger functions find rows on PostgreSQL: by index on their keys, whatever the planner estimates.

PL/pgSQL keeps the plan made when a connection first ran a statement, which may have been for one row; and a table that
has just been filled is estimated to be as small as when it was last analyzed. A plan that is cheap for few rows then
compares each of a hundred thousand with each. So the planner is left no choice: rows are found by `looked_up`, or in a
subquery with OFFSET 0 for each row, and the rows that a statement already has are joined by hashing.
"""

from __future__ import annotations

__all__ = ["SETTINGS", "looked_up"]

SETTINGS = "SET enable_seqscan = off SET enable_indexonlyscan = off SET enable_nestloop = off SET jit = off"
"""The settings that the functions are created with: no sequential or index-only scan, no nested loop, no JIT
compilation. PostgreSQL still uses those scans and loops where there is no other way."""


def looked_up(column: str, keys: str) -> str:
    """Return the condition that `column`, the first one of an index, is among the values that the query `keys` returns.

    It is not a join, so there is only one order: first the keys, then each of them in the index. Apply DISTINCT or
    GROUP BY outside a subquery with OFFSET 0: otherwise an index in that order would be read in full.
    """
    return f"{column} = ANY(ARRAY({keys}))"
