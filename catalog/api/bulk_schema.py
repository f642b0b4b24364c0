"""The OpenAPI description of bulk operations: what they add to the operations of a list."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers

from keybits.drf.bulk import HEADER

__all__ = [
    "ERRORS",
    "MANY_ERRORS",
    "BulkAnswerSerializer",
    "ManyMadeSerializer",
    "header",
    "is_bulk",
    "one_or_many",
    "takes_many",
]


class SampleSerializer(serializers.Serializer[Any]):
    """One of the rows that an operation would affect."""

    id = serializers.IntegerField()
    url = serializers.CharField()


class BulkAnswerSerializer(serializers.Serializer[Any]):
    """The number of rows that were changed, and the id of the record; for a dry run, how many and which would be."""

    dry_run = serializers.BooleanField()
    count = serializers.IntegerField(min_value=0)
    record = serializers.IntegerField(required=False)
    sample = SampleSerializer(many=True, required=False)


class MadeSerializer(serializers.Serializer[Any]):
    """The result of one of many items, by its index."""

    index = serializers.IntegerField(min_value=0)
    status = serializers.IntegerField()
    id = serializers.IntegerField()
    url = serializers.CharField()


class ManyMadeSerializer(serializers.Serializer[Any]):
    """The results of many items, in their order, and the id of the record."""

    count = serializers.IntegerField(min_value=0)
    record = serializers.IntegerField()
    results = MadeSerializer(many=True)


ERRORS = {
    "400": "The header, a filter, a value or the body is missing, malformed or unusable.",
    "403": "The client may not change some of the rows; the problem says how many. Or its key lacks the scope.",
    "409": "There are more rows than `max`, or than the usual limit; the problem says how many.",
    "412": "The list is not the one that If-Match names.",
    "422": "The Idempotency-Key was used for another request.",
}
MANY_ERRORS = {"413": "The body is too long, or has too many items."}


def is_bulk(view: Any) -> bool:
    """Return whether the view is described for a bulk operation."""
    return str(getattr(view, "action", "")).endswith("_bulk")


def takes_many(view: Any) -> bool:
    """Return whether the view is described for an operation that creates one item, or many."""
    return getattr(view, "action", "") == "create" and hasattr(view, "create_items")


def one_or_many(one: Any) -> dict[str, Any]:
    """Return the schema of a body that contains one item or, with the header, many."""
    many = {"type": "array", "items": one, "minItems": 1}
    wrapped = {
        "type": "object",
        "properties": {"items": many},
        "required": ["items"],
        "additionalProperties": False,
    }
    return {"oneOf": [one, many, wrapped]}


def header(*, required: bool) -> dict[str, Any]:
    """Return the header that marks an operation on a whole list or, with POST, a body with many items."""
    meaning = "The operation is on the whole list." if required else "The body has many items."
    schema = {"type": "string", "enum": ["true"]}
    return {"in": "header", "name": HEADER, "required": required, "description": meaning, "schema": schema}


class ComputedFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """One value for all rows, or how each is computed."""

    target_class = "keybits.drf.bulk.ComputedField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        constant = auto_schema._map_serializer_field(self.target.constant, direction)
        formula = auto_schema.resolve_serializer(self.target.formula, direction).ref
        return {"oneOf": [constant, formula]}
