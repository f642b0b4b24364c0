"""Whom an answer is for: everybody, or only those whom a credential, or code of the project's own, has let in.

Where more than the method, the address and the user decides, keybits does not know what does. Caches in front are then
not given the answer, and what a permission says of one object is not remembered for another request.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.timezone import get_current_timezone_name, get_default_timezone_name
from django.utils.translation import get_language, get_language_from_path, get_language_from_request
from rest_framework.permissions import BasePermission, DjangoModelPermissions, IsAdminUser, IsAuthenticated
from rest_framework.request import Request

from keybits.bits import FreshnessKeyBit, OriginKeyBit, PurgeKeyBit, user_class
from keybits.constructors import KeyConstructor, headers_named
from keybits.drf.closed import OPEN_TO_ALL, is_known, is_said_closed
from keybits.lookups import WatchedDict, unwatched
from keybits.query import Query

__all__ = [
    "COOKIES",
    "Locale",
    "chooses_charset",
    "credentialed",
    "has_chosen_locale",
    "has_unknown_bit",
    "is_for_some",
    "lacks_primary_key",
    "names_cookies",
    "shows_unknown_credential",
    "tell_caller",
    "watched_permissions",
    "watched_session",
    "whose",
]

KNOWN = OPEN_TO_ALL | {IsAuthenticated, IsAdminUser, DjangoModelPermissions}
REFUSING = ("dispatch", "initial", "check_permissions")
"""The steps in which a project's view may refuse a request, whatever it looks at."""
CHOOSING = ("determine_version", "get_content_negotiator", "get_renderers", "perform_content_negotiation")
"""The steps in which it may choose a version or a renderer: the key has what was chosen, but no `Vary` says by what."""
SHOWN = "CSRF_COOKIE_NEEDS_UPDATE"
"""What Django's `get_token` sets in META."""
COOKIES = "its cookies"
"""How a cookie that was read is named among what is the visitor's own."""
Mine = tuple[frozenset[str], Hashable]
"""What an answer is kept for: see `whose`."""
UTF_8 = frozenset({"utf-8", "utf8"})
PARTS = ("op1_class", "op2_class", "op1", "op2")
"""The attributes in which REST framework's `&`, `|` and `~` keep what they combine."""


def credentialed(request: Request) -> bool:
    """Return whether the client sent a credential, valid or not: such an answer is `private, no-store`."""
    asked = request._request
    if "HTTP_AUTHORIZATION" in asked.META or settings.SESSION_COOKIE_NAME in _cookies(asked):
        return True
    return request.auth is not None or _is_somebody(request.user)


def lacks_primary_key(request: Request) -> bool:
    """Return whether the user has no primary key, and so cannot be told from others without one."""
    return _is_somebody(request.user) and request.user.pk is None


def shows_unknown_credential(request: Request, constructor: KeyConstructor) -> bool:
    """Return whether the client sent a credential that signed nobody in, and that no bit of the key names.

    It may have led to a guest: a user with a primary key who is not authenticated. A permission or the view may act on
    it, although the key cannot tell such clients apart.
    """
    if _is_somebody(request.user):
        return False
    named = headers_named(constructor)
    if "HTTP_AUTHORIZATION" in request._request.META and "authorization" not in named:
        return True
    shown = request.auth is not None or getattr(request.user, "pk", None) is not None
    return shown and not named and not has_unknown_bit(constructor)


def chooses_charset(view: Any, request: Request) -> bool:
    """Return whether the client says in which charset its query is written, and so what the address means.

    Django's WSGI handler reads a query by the charset of Content-Type, which no key and no `Vary` names; links are
    written in UTF-8 all the same. A closed query is always read as UTF-8.
    """
    asked: Any = request._request
    if asked.encoding is None or not asked.META.get("QUERY_STRING"):
        return False
    said = (asked.content_params or {}).get("charset", "utf-8").lower()
    return said not in UTF_8 and not isinstance(getattr(view, "query", None), Query)


