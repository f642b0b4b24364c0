"""What a key's account uses is counted exactly, written down for good, and refused once the month is used up."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from stacks.live import LiveServer

from catalog.accounts import append_only, usage
from catalog.accounts.models import AppendOnlyError, MonthlyUsage, Plan, UsageEvent

NOON = datetime(2026, 2, 11, 12, tzinfo=UTC)
SEED = """
from django.contrib.auth.models import User
from catalog.accounts import keys
from catalog.accounts.models import *
plan = Plan.objects.create(slug="some", name="Some", monthly_quota={quota})
user = User.objects.create_user("owner")
Account.objects.create(user=user, plan=plan)
print(keys.issue(user=user, name="live", scopes=["read"])[1].reveal())
"""
TOTALS = """
import time
from catalog.accounts.models import *
until = time.monotonic() + 20  # answers are written down once they have been sent
while UsageEvent.objects.filter(status=None).exists() and time.monotonic() < until:
    time.sleep(0.05)
print(MonthlyUsage.objects.get().used, UsageEvent.objects.filter(status=200).count())
"""


@pytest.mark.django_db
class TestCounting:
    def test_a_month_allows_its_quota_and_not_one_more(self, plan: Plan, issue: Any) -> None:
        key, _ = issue()
        tallies = [usage.count(key=key, method="GET", route="x", now=NOON) for _ in range(5)]
        assert [tally.counted for tally in tallies] == [True, True, True, False, False]
        assert [tally.left for tally in tallies] == [2, 1, 0, 0, 0]
        assert MonthlyUsage.objects.get().used == UsageEvent.objects.count() == 3

    def test_all_keys_of_an_account_share_its_quota(self, plan: Plan, issue: Any) -> None:
        for _ in range(3):
            assert usage.count(key=issue()[0], method="GET", route="x").counted
        assert not usage.count(key=issue()[0], method="GET", route="x").counted

    def test_a_plan_without_a_quota_refuses_nothing_and_counts(self, plan: Plan, issue: Any) -> None:
        plan.monthly_quota = None
        plan.save()
        key, _ = issue()
        assert all(usage.count(key=key, method="GET", route="x").counted for _ in range(5))
        assert MonthlyUsage.objects.get().used == 5

    def test_a_quota_of_nothing_allows_nothing(self, plan: Plan, issue: Any) -> None:
        plan.monthly_quota = 0
        plan.save()
        assert not usage.count(key=issue()[0], method="GET", route="x").counted
        assert not UsageEvent.objects.exists()

    @pytest.mark.parametrize("quota", [None, 3])
    def test_who_comes_second_in_a_month_at_the_same_moment_is_let_in(
        self, plan: Plan, issue: Any, quota: int | None
    ) -> None:
        key, _ = issue()
        key.account.plan.monthly_quota = quota

        def overtaken(execute: Any, sql: str, *rest: Any) -> Any:
            """Let another request make the month's row once this one has found none."""
            found = execute(sql, *rest)
            if sql.startswith("UPDATE") and not MonthlyUsage.objects.exists():
                MonthlyUsage.objects.create(account=key.account, month=NOON.date().replace(day=1), used=1)
            return found

        with connection.execute_wrapper(overtaken):
            tally = usage.count(key=key, method="GET", route="x", now=NOON)
        assert (tally.counted, tally.used) == (True, 2)

    @pytest.mark.parametrize(
        ("now", "month", "resets_in", "days"),
        [
            (datetime(2026, 2, 1, tzinfo=UTC), date(2026, 2, 1), 28 * 86_400, 28),
            (datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), date(2026, 2, 1), 1, 28),
            (datetime(2026, 2, 28, 23, 59, 59, 900_000, tzinfo=UTC), date(2026, 2, 1), 1, 28),
            (datetime(2026, 12, 31, 23, 0, tzinfo=UTC), date(2026, 12, 1), 3600, 31),
            (datetime.fromisoformat("2026-03-01T01:00:00+02:00"), date(2026, 2, 1), 3600, 28),
            (datetime(2024, 2, 29, tzinfo=UTC), date(2024, 2, 1), 86_400, 29),
        ],
    )
    def test_months_are_utc(
        self, plan: Plan, issue: Any, now: datetime, month: date, resets_in: int, days: int
    ) -> None:
        tally = usage.count(key=issue()[0], method="GET", route="x", now=now)
        assert (tally.month, tally.resets_in, tally.window) == (month, resets_in, days * 86_400)
        assert MonthlyUsage.objects.get().month == month

    def test_a_new_month_begins_anew(self, plan: Plan, issue: Any) -> None:
        key, _ = issue()
        for _ in range(4):
            usage.count(key=key, method="GET", route="x", now=NOON)
        assert usage.count(key=key, method="GET", route="x", now=datetime(2026, 3, 1, tzinfo=UTC)).left == 2

    def test_what_cannot_be_written_down_has_not_counted(
        self, plan: Plan, issue: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: Any, **__: Any) -> None:
            raise DatabaseError("the disk is full")

        key, _ = issue()
        with monkeypatch.context() as patch:
            patch.setattr(UsageEvent, "save", fails)
            with pytest.raises(DatabaseError):
                usage.count(key=key, method="GET", route="x", now=NOON)
        assert usage.count(key=key, method="GET", route="x", now=NOON).used == 1

    def test_a_quota_that_was_lowered_below_what_is_used_allows_nothing(self, plan: Plan, issue: Any) -> None:
        key, _ = issue()
        usage.count(key=key, method="GET", route="x")
        Plan.objects.update(monthly_quota=1)
        key.account.plan.refresh_from_db()
        tally = usage.count(key=key, method="GET", route="x")
        assert (tally.counted, tally.left) == (False, 0)


