"""The shape and media type of every error: problem details (RFC 9457) that no cache stores.

The caller decides which error it is.
"""

from __future__ import annotations

import logging
import sys
from http import HTTPStatus
from typing import Any

import orjson
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse

from keybits import cache_control
from keybits.database_errors import Meaning, meaning
from keybits.outages import Outage

__all__ = [
    "MEDIA_TYPE",
    "RETRY_AFTER",
    "OutOfReachError",
    "bad_request",
    "body",
    "database_failure",
    "not_found",
    "permission_denied",
    "problem_response",
    "server_error",
]

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5
"""The `Retry-After`, in seconds, of a 503."""

_logger = logging.getLogger(__name__)
_outage = Outage(_logger, "the database cannot be reached")
_unmigrated = Outage(
    _logger, "the database lacks what `manage.py migrate`, and the grants after it, give this code"
)


class OutOfReachError(DatabaseError):
    """Something that a request needs is unreachable at present: 503. Clients see the text, which says what."""


def body(status: int, title: str = "", detail: str = "", type: str = "", **members: Any) -> dict[str, Any]:
    """Return the members of a problem document (RFC 9457 section 3.1), extension members last.

    `type` is a URI, or "" for `about:blank`; write it out, so that a search for it finds where it is made
    (`docs/problems.md`). The default title is the phrase of the status.
    """
    problem: dict[str, Any] = {
        "type": type or "about:blank",
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
    """Return the problem as a complete response: `application/problem+json`, `private, no-store`, with its length."""
    content = orjson.dumps(body(status, title, detail, **members))
    headers = {"Cache-Control": cache_control.PRIVATE, "Content-Length": str(len(content))}
    return HttpResponse(content, status=status, content_type=MEDIA_TYPE, headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler400`: Django itself has refused the request, for instance for its Host."""
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
    """Django's `handler500`: does not state the cause, which is logged.

    503 if the database is unreachable, or has not been migrated.
    """
    error = sys.exception()
    if isinstance(error, OutOfReachError):
        return _unavailable(str(error), "urn:problem:out-of-reach")
    failure = None if error is None else database_failure(error)
    if failure is not None:
        return _unavailable(*failure)
    return problem_response(500, detail="The server failed; the failure has been logged.")


def database_failure(error: BaseException) -> tuple[str, str] | None:
    """Return what to tell clients, and the type of the problem, if the database cannot be used at present; else None.

    Logs the error (in an `except`), which clients are not told, once a minute while it lasts.
    """
    found = meaning(error)
    if found is Meaning.UNREACHABLE:
        _outage.note(error)
        return "The database cannot be reached at present.", "urn:problem:database-unreachable"
    if found is Meaning.UNMIGRATED:
        _unmigrated.note(error, traceback=True)
        return "The database is not ready yet.", "urn:problem:database-unmigrated"
    return None


def _unavailable(what: str, type: str) -> HttpResponse:
    response = problem_response(503, detail=f"{what} Send the request again.", type=type)
    response["Retry-After"] = str(RETRY_AFTER)
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django would, with a traceback each time
    return response
