"""One URL, one representation: JSON whenever the Accept header allows it, 406 when it does not.

`?format=api` asks for the browsable page, whatever Accept says (RFC 9110 section 12.5.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from rest_framework.exceptions import NotAcceptable, NotFound
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

__all__ = ["JSONContentNegotiation", "accepts"]

SHORT = 256
"""Longest Accept field, in characters, whose result is remembered: clients choose the field."""


class JSONContentNegotiation(BaseContentNegotiation):
    """Choose by `?format=` where it is given, otherwise the first renderer, if the client accepts its media type."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        """Return the parser of the request's media type, or None (415)."""
        sent = (request.content_type or "").split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == sent), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer and its media type. Raises `NotAcceptable`, or `NotFound` for an unknown `?format=`."""
        renderers = list(renderers)
        wanted = _wanted(request)
        if wanted and wanted != renderers[0].format:
            return _by_format(renderers, wanted)
        if not accepts(request._request.META.get("HTTP_ACCEPT", "*/*"), renderers[0].media_type):
            raise NotAcceptable(available_renderers=renderers[:1])
        return renderers[0], renderers[0].media_type


def _wanted(request: Request) -> str | None:
    """Return the value of `?format=`, or None. Most query strings need not be parsed to see that it is missing."""
    text = request._request.META.get("QUERY_STRING", "")
    return request.query_params.get("format") if "format" in text or "%" in text else None


def _by_format(renderers: Sequence[BaseRenderer], wanted: str) -> tuple[BaseRenderer, str]:
    for renderer in renderers:
        if renderer.format == wanted:
            return renderer, renderer.media_type
    raise NotFound(f"There is no format {wanted!r} here; {', '.join(r.format for r in renderers)} are.")


def accepts(field: str, media_type: str) -> bool:
    """Return whether an Accept field admits `media_type`: the most specific range decides, and q=0 refuses.

    Parameters other than q are ignored: they change nothing that is sent. A malformed member is skipped; a field with
    no valid member accepts everything.
    """
    return (_accepts if len(field) <= SHORT else _accepts.__wrapped__)(field, media_type)


@lru_cache(maxsize=256)
def _accepts(field: str, media_type: str) -> bool:
    main = media_type.split("/", maxsplit=1)[0]
    specificity = {"*/*": 1, f"{main}/*": 2, media_type: 3}
    ranges = [found for member in _MEMBERS.findall(field) if (found := _range(member))]
    matching = [(specificity[name], quality) for name, quality in ranges if name in specificity]
    return max(matching)[1] > 0 if matching else not ranges


# No text matches in two ways, so that matching takes linear time. The parameters are not repeated possessively: where
# one fails in its midst, Python before 3.11.5 then takes half of it for a whole one.
_MEMBERS = re.compile(r'(?:[^,"]++|"(?:[^"\\]|\\.)*+"?+)++')
_WORD = r"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
_VALUE = rf'(?:{_WORD}|"(?:[^"\\]|\\.)*+")'
_RANGE = re.compile(rf"\s*+({_WORD}/{_WORD})\s*+((?:;\s*+(?:{_WORD}={_VALUE}\s*+)?)*)")
_PARAMETER = re.compile(rf";\s*+({_WORD})=({_VALUE})")
_QVALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def _range(member: str) -> tuple[str, float] | None:
    """Return the media range (RFC 9110 section 12.5.1) and its weight; None for a malformed member."""
    found = _RANGE.fullmatch(member)
    if found is None or (found[1].startswith("*/") and found[1] != "*/*"):
        return None
    quality = next((value for name, value in _PARAMETER.findall(found[2]) if name in {"q", "Q"}), "1")
    return (found[1].lower(), float(quality)) if _QVALUE.fullmatch(quality) else None
