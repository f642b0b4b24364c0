"""Which mistakes in a deployment's settings are reported before its first request: system checks, with ids and hints.

They look at the settings alone: modules are imported and folders inspected, but nothing is connected to, opened or
created. `docs/settings.md` explains every id.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any, get_type_hints

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.module_loading import import_string

from keybits import changes, edge
from keybits.conf import Conf, conf
from keybits.envelopes import strangers
from keybits.stores import Store
from keybits.warming import WarmingError, base_url

__all__ = ["check_middleware", "check_settings", "check_store"]

PREFIX = "KEYBITS_"
SMALLEST_MAP = 1024 * 1024
HOST_MIDDLEWARE = "keybits.middleware.host_middleware"
COOKIELESS_MIDDLEWARE = "keybits.middleware.cookieless_middleware"
LMDB_STORE = "keybits.stores.lmdb.LMDBStore"
REDIS_STORE = "keybits.stores.redis.RedisStore"
REDIS_CACHE = "django_redis.cache.RedisCache"


def check_store(**_: Any) -> list[CheckMessage]:
    """Check that the store can be used, that every process reaches the same one, and that it reports failures."""
    store = _imported(conf.STORE)
    missing = sorted(name for name in _protocol() if not callable(getattr(store, name, None)))
    if store is None or missing:
        return [_unusable_store(missing if store else [])]
    if _is_kind_of(store, LMDB_STORE):
        return list(_lmdb()) if _is_well_typed("LMDB_PATH") else []
    return list(_redis()) if _is_kind_of(store, REDIS_STORE) else []


def check_settings(**_: Any) -> list[CheckMessage]:
    """Check that every `KEYBITS_*` setting exists and has a valid value."""
    return [
        *_unknown(),
        *_mistyped(),
        *_too_small(),
        *_packages(),
        *_choices(),
        *_durations(),
        *_replicas(),
        *_purgers(),
        *_metrics(),
        *_warm_base_url(),
        *_transactions(),
    ]


def check_middleware(**_: Any) -> list[CheckMessage]:
    """Check that no middleware undoes what keybits decides."""
    installed = [(name, _imported(name)) for name in settings.MIDDLEWARE]
    strange = _strange(installed) if _is_well_typed("FASTPATH_MIDDLEWARE") else ()
    return [*_host(name for name, _ in installed), *_harmful(installed), *strange]


# --- The store ----------------------------------------------------------------------------------------------


def _protocol() -> list[str]:
    return [name for name, member in vars(Store).items() if callable(member) and not name.startswith("_")]


def _unusable_store(missing: list[str]) -> CheckMessage:
    wrong = f"lacks {', '.join(missing)}" if missing else "cannot be imported"
    return Error(
        f"KEYBITS_STORE is {conf.STORE!r}, which {wrong}.",
        hint=f"Set it to a class with the methods of keybits.stores.Store: {LMDB_STORE!r} for the processes of "
        f"one machine, {REDIS_STORE!r} for those of several.",
        id="keybits.E001",
    )


def _lmdb() -> Iterator[CheckMessage]:
    folder = conf.LMDB_PATH
    if not folder.is_absolute():
        yield Warning(
            f"KEYBITS_LMDB_PATH is {str(folder)!r}, relative to the folder that each process starts in.",
            hint="Use an absolute path. Processes with different folders do not see each other's changes, and "
            "serve stale answers.",
            id="keybits.W001",
        )
    ground = _nearest_existing(folder.absolute())
    if not (ground.is_dir() and os.access(ground, os.W_OK | os.X_OK)):
        yield Error(
            f"KEYBITS_LMDB_PATH is {str(folder)!r}, and this process cannot write to {str(ground)!r}.",
            hint="Set it to a folder on a local disk that every process of this host may write to.",
            id="keybits.E002",
        )
    size = getattr(settings, "KEYBITS_LMDB_MAP_SIZE", SMALLEST_MAP)
    if not _is_whole(size) or size < SMALLEST_MAP:
        yield Error(
            f"KEYBITS_LMDB_MAP_SIZE is {size!r}.",
            hint="Set it to a whole number of bytes, at least 1,048,576 (1 MiB). Disk space is used only as needed.",
            id="keybits.E003",
        )


def _nearest_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _redis() -> Iterator[CheckMessage]:
    alias = conf.CACHE_ALIAS
    cache = settings.CACHES.get(alias, {})
    if not _is_kind_of(_imported(cache.get("BACKEND", "")), REDIS_CACHE):
        yield Error(
            f"KEYBITS_STORE is {conf.STORE!r}, but CACHES[{alias!r}] is not a django-redis cache.",
            hint=f"Set its BACKEND to {REDIS_CACHE!r}, or set KEYBITS_CACHE_ALIAS to a cache with that backend.",
            id="keybits.E004",
        )
    default = getattr(settings, "DJANGO_REDIS_IGNORE_EXCEPTIONS", False)
    if cache.get("OPTIONS", {}).get("IGNORE_EXCEPTIONS", default):
        yield Error(
            f"CACHES[{alias!r}] ignores exceptions: a failed invalidation would look like a successful one.",
            hint="Remove DJANGO_REDIS_IGNORE_EXCEPTIONS, and IGNORE_EXCEPTIONS from its OPTIONS. When Redis "
            "cannot be read, keybits answers from the database.",
            id="keybits.E005",
        )


# --- The settings -------------------------------------------------------------------------------------------


@cache
def _annotations() -> dict[str, Any]:
    """Return the type of each setting, by its name without the prefix."""
    members = vars(Conf).items()
    return {name: get_type_hints(it.fget)["return"] for name, it in members if isinstance(it, property)}


def _names() -> list[str]:
    return [f"{PREFIX}{name}" for name in _annotations()]


def _unknown() -> Iterator[CheckMessage]:
    names = _names()
    for name in sorted(set(dir(settings))):
        if name.startswith(PREFIX) and name not in names:
            nearest = "".join(get_close_matches(name, names, n=1))
            hint = f"Did you mean {nearest}? " if nearest else ""
            yield Error(
                f"There is no setting {name}.",
                hint=f"{hint}The settings are {', '.join(sorted(names))}.",
                id="keybits.E006",
            )


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(each, str) for each in value)


_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str: ("a string", lambda value: isinstance(value, str)),
    Path: ("the path of a folder", lambda value: isinstance(value, str | Path)),
    list[str]: ("a list of strings", _is_list_of_texts),
}
"""The name and the test of each type, except of numbers and dicts, which have checks of their own below."""


def _is_well_typed(name: str) -> bool:
    _, is_one = _TYPES.get(_annotations()[name], ("", lambda value: True))
    return not hasattr(settings, f"{PREFIX}{name}") or is_one(getattr(settings, f"{PREFIX}{name}"))


def _mistyped() -> Iterator[CheckMessage]:
    for name, declared in _annotations().items():
        if not _is_well_typed(name) and name not in _CHOICES:
            yield Error(
                f"{PREFIX}{name} is {getattr(settings, f'{PREFIX}{name}')!r}.",
                hint=f"Set it to {_TYPES[declared][0]}, or remove it to use the default.",
                id="keybits.E015",
            )


_LEAST = {
    "BULK_LIMIT": (1, "rows"),
    "ENTRY_TTL": (1, "seconds"),
    "IDEMPOTENCY_TTL": (1, "seconds"),
    "MAX_ENTRY_BYTES": (1, "bytes"),
    "MEMORY_BYTES": (0, "bytes"),
    "STAMP_LEASE": (1, "seconds"),
}


def _too_small() -> Iterator[CheckMessage]:
    for name, (least, unit) in _LEAST.items():
        value = getattr(settings, f"{PREFIX}{name}", least)
        if not _is_whole(value) or value < least:
            yield Error(
                f"{PREFIX}{name} is {value!r}.",
                hint=f"Set it to a whole number of {unit}, at least {least}, or remove it to use the default.",
                id="keybits.E007",
            )


def _packages() -> Iterator[CheckMessage]:
    for package in conf.FINGERPRINT_PACKAGES if _is_well_typed("FINGERPRINT_PACKAGES") else []:
        if not _is_package(package):
            yield Error(
                f"KEYBITS_FINGERPRINT_PACKAGES has {package!r}, whose source cannot be read.",
                hint="List packages (folders of modules) that can be imported. After a change of code that is not "
                "listed, entries made by the old code stay in use.",
                id="keybits.E008",
            )


_CHOICES = {
    "RELAY": ("thread", "external", "off"),
    "WRITE_POLICY": ("record", "refuse"),
    "TRACKING": ("triggers", "signals"),
    "AUDIT": ("off", "log", "raise"),
}


def _choices() -> Iterator[CheckMessage]:
    for name, choices in _CHOICES.items():
        value = getattr(settings, f"{PREFIX}{name}", choices[0])
        if value not in choices:
            yield Error(
                f"{PREFIX}{name} is {value!r}.",
                hint=f"Set it to one of {', '.join(map(repr, choices))}, or remove it to use the default.",
                id="keybits.E009",
            )


def _durations() -> Iterator[CheckMessage]:
    names = [name for name, declared in _annotations().items() if declared is float]
    wrong = [name for name in names if not _is_duration(name, getattr(settings, f"{PREFIX}{name}", 1))]
    for name in wrong:
        yield Error(
            f"{PREFIX}{name} is {getattr(settings, f'{PREFIX}{name}')!r}.",
            hint=f"Set it to a number of seconds{'' if name in _MAY_BE_0 else ' above 0'}, "
            "or remove it to use the default.",
            id="keybits.E010",
        )
    for shorter, longer, otherwise in _IN_ORDER:
        if shorter not in wrong and longer not in wrong and getattr(conf, shorter) >= getattr(conf, longer):
            yield Error(
                f"{PREFIX}{shorter} is not less than {PREFIX}{longer}: {otherwise}.",
                hint=f"Shorten the first ({getattr(conf, shorter)} s) or lengthen the second "
                f"({getattr(conf, longer)} s).",
                id="keybits.E011",
            )


_IN_ORDER = (("RELAY_INTERVAL", "RELAY_BOUND", "no entry would be believed between two looks of a relay"),)


_MAY_BE_0 = ("PURGE_AGAIN",)


def _is_duration(name: str, value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value < float("inf") or (value == 0 and name in _MAY_BE_0)


def _replicas() -> Iterator[CheckMessage]:
    for alias in conf.REPLICAS if _is_well_typed("REPLICAS") else []:
        if alias not in settings.DATABASES or alias == DEFAULT_DB_ALIAS:
            yield Error(
                f"KEYBITS_REPLICAS has {alias!r}, which is not a replica in DATABASES.",
                hint=f"DATABASES has {', '.join(map(repr, settings.DATABASES))}; list the replicas of "
                f"{DEFAULT_DB_ALIAS!r}. Stale rows read from a replica that is not listed can be cached.",
                id="keybits.E012",
            )


def _purgers() -> Iterator[CheckMessage]:
    try:
        configured = edge.purgers()
    except ImproperlyConfigured as error:
        yield Error(
            str(error),
            hint="docs/purging.md describes every BACKEND and its options. With this value, every answer fails.",
            id="keybits.E013",
        )
        return
    if configured and not _records_changes():
        yield Warning(
            "KEYBITS_PURGERS are not told of any change: the database keeps no record of changes.",
            hint="Set KEYBITS_TRACKING to 'triggers', on PostgreSQL or SQLite, or remove the purgers: caches "
            "that are not purged show stale answers for as long as they may hold them.",
            id="keybits.W007",
        )
    if configured and COOKIELESS_MIDDLEWARE not in settings.MIDDLEWARE:
        yield Warning(
            f"MIDDLEWARE lacks {COOKIELESS_MIDDLEWARE!r}: shared caches may give one client's cookies to all.",
            hint="Put it before every middleware that may set a cookie, including those for sessions and CSRF.",
            id="keybits.W012",
        )


def _metrics() -> Iterator[CheckMessage]:
    if conf.METRICS and util.find_spec("prometheus_client") is None:
        yield Error(
            "KEYBITS_METRICS is on, but prometheus-client is not installed: no server would start.",
            hint="Install the extra `metrics`, or set KEYBITS_METRICS to False.",
            id="keybits.E014",
        )


def _warm_base_url() -> Iterator[CheckMessage]:
    try:
        if conf.WARM_BASE_URL and _is_well_typed("WARM_BASE_URL"):
            base_url(conf.WARM_BASE_URL)
    except WarmingError as error:
        yield Error(
            f"KEYBITS_WARM_BASE_URL: {error}",
            hint="`manage.py warm`, and the warming after a purge, request pages from this address.",
            id="keybits.E016",
        )


def _transactions() -> Iterator[CheckMessage]:
    """Warn where every request is a transaction that may read an old snapshot: see `transactions.may_store`."""
    for alias, database in settings.DATABASES.items():
        always = database.get("ATOMIC_REQUESTS") or not database.get("AUTOCOMMIT", True)
        vendor = connections[alias].vendor
        if always and vendor != "postgresql":
            yield Warning(
                f"DATABASES[{alias!r}] puts every request in a transaction: on {vendor} no answer is cached then.",
                hint="Remove ATOMIC_REQUESTS (and AUTOCOMMIT), and put writes that belong together in "
                "transaction.atomic(), as keybits does. Except on PostgreSQL, such a transaction may read an old "
                "snapshot.",
                id="keybits.W011",
            )


def _records_changes() -> bool:
    return conf.TRACKING == "triggers" and changes.can_be_kept(connections[DEFAULT_DB_ALIAS].vendor)


def _is_package(name: str) -> bool:
    try:
        spec = util.find_spec(name)
    except (ImportError, ValueError):  # a parent that does not exist; an empty or relative name
        return False
    return spec is not None and spec.submodule_search_locations is not None


# --- The middleware -----------------------------------------------------------------------------------------


def _host(installed: Iterable[str]) -> Iterator[CheckMessage]:
    if HOST_MIDDLEWARE not in installed:
        yield Warning(
            f"MIDDLEWARE lacks {HOST_MIDDLEWARE!r}: hits are served to any Host, whatever ALLOWED_HOSTS says, and rows "
            "that permissions or middlewares have read may be shown after they have changed.",
            hint="Put it first.",
            id="keybits.W002",
        )


_HARMFUL = (
    (
        ("django.middleware.common.CommonMiddleware",),
        "adds Content-Length: 0 to a 304, which a cache may take for the length of its stored response",
        "Remove it; keybits.middleware.content_length_middleware sets Content-Length where an answer may have it.",
        "keybits.W003",
    ),
    (
        ("django.middleware.gzip.GZipMiddleware",),
        "pads every body at random, ignores q-values and weakens the ETag",
        "Remove it, and compress in the server or the proxy in front.",
        "keybits.W004",
    ),
    (
        ("django.middleware.http.ConditionalGetMiddleware",),
        "decides about 304 and 412 a second time, and drops fields such as Cache-Status from its 304",
        "Remove it; cached views answer conditional requests themselves.",
        "keybits.W005",
    ),
    (
        ("django.middleware.cache.UpdateCacheMiddleware", "django.middleware.cache.FetchFromCacheMiddleware"),
        "stores answers for a fixed time, whatever is written meanwhile, and serves them stale",
        "Remove Django's cache middleware; keybits stops serving an entry when it is no longer true.",
        "keybits.W006",
    ),
)


def _harmful(installed: Iterable[tuple[str, Any]]) -> Iterator[CheckMessage]:
    for name, middleware in installed:
        for kinds, harm, hint, check_id in _HARMFUL:
            if any(_is_kind_of(middleware, kind) for kind in kinds):
                also = (
                    f"{hint} While it is installed, every request goes through Django."
                    if conf.FASTPATH
                    else hint
                )
                yield Warning(f"MIDDLEWARE has {name!r}, which {harm}.", hint=also, id=check_id)


def _strange(installed: Iterable[tuple[str, Any]]) -> Iterator[CheckMessage]:
    """Warn of middlewares that keep the fast path from answering, unless another check warns of them."""
    sound = {name for name, found in installed if found is not None and not list(_harmful([(name, found)]))}
    unknown = [name for name in strangers() if name in sound] if conf.FASTPATH else []
    if unknown:
        yield Warning(
            f"KEYBITS_FASTPATH has no effect: keybits does not know what {', '.join(unknown)} may read, or add.",
            hint="List middlewares that add the same fields to every public answer in "
            "KEYBITS_FASTPATH_MIDDLEWARE, remove the others, or set KEYBITS_FASTPATH to False.",
            id="keybits.W008",
        )


def _imported(path: str) -> Any:
    """Return what the dotted path names, or None; the code that uses the setting reports what is wrong with it."""
    try:
        return import_string(path)
    except ImportError:
        return None


def _is_kind_of(found: Any, path: str) -> bool:
    kind = _imported(path)
    return isinstance(found, type) and isinstance(kind, type) and issubclass(found, kind)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
