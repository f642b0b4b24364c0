"""Hits and 304s in front of Django's handler: an answer is repeated for as long as it is true.

Nothing is decided here a second time. A request first takes the long way, through every middleware and the viewset
mixin, which notes what it decided from: the entry's key, its scopes, and its answer. What the middlewares added to that
answer is learnt for the address and for everything in a request that they look at. When the same question comes again
and the current stamps vouch for the entry, it is put to `keybits.answers` here, and gets the same envelope.

Only closed questions are considered: public GET and HEAD without content, of views whose key, permissions and
authentication are known to look at nothing else, behind middlewares that are known to add constants.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.conf import settings

from keybits import cache_status, clock, memory, transactions
from keybits.answers import Answer, Terms, answer, missing_coding
from keybits.conf import conf, on_change
from keybits.envelopes import Envelope, envelope, put_around, strangers, worrying
from keybits.memory import Held, Memory, Slot, footprint
from keybits.preconditions import Conditions
from keybits.readthrough import confirmed, ends_soon
from keybits.stores import StoreError, get_store

__all__ = [
    "HOLDER",
    "PATIENCE",
    "AnswerCache",
    "Ask",
    "Departure",
    "Holder",
    "Question",
    "RawRequest",
    "WireResponse",
    "answer_cache",
]

HOLDER = "keybits.holder"
"""The key of a request's WSGI environ or ASGI scope under which the mixin finds the `Holder`."""
Fields = Sequence[tuple[str, str]]

MOST_CONTEXTS = 16
MOST_FINALS = 64
"""Most contexts remembered of an address, and most answers of an entry: clients can make up any number."""
LONGEST = 2_048
"""Longest context, and longest `Ask`, in bytes, that is remembered."""
PATIENCE = 5.0
"""Most seconds that a request waits for another one of its process that takes the long way with the same question."""
MOST_UNLEARNT = 4_096
"""Most questions remembered whose answers could not be learnt."""
OF_THE_REQUEST = frozenset({406, 412, 429})
"""Statuses that say nothing about the next request, which may have other fields or another client."""
RECORD_BYTES = 600
"""Bytes that an object of ours and its dictionary take, without their values."""


@dataclass(slots=True, eq=False)
class Holder:
    """What the mixin noted of one request. Empty where nothing may be learnt from it."""

    key: str = ""
    scopes: tuple[str, ...] = ()
    answer: Answer | None = None


Ask = tuple[str | None, ...]
"""The method, Accept-Encoding, and the fields of `Conditions` in order: all that the answer of an entry depends on."""
Question = tuple[Hashable, Hashable, Ask]
"""The address, the context (everything else that middlewares and views look at), and the `Ask`."""
RawRequest = tuple[Any, ...]
"""All that a question is made from, as the server passes it."""


@dataclass(frozen=True, slots=True)
class WireResponse:
    """A complete answer: the status (`200 OK`), the header fields in order, and the content.

    `second` is the only second (Unix time) in which it is right; None where it holds no field that changes with time.
    """

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    raw: list[tuple[bytes, bytes]]
    code: int
    second: int | None


@dataclass(frozen=True, slots=True)
class Departure:
    """Who takes the long way for a question: this request (`leads`), or one to wait for (`leader`), or each (None)."""

    question: Question
    place: int
    leader: Future[None] | None
    leads: bool


@dataclass(slots=True, eq=False)
class _Context:
    """What an address leads to in one context: an entry's key, its scopes, and what middlewares added, by status."""

    key: str
    scopes: tuple[str, ...]
    envelopes: Mapping[int, Envelope] = field(default_factory=dict)
    is_right: bool = True
    """False once it has been seen to lead to something else, or the middlewares to add something else."""

    def agrees(self, holder: Holder, code: int, around: Envelope) -> bool:
        """Say whether what was noted of an answer, and its envelope, contradict nothing that is known."""
        known = self.key, self.scopes, self.envelopes.get(code, around)
        return known == (holder.key, holder.scopes, around)


@dataclass(slots=True, eq=False)
class _Target:
    """An address: the contexts in which it was requested, which may lead to different entries."""

    contexts: dict[Hashable, _Context] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        known = tuple(self.contexts.items())
        return RECORD_BYTES + sum(
            RECORD_BYTES + footprint(name) + footprint((each.key, each.scopes)) + footprint(each.envelopes)
            for name, each in known
        )


