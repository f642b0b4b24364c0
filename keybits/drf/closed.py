"""Which views answer everybody alike from the address alone, so that the fast path may repeat their answers.

Decided from how the view was reached and from its classes: the bits of the key, the permissions, the
authentication, and whoever overrides a step that REST framework takes before the handler. What is not known to look
at nothing else keeps the long way; `closed` says of a class or a function of one's own that it looks at nothing but
the method, the address, the Accept and Host fields, and who is asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from inspect import getattr_static
from typing import Any, TypeVar

from rest_framework import authentication, negotiation, permissions, versioning

from keybits import bits
from keybits.constructors import KeyConstructor
from keybits.drf.negotiation import JSONContentNegotiation

__all__ = ["OPEN_TO_ALL", "are_closed", "closed", "is_closed", "is_known", "is_said_closed"]

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
"""What is called of a view on the way to a handler and back, and a project may override."""
NAMING = frozenset({"identity", "prepare_key", "scopes", "_named", "_params"})
"""What makes a constructor's bits a key and scopes."""
OURS = ("django.", "rest_framework.", "rest_framework_extensions.", "keybits.", "drf_spectacular.")
ROUTED_BY = ("django.views.decorators.csrf", "django.views.generic.base", "rest_framework.")
WRAPPED_BY = ("keybits.", "drf_spectacular.")
"""The modules whose functions may stand between a URL and its view, and between a view and its cached handler."""


def closed(thing: T) -> T:
    """Say of a class, or a function that names scopes, that it looks at nothing beside what this module names.

    A subclass has to say it again, of what it adds.
    """
    thing.keybits_closed = True  # type: ignore[attr-defined]
    return thing


def is_closed(view: Any, method: Callable[..., Any], constructor: KeyConstructor) -> bool:
    """Say whether what `view` answers by the cached `method` may be repeated in front of Django."""
    counting = (each for each in view.throttle_classes if getattr(each, "counts_hits", False))
    policies = (*view.permission_classes, *view.authentication_classes, *counting)
    return (
        _is_reached_directly(view)
        and _leads_straight(_handler(view), method)
        and _is_given(view, constructor)
        and all(_looks_at_nothing_else(each, POLICIES) for each in policies)
        and _looks_at_nothing_else(view.content_negotiation_class, BY_ACCEPT_OR_ADDRESS)
        and _looks_at_nothing_else(view.versioning_class, BY_ACCEPT_OR_ADDRESS)
        and not STEPS & vars(view).keys()
        and (not view.throttle_classes or hasattr(view, "check_throttles_now"))
        and are_closed(view.__class__, constructor)
    )


def _is_reached_directly(view: Any) -> bool:
    """Say whether the URL leads to this view with nothing in between: a decorator may refuse, or change things."""
    route = getattr(view.request.resolver_match, "func", None)
    return getattr(route, "cls", None) is type(view) and all(
        _is_of(each, ROUTED_BY) or each is type(view).dispatch for each in _links(route)
    )


def _handler(view: Any) -> Any:
    return getattr(view, view.request.method.lower(), None)


def _leads_straight(handler: Any, method: Any) -> bool:
    """Say whether what is called of the view is the cached method, with nobody's code around it."""
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
    """Say where a function is from; decorators copy `__module__`, but not this."""
    return bool(getattr(function, "__globals__", {}).get("__name__", "").startswith(modules))


def _is_given(view: Any, constructor: KeyConstructor) -> bool:
    """Say whether the constructor is the handler's, or an attribute as it stands: a property may look at anything."""
    key = _handler(view).keybits_key
    return key is constructor or getattr_static(view, key) is constructor


@lru_cache(maxsize=1024)
def are_closed(view: Any, constructor: KeyConstructor) -> bool:
    """Say whether a class of views and its constructor look at nothing else: they name the same each time."""
    return (
        all(_looks_at_nothing_else(type(bit), BITS) for bit in constructor.bits.values())
        and all(_is_said(constructor, name) for name in constructor.bits)
        and all(is_known(type(constructor), step) for step in NAMING)
        and all(is_known(view, step) for step in STEPS)
    )


def _is_said(constructor: KeyConstructor, name: str) -> bool:
    """Say whether a bit's parameters are written down, or of a function that is closed."""
    bit = constructor.bits[name]
    source = constructor.params.get(name, bit.params)
    return not callable(source) or isinstance(bit, bits.PurgeKeyBit) or hasattr(source, "keybits_closed")


def is_said_closed(kind: Any) -> bool:
    """Say whether the project has said of a class, not of one that it inherits from, that it is closed."""
    return bool(vars(kind).get("keybits_closed"))


def _looks_at_nothing_else(kind: Any, known: frozenset[Any]) -> bool:
    return kind in known or is_said_closed(kind)


def is_known(kind: type[Any], step: str) -> bool:
    """Say whether every class that defines the step is REST framework's, ours, or says that it is closed."""
    definers = [each for each in kind.__mro__ if step in vars(each)]
    return all(each.__module__.startswith(OURS) or vars(each).get("keybits_closed") for each in definers)
