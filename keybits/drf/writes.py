"""Conditional writes of one resource: which PUT, PATCH and DELETE go on, and what every write answers.

Decides that a write has to name the representation it was made for (RFC 6585 section 3), compares that with the
present one while nobody else can change it, and answers with what is there afterwards, under the entity tag that the
next GET gives. Who may write has been decided before, what may be written is the serializer's to say.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, OperationalError, router, transaction
from django.db.models import Model
from django.http import Http404, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.http import escape_leading_slashes
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_extensions.exceptions import PreconditionRequiredException

from keybits import answers, cache_control, cache_status, codings, etags, readthrough, replicas
from keybits.drf.parsers import take_in
from keybits.drf.renderers import read
from keybits.drf.responses import RepresentationResponse
from keybits.drf.spelling import value_of
from keybits.entries import Entry
from keybits.middleware import spelt
from keybits.preconditions import NONE, Conditions, Outcome, Validators, evaluate
from keybits.problems import problem_response
from keybits.transactions import WriteRefusedError

__all__ = [
    "WROTE",
    "BusyError",
    "ConditionalWritesMixin",
    "PreconditionRequiredError",
    "ReplicaReadError",
    "WriteMixin",
    "Written",
    "atomically",
    "failed",
    "proceeds",
    "sent",
    "unmet",
]

logger = logging.getLogger(__name__)
T = TypeVar("T")
ATTEMPTS = 3
TRANSIENT = frozenset({"40001", "40P01"})
"""PostgreSQL's codes for a transaction that was given up for another's sake: a serialization failure, a deadlock."""
WROTE = {
    "Cache-Control": cache_control.PRIVATE,
    "Cache-Status": cache_status.forwarded(cache_status.METHOD),
}
"""Fields of what answers a write without being what a GET is answered."""
UNIQUE = "23505"
OVERTAKEN = frozenset({"23503", UNIQUE})
"""Its codes for what another has done first: deleted what a row refers to, as it says at COMMIT, or made the same row,
which one snapshot does not show."""


class PreconditionRequiredError(PreconditionRequiredException):  # type: ignore[misc]  # drf-extensions is untyped
    """428: the write says nothing about what it was made for (RFC 6585 section 3)."""

    default_detail = (
        "Send If-Match with the ETag of the representation that you have, so that nobody's change is lost; "
        "If-Match: * writes over whatever is there. A date (If-Unmodified-Since) is too coarse."
    )
    members = {"type": "precondition-required", "header": "If-Match"}


class BusyError(APIException):
    """503: others were writing the same rows; nothing was written, and the request can be repeated as it is."""

    status_code = 503
    default_detail = "Others are writing the same; nothing was written. Send the request again."
    members = {"type": "busy"}
    wait = 1


class ReplicaReadError(APIException):
    """503: what the write was prepared from was in part a replica's, which may be behind; nothing was written."""

    status_code = 503
    default_detail = "The server could not tell what is there at present; nothing was written."
    members = {"type": "replica-read"}


@dataclass(frozen=True, slots=True)
class Written:
    """What a write has left: the representation, the path where a GET finds it, and the status that says so.

    204 has neither: what is there is not for this client to see.
    """

    status: int
    address: str
    body: bytes


