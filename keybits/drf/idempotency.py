"""Requests that may be sent again: what the field Idempotency-Key means, and what a repeat is answered.

By draft-ietf-httpapi-idempotency-key-header-07. A key is its user's; what was answered is kept beside what was done,
in one transaction, for `KEYBITS_IDEMPOTENCY_TTL` seconds. A repeat that comes while the first is being answered waits
for it: the draft has it refused (409), which tells the client to do just that. Only what was done is remembered: a
request that was refused may be sent again, mended or not, under its key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import orjson
from django.core.files import File
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from keybits.bits import user_class
from keybits.drf.writes import Written
from keybits.models import IdempotencyKey

__all__ = ["PATTERN", "IdempotencyKeyError", "KeyReusedError", "once"]

LONGEST = 255
_CHARACTER = r"""(?:[ !#-\[\]-~]|\\["\\])"""  # of a string, by RFC 9651 section 3.3.3
_PLAIN = "[-A-Za-z0-9._:~+/=]"
_STRING = re.compile(f'"({_CHARACTER}*)"')
_TOKEN = re.compile(f"{_PLAIN}+")
PATTERN = f'^(?:"{_CHARACTER}{{1,{LONGEST}}}"|{_PLAIN}{{1,{LONGEST}}})$'
"""What the field may be, as OpenAPI has it (ECMA-262)."""


class IdempotencyKeyError(APIException):
    """400: the field is not one that can be read."""

    status_code = 400
    default_detail = (
        f'Write Idempotency-Key as one string of 1 to {LONGEST} characters in quotes, such as a UUID: "8e03978e-40d5-'
        '43dd-bc93-6894a57f9324".'
    )
    members = {"type": "malformed-idempotency-key", "header": "Idempotency-Key"}


class KeyReusedError(APIException):
    """422: the key was given to another request."""

    status_code = 422
    default_detail = (
        "Idempotency-Key was given to another request, of another address or body. Take a new one."
    )
    members = {"type": "idempotency-key-reused", "header": "Idempotency-Key"}


def once(request: Request, work: Callable[[], Written]) -> Written:
    """Run `work`, or return what it came to when the request was sent first. Call it in a transaction.

    Without an Idempotency-Key, `work` is run. Raises `IdempotencyKeyError` for a field that cannot be read, or that
    nobody in particular sends, and `KeyReusedError` for the key of another request.
    """
    field = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if field is None:
        return work()
    owner, key, fingerprint = _owner(request), _key(field), _fingerprint(request)
    if not owner:
        raise IdempotencyKeyError("Idempotency-Key is for those who have signed in.")
    IdempotencyKey.objects.expired().filter(owner=owner, key=key).delete()
    kept, is_first = IdempotencyKey.objects.get_or_create(
        owner=owner, key=key, defaults={"fingerprint": fingerprint}
    )
    if not is_first:
        return _repeated(kept, fingerprint)
    written = work()
    kept.status, kept.address, kept.body = written.status, written.address, written.body
    kept.save(update_fields=["status", "address", "body"])
    return written


def _owner(request: Request) -> str:
    """Return whose the key is, "" for nobody's. Users of another class may have the same primary key."""
    pk = getattr(request.user, "pk", None)
    return "" if pk is None else f"{user_class(request)}:{pk}".removeprefix(":")


def _key(field: str) -> str:
    """Return the key: a string (RFC 9651), or as many clients write it, the same without quotes."""
    quoted = _STRING.fullmatch(field)
    key = re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else field
    if not 1 <= len(key) <= LONGEST or not (quoted or _TOKEN.fullmatch(key)):
        raise IdempotencyKeyError
    return key


def _fingerprint(request: Request) -> str:
    """Return what tells requests apart: method, address, and what the body says, however it is laid out."""
    said = [request.method, request.get_full_path(), request.data]
    return sha256(orjson.dumps(said, default=_told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _told(value: Any) -> str:
    """Return a text for what JSON has none for: of a file, which is read again afterwards, what is in it."""
    if not isinstance(value, File):
        return str(value)
    content = sha256()
    for chunk in value.chunks():
        content.update(chunk)
    value.seek(0)
    return content.hexdigest()


def _repeated(kept: IdempotencyKey, fingerprint: str) -> Written:
    if kept.fingerprint != fingerprint:
        raise KeyReusedError
    return Written(kept.status, kept.address, bytes(kept.body))
