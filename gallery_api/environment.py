"""The environment, read strictly: an empty variable counts as unset, and an invalid one is refused by name.

Every function raises `ImproperlyConfigured` for an invalid value while the settings are read, because servers run no
system checks.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from environ import Env

__all__ = [
    "base_url",
    "boolean",
    "choice",
    "database",
    "folder",
    "hosts",
    "json_object",
    "names",
    "origin",
    "rate",
    "redis_url",
    "seconds",
    "text",
    "whole",
]

T = TypeVar("T")

BOOLEANS = dict.fromkeys(("true", "yes", "y", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "n", "off", "0"), False
)
ENGINES = frozenset({"django.db.backends.postgresql", "django.db.backends.sqlite3"})
HOST = re.compile(r"\*|[a-z0-9.-]+|\[[a-f0-9:.]+\]", re.IGNORECASE)
MOST = 2**31 - 1
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9.-]+|\[[a-f0-9:.]+\])(:[1-9]\d{0,4})?", re.ASCII)
RATE = re.compile(r"[1-9]\d{0,8}/(s|sec|second|m|min|minute|h|hour|d|day)", re.ASCII)


def text(name: str, *, default: str) -> str:
    given = os.environ.get(name, "")
    return given if given.strip() else default


def boolean(name: str, *, default: bool) -> bool:
    return _read(name, lambda given: BOOLEANS[given.lower()], default, "true or false")


def whole(name: str, *, default: int, least: int = 0, most: int = MOST) -> int:
    """Return a whole number from `least` to `most`."""

    def parse(given: str) -> int:
        return _sound(int(given), least <= int(given) <= most)

    return _read(name, parse, default, f"a whole number from {least} to {most}")


def seconds(name: str, *, default: float, may_be_zero: bool = False) -> float:
    """Return a number of seconds above 0, or from 0 on."""

    def parse(given: str) -> float:
        return _sound(float(given), 0 < float(given) <= MOST or (may_be_zero and float(given) == 0))

    return _read(name, parse, default, f"a number of seconds {'from 0 on' if may_be_zero else 'above 0'}")


def choice(name: str, choices: Collection[str], *, default: str) -> str:
    """Return one of `choices`; case is ignored."""
    known = {each.lower(): each for each in choices}
    return _read(name, lambda given: known[given.lower()], default, f"one of {', '.join(choices)}")


def names(name: str, *, default: list[str]) -> list[str]:
    return _read(name, _members, default, "names separated by commas")


def hosts(name: str, *, default: list[str]) -> list[str]:
    def parse(given: str) -> list[str]:
        found = [_sound(each, HOST.fullmatch(each)) for each in _members(given)]
        return _sound(found, found)

    accepted = "host names without scheme or port, separated by commas; .example.org includes its subdomains"
    return _read(name, parse, default, accepted)


def origin(name: str, *, default: str) -> str:
    """Return an origin as browsers write it in the field Origin (RFC 6454 section 6.1), or `*`."""

    def parse(given: str) -> str:
        is_short = not re.match(r"http:.*:80$|https:.*:443$", given)
        return _sound(given, given == "*" or (ORIGIN.fullmatch(given) and is_short))

    accepted = (
        "* or one origin as browsers write it, such as https://app.example, in lower case, with no path"
    )
    return _read(name, parse, default, accepted)


def rate(name: str, *, default: str) -> str:
    accepted = "number/period, such as 600/min, with a number from 1 on and the period s, min, h or d"
    return _read(name, lambda given: _sound(given, RATE.fullmatch(given)), default, accepted)


def folder(name: str, *, default: Path, holding: Collection[str] = ()) -> Path:
    """Return the path of a folder, which is created if it is missing, and so are the folders `holding` in it."""
    path = Path(text(name, default=str(default)))
    try:
        for each in (path, *(path / child for child in holding)):
            each.mkdir(parents=True, exist_ok=True)
    except OSError:
        accepted = "the path of a folder that exists or can be created, and that this process may write to"
        raise _refusal(name, repr(str(path)), accepted) from None
    return path


def base_url(name: str, *, default: str) -> str:
    def parse(given: str) -> str:
        url = urlsplit(given)
        is_origin = url.hostname and url.port != 0 and given.rstrip("/") == f"{url.scheme}://{url.netloc}"
        return _sound(given, is_origin and url.scheme in {"http", "https"} and "@" not in url.netloc)

    return _read(name, parse, default, "scheme and host, such as https://gallery.example", is_secret=True)


def redis_url(name: str, *, default: str) -> str:
    return _read(name, _redis_url, default, "a URL such as redis://host:6379/0", is_secret=True)


def database(name: str, *, default: str) -> dict[str, Any]:
    """Return an entry of `DATABASES`: of PostgreSQL, or of SQLite in a file, which all threads and processes share.

    Django's connection pool is refused: with persistent connections it raises.
    """
    accepted = (
        "a URL such as postgres://user:password@host:5432/name, without a pool, or sqlite:////path/of/a/file"
    )
    return _read(name, _database, None, accepted, is_secret=True) or _database(default)


def json_object(name: str, *, default: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object whose members are objects."""

    def parse(given: str) -> dict[str, Any]:
        found = json.loads(given)
        return _sound(found, isinstance(found, dict) and all(isinstance(it, dict) for it in found.values()))

    return _read(name, parse, default, "a JSON object of objects", is_secret=True)


def _read(name: str, parse: Callable[[str], T], default: T, accepted: str, *, is_secret: bool = False) -> T:
    given = os.environ.get(name, "").strip()
    if not given:
        return default
    try:
        return parse(given)
    except (ValueError, KeyError, TypeError):
        shown = "something else" if is_secret else repr(given)
    raise _refusal(name, shown, accepted)  # outside the `except`, so that no cause shows a secret


def _refusal(name: str, shown: str, accepted: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{name} is {shown}; write {accepted}.")


def _sound(value: T, is_sound: object) -> T:
    if not is_sound:
        raise ValueError(value)
    return value


def _members(given: str) -> list[str]:
    return [each.strip() for each in given.split(",") if each.strip()]


def _redis_url(given: str) -> str:
    from redis import ConnectionPool  # noqa: PLC0415 - slow to import, and not every deployment has Redis

    ConnectionPool.from_url(given).make_connection()  # does not connect yet
    url = urlsplit(given)
    is_of_a_database = re.fullmatch(r"\d*", url.path.strip("/"), re.ASCII)
    return _sound(given, url.path if url.scheme == "unix" else is_of_a_database)


def _database(given: str) -> dict[str, Any]:
    _sound(given, Env.DB_SCHEMES[given.partition("://")[0]] in ENGINES)
    found: dict[str, Any] = Env.db_url_config(given)
    options = found.get("OPTIONS", {})
    _sound(found, "pool" not in options and isinstance(found.get("CONN_MAX_AGE"), int | None))
    return _sound(found, (found["NAME"] or options.get("service")) and found["NAME"] != ":memory:")
