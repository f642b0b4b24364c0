"""Fields of bodies that accept only the JSON type they are described with: no numbers as strings, nor the reverse."""

from __future__ import annotations

from typing import Any

from django.core.validators import URLValidator
from rest_framework import serializers

from catalog.models import page_url

__all__ = ["ChoiceField", "IntegerField", "SlugField", "TextField", "URLField"]


class _TextMixin:
    """A string. If it may not be blank, its schema says so too."""

    def __init__(self, **kwargs: Any) -> None:
        if not kwargs.get("allow_blank"):
            kwargs.setdefault("min_length", 1)
        super().__init__(**kwargs)

    default_error_messages: Any = {"no_text": "Write text: a JSON string, in quotes."}

    def to_internal_value(self: Any, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("no_text")
        text: str = super().to_internal_value(data)  # type: ignore[misc]
        return text


class TextField(_TextMixin, serializers.CharField):
    """A string."""


class SlugField(_TextMixin, serializers.SlugField):
    """A slug."""


class URLField(_TextMixin, serializers.URLField):
    """The URL of a web page."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        others = [each for each in self.validators if not isinstance(each, URLValidator)]
        self.validators = [*others, page_url]


class ChoiceField(serializers.ChoiceField):
    """One of a few strings; a refusal lists them."""

    def __init__(self, choices: Any, **kwargs: Any) -> None:
        super().__init__(choices, **kwargs)
        listed = ", ".join(f'"{choice}"' for choice in self.choices)
        self.error_messages["invalid_choice"] = f"Write one of {listed}."


class IntegerField(serializers.IntegerField):
    """An integer written as a JSON number. 5.0 is an integer to JSON Schema; a bool is one only to Python."""

    default_error_messages = {"invalid": "Write an integer, without quotes and without a fraction."}

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int and not (type(data) is float and data.is_integer()):
            self.fail("invalid")
        return super().to_internal_value(int(data))
