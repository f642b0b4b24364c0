"""Where keybits' mixins may stand among the bases of a class: before REST framework's, which would win otherwise.

A view with `ModelViewSet` first would be cached by nobody, and written without If-Match, and nothing would say so. Nor
would anything say that a mixin hides what a class of the project's own, behind it, defines under the same name.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import unwrap
from typing import Any

from django.core.exceptions import ImproperlyConfigured

__all__ = ["LeadingMixin"]

FRAMEWORK = ("django.", "keybits.", "rest_framework.", "rest_framework_extensions.")
"""The packages whose classes may define what a mixin replaces: it is made for that."""


class LeadingMixin:
    """A mixin whose methods have to come before REST framework's.

    Defining a class in which one of REST framework's comes first raises `ImproperlyConfigured`. So does one in which a
    class of the project's own comes last, with what the mixin replaces and does not call. What the project defines
    itself may stand before any.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for mixin, name, winner in _overridden(cls):
            raise ImproperlyConfigured(
                f"{cls.__qualname__} has {winner.__name__} before {mixin.__name__}, whose {name}() would never run. "
                f"Put {mixin.__name__} first among its bases."
            )
        for mixin, name, hidden in _hidden(cls):
            raise ImproperlyConfigured(
                f"{cls.__qualname__} has {mixin.__name__} before {hidden.__name__}, whose {name} would never be used. "
                f"Define {name} in {cls.__qualname__} itself, or in a class that comes before {mixin.__name__}."
            )


def _overridden(view: type[Any]) -> Iterator[tuple[type[Any], str, type[Any]]]:
    """Yield each leading mixin of keybits with a method of it that a class of REST framework's defines before it."""
    for mixin in view.__mro__:
        if issubclass(mixin, LeadingMixin) and mixin.__module__.startswith("keybits."):
            for name in filter(_is_step, vars(mixin)):
                winner = next(each for each in view.__mro__ if name in vars(each))
                if winner.__module__.startswith("rest_framework."):
                    yield mixin, name, winner


def _hidden(view: type[Any]) -> Iterator[tuple[type[Any], str, type[Any]]]:
    """Yield each leading mixin of keybits with a name that it hides, and the class behind it that defines the name."""
    for place, mixin in enumerate(view.__mro__):
        if issubclass(mixin, LeadingMixin) and mixin.__module__.startswith("keybits."):
            for name in filter(_is_step, vars(mixin)):
                winner = next(each for each in view.__mro__ if name in vars(each))
                if winner is mixin and not _calls_on(vars(mixin)[name]):
                    behind = (each for each in view.__mro__[place:] if name in vars(each))
                    own = (each for each in behind if not each.__module__.startswith(FRAMEWORK))
                    yield from ((mixin, name, each) for each in own)


def _calls_on(member: Any) -> bool:
    """Return whether a method calls the one that it overrides: it refers to `super()`, for which it has its class."""
    return "__class__" in getattr(getattr(unwrap(member), "__code__", None), "co_freevars", ())


def _is_step(name: str) -> bool:
    return not name.startswith("_")
