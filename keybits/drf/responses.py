"""Responses of bytes that are already made, in place of REST framework's, which are rendered when they are sent."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.http import HttpResponse

from keybits.drf.renderers import read

__all__ = ["RepresentationResponse"]


class RepresentationResponse(HttpResponse):
    """The content as it is sent, and `data` as in REST framework's responses: for tests, and for `finalize_response`.

    `data` is the parsed representation, also where less (304, HEAD) or a content coding of it is sent. Assigning to it
    does not change what is sent.
    """

    def __init__(self, content: bytes, representation: bytes, status: int) -> None:
        # Django's own type would be put together from the charset; the stored one comes with the other fields.
        super().__init__(content, "", status)
        self.headers._store.clear()
        self._representation = representation

    def items(self) -> Any:
        """Return the pairs of name and value. Django looks each up by its name (`python -m benchmarks server_cpu`)."""
        return self.headers._store.values()

    @cached_property
    def data(self) -> Any:
        return read(self._representation)
