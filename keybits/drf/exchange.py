"""One request to one handler: which responses may be stored, and how a stored one becomes a response again.

`keybits.readthrough` decides whether an entry may be believed, `keybits.answers` what it answers.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import chain
from time import monotonic
from typing import Any

from django.db.models import Model
from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse
from django.utils.http import escape_leading_slashes
from rest_framework.request import Request
from rest_framework.response import Response

from keybits import (
    audit,
    cache_control,
    cache_status,
    clock,
    edge,
    flight,
    hosts,
    preludes,
    readthrough,
    replicas,
)
from keybits.answers import Answer, Terms, answer, missing_coding
from keybits.bits import OriginKeyBit, canonical_query
from keybits.cache_control import Policy
from keybits.codings import encode
from keybits.conf import conf
from keybits.constructors import KeyConstructor, captures_named, headers_named
from keybits.drf import audience
from keybits.drf.audience import (
    Locale,
    chooses_charset,
    credentialed,
    has_chosen_locale,
    has_unknown_bit,
    is_for_some,
    lacks_primary_key,
    names_cookies,
    shows_unknown_credential,
)
from keybits.drf.closed import is_closed
from keybits.drf.naming import names_of
from keybits.drf.negotiation import JSONContentNegotiation
from keybits.drf.responses import RepresentationResponse
from keybits.drf.spelling import found_rows, is_as_rows_have_it
from keybits.drf.tagged import Tagged
from keybits.entries import Entry
from keybits.fastpath import HOLDER, Holder
from keybits.flight import Landing
from keybits.invalidation import misspelt, tables
from keybits.middleware import measured, spelt
from keybits.preconditions import Conditions
from keybits.problems import problem_response
from keybits.query import NO_VARY_SEARCH, Query

__all__ = ["ANSWERING", "EXPIRES", "Exchange"]

logger = logging.getLogger(__name__)
Handler = Callable[..., Any]
ANSWERING, EXPIRES = "_keybits_answering", "_keybits_expires"
FAILURES = {
    406: (
        "urn:problem:not-acceptable",
        "No available content coding is acceptable; identity, gzip, br and zstd are available.",
    ),
    412: (
        "urn:problem:precondition-failed",
        "The representation is not the one that the request was meant for.",
    ),
}
DECIDED = frozenset(
    {
        *("age", "allow", "cache-control", "cache-status", "connection", "content-length", "date", "etag"),
        *("expires", "last-modified", "transfer-encoding", "vary"),
    }
)
"""Response fields that are made anew for each answer; all others are kept with the entry."""
TOLD_APART = frozenset({"accept", "accept-encoding", "authorization"})
"""Request fields that need no bit: answers differ by the renderer, the coding or the user that they lead to."""


class Exchange:
    """One request to one handler.

    `asked` is Django's own request: REST framework's looks up each attribute in two places, and a hit needs a dozen of
    them (`python -m benchmarks in_process`).
    """

    def __init__(self, view: Any, method: Handler, request: Request, args: Any, kwargs: Any) -> None:
        self.view = view
        self.method = method
        self.request = request
        self.asked = request._request
        self.args = args
        self.kwargs = kwargs
        self.is_for_some = is_for_some(view)
        self.is_private = credentialed(request)
        self.varies: list[str] = []
        self.varies_too: list[str] = []
        self.previous: Entry | None = None
        self.proven: bytes | None = None

    def respond(self, constructor: KeyConstructor) -> HttpResponse:
        self.constructor, locale = constructor, Locale.active()
        self.is_for_some |= has_unknown_bit(constructor)
        self.is_private |= self.is_for_some or has_chosen_locale(self.request, constructor, locale)
        self.is_unnamed = shows_unknown_credential(self.request, constructor)
        self.is_unnamed |= chooses_charset(self.view, self.request)
        self._tell_caller(is_certain=not self.is_for_some and not self.is_unnamed)
        if self.request.accepted_renderer.format != "json":
            return self._bypass()
        exchange = {
            "view_instance": self.view,
            "view_method": self.method,
            "request": self.request,
            "args": self.args,
            "kwargs": self.kwargs,
        }
        self.exchange = exchange
        self.key, self.scopes = names_of(constructor, exchange, locale)
        if not self.scopes:
            why = "its key names no scope, whose change would end it; give it an UpdatedAtKeyBit"
            _warn(type(self.view).__qualname__, why)
        if self.is_unnamed:
            return self._fill(cache_status.BYPASS, Landing())
        self.asked_at, self.looked = time.time(), clock.seconds()
        found = readthrough.look_up(self.key, self.scopes)
        self.previous = found.entry
        if found.entry is not None and found.fresh and not readthrough.ends_soon(found.entry):
            return self._send(self._with_coding(found.entry), cache_status.HIT, seen=self.asked_at)
        unkept = found.reason == cache_status.BYPASS or not readthrough.may_keep(self.scopes)
        if unkept or self._has_read_too_early():
            return self._fill(found.reason or cache_status.STALE, Landing())  # nobody may wait for it
        return self._alone(found)

    def _has_read_too_early(self) -> bool:
        """Return whether what was read until now, also for the key, may be older than the present stamps."""
        prelude = preludes.over()
        asked = set() if prelude is None else prelude.read(tables())
        if prelude is None or not asked:
            return False
        if lagging := sorted(asked.intersection(conf.REPLICAS)):
            _warn(type(self.view).__qualname__, f"{lagging[0]}, a replica, is read before its handler")
            return True
        self.proven = readthrough.mint(self.scopes)
        return self.proven is None or not preludes.is_proven(prelude, self.scopes, self.proven)

    def _alone(self, found: readthrough.Lookup) -> HttpResponse:
        """Let one request make the entry: the others wait for it, or send a stale entry where that is still allowed."""
        present = found.entry if found.fresh else None
        looked = time.time()
        ended = None if found.fresh or found.entry is None else readthrough.still_shown(self.key)
        with flight.alone(self.key, self.scopes, patient=present is None and ended is None) as landing:
            if present is not None and not landing.leads:
                return self._send(self._with_coding(present), cache_status.HIT, seen=self.asked_at)
            if present is None and landing.entry is not None:
                status = cache_status.forwarded(found.reason, collapsed=True)
                return self._send(self._with_coding(landing.entry), status)
            if ended is not None and not landing.leads:
                entry, age = ended
                return self._send(entry, cache_status.stale(age), age, seen=looked - age)
            return self._fill(found.reason or cache_status.STALE, landing)  # without a reason, it ends soon

    def _fill(self, reason: str, landing: Landing) -> HttpResponse:
        """Compute the response, keep it where it may be kept, and return it."""
        self._throttle()
        start, mine = monotonic(), audience.whose(self.request, self.constructor)
        with (
            replicas.filling() as lagging,
            audit.observed(self.view, self.constructor, self.scopes, self.request),
            hosts.noted(self.asked) as told,
            audience.watched_permissions(self.view) as permitted,
            audience.watched_session(self.asked, mine) as looked_up,
            found_rows(self.view) as rows,
        ):
            response = self._render()
        whole = _may_be_kept(response)
        is_kept = whole and not self.is_unnamed and self._is_told_apart(told, permitted, looked_up, rows)
        self._tell_caller(is_certain=is_kept)
        if not whole:
            return self._pass_on(response, reason)
        policy = _policy(self.view) if is_kept else None
        headers = self._headers(response, addressed=self.constructor.tells_addresses_apart)
        if policy is None:
            return self._send_unkept(response, headers, reason)
        committed = not lagging and readthrough.may_keep(self.scopes)  # the view may have written
        proven = self.proven in {None, landing.witness}
        made = self._made(response, headers, landing.witness if committed and proven else None)
        named = self.constructor.surrogates(**self.exchange)
        more = tuple(field for field in response.items() if edge.is_for_caches(field[0]))
        tagged = Tagged(self.scopes, named, policy, response.get("Cache-Control"), more)
        return self._keep(replace(made, cost=round(monotonic() - start, 6)), tagged, reason, landing)

    def _tell_caller(self, *, is_certain: bool) -> None:
        audience.tell_caller(self.view, self.request, self.constructor, is_certain=is_certain)

    def _is_told_apart(
        self, hosts_named: list[str], permissions: list[str], own: list[str], rows: list[Model]
    ) -> bool:
        """Return whether the key, and the names of the scopes, are certain to be this question's own; log why not."""
        why = next(chain(self._doubts(hosts_named, permissions, own), self._strays(rows)), "")
        if why:
            _warn(type(self.view).__qualname__, why)
        return not why

    def _doubts(self, hosts_named: list[str], permissions: list[str], own: list[str]) -> Iterator[str]:
        """Yield the reasons for which another question may have the same key, or the scopes may be misspelt."""
        if hosts_named and not any(isinstance(bit, OriginKeyBit) for bit in self.constructor.bits.values()):
            yield "it holds the Host, and no OriginKeyBit is in its key"
        if not is_as_rows_have_it(self.view, captures_named(self.constructor)):
            yield "its address spells what it names in another way than its scopes do"
        if permissions:
            yield f"{permissions[0]} has to be asked of the object each time, unless it is declared closed"
        if own and not (own == [audience.COOKIES] and names_cookies(self.constructor)):
            yield f"it looks into {' and '.join(own)}, which no bit of its key names"
        if lacks_primary_key(self.request):
            yield "its user has no primary key, by which users are told apart"
        named = headers_named(self.constructor) | TOLD_APART
        for name in sorted({name.lower() for name in (*self.varies, *self.varies_too)} - named):
            yield f"it varies by {name}, which no HeadersKeyBit of its key names"

    def _strays(self, rows: list[Model]) -> Iterator[str]:
        """Yield the reason for which no change of a row that was found would end the answer."""
        for row in rows:
            if own := misspelt(row, self.scopes):
                yield f"a change of the row that it found ends {', '.join(own)}, and its key spells that differently"

    def _send_unkept(
        self, response: HttpResponse, headers: list[tuple[str, str]], reason: str
    ) -> HttpResponse:
        """Send what nobody may keep, with its entity tag, on which a write can be made conditional.

        It has no Last-Modified: it is made each time, so the only date to give would be that of the request.
        """
        self.is_private = True
        made = replace(self._made(response, headers, None), changed=None)
        return self._send(made, cache_status.forwarded(reason))

    def _made(self, response: HttpResponse, headers: list[tuple[str, str]], witness: bytes | None) -> Entry:
        made = readthrough.new_entry(
            response.content, headers, witness=witness, now=time.time(), previous=self.previous
        )
        url = "" if self.is_private else self._url()
        return replace(made, expires=getattr(self.request, EXPIRES, None), url=url)

    def _headers(self, response: HttpResponse, *, addressed: bool) -> list[tuple[str, str]]:
        """Return the fields of 200 and 304 that are the same for every client, and for every address of the entry.

        `addressed` says that the entry has one address only, which then is its Content-Location.
        """
        fields = [
            field
            for field in response.items()
            if field[0].lower() not in DECIDED and not edge.is_for_caches(field[0])
        ]
        if addressed and "Content-Location" not in response:
            fields.append(("Content-Location", self._url()))
        if varies := self._varies():
            fields.append(("Vary", ", ".join([*varies, "Accept-Encoding"])))
        return [*fields, NO_VARY_SEARCH] if isinstance(getattr(self.view, "query", None), Query) else fields

    def _varies(self) -> list[str]:
        """Return the request fields that the answer depends on: those of the view's `Vary`, and those of the key."""
        named = headers_named(self.constructor) - {"host"}
        if not issubclass(self.view.content_negotiation_class, JSONContentNegotiation):
            named |= {"accept"}
        known = {"accept-encoding", *(name.lower() for name in self.varies)}
        return self.varies + [name.title() for name in sorted(named - known)]

    def _keep(self, made: Entry, tagged: Tagged, reason: str, landing: Landing) -> HttpResponse:
        """Store what was made, if it may be stored, and send it; other caches may hold only what is current here."""
        kept = tagged.on(self._coded(made), held=made.expires is None)
        seen = clock.seconds()  # before `guarded`, which compares the stamps
        landing.kept = readthrough.store(self.key, tagged.guarded(kept), landing.holder, seen=seen)
        if not landing.kept:
            kept = replace(tagged.on(made, held=False), changed=None)
        elif edge.purgers() and not readthrough.is_current(kept, tagged.scopes):
            kept = tagged.on(made, held=False)
        return self._send(kept, cache_status.forwarded(reason, stored=landing.kept))

    def _url(self) -> str:
        """Return the canonical address of the request: its path, and its query as the key has it."""
        path = escape_leading_slashes(spelt(self.request.path))
        query = canonical_query(self.view, self.request)
        return f"{path}?{query}" if query else path

    def _throttle(self) -> None:
        """Ask the throttles that were deferred until a response has to be computed."""
        throttle = getattr(self.view, "check_throttles_now", None)
        if throttle is not None:
            throttle(self.request)

    def _render(self) -> HttpResponse:
        """Run the handler as for GET, whose answer HEAD describes, and render what it returns."""
        method, self.asked.method = self.asked.method, "GET"
        try:
            return self._rendered()
        finally:
            self.asked.method = method

    def _rendered(self) -> HttpResponse:
        vars(self.view)[ANSWERING] = True
        try:
            response: HttpResponse = self.method(self.view, self.request, *self.args, **self.kwargs)
        finally:
            del vars(self.view)[ANSWERING]
        self.varies = _varied_by(response)  # the view's own, before the framework adds more
        finalized: HttpResponse = self.view.finalize_response(
            self.request, response, *self.args, **self.kwargs
        )
        self.varies_too = _varied_by(finalized)
        return finalized.render() if isinstance(finalized, SimpleTemplateResponse) else finalized

    def _bypass(self) -> HttpResponse:
        """Return a page for people: rendered each time, and kept by nobody."""
        self._throttle()
        response = self._render()
        response["Cache-Control"] = cache_control.PRIVATE
        return self._pass_on(response, cache_status.BYPASS)

    def _pass_on(self, response: HttpResponse, reason: str) -> HttpResponse:
        response.setdefault("Cache-Control", cache_control.PRIVATE)
        response["Cache-Status"] = cache_status.forwarded(reason)
        measured(response)
        return response

    def _with_coding(self, entry: Entry) -> Entry:
        """Return the entry with the content coding to be sent; store it so when the coding is new."""
        coded = self._coded(entry)
        if coded is not entry:
            readthrough.store(self.key, coded, seen=self.looked)
        return coded

    def _coded(self, entry: Entry) -> Entry:
        accept_encoding = self.asked.META.get("HTTP_ACCEPT_ENCODING")
        coding = missing_coding(entry, self.asked.method or "GET", self.conditions, accept_encoding)
        if coding is None:
            return entry
        return replace(entry, coded=(*entry.coded, (coding, encode(entry.body, coding))))

    @cached_property
    def conditions(self) -> Conditions:
        return Conditions.from_environ(self.asked.META)

    def _send(
        self, entry: Entry, status: str, age: int | None = None, *, seen: float = -math.inf
    ) -> HttpResponse:
        """Send the entry, which was the present one at the Unix time `seen`; without that, when it was made."""
        for name in ("Allow", "Vary"):  # REST framework would add these, which the entry does not have
            self.view.headers.pop(name, None)
        given = answer(
            entry,
            self.asked.method or "GET",
            self.conditions,
            Terms(
                now=time.time(),
                seen=seen,
                cache_status=status,
                accept_encoding=self.asked.META.get("HTTP_ACCEPT_ENCODING"),
                is_private=self.is_private,
                age=age,
            ),
        )
        if age is None:
            self._note(given)
        return _http_response(given, entry.body)

    def _note(self, given: Answer) -> None:
        """Note for the fast path what this answer was made from, unless it is for one person."""
        source = getattr(self.asked, "scope", self.asked.META)
        holder: Holder | None = source.get(HOLDER)
        if holder is not None and not self.is_private and is_closed(self.view, self.method, self.constructor):
            holder.key, holder.scopes = self.key, self.scopes
            holder.answer = given


