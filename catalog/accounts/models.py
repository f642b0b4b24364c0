"""What an account, a plan, a key and a usage record are.

Of a key only its prefix is stored, by which it is found, and a digest, by which it is verified. Keys are revoked, not
deleted, and usage events are only ever added, so that what was done with a key stays on record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinLengthValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.accounts import append_only
from keybits.pruning import prune

__all__ = [
    "LATEST",
    "Account",
    "ApiKey",
    "AppendOnlyError",
    "MonthlyUsage",
    "Plan",
    "Scope",
    "UsageEvent",
    "validate_active",
]


class Scope(models.TextChoices):
    """What a key may be used for. `curate` includes `read`: what may be changed may be seen."""

    READ = "read", "Read: see the private galleries of its account"
    CURATE = "curate", "Curate: see them, and change galleries, screenshots and tags"
    CAPTURE = "capture", "Capture: have pages pictured"


LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""The latest time at which a key can expire: later times have no date in some time zones and databases."""
SCOPES_WANTED = f"Give some of {', '.join(Scope.values)}, each once."


class AppendOnlyError(Exception):
    """A usage event was to be changed or deleted. Only `manage.py prune_usage` removes events, and only by age."""


def validate_scopes(scopes: Any) -> None:
    """Raise `ValidationError` for anything but a non-empty list of different scopes."""
    known = isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes)
    if not known or not scopes or len(set(scopes)) < len(scopes) or not set(scopes) <= set(Scope.values):
        raise ValidationError(SCOPES_WANTED)


def validate_active(user: Any) -> None:
    """Raise `ValidationError` for a user whose keys are refused."""
    if not user.is_active:
        raise ValidationError(f"{user} is inactive: the key would be refused from the start.")


class Plan(models.Model):
    """How many requests an account may make in a month."""

    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=100)
    monthly_quota = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text="Requests with a key in each month (UTC). Empty: as many as they like.",
    )

    class Meta:
        ordering = ["slug"]
        constraints: ClassVar = [models.CheckConstraint(condition=~Q(slug=""), name="plan_slug_not_empty")]

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """One user's plan and keys."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="account")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="accounts")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return str(self.user)


class ApiKey(models.Model):
    """One key of an account, without its secret. `catalog.accounts.keys` issues, finds and revokes keys."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=100, help_text="What it is for.")
    prefix = models.CharField(max_length=12, unique=True, editable=False, validators=[MinLengthValidator(12)])
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(
        validators=[validate_scopes],
        error_messages={"blank": SCOPES_WANTED},
        help_text="What it may be used for.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(LATEST, "Give a moment until 9999-12-31T00:00Z, or none.")],
        help_text="Empty: never.",
    )
    revoked_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "API key"
        verbose_name_plural = "API keys"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def user(self) -> Any:
        """The user of the key's account."""
        return self.account.user

    def clean(self) -> None:
        """Raise `ValidationError` for a new key of an inactive user."""
        if self._state.adding and self.account_id is not None:
            validate_active(self.user)

    def allows(self, scope: str) -> bool:
        """Return whether the key may be used for `scope`: one of its scopes, or `read` where it has `curate`."""
        return scope in self.scopes or (scope == Scope.READ and Scope.CURATE in self.scopes)

    def is_good(self, now: datetime | None = None) -> bool:
        """Return whether the key can be used: it is neither revoked nor expired, and its user is active."""
        now = now or timezone.now()
        expired = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and not expired and self.account.user.is_active


class MonthlyUsage(models.Model):
    """How many requests of an account have counted in one month. Only `catalog.accounts.usage` writes it."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="usage")
    month = models.DateField(help_text="Its first day, in UTC.")
    used = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-month", "account"]
        verbose_name_plural = "monthly usage"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "month"], name="usage_once_a_month")
        ]

    def __str__(self) -> str:
        return f"{self.account_id} in {self.month:%Y-%m}: {self.used}"


class UsageEventQuerySet(models.QuerySet["UsageEvent"]):
    """Rows that may be added and read, but neither changed nor deleted."""

    def update(self, **_: Any) -> NoReturn:
        """Raise `AppendOnlyError`."""
        raise AppendOnlyError("Events of use are not changed.")

    def delete(self) -> NoReturn:
        """Raise `AppendOnlyError`."""
        raise AppendOnlyError("Events of use are not deleted; `manage.py prune_usage` removes old ones.")

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `AppendOnlyError`."""
        raise AppendOnlyError("Events of use are not changed.")

    def answer(self, pk: int, status: int) -> bool:
        """Set the status of the response, if it is not set yet; return whether it was set."""
        return bool(models.QuerySet.update(self.filter(pk=pk, status=None), status=status))

    def prune(self, before: datetime) -> int:
        """Delete events older than `before`, in batches, and return how many: only for `manage.py prune_usage`."""
        return prune(self.filter(at__lt=before).order_by("at", "id"), _remove)


def _remove(events: UsageEventQuerySet) -> int:
    with append_only.pruning(events.db):
        return events.order_by()._raw_delete(events.db)


class UsageEvent(models.Model):
    """One request that counted: account, key, time, method, route and status; never a secret."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="events")
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    method = models.CharField(max_length=20)
    route = models.CharField(max_length=200, help_text="The name of the address, not the address itself.")
    status = models.PositiveSmallIntegerField(
        null=True, editable=False, help_text="Of the answer; empty where none came to be made."
    )

    objects = UsageEventQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "-id"]
        indexes: ClassVar = [
            models.Index(fields=["account", "-at"], name="usage_event_by_account"),
            models.Index(fields=["-at", "-id"], name="usage_event_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.method} {self.route}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the event. Raises `AppendOnlyError` for one that is already saved."""
        if not self._state.adding:
            raise AppendOnlyError("Events of use are not changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `AppendOnlyError`."""
        raise AppendOnlyError("Events of use are not deleted; `manage.py prune_usage` removes old ones.")
