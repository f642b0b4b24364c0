"""Which mistakes in the views of a project are reported before its first request: checks of its cached handlers.

They look at the views that addresses lead to. What can be told of a method alone is refused when it is decorated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from inspect import getattr_static
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.middleware.cache import CacheMiddleware
from django.urls import URLPattern, get_resolver

from keybits.constructors import KeyConstructor

__all__ = ["check_views", "routes"]

COMPUTED = (property, cached_property)
DEPTH = 8
"""How many functions within one another are searched for `cache_page`."""


def check_views(**_: Any) -> list[CheckMessage]:
    """Check that each cached handler has a key and a request of REST framework's, and no other cache in front."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = [message for pattern in routes() for message in _wrong(pattern.callback)]
    return [message for place, message in enumerate(found) if message not in found[:place]]


def routes(patterns: Any = None) -> Iterator[URLPattern]:
    """Yield every pattern that leads to a view, in the order in which URLs are resolved."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(pattern, URLPattern):
            yield pattern
        else:
            yield from routes(pattern.url_patterns)


def _wrong(callback: Any) -> Iterator[CheckMessage]:
    view: Any = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    for name in sorted(_handlers(view, callback)) if isinstance(view, type) else ():
        said = f"{view.__qualname__}.{name} is cached"
        yield from (
            _unkeyed(view, callback, name, said) if _is_of_rest_framework(view) else _foreign(view, said)
        )
        if any(map(_has_cache_page, (callback, view.dispatch, getattr(view, name)))):
            yield Warning(
                f"{said}, and so is its answer by Django's cache_page, for a fixed time.",
                hint="Remove cache_page: it is told of no change, and serves stale answers.",
                id="keybits.W014",
            )


def _handlers(view: Any, callback: Any) -> set[str]:
    """Return the names of the cached methods that requests to this view are led to."""
    named = getattr(callback, "actions", None) or {each: each for each in view.http_method_names}
    return {name for name in named.values() if hasattr(getattr(view, name, None), "keybits_cached")}


def _is_of_rest_framework(view: type[Any]) -> bool:
    return hasattr(view, "initialize_request")


def _foreign(view: type[Any], said: str) -> Iterator[CheckMessage]:
    yield Error(
        f"{said}, and {view.__qualname__} is no view of REST framework.",
        hint="Derive it from APIView, or leave the method undecorated: as it is, each request fails.",
        id="keybits.E019",
    )


def _unkeyed(view: Any, callback: Any, name: str, said: str) -> Iterator[CheckMessage]:
    """Yield what is wrong with the attribute that holds a handler's key, where it holds one by name."""
    key = getattr(view, name).keybits_key
    wrong = _fault(view(**getattr(callback, "initkwargs", {})), key) if isinstance(key, str) else ""
    if wrong:
        yield Error(
            f"{said} under {key!r}, which {wrong}.",
            hint="Give the view an instance of a subclass of keybits.constructors.KeyConstructor under this name: as "
            "it is, each request fails.",
            id="keybits.E019",
        )


def _fault(made: Any, key: str) -> str:
    """Return why an attribute of a view is no key; "" if it is one, or is computed for each request."""
    if isinstance(getattr_static(made, key, None), COMPUTED):
        return ""
    if not hasattr(made, key):
        return "the view does not have"
    found = getattr(made, key)
    return "" if isinstance(found, KeyConstructor) else f"is {found!r} and no key constructor"


def _has_cache_page(function: Any, depth: int = DEPTH) -> bool:
    """Return whether `cache_page` is among the decorators of a function, which are in its closure."""
    within = list(_within(function))
    if any(each is CacheMiddleware or isinstance(each, CacheMiddleware) for each in within):
        return True
    return depth > 0 and any(_has_cache_page(each, depth - 1) for each in within if callable(each))


def _within(function: Any) -> Iterator[Any]:
    """Yield what a function has in its closure, and of lists there what they have."""
    for cell in getattr(function, "__closure__", None) or ():
        with suppress(ValueError):  # it has not been filled yet
            held = cell.cell_contents
            yield from held if isinstance(held, list | tuple) else (held,)