class WriteMixin:
    """What the writes of a view share: how a body is read, and what is shown afterwards."""

    create_serializer_class: Any = None
    """What reads the body of something new, where that is not as below."""
    write_serializer_class: Any = None
    """What reads a body, where that is not what `get_serializer_class` returns for the action."""
    represented: dict[str, Any] | None = None
    """The representation that a write is made for; part of the write serializer's context."""

    def demand_place(self) -> None:
        """Raise what is answered where the client may make nothing in this list: that comes before any condition."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Take the body in as soon as it is known that the client may send one, and before any transaction begins."""
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if hasattr(self, (request.method or "").lower()):  # that of a method which does not apply is not read
            take_in(request)

    def get_write_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the serializer of a body; its context has the present representation as `represented`."""
        kind = self.get_write_serializer_class()
        context = self.get_serializer_context()  # type: ignore[attr-defined]
        return kind(*args, context={**context, "represented": self.represented}, **kwargs)

    def get_write_serializer_class(self) -> Any:
        """Return what reads the body of the present action."""
        creates = getattr(self, "action", None) == "create"
        own = (creates and self.create_serializer_class) or self.write_serializer_class
        return own or self.get_serializer_class()  # type: ignore[attr-defined]

    def get_written(self, instance: Any) -> Any:
        """Return the object as a GET shows it, read anew.

        Raises `ObjectDoesNotExist` where it is not for this client to see.
        """
        return self.get_queryset().get(pk=instance.pk)  # type: ignore[attr-defined]

    def get_address(self, instance: Any) -> str:
        """Return the path at which a GET finds the object after a write, "" where none is known, and none is told.

        By default that of the request, and in a list the one that the router gives to one of its members.
        """
        request: Any = self.request  # type: ignore[attr-defined]
        if request.method == "POST" or getattr(self, "detail", None) is False:
            return _address_of_member(self, instance)
        return escape_leading_slashes(spelt(request.path))

    def written(self, status: int, instance: Any) -> Written:
        """Return the answer that shows `instance` as it is now; 204 where a write has hidden it from its own client.

        Raises Django's `IntegrityError` where what it refers to is gone, as COMMIT would.
        """
        try:
            with _retrieving(self):
                shown = self.get_written(instance)
        except ObjectDoesNotExist:  # so does a join with what somebody has deleted since
            transaction.get_connection(router.db_for_write(type(instance))).check_constraints()
            return Written(204, "", b"")
        return Written(status, self.get_address(shown), self.render(shown))

    def render(self, instance: Any) -> bytes:
        """Return the bytes by which a GET shows the object."""
        with _retrieving(self):
            response = Response(self.get_serializer(instance).data)  # type: ignore[attr-defined]
            response.accepted_renderer, response.accepted_media_type = _renderer(self)
            response.renderer_context = self.get_renderer_context()  # type: ignore[attr-defined]
            rendered: bytes = response.rendered_content
        return rendered


def _address_of_member(view: Any, instance: Any) -> str:
    named = ":".join([*view.request.resolver_match.namespaces, f"{getattr(view, 'basename', None)}-detail"])
    capture = view.lookup_url_kwarg or view.lookup_field
    with suppress(NoReverseMatch, AttributeError):  # of a lookup such as iexact no object tells
        return reverse(named, kwargs={**view.kwargs, capture: value_of(instance, view.lookup_field)})
    return ""


@contextmanager
def _retrieving(view: Any) -> Iterator[None]:
    """Let the view choose, meanwhile, what it chooses for a GET of one object, by its action or by the method."""
    asked = view.request._request
    own = getattr(view, "action", None), getattr(view, "detail", None), asked.method
    view.action, view.detail, asked.method = "retrieve", True, "GET"
    try:
        yield
    finally:
        view.action, view.detail, asked.method = own


def _renderer(view: Any) -> tuple[Any, str]:
    """Return what writes a representation, and its media type: what was negotiated, if that is JSON, or the first."""
    if view.request.accepted_renderer.format == "json":
        return view.request.accepted_renderer, view.request.accepted_media_type
    first = view.get_renderers()[0]
    return first, first.media_type


class ConditionalWritesMixin(WriteMixin):
    """`update`, `partial_update` and `destroy`, each on condition of If-Match (RFC 9110 section 13.1.1).

    Answers 428 without If-Match, 412 with the present ETag where it does not match, in that order after 401, 403 and
    404, and before the body is looked at: a client whose copy is old gains nothing by hearing what is wrong with it.
    The comparison is strong, with the tag of any content coding of the present representation, which is rendered from
    locked rows (on SQLite by the IMMEDIATE transaction that `atomically` begins). A write saves through
    `perform_update` and `perform_destroy`, as REST framework's mixins do.
    """

    def update(self, request: Request, *args: Any, partial: bool = False, **kwargs: Any) -> HttpResponse:
        def change(instance: Any) -> Written:
            serializer = self.get_write_serializer(instance, data=request.data, partial=partial)
            serializer.is_valid(raise_exception=True)
            self.perform_update(serializer)
            return self.written(200, serializer.instance)

        return self._on_condition(request, change)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.update(request, *args, partial=True, **kwargs)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        def remove(instance: Any) -> None:
            self.perform_destroy(instance)  # whatever it returns

        return self._on_condition(request, remove)

    def perform_update(self, serializer: Any) -> None:
        """Save what was validated."""
        serializer.save()

    def perform_destroy(self, instance: Any) -> None:
        """Delete the object."""
        instance.delete()

    def _on_condition(self, request: Request, write: Callable[[Any], Written | None]) -> HttpResponse:
        """Run `write` on the locked object if the preconditions let it; without anything to show, 204."""

        def work() -> HttpResponse:
            instance = self._locked()
            body = self._present(instance)
            refusal = _refusal(self, request, body)
            if refusal is not None:
                return refusal
            self.represented = read(body)
            written = write(instance)
            return _nothing() if written is None else sent(self, request, written)

        return atomically(self.get_queryset().model, work)  # type: ignore[attr-defined]

    def _present(self, instance: Any) -> bytes:
        """Return the present representation; an object that a GET does not show is shown as the write finds it."""
        with suppress(ObjectDoesNotExist), _retrieving(self):
            return self.render(self.get_written(instance))
        return self.render(instance)

    def _locked(self) -> Any:
        """Return the object as it is under its lock: a look at it says whose it is, the next that it is the last."""
        found = self.get_object()  # type: ignore[attr-defined]
        _lock(found)
        return self.get_object()  # type: ignore[attr-defined]


def _lock(instance: Model) -> None:
    """Lock the row as an UPDATE does: not against who refers to it, or what hangs on it could not be deleted meanwhile.

    In each of its tables, where its model has several, from the root on. Databases other than PostgreSQL have only a
    stronger lock. Raises Http404 where the row is gone.
    """
    alias = router.db_for_write(type(instance))
    no_key = transaction.get_connection(alias).features.has_select_for_no_key_update
    for kind in (*reversed(instance._meta.get_parent_list()), type(instance)):
        rows = kind._base_manager.using(alias).select_for_update(no_key=no_key)
        if not list(rows.filter(pk=instance._get_pk_val(kind._meta)).values_list("pk")):
            raise Http404


def atomically(model: type[Model], work: Callable[[], T]) -> T:
    """Run `work` in one transaction of the primary; raise `BusyError` where others keep it from coming to an end.

    Replicas are not asked meanwhile; where one was all the same, nothing is written and `ReplicaReadError` raised.

    What PostgreSQL gave up for another's sake is done again from its beginning, a few times; so is what another was
    faster with: a row that was referred to and is deleted is then not found, one that was made is. Where the same is
    said to be there each time, nobody was faster, and Django's `IntegrityError` is raised: nothing validates that rule.
    """
    alias = router.db_for_write(model)
    attempts = 1 if transaction.get_connection(alias).in_atomic_block else ATTEMPTS
    for left in reversed(range(attempts)):
        try:
            with replicas.filling() as lagging, transaction.atomic(using=alias):
                done = work()
                _demand_primary(lagging, alias)
                return done
        except WriteRefusedError as error:
            raise BusyError from error
        except (OperationalError, IntegrityError) as error:
            if not _is_transient(error) or (attempts > 1 and not left and _sqlstate(error) == UNIQUE):
                raise
            if not left or not _is_given_up(error):
                raise BusyError from error
    raise BusyError


def _demand_primary(lagging: set[str], alias: str) -> None:
    """Raise `ReplicaReadError` where replicas were read: they may be behind what is about to be written over."""
    if lagging:
        logger.error(
            "nothing was written: a write of %s has read %s, which may be behind; take .using() out of its queries",
            alias,
            ", ".join(sorted(lagging)),
        )
        raise ReplicaReadError


def _is_given_up(error: Exception) -> bool:
    return _sqlstate(error) in TRANSIENT | OVERTAKEN


def _sqlstate(error: Exception) -> str | None:
    """Return PostgreSQL's code for what went wrong."""
    return getattr(error.__cause__, "sqlstate", None)


