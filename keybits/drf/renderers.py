"""The bytes of a JSON answer: the same for every client, whatever parameters its Accept header has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
from django.db.models import QuerySet
from django.utils.functional import Promise
from rest_framework.renderers import BaseRenderer

__all__ = ["JSONRenderer", "read", "written"]


class JSONRenderer(BaseRenderer):
    """UTF-8 JSON by orjson: members in the order of the serializer, no white space, never indented for clients.

    It is indented only for REST framework's browsable API, which asks for that by `indent` in the context.
    """

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        return _indented(data) if (renderer_context or {}).get("indent") else written(data)


def written(data: Any) -> bytes:
    """Return `data` as JSON, in UTF-8. Raises TypeError for values that JSON cannot express.

    orjson refuses some data that JSON allows and databases store: integers of more than 64 bits, lone surrogates (which
    are escaped, RFC 8259 section 8.2), and deeply nested data. These are written here; orjson still writes the rest.
    """
    try:
        return orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return _in_parts(data)


def read(body: bytes) -> Any:
    """Return the data in `body`, JSON made by `written`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def _indented(data: Any) -> bytes:
    """Return `data` as indented JSON; data that orjson refuses is not indented."""
    try:
        return orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2)
    except TypeError:
        return written(data)


def _in_parts(data: Any) -> bytes:
    if isinstance(data, Mapping):
        return b"{" + b",".join(_name(name) + b":" + written(value) for name, value in data.items()) + b"}"
    if isinstance(data, list | tuple):
        return b"[" + b",".join(map(written, data)) + b"]"
    if isinstance(data, str | Promise):
        return json.dumps(str(data), ensure_ascii=False).encode("utf-8", "backslashreplace")
    if isinstance(data, int):
        return str(int(data)).encode()
    return orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _name(name: Any) -> bytes:
    """Return the name of a member as JSON. A number becomes a string."""
    try:
        return orjson.dumps({name: 0}, option=orjson.OPT_NON_STR_KEYS)[1:-3]
    except TypeError:
        return _in_parts(str(name))


def _plain(value: Any) -> Any:
    """Return an equivalent of `value` that orjson can write, as REST framework would write it.

    Sets are refused: they have no order, so that the entity tag would differ between processes.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, QuerySet):
        return list(value)
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