@pytest.mark.django_db
class TestRequests:
    def test_who_has_no_key_is_not_counted_and_told_nothing(self, ask: Any, plan: Plan) -> None:
        for response in (ask("galleries/"), ask("galleries/", "Token wrong")):
            assert not response.has_header("RateLimit")
            assert not response.has_header("RateLimit-Policy")
        assert not UsageEvent.objects.exists()

    def test_every_counted_answer_tells_what_is_left(self, ask: Any, plan: Plan, issue: Any) -> None:
        _, secret = issue()
        answers = [
            ask("galleries/spring/", secret),
            ask("galleries/spring/", secret, HTTP_IF_NONE_MATCH="*"),
            ask("galleries/nothing/", secret),
        ]
        assert [answer.status_code for answer in answers] == [200, 304, 404]
        for left, answer in zip((2, 1, 0), answers, strict=True):
            assert re.fullmatch(rf'"month";r={left};t=[1-9]\d*', answer["RateLimit"])
            assert re.fullmatch(
                r'"month";q=3;w=(2419200|2505600|2592000|2678400)', answer["RateLimit-Policy"]
            )

    @pytest.mark.django_db(transaction=True)
    def test_what_the_cache_answers_counts_and_tells_too(self, ask: Any, plan: Plan, issue: Any) -> None:
        _, secret = issue()
        first, hit = (ask("galleries/", secret) for _ in range(2))
        unchanged = ask("galleries/", secret, HTTP_IF_NONE_MATCH=first["ETag"])
        assert [answer["Cache-Status"].partition(";")[2].strip() for answer in (hit, unchanged)] == [
            "hit"
        ] * 2
        assert [each.status_code for each in (first, hit, unchanged)] == [200, 200, 304]
        lefts = [each["RateLimit"].split(";")[1] for each in (first, hit, unchanged)]
        assert lefts == ["r=2", "r=1", "r=0"]
        assert not {"Allow", "Vary"} & {name for name in hit.headers if name == "Allow"}
        assert ask("galleries/", secret).status_code == 429

    def test_a_plan_without_a_quota_has_nothing_to_tell(self, ask: Any, issue: Any) -> None:
        response = ask("galleries/", issue()[1])
        assert response.status_code == 200
        assert not response.has_header("RateLimit")
        assert UsageEvent.objects.count() == 1

    def test_a_used_up_month_is_a_429_that_says_when_to_come_back(
        self, ask: Any, plan: Plan, issue: Any
    ) -> None:
        _, secret = issue()
        for _ in range(3):
            assert ask("galleries/", secret).status_code == 200
        for method in ("GET", "HEAD", "OPTIONS"):
            response = ask("galleries/", secret, method)
            assert response.status_code == 429
            assert response["Retry-After"] == response["RateLimit"].rpartition("t=")[2]
            assert response["RateLimit"].startswith('"month";r=0;t=')
            assert response["Cache-Control"] == "private, no-store"
        problem = json.loads(ask("galleries/", secret).content)
        assert (problem["type"], problem["violated-policies"]) == ("urn:problem:quota-exceeded", ["month"])
        assert "3 requests" in problem["detail"]
        assert MonthlyUsage.objects.get().used == 3

    def test_everybody_else_still_reads_then(self, ask: Any, plan: Plan, issue: Any) -> None:
        Plan.objects.update(monthly_quota=0)
        assert ask("galleries/", issue()[1]).status_code == 429
        assert ask("galleries/").status_code == 200

    @pytest.mark.parametrize(
        ("path", "field", "status"),
        [("galleries/", "Api-Key wrong", 401), ("galleries/", None, 406), ("nowhere/", None, 404)],
    )
    def test_what_is_refused_before_it_is_looked_at_does_not_count(
        self, ask: Any, plan: Plan, issue: Any, path: str, field: str | None, status: int
    ) -> None:
        response = ask(path, field or issue()[1], HTTP_ACCEPT="text/plain" if status == 406 else "*/*")
        assert response.status_code == status
        assert not UsageEvent.objects.exists()

    def test_what_is_made_and_then_refused_for_its_coding_counts(
        self, ask: Any, plan: Plan, issue: Any
    ) -> None:
        response = ask("galleries/", issue()[1], HTTP_ACCEPT_ENCODING="*;q=0")
        assert (response.status_code, response.has_header("RateLimit")) == (406, True)
        assert MonthlyUsage.objects.get().used == UsageEvent.objects.filter(status=406).count() == 1

    def test_who_exceeds_a_rate_uses_nothing_of_the_month(
        self, ask: Any, plan: Plan, issue: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from keybits.drf.throttles import UserThrottle  # noqa: PLC0415 - its rate is what is changed

        monkeypatch.setattr(UserThrottle, "THROTTLE_RATES", {"user": "1/day"})
        secrets = [issue(scope)[1] for scope in ("read", "capture")]
        assert ask("galleries/", secrets[0]).status_code == 200
        assert [ask(path, secret).status_code for secret in secrets for path in ("galleries/", "docs/")] == [
            429
        ] * 4
        assert MonthlyUsage.objects.get().used == 1

    def test_what_counted_is_written_down_without_its_secret(self, ask: Any, plan: Plan, issue: Any) -> None:
        key, secret = issue()
        ask("galleries/spring/screenshots/", secret, "HEAD")
        event = UsageEvent.objects.get()
        assert (event.account, event.key) == (key.account, key)
        assert (event.method, event.route) == ("HEAD", "gallery-screenshot-list")
        assert event.at.tzinfo is not None
        assert secret.reveal() not in str(vars(event))

    def test_what_counted_is_written_down_with_its_answer(self, ask: Any, issue: Any) -> None:
        _, secret = issue("read", "curate")
        etag = ask("galleries/spring/", secret)["ETag"]
        ask("galleries/spring/", secret, HTTP_IF_NONE_MATCH=etag)
        ask("galleries/spring/", secret, "PATCH")
        ask("galleries/spring/", secret, "DELETE", HTTP_IF_MATCH='"other"')
        ask("galleries/nothing/", secret)
        ask("galleries/?x=1", secret)
        ask("schema/", secret)
        statuses = [event.status for event in UsageEvent.objects.order_by("id")]
        assert statuses == [200, 304, 428, 412, 404, 400, 200]

    @pytest.mark.django_db(transaction=True)
    def test_an_answer_from_the_cache_is_written_down_too(self, ask: Any, issue: Any) -> None:
        _, secret = issue()
        first, hit = (ask("galleries/", secret) for _ in range(2))
        assert hit["Cache-Status"].endswith("; hit")
        ask("galleries/", secret, HTTP_IF_NONE_MATCH=first["ETag"])
        assert [event.status for event in UsageEvent.objects.order_by("id")] == [200, 200, 304]

    def test_an_operation_on_condition_of_a_list_counts_once(self, ask: Any, issue: Any) -> None:
        fields = {"HTTP_X_BULK_OPERATION": "true", "HTTP_IF_MATCH": '"other"'}
        response = ask("galleries/?all=true", issue("read", "curate")[1], "DELETE", **fields)
        assert response.status_code == 412
        assert UsageEvent.objects.count() == MonthlyUsage.objects.get().used == 1

    def test_a_key_that_may_not_read_counts_all_the_same(self, ask: Any, plan: Plan, issue: Any) -> None:
        ask("galleries/", issue("capture")[1])
        assert MonthlyUsage.objects.get().used == 1


@pytest.mark.django_db
class TestEvents:
    @pytest.fixture
    def event(self, plan: Plan, issue: Any) -> UsageEvent:
        usage.count(key=issue()[0], method="GET", route="x", now=NOON)
        return UsageEvent.objects.get()

    @pytest.mark.parametrize(
        "change",
        [
            lambda event: event.save(),
            lambda event: event.delete(),
            lambda event: UsageEvent.objects.update(method="PUT"),
            lambda event: UsageEvent.objects.filter(pk=event.pk).delete(),
            lambda event: UsageEvent.objects.bulk_update([event], ["method"]),
            lambda event: event.account.events.all().delete(),
        ],
        ids=["save", "delete", "update", "delete many", "bulk update", "delete related"],
    )
    def test_are_neither_changed_nor_deleted(
        self, event: UsageEvent, change: Callable[[UsageEvent], Any]
    ) -> None:
        before = UsageEvent.objects.values().get()
        event.method = "PUT"
        with pytest.raises(AppendOnlyError):
            change(event)
        assert UsageEvent.objects.values().get() == before

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE accounts_usageevent SET route = 'y'",
            "UPDATE accounts_usageevent SET status = 200, route = 'y'",
            "UPDATE accounts_usageevent SET status = NULL",
            "DELETE FROM accounts_usageevent",
            "DELETE FROM accounts_usageevent WHERE at < '2030-01-01'",
        ],
    )
    def test_are_neither_changed_nor_deleted_by_sql(self, event: UsageEvent, statement: str) -> None:
        with (
            pytest.raises(IntegrityError, match="neither changed nor deleted"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
        assert UsageEvent.objects.get().route == "x"

    def test_are_told_their_answer_once(self, event: UsageEvent) -> None:
        assert UsageEvent.objects.answer(event.pk, 200)
        assert not UsageEvent.objects.answer(event.pk, 500)
        with (
            pytest.raises(IntegrityError, match="neither changed nor deleted"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute("UPDATE accounts_usageevent SET status = 201")
        assert UsageEvent.objects.get().status == 200

    @pytest.mark.stack("server")
    def test_are_not_truncated(self, event: UsageEvent) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with (
            pytest.raises(IntegrityError, match="neither changed nor deleted"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute("TRUNCATE accounts_usageevent")

    @pytest.mark.stack("server")
    def test_do_not_keep_a_database_without_any_from_being_emptied(self, db: None) -> None:
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE accounts_usageevent")

    @pytest.mark.stack("embedded")
    def test_are_not_replaced(self, event: UsageEvent) -> None:
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT OR REPLACE INTO accounts_usageevent SELECT * FROM accounts_usageevent")

    def test_stay_once_others_have_been_pruned(self, event: UsageEvent) -> None:
        usage.count(key=event.key, method="GET", route="new")
        call_command("prune_usage", days=30)
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM accounts_usageevent")
        assert UsageEvent.objects.get().route == "new"

    def test_stay_once_pruning_has_been_interrupted(self, event: UsageEvent) -> None:
        with pytest.raises(KeyboardInterrupt), append_only.pruning("default"):
            raise KeyboardInterrupt
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM accounts_usageevent")

    def test_stay_after_a_migration_that_lost_their_triggers(self, event: UsageEvent) -> None:
        append_only.drop_triggers(connection)
        append_only.make_triggers(connection)
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM accounts_usageevent")

    def test_keep_the_key_and_the_account_that_they_are_of(self, event: UsageEvent) -> None:
        for row in (event.key, event.account, event.account.user):
            with pytest.raises(Exception, match="protected foreign keys"):
                row.delete()

    def test_are_pruned_by_age_alone_and_the_count_stays(self, event: UsageEvent, capsys: Any) -> None:
        usage.count(key=event.key, method="GET", route="new")
        call_command("prune_usage", days=400)
        assert UsageEvent.objects.count() == 2
        call_command("prune_usage", days=30)
        assert [each.route for each in UsageEvent.objects.all()] == ["new"]
        assert MonthlyUsage.objects.count() == 2
        assert "1 " in capsys.readouterr().out

    @pytest.mark.parametrize("days", [0, -1, 10**9])
    def test_are_not_pruned_by_an_age_that_is_none(self, event: UsageEvent, days: int) -> None:
        with pytest.raises(CommandError, match="days"):
            call_command("prune_usage", days=days)
        assert UsageEvent.objects.exists()


def test_fifty_at_once_from_several_processes_get_the_quota_and_not_one_more(
    live_server_process: Callable[..., LiveServer],
) -> None:
    live = live_server_process(workers=3, seed=SEED.format(quota=20))
    secret = live.seeded
    headers = {"Authorization": f"Api-Key {secret}"}

    def ask(_: int) -> tuple[int, str]:
        with httpx.Client(base_url=live.url, timeout=60, trust_env=False) as client:
            answer = client.get("/api/v1/galleries/", headers=headers)
        return answer.status_code, answer.headers["RateLimit"].partition("r=")[2].partition(";")[0]

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert Counter(status for status, _ in answers) == {200: 20, 429: 30}
    assert sorted(int(left) for status, left in answers if status == 200) == list(range(20))
    assert live.shell(TOTALS).split() == ["20", "20"]
    assert secret not in live.output()


@pytest.mark.stack("embedded")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("used", [None, timezone.now()])
def test_who_cannot_be_counted_while_others_write_is_told_to_come_back(
    ask: Any, issue: Any, used: datetime | None
) -> None:
    """SQLite has one writer; neither the use of a key nor a request can be written down meanwhile."""
    key, secret = issue()
    type(key).objects.update(last_used_at=used)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        response = ask("galleries/", secret)
    connection.close()
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert json.loads(response.content)["type"] == "urn:problem:busy"
    assert ask("galleries/", secret).status_code == 200


@pytest.mark.stack("embedded")
@pytest.mark.django_db(transaction=True)
def test_an_answer_that_cannot_be_written_down_fails_nothing(
    issue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    event = usage.count(key=issue()[0], method="GET", route="x").event
    assert event is not None
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        usage.note_answer(event=event, status=200)
    connection.close()
    assert "was not noted" in caplog.text
    assert UsageEvent.objects.get(pk=event).status is None
