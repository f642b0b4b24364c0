"""Idempotency-Key: what is sent again under its key is done once, and answered as it was."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from writing import problem, sent

from catalog.models import Gallery, Screenshot
from keybits.models import IdempotencyKey

pytestmark = pytest.mark.django_db

BODY = {"gallery": "spring", "title": "New", "source_url": "https://new.example/"}


def post(client, key=None, body=None, target="/screenshots/", **fields):
    header = {} if key is None else {"Idempotency-Key": key}
    return sent(client, "POST", target, BODY if body is None else body, **fields, **header)


class TestRepeat:
    def test_is_answered_alike_and_does_nothing(self, by_token, world):
        first = post(by_token, '"a"')
        assert first.status_code == 201
        count = Screenshot.objects.count()
        again = post(by_token, '"a"')
        assert (again.status_code, again.content) == (201, first.content)
        for name in ("Location", "Content-Location", "ETag", "Cache-Control", "Content-Type"):
            assert again[name] == first[name], name
        assert Screenshot.objects.count() == count

    def test_is_answered_as_it_was_also_when_that_has_changed_or_is_gone(self, by_token, world):
        first = post(by_token, '"a"', target="/galleries/spring/screenshots/")
        Screenshot.objects.filter(title="New").update(title="Changed")
        Gallery.objects.filter(slug="spring").delete()
        again = post(by_token, '"a"', target="/galleries/spring/screenshots/")
        assert (again.status_code, again.content) == (201, first.content)

    def test_comes_in_any_coding_with_the_tag_of_that(self, by_token, world):
        first = post(by_token, '"a"')
        again = post(by_token, '"a"', Accept_Encoding="gzip")
        assert again["ETag"] == f'{first["ETag"][:-1]}-gzip"'

    def test_may_lay_its_body_out_otherwise(self, by_token, world):
        post(by_token, '"a"')
        body = dict(reversed(BODY.items()))
        assert post(by_token, '"a"', body).status_code == 201
        assert Screenshot.objects.filter(title="New").count() == 1

    def test_without_a_key_is_another_request(self, by_token, world):
        for _ in range(2):
            assert post(by_token).status_code == 201
        assert Screenshot.objects.filter(title="New").count() == 2


class TestKey:
    def test_of_another_body_or_address_is_refused(self, by_token, world):
        post(by_token, '"a"')
        for body, target in [
            ({**BODY, "title": "Other"}, "/screenshots/"),
            (BODY, "/galleries/spring/screenshots/"),
            ({"slug": "x"}, "/tags/"),
        ]:
            document = problem(post(by_token, '"a"', body, target), 422, "idempotency-key-reused")
            assert document["header"] == "Idempotency-Key"
        assert Screenshot.objects.filter(title="New").count() == 1

    def test_is_its_users_own(self, by_token, by_user, world):
        post(by_token, '"a"')
        other = by_user(world.other)
        assert post(other, '"a"', {**BODY, "gallery": "autumn"}).status_code == 201

    def test_is_free_again_after_a_refusal(self, by_token, world):
        problem(post(by_token, '"a"', {**BODY, "title": ""}), 400, "invalid-value")
        assert post(by_token, '"a"').status_code == 201

    def test_is_the_same_with_and_without_quotes(self, by_token, world):
        assert post(by_token, "8e03978e-40d5").content == post(by_token, '"8e03978e-40d5"').content

    @pytest.mark.parametrize(
        "field",
        [
            "",
            '""',
            '"',
            '"a',
            "a b",
            '"a", "b"',
            "a,b",
            '"ä"',
            '"\\x"',
            "x" * 256,
            f'"{"x" * 256}"',
            '"a";p=1',
        ],
    )
    def test_that_cannot_be_read_is_refused_with_how_to_write_it(self, by_token, world, field):
        document = problem(post(by_token, field), 400, "malformed-idempotency-key")
        assert "UUID" in document["detail"]
        assert not Screenshot.objects.filter(title="New").exists()

    @pytest.mark.parametrize("field", ['"a b, c"', '"\\"\\\\"', "x" * 255])
    def test_may_be_any_string(self, by_token, world, field):
        assert post(by_token, field).content == post(by_token, field).content

    def test_is_kept_with_what_was_done_or_not_at_all(self, by_token, world, monkeypatch):
        """The rows of both are in one transaction: here the last statement of it fails."""

        def fail(execute, sql, params, many, context):
            if sql.startswith("UPDATE") and "idempotencykey" in sql:
                raise ConnectionError
            return execute(sql, params, many, context)

        with connection.execute_wrapper(fail), pytest.raises(ConnectionError):
            post(by_token, '"a"')
        assert not IdempotencyKey.objects.exists()
        assert not Screenshot.objects.filter(title="New").exists()


class TestExpiry:
    def test_ends_what_a_key_means(self, by_token, world, settings):
        settings.KEYBITS_IDEMPOTENCY_TTL = 60
        post(by_token, '"a"')
        IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(seconds=61))
        assert post(by_token, '"a"', {**BODY, "title": "Other"}).status_code == 201

    def test_is_what_the_command_goes_by(self, by_token, world, settings, capsys):
        settings.KEYBITS_IDEMPOTENCY_TTL = 60
        for key in ("old", "new"):
            post(by_token, key)
        old = IdempotencyKey.objects.filter(key="old")
        old.update(created_at=timezone.now() - timedelta(seconds=61))
        call_command("prune_idempotency_keys")
        assert [each.key for each in IdempotencyKey.objects.all()] == ["new"]
        assert capsys.readouterr().out == "1 keys removed.\n"
