"""The one table that keybits has a model for: the answers to requests that a client may repeat."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

from keybits.conf import conf

__all__ = ["IdempotencyKey", "IdempotencyKeyQuerySet"]


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    def expired(self) -> IdempotencyKeyQuerySet:
        """Return the keys that are older than `KEYBITS_IDEMPOTENCY_TTL`, and no longer valid."""
        return self.filter(created_at__lte=timezone.now() - timedelta(seconds=conf.IDEMPOTENCY_TTL))


class IdempotencyKey(models.Model):
    """A key that a client gave to a request, a fingerprint of the request, and the answer to it.

    The row is written in the transaction of the request's own changes, so that both are committed or neither is.
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