def _is_transient(error: Exception) -> bool:
    return _is_given_up(error) or "database is locked" in str(error)


def _refusal(view: Any, request: Request, body: bytes) -> HttpResponse | None:
    """Return the 412 if the preconditions do not hold for the representation `body` (RFC 9110 section 13.2.2)."""
    conditions = Conditions.from_environ(request.META)
    if conditions.if_match is None:
        raise PreconditionRequiredError
    if proceeds(request, conditions, etags.strong(body)):
        return None
    response = failed(unmet("representation", "change"))
    response["ETag"] = dict(_answer(view, request, body, "").headers)["ETag"]
    return response


def proceeds(request: Request, conditions: Conditions, etag: str) -> bool:
    """Say whether a write goes on whose target has the strong tag `etag` at present (RFC 9110 section 13.2.2).

    The client may know it by the tag of any content coding.
    """
    tags = codings.entity_tags(etag)
    if conditions.if_match is not None:
        named = (tag for tag in tags if etags.strongly_listed(tag, conditions.if_match))
    else:
        named = (tag for tag in tags if etags.weakly_listed(tag, conditions.if_none_match or ""))
    validators = Validators(next(named, tags[0]))
    return evaluate(request.method or "", conditions, validators) is Outcome.PROCEED


def unmet(target: str, write: str) -> str:
    """Return what a client is told whose conditions do not hold for what there is at present."""
    return (
        f"The {target} at present, whose tag ETag says, is not as the conditions have it (a weak tag never matches). "
        f"Read it again, and decide whether the {write} still makes sense."
    )