@lru_cache(maxsize=1024)
def _warn(view: str, why: str) -> None:
    """Log, once in each process, why a view's answers are not kept."""
    logger.warning("%s is not kept: %s", view, why)


def _policy(view: Any) -> Policy | None:
    """Return the view's policy for what it has just shown; None where nobody may keep it."""
    decide = getattr(view, "get_cache_policy", None)
    policy: Policy | None = decide() if decide else getattr(view, "cache_policy", Policy())
    return policy


def _may_be_kept(response: HttpResponse) -> bool:
    """Return whether the response is complete, and the view does not forbid to keep it, or to show it to others.

    `Vary: *` forbids both (RFC 9111 section 4.1). Only a response of REST framework's has gone through its renderers.
    """
    if not isinstance(response, Response) or "Content-Encoding" in response:
        return False
    own = response.get("Cache-Control", "").lower()
    whole = response.status_code == 200 and bool(response.content)
    whole &= not response.cookies and "Set-Cookie" not in response
    return whole and "*" not in response.get("Vary", "") and "no-store" not in own and "private" not in own


def _varied_by(response: HttpResponse) -> list[str]:
    return [name.strip() for name in response.get("Vary", "").split(",") if name.strip()]


def _http_response(result: Answer, representation: bytes) -> HttpResponse:
    if result.status in FAILURES:
        kind, detail = FAILURES[result.status]
        response = problem_response(result.status, detail=detail, type=kind)
    else:
        response = RepresentationResponse(result.body, representation, result.status)
    # Without Django's check of each field: it was made when the entry was (`python -m benchmarks server_cpu`).
    response.headers._store.update([(name.lower(), (name, value)) for name, value in result.headers])
    return response
