"""What middlewares put around an answer, and which of them are known to put the same around every answer.

From the settings this module decides whether the fast path may answer in front of them (`strangers`), and which
cookies forbid it (`worrying`); from an answer that was sent, what they changed and added (`envelope`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings

from keybits.conf import conf

__all__ = ["Envelope", "envelope", "put_around", "strangers", "worrying"]

CORS = frozenset({"corsheaders.middleware.CorsMiddleware", "keybits.middleware.cross_origin_middleware"})
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
KNOWN_MIDDLEWARE = frozenset(
    {
        *CORS,
        CSRF,
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "keybits.middleware.content_length_middleware",
        "keybits.middleware.cookieless_middleware",
        "keybits.middleware.host_middleware",
        "keybits.middleware.https_middleware",
        "keybits.middleware.path_middleware",
        "keybits.middleware.unread_content_middleware",
        "whitenoise.middleware.WhiteNoiseMiddleware",
    }
)
"""Middlewares whose fields depend on nothing of a public request but its method, scheme, host, path and origin."""
AMENDABLE = frozenset({"Vary"})
"""Fields that a middleware may change, depending on the values of none but these."""

OF_THE_MOMENT = frozenset({"Last-Modified", "Content-Encoding"})
"""Fields that some answers of the same content have, and that no middleware looks at."""

Fields = Sequence[tuple[str, str]]


class Envelope(NamedTuple):
    """The fields of an answer that were changed, and those that were added after them.

    `around` is all of the answer that may decide that: which fields it had, and what the `AMENDABLE` ones said.
    """

    around: str
    changed: Mapping[str, str]
    added: tuple[tuple[str, str], ...]


def strangers() -> list[str]:
    """Return the members of `MIDDLEWARE` that may read more of a request, or add fields that differ between answers.

    A project's own are strangers until `KEYBITS_FASTPATH_MIDDLEWARE` names them. Those for CORS are strangers where
    receivers of django-cors-headers' signal decide.
    """
    known = KNOWN_MIDDLEWARE.union(conf.FASTPATH_MIDDLEWARE)
    return [name for name in settings.MIDDLEWARE if name not in known or (name in CORS and _asks_receivers())]


def _asks_receivers() -> bool:
    signals: Any = import_module("corsheaders.signals")
    return bool(signals.check_request_enabled.has_listeners())


def worrying() -> re.Pattern[str]:
    """Return a pattern to search a Cookie field for: a session cookie, or a CSRF cookie that Django would replace.

    It matches too much rather than too little: Django strips white space from names, and parses values in its own way.
    """
    session, csrf = re.escape(settings.SESSION_COOKIE_NAME), re.escape(settings.CSRF_COOKIE_NAME)
    well_formed = r"=(?:[a-zA-Z0-9]{32}|[a-zA-Z0-9]{64})(?:;|\Z)"
    return re.compile(rf"{session}|{csrf}(?!{well_formed})" if CSRF in settings.MIDDLEWARE else session)


def envelope(given: Fields, sent: Fields) -> Envelope | None:
    """Return what middlewares made of the fields `given`; None where that may depend on the answer."""
    leading, added = sent[: len(given)], tuple(sent[len(given) :])
    if [name for name, _ in leading] != [name for name, _ in given]:
        return None
    changed = {name: value for (name, value), (_, own) in zip(leading, given, strict=True) if value != own}
    if changed.keys() - AMENDABLE or any(name.lower() == "set-cookie" for name, _ in added):
        return None
    return Envelope(_outline(given), changed, added)


def put_around(given: Fields, seen: Envelope) -> list[tuple[str, str]] | None:
    """Return the fields `given` as middlewares send them; None where they were `seen` to send only other fields."""
    if _outline(given) != seen.around:
        return None
    return [*((name, seen.changed.get(name, value)) for name, value in given), *seen.added]


def _outline(given: Fields) -> str:
    return "\n".join(
        f"{name}: {value}" if name in AMENDABLE else name
        for name, value in given
        if name not in OF_THE_MOMENT
    )
