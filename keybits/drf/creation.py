"""How POST to a list creates: at most once for each Idempotency-Key, answered with Location and the entity tag."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from keybits import etags
from keybits.drf.attempts import atomically
from keybits.drf.idempotency import once
from keybits.drf.writes import WriteMixin, Written, failed, sent
from keybits.preconditions import Conditions

__all__ = ["AlreadyExistsError", "CreateETAGMixin"]


class AlreadyExistsError(APIException):
    """409: what is to be created exists already. Answered as 412 to a request with `If-None-Match: *`."""

    status_code = 409
    members = {"type": "urn:problem:already-exists"}


class CreateETAGMixin(WriteMixin):
    """`create`: a 201 with Location and the ETag of what was made (RFC 9110 section 9.3.3).

    If-None-Match and If-Match apply to what is to be created: with `If-None-Match: *` an `AlreadyExistsError` becomes a
    412, and If-Match always fails (412). Where no router has a route for the new object, override `get_address`;
    otherwise no Location is sent.
    """

    def create(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        conditions = Conditions.from_environ(request.META)
        if conditions.if_match is not None:
            self.demand_place()
            return failed("There is nothing yet that If-Match could be about.")

        def make() -> Written:
            serializer = self.get_write_serializer(data=request.data)
            serializer.is_valid(raise_exception=True)
            self.perform_create(serializer)
            return self.written(201, serializer.instance)

        def work() -> HttpResponse:
            return sent(self, request, once(request, model, make))

        model = self.get_queryset().model  # type: ignore[attr-defined]
        try:
            return atomically(model, work)
        except AlreadyExistsError as error:
            if conditions.if_none_match is None or not etags.parse(conditions.if_none_match).is_any:
                raise
            return failed(str(error.detail))

    def perform_create(self, serializer: Any) -> None:
        """Save the validated serializer, as a class behind this one does it, if any."""
        behind = getattr(super(), "perform_create", serializer.__class__.save)
        behind(serializer)
