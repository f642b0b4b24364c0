"""What a description in OpenAPI says, with its references followed."""

from __future__ import annotations

from functools import reduce
from operator import getitem
from typing import Any


def follow(schema: Any, described: Any) -> Any:
    """Return the schema, or the header field, that a reference names."""
    while "$ref" in described:
        _, *path = described["$ref"].split("/")
        described = reduce(getitem, path, schema)
    return described


def fields(schema: Any, response: Any) -> dict[str, Any]:
    """Return the header fields that a response is described with."""
    return {name: follow(schema, field) for name, field in response.get("headers", {}).items()}


def required(schema: Any, response: Any) -> set[str]:
    """Return the names of the header fields that a response is promised to have."""
    return {name for name, field in fields(schema, response).items() if field["required"]}
