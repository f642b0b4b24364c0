"""Django's PostgreSQL, with another way to find out whether a connection that is kept is still good.

Django asks `SELECT 1` before the first statement of each request: a round trip, and a twentieth of a miss
(`python -m benchmarks.miss --stack server`). A server that has ended a connection has said so, though, and what it
said waits to be read. So it is asked only where there is something to be read.
"""

from __future__ import annotations

import select
from typing import Any

from django.db.backends.postgresql import base

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own, whose `is_usable` believes a connection on which nothing waits."""

    connection: Any

    def is_usable(self) -> bool:
        if (
            self.connection is not None
            and not self.connection.closed
            and _is_silent(self.connection.fileno())
        ):
            return True
        return bool(super().is_usable())


def _is_silent(socket: int) -> bool:
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return not poll.poll(0)
