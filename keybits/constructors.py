"""How declared bits become a key and a set of scopes.

A constructor here is also a key constructor of drf-extensions: called, it returns one key that changes with identity
and freshness alike. keybits itself asks it for the two separately: `identity` is the name of the entry, and `scopes`
are those whose stamps must still be the ones that the entry was made under.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, time
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.utils.functional import Promise
from rest_framework_extensions.key_constructor import constructors as upstream
from rest_framework_extensions.key_constructor.bits import HeadersKeyBit

from keybits import bits, stamps
from keybits.entries import namespace

__all__ = [
    "DefaultKeyConstructor",
    "DefaultListKeyConstructor",
    "DefaultObjectKeyConstructor",
    "KeyConstructor",
    "captures_named",
    "headers_named",
]


class KeyConstructor(upstream.KeyConstructor):  # type: ignore[misc]  # drf-extensions is untyped
    """Declare bits as class attributes; `params` and `memoize_for_request` work as in drf-extensions."""

    def identity(self, **exchange: Any) -> str:
        """Return the entry's name: 32 hexadecimal digits, made from the identity bits and the fingerprint."""
        data = {
            name: bit.get_data(params=self._params(name, bit), **exchange)
            for name, bit in self.bits.items()
            if not isinstance(bit, bits.FreshnessKeyBit | bits.PurgeKeyBit)
        }
        return self.prepare_key({"namespace": namespace(), "bits": data})

    def scopes(self, **exchange: Any) -> tuple[str, ...]:
        """Return the scopes that the freshness bits name, and their families: sorted, each once."""
        return stamps.scope_names(self._named(bits.FreshnessKeyBit, exchange))

    def surrogates(self, **exchange: Any) -> tuple[str, ...]:
        """Return the scopes whose changes purge the answer from a shared cache, sorted, each once.

        They are those of the freshness bits and of `PurgeKeyBit`s, with a family only where a bit names it: a family
        says that the answer is made from any of its members.
        """
        return tuple(sorted(self._named(bits.FreshnessKeyBit | bits.PurgeKeyBit, exchange)))

    @property
    def tells_addresses_apart(self) -> bool:
        """Say whether each entry belongs to one path and one query, so that its headers may name them."""
        kinds = (bits.RouteKeyBit, bits.CanonicalQueryKeyBit)
        return all(any(isinstance(bit, kind) for bit in self.bits.values()) for kind in kinds)

    def prepare_key(self, key_dict: dict[str, Any]) -> str:
        """Return 32 hexadecimal digits for the data of the bits, whatever their order."""
        return hashlib.blake2b(_text(key_dict).encode(), digest_size=16).hexdigest()

    def _named(self, kind: Any, exchange: dict[str, Any]) -> set[str]:
        return {
            scope
            for name, bit in self.bits.items()
            if isinstance(bit, kind)
            for scope in bit.get_scopes(params=self._params(name, bit), **exchange)
        }

    def _params(self, name: str, bit: Any) -> Any:
        return self.params[name] if name in self.params else getattr(bit, "params", None)


@lru_cache(maxsize=1024)
def headers_named(constructor: KeyConstructor) -> frozenset[str]:
    """Return the request headers that tell representations apart, in lower case; `*` where anything of a request may.

    Caches in front are told of them by `Vary`. This is not an attribute, because a bit may be called `headers`.
    """
    named: set[str] = set()
    for name, bit in constructor.bits.items():
        if isinstance(bit, HeadersKeyBit | bits.RequestMetaKeyBit):
            named |= {_header(str(each)) for each in constructor._params(name, bit) or ()}
    return frozenset(named)


@lru_cache(maxsize=1024)
def captures_named(constructor: KeyConstructor) -> frozenset[str]:
    """Return the names of the URL's captures that the scopes of freshness are made from; `*` where any may be."""
    named = (
        bit.get_captures(constructor._params(name, bit))
        for name, bit in constructor.bits.items()
        if isinstance(bit, bits.FreshnessKeyBit)
    )
    return frozenset().union(*named)


def _header(name: str) -> str:
    """Return the header that a bit names, as a header or as a key of META; `*` for a key of META that is no header."""
    lower = name.lower().replace("_", "-")
    return lower.removeprefix("http-") if lower.startswith("http-") or "_" not in name else "*"


def _plain(value: Any) -> str:
    """Return text for values of URLs and settings that are not JSON; refuse others, whose texts might coincide."""
    if isinstance(value, UUID | date | time | Decimal | Promise):
        return f"{type(value).__name__}:{value}"
    raise TypeError(
        f"A key bit returned a {type(value).__name__}; return text, numbers, lists or dicts of them."
    )


_text = json.JSONEncoder(sort_keys=True, default=_plain).encode


class DefaultKeyConstructor(KeyConstructor):
    """The usual identity: method of the view, route, query, version, format, media type, language, time zone, user."""

    unique_method_id = bits.UniqueMethodIdKeyBit()
    route = bits.RouteKeyBit()
    query = bits.CanonicalQueryKeyBit()
    version = bits.VersionKeyBit()
    format = bits.FormatKeyBit()
    media_type = bits.MediaTypeKeyBit()
    language = bits.LanguageKeyBit()
    time_zone = bits.TimeZoneKeyBit()
    user = bits.UserKeyBit()


class DefaultObjectKeyConstructor(DefaultKeyConstructor):
    """The key of one object's representation. Add an `UpdatedAtKeyBit` with the scopes that it is made from."""


class DefaultListKeyConstructor(DefaultKeyConstructor):
    """The key of a list's representation. Add an `UpdatedAtKeyBit` with the scopes that it is made from."""
