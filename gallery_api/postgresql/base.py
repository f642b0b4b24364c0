"""Django's PostgreSQL, with another way to find out whether a connection that is kept is still good.

Django asks `SELECT 1` before the first statement of each request: a third round trip beside the two of a miss
(`python -m benchmarks.miss --stack server`). A server that has ended a connection has said so, though, and what it
said waits to be read. So it is asked only where there is something to be read, or a transaction was left open.
"""

from __future__ import annotations

import select
from typing import Any

from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, whose `is_usable` believes a connection on which nothing waits, and that is in no transaction."""

    connection: Any

    def is_usable(self) -> bool:
        return (self.connection is not None and _is_idle(self.connection)) or bool(super().is_usable())


def _is_idle(connection: Any) -> bool:
    """Say whether it is open, in no transaction, and nothing has come over it: all of that without asking."""
    if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
