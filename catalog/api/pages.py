"""The renderers of pages for people: which forms a page has, and which language it declares."""

from __future__ import annotations

from typing import Any

from rest_framework import renderers

__all__ = ["BrowsableAPIRenderer", "PageRenderer"]

CONDITIONAL = frozenset({"PUT", "PATCH", "DELETE"})
"""Methods that need If-Match or, on a list, the header of bulk operations, which no form can send."""


class LanguageMixin:
    """A page that declares its language (WCAG 2.2, success criterion 3.1.1), which the templates do not."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        page: str = super().render(*args, **kwargs)  # type: ignore[misc]
        return page.replace("<html>", '<html lang="en">', 1)


class PageRenderer(LanguageMixin, renderers.TemplateHTMLRenderer):
    """A page rendered from a template."""


class BrowsableAPIRenderer(LanguageMixin, renderers.BrowsableAPIRenderer):
    """REST framework's page, without forms whose requests would always be refused.

    It has no filter form: browsers would send empty fields, which this API refuses, and not send `format=api`.
    """

    template = "catalog/api/page.html"

    def get_filter_form(self, data: Any, view: Any, request: Any) -> None:
        return None

    def show_form_for_method(self, view: Any, method: str, request: Any, obj: Any) -> bool:
        return method not in CONDITIONAL and bool(super().show_form_for_method(view, method, request, obj))
