"""The bytes of a JSON answer: the same for every client, whatever its Accept header adds."""

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
    """UTF-8 JSON by orjson: members in the order of the serializer, no white space, no indentation on request.

    REST framework's browsable API, which asks by the context's `indent`, is given it indented, for people to read.
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
    """Return the JSON of `data`, in UTF-8; raise TypeError for what has no form in it.

    orjson refuses some of what JSON can say and databases keep: whole numbers of more than 64 bits, lone surrogates
    (they are escaped, as RFC 8259 section 8.2 has them), and what is nested deeper than it goes. That is written here,
    and all that stands beside it as ever.
    """
    try:
        return orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return _in_parts(data)


def read(body: bytes) -> Any:
    """Return what the JSON `body` says, which `written` made."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def _indented(data: Any) -> bytes:
    """Return the JSON of `data` in lines; what orjson refuses is left in one."""
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
    """Return a member's name; other than in what stands beside it, a number is a string there."""
    try:
        return orjson.dumps({name: 0}, option=orjson.OPT_NON_STR_KEYS)[1:-3]
    except TypeError:
        return _in_parts(str(name))


def _plain(value: Any) -> Any:
    """Return what orjson knows in place of what it does not, as REST framework does.

    Not of sets, which have no order: the same data would have another entity tag in another process.
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
    raise TypeError(f"{type(value).__name__} has no form in JSON")
