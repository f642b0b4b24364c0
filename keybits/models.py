"""The one table that keybits has a model for: what was answered to requests that may come again."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

from keybits.conf import conf

__all__ = ["IdempotencyKey", "IdempotencyKeyQuerySet"]


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    def expired(self) -> IdempotencyKeyQuerySet:
        """The keys that are older than `KEYBITS_IDEMPOTENCY_TTL`: they mean nothing any more."""
        return self.filter(created_at__lte=timezone.now() - timedelta(seconds=conf.IDEMPOTENCY_TTL))


class IdempotencyKey(models.Model):
    """A key that a client gave a request, which request it was, and what that was answered.

    The row is written in the transaction of what the request did, so that there is either both or neither.
    """

    owner = models.CharField(max_length=255)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    address = models.TextField(blank=True)
    body = models.BinaryField(default=b"")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="keybits_idempotency_key_once")]

    def __str__(self) -> str:
        return self.key
