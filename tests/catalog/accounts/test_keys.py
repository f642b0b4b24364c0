"""A key shows who its client is, to the reach of its scopes, until it ends; what is wrong with one nobody learns."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from catalog.accounts import keys
from catalog.accounts.models import ApiKey, UsageEvent

pytestmark = pytest.mark.django_db
PAST = datetime(2020, 1, 1, tzinfo=UTC)


def slugs(response: Any) -> set[str]:
    assert response.status_code == 200, response.content
    return {item["slug"] for item in json.loads(response.content)["results"]}


class TestIssuing:
    def test_a_secret_has_256_bits_of_its_own_and_is_kept_nowhere(self, issue: Any) -> None:
        texts = [issue()[1].reveal() for _ in range(3)]
        assert {len(text.partition(".")[2]) for text in texts} == {43}  # 32 bytes in base64
        assert len(set(texts)) == 3
        stored = str(list(ApiKey.objects.values()))
        assert not [text for text in texts if text.partition(".")[2] in stored]

    @pytest.mark.parametrize(
        "scopes", [[], ["write"], ["read", "read"], ["read", "write"], [["read"]], "read"]
    )
    def test_scopes_that_there_are_not_are_refused(self, owner: User, scopes: Any) -> None:
        with pytest.raises(ValidationError, match="read, curate, capture"):
            keys.issue(user=owner, name="test", scopes=scopes)
        assert not ApiKey.objects.exists()

    def test_a_key_without_a_name_is_refused(self, owner: User) -> None:
        with pytest.raises(ValidationError, match="name"):
            keys.issue(user=owner, name="", scopes=["read"])

    def test_who_has_no_account_gets_one_for_all_of_their_keys(self, issue: Any) -> None:
        accounts = {issue()[0].account for _ in range(2)}
        assert [account.plan.monthly_quota for account in accounts] == [None]

    def test_a_secret_does_not_show_itself(self, issue: Any) -> None:
        key, secret = issue()
        text = secret.reveal()
        shown = f"{secret} {secret!r} {key} {key!r} {keys.Presented.read(text)!r} {vars(key)}"
        assert text not in shown
        assert text.partition(".")[2] not in shown
        assert key.digest not in f"{key} {key!r} {keys.Presented.read(text)!r}"


class TestWhoAsks:
    @pytest.mark.parametrize("scope", ["read", "curate"])
    def test_a_key_to_read_or_curate_shows_what_is_private_to_its_account(
        self, ask: Any, issue: Any, scope: str
    ) -> None:
        _, secret = issue(scope)
        assert slugs(ask("galleries/", secret)) == {"spring", "vault"}
        assert ask("galleries/vault/", secret).status_code == 200

    def test_another_key_shows_what_everybody_sees(self, ask: Any, issue: Any) -> None:
        _, secret = issue("capture")
        assert slugs(ask("galleries/", secret)) == {"spring"}
        assert ask("galleries/vault/", secret).status_code == 404

    @pytest.mark.parametrize("first", ["read", "capture"])
    def test_keys_of_one_account_do_not_show_each_other_s_answers(
        self, ask: Any, issue: Any, first: str
    ) -> None:
        secrets = {scope: issue(scope)[1] for scope in ("read", "capture")}
        seen = {"read": {"spring", "vault"}, "capture": {"spring"}}
        for scope in [first, *secrets]:
            assert slugs(ask("galleries/", secrets[scope])) == seen[scope]
        assert slugs(ask("galleries/")) == {"spring"}

    def test_no_answer_to_a_key_is_for_others_to_keep(self, ask: Any, issue: Any) -> None:
        for scope in ("read", "capture"):
            assert ask("galleries/", issue(scope)[1])["Cache-Control"] == "private, no-store"

    def test_the_scheme_is_read_in_any_case(self, ask: Any, issue: Any) -> None:
        _, secret = issue("read")
        assert ask("galleries/vault/", f"aPI-kEY   {secret.reveal()} ").status_code == 200

    def test_a_key_comes_before_a_session(self, client: Any, issue: Any) -> None:
        client.force_login(User.objects.create_user("other"))
        headers = {"Authorization": f"Api-Key {issue('read')[1].reveal()}"}
        assert client.get("/api/v1/galleries/vault/", headers=headers).status_code == 200


def ways_to_end() -> dict[str, Any]:
    return {
        "revoked": lambda key: keys.revoke(key=key),
        "expired": lambda key: ApiKey.objects.filter(pk=key.pk).update(expires_at=timezone.now()),
        "of somebody inactive": lambda key: User.objects.update(is_active=False),
        "deleted": lambda key: ApiKey.objects.filter(pk=key.pk).delete(),
    }


class TestRefusal:
    def refused(self, response: Any) -> bytes:
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == "Api-Key"
        assert response["Cache-Control"] == "private, no-store"
        assert response["Content-Type"] == "application/problem+json"
        return bytes(response.content)

    @pytest.mark.parametrize("end", ways_to_end())
    def test_a_key_that_has_ended_is_refused_at_once(self, ask: Any, issue: Any, end: str) -> None:
        key, secret = issue("read")
        assert ask("galleries/").status_code == 200
        assert keys.find(keys.Presented.read(secret.reveal())) == key
        ways_to_end()[end](key)
        self.refused(ask("galleries/", secret))

    def test_every_refusal_says_the_same(self, ask: Any, issue: Any) -> None:
        revoked, (_, expired), good = issue(), issue(expires_at=PAST), issue()
        keys.revoke(key=revoked[0])
        prefix, _, text = good[1].reveal().partition(".")
        presented = [
            "Api-Key",
            "Api-Key ",
            "Api-Key x",
            "Api-Key x.y z",
            "Api-Key \xff.\xff",
            "Api-Key \x00.\x00",
            f"Api-Key {prefix}",
            f"Api-Key {prefix}.",
            f"Api-Key {prefix}.{text}x",
            f"Api-Key {prefix}.{text[:-1]}",
            f"Api-Key {'0' * 12}.{text}",
            f"Api-Key {good[0].digest}",
            f"Api-Key {prefix}.{good[0].digest}",
            revoked[1],
            expired,
        ]
        assert len({self.refused(ask("galleries/", each)) for each in presented}) == 1

    def test_a_known_prefix_takes_the_same_steps_as_an_unknown_one(
        self, issue: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prefix = issue()[0].prefix
        compared = []

        def compare(*digests: str) -> bool:
            compared.append([len(digest) for digest in digests])
            return original(*digests)

        original = hmac.compare_digest
        monkeypatch.setattr(hmac, "compare_digest", compare)
        for each in (prefix, "0" * 12, "x"):
            with CaptureQueriesContext(connection) as queries:
                assert keys.find(keys.Presented.read(f"{each}.wrong")) is None
            assert len(queries) == 1
        assert compared == [[64, 64]] * 3

    def test_a_digest_of_the_secret_alone_decides(self, issue: Any) -> None:
        key, secret = issue()
        ApiKey.objects.filter(pk=key.pk).update(digest=keys.NOBODYS)
        assert keys.find(keys.Presented.read(secret.reveal())) is None

    def test_nobody_s_digest_opens_nothing(self) -> None:
        assert keys.find(keys.Presented.read("")) is None

    def test_who_is_refused_has_used_nothing(self, ask: Any, issue: Any) -> None:
        key, secret = issue()
        keys.revoke(key=key)
        self.refused(ask("galleries/", secret))
        key.refresh_from_db()
        assert key.last_used_at is None
        assert not UsageEvent.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_whether_a_key_is_good_no_replica_is_asked(self, issue: Any, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = ["keybits.replicas.ReplicaRouter"]
        settings.KEYBITS_REPLICAS = ["one that is away"]
        key, secret = issue()
        assert keys.find(keys.Presented.read(secret.reveal())) == key
        keys.revoke(key=key)
        assert key.revoked_at is not None
        assert keys.find(keys.Presented.read(secret.reveal())) is None

    def test_revoking_twice_is_revoking_once(self, issue: Any) -> None:
        key, _ = issue()
        keys.revoke(key=key)
        first = key.revoked_at
        keys.revoke(key=key)
        assert key.revoked_at == first


def test_a_key_ends_at_the_moment_that_it_was_given(issue: Any) -> None:
    end = timezone.now() + timedelta(days=1)
    key, _ = issue(expires_at=end)
    assert key.is_good(end - timedelta(microseconds=1))
    assert not key.is_good(end)


class TestLastUse:
    def test_is_noted_at_most_once_a_minute(self, issue: Any) -> None:
        key, secret = issue()
        for _ in range(3):
            found = keys.find(keys.Presented.read(secret.reveal()))
            assert found is not None
            with CaptureQueriesContext(connection) as queries:
                keys.note_use(found)
        assert len(queries) == 0
        key.refresh_from_db()
        assert timezone.now() - key.last_used_at < timedelta(minutes=1)

    def test_of_processes_that_looked_at_once_one_notes_it(self, issue: Any) -> None:
        key, _ = issue()
        same = [ApiKey.objects.get(pk=key.pk) for _ in range(3)]
        noted = []
        for each in same:
            keys.note_use(each)
            key.refresh_from_db()
            noted.append(key.last_used_at)
        assert len(set(noted)) == 1

    def test_a_use_that_cannot_be_noted_refuses_nobody(
        self, ask: Any, issue: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(execute: Any, sql: str, *rest: Any) -> Any:
            if sql.startswith("UPDATE") and '"last_used_at" =' in sql:
                raise DatabaseError("the disk is full")
            return execute(sql, *rest)

        key, secret = issue("read")
        with connection.execute_wrapper(fails):
            assert "vault" in slugs(ask("galleries/", secret))
        assert f"the last use of the key {key.prefix} was not noted" in caplog.text

    def test_is_noted_again_after_a_minute(self, issue: Any) -> None:
        key, _ = issue()
        before = timezone.now() - timedelta(seconds=61)
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=before)
        key.refresh_from_db()
        keys.note_use(key)
        key.refresh_from_db()
        assert key.last_used_at > before


class TestChallenge:
    @pytest.mark.parametrize(
        ("field", "challenge"), [("Api-Key x", "Api-Key"), ("api-key x", "Api-Key"), ("Token x", "Token")]
    )
    def test_is_of_the_scheme_that_was_tried(self, ask: Any, db: None, field: str, challenge: str) -> None:
        assert ask("galleries/", field)["WWW-Authenticate"] == challenge
