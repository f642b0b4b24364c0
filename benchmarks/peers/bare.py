"""The least that each interface can do: a callable that returns the page, whatever is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

BODY = Path(os.environ["BENCHMARK_PAGE"]).read_bytes()
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]
RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer as WSGI has it."""
    start_response("200 OK", HEADERS)
    return [BODY]


async def asgi_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer as ASGI has it; there is no lifespan to take part in."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": RAW_HEADERS})
        await send({"type": "http.response.body", "body": BODY})
