"""What a body is: one JSON text in UTF-8, of bounded length and depth. Whatever else comes is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

__all__ = ["JSONParser", "TooLongError"]


class TooLongError(APIException):
    """413: the body is longer than `DATA_UPLOAD_MAX_MEMORY_SIZE`."""

    status_code = 413
    members = {"type": "content-too-long"}


class JSONParser(BaseParser):
    """RFC 8259 by orjson: no NaN, no lone surrogates, no nesting that exhausts the stack."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        longest = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        content = stream.read() if longest is None else stream.read(longest + 1)
        if longest is not None and len(content) > longest:
            raise TooLongError(f"Send at most {longest} bytes.")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is no JSON: {error}.") from None
