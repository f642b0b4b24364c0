"""The parts of a key: which representation a request means (identity) and whether it is still true (freshness).

Every key bit of drf-extensions is offered here beside ours. Three of them missed part of what they name, and are
mended: headers named `*`, query parameters given several times, and users of several classes. A bit is an identity
bit unless it is a `FreshnessKeyBit`: that one names scopes, whose stamps are compared on read and are no part of the
cache key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.urls import get_script_prefix
from django.utils.timezone import get_current_timezone_name
from rest_framework_extensions.key_constructor.bits import (
    AllArgsMixin,
    ArgsKeyBit,
    FormatKeyBit,
    KeyBitBase,
    KeyBitDictBase,
    KwargsKeyBit,
    LanguageKeyBit,
    ListModelKeyBit,
    ListSqlQueryKeyBit,
    ModelInstanceKeyBitBase,
    PaginationKeyBit,
    RequestMetaKeyBit,
    RetrieveModelKeyBit,
    RetrieveSqlQueryKeyBit,
    SqlQueryKeyBitBase,
    UniqueMethodIdKeyBit,
    UniqueViewIdKeyBit,
)
from rest_framework_extensions.key_constructor.bits import HeadersKeyBit as UpstreamHeadersKeyBit
from rest_framework_extensions.key_constructor.bits import QueryParamsKeyBit as UpstreamQueryParamsKeyBit
from rest_framework_extensions.key_constructor.bits import UserKeyBit as UpstreamUserKeyBit

from keybits import stamps
from keybits.query import Query
from keybits.stores import get_store
from keybits.templates import parse

__all__ = [
    "AllArgsMixin",
    "ArgsKeyBit",
    "CanonicalQueryKeyBit",
    "FormatKeyBit",
    "FreshnessKeyBit",
    "HeadersKeyBit",
    "KeyBitBase",
    "KeyBitDictBase",
    "KwargsKeyBit",
    "LanguageKeyBit",
    "ListModelKeyBit",
    "ListSqlQueryKeyBit",
    "MediaTypeKeyBit",
    "ModelInstanceKeyBitBase",
    "OriginKeyBit",
    "PaginationKeyBit",
    "PurgeKeyBit",
    "QueryParamsKeyBit",
    "RequestMetaKeyBit",
    "RetrieveModelKeyBit",
    "RetrieveSqlQueryKeyBit",
    "RouteKeyBit",
    "SqlQueryKeyBitBase",
    "TimeZoneKeyBit",
    "UniqueMethodIdKeyBit",
    "UniqueViewIdKeyBit",
    "UpdatedAtKeyBit",
    "UserKeyBit",
    "VersionKeyBit",
    "canonical_query",
    "user_class",
]

Scopes = str | Iterable[str]
ScopeSource = Scopes | Callable[..., Scopes]


class HeadersKeyBit(UpstreamHeadersKeyBit):  # type: ignore[misc]  # drf-extensions is untyped
    """The request headers named; with `*`, all of them (drf-extensions' bit then names none)."""

    def get_data(self, params: Any, request: Any, **exchange: Any) -> dict[str, str]:
        named = list(request.headers) if params == "*" else params
        data: dict[str, str] = super().get_data(params=named, request=request, **exchange)
        return data


class QueryParamsKeyBit(UpstreamQueryParamsKeyBit):  # type: ignore[misc]
    """The query parameters named, each with all its values (drf-extensions' bit sees the last one only)."""

    def get_data(self, params: Any, request: Any, **exchange: Any) -> dict[str, Any]:
        data: dict[str, Any] = super().get_data(params=params, request=request, **exchange)
        values = {name: request.GET.getlist(name) for name in data}
        return {name: found if len(found) > 1 else data[name] for name, found in values.items()}


class UserKeyBit(UpstreamUserKeyBit):  # type: ignore[misc]
    """Who asks; of a user that is no `AUTH_USER_MODEL` its class as well: another class may have the same id.

    Nobody is `anonymous`, and a user of that name has a colon before it.
    """

    def get_data(self, request: Any, **exchange: Any) -> str:
        data: str = super().get_data(request=request, **exchange)
        user = getattr(request, "user", None)
        return f"{user_class(request)}:{data}" if user and user.is_authenticated else data

    def _get_id_from_user(self, user: Any) -> Any:
        return user.pk


def user_class(request: Any) -> str:
    """Name the class of the user that asks; "" for one of `AUTH_USER_MODEL`, and for nobody."""
    user = getattr(request, "user", None)
    if not user or not user.is_authenticated:
        return ""
    kind = user.__class__
    label = getattr(getattr(kind, "_meta", None), "label", f"{kind.__module__}.{kind.__qualname__}")
    return "" if label == settings.AUTH_USER_MODEL else label


class MediaTypeKeyBit(KeyBitBase):  # type: ignore[misc]  # drf-extensions is untyped
    """The media type that was negotiated, with its parameters: REST framework indents for `application/json; indent=4`.

    It tells formats of the same name apart.
    """

    def get_data(self, request: Any, **exchange: Any) -> str:
        return str(getattr(request, "accepted_media_type", None))


class VersionKeyBit(KeyBitBase):  # type: ignore[misc]
    """The version of the API that was asked for, wherever REST framework's versioning has found it."""

    def get_data(self, request: Any, **exchange: Any) -> str | None:
        version = getattr(request, "version", None)
        return None if version is None else str(version)


class TimeZoneKeyBit(KeyBitBase):  # type: ignore[misc]
    """The time zone that is active: REST framework writes datetimes in it."""

    def get_data(self, **exchange: Any) -> str:
        return get_current_timezone_name()


class OriginKeyBit(KeyBitBase):  # type: ignore[misc]
    """The scheme and the host by which the server was called, as Django has them: for answers with absolute links."""

    def get_data(self, request: Any, **exchange: Any) -> str:
        return f"{request.scheme}://{request.get_host()}"


class RouteKeyBit(KeyBitBase):  # type: ignore[misc]
    """Which address of the view: the prefix that the application is mounted under, the route, and the URL's captures.

    Several routes may lead to one view, with other options, or in other namespaces.
    """

    def get_data(
        self, params: Any, view_instance: Any, view_method: Any, request: Any, args: Any, kwargs: Any
    ) -> list[Any]:
        route = getattr(getattr(request, "resolver_match", None), "route", None)
        return [get_script_prefix(), route, list(args), {name: str(value) for name, value in kwargs.items()}]


def canonical_query(view: Any, request: Any) -> str:
    """Return the query of `request` as the key has it: what means the same is written the same."""
    query = getattr(view, "query", None)
    if isinstance(query, Query):
        return query.canonical
    return urlencode([(name, value) for name, values in sorted(request.GET.lists()) for value in values])


class CanonicalQueryKeyBit(KeyBitBase):  # type: ignore[misc]
    """The query as `keybits.query` writes it: permutations and tracking parameters mean the same representation.

    A view without that grammar (`keybits.drf.ClosedQueryMixin`) has its parameters sorted by name: whatever can change
    the answer is in the key, the order of a parameter's values too, and nothing is known to be of no account.
    """

    def get_data(
        self, params: Any, view_instance: Any, view_method: Any, request: Any, args: Any, kwargs: Any
    ) -> str:
        return canonical_query(view_instance, request)


class FreshnessKeyBit(KeyBitBase):  # type: ignore[misc]
    """A bit that says whether a representation is still true, by naming the scopes it was made from."""

    def get_scopes(self, params: Any, **exchange: Any) -> Iterable[str]:
        """Return the scopes, from the request alone: no database is asked."""
        raise NotImplementedError

    def get_captures(self, params: Any) -> set[str]:
        """Return the names of the URL's captures that the scopes are named by; `*`, as here, for any of them."""
        return {"*"}

    def get_data(self, params: Any, request: Any, **exchange: Any) -> dict[str, str]:
        """Return each scope's present stamp, for a key function that stands by itself (drf-extensions' decorators).

        A scope that is open gets a token of its own each time, so that nothing made meanwhile is found again.
        """
        scopes = stamps.scope_names(self.get_scopes(params=params, request=request, **exchange))
        return {scope: (stamp or stamps.new()).hex() for scope, stamp in _stamps_of(request, scopes).items()}


class UpdatedAtKeyBit(FreshnessKeyBit):
    """The scopes given, as a string, several strings, or a function of the view, the request and the URL.

    In a string, `{name}` stands for the URL's capture of that name: `UpdatedAtKeyBit("gallery:{slug}")`. A
    function is called with the keyword arguments `view_instance`, `view_method`, `request`, `args`, `kwargs`, and
    returns the scopes themselves.
    Like every bit's, the scopes can also be given to the constructor: `params={"updated_at": "gallery:{slug}"}`.
    """

    def __init__(self, scope: ScopeSource | None = None) -> None:
        super().__init__(params=scope)

    def get_scopes(self, params: Any, **exchange: Any) -> Iterable[str]:
        return _named(params, exchange)

    def get_captures(self, params: Any) -> set[str]:
        if callable(params):
            return super().get_captures(params)
        templates = (params,) if isinstance(params, str) else params or ()
        return {path for template in templates for path in parse(template).paths}


class PurgeKeyBit(KeyBitBase):  # type: ignore[misc]
    """More scopes that purge the answer from the caches in front, given as `UpdatedAtKeyBit`'s; no part of the key.

    For what only they need to be told, because the scopes of freshness end with it anyway: a takedown, whose purge
    is hard. A family (`takedown:*`) stands for members that the request does not name.
    """

    def __init__(self, scope: ScopeSource | None = None) -> None:
        super().__init__(params=scope)

    def get_scopes(self, params: Any, **exchange: Any) -> Iterable[str]:
        return _named(params, exchange)

    def get_data(self, **exchange: Any) -> None:
        """Return nothing: it neither tells representations apart nor says whether one is true."""


def _named(source: Any, exchange: Mapping[str, Any]) -> list[str]:
    """Return the scopes that `source` names. Those of a function are no templates: a client may choose its braces."""
    if callable(source):
        named = source(**exchange)
        return [named] if isinstance(named, str) else list(named or ())
    templates = (source,) if isinstance(source, str) else source
    return [_filled(template, exchange["kwargs"]) for template in templates or ()]


def _filled(scope: str, kwargs: Mapping[str, Any]) -> str:
    return scope.format_map(kwargs) if "{" in scope else scope


def _stamps_of(request: Any, scopes: tuple[str, ...]) -> dict[str, stamps.Stamp | None]:
    """Read stamps once a request: a key and an ETag that read them apart let an old tag carry a new body."""
    seen: dict[str, stamps.Stamp | None] = request.__dict__.setdefault("_keybits_stamps", {})
    missing = [scope for scope in scopes if scope not in seen]
    if missing:
        seen.update(zip(missing, get_store().mint(missing), strict=True))
    return {scope: seen[scope] for scope in scopes}
