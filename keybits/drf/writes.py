"""Conditional writes of one resource: which PUT, PATCH and DELETE proceed, and what every write answers.

A write must name the representation that it was made for (RFC 6585 section 3). That is compared with the present one
under a lock. The answer is the representation afterwards, with the entity tag that the next GET gives. Permissions
decide before that who may write, and the serializer decides what may be written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import router, transaction
from django.db.models import Model
from django.http import Http404, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.http import escape_leading_slashes
from rest_framework.exceptions import ParseError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_extensions.exceptions import PreconditionRequiredException

from keybits import answers, cache_control, cache_status, codings, etags, readthrough
from keybits.drf.attempts import atomically
from keybits.drf.order import LeadingMixin
from keybits.drf.parsers import has_content, take_in
from keybits.drf.renderers import read
from keybits.drf.responses import RepresentationResponse
from keybits.drf.spelling import value_of
from keybits.entries import Entry
from keybits.middleware import spelt
from keybits.preconditions import NONE, Conditions, Outcome, Validators, evaluate
from keybits.problems import problem_response

__all__ = [
    "WROTE",
    "ConditionalWritesMixin",
    "PreconditionRequiredError",
    "WriteMixin",
    "Written",
    "failed",
    "proceeds",
    "sent",
    "unmet",
]

WROTE = {
    "Cache-Control": cache_control.PRIVATE,
    "Cache-Status": cache_status.forwarded(cache_status.METHOD),
}
"""The fields of answers to writes that show no representation."""


class PreconditionRequiredError(PreconditionRequiredException):  # type: ignore[misc]  # drf-extensions is untyped
    """428: the write does not name the representation that it was made for (RFC 6585 section 3)."""

    default_detail = (
        "Send If-Match with the ETag of the representation that you have, so that no change is lost; "
        "If-Match: * overwrites whatever is there. A date (If-Unmodified-Since) is too coarse."
    )
    members = {"type": "urn:problem:precondition-required", "header": "If-Match"}


@dataclass(frozen=True, slots=True)
class Written:
    """The answer to a write: its status, the path where a GET finds the result, and the representation.

    With 204 both are empty: the client may not see the result.
    """

    status: int
    address: str
    body: bytes


class WriteMixin(LeadingMixin):
    """What the writes of a view share: how a body is read, and what is shown afterwards."""

    create_serializer_class: Any = None
    """The serializer of the body of a create, if it differs from that of other writes."""
    write_serializer_class: Any = None
    """The serializer of a body, if it differs from what `get_serializer_class` returns for the action."""
    represented: dict[str, Any] | None = None
    """The present representation, before the write; part of the write serializer's context."""

    def demand_place(self) -> None:
        """Raise if the client may create nothing in this list. Called before any condition is evaluated."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Receive the body once the client is known to be allowed to send one, and before any transaction begins."""
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        method = request._request.method or ""
        if method not in SAFE_METHODS and hasattr(self, method.lower()):  # the body of a 405 is not read
            take_in(request)

    def get_write_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the serializer of a body. Its context has the present representation as `represented`."""
        kind = self.get_write_serializer_class()
        context = self.get_serializer_context()  # type: ignore[attr-defined]
        return kind(*args, context={**context, "represented": self.represented}, **kwargs)

    def get_write_serializer_class(self) -> Any:
        """Return the serializer class of the body of the current action."""
        creates = getattr(self, "action", None) == "create"
        own = (creates and self.create_serializer_class) or self.write_serializer_class
        return own or self.get_serializer_class()  # type: ignore[attr-defined]

    def get_written(self, instance: Any) -> Any:
        """Return the object as a GET shows it, read again.

        Raises `ObjectDoesNotExist` if this client may not see it.
        """
        return self.get_queryset().get(pk=instance.pk)  # type: ignore[attr-defined]

    def get_address(self, instance: Any) -> str:
        """Return the path at which a GET finds the object after a write; "" if unknown, which sends no address.

        By default, the path of the request; for a list, the one that the router gives its members.
        """
        request: Any = self.request  # type: ignore[attr-defined]
        if request.method == "POST" or getattr(self, "detail", None) is False:
            return _address_of_member(self, instance)
        return escape_leading_slashes(spelt(request.path))

    def written(self, status: int, instance: Any) -> Written:
        """Return the answer that shows `instance` as it is now; 204 if the write has hidden it from its client.

        Raises Django's `IntegrityError`, as COMMIT would, if a row that it refers to is gone.
        """
        try:
            with _retrieving(self):
                shown = self.get_written(instance)
        except ObjectDoesNotExist:  # also raised if a joined row has been deleted meanwhile
            transaction.get_connection(router.db_for_write(type(instance))).check_constraints()
            return Written(204, "", b"")
        return Written(status, self.get_address(shown), self.render(shown))

    def render(self, instance: Any) -> bytes:
        """Return the body of a GET of the object."""
        with _retrieving(self):
            response = Response(self.get_serializer(instance).data)  # type: ignore[attr-defined]
            response.accepted_renderer, response.accepted_media_type = _renderer(self)
            response.renderer_context = self.get_renderer_context()  # type: ignore[attr-defined]
            rendered: bytes = response.rendered_content
        return rendered


def _address_of_member(view: Any, instance: Any) -> str:
    named = ":".join([*view.request.resolver_match.namespaces, f"{getattr(view, 'basename', None)}-detail"])
    capture = view.lookup_url_kwarg or view.lookup_field
    with suppress(NoReverseMatch, AttributeError):  # an object has no value for a lookup such as iexact
        return reverse(named, kwargs={**view.kwargs, capture: value_of(instance, view.lookup_field)})
    return ""


@contextmanager
def _retrieving(view: Any) -> Iterator[None]:
    """In the block, make the view look like one that answers a GET of one object: its action, detail and method."""
    asked = view.request._request
    own = getattr(view, "action", None), getattr(view, "detail", None), asked.method
    view.action, view.detail, asked.method = "retrieve", True, "GET"
    try:
        yield
    finally:
        view.action, view.detail, asked.method = own


def _renderer(view: Any) -> tuple[Any, str]:
    """Return the renderer of a representation, and its media type: the negotiated one if it is JSON, or the first."""
    if view.request.accepted_renderer.format == "json":
        return view.request.accepted_renderer, view.request.accepted_media_type
    first = view.get_renderers()[0]
    return first, first.media_type


class ConditionalWritesMixin(WriteMixin):
    """`update`, `partial_update` and `destroy`, conditional on If-Match (RFC 9110 section 13.1.1).

    Answers 428 without If-Match, and 412 with the present ETag if it does not match. Both come after 401, 403 and 404,
    and before the body is validated, because errors in the body do not help a client whose copy is old. The comparison
    is strong, with the tag of any content coding of the present representation, which is rendered from locked rows (on
    SQLite, in a transaction that has the write lock). A write saves through `perform_update` and `perform_destroy`, as
    REST framework's mixins do.
    """

    def update(self, request: Request, *args: Any, partial: bool = False, **kwargs: Any) -> HttpResponse:
        def change(instance: Any) -> Written:
            if not has_content(request):
                raise ParseError("The body is empty: send what is to be changed.")
            serializer = self.get_write_serializer(instance, data=request.data, partial=partial)
            serializer.is_valid(raise_exception=True)
            self.perform_update(serializer)
            return self.written(200, serializer.instance)

        return self._on_condition(request, change)

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.update(request, *args, partial=True, **kwargs)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        def remove(instance: Any) -> None:
            self.perform_destroy(instance)

        return self._on_condition(request, remove)

    def perform_update(self, serializer: Any) -> None:
        """Save the validated data, as a class behind this one does it, if any."""
        behind = getattr(super(), "perform_update", serializer.__class__.save)
        behind(serializer)

    def perform_destroy(self, instance: Any) -> None:
        """Delete the object, as a class behind this one does it, if any."""
        behind = getattr(super(), "perform_destroy", instance.__class__.delete)
        behind(instance)

    def _on_condition(self, request: Request, write: Callable[[Any], Written | None]) -> HttpResponse:
        """Run `write` on the locked object if the preconditions hold. Answer 204 if it returns None."""

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
        """Return the present representation. An object that a GET does not show is rendered as the write found it."""
        with suppress(ObjectDoesNotExist), _retrieving(self):
            return self.render(self.get_written(instance))
        return self.render(instance)

    def _locked(self) -> Any:
        """Return the locked object. The first read checks permissions; the second reads what the lock now protects."""
        found = self.get_object()  # type: ignore[attr-defined]
        _lock(found)
        return self.get_object()  # type: ignore[attr-defined]


def _lock(instance: Model) -> None:
    """Lock the row as an UPDATE does, but not against rows that refer to it, which others can still delete meanwhile.

    With multi-table inheritance, lock it in each of its tables, from the root on. Databases other than PostgreSQL have
    only a stronger lock. Raises Http404 if the row is gone.
    """
    alias = router.db_for_write(type(instance))
    no_key = transaction.get_connection(alias).features.has_select_for_no_key_update
    for kind in (*reversed(instance._meta.get_parent_list()), type(instance)):
        rows = kind._base_manager.using(alias).select_for_update(no_key=no_key)
        if not list(rows.filter(pk=instance._get_pk_val(kind._meta)).values_list("pk")):
            raise Http404


def _refusal(view: Any, request: Request, body: bytes) -> HttpResponse | None:
    """Return the 412 if the preconditions do not hold for the representation `body` (RFC 9110 section 13.2.2)."""
    conditions = Conditions.from_environ(request.META)
    if conditions.if_match is None:
        raise PreconditionRequiredError
    if proceeds(request, conditions, etags.strong(body)):
        return None
    response = failed(unmet(conditions, "representation", "change"))
    response["ETag"] = dict(_answer(view, request, body, "").headers)["ETag"]
    return response


def proceeds(request: Request, conditions: Conditions, etag: str) -> bool:
    """Return whether a write proceeds whose target has the strong tag `etag` at present (RFC 9110 section 13.2.2).

    The client may name the tag of any content coding.
    """
    tags = codings.entity_tags(etag)
    if conditions.if_match is not None:
        named = (tag for tag in tags if etags.strongly_listed(tag, conditions.if_match))
    else:
        named = (tag for tag in tags if etags.weakly_listed(tag, conditions.if_none_match or ""))
    validators = Validators(next(named, tags[0]))
    return evaluate(request.method or "", conditions, validators) is Outcome.PROCEED


def unmet(conditions: Conditions, target: str, write: str) -> str:
    """Return the detail of a 412: the conditions do not hold for the present state of the target.

    An If-Match without any tag is said to be that: no state of the target would meet it.
    """
    if conditions.if_match is not None and etags.parse(conditions.if_match) == etags.EntityTags():
        return (
            "If-Match has no entity tag that can be read: write one as ETag has it, with its double quotes, "
            "several with commas between them, or * alone."
        )
    return (
        f"The conditions do not hold for the present {target}, whose tag is in ETag (a weak tag never matches). "
        f"Read it again, and decide whether the {write} still makes sense."
    )


def failed(detail: str) -> HttpResponse:
    """Return a 412 with this detail."""
    return problem_response(412, detail=detail, type="urn:problem:precondition-failed")


def _answer(view: Any, request: Request, body: bytes, address: str) -> answers.Answer:
    """Return the answer to a GET of `address`, in the client's preferred content coding, and private."""
    renderer, _ = _renderer(view)
    charset = f"; charset={renderer.charset}" if renderer.charset else ""
    headers = [("Content-Type", f"{renderer.media_type}{charset}")]
    headers += [("Content-Location", address)] if address else []
    entry = replace(readthrough.new_entry(body, headers, witness=None, now=0), changed=None)
    status = cache_status.forwarded(cache_status.METHOD)
    terms = answers.Terms(time.time(), status, _acceptable(request, entry), is_private=True)
    return answers.answer(entry, "GET", NONE, terms)


def _acceptable(request: Request, entry: Entry) -> str | None:
    """Return the Accept-Encoding to obey; None if it excludes every coding, because a write has to be answered."""
    field: str | None = request.META.get("HTTP_ACCEPT_ENCODING")
    return field if codings.admitted(field, entry.body) else None


def sent(view: Any, request: Request, written: Written) -> HttpResponse:
    """Return the answer to a write: the representation afterwards, with its ETag, `private, no-store`."""
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
