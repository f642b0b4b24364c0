"""The parts of a key: which representation a request means (identity) and whether it is still true (freshness).

Every key bit of drf-extensions is available here beside those of keybits. Three of them missed part of what they name
and are corrected: headers named `*`, query parameters given several times, and users of several classes. A
`FreshnessKeyBit` names scopes, whose stamps are compared on read and are not part of the cache key. A `PurgeKeyBit`
names scopes for caches in front. Every other bit is an identity bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
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
    "class_of",
    "urlconf",
    "user_class",
]

Scopes = str | Iterable[str]
ScopeSource = Scopes | Callable[..., Scopes]


class HeadersKeyBit(UpstreamHeadersKeyBit):  # type: ignore[misc]  # drf-extensions is untyped
    """The request headers named; with `*`, all of them (for which drf-extensions' bit has none)."""

    def get_data(self, params: Any, request: Any, **exchange: Any) -> dict[str, str]:
        named = list(request.headers) if params == "*" else params
        data: dict[str, str] = super().get_data(params=named, request=request, **exchange)
        return data


class QueryParamsKeyBit(UpstreamQueryParamsKeyBit):  # type: ignore[misc]
    """The query parameters named, each with all its values (drf-extensions' bit has only the last)."""

    def get_data(self, params: Any, request: Any, **exchange: Any) -> dict[str, Any]:
        data: dict[str, Any] = super().get_data(params=params, request=request, **exchange)
        values = {name: request.GET.getlist(name) for name in data}
        return {name: found if len(found) > 1 else data[name] for name, found in values.items()}


class UserKeyBit(UpstreamUserKeyBit):  # type: ignore[misc]
    """The user who makes the request, with the class unless it is `AUTH_USER_MODEL`: classes may have equal ids.

    A request without a user is `anonymous`; the data of a user always contains a colon.
    """

    def get_data(self, request: Any, **exchange: Any) -> str:
        data: str = super().get_data(request=request, **exchange)
        user = getattr(request, "user", None)
        return f"{user_class(request)}:{data}" if user and user.is_authenticated else data

    def _get_id_from_user(self, user: Any) -> Any:
        return user.pk


def user_class(request: Any) -> str:
    """Return the name of the requesting user's class; "" for `AUTH_USER_MODEL`, and without a user."""
    return class_of(getattr(request, "user", None))


def class_of(user: Any) -> str:
    """Return the name of a user's class, by which users with equal keys are told apart; "" as in `user_class`."""
    if not user or not user.is_authenticated:
        return ""
    kind = user.__class__
    label = getattr(getattr(kind, "_meta", None), "label", f"{kind.__module__}.{kind.__qualname__}")
    return "" if label == settings.AUTH_USER_MODEL else label


class MediaTypeKeyBit(KeyBitBase):  # type: ignore[misc]  # drf-extensions is untyped
    """The negotiated media type with its parameters: REST framework indents for `application/json; indent=4`.

    It also tells apart renderers whose formats have the same name.
    """

    def get_data(self, request: Any, **exchange: Any) -> str:
        return str(getattr(request, "accepted_media_type", None))


class VersionKeyBit(KeyBitBase):  # type: ignore[misc]
    """The requested version of the API, wherever REST framework's versioning has found it."""

    def get_data(self, request: Any, **exchange: Any) -> str | None:
        version = getattr(request, "version", None)
        return None if version is None else str(version)


class TimeZoneKeyBit(KeyBitBase):  # type: ignore[misc]
    """The active time zone, in which REST framework writes datetimes."""

    def get_data(self, **exchange: Any) -> str:
        return get_current_timezone_name()


class OriginKeyBit(KeyBitBase):  # type: ignore[misc]
    """The scheme and host of the request, as Django determines them: for answers with absolute links."""

    def get_data(self, request: Any, **exchange: Any) -> str:
        return f"{request.scheme}://{request.get_host()}"


class RouteKeyBit(KeyBitBase):  # type: ignore[misc]
    """The address of the view: the prefix that the application is mounted under, the route, the path, and the captures.

    Several routes may lead to one view, with different options or in different namespaces, also at the same path in
    several URL configurations (`request.urlconf`). A converter may capture objects that cannot be told by their texts.
    """

    def get_data(
        self, params: Any, view_instance: Any, view_method: Any, request: Any, args: Any, kwargs: Any
    ) -> list[Any]:
        route = getattr(getattr(request, "resolver_match", None), "route", None)
        captured = {name: str(value) for name, value in kwargs.items()}
        return [get_script_prefix(), urlconf(request), route, request.path, list(args), captured]


def urlconf(request: Any) -> str | None:
    """Return the name of the URL configuration that a middleware has chosen; None for `ROOT_URLCONF`."""
    chosen = getattr(request, "urlconf", None)
    return None if chosen is None else str(getattr(chosen, "__name__", chosen))


def canonical_query(view: Any, request: Any) -> str:
    """Return the query of `request` as the key has it: canonical where the view has a grammar, else sorted by name."""
    query = getattr(view, "query", None)
    if isinstance(query, Query):
        return query.canonical
    return urlencode([(name, value) for name, values in sorted(request.GET.lists()) for value in values])


class CanonicalQueryKeyBit(KeyBitBase):  # type: ignore[misc]
    """The query as `keybits.query` writes it, in which the order of parameters and tracking parameters do not count.

    A view without a grammar (`keybits.drf.ClosedQueryMixin`) has all its parameters in the key, sorted by name, each
    with its values in the order given: any of them may change the answer.
    """

    def get_data(
        self, params: Any, view_instance: Any, view_method: Any, request: Any, args: Any, kwargs: Any
    ) -> str:
        return canonical_query(view_instance, request)


class FreshnessKeyBit(KeyBitBase):  # type: ignore[misc]
    """A bit that decides whether a representation is still true, by naming the scopes it was made from."""

    def get_scopes(self, params: Any, **exchange: Any) -> Iterable[str]:
        """Return the scopes, computed from the request alone, without a database query."""
        raise NotImplementedError

    def get_captures(self, params: Any) -> set[str]:
        """Return the names of the URL's captures that the scopes are made from; `*` (the default) for any of them."""
        return {"*"}

    def get_data(self, params: Any, request: Any, **exchange: Any) -> dict[str, str]:
        """Return each scope's present stamp, for a key function that is used alone (drf-extensions' decorators).

        An open scope gets a new random token each time, so that nothing made while it is open is found again.
        """
        scopes = stamps.scope_names(self.get_scopes(params=params, request=request, **exchange))
        return {scope: (stamp or stamps.new()).hex() for scope, stamp in _stamps_of(request, scopes).items()}


class UpdatedAtKeyBit(FreshnessKeyBit):
    """The scopes given, as a string, several strings, or a function of the view, the request and the URL.

    In a string, `{name}` stands for the URL's capture of that name: `UpdatedAtKeyBit("gallery:{slug}")`. A function
    is called with the keyword arguments `view_instance`, `view_method`, `request`, `args` and `kwargs`, and returns
    the scopes themselves, as one string or several. As with every bit, the scopes can also be given to the
    constructor: `params={"updated_at": "gallery:{slug}"}`. Raises `ImproperlyConfigured` for a family (`gallery:*`): a
    change of a member does not close it, so declare a plain scope (`galleries`) for what any of them ends.
    """

    def __init__(self, scope: ScopeSource | None = None) -> None:
        super().__init__(params=scope)
        _refuse_families(scope)

    def get_scopes(self, params: Any, **exchange: Any) -> Iterable[str]:
        _refuse_families(params)
        return _named(params, exchange)

    def get_captures(self, params: Any) -> set[str]:
        if callable(params):
            return super().get_captures(params)
        templates = (params,) if isinstance(params, str) else params or ()
        return {path for template in templates for path in parse(template).paths}


class PurgeKeyBit(KeyBitBase):  # type: ignore[misc]
    """More scopes that purge the answer from the caches in front, given as to `UpdatedAtKeyBit`; not part of the key.

    Use it for changes that only those caches need to be told of, because they close the scopes of freshness anyway: a
    takedown, whose purge is hard. A family (`takedown:*`) stands for members that the request does not name; with one,
    the server itself shows no stale answer, whatever `stale_while_revalidate` allows.
    """

    def __init__(self, scope: ScopeSource | None = None) -> None:
        super().__init__(params=scope)

    def get_scopes(self, params: Any, **exchange: Any) -> Iterable[str]:
        return _named(params, exchange)

    def get_data(self, **exchange: Any) -> None:
        """Return None: the bit neither tells representations apart nor decides whether one is true."""


def _named(source: Any, exchange: Mapping[str, Any]) -> list[str]:
    """Return the scopes that `source` names. Those of a function are not templates: a client may have put braces in."""
    if callable(source):
        named = source(**exchange)
        return [named] if isinstance(named, str) else list(named or ())
    templates = (source,) if isinstance(source, str) else source
    return [_filled(template, exchange["kwargs"]) for template in templates or ()]


def _refuse_families(source: ScopeSource | None) -> None:
    """Raise for a family among the scopes as they are written; a client may have put a `*` into others."""
    templates = () if source is None or callable(source) else (source,) if isinstance(source, str) else source
    for template in templates:
        if stamps.is_family(template):
            raise ImproperlyConfigured(
                f"An UpdatedAtKeyBit names the family {template!r}, which no change of a single member closes: declare "
                "a plain scope for all rows of the model beside the fine one, and name that."
            )


def _filled(scope: str, kwargs: Mapping[str, Any]) -> str:
    return scope.format_map(kwargs) if "{" in scope else scope


def _stamps_of(request: Any, scopes: tuple[str, ...]) -> dict[str, stamps.Stamp | None]:
    """Return the present stamps, read once a request: with two readings, a new body could get an old ETag."""
    seen: dict[str, stamps.Stamp | None] = request.__dict__.setdefault("_keybits_stamps", {})
    missing = [scope for scope in scopes if scope not in seen]
    if missing:
        seen.update(zip(missing, get_store().mint(missing), strict=True))
    return {scope: seen[scope] for scope in scopes}