def failed(detail: str) -> HttpResponse:
    """Return a 412 that says what did not hold."""
    return problem_response(412, detail=detail, type="precondition-failed")


def _answer(view: Any, request: Request, body: bytes, address: str) -> answers.Answer:
    """Return what a GET of `address` would be answered, in the coding that the client prefers, to it alone."""
    renderer, _ = _renderer(view)
    charset = f"; charset={renderer.charset}" if renderer.charset else ""
    headers = [("Content-Type", f"{renderer.media_type}{charset}")]
    headers += [("Content-Location", address)] if address else []
    entry = replace(readthrough.new_entry(body, headers, witness=None, now=0), changed=None)
    status = cache_status.forwarded(cache_status.METHOD)
    terms = answers.Terms(time.time(), status, _acceptable(request, entry), is_private=True)
    return answers.answer(entry, "GET", NONE, terms)


def _acceptable(request: Request, entry: Entry) -> str | None:
    """Return the Accept-Encoding to go by: none, where it would leave nothing to answer a write with."""
    field: str | None = request.META.get("HTTP_ACCEPT_ENCODING")
    return field if codings.admitted(field, entry.body) else None


def sent(view: Any, request: Request, written: Written) -> HttpResponse:
    """Return the answer to a write: what it has left, with its ETag, `private, no-store`."""
    if written.status == 204:
        return _nothing()
    location = {"Location": written.address} if written.status == 201 and written.address else {}
    if request.accepted_renderer.format != "json":  # a page for people
        return Response(read(written.body), status=written.status, headers={**location, **WROTE})
    for name in ("Allow", "Vary"):  # REST framework would add them
        view.headers.pop(name, None)
    answer = _answer(view, request, written.body, written.address)
    response = RepresentationResponse(answer.body, written.body, written.status)
    for name, value in (*answer.headers, *location.items()):
        response[name] = value
    return response


def _nothing() -> HttpResponse:
    return Response(status=204, headers=WROTE)
