"""Requests that may be sent again: what the field Idempotency-Key means, and how a repeat is answered.

As in draft-ietf-httpapi-idempotency-key-header-07. A key belongs to its user. The answer is kept in the transaction of
the change itself, for `KEYBITS_IDEMPOTENCY_TTL` seconds. A repeat that comes while the first request is being answered
waits for it, where the draft would answer 409, which asks the client to wait. Only successful requests are remembered:
a request that was refused may be sent again under its key, changed or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import orjson
from django.core.files import File
from django.db import router
from django.db.models import Model
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from keybits.bits import user_class
from keybits.drf.writes import Written
from keybits.models import IdempotencyKey, IdempotencyKeyQuerySet

__all__ = ["PATTERN", "IdempotencyKeyError", "KeyReusedError", "once", "owned_key"]

LONGEST = 255
_CHARACTER = r"""(?:[ !#-\[\]-~]|\\["\\])"""  # of a string, by RFC 9651 section 3.3.3
_PLAIN = "[-A-Za-z0-9._:~+/=]"
_STRING = re.compile(f'"({_CHARACTER}*)"')
_TOKEN = re.compile(f"{_PLAIN}+")
PATTERN = f'^(?:"{_CHARACTER}{{1,{LONGEST}}}"|{_PLAIN}{{1,{LONGEST}}})$'
"""The syntax of the field as an ECMA-262 regular expression, for OpenAPI."""


class IdempotencyKeyError(APIException):
    """400: the field is malformed, or the client is anonymous."""

    status_code = 400
    default_detail = (
        f'Write Idempotency-Key as one string of 1 to {LONGEST} characters in quotes, such as a UUID: "8e03978e-40d5-'
        '43dd-bc93-6894a57f9324".'
    )
    members = {"type": "urn:problem:malformed-idempotency-key", "header": "Idempotency-Key"}


class KeyReusedError(APIException):
    """422: the key was used for another request."""

    status_code = 422
    default_detail = (
        "Idempotency-Key was used for another request, with another address or body. Use a new one."
    )
    members = {"type": "urn:problem:idempotency-key-reused", "header": "Idempotency-Key"}


def once(request: Request, model: type[Model], work: Callable[[], Written]) -> Written:
    """Run `work` and return its result, or the result of when the request was first sent.

    Call it in a transaction of the database in which `model` is written: the key is kept there. Without an
    Idempotency-Key, `work` is run. Raises `IdempotencyKeyError` for a field that is malformed or sent by an anonymous
    client, or where that database keeps no keys, and `KeyReusedError` for a key that was used for another request.
    """
    named = owned_key(request)
    if named is None:
        return work()
    (owner, key), fingerprint, keys = named, _fingerprint(request), _keys_beside(model)
    keys.expired().filter(owner=owner, key=key).delete()
    kept, is_first = keys.get_or_create(owner=owner, key=key, defaults={"fingerprint": fingerprint})
    if not is_first:
        return _repeated(kept, fingerprint)
    written = work()
    kept.status, kept.address, kept.body = written.status, written.address, written.body
    kept.save(using=keys.db, update_fields=["status", "address", "body"])
    return written


def _keys_beside(model: type[Model]) -> IdempotencyKeyQuerySet:
    alias = router.db_for_write(model)
    if not router.allow_migrate_model(alias, IdempotencyKey):
        raise IdempotencyKeyError(
            "No Idempotency-Key can be kept for this address. Send the request without it."
        )
    return IdempotencyKey.objects.using(alias)


def owned_key(request: Request) -> tuple[str, str] | None:
    """Return the name of the key's owner, and the key; None where the request has no Idempotency-Key.

    Raises `IdempotencyKeyError` for a field that is malformed or sent by an anonymous client.
    """
    field = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if field is None:
        return None
    owner, key = _owner(request), _key(field)
    if not owner:
        raise IdempotencyKeyError("Idempotency-Key is for those who have signed in.")
    return owner, key


def _owner(request: Request) -> str:
    """Return the key's owner, or "" for nobody. It names the user's class: primary keys are unique in a class only."""
    pk = getattr(request.user, "pk", None)
    return "" if pk is None else f"{user_class(request)}:{pk}".removeprefix(":")


def _key(field: str) -> str:
    """Return the key: a string (RFC 9651 section 3.3.3), or the same without quotes, as many clients write it."""
    quoted = _STRING.fullmatch(field)
    key = re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else field
    if not 1 <= len(key) <= LONGEST or not (quoted or _TOKEN.fullmatch(key)):
        raise IdempotencyKeyError
    return key


def _fingerprint(request: Request) -> str:
    """Return a digest of the method, the address, and the parsed body, however it is formatted."""
    said = [request.method, request.get_full_path(), request.data]
    return sha256(orjson.dumps(said, default=_told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _told(value: Any) -> str:
    """Return a text for a value that JSON cannot express; for a file, a digest of its content. Rewinds the file."""
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
