"""Which views are closed: they answer from the address, the negotiated context and the user alone.

The fast path repeats answers of closed views only. It is decided from how the view was reached and from its classes:
the converters of the route, the bits of the key, the permissions, the authentication, and the steps that REST framework
takes before the handler and a class may override. Whatever is not known to look at nothing else keeps to the long way.
`closed` declares of a project's own class or function that it looks at nothing but the method, the address, the Accept
and Host fields, and who is asking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from inspect import getattr_static
from typing import Any, TypeVar

from django.urls.converters import get_converters
from rest_framework import authentication, negotiation, permissions, versioning

from keybits import bits
from keybits.constructors import KeyConstructor
from keybits.drf.negotiation import JSONContentNegotiation

__all__ = [
    "OPEN_TO_ALL",
    "are_closed",
    "closed",
    "is_closed",
    "is_known",
    "is_said_closed",
    "knows_users_by_key",
]

T = TypeVar("T")
OPEN_TO_ALL = frozenset(
    {
        permissions.AllowAny,
        permissions.IsAuthenticatedOrReadOnly,
        permissions.DjangoModelPermissionsOrAnonReadOnly,
    }
)
BY_FIELD_OR_SESSION = frozenset(
    {
        authentication.BasicAuthentication,
        authentication.SessionAuthentication,
        authentication.TokenAuthentication,
    }
)
POLICIES = OPEN_TO_ALL | BY_FIELD_OR_SESSION
BY_ACCEPT_OR_ADDRESS = frozenset(
    {
        None,
        JSONContentNegotiation,
        negotiation.DefaultContentNegotiation,
        versioning.AcceptHeaderVersioning,
        versioning.HostNameVersioning,
        versioning.NamespaceVersioning,
        versioning.QueryParameterVersioning,
        versioning.URLPathVersioning,
    }
)
BITS = frozenset(
    {
        bits.ArgsKeyBit,
        bits.CanonicalQueryKeyBit,
        bits.FormatKeyBit,
        bits.KwargsKeyBit,
        bits.LanguageKeyBit,
        bits.MediaTypeKeyBit,
        bits.OriginKeyBit,
        bits.PurgeKeyBit,
        bits.QueryParamsKeyBit,
        bits.RouteKeyBit,
        bits.TimeZoneKeyBit,
        bits.UniqueMethodIdKeyBit,
        bits.UniqueViewIdKeyBit,
        bits.UpdatedAtKeyBit,
        bits.UserKeyBit,
        bits.VersionKeyBit,
    }
)
STEPS = frozenset(
    {
        "as_view",
        "check_permissions",
        "check_throttles",
        "default_response_headers",
        "determine_version",
        "dispatch",
        "finalize_response",
        "get_authenticators",
        "get_content_negotiator",
        "get_format_suffix",
        "get_parser_context",
        "get_parsers",
        "get_permissions",
        "get_grammar",
        "get_query_parameters",
        "get_renderers",
        "get_throttles",
        "initial",
        "initialize_request",
        "perform_authentication",
        "perform_content_negotiation",
        "setup",
    }
)
"""The methods of a view that are called before and after a handler, and that a project may override."""
DECLARED = frozenset(
    {
        "authentication_classes",
        "content_negotiation_class",
        "parser_classes",
        "permission_classes",
        "renderer_classes",
        "throttle_classes",
        "versioning_class",
    }
)
"""The attributes of a view that say which classes take those steps: as a property, they may differ by the request."""
NAMING = frozenset({"identity", "prepare_key", "scopes", "_named", "_params"})
"""The methods of a constructor that make a key and scopes of its bits."""
OURS = ("django.", "rest_framework.", "rest_framework_extensions.", "keybits.", "drf_spectacular.")
ROUTED_BY = ("django.views.decorators.csrf", "django.views.generic.base", "rest_framework.")
WRAPPED_BY = ("keybits.", "drf_spectacular.")
"""The modules whose functions may stand between a URL and its view, and between a view and its cached handler."""
_CONVERTER = re.compile(r"<([^:<>]+):")


def closed(thing: T) -> T:
    """Declare of a class, or a function that names scopes, that it looks only at what this module names.

    A subclass is not covered: it has to be declared closed itself.
    """
    thing.keybits_closed = True  # type: ignore[attr-defined]
    return thing


def is_closed(view: Any, method: Callable[..., Any], constructor: KeyConstructor) -> bool:
    """Return whether the answers of the cached `method` of `view` may be repeated in front of Django."""
    counting = (each for each in view.throttle_classes if getattr(each, "counts_hits", False))
    policies = (*view.permission_classes, *view.authentication_classes, *counting)
    return (
        _is_reached_directly(view)
        and _is_captured_plainly(view.request.resolver_match.route or "")
        and _leads_straight(_handler(view), method)
        and _is_given(view, constructor)
        and all(_looks_at_nothing_else(each, POLICIES) for each in policies)
        and _looks_at_nothing_else(view.content_negotiation_class, BY_ACCEPT_OR_ADDRESS)
        and _looks_at_nothing_else(view.versioning_class, BY_ACCEPT_OR_ADDRESS)
        and not STEPS & vars(view).keys()
        and not _asks_for_rows(view)
        and (not view.throttle_classes or hasattr(view, "check_throttles_now"))
        and are_closed(view.__class__, constructor)
    )


def _asks_for_rows(view: Any) -> bool:
    """Return whether a permission calls `get_queryset` of the project's own, which may refuse, on every request."""
    asks = permissions.DjangoModelPermissionsOrAnonReadOnly in view.permission_classes
    return asks and ("get_queryset" in vars(view) or not is_known(type(view), "get_queryset"))


