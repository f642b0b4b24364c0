"""Where keybits' mixins may stand among the bases of a class: before REST framework's, which would win otherwise.

A view with `ModelViewSet` first would be cached by nobody, and written without If-Match, and nothing would say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = ["LeadingMixin"]


class LeadingMixin:
    """A mixin whose methods have to come before REST framework's.

    Defining a class in which one of REST framework's comes first raises `ImproperlyConfigured`. A method that the
    project defines itself may stand before any.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for mixin, name, winner in _overridden(cls):
            raise ImproperlyConfigured(
                f"{cls.__qualname__} has {winner.__name__} before {mixin.__name__}, whose {name}() would never run. "
                f"Put {mixin.__name__} first among its bases."
            )


def _overridden(view: type[Any]) -> Iterator[tuple[type[Any], str, type[Any]]]:
    """Yield each leading mixin of keybits with a method of it that a class of REST framework's defines before it."""
    for mixin in view.__mro__:
        if issubclass(mixin, LeadingMixin) and mixin.__module__.startswith("keybits."):
            for name in filter(_is_step, vars(mixin)):
                winner = next(each for each in view.__mro__ if name in vars(each))
                if winner.__module__.startswith("rest_framework."):
                    yield mixin, name, winner


def _is_step(name: str) -> bool:
    return not name.startswith("_")
