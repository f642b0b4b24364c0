"""How much of its quota an account has used: the only place where that is counted, and written down.

A request counts, or is refused, by one conditional UPDATE of one row, so the quota is never exceeded, however many
processes count at once; the event is written in the same transaction, so the two always agree. Months are UTC.
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
    """What the month looks like once a request has counted, or was refused. Times are in seconds."""

    quota: int | None
    used: int
    month: date
    resets_in: int
    event: int | None
    """The key of the event; none where the request was refused."""

    @property
    def counted(self) -> bool:
        """Whether the request has counted."""
        return self.event is not None

    @property
    def left(self) -> int:
        """How many more requests the month has; 0 where there is no quota to say so."""
        return max(0, (self.quota or 0) - self.used)

    @property
    def window(self) -> int:
        """How long this month is."""
        return (_next(self.month) - self.month).days * 86_400


@transaction.atomic
def count(*, key: ApiKey, method: str, route: str, now: datetime | None = None) -> Tally:
    """Count one request with `key` in this month, and write it down, unless the quota is used up."""
    now = (now or timezone.now()).astimezone(UTC)
    account, quota, month = key.account, key.account.plan.monthly_quota, now.date().replace(day=1)
    row = MonthlyUsage.objects.filter(account=account, month=month)
    counted = _take(row, quota)
    if not counted:  # for want of a row, which another may have made by now, or of a request
        if not row.exists():
            MonthlyUsage.objects.bulk_create(
                [MonthlyUsage(account=account, month=month)], ignore_conflicts=True
            )
        counted = _take(row, quota)
    event = UsageEvent(account=account, key=key, at=now, method=method[:20], route=route[:200])
    if counted:
        event.save(force_insert=True)
    # Ours until the commit, where it has counted: nobody else has changed it since.
    used = row.values_list("used", flat=True).get()
    return Tally(quota, used, month, _until_next(month, now), event.pk)


def note_answer(*, event: int, status: int) -> None:
    """Write down what a request that counted was answered. An answer that stands already is not lost for want of it."""
    try:
        UsageEvent.objects.answer(event, status)
    except DatabaseError:
        logger.warning("the answer to event %d of use was not written down", event, exc_info=True)


def _take(row: QuerySet[MonthlyUsage], quota: int | None) -> bool:
    within = row if quota is None else row.filter(used__lt=quota)
    return bool(within.update(used=F("used") + 1))


def _next(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)


def _until_next(month: date, now: datetime) -> int:
    """Whole seconds until the month is over, at least one."""
    end = datetime.combine(_next(month), datetime.min.time(), UTC)
    return max(1, -int((now - end) // timedelta(seconds=1)))
