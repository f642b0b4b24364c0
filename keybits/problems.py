"""How an error is written down: problem details (RFC 9457), never storable by a shared cache.

Decides the shape, the media type and the cache headers of every error; which error it is, the caller decides.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from http import HTTPStatus
from typing import Any

import orjson
from django.db import DatabaseError, OperationalError
from django.http import HttpRequest, HttpResponse

from keybits.outages import Outage

__all__ = [
    "CACHE_CONTROL",
    "MEDIA_TYPE",
    "OutOfReachError",
    "bad_request",
    "body",
    "not_found",
    "permission_denied",
    "problem_response",
    "server_error",
]

MEDIA_TYPE = "application/problem+json"
CACHE_CONTROL = "private, no-store"
RETRY_AFTER = 5
"""Seconds after which who met a database that is down is told to ask again."""
UNREACHABLE = frozenset({"57P01", "57P02", "57P03", "53300"})
"""SQLSTATEs of a server that ends, has crashed, begins, or has no connection left; beside class 08."""

_outage = Outage(logging.getLogger(__name__), "the database cannot be reached")


class OutOfReachError(DatabaseError):
    """Something that a request needs cannot be reached at present; its text tells clients what. They may ask again."""


def body(status: int, title: str = "", detail: str = "", type: str = "", **members: Any) -> dict[str, Any]:
    """Return the members of a problem document (RFC 9457 section 3.1), extension members last.

    `type` is a short name such as `unknown-parameter`; "" stands for `about:blank`, where the title is the
    status's own phrase.
    """
    problem: dict[str, Any] = {
        "type": f"urn:problem:{type}" if type else "about:blank",
        "title": title or _phrase(status),
        "status": status,
    }
    if detail:
        problem["detail"] = detail
    return problem | members


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem_response(status: int, title: str = "", detail: str = "", **members: Any) -> HttpResponse:
    """Return the problem as a whole response: `application/problem+json`, `private, no-store`, with its length."""
    content = orjson.dumps(body(status, title, detail, **members))
    headers = {"Cache-Control": CACHE_CONTROL, "Content-Length": str(len(content))}
    return HttpResponse(content, status=status, content_type=MEDIA_TYPE, headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler400`: a request that Django itself refused, a foreign Host among them."""
    return problem_response(
        400, detail="The request is malformed, or its Host is not one that this server answers to."
    )


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler403`."""
    return problem_response(403, detail="You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler404`: no route matches."""
    return problem_response(404, detail="There is nothing at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`: says nothing of the cause, which the log has. 503 where the database is out of reach."""
    error = sys.exception()
    if isinstance(error, OutOfReachError):
        return _unavailable(str(error), "out-of-reach")
    if error is not None and _is_out_of_reach(error):
        _outage.goes_on(error)
        return _unavailable("The database cannot be reached at present.", "database-unreachable")
    return problem_response(500, detail="The server failed; the failure has been logged.")


def _unavailable(what: str, type: str) -> HttpResponse:
    response = problem_response(503, detail=f"{what} Send the request again.", type=type)
    response["Retry-After"] = str(RETRY_AFTER)
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django would, with a traceback each time
    return response


def _is_out_of_reach(error: BaseException) -> bool:
    """Say whether it is for want of a database. Where no server has said anything, psycopg has no SQLSTATE."""
    if not isinstance(error, OperationalError):
        return False
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_CANTOPEN
    state = getattr(cause, "sqlstate", "")
    return state is None or state in UNREACHABLE or state.startswith("08")
