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
    for mixin in filter(_is_leading, view.__mro__):
        for name in filter(_is_step, vars(mixin)):
            winner = next(each for each in view.__mro__ if name in vars(each))
            if winner.__module__.startswith("rest_framework."):
                yield mixin, name, winner


def _hidden(view: type[Any]) -> Iterator[tuple[type[Any], str, type[Any]]]:
    """Yield each leading mixin of keybits with a name that it hides, and the class behind it that defines the name."""
    for mixin in filter(_is_leading, view.__mro__):
        for name in filter(_is_step, vars(mixin)):
            defining = [each for each in view.__mro__ if name in vars(each)]
            place = defining.index(mixin)
            if all(_calls_on(each, name) for each in defining[:place]) and not _calls_on(mixin, name):
                yield from ((mixin, name, each) for each in defining[place:] if _is_own(each, name))


def _is_leading(each: type[Any]) -> bool:
    return issubclass(each, LeadingMixin) and each.__module__.startswith("keybits.")


def _is_own(each: type[Any], name: str) -> bool:
    """Return whether what a class defines is the project's own, and not a framework's that is only described."""
    member = vars(each)[name]
    is_described = getattr(member, "__globals__", {}).get("__name__", "").startswith("drf_spectacular.")
    source = unwrap(member) if is_described else each
    return not source.__module__.startswith(FRAMEWORK)


def _calls_on(mixin: type[Any], name: str) -> bool:
    """Return whether a method of a mixin of keybits calls the one that it overrides.

    It then refers to `super()`, for which it has its class.
    """
    code = getattr(unwrap(vars(mixin)[name]), "__code__", None)
    return _is_leading(mixin) and "__class__" in getattr(code, "co_freevars", ())


def _is_step(name: str) -> bool:
    return not name.startswith("_")
