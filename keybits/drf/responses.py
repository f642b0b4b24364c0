"""Responses of bytes that were made before, in place of REST framework's, which are rendered as they are sent."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.http import HttpResponse

from keybits.drf.renderers import read

__all__ = ["RepresentationResponse"]


class RepresentationResponse(HttpResponse):
    """The content as it is sent, and `data` as REST framework's have it: for tests, and for a `finalize_response`.

    `data` is what the representation says, also where less is sent of it (304, HEAD) or another coding. What is set in
    its place changes nothing that is sent.
    """

    def __init__(self, content: bytes, representation: bytes, status: int) -> None:
        super().__init__(content, status=status)
        self._representation = representation

    @cached_property
    def data(self) -> Any:
        return read(self._representation)
