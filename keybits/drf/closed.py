"""Which views answer everybody alike from the address alone, so that the fast path may repeat their answers.

Decided from the classes, once for each view and constructor: the bits of the key, the permissions, the
authentication, and whoever overrides a step that REST framework takes before the handler. What is not known to look
at nothing else keeps the long way; `keybits_closed = True` on a class of one's own says that it looks at nothing but
the address, the Authorization field and the session cookie.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rest_framework import authentication, permissions

from keybits import bits
from keybits.constructors import KeyConstructor

__all__ = ["is_closed"]

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
BITS = frozenset(
    {
        bits.ArgsKeyBit,
        bits.CanonicalQueryKeyBit,
        bits.FormatKeyBit,
        bits.KwargsKeyBit,
        bits.LanguageKeyBit,
        bits.PurgeKeyBit,
        bits.QueryParamsKeyBit,
        bits.RouteKeyBit,
        bits.UniqueMethodIdKeyBit,
        bits.UniqueViewIdKeyBit,
        bits.UpdatedAtKeyBit,
        bits.UserKeyBit,
    }
)
STEPS = (
    "as_view",
    "check_permissions",
    "check_throttles",
    "determine_version",
    "dispatch",
    "finalize_response",
    "get_authenticators",
    "get_content_negotiator",
    "get_permissions",
    "initial",
    "initialize_request",
    "perform_authentication",
    "perform_content_negotiation",
)
"""What REST framework calls of a view on the way to a handler and back, and a project may override."""
OURS = ("django.", "rest_framework.", "rest_framework_extensions.", "keybits.", "drf_spectacular.")


@lru_cache(maxsize=1024)
def is_closed(view: Any, constructor: KeyConstructor) -> bool:
    """Say whether the answers of `view` under `constructor` may be repeated in front of Django."""
    return (
        all(_looks_at_nothing_else(type(bit), BITS) for bit in constructor.bits.values())
        and all(_looks_at_nothing_else(each, OPEN_TO_ALL) for each in view.permission_classes)
        and all(_looks_at_nothing_else(each, BY_FIELD_OR_SESSION) for each in view.authentication_classes)
        and all(_is_known(view, step) for step in STEPS)
        and (not view.throttle_classes or hasattr(view, "check_throttles_now"))
    )


def _looks_at_nothing_else(kind: Any, known: frozenset[Any]) -> bool:
    return kind in known or bool(vars(kind).get("keybits_closed"))


def _is_known(view: type[Any], step: str) -> bool:
    """Say whether every class that defines the step is REST framework's, ours, or says that it is closed."""
    definers = [each for each in view.__mro__ if step in vars(each)]
    return all(each.__module__.startswith(OURS) or vars(each).get("keybits_closed") for each in definers)
