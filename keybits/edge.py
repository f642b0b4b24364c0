"""The configured caches in front that are purged, and the response fields that only they read.

Only a cache that is told of every change may hold an answer for long; any other revalidates each time. So the fields
made here are those of the configured purgers, and no others.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

import httpx
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac
from django.utils.module_loading import import_string

from keybits import surrogates
from keybits.cache_control import Policy
from keybits.conf import conf, on_change
from keybits.purge import KEY_FIELDS, Order, PurgeError, Purger

__all__ = [
    "fields",
    "identities",
    "is_for_caches",
    "is_key_field",
    "joined",
    "key_fields",
    "purge",
    "purgers",
]

logger = logging.getLogger(__name__)
Field = tuple[str, str]
SEPARATORS = {name.lower(): separator for name, separator in KEY_FIELDS.items()}
TIMEOUT = 10.0
"""Seconds that a purge may take to connect, and as many to be answered."""


@lru_cache(maxsize=1)
def purgers() -> Mapping[str, Purger]:
    """Return the purgers of `KEYBITS_PURGERS` by name; the process has one instance of each."""
    return dict(_made())


def _made() -> Iterator[tuple[str, Purger]]:
    try:
        configured = list(conf.PURGERS.items())
    except (TypeError, ValueError):
        raise ImproperlyConfigured("KEYBITS_PURGERS has to be a dict of dicts.") from None
    for name, options in configured:
        try:
            yield name, _purger(options)
        except ImproperlyConfigured as error:
            raise ImproperlyConfigured(f"KEYBITS_PURGERS[{name!r}]: {error}") from error


def _purger(options: Any) -> Purger:
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ImproperlyConfigured("Write a dict of the BACKEND and its options.")
    backend = _backend(options.get("BACKEND"))
    given = {name: value for name, value in options.items() if name != "BACKEND"}
    purger = backend(httpx.Client(timeout=TIMEOUT, verify=_trusted()), **given)
    if unknown := sorted({name for name in purger.fields if name.lower() not in SEPARATORS}):
        raise ImproperlyConfigured(
            f"{backend.__name__} reads keys from {unknown[0]}, which keybits cannot write."
        )
    return purger


def identities() -> frozenset[str]:
    """Return an identity for each configured purger and its options. No option can be read from it."""
    return frozenset(_identity([name, options]) for name, options in conf.PURGERS.items())


def _identity(configured: list[Any]) -> str:
    said = json.dumps(configured, skipkeys=True, default=lambda value: type(value).__qualname__)
    return salted_hmac("keybits.edge.identities", said, algorithm="sha256").hexdigest()[:16]


@cache
def _trusted() -> ssl.SSLContext:
    """Return the trusted certificate authorities. Read once for all purgers: that takes longer than all else."""
    return httpx.create_ssl_context()


def _backend(path: Any) -> type[Purger]:
    try:
        backend = import_string(path) if isinstance(path, str) else None
    except ImportError:
        backend = None
    if isinstance(backend, type) and issubclass(backend, Purger):
        return backend
    raise ImproperlyConfigured("BACKEND has to be the dotted path of a keybits.purge.Purger.")


def purge(order: Order, names: Collection[str] = ()) -> dict[str, str]:
    """Carry out `order` at the caches of these names, or at all. Return the failures, by the name of the cache.

    A cache that fails, for whatever reason, does not keep the others from being purged.
    """
    asked = {name: purger for name, purger in purgers().items() if not names or name in names}
    return {name: failure for name, purger in asked.items() if (failure := _failure(purger, order))}


def _failure(purger: Purger, order: Order) -> str:
    try:
        purger.purge(order)
    except PurgeError as error:
        return str(error)
    except Exception as error:  # a defect of the purger, or of a function of the project
        logger.exception("%s fails", type(purger).__name__)
        return f"{type(error).__name__}; see the log"
    return ""


def fields(policy: Policy, scopes: Iterable[str]) -> list[Field]:
    """Return Cache-Control, and the lifetime and key fields that the configured caches read."""
    configured = list(purgers().values())
    holders = sorted({name for purger in configured for name in purger.holds_by})
    obeys_cache_control = any(not purger.holds_by for purger in configured)
    held = policy.for_the_edge()
    return [
        ("Cache-Control", policy.for_everybody(policy.edge.max_age if obeys_cache_control else None)),
        *((name, held) for name in holders),
        *key_fields(scopes),
    ]


def key_fields(scopes: Iterable[str]) -> list[Field]:
    """Return the surrogate key fields that the configured caches read; none if there is no such cache."""
    configured = list(purgers().values())
    names = sorted({name for purger in configured for name in purger.fields})
    if not names:
        return []
    keys = surrogates.tags(scopes, min(purger.most_keys for purger in configured if purger.fields))
    return [(name, _written(name, keys)) for name in names]


def is_key_field(name: str) -> bool:
    """Return whether a field of this name has surrogate keys."""
    return name.lower() in SEPARATORS


def is_for_caches(name: str) -> bool:
    """Return whether only caches in front read this field: a lifetime (RFC 9213), or surrogate keys."""
    said = name.lower()
    return is_key_field(name) or said == "surrogate-control" or said.endswith("cdn-cache-control")


def joined(ours: Iterable[Field], theirs: Iterable[Field]) -> tuple[Field, ...]:
    """Return our fields merged with a view's: its lifetimes replace ours, its keys are added to ours."""
    found = {name.lower(): (name, value) for name, value in ours}
    for name, value in theirs:
        present = found.get(name.lower())
        if present is None or name.lower() not in SEPARATORS:
            found[name.lower()] = (name, value)
        else:
            found[name.lower()] = (present[0], SEPARATORS[name.lower()].join([present[1], value]))
    return tuple(found.values())


def _written(name: str, keys: Iterable[str]) -> str:
    """Return the value of a key field. Cache-Groups is a List of Strings (RFC 9875 section 2, RFC 9651 section 3.1).

    Keys contain no character that would need escaping.
    """
    said = name.lower()
    quoted = (f'"{key}"' for key in keys) if said == "cache-groups" else keys
    return SEPARATORS[said].join(quoted)


on_change(purgers.cache_clear, "KEYBITS_")
