"""A view's closed query grammar: what it does not accept never reaches filters, pagination or keys."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from keybits import cache_control
from keybits.drf.order import LeadingMixin
from keybits.lookups import unwatched
from keybits.parameters import Choice, Parameter
from keybits.query import NO_QUERY, Grammar, Query, QueryError

__all__ = ["FORMAT", "ClosedQueryMixin", "InvalidQueryError", "query_string"]


FORMAT = Choice(
    name="format",
    choices=("json", "api"),
    description="`api` answers with a page for people, which no cache keeps; `json` is the default.",
)


class InvalidQueryError(APIException):
    """400 (414 where it is too long): the query string is not one that this view accepts."""

    status_code = 400

    def __init__(self, error: QueryError) -> None:
        super().__init__(error.detail, error.kind)
        self.status_code = 414 if error.kind == "urn:problem:query-too-long" else 400
        named = {"parameter": error.parameter, "allowed": error.allowed, "suggestion": error.suggestion}
        self.members = {"type": error.kind} | {name: value for name, value in named.items() if value}


class ClosedQueryMixin(LeadingMixin):
    """Parse the query string before anything else reads it.

    The view sees only the canonical query, as `view.query`, in `request.query_params` and in the request's own address.
    """

    query: Query = NO_QUERY

    def get_query_parameters(self) -> list[Parameter]:
        """Return the parameters that this view accepts: `format`, and what subclasses add."""
        return [FORMAT]

    def get_grammar(self) -> Grammar:
        """Return the grammar of these parameters. A class whose views all have the same parameters can cache it."""
        return Grammar(self.get_query_parameters())

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        self._query_error = self._close(request)
        drf_request: Request = super().initialize_request(request, *args, **kwargs)  # type: ignore[misc]
        return drf_request

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if self._query_error is not None and hasattr(self, (request.method or "").lower()):  # otherwise a 405
            raise InvalidQueryError(self._query_error)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """As REST framework's, but not to be stored, since what a client may do depends on who it is; and with what
        a PATCH may have (RFC 5789 section 3.1)."""
        response: Response = super().options(request, *args, **kwargs)  # type: ignore[misc]
        response["Cache-Control"] = cache_control.PRIVATE
        if "PATCH" in self.allowed_methods:  # type: ignore[attr-defined]
            types = [parser.media_type for parser in self.get_parsers()]  # type: ignore[attr-defined]
            response["Accept-Patch"] = ", ".join(types)
        return response

    def _close(self, request: Any) -> QueryError | None:
        """Replace the request's query by the canonical one, or after an error by none. Return the error, or None."""
        error = None
        self.query = NO_QUERY
        text = query_string(request)
        try:
            self.query = _without_default_format(self.get_grammar().parse(text))
        except QueryError as found:
            error = found
        if self.query.canonical != text or request.encoding:  # a client may name a charset in Content-Type
            request.GET = QueryDict(self.query.canonical)
            meta = unwatched(request.META)  # copied, but not read
            request.META = {**meta, "QUERY_STRING": self.query.canonical}  # links are made of it
        return error


def _without_default_format(query: Query) -> Query:
    """Return `query` without `format=json`, which is the default."""
    if ("format", "json") not in query.pairs:
        return query
    return Query(tuple(pair for pair in query.pairs if pair != ("format", "json")))


def query_string(request: Any) -> str:
    """Return the query's bytes decoded as latin-1, as in WSGI. Django's ASGI handler has decoded them as UTF-8."""
    text: str = request.META.get("QUERY_STRING", "")
    return text.encode().decode("latin-1") if hasattr(request, "scope") else text
