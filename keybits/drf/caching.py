"""Cached, conditional reads for viewsets: `CacheResponseAndETAGMixin`, which drf-extensions no longer offers.

Decides which handlers are cached; `keybits.drf.exchange` decides what is done with a request to one of them. By then
permissions have been checked, except those of an object, which are checked when it is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from inspect import Parameter, iscoroutinefunction, signature, unwrap
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from rest_framework.request import Request

from keybits.constructors import (
    DefaultListKeyConstructor,
    DefaultObjectKeyConstructor,
    KeyConstructor,
)
from keybits.drf.exchange import ANSWERING, EXPIRES, Exchange
from keybits.drf.spelling import compare_row
from keybits.drf.throttles import DeferredThrottlesMixin
from keybits.drf.writes import ConditionalWritesMixin

__all__ = [
    "CacheResponseAndETAGMixin",
    "ListCacheResponseAndETAGMixin",
    "ReadOnlyCacheResponseAndETAGMixin",
    "RetrieveCacheResponseAndETAGMixin",
    "cache_response_and_etag",
    "expire",
]

Handler = Callable[..., Any]
READING = ("GET", "HEAD")
ONE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
"""The kinds of a parameter that takes one argument by its position."""


def cache_response_and_etag(key_func: str | KeyConstructor) -> Callable[[Handler], Handler]:
    """Make a handler for GET and HEAD cached and conditional.

    `key_func` is a keybits `KeyConstructor` or the name of the view's attribute that holds one. A constructor
    whose bits name no scope caches nothing, because nothing would ever end its entries. A cached handler called by
    another one of its view has no entry of its own: its result is part of the caller's answer. One that answers other
    methods, too, runs for each request of those. Raises `ImproperlyConfigured` for any other key, and for what is not
    a method of a view: a function view, a class, or a coroutine, as some add-ons of REST framework have.
    """
    if not isinstance(key_func, str | KeyConstructor):
        raise ImproperlyConfigured(
            f"{key_func!r} is no key. Write @cache_response_and_etag(PageKey()), with an instance of a subclass of "
            "keybits.constructors.KeyConstructor, or give the name of an attribute of the view that is one."
        )

    def decorate(method: Handler) -> Handler:
        _demand_method(method)

        @wraps(method)
        def handler(view: Any, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
            if ANSWERING in vars(view) or request._request.method not in READING:
                response: HttpResponse = method(view, request, *args, **kwargs)
                return response
            return Exchange(view, method, request, args, kwargs).respond(_constructor(view, key_func))

        handler.keybits_cached = True  # type: ignore[attr-defined]
        handler.keybits_key = key_func  # type: ignore[attr-defined]
        return handler

    return decorate


def _demand_method(method: Any) -> None:
    """Raise `ImproperlyConfigured` for what a view could not call with a request, or would have to await."""
    if isinstance(method, type):
        raise ImproperlyConfigured(
            f"{method.__qualname__} is a class: decorate its `get`, or an action of it."
        )
    if iscoroutinefunction(unwrap(method)):
        raise ImproperlyConfigured(f"{method.__qualname__} is a coroutine, which cannot be cached.")
    if not _takes_view_and_request(method):
        raise ImproperlyConfigured(
            f"{getattr(method, '__qualname__', method)} is not a method of a view: cache `get` of an APIView instead "
            "of a function, and decorate it within the class, without method_decorator."
        )


def _takes_view_and_request(method: Any) -> bool:
    """Return whether a callable takes two arguments by their position, of which the first is not the request."""
    try:
        parameters = list(signature(method).parameters.values())
    except (TypeError, ValueError):  # a classmethod is not callable, and some callables tell nothing
        return False
    if len(parameters) < 2:
        return False
    first, second = parameters[:2]
    taken = first.kind in ONE and second.kind in (*ONE, Parameter.VAR_POSITIONAL)
    return taken and first.name != "request"


def _constructor(view: Any, key_func: str | KeyConstructor) -> KeyConstructor:
    constructor = getattr(view, key_func) if isinstance(key_func, str) else key_func
    if not isinstance(constructor, KeyConstructor):
        raise ImproperlyConfigured(
            f"{type(view).__name__} has {constructor!r} as its key function. Give it an instance of "
            "a subclass of keybits.constructors.KeyConstructor: only its keys know which scopes end an entry."
        )
    return constructor


def expire(request: Request, at: datetime) -> None:
    """Declare that the representation being made for `request` is true until `at` at the latest, whatever is written.

    For what the passing of time changes, such as something to be published at a set time. Of several calls the earliest
    time counts. The passing of time purges nothing, so caches in front have to revalidate each time.
    """
    present = getattr(request, EXPIRES, None)
    setattr(request, EXPIRES, min(at.timestamp(), present or math.inf))


class ListCacheResponseAndETAGMixin(DeferredThrottlesMixin):
    """`list`, cached and conditional, under the constructor declared on the class."""

    list_cache_key_func: KeyConstructor = DefaultListKeyConstructor()

    @cache_response_and_etag("list_cache_key_func")
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().list(request, *args, **kwargs)  # type: ignore[misc]


class RetrieveCacheResponseAndETAGMixin(DeferredThrottlesMixin):
    """`retrieve`, cached and conditional, under the constructor declared on the class.

    A row requested by another spelling of its key (`01`, a UUID in capitals) is shown but not kept, because a change of
    the row ends the scopes as the database spells them.
    """

    object_cache_key_func: KeyConstructor = DefaultObjectKeyConstructor()

    def get_object(self) -> Any:
        """Return the object that the address names, and note whether the address spells its key as the row does."""
        found = super().get_object()  # type: ignore[misc]
        capture = self.lookup_url_kwarg or self.lookup_field  # type: ignore[attr-defined]
        compare_row(self, capture, self.lookup_field, found)  # type: ignore[attr-defined]
        return found

    @cache_response_and_etag("object_cache_key_func")
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().retrieve(request, *args, **kwargs)  # type: ignore[misc]


class ReadOnlyCacheResponseAndETAGMixin(ListCacheResponseAndETAGMixin, RetrieveCacheResponseAndETAGMixin):
    """`list` and `retrieve`, cached and conditional."""


class CacheResponseAndETAGMixin(ReadOnlyCacheResponseAndETAGMixin, ConditionalWritesMixin):
    """Reads as above; `update`, `partial_update` and `destroy` on condition of If-Match."""
