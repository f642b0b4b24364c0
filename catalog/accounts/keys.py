"""How a key is made, recognized and revoked: the only module that handles a secret.

A key is `prefix.secret`, with 256 random bits of the system as the secret. Such a secret cannot be guessed, whatever
the hash, so a slow hash would cost every request much and stop no attacker: SHA-256 is right here, as it would not be
for passwords. A secret read from a request is hashed at once, and no object that lives longer holds it, so that neither
a traceback nor a log can show it.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.db import DatabaseError, router, transaction
from django.db.models import Q
from django.utils import timezone

from catalog.accounts.models import Account, ApiKey, Plan

__all__ = ["Presented", "Secret", "find", "issue", "note_use", "revoke", "seal"]

logger = logging.getLogger(__name__)

PREFIX = re.compile(r"[0-9a-f]{12}")
NOTED_EACH = timedelta(minutes=1)
"""The time after which a key's last use is noted again."""
NOBODYS = sha256(b"").hexdigest()
"""What a key with an unknown prefix is compared with, so that it takes as long."""


class Secret:
    """A complete key that has just been issued. Only `reveal` returns it; `repr` does not show it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "<a secret>"

    def reveal(self) -> str:
        """Return the key, to be shown once."""
        return self._text


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as a client presented it: the prefix, which finds it, and the digest, which proves it."""

    prefix: str
    digest: str = field(repr=False)

    @classmethod
    def read(cls, text: str) -> Presented:
        """Return what `text` presents, with an empty prefix if it cannot be a key."""
        prefix = text.partition(".")[0]
        return cls(prefix if PREFIX.fullmatch(prefix) else "", _digest(text))


def seal(key: ApiKey) -> Secret:
    """Give an unsaved key its prefix and digest, and return the complete key, which is kept nowhere."""
    key.prefix = secrets.token_hex(6)
    text = f"{key.prefix}.{secrets.token_urlsafe(32)}"
    key.digest = _digest(text)
    return Secret(text)


@transaction.atomic
def issue(
    *, user: Any, name: str, scopes: Sequence[str], expires_at: datetime | None = None
) -> tuple[ApiKey, Secret]:
    """Create a key for `user`, with an account if there is none, and return it with its secret, which is kept nowhere.

    Raises `ValidationError` for a name or scopes that a key cannot have, and for an inactive user.
    """
    key = ApiKey(account=_account_of(user), name=name, scopes=list(scopes), expires_at=expires_at)
    secret = seal(key)
    key.full_clean()
    key.save()
    return key, secret


def _account_of(user: Any) -> Account:
    """Return the user's account; create it if needed, with the plan `standard`, which has no quota when created."""
    found = Account.objects.filter(user=user).first()
    if found is not None:
        return found
    plan, _ = Plan.objects.get_or_create(slug="standard", defaults={"name": "Standard"})
    return Account.objects.get_or_create(user=user, defaults={"plan": plan})[0]


@transaction.atomic
def revoke(*, key: ApiKey) -> None:
    """Revoke the key: the next request with it is refused. Idempotent."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db(fields=["revoked_at"])


def find(presented: Presented) -> ApiKey | None:
    """Return the key that was presented, with its account, user and plan; None unless it is known and usable.

    The time that this takes does not reveal whether a prefix is known: a digest is compared either way, in constant
    time.
    """
    primary = router.db_for_write(ApiKey)  # a replica may not know yet that it is revoked
    related = ApiKey.objects.using(primary).select_related("account__user", "account__plan")
    key = related.filter(prefix=presented.prefix).first()
    is_right = hmac.compare_digest(key.digest if key else NOBODYS, presented.digest)
    return key if key and is_right and key.is_good() else None


def note_use(key: ApiKey) -> None:
    """Note that the key is used now, at most once a minute, however many processes see it used.

    A database error is logged, and refuses nobody.
    """
    now = timezone.now()
    if key.last_used_at is not None and key.last_used_at > now - NOTED_EACH:
        return
    due = Q(last_used_at=None) | Q(last_used_at__lte=now - NOTED_EACH)
    try:
        with transaction.atomic(using=router.db_for_write(ApiKey)):
            ApiKey.objects.filter(due, pk=key.pk).update(last_used_at=now)
    except DatabaseError:
        logger.warning("the last use of the key %s was not noted", key.prefix, exc_info=True)


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
