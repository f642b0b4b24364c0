"""The addresses of one route for many rows: what `reverse` returns, with the route looked up once for all of them.

Values are filled into Django's own pattern, and a value that the route does not match raises what `reverse` raises.
Names with a namespace, and routes with several patterns, defaults or other parameters, are left to `reverse`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from django.urls import get_resolver, get_script_prefix, get_urlconf, reverse
from django.urls.resolvers import URLResolver
from django.utils.http import RFC3986_SUBDELIMS, escape_leading_slashes

__all__ = ["address", "addresses"]

SAFE = RFC3986_SUBDELIMS + "/~:@"
"""Characters that Django leaves unquoted in a path, beside letters, digits and `_.-`."""
_is_plain = re.compile(r"(?!//)[-A-Za-z0-9_.~/]*", re.ASCII).fullmatch
Write = Callable[..., str]


def address(name: str, /, **values: Any) -> str:
    """Return `reverse(name, kwargs=values)`."""
    return addresses(name, *values)(**values)


def addresses(name: str, *parameters: str) -> Write:
    """Return a function that writes addresses of the route `name`; it takes these parameters as keyword arguments.

    Use it within one request: it writes addresses under the script prefix and the URLconf that are in force now.
    """
    return _route(get_resolver(get_urlconf()), get_script_prefix(), name, parameters)


@lru_cache(maxsize=256)
def _route(resolver: URLResolver, prefix: str, name: str, parameters: tuple[str, ...]) -> Write:
    found = resolver.reverse_dict.getlist(name)
    if ":" in name or len(found) != 1 or len(found[0][0]) != 1:
        return _by_reverse(name)
    [(template, names)], pattern, defaults, converters = found[0]
    if defaults or sorted(names) != sorted(parameters):
        return _by_reverse(name)
    texts = {name: converters[name].to_url if name in converters else str for name in names}
    return _writing(name, prefix.replace("%", "%%") + template, f"^{re.escape(prefix)}{pattern}", texts)


def _writing(name: str, template: str, pattern: str, texts: dict[str, Callable[[Any], str]]) -> Write:
    """Return a function that fills in the template as `URLResolver.reverse` does, or else calls `reverse`."""
    matches = re.compile(pattern).search

    def write(**values: Any) -> str:
        try:
            text = template % {name: texts[name](value) for name, value in values.items()}
        except ValueError:  # the converter rejects the value
            return reverse(name, kwargs=values)
        if not matches(text):
            return reverse(name, kwargs=values)
        return text if _is_plain(text) else _quoted(text)

    return write


def _quoted(path: str) -> str:
    return escape_leading_slashes(quote(path, safe=SAFE))


def _by_reverse(name: str) -> Write:
    return lambda **values: reverse(name, kwargs=values)
