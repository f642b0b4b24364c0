"""Whether a key is complete: what a cached view reads while it makes a representation, against what its bits cover.

Anything that a fill reads outside its bits can show one client an answer made for another, or a stale answer. With
`KEYBITS_AUDIT` at `raise` (in tests) or `log`, each fill is watched: tables, headers, query parameters, cookies, the
user, the language and settings. A read that no bit covers is reported, with the bit to add. Watching costs time and is
meant for tests; it changes no answer.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from functools import lru_cache
from types import FrameType
from typing import Any

from django.apps import apps
from django.conf import LazySettings
from django.db import connections
from django.db.models import Model
from django.http.request import HttpHeaders
from django.utils import translation

from keybits import bits, invalidation
from keybits.conf import conf
from keybits.constructors import KeyConstructor
from keybits.entries import SHAPING_SETTINGS
from keybits.lookups import ONE, WHOLE, WatchedDict
from keybits.stamps import is_family
from keybits.templates import parse

__all__ = ["IncompleteKeyError", "install", "observed", "recording_fills"]

logger = logging.getLogger(__name__)
Read = tuple[str, str]

_NAME = r'(?:"[^"]+"|`[^`]+`|\w+)'
_TABLE = rf"(?:ONLY\s+)?({_NAME}(?:\.{_NAME})*)"
_FIRST = re.compile(rf"\b(?:FROM|JOIN)\s+{_TABLE}", re.IGNORECASE)
_NEXT = re.compile(rf"(?:\s+(?:AS\s+)?{_NAME})?\s*,\s*{_TABLE}", re.IGNORECASE)
CONDITIONS = frozenset({"IF_MATCH", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE", "IF_RANGE"})
"""Headers that are compared with the answer, and never part of it."""

REMEMBERED, REMEMBERING = "django_content_type", "django.contrib.contenttypes.models"
"""Rows that each process remembers for ever, and the module whose manager does. So no change of one could be shown, and
whether a GenericForeignKey reads one depends on what was read before."""


class IncompleteKeyError(AssertionError):
    """A view read something that no bit of its key covers. The message says what, and which bit to add."""


_fills: ContextVar[list[str] | None] = ContextVar("keybits_fills", default=None)


@contextmanager
def recording_fills() -> Iterator[list[str]]:
    """Watch the fills made in the block, whatever `KEYBITS_AUDIT` says; yield the list of reads that no bit covered."""
    found: list[str] = []
    token = _fills.set(found)
    try:
        yield found
    finally:
        _fills.reset(token)


@contextmanager
def observed(view: Any, constructor: KeyConstructor, scopes: tuple[str, ...], request: Any) -> Iterator[None]:
    """Watch a fill, if `KEYBITS_AUDIT` or `recording_fills` asks for it.

    Reads that no bit covers are added to the list of `recording_fills`; without one they raise `IncompleteKeyError`
    or are logged, as `KEYBITS_AUDIT` says.
    """
    fills = _fills.get()
    if (conf.AUDIT == "off" and fills is None) or not scopes:
        yield
        return
    with _recording(request) as reads, _rows_of(view, reads), _found_by(view, scopes, reads):
        yield
    missing = _uncovered(reads, constructor, scopes)
    lines = [
        f"{type(view).__name__} reads {kind} {name!r}: {bit}" for (kind, name), bit in sorted(missing.items())
    ]
    if fills is not None:
        fills += lines
    elif lines and conf.AUDIT == "raise":
        raise IncompleteKeyError("\n".join(lines))
    elif lines:
        logger.warning("incomplete key: %s", "; ".join(lines))


def _uncovered(reads: set[Read], constructor: KeyConstructor, scopes: tuple[str, ...]) -> dict[Read, str]:
    """Return the reads that no bit covers, each with the bit to add."""
    found = {}
    for read in reads:
        advice = _COVERS[read[0]](read[1], constructor, scopes)
        if advice:
            found[read] = advice
    return found


# --- What covers a read: each function returns the bit to add, or "" where one covers it ---------------------------


def _has(constructor: KeyConstructor, *kinds: type[Any]) -> bool:
    return any(isinstance(bit, kinds) for bit in constructor.bits.values())


def _named(constructor: KeyConstructor, kind: type[Any]) -> set[str]:
    """Return the names that the bits of one kind cover; "*" stands for all."""
    names: set[str] = set()
    for name, bit in constructor.bits.items():
        if isinstance(bit, kind):
            names |= {str(entry).lower() for entry in constructor.params.get(name, bit.params) or ()}
    return names


def _table(table: str, constructor: KeyConstructor, scopes: tuple[str, ...]) -> str:
    models = [  # proxies, and models of other databases, may have the same
        model for model in apps.get_models(include_auto_created=True) if _bare(model._meta.db_table) == table
    ]
    if not models:
        return ""
    declared = dict.fromkeys(text for model in models for text in _declared(model))
    templates = [text for text in declared if not parse(text).watched]
    single = [scope for scope in scopes if not is_family(scope)]  # a change of one row closes no family
    if any(fnmatchcase(scope, _pattern(template)) for template in templates for scope in single):
        return ""
    if templates:
        return f"add one of its scopes to an UpdatedAtKeyBit: {', '.join(templates)}"
    concrete: Any = models[0]._meta.concrete_model
    return f"declare {concrete._meta.label} with keybits.invalidation.declare, and add its scope to an UpdatedAtKeyBit"


def _declared(model: type[Model]) -> tuple[str, ...]:
    concrete: Any = model._meta.concrete_model
    return invalidation.templates_of(concrete._meta.app_label, str(concrete._meta.model_name))


def _bare(table: str) -> str:
    """Return the name of a table without quotes and schema: `"shop"."page"` is `page`, as is `shop"."page`."""
    return re.sub(r'["`]', "", re.split(r'["`]?\.["`]?', table)[-1])


def _pattern(template: str) -> str:
    return re.sub(r"{[^}]*}", "*", template)


def _header(name: str, constructor: KeyConstructor, _: tuple[str, ...]) -> str:
    header = name.replace("_", "-").title()
    named = _named(constructor, bits.HeadersKeyBit)
    by_meta = {found.removeprefix("http_") for found in _named(constructor, bits.RequestMetaKeyBit)}
    if "*" in named | by_meta or header.lower() in named or name.lower() in by_meta:
        return ""
    if name == "*":
        return "read by name what it is about, or add HeadersKeyBit('*')"
    kinds = {"ACCEPT": bits.FormatKeyBit, "ACCEPT_LANGUAGE": bits.LanguageKeyBit}
    kinds |= {"AUTHORIZATION": bits.UserKeyBit}  # one that leads to no user is never cached
    if name in kinds and _has(constructor, kinds[name]):
        return ""
    if name in {"HOST", "X_FORWARDED_HOST"}:
        covered = _has(constructor, bits.OriginKeyBit)
        return "" if covered else "write links without the host, or add OriginKeyBit()"
    return f"add HeadersKeyBit([{header!r}])"


def _parameter(name: str, constructor: KeyConstructor, _: tuple[str, ...]) -> str:
    if _has(constructor, bits.CanonicalQueryKeyBit):
        return ""
    named = _named(constructor, bits.QueryParamsKeyBit)
    return (
        ""
        if "*" in named or name.lower() in named
        else f"add CanonicalQueryKeyBit() or QueryParamsKeyBit([{name!r}])"
    )


def _cookie(name: str, constructor: KeyConstructor, scopes: tuple[str, ...]) -> str:
    covered = not _header("COOKIE", constructor, scopes)
    return "" if covered else "do not read it in a cached view: no bit covers a single cookie"


def _user(name: str, constructor: KeyConstructor, _: tuple[str, ...]) -> str:
    return "" if _has(constructor, bits.UserKeyBit) else "add UserKeyBit()"


def _row(name: str, constructor: KeyConstructor, _: tuple[str, ...]) -> str:
    return "name one of those in an UpdatedAtKeyBit: no change of that row closes a scope of this key"


def _language(name: str, constructor: KeyConstructor, _: tuple[str, ...]) -> str:
    return "" if _has(constructor, bits.LanguageKeyBit) else "add LanguageKeyBit()"


def _setting(name: str, constructor: KeyConstructor, _: tuple[str, ...]) -> str:
    if name in SHAPING_SETTINGS or name in conf.FINGERPRINT_SETTINGS:
        return ""
    return "add its name to KEYBITS_FINGERPRINT_SETTINGS"


_COVERS = {
    "table": _table,
    "header": _header,
    "query parameter": _parameter,
    "cookie": _cookie,
    "user attribute": _user,
    "a row of": _row,
    "language": _language,
    "setting": _setting,
}


# --- Watching -----------------------------------------------------------------------------------------------------

_watching = threading.local()


@contextmanager
def _recording(request: Any) -> Iterator[set[Read]]:
    """Yield the set of what this thread reads in the block, as pairs of a kind and a name."""
    reads: set[Read] = set()
    http = getattr(request, "_request", request)
    saved = (http.META, http.GET, http.COOKIES, getattr(request, "_user", None))
    http.META = _Meta(http.META, http.GET, reads)
    http.GET = _watched_query(http.GET, reads)
    http.COOKIES = _Cookies(http.COOKIES, reads)
    if saved[3] is not None:
        request._user = _told_user(saved[3], reads)
    http.__dict__["headers"] = _Headers(saved[0], reads)
    _watching.packages = conf.FINGERPRINT_PACKAGES
    _watching.reads = reads
    try:
        with _statements(reads), _rows_of(http, reads):
            yield reads
    finally:
        _watching.reads = None
        http.META, http.GET, http.COOKIES = saved[:3]
        http.__dict__.pop("headers", None)
        if saved[3] is not None:
            request._user = saved[3]


@contextmanager
def _statements(reads: set[Read]) -> Iterator[None]:
    def wrapper(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        tables = {_bare(table) for table in _tables(str(sql))}
        if REMEMBERED in tables and _is_asked_by(REMEMBERING):
            tables.discard(REMEMBERED)
        reads.update(("table", table) for table in tables)
        return execute(sql, params, many, context)

    watched = connections.all()  # including those that the fill is the first to use
    for connection in watched:
        connection.execute_wrappers.append(wrapper)
    try:
        yield
    finally:
        for connection in watched:
            connection.execute_wrappers.remove(wrapper)


def _is_asked_by(module: str) -> bool:
    """Return whether code of that module is running, further down in the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None


