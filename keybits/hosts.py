"""Whether what is being made depends on the name by which the client has called the server.

Of a Host that is allowed a client may still choose the port and, among several, the name. An answer that repeats it
and is kept for all sends everybody there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest

__all__ = ["noted"]


@contextmanager
def noted(request: HttpRequest) -> Iterator[list[str]]:
    """Yield the hosts that `request` is asked for in the block, by `get_host` or `build_absolute_uri`.

    What is asked in a block within this one is asked in this one, too.
    """
    asked: list[str] = []
    own: dict[str, Any] = vars(request)
    outer = own.get("get_host")

    def get_host() -> str:
        asked.append(outer() if outer else type(request).get_host(request))
        return asked[-1]

    own.pop("_current_scheme_host", None)  # else nobody would be asked
    own["get_host"] = get_host
    try:
        yield asked
    finally:
        del own["get_host"]
        if outer:
            own["get_host"] = outer