_Asked = tuple[_Context, Ask]
"""The context of an answer, and all else that it depends on."""


@dataclass(frozen=True, slots=True, eq=False)
class _Understood:
    """What a raw request means, so that no hit has to work it out again (`benchmarks/in_process.py`)."""

    target: Slot[_Target]
    asked: _Asked


class AnswerCache:
    """What has been learnt, in a quarter of `KEYBITS_MEMORY_BYTES`. Safe under threads; after a fork make a new one.

    `worrying` matches the cookies whose requests take the long way. `proxied` is the field (as a key of WSGI's environ)
    that states the scheme behind a proxy, or "".
    """

    def __init__(self) -> None:
        self._targets: Memory[_Target] = Memory(conf.MEMORY_BYTES // 8)
        self._understood: Memory[_Understood] = Memory(conf.MEMORY_BYTES // 8)
        self._departed: dict[int, Future[None]] = {}
        self._unlearnt: set[int] = set()
        self.worrying = worrying()
        self.proxied = (settings.SECURE_PROXY_SSL_HEADER or ("",))[0]

    def again(self, said: RawRequest) -> WireResponse | None:
        """Return what `answer` would return for the question made from `said`; None if it has not answered that yet."""
        found = self._understood.get(said)
        if found is None or not found.asked[0].is_right or found.target.take() is None:
            return None
        return _given(found.asked)

    def answer(
        self, address: Hashable, context: Hashable, ask: Ask, said: RawRequest | None = None
    ) -> WireResponse | None:
        """Return the answer to a learnt question whose entry is true; None where the request has to take the long way.

        `said` is what the question was made from, to be remembered for `again`; None where no other request is alike.
        """
        slot = self._targets.slot(address)
        target = None if slot is None else slot.take()
        known = None if target is None else target.contexts.get(context)
        if slot is None or target is None or known is None:
            return None
        final = _given((known, ask))
        if final is not None and said is not None:
            self._note(said, _Understood(slot, (known, ask)))
        return final

    def learn(self, address: Hashable, context: Hashable, holder: Holder, code: int, fields: Fields) -> bool:
        """Learn the answer of the long way, where it can be repeated from what was noted; return whether it can."""
        if holder.answer is None or code != holder.answer.status or code not in STATUS:
            return False
        if strangers():  # receivers of the signal for CORS, connected since: URLs load at the first request
            answer_cache.cache_clear()
            return False
        around = envelope(holder.answer.headers, fields)
        if around is None or footprint(context) > LONGEST:
            return False
        target = self._target(address)
        _admit(target, context, holder, code, around)
        is_known = self._targets.weigh(address, target, footprint(address) + target.size)
        return is_known and memory.entries().get(holder.key) is not None

    def depart(self, question: Question) -> Departure:
        """Return who takes the long way for a question. The others wait for it, and get the answer that it learns.

        Nobody waits where the last answer could not be learnt, where a stale answer may be shown meanwhile, or while
        the store is left alone, because then nothing that another request made can be believed.
        """
        address, context, _ = question
        place = hash((address, context))
        if place in self._unlearnt or self._may_show_stale(address) or get_store().is_tripped:
            return Departure(question, place, None, leads=False)
        mine: Future[None] = Future()
        leader = self._departed.setdefault(place, mine)
        return Departure(question, place, leader, leads=leader is mine)

    def land(self, departure: Departure, *, learnt: bool, code: int = 0) -> None:
        """Let those who wait look again; `code` is the status that was answered, 0 for none. Idempotent."""
        if learnt:
            self._unlearnt.discard(departure.place)
        if departure.leader is None or not departure.leads or departure.leader.done():
            return
        if not learnt and 0 < code < 500 and code not in OF_THE_REQUEST:
            if len(self._unlearnt) >= MOST_UNLEARNT:
                self._unlearnt.clear()
            self._unlearnt.add(departure.place)
        del self._departed[departure.place]
        departure.leader.set_result(None)

    def _note(self, said: RawRequest, understood: _Understood) -> None:
        known = understood.asked[0]
        size = footprint(said) + RECORD_BYTES + footprint(known.envelopes)
        self._understood.put(said, understood, size)

    def _may_show_stale(self, address: Hashable) -> bool:
        target = self._targets.get(address)
        keys = set() if target is None else {known.key for known in tuple(target.contexts.values())}
        found = map(memory.entries().get, keys)
        return any(held.entry.stale > 0 for held in found if held is not None)

    def _target(self, address: Hashable) -> _Target:
        target = self._targets.get(address)
        if target is None:
            target = _Target()
            self._targets.put(address, target, footprint(address) + target.size)
        return target


STATUS = {200: "200 OK", 304: "304 Not Modified"}


def _admit(target: _Target, context: Hashable, holder: Holder, code: int, around: Envelope) -> None:
    """Add what was learnt, without changing in place what other threads may be reading."""
    present = target.contexts.get(context)
    if present is None and len(target.contexts) >= MOST_CONTEXTS:
        target.contexts = {}
    if present is None or not present.agrees(holder, code, around):
        if present is not None:
            present.is_right = False
        present = target.contexts[context] = _Context(holder.key, holder.scopes)
    present.envelopes = {**present.envelopes, code: around}


def _given(asked: _Asked) -> WireResponse | None:
    """Return the answer, as given before or made now; None where the entry is missing or cannot be believed."""
    known = asked[0]
    held, now = memory.entries().get(known.key), time.time()
    if held is None or not _is_true(held, known.scopes):
        return None
    found: WireResponse | None = held.answers.get(asked)
    if found is not None and (found.second is None or found.second == int(now)):
        return found
    return _made(held, asked, now)


def _is_true(held: Held, scopes: tuple[str, ...]) -> bool:
    """Return whether `readthrough.look_up` would find a hit. Trip a store that fails: the long way need not try it."""
    store = get_store()
    if store.is_tripped or transactions.sees_its_own_writes():
        return False
    asked = clock.seconds() if held.entry.stale else 0.0
    try:
        true = confirmed(held, store.store.witness(scopes), asked)
    except StoreError as error:
        store.trip(error)
        return False
    return true and (held.entry.expires is None or not ends_soon(held.entry))


def _made(held: Held, asked: _Asked, now: float) -> WireResponse | None:
    """Make the answer by `keybits.answers`, put it into the envelope, and remember it, if only for this second.

    `now` is before the stamps were compared: other content may have appeared since, dated to the second that begins.

    A stampede asks for a new list within its first second (`benchmarks/stampede.py`).
    """
    known, (method, accept_encoding, *conditional) = asked
    conditions = Conditions(*conditional)
    if missing_coding(held.entry, method or "", conditions, accept_encoding):
        return None  # the long way makes the coding and keeps it
    terms = Terms(now=now, cache_status=cache_status.HIT, accept_encoding=accept_encoding)
    given = answer(held.entry, method or "", conditions, terms)
    around = known.envelopes.get(given.status)
    headers = None if around is None else put_around(given.headers, around)
    if headers is None:
        return None
    moves = held.entry.max_age or (held.entry.changed is not None and held.entry.changed > now)
    final = _final(given, headers, int(now) if moves else None)
    _remember(held, asked, final)
    return final


def _final(given: Answer, headers: list[tuple[str, str]], second: int | None) -> WireResponse:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return WireResponse(STATUS[given.status], headers, given.body, raw, given.status, second)


def _remember(held: Held, key: _Asked, final: WireResponse) -> None:
    """Keep the answer beside its entry; where the answers would be too many or too large, drop the others.

    An answer replaces that of an earlier second, which is as large.
    """
    if key in held.answers:
        held.answers = {**held.answers, key: final}
        return
    if footprint(key[1]) > LONGEST:
        return
    others = held.answers if len(held.answers) < MOST_FINALS else {}
    weight = _weight((key, final)) + (held.weight if others else 0)
    if memory.entries().weigh(held.key, held, held.entry.size + weight):
        held.answers, held.weight = {**others, key: final}, weight
    else:
        held.answers, held.weight = {}, 0


def _weight(item: tuple[_Asked, WireResponse]) -> int:
    (_, ask), final = item
    return RECORD_BYTES + footprint(ask) + footprint(final.headers) + footprint(final.raw)


@lru_cache(maxsize=1)
def answer_cache() -> AnswerCache | None:
    """Return this process's cache; None where `KEYBITS_FASTPATH` is off, or a middleware is unknown."""
    return AnswerCache() if conf.FASTPATH and not strangers() else None


on_change(answer_cache.cache_clear)
os.register_at_fork(after_in_child=answer_cache.cache_clear)
