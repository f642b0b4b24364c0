"""Fields of bodies that take the JSON type they are described with: a number is no text, and a text is no number."""

from __future__ import annotations

from typing import Any

from django.core.validators import URLValidator
from rest_framework import serializers

from catalog.models import page_url

__all__ = ["IntegerField", "SlugField", "TextField", "URLField"]


class _TextMixin:
    """A text; where it may not be blank, its schema says so, too."""

    def __init__(self, **kwargs: Any) -> None:
        if not kwargs.get("allow_blank"):
            kwargs.setdefault("min_length", 1)
        super().__init__(**kwargs)

    default_error_messages: Any = {"no_text": "This is a text: write it in quotes."}

    def to_internal_value(self: Any, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("no_text")
        text: str = super().to_internal_value(data)  # type: ignore[misc]
        return text


class TextField(_TextMixin, serializers.CharField):
    """A text."""


class SlugField(_TextMixin, serializers.SlugField):
    """A slug."""


class URLField(_TextMixin, serializers.URLField):
    """The URL of a page of the web."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        others = [each for each in self.validators if not isinstance(each, URLValidator)]
        self.validators = [*others, page_url]


class IntegerField(serializers.IntegerField):
    """An integer that is written as a number: 5.0 is one to JSON Schema, and a bool to Python alone."""

    default_error_messages = {
        "invalid": "This is an integer: write it without quotes and without a fraction."
    }

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int and not (type(data) is float and data.is_integer()):
            self.fail("invalid")
        return super().to_internal_value(int(data))
