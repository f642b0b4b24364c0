"""What each process saw and did, a JSON line an event: what has been written survives the process.

Times are seconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Journal", "clock", "events"]

clock = time.monotonic


class Journal:
    """One process's events. Every line is one `write`, so a SIGKILL loses none that was told."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def tell(self, event: str, **what: Any) -> None:
        os.write(self._file, json.dumps({"e": event, **what}, separators=(",", ":")).encode() + b"\n")


def events(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a journal; a line that its process did not live to end is none."""
    with file.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield json.loads(line)