def _tables(sql: str) -> Iterator[str]:
    """Yield the tables that a statement names after FROM or JOIN, and those that follow one of them behind a comma."""
    for first in _FIRST.finditer(sql):
        found: re.Match[str] | None = first
        while found:
            yield found[1]
            found = _NEXT.match(sql, found.end())


class _Meta(WatchedDict):
    """A request's META that records which headers are read, and with the query all its `parameters`."""

    def __init__(self, source: dict[str, Any], parameters: Iterable[str], reads: set[Read]) -> None:
        super().__init__(source)
        self._reads = reads
        self._parameters = [("query parameter", name) for name in parameters]

    def looked_for(self, key: Any) -> None:
        name = str(key).removeprefix("HTTP_")
        if name != str(key) and name not in CONDITIONS:
            self._reads.add(("header", name))
        elif key in {"SERVER_NAME", "SERVER_PORT"}:
            self._reads.add(("header", "HOST"))
        elif key in {"REMOTE_ADDR", "REMOTE_HOST", "REMOTE_USER"}:
            self._reads.add(("header", key))
        elif key == "QUERY_STRING":  # as every absolute link to this or another page does
            self._reads.update(self._parameters)

    def looked_through(self) -> None:
        self._reads.update({("header", "*"), *self._parameters})


