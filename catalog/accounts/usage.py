"""How much of its quota an account has used: the only module that counts requests and records them.

A request counts, or is refused, by one conditional UPDATE of one row, so the quota is never exceeded, however many
processes count at once. The event is written in the same transaction, so both always agree. Months are in UTC.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import DatabaseError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from catalog.accounts.models import ApiKey, MonthlyUsage, UsageEvent

__all__ = ["Tally", "count", "note_answer"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tally:
    """The state of the month after a request has counted or was refused. Times are in seconds."""

    quota: int | None
    used: int
    month: date
    resets_in: int
    event: int | None
    """The primary key of the event; None where the request was refused."""

    @property
    def counted(self) -> bool:
        """Whether the request has counted."""
        return self.event is not None

    @property
    def left(self) -> int:
        """How many more requests may count this month; 0 where there is no quota."""
        return max(0, (self.quota or 0) - self.used)

    @property
    def window(self) -> int:
        """The length of this month."""
        return (_next(self.month) - self.month).days * 86_400


@transaction.atomic
def count(*, key: ApiKey, method: str, route: str, now: datetime | None = None) -> Tally:
    """Count one request with `key` in this month, and record it, unless the quota is used up; return the tally."""
    now = (now or timezone.now()).astimezone(UTC)
    account, quota, month = key.account, key.account.plan.monthly_quota, now.date().replace(day=1)
    row = MonthlyUsage.objects.filter(account=account, month=month)
    counted = _take(row, quota)
    if not counted:  # there was no row, which others may make concurrently, or no request was left
        if not row.exists():
            MonthlyUsage.objects.bulk_create(
                [MonthlyUsage(account=account, month=month)], ignore_conflicts=True
            )
        counted = _take(row, quota)
    event = UsageEvent(account=account, key=key, at=now, method=method[:20], route=route[:200])
    if counted:
        event.save(force_insert=True)
    # Where the request has counted, we hold the row's lock until COMMIT: nobody else has changed it since.
    used = row.values_list("used", flat=True).get()
    return Tally(quota, used, month, _until_next(month, now), event.pk)


def note_answer(*, event: int, status: int) -> None:
    """Record the status that a counted request was answered with. A database error is only logged."""
    try:
        UsageEvent.objects.answer(event, status)
    except DatabaseError:
        logger.warning("the answer to event %d of use was not noted", event, exc_info=True)


def _take(row: QuerySet[MonthlyUsage], quota: int | None) -> bool:
    within = row if quota is None else row.filter(used__lt=quota)
    return bool(within.update(used=F("used") + 1))


def _next(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)


def _until_next(month: date, now: datetime) -> int:
    """Return the whole seconds until the month is over, at least one."""
    end = datetime.combine(_next(month), datetime.min.time(), UTC)
    return max(1, -int((now - end) // timedelta(seconds=1)))
