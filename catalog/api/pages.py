"""The pages for people: what is offered there, and what browsers are told of them."""

from __future__ import annotations

from typing import Any

from rest_framework import renderers

__all__ = ["BrowsableAPIRenderer", "PageRenderer"]

CONDITIONAL = frozenset({"PUT", "PATCH", "DELETE"})
"""Methods that need If-Match or, of a list, the header of bulk operations: no form can send a field."""


class LanguageMixin:
    """A page that says its language (WCAG 2.2, success criterion 3.1.1): the templates have no place for it."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        page: str = super().render(*args, **kwargs)  # type: ignore[misc]
        return page.replace("<html>", '<html lang="en">', 1)


class PageRenderer(LanguageMixin, renderers.TemplateHTMLRenderer):
    """A page of a template."""


class BrowsableAPIRenderer(LanguageMixin, renderers.BrowsableAPIRenderer):
    """REST framework's page, without what could only be refused.

    It has no form of filters: browsers send what is left empty, which this API refuses, and not `format=api`.
    """

    template = "catalog/api/page.html"

    def get_filter_form(self, data: Any, view: Any, request: Any) -> None:
        return None

    def show_form_for_method(self, view: Any, method: str, request: Any, obj: Any) -> bool:
        return method not in CONDITIONAL and bool(super().show_form_for_method(view, method, request, obj))