class _Headers(HttpHeaders):
    """A request's headers that record which are read."""

    def __init__(self, environ: dict[str, Any], reads: set[Read]) -> None:
        super().__init__(environ)
        self._reads = reads

    def __getitem__(self, key: str) -> Any:
        name = key.replace("-", "_").upper()
        if name not in CONDITIONS:
            self._reads.add(("header", name))
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        self._reads.add(("header", "*"))
        return super().__iter__()

    def __len__(self) -> int:
        self._reads.add(("header", "*"))
        return super().__len__()

    def __repr__(self) -> str:
        return repr(dict(self))


class _Cookies(WatchedDict):
    """Cookies that record which are read; all together are the header that they came in."""

    def __init__(self, source: dict[str, str], reads: set[Read]) -> None:
        super().__init__(source)
        self._reads = reads

    def looked_for(self, key: Any) -> None:
        self._reads.add(("cookie", str(key)))

    def looked_through(self) -> None:
        self._reads.add(("header", "COOKIE"))


def _watched_query(source: Any, reads: set[Read]) -> Any:
    """Return a copy of a QueryDict that records which parameters are read."""
    kind = type(source)
    present = {("query parameter", str(name)) for name in source}

    def telling(name: str, tell: Callable[..., set[Read]]) -> Callable[..., Any]:
        read = getattr(kind, name)

        def method(self: Any, *given: Any, **named: Any) -> Any:
            reads.update(tell(*given, **named))
            return read(self, *given, **named)

        return method

    def one(key: Any, *_: Any, **__: Any) -> set[Read]:
        return {("query parameter", str(key))}

    ways = {name: telling(name, one) for name in ("getlist", *ONE)}
    ways |= {name: telling(name, lambda *_, **__: present) for name in ("lists", *WHOLE)}
    watched = kind(source.urlencode(), mutable=False)
    watched.__class__ = type("Watched", (kind,), ways)
    return watched


