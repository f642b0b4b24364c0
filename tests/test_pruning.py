"""Each command that prunes removes a bounded number of rows at a time, and others write in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Model
from django.utils import timezone
from stacks.threads import aside

from catalog.accounts import keys
from catalog.accounts.models import UsageEvent
from catalog.models import BulkOperation, Tombstone
from keybits import pruning
from keybits.models import IdempotencyKey

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def make_idempotency_key(name: str, at: datetime) -> None:
    IdempotencyKey.objects.create(owner="1", key=name, fingerprint="f", created_at=at)


def make_tombstone(name: str, at: datetime) -> None:
    Tombstone.objects.create(kind="tag", name=name, visibility="public", deleted_at=at)


def make_event(name: str, at: datetime) -> None:
    user, _ = User.objects.get_or_create(username="owner")
    key, _ = keys.issue(user=user, name=name, scopes=["read"])
    UsageEvent.objects.create(account_id=key.account_id, key=key, method="GET", route=name, at=at)


def make_record(name: str, at: datetime) -> None:
    record = BulkOperation.objects.create(kind="delete", username="owner", path=name, count=1)
    BulkOperation.objects.filter(pk=record.pk).update(at=at)


@dataclass(frozen=True)
class Case:
    """A command that prunes, and how to make a row that it is about."""

    command: str
    make: Callable[[str, datetime], None]
    model: type[Model]
    noun: str
    options: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        call_command(self.command, **self.options)

    def count(self) -> int:
        return self.model._default_manager.count()

    def write(self) -> int:
        """Write a new row, as somebody else does, and return how many there were before."""
        count = self.count()
        self.make(f"after {count}", timezone.now())
        return count


CASES = [
    Case("prune_idempotency_keys", make_idempotency_key, IdempotencyKey, "keys"),
    Case("prune_tombstones", make_tombstone, Tombstone, "tombstones"),
    Case("prune_usage", make_event, UsageEvent, "events", {"days": 30}),
    Case("prune_bulk_operations", make_record, BulkOperation, "records", {"days": 30}),
]


@pytest.fixture(params=CASES, ids=lambda case: case.command)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Case:
    """Five old rows and a new one, where two are a batch."""
    case: Case = request.param
    monkeypatch.setattr(pruning, "BATCH", 2)
    monkeypatch.setattr(pruning, "PAUSE", 0)
    for number in range(5):
        case.make(f"old {number}", LONG_AGO)
    case.make("new", timezone.now())
    return case


def test_others_write_between_two_batches_and_see_what_was_removed(case: Case, capsys: Any) -> None:
    seen: list[int] = []

    def look(execute: Any, sql: str, *rest: Any) -> Any:
        """Write by another connection, before the rows of the next batch are looked for."""
        if sql.startswith("SELECT") and "LIMIT" in sql:
            seen.append(aside(case.write).result(20))
        return execute(sql, *rest)

    with connection.execute_wrapper(look):
        case.run()
    assert seen == [6, 6 - 2 + 1, 6 - 4 + 2]
    assert case.count() == 1 + 3
    assert capsys.readouterr().out == f"5 {case.noun} removed.\n"


def test_an_interrupt_loses_nothing_but_the_rest(case: Case, capsys: Any) -> None:
    batches: list[str] = []

    def interrupt(execute: Any, sql: str, *rest: Any) -> Any:
        """Interrupt the second batch, once it is done and before it is committed."""
        result = execute(sql, *rest)
        if sql.startswith("DELETE"):
            batches.append(sql)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return result

    with pytest.raises(KeyboardInterrupt), connection.execute_wrapper(interrupt):
        case.run()
    assert case.count() == 6 - 2
    case.run()
    assert case.count() == 1
    assert capsys.readouterr().out == f"3 {case.noun} removed.\n"


@pytest.mark.django_db
class TestRecordsOfBulkOperations:
    def test_are_kept_unless_an_age_is_named(self) -> None:
        make_record("old", LONG_AGO)
        with pytest.raises(CommandError, match="--days"):
            call_command("prune_bulk_operations")
        assert BulkOperation.objects.exists()

    @pytest.mark.parametrize(("days", "left"), [(400, ["new", "of last year"]), (300, ["new"])])
    def test_are_pruned_by_age_alone(self, days: int, left: list[str]) -> None:
        make_record("of last year", timezone.now() - timedelta(days=365))
        make_record("new", timezone.now())
        call_command("prune_bulk_operations", days=days)
        assert [each.path for each in BulkOperation.objects.all()] == left