def _is_somebody(user: Any) -> bool:
    return bool(user and user.is_authenticated)


def is_for_some(view: Any) -> bool:
    """Return whether a permission, or a step that the view overrides, may look at more than `closed` allows."""
    if not vars(view).keys().isdisjoint(REFUSING + CHOOSING):  # given to `as_view`
        return True
    kind: Any = type(view)
    return bool(_unknown(view)) or _looks_further(kind, view.versioning_class, view.content_negotiation_class)


@lru_cache(maxsize=1024)
def _looks_further(view: Any, versioning: Any, negotiation: Any) -> bool:
    """Return whether the project overrides a step that decides what is shown, or to whom."""
    return not (
        all(is_known(view, step) for step in REFUSING + CHOOSING)
        and (versioning is None or is_known(versioning, "determine_version"))
        and is_known(negotiation, "select_renderer")
    )


@lru_cache(maxsize=1024)
def has_unknown_bit(constructor: KeyConstructor) -> bool:
    """Return whether a bit depends on what no `Vary` can name: the project's own, or one of META but of no header."""
    apart = (bit for bit in constructor.bits.values() if not isinstance(bit, FreshnessKeyBit | PurgeKeyBit))
    return "*" in headers_named(constructor) or not all(is_known(type(bit), "get_data") for bit in apart)


@lru_cache(maxsize=1024)
def names_cookies(constructor: KeyConstructor) -> bool:
    """Return whether the key names all cookies, or has a bit of the project's own, which may name one."""
    return "cookie" in headers_named(constructor) or has_unknown_bit(constructor)


class Locale(NamedTuple):
    """The language and the time zone that are active.

    A request looks at them once, because each look is one at asgiref's context (`python -m benchmarks in_process`).
    """

    language: str | None
    zone: str

    @classmethod
    def active(cls) -> Locale:
        """Return the locale of the request that this thread or task answers."""
        return cls(get_language(), get_current_timezone_name())


def has_chosen_locale(request: Request, constructor: KeyConstructor, locale: Locale) -> bool:
    """Return whether the language or the time zone was, or may have been, chosen by what no `Vary` names.

    Django's LocaleMiddleware looks at a cookie before Accept-Language, but names only Accept-Language in `Vary`. A
    project's own middleware may look at anything; where the key names a header or the host, it is assumed to use that.
    """
    asked: Any = request._request
    if hasattr(asked, "LANGUAGE_CODE") and settings.LANGUAGE_COOKIE_NAME in _cookies(asked):
        return True
    if locale.language != settings.LANGUAGE_CODE and not _is_asked_for(asked, locale.language):
        return not _names_more(constructor)
    return locale.zone != get_default_timezone_name() and not _names_more(constructor)


def _is_asked_for(asked: Any, language: str | None) -> bool:
    """Return whether the language is the one that Django's LocaleMiddleware would choose by path or header field."""
    if not hasattr(asked, "LANGUAGE_CODE"):
        return False
    return language in {get_language_from_request(asked), get_language_from_path(asked.path_info)}


@lru_cache(maxsize=1024)
def _names_more(constructor: KeyConstructor) -> bool:
    """Return whether the key names a header field or the host, which caches in front know of; default keys do not."""
    return bool(headers_named(constructor)) or any(
        isinstance(bit, OriginKeyBit) for bit in constructor.bits.values()
    )


@contextmanager
def watched_permissions(view: Any) -> Iterator[list[str]]:
    """Yield a list that collects the unknown checks made of an object in the block: permissions, or the view's own."""
    asked: list[str] = []
    given, check = vars(view).get("check_object_permissions"), view.check_object_permissions

    def note(request: Request, obj: Any) -> None:
        if given or not is_known(type(view), "check_object_permissions"):
            asked.append("check_object_permissions")
        asked.extend(kind.__name__ for kind in _unknown(view) if _is_asked_of_objects(kind))
        check(request, obj)

    vars(view)["check_object_permissions"] = note
    try:
        yield asked
    finally:
        del vars(view)["check_object_permissions"]
        if given:
            view.check_object_permissions = given


