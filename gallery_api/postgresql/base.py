"""Django's PostgreSQL backend, with another check of whether a persistent connection is still usable.

Django sends `SELECT 1` before the first statement of each request: a third round trip beside the two of a miss
(`python -m benchmarks.miss --stack server`). But a server that has closed a connection has sent something that waits to
be read. So the query is sent only where something is readable, or a transaction was left open.
"""

from __future__ import annotations

import select
from typing import Any

from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, whose `is_usable` accepts a connection that has nothing to read and is in no transaction."""

    connection: Any

    def is_usable(self) -> bool:
        return (self.connection is not None and _is_idle(self.connection)) or bool(super().is_usable())


def _is_idle(connection: Any) -> bool:
    """Return whether it is open, in no transaction, and has nothing to read; without a round trip."""
    if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
