"""What a test run need not pay again and again: a password's million rounds, the list of static files, and looking
through six thousand tests for garbage.

What is checked stays the same: hashes say how many rounds they took, and static files are served as ever.
"""

from __future__ import annotations

import gc
from typing import Any

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from whitenoise.middleware import WhiteNoiseMiddleware

__all__ = ["install"]

LISTED: dict[str, dict[str, Any]] = {}
LIST = WhiteNoiseMiddleware.add_files_from_finders


def install() -> None:
    """Have this process pay once."""
    gc.set_threshold(100_000, 50, 100)  # a twentieth of the run; servers and their workers have Python's own
    PBKDF2PasswordHasher.iterations = 1
    WhiteNoiseMiddleware.add_files_from_finders = _list_once


def _list_once(middleware: Any) -> None:
    """Each test client has its own middleware, which would look for all files of the admin and of the API's pages."""
    if middleware.static_prefix not in LISTED:
        LIST(middleware)
        LISTED[middleware.static_prefix] = dict(middleware.files)
    middleware.files.update(LISTED[middleware.static_prefix])
