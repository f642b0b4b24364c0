"""How a request is named in the store: its entry's key and its scopes, from memory where the question came before."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from django.urls import get_script_prefix

from keybits.bits import canonical_query, urlconf, user_class
from keybits.bounded import Bounded
from keybits.constructors import KeyConstructor
from keybits.drf.audience import Locale
from keybits.drf.closed import are_closed, knows_users_by_key
from keybits.entries import namespace

__all__ = ["names_of"]

MOST_NAMED, LONGEST_NAMED = 1024, 512
"""Most questions whose key is remembered, and the length of the longest in characters."""
HOST = ("HTTP_HOST", "HTTP_X_FORWARDED_HOST")
WITHOUT_HOST = ("HTTP_X_FORWARDED_HOST", "SERVER_NAME", "SERVER_PORT", "HTTP_X_FORWARDED_PORT")
"""What Django makes the host of a request of: one with a Host field, and one without (HTTP/1.0)."""


_named: Bounded[Hashable, tuple[str, tuple[str, ...]]] = Bounded(MOST_NAMED)


def names_of(
    constructor: KeyConstructor, exchange: dict[str, Any], locale: Locale
) -> tuple[str, tuple[str, ...]]:
    """Return the entry's key and scopes; from memory, where the same question came before (`python -m benchmarks`).

    `locale` is the active one.
    """
    question = _question(constructor, exchange, locale)
    if question is None:
        return constructor.identity(**exchange), constructor.scopes(**exchange)
    found = _named.get(question)
    if found is None:
        found = _named[question] = constructor.identity(**exchange), constructor.scopes(**exchange)
    return found


def _question(constructor: KeyConstructor, exchange: dict[str, Any], locale: Locale) -> Hashable:
    """Return all that a closed constructor looks at; None where it is not closed, or that is too long."""
    view, request = exchange["view_instance"], exchange["request"]
    asked, user = request._request, request.user
    is_known = bool(user and user.is_authenticated)
    meta, path, captured = asked.META, asked.path, tuple(exchange["kwargs"].items())
    kind: Any = type(view)
    version = None if request.version is None else str(request.version)
    found = (request.accepted_media_type, version or "")  # whatever the negotiation and the versioning are
    hosts = [meta.get(name, "") for name in (HOST if "HTTP_HOST" in meta else WITHOUT_HOST)]
    texts = (path, canonical_query(view, request), *found, *hosts)
    plain = not exchange["args"] and all(type(value) is str for _, value in captured)
    plain &= not is_known or knows_users_by_key(constructor)
    if not plain or sum(map(len, texts)) > LONGEST_NAMED or not are_closed(kind, constructor):
        return None
    return (
        *(constructor, kind, exchange["view_method"], asked.method, namespace()),
        *(get_script_prefix(), captured, *texts, locale, request.accepted_renderer.format),
        *(asked.scheme, version, urlconf(asked)),
        *((user.pk, is_known, user_class(request) if is_known else "") if user else ()),
    )
