"""What a body is, and when it is read.

It is one JSON text in UTF-8, of bounded length and depth; anything else is refused. It is read completely before any
row is locked for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from django.http import UnreadablePostError
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser, FileUploadParser, MultiPartParser
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

__all__ = [
    "MOST_NESTED",
    "CodedContentError",
    "JSONParser",
    "LengthRequiredError",
    "TooLongError",
    "has_content",
    "take_in",
]

MOST_NESTED = 64
"""Deepest nesting of arrays and objects: code that reads or writes them takes a few stack frames for each level."""


class TooLongError(APIException):
    """413: the body is longer than `DATA_UPLOAD_MAX_MEMORY_SIZE`."""

    status_code = 413
    members = {"type": "urn:problem:content-too-long"}

    def __init__(self) -> None:
        super().__init__(f"Send at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes.")


class LengthRequiredError(APIException):
    """411: content of undeclared length, which a WSGI server does not pass on (RFC 9110 section 15.5.12)."""

    status_code = 411
    default_detail = "Send Content-Length with the body, and not Transfer-Encoding: chunked."
    members = {"type": "urn:problem:length-required", "header": "Content-Length"}


class CodedContentError(APIException):
    """415: the body has a content coding (RFC 9110 section 15.5.16)."""

    status_code = 415
    default_detail = "Send the body as it is, without Content-Encoding."
    members = {"type": "urn:problem:coded-content", "header": "Content-Encoding"}
    header_fields = {"Accept-Encoding": "identity"}


class JSONParser(BaseParser):
    """RFC 8259 by orjson: no NaN, no lone surrogates, no name twice, no more than `MOST_NESTED` levels."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        content = _read(stream)
        try:
            data = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from None
        if _is_deeper(data):
            raise ParseError(f"The body has arrays and objects more than {MOST_NESTED} levels deep.")
        json.loads(content, object_pairs_hook=_once, parse_int=str)
        return data


def take_in(request: Request) -> None:
    """Read the body of an unsafe request now, so that a client that sends it slowly never does so under a row lock.

    It is kept in memory, except uploaded files, which are where Django's upload handlers put them.

    Raises `TooLongError`, `LengthRequiredError`, `CodedContentError`, and `ParseError` where the client disconnects
    meanwhile.
    """
    received = request._request
    if received.method in SAFE_METHODS or received._read_started:  # type: ignore[attr-defined]
        return
    if _is_unsaid(request):
        raise LengthRequiredError
    if request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in {"", "identity"}:
        raise CodedContentError
    try:
        if _is_upload(request):
            request.data  # noqa: B018 - reads into files, within Django's own limits
            return
        content = _read(received)
    except UnreadablePostError as error:
        raise ParseError("The body did not arrive.") from error
    received._body = content  # where Django itself keeps a body that was read
    if content:  # over ASGI it is complete even without a declared length
        request.META["CONTENT_LENGTH"] = str(len(content))


def has_content(request: Request) -> bool:
    """Say whether a request whose body has been taken in has one, whatever that says: `{}` and `null` are bodies."""
    return bool(getattr(request._request, "_body", b"") or request.data)


def _is_upload(request: Any) -> bool:
    """Return whether the body's parser is one of REST framework's for files, which must not be held in memory."""
    parser = request.negotiator.select_parser(request, request.parsers)
    return isinstance(parser, MultiPartParser | FileUploadParser)


def _read(stream: Any) -> bytes:
    longest = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    content: bytes = stream.read() if longest is None else stream.read(longest + 1)
    if longest is not None and len(content) > longest:
        raise TooLongError
    return content


def _is_unsaid(request: Request) -> bool:
    """Return whether there may be content that WSGI does not show. HTTP/2 may have it without a field that says so."""
    meta = request.META
    if meta.get("CONTENT_LENGTH") or hasattr(request._request, "scope"):
        return False
    is_framed = meta.get("SERVER_PROTOCOL", "").startswith("HTTP/2") and request.method != "DELETE"
    return is_framed or "HTTP_TRANSFER_ENCODING" in meta


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Raise `ParseError` for a name that an object has twice: one of the values would be lost silently."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ParseError(f"The body has the member {name!r} twice in one object.")
        seen.add(name)


def _is_deeper(data: Any) -> bool:
    level = [data]
    for _ in range(MOST_NESTED):
        level = [child for each in level for child in _children(each) if isinstance(child, list | dict)]
    return bool(level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
