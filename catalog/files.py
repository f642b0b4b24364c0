"""The view that sends the bytes of a rendition: who may read them, who may store them, and which range is sent.

A name is made of the bytes, so its answer never changes, and whoever may store it may keep it for ever. A plain Django
view: REST framework only identifies a client that sends `Authorization`, and only for files that are not public.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.views import APIView

from catalog import freshness
from catalog.capture import storage
from catalog.models import Screenshot
from catalog.policy import FILES
from keybits import edge, replicas
from keybits.cache_control import PRIVATE
from keybits.preconditions import Conditions, Outcome, Validators, evaluate, range_applies
from keybits.problems import problem_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from django.core.files import File
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request

    from catalog.models import Viewer

CHUNK = 65_536
"""Bytes that are read at once."""

# RFC 9110 section 14.1.2, one range only. A hundred digits suffice for any length, and bound the work.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,100})-([0-9]{0,100})[ \t]*", re.IGNORECASE)


class RangeError(ValueError):
    """No byte of the representation lies in the range (RFC 9110 section 15.5.17)."""


@csrf_exempt  # nothing is changed here, and other methods get a 405
def serve(request: HttpRequest, name: str) -> HttpResponseBase:
    """Answer GET and HEAD for `files/<name>`, where `name` is the last segment of `storage.url`."""
    response = _answer(request, name)
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _answer(request: HttpRequest, name: str) -> HttpResponseBase:
    if request.method not in ("GET", "HEAD"):
        return _method_not_allowed()
    address = storage.parse(name)
    if address is None:
        return _not_found()
    with replicas.filling() as lagging:
        return _answer_from(request, address, lagging)


def _answer_from(request: HttpRequest, address: tuple[str, str], lagging: set[str]) -> HttpResponseBase:
    """Answer by what the database says. `lagging` names the replicas that were read."""
    if shown := _shown(None, *address):
        return _kept(request, address, shown.size, _private() if lagging else _public(shown))
    if "HTTP_AUTHORIZATION" in request.META:
        return _by_credentials(request, address=address)
    # Without a session cookie there is no user, and reading the session would make the answer vary by cookie.
    if settings.SESSION_COOKIE_NAME in request.COOKIES:
        return _own(request, address)
    return _not_found()


# --- Visibility ---------------------------------------------------------------------------------------------


class _Shown(NamedTuple):
    """A screenshot that shows a file: its id, its gallery's slug, and the file's length in bytes."""

    screenshot: int
    gallery: str
    size: int


def _public(shown: _Shown) -> list[tuple[str, str]]:
    """Return the fields of a file that any cache may store.

    The surrogate keys of one of the screenshots that show it suffice: while that one is public, so is the file.
    """
    return [
        ("Cache-Control", FILES),
        *edge.key_fields(freshness.screenshot_takedown(shown.screenshot, shown.gallery)),
    ]


def _private() -> list[tuple[str, str]]:
    """Return the fields of a file that no cache may store."""
    return [("Cache-Control", PRIVATE)]


def _own(request: HttpRequest, address: tuple[str, str]) -> HttpResponseBase:
    """Answer with a file that this user may see, and not everybody."""
    shown = _shown(request.user, *address)
    return _kept(request, address, shown.size, _private()) if shown else _not_found()


class _CredentialsView(APIView):
    """Authenticates a client, and refuses wrong credentials, as the API does. The request is not throttled."""

    http_method_names = ["get", "head"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.perform_authentication(request)  # no negotiation: `Accept` is about pictures here

    def get(self, request: Request, address: tuple[str, str]) -> HttpResponseBase:
        return _own(request._request, address)


_by_credentials = _CredentialsView.as_view()


def _kept(
    request: HttpRequest, address: tuple[str, str], size: int, fields: Iterable[tuple[str, str]]
) -> HttpResponseBase:
    """Answer with the file, if all of its `size` bytes are there, and with `fields`, which say who may store it."""
    if not storage.exists(*address, size):
        return _not_found()
    try:
        response = _conditional(request, *address, size)
    except FileNotFoundError:
        return _not_found()
    if response.status_code < 400:
        for field, value in fields:
            response[field] = value
    return response


def _shown(viewer: Viewer, sha256: str, format: str) -> _Shown | None:
    """Return a screenshot that shows this file and that the viewer may see, or None."""
    reachable = Screenshot.objects.reachable_by(viewer)
    rows = reachable.filter(renditions__sha256=sha256, renditions__format=format).order_by()
    found = rows.values_list("pk", "gallery__slug", "renditions__bytes").first()
    return _Shown(*found) if found else None


# --- Preconditions and ranges -------------------------------------------------------------------------------


def _conditional(request: HttpRequest, sha256: str, format: str, size: int) -> HttpResponseBase:
    """Answer as the preconditions and the range demand (RFC 9110 section 13.2.2); `size` in bytes."""
    validators = Validators(etag=f'"{sha256}"')
    conditions = Conditions.from_environ(request.META)
    outcome = evaluate(request.method or "", conditions, validators)
    if outcome is Outcome.PRECONDITION_FAILED:
        detail = "If-Match does not hold: a file's tag is the digest in its name."
        return problem_response(412, detail=detail, type="urn:problem:precondition-failed")
    if outcome is Outcome.NOT_MODIFIED:
        return _not_modified(validators)
    asked = request.headers.get("Range") if range_applies(conditions, validators) else None
    # Section 14.2: Range is defined for GET alone.
    if asked is None or request.method == "HEAD":
        return _whole(request, sha256, format, size)
    return _part(request, sha256, format, size, asked)


def _not_modified(validators: Validators) -> HttpResponse:
    response = HttpResponse(status=304, headers={"ETag": validators.etag or ""})
    del response["Content-Type"]  # Django's default: a cache would take the picture for HTML
    return response


def _whole(request: HttpRequest, sha256: str, format: str, size: int) -> HttpResponseBase:
    return _send(request, sha256, format, 0, size)


def _part(request: HttpRequest, sha256: str, format: str, size: int, asked: str) -> HttpResponseBase:
    try:
        found = read_range(asked, size)
    except RangeError:
        return _range_not_satisfiable(size)
    if found is None:
        return _whole(request, sha256, format, size)
    first, last = found
    response = _send(request, sha256, format, first, last + 1 - first)
    response.status_code = 206
    response["Content-Range"] = f"bytes {first}-{last}/{size}"
    return response


def read_range(field: str, size: int) -> tuple[int, int] | None:
    """Return the positions of the first and the last byte that a Range field asks for, out of `size` bytes.

    None means to send everything: several ranges, another unit, or a malformed field (RFC 9110 section 14.2 lets a
    server ignore them). Raises `RangeError` if the range contains no byte.
    """
    parts = _RANGE.fullmatch(field.strip())
    if parts is None or parts[1] == parts[2] == "":
        return None
    if parts[1] == "":
        return _suffix(int(parts[2]), size)
    first, last = int(parts[1]), int(parts[2] or size)
    if parts[2] and last < first:
        return None
    if first >= size:
        raise RangeError
    return first, min(last, size - 1)


def _suffix(length: int, size: int) -> tuple[int, int]:
    if length == 0 or size == 0:
        raise RangeError
    return max(0, size - length), size - 1


# --- Bytes --------------------------------------------------------------------------------------------------


class _Stretch:
    """A part of an open file that reads like a file itself; closing it closes the file."""

    name = ""

    def __init__(self, file: File[bytes], first: int, length: int) -> None:
        file.seek(first)
        self._file = file
        self._left = length
        self.close = file.close

    def read(self, size: int = CHUNK) -> bytes:
        data: bytes = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


class _Chunks:
    """The chunks of a stretch, read outside the event loop; closing it closes the file."""

    def __init__(self, stretch: _Stretch) -> None:
        self._read = sync_to_async(stretch.read, thread_sensitive=False)
        self.close = stretch.close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._read(CHUNK):
            yield chunk


def _send(request: HttpRequest, sha256: str, format: str, first: int, length: int) -> HttpResponseBase:
    """Send `length` bytes from byte `first` on, in chunks. HEAD gets the same fields, without opening the file."""
    is_head = request.method == "HEAD"
    response = HttpResponse() if is_head else _stream(request, sha256, format, first, length)
    response["Content-Type"] = storage.MEDIA_TYPES[format]
    response["Content-Length"] = str(length)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = f'"{sha256}"'
    return response


def _stream(request: HttpRequest, sha256: str, format: str, first: int, length: int) -> HttpResponseBase:
    stretch = _Stretch(storage.open(sha256, format), first, length)
    if isinstance(request, ASGIRequest):  # Django would read a synchronous iterator to its end before sending
        return StreamingHttpResponse(_Chunks(stretch))
    response = FileResponse(stretch)
    response.block_size = CHUNK
    return response


# --- Errors -------------------------------------------------------------------------------------------------


def _method_not_allowed() -> HttpResponse:
    response = problem_response(405, detail="A file can be read with GET and HEAD only.")
    response["Allow"] = "GET, HEAD"
    return response


def _not_found() -> HttpResponse:
    return problem_response(404, detail="There is no such file. A screenshot's renditions list addresses.")


def _range_not_satisfiable(size: int) -> HttpResponse:
    response = problem_response(416, detail=f"The file has {size:,} bytes; ask for a range within them.")
    response["Content-Range"] = f"bytes */{size}"
    return response
