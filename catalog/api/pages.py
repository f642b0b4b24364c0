"""The pages for people: what is offered there, and what browsers are told of them."""

from __future__ import annotations

from typing import Any

from rest_framework import renderers

__all__ = ["BrowsableAPIRenderer"]


class BrowsableAPIRenderer(renderers.BrowsableAPIRenderer):
    """REST framework's page, without what could only be refused.

    It has no form of filters: browsers send what is left empty, which this API refuses, and not `format=api`.
    """

    def get_filter_form(self, data: Any, view: Any, request: Any) -> None:
        return None
