"""What the process above tells this one: words, a line each, on standard input. Its end is an order to stop."""

from __future__ import annotations

import os
import select
import sys

__all__ = ["Orders"]


class Orders:
    def new(self) -> list[str]:
        """Return the orders that have come since the last look, without waiting."""
        ready, _, _ = select.select([sys.stdin], [], [], 0)
        if not ready:
            return []
        text = os.read(sys.stdin.fileno(), 4096).decode()
        return text.split() if text else ["stop"]
