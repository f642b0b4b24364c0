"""Hits and 304s in front of Django's handler: what has been answered once is answered again while it is true.

There is no second way to decide. The first time, a request goes the long way, through every middleware and the
viewset mixin, which notes what it decided from: the entry's key, its scopes, the answer. What the middlewares made of
that answer is learnt, per address and per everything about a request that they look at. From then on the same
question is put to `keybits.answers` here, if the stamps of now vouch for the entry, and gets the same envelope.

Only questions of a closed world are considered: public GET and HEAD without a body, of views whose key, permissions
and authentication are known to look at nothing else, behind middlewares that are known to add constants.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from django.conf import settings
from django.core.signals import setting_changed

from keybits import cache_status, memory
from keybits.answers import Answer, Terms, answer
from keybits.conf import conf
from keybits.memory import Held, Memory
from keybits.preconditions import Conditions
from keybits.readthrough import confirmed, ends_soon
from keybits.stores import StoreError, get_store

__all__ = ["HOLDER", "Ask", "Final", "Holder", "Lane", "Question", "is_open_to", "lane"]

HOLDER = "keybits.holder"
"""Where a request (its WSGI environ or ASGI scope) carries what the mixin notes."""
Fields = Sequence[tuple[str, str]]

KNOWN_MIDDLEWARE = frozenset(
    {
        "corsheaders.middleware.CorsMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "keybits.middleware.content_length_middleware",
        "keybits.middleware.cookieless_middleware",
        "keybits.middleware.host_middleware",
        "keybits.middleware.open_to_all_origins_middleware",
        "keybits.middleware.path_middleware",
        "whitenoise.middleware.WhiteNoiseMiddleware",
    }
)
"""Those whose fields depend on nothing of a public request but its scheme, host, path and origin."""
CONSTANT = frozenset({"vary"})
"""Fields of an answer that middlewares may change, to something that does not depend on the answer."""
MOST_CONTEXTS = 16
MOST_FINALS = 64
"""Different contexts of an address, and answers of an entry, that are remembered; a client can make up any number."""
TARGET_BYTES = 1_200
FINAL_BYTES = 2_500
"""Bytes that remembering one takes, about, as `benchmarks/memory.py` finds."""


@dataclass(slots=True, eq=False)
class Holder:
    """What the mixin noted of one request: nothing, where it is not to be learnt from."""

    key: str = ""
    scopes: tuple[str, ...] = ()
    answer: Answer | None = None


Ask = tuple[str | None, ...]
"""The method, Accept-Encoding, and the fields of `Conditions` in order: all that an entry's answer depends on."""
Question = tuple[Hashable, Hashable, Ask]
"""The address, the context (all that middlewares look at), and what is asked of the entry."""


@dataclass(frozen=True, slots=True)
class Final:
    """A whole answer: `200 OK`, its header fields in order, and the content."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    raw: list[tuple[bytes, bytes]]
    code: int


@dataclass(slots=True, eq=False)
class _Context:
    """What middlewares made of answers in one context: by status, the fields changed and those added."""

    envelopes: dict[int, tuple[Mapping[str, str], tuple[tuple[str, str], ...]]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Target:
    """What an address means: an entry's key, its scopes, and the contexts that it has been asked in."""

    key: str
    scopes: tuple[str, ...]
    contexts: dict[Hashable, _Context] = field(default_factory=dict)


