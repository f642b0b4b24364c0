"""One more view in each project: what a developer might return from it, and a cache must know how to treat.

Each answer holds a word that no other has, so that an answer given twice is seen to be.
"""

from __future__ import annotations

import uuid
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

__all__ = ["Probe"]

VARYING = {
    "star": {"Vary": "*"},
    "padded": {"Vary": "Accept , Cookie "},
    "cookie": {"Vary": "Cookie"},
    "capitals": {"Cache-Control": "PRIVATE"},
    "variant": {"Vary": "X-Variant"},
}


class Probe(APIView):
    """`/probe/<name>/`: the user, the variant that was asked for, and a word of its own."""

    schema = None  # it is no part of any API that is described

    def get(self, request: Request, name: str) -> Response:
        content: dict[str, Any] = {"word": uuid.uuid4().hex}
        if name == "user":
            content["user"] = str(request.user)
        if name == "variant":
            content["variant"] = request.headers.get("X-Variant", "none")
        response = Response(content, headers=VARYING.get(name, {}))
        if name in {"cookie", "padded"}:
            response.set_cookie("own", content["word"])
        return response
