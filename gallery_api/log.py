"""What the log says of a request that is refused before anything looks at it."""

from __future__ import annotations

from logging import LogRecord

__all__ = ["without_traceback"]


def without_traceback(record: LogRecord) -> bool:
    """Let the record pass, without its traceback: for refusals that anybody can cause and no code is to blame for."""
    record.exc_info = None
    return True