def _is_reached_directly(view: Any) -> bool:
    """Return whether the URL leads to this view with no decorator in between that may refuse or change requests."""
    route = getattr(view.request.resolver_match, "func", None)
    return getattr(route, "cls", None) is type(view) and all(
        _is_of(each, ROUTED_BY) or each is type(view).dispatch for each in _links(route)
    )


@lru_cache(maxsize=1024)
def _is_captured_plainly(route: str) -> bool:
    """Return whether no converter of the project's own, which may refuse an address, is named in the route."""
    known = get_converters()
    kinds = (type(known[name]) for name in _CONVERTER.findall(route) if name in known)
    return all(kind.__module__.startswith(OURS) or is_said_closed(kind) for kind in kinds)


def _handler(view: Any) -> Any:
    return getattr(view, view.request.method.lower(), None)


def _leads_straight(handler: Any, method: Any) -> bool:
    """Return whether the handler is the cached method, wrapped by known code at most."""
    for each in _links(handler):
        if each is method:
            return True
        if not _is_of(each, WRAPPED_BY):
            return False
    return False


def _links(function: Any) -> Iterator[Any]:
    """Yield a function, what it wraps, what that wraps, and so on."""
    function = getattr(function, "__func__", function)
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


def _is_of(function: Any, modules: tuple[str, ...]) -> bool:
    """Return whether a function is defined in one of `modules`. Decorators copy `__module__`, but not `__globals__`."""
    return bool(getattr(function, "__globals__", {}).get("__name__", "").startswith(modules))


def _is_given(view: Any, constructor: KeyConstructor) -> bool:
    """Return whether the constructor is the handler's, or a plain attribute: a property may look at anything."""
    key = _handler(view).keybits_key
    return key is constructor or getattr_static(view, key) is constructor


@lru_cache(maxsize=1024)
def are_closed(view: Any, constructor: KeyConstructor) -> bool:
    """Return whether a view class and its constructor are closed, and so name the same key and scopes each time."""
    return (
        all(_looks_at_nothing_else(type(bit), BITS) for bit in constructor.bits.values())
        and all(_is_said(constructor, name) for name in constructor.bits)
        and all(is_known(type(constructor), step) for step in NAMING)
        and all(is_known(view, step) for step in STEPS)
        and all(_is_plain(view, name) or is_known(view, name) for name in DECLARED)
    )


def _is_plain(view: Any, name: str) -> bool:
    """Return whether an attribute of a class is what it says there, and no property."""
    return not hasattr(type(getattr_static(view, name, None)), "__get__")


@lru_cache(maxsize=1024)
def knows_users_by_key(constructor: KeyConstructor) -> bool:
    """Return whether a closed constructor looks at no more of a user than the class and the primary key.

    What the project has declared closed may look at more, which changes while these stay the same.
    """
    steps = (vars(kind).get(step) for kind in type(constructor).__mro__ for step in NAMING)
    sources = (
        constructor._params(name, bit)
        for name, bit in constructor.bits.items()
        if not isinstance(bit, bits.PurgeKeyBit)
    )
    return (
        all(type(bit) in BITS for bit in constructor.bits.values())
        and not any(map(callable, sources))
        and all(_is_of(step, OURS) for step in steps if step is not None)
    )


def _is_said(constructor: KeyConstructor, name: str) -> bool:
    """Return whether a bit's parameters are literal, or come from a function that is declared closed."""
    bit = constructor.bits[name]
    source = constructor.params.get(name, bit.params)
    return not callable(source) or isinstance(bit, bits.PurgeKeyBit) or hasattr(source, "keybits_closed")


def is_said_closed(kind: Any) -> bool:
    """Return whether this very class, not one that it inherits from, is declared closed."""
    return bool(vars(kind).get("keybits_closed"))


def _looks_at_nothing_else(kind: Any, known: frozenset[Any]) -> bool:
    return kind in known or is_said_closed(kind)


def is_known(kind: type[Any], step: str) -> bool:
    """Return whether every class that defines the step is of a known package, or is declared closed."""
    definers = [each for each in kind.__mro__ if step in vars(each)]
    return all(each.__module__.startswith(OURS) or vars(each).get("keybits_closed") for each in definers)