class _Told:
    """A proxy that reports which attributes of an object are read, and otherwise behaves as that object."""

    def __init__(self, thing: Any, note: Callable[[str], None]) -> None:
        object.__setattr__(self, "_keybits", (thing, note))

    def __getattribute__(self, name: str) -> Any:
        thing, note = object.__getattribute__(self, "_keybits")
        if name == "__class__":
            return thing.__class__  # which Django's lazy user has from the user that it stands for
        note(name)
        return getattr(thing, name)

    # What Python looks up in the class itself. The object's own methods see the proxy, and so are noted what they read.

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_thing(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_thing(self), name)

    def __str__(self) -> str:
        kind: Any = _thing(self).__class__
        return str(kind.__str__(self))

    def __repr__(self) -> str:
        return repr(_thing(self))

    def __eq__(self, other: object) -> bool:
        return bool(_thing(self) == (_thing(other) if type(other) is _Told else other))

    def __hash__(self) -> int:
        return hash(_thing(self))

    def __bool__(self) -> bool:
        return bool(_thing(self))


def _thing(told: Any) -> Any:
    """Return the object that a proxy stands for."""
    return object.__getattribute__(told, "_keybits")[0]


def _told_user(user: Any, reads: set[Read]) -> _Told:
    """Return a proxy of the user that records which attributes are read, and the table where one is a column."""
    of_row = _noting_columns(user, reads)

    def note(name: str) -> None:
        if not name.startswith("__"):
            reads.add(("user attribute", name))
        of_row(name)

    return _Told(user, note)


def _noting_columns(row: Any, reads: set[Read]) -> Callable[[str], None]:
    def note(name: str) -> None:
        if name in _columns(row.__class__):
            reads.add(("table", _bare(row._meta.db_table)))

    return note


@contextmanager
def _found_by(view: Any, scopes: tuple[str, ...], reads: set[Read]) -> Iterator[None]:
    """Record each row that `get_object` returns in the block and that is part of none of `scopes`.

    A URL may spell a row's key in another way than the scope does, and then names the scope of no row.
    """
    find: Any = getattr(view, "get_object", None)

    def found() -> Any:
        row = find()
        by_view = frozenset(reads)
        part_of = invalidation.scopes_of_row(row) if isinstance(row, Model) else set()
        reads.intersection_update(by_view)  # without the tables that this question has led through
        if part_of and part_of.isdisjoint(scopes):
            reads.add(("a row of", ", ".join(sorted(part_of))))
        return row

    given = vars(view).get("get_object")
    if find is not None:
        view.get_object = found
    try:
        yield
    finally:
        vars(view).pop("get_object", None)
        if given is not None:
            view.get_object = given


@contextmanager
def _rows_of(owner: Any, reads: set[Read]) -> Iterator[None]:
    """Record which columns are read of the rows that `owner` already holds, primary keys excepted."""
    held = {each: row for each, row in vars(owner).items() if isinstance(row, Model) and each[0] != "_"}
    told = {each: _Told(row, _noting_columns(row, reads)) for each, row in held.items()}
    vars(owner).update(told)
    try:
        yield
    finally:
        vars(owner).update(held)


@lru_cache(maxsize=1024)
def _columns(model: type[Any]) -> frozenset[str]:
    """Return the names of a model's columns without its primary key; none for a class that is not a model."""
    fields = model._meta.concrete_fields if issubclass(model, Model) else ()
    return frozenset(name for each in fields if not each.primary_key for name in (each.name, each.attname))


def install() -> None:
    """Have reads of settings and translations recorded. Called at start-up, where `KEYBITS_AUDIT` is not `off`."""
    if getattr(LazySettings, "_keybits_audited", False):
        return
    LazySettings._keybits_audited = True  # type: ignore[attr-defined]
    LazySettings.__getattribute__ = _read_setting  # type: ignore[method-assign, assignment]
    backend: Any = translation.__dict__["_trans"]
    for name in ("gettext", "ngettext", "pgettext", "npgettext", "get_language"):
        setattr(backend, name, _translating(getattr(backend, name)))


def _read_setting(self: LazySettings, name: str) -> Any:
    reads = getattr(_watching, "reads", None)
    if reads is not None and name.isupper():
        module = str(sys._getframe(1).f_globals.get("__name__", ""))
        if module.split(".", 1)[0] in _watching.packages:
            reads.add(("setting", name))
    return object.__getattribute__(self, name)


def _translating(original: Any) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        reads = getattr(_watching, "reads", None)
        if reads is not None:
            reads.add(("language", "translation"))
        return original(*args, **kwargs)

    return wrapper
