"""What a client writes to the API, and the problem that it is told where that is refused."""

from __future__ import annotations

import json
from typing import Any

import problem_types
from django.http import HttpResponse


def sent(client: Any, method: str, target: str, body: Any = None, **fields: str) -> HttpResponse:
    """Send a body, as JSON unless it is bytes; of the header fields `_` stands for `-`."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    response: HttpResponse = client(
        target, method, headers=headers, data=content, content_type="application/json"
    )
    return response


def problem(response: HttpResponse, status: int, kind: str = "") -> Any:
    """Return the problem document of a response that has this status and is kept by nobody."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response["Cache-Control"] == "private, no-store"
    document = json.loads(response.content)
    assert document["status"] == status
    assert not kind or document["type"] == f"urn:problem:{kind}", document
    problem_types.demand_described(document)
    return document