@contextmanager
def watched_session(asked: Any, mine: Mine) -> Iterator[list[str]]:
    """Yield a list that collects what is read in the block of the visitor's own: session, CSRF token, cookies.

    Django keeps messages in a cookie unless told otherwise. An answer that the block asks another view for may be the
    visitor's own too (`tell_caller`): `mine` is what the answer being made is kept for.
    """
    looked: list[str] = []
    session, cookies = getattr(asked, "session", None), asked.COOKIES
    asked.COOKIES = _Cookies(cookies, looked, mine)
    asked_for_token = asked.META.pop(SHOWN, None)
    accessed = getattr(session, "accessed", False)
    if session is not None:
        session.accessed = False
    try:
        yield looked
    finally:
        asked.COOKIES = cookies
        looked += ["the CSRF token"] if SHOWN in asked.META else []
        if asked_for_token is not None:
            asked.META[SHOWN] = asked_for_token
        if session is not None:
            looked += ["the session"] if session.accessed else []
            session.accessed = accessed or session.accessed


class _Cookies(WatchedDict):
    """The cookies of a request, which note in a list that they are read, or changed for those who read them then."""

    def __init__(self, cookies: dict[str, str], looked: list[str], mine: Mine) -> None:
        super().__init__(cookies)
        self.looked, self.mine = looked, mine

    def looked_through(self) -> None:
        if COOKIES not in self.looked:
            self.looked.append(COOKIES)

    def looked_for(self, key: Any) -> None:
        self.looked_through()

    changed = looked_through


def _cookies(asked: Any) -> Any:
    """Return the cookies of a request, without noting it: keybits looks at them before a handler runs."""
    return unwatched(asked.COOKIES)


def whose(request: Request, constructor: KeyConstructor) -> Mine:
    """Return what an answer is kept for: the header fields that its key names, and the user (None: anonymous)."""
    user = (user_class(request), request.user.pk) if _is_somebody(request.user) else None
    return headers_named(constructor), user


def tell_caller(view: Any, request: Request, constructor: KeyConstructor, *, is_certain: bool) -> None:
    """Note, if a view that is cached too asks for this answer, that its own may then depend on what its key lacks.

    `is_certain` says that this answer is made from nothing but its key.
    """
    caller: Any = request._request.COOKIES
    if not isinstance(caller, _Cookies):
        return
    (named, user), (theirs, their_user) = whose(request, constructor), caller.mine
    if not (is_certain and named <= theirs and user in {None, their_user}):
        caller.looked.append(f"the answer of {type(view).__name__}")


def _unknown(view: Any) -> tuple[type[Any], ...]:
    """Return the classes of the view's permissions that keybits does not know. Only results for classes are cached."""
    if (
        "get_permissions" not in vars(view)
        and type(view).get_permissions.__module__ == "rest_framework.views"
    ):
        return _strangers(tuple(view.permission_classes))
    return _strangers.__wrapped__(tuple(view.get_permissions()))


@lru_cache(maxsize=1024)
def _strangers(permissions: tuple[Any, ...]) -> tuple[type[Any], ...]:
    kinds = (kind for permission in permissions for kind in _kinds(permission))
    return tuple(kind for kind in kinds if kind not in KNOWN and not is_said_closed(kind))


def _kinds(permission: Any) -> Iterator[type[Any]]:
    """Yield the class of a permission, or the classes of those that it combines."""
    parts = [vars(permission)[name] for name in PARTS if name in vars(permission)]
    for part in parts:
        yield from _kinds(part)
    if not parts:
        yield permission if isinstance(permission, type) else type(permission)


def _is_asked_of_objects(kind: Any) -> bool:
    asked = getattr(kind, "has_object_permission", None)
    return asked is not BasePermission.has_object_permission
