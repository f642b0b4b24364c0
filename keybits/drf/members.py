"""Which members a body may have: those that can be set, and others with their present value. None is ignored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import orjson
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty
from rest_framework.settings import api_settings

from keybits.drf.order import LeadingMixin

__all__ = ["MOST_NAMED", "ClosedMembersMixin"]

MOST_NAMED = 12
"""Most members or items that a refusal names; the rest are counted, so that no answer is longer than its request."""
NO_OBJECT = "Write a JSON object, in braces."


class ClosedMembersMixin(LeadingMixin):
    """A serializer of bodies that refuses, by name, each member that it cannot set, and suggests the nearest it can.

    Of many it names the first `MOST_NAMED`, and says how many more there are. A member whose value equals that of the
    representation is accepted and sets nothing, so that clients can send back what they received. A complete
    representation (PUT) must have every member that can be set and is shown; one left out would otherwise be lost, or
    kept, silently. `represented` in the context is the representation to be changed.
    """

    def __init__(self, instance: Any = None, data: Any = empty, **kwargs: Any) -> None:
        self.is_whole = instance is not None and not kwargs.get("partial")
        if instance is not None:
            kwargs["partial"] = True  # `to_internal_value` refuses what PUT leaves out
        given = {} if data is empty else {"data": data}  # a class behind this one may look for the argument
        super().__init__(instance, **given, **kwargs)  # type: ignore[call-arg]  # a serializer's

    def run_validation(self: Any, data: Any = empty) -> Any:
        """Validate the body; null is one, and refused like all others that are no object."""
        if data is None and not self.allow_null:
            raise ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [NO_OBJECT]})
        return super().run_validation(data)  # type: ignore[misc]

    def to_internal_value(self: Any, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [NO_OBJECT]})
        represented = self.context.get("represented") or {}
        changed = {name: value for name, value in data.items() if not _says(represented, name, value)}
        settable = [name for name, field in self.fields.items() if not field.read_only]
        errors = _refusals([name for name in changed if name not in settable], settable, represented)
        if self.is_whole:
            missing = (name for name in settable if name in represented and name not in data)
            errors |= {
                name: ["PUT replaces the whole: send this member too, or use PATCH."] for name in missing
            }
        if errors:
            raise ValidationError(errors)
        return super().to_internal_value(changed)  # type: ignore[misc]


def _says(represented: Mapping[str, Any], name: str, value: Any) -> bool:
    return name in represented and _written(represented[name]) == _written(value)


def _written(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a representation may hold what no body does: lone surrogates
        return json.dumps(value, sort_keys=True).encode()


def _refusals(
    refused: Sequence[str], settable: Iterable[str], represented: Mapping[str, Any]
) -> dict[str, list[str]]:
    errors = {name: [_refusal(name, settable, represented)] for name in refused[:MOST_NAMED]}
    if len(refused) > MOST_NAMED:
        more = len(refused) - MOST_NAMED
        errors[api_settings.NON_FIELD_ERRORS_KEY] = [f"{more} more members of the body cannot be set."]
    return errors


def _refusal(name: str, settable: Iterable[str], represented: Mapping[str, Any]) -> str:
    if name in represented:
        return "This cannot be set."
    nearest = "".join(get_close_matches(name, list(settable), n=1))
    hint = f"Did you mean {nearest!r}? " if nearest else ""
    return f"There is no such member. {hint}Those that can be set are {', '.join(sorted(settable))}."
