"""Whether an answer that is being made depends on the Host by which the client has addressed the server.

Of an allowed Host a client may still choose the port and, among several, the name. An answer that repeats them and is
kept for all sends everybody there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest

__all__ = ["noted"]


@contextmanager
def noted(request: HttpRequest) -> Iterator[list[str]]:
    """Yield a list of the hosts that `request` returns in the block, from `get_host` or `build_absolute_uri`.

    A nested block adds to the list of the outer one too.
    """
    asked: list[str] = []
    own: dict[str, Any] = vars(request)
    outer = own.get("get_host")

    def get_host() -> str:
        asked.append(outer() if outer else type(request).get_host(request))
        return asked[-1]

    own.pop("_current_scheme_host", None)  # a cached value would hide the call
    own["get_host"] = get_host
    try:
        yield asked
    finally:
        del own["get_host"]
        if outer:
            own["get_host"] = outer