class Lane:
    """What has been learnt, in a quarter of `KEYBITS_MEMORY_BYTES`. Safe under threads and after fork."""

    def __init__(self) -> None:
        self._targets: Memory[_Target] = Memory(conf.MEMORY_BYTES // 4)

    def answer(self, address: Hashable, context: Hashable, ask: Ask) -> Final | None:
        """Return the answer to a question that was learnt and whose entry is true; None sends it the long way."""
        target = self._targets.get(address)
        if target is None:
            return None
        known = target.contexts.get(context)
        held = memory.entries().get(target.key)
        if known is None or held is None or not _is_true(held, target.scopes):
            return None
        found = held.answers.get((known, ask))
        return found if isinstance(found, Final) else _made(held, known, ask)

    def learn(self, address: Hashable, context: Hashable, holder: Holder, code: int, fields: Fields) -> None:
        """Remember what the long way answered, where it can be answered again from what it noted."""
        if holder.answer is None or code != holder.answer.status or code not in STATUS:
            return
        envelope = _envelope(holder.answer.headers, fields)
        if envelope is not None:
            self._context(address, context, holder).envelopes[code] = envelope

    def _context(self, address: Hashable, context: Hashable, holder: Holder) -> _Context:
        target = self._targets.get(address)
        if target is None or target.key != holder.key:
            target = _Target(holder.key, holder.scopes)
            self._targets.put(address, target, TARGET_BYTES + len(repr(address)))
        if context not in target.contexts:
            if len(target.contexts) >= MOST_CONTEXTS:
                target.contexts.clear()
            self._targets.charge(address, TARGET_BYTES)
            target.contexts[context] = _Context()
        return target.contexts[context]


STATUS = {200: "200 OK", 304: "304 Not Modified"}


def _is_true(held: Held, scopes: tuple[str, ...]) -> bool:
    store = get_store()
    if store.is_tripped:
        return False
    try:
        return confirmed(held, store.store.witness(scopes)) and not ends_soon(held.entry)
    except StoreError:
        return False  # the long way finds out the same, says so, and leaves the store alone for a while


def _made(held: Held, known: _Context, ask: Ask) -> Final | None:
    """Ask `answers`, and put what it says into the envelope; remember it where time does not change it."""
    method, accept_encoding, *conditions = ask
    now = time.time()
    terms = Terms(now=now, cache_status=cache_status.HIT, accept_encoding=accept_encoding)
    given = answer(held.entry, method or "", Conditions(*conditions), terms)
    envelope = known.envelopes.get(given.status)
    if envelope is None:
        return None
    changed, added = envelope
    headers = [(name, changed.get(name.lower(), value)) for name, value in given.headers]
    headers.extend(added)
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    final = Final(STATUS[given.status], headers, given.body, raw, given.status)
    if held.entry.changed is not None and held.entry.changed <= now and not held.entry.max_age:
        _remember(held, (known, ask), final)
    return final


def _remember(held: Held, key: Hashable, final: Final) -> None:
    if len(held.answers) >= MOST_FINALS:
        held.answers.clear()
    else:
        memory.entries().charge(held.key, FINAL_BYTES)
    held.answers[key] = final


def _envelope(given: Fields, sent: Fields) -> tuple[Mapping[str, str], tuple[tuple[str, str], ...]] | None:
    """Return what was changed and what was added on the way out; None where that may depend on the answer."""
    leading, added = sent[: len(given)], tuple(sent[len(given) :])
    if [name.lower() for name, _ in leading] != [name.lower() for name, _ in given]:
        return None
    changed = {
        name.lower(): value for (name, value), (_, own) in zip(leading, given, strict=True) if value != own
    }
    if changed.keys() - CONSTANT or any(name.lower() == "set-cookie" for name, _ in added):
        return None
    return changed, added


def is_open_to(middleware: Sequence[str]) -> bool:
    """Say whether all of `MIDDLEWARE` is known, or declared to add constants (`KEYBITS_FASTPATH_MIDDLEWARE`)."""
    return KNOWN_MIDDLEWARE.union(conf.FASTPATH_MIDDLEWARE).issuperset(middleware)


@lru_cache(maxsize=1)
def lane() -> Lane | None:
    """Return this process's lane; None where `KEYBITS_FASTPATH` is off, or a middleware is not known."""
    return Lane() if conf.FASTPATH and is_open_to(settings.MIDDLEWARE) else None


def _forget(**_: object) -> None:
    lane.cache_clear()


setting_changed.connect(_forget)
