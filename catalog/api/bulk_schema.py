"""How bulk operations are described in OpenAPI: what they add to the operations of a list."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from keybits.drf.bulk import HEADER

__all__ = [
    "ERRORS",
    "HEADERS",
    "MANY_ERRORS",
    "BulkAnswerSerializer",
    "ManyMadeSerializer",
    "header",
    "is_bulk",
    "one_or_many",
    "takes_many",
]


class SampleSerializer(serializers.Serializer[Any]):
    """One of the rows that an operation would touch."""

    id = serializers.IntegerField()
    url = serializers.CharField()


class BulkAnswerSerializer(serializers.Serializer[Any]):
    """What was done to how many rows, and the number of its record; of a dry run, how many and which it would be."""

    dry_run = serializers.BooleanField()
    count = serializers.IntegerField(min_value=0)
    record = serializers.IntegerField(required=False)
    sample = SampleSerializer(many=True, required=False)


class MadeSerializer(serializers.Serializer[Any]):
    """What became of one of many items, by its index."""

    index = serializers.IntegerField(min_value=0)
    status = serializers.IntegerField()
    id = serializers.IntegerField()
    url = serializers.CharField()


class ManyMadeSerializer(serializers.Serializer[Any]):
    """What was made of many items, in their order, and the number of the record."""

    count = serializers.IntegerField(min_value=0)
    record = serializers.IntegerField()
    results = MadeSerializer(many=True)


HEADERS = {
    "Cache-Control": ("It is the client's own (RFC 9111).", "^private, no-store$"),
    "Cache-Status": ("No cache answers a write (RFC 9211).", "^keybits; fwd=method$"),
}
ERRORS = {
    "400": "The header, a filter, a value or the body is missing, malformed or not one that can be used.",
    "403": "Some of the rows are not the client's to change; the problem says how many. Or its key lacks the scope.",
    "409": "More rows than `max`, or than the usual limit; the problem says how many.",
    "412": "The list is not the one that If-Match names.",
    "422": "The Idempotency-Key was given to another request.",
}
MANY_ERRORS = {"413": "The body is too long, or has too many items."}


def is_bulk(view: Any) -> bool:
    """Say whether what is described is an operation on all that a list shows."""
    return str(getattr(view, "action", "")).endswith("_bulk")


def takes_many(view: Any) -> bool:
    """Say whether what is described makes one thing, or many."""
    return getattr(view, "action", "") == "create" and hasattr(view, "create_items")


def one_or_many(one: Any) -> dict[str, Any]:
    """Return the schema of a body that has one item or, with the header, many."""
    many = {"type": "array", "items": one, "minItems": 1}
    wrapped = {
        "type": "object",
        "properties": {"items": many},
        "required": ["items"],
        "additionalProperties": False,
    }
    return {"oneOf": [one, many, wrapped]}


def header(*, required: bool) -> dict[str, Any]:
    """Return the header that says that a whole list is meant; of POST, that many items are."""
    meaning = "The whole list is meant." if required else "The body has many items."
    schema = {"type": "string", "enum": ["true"]}
    return {"in": "header", "name": HEADER, "required": required, "description": meaning, "schema": schema}


class ComputedFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """A value for all, or how each is computed."""

    target_class = "keybits.drf.bulk.ComputedField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        constant = auto_schema._map_serializer_field(self.target.constant, direction)
        formula = auto_schema.resolve_serializer(self.target.formula, direction).ref
        return {"oneOf": [constant, formula]}
