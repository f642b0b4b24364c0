"""Idempotency-Key: what is sent again under its key is done once, and answered as it was."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory
from stacks.threads import aside
from writing import problem, sent

from catalog.models import BulkOperation, Gallery, Screenshot
from keybits.drf.idempotency import IdempotencyKeyError, KeyReusedError, once
from keybits.drf.writes import Written
from keybits.models import IdempotencyKey

pytestmark = pytest.mark.django_db

BODY = {"gallery": "spring", "title": "New", "source_url": "https://new.example/"}


def post(client, key=None, body=None, target="/screenshots/", **fields):
    header = {} if key is None else {"Idempotency-Key": key}
    return sent(client, "POST", target, BODY if body is None else body, **fields, **header)


class Robot:
    """Somebody who signs in, and has no row among the users."""

    is_authenticated = True

    def __init__(self, pk):
        self.pk = pk


def asked(user, method="POST"):
    request = Request(APIRequestFactory().generic(method, "/", headers={"Idempotency-Key": '"a"'}))
    request.user = user
    return request


def made(user):
    return Written(201, "/made/", type(user).__name__.encode())


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

    def test_is_not_that_of_a_user_of_another_class_with_the_same_id(self, django_user_model):
        user, robot = django_user_model(pk=1), Robot(1)
        assert [once(asked(each), Gallery, lambda each=each: made(each)) for each in (user, robot)] == [
            made(user),
            made(robot),
        ]

    def test_is_nobody_s_who_has_not_signed_in(self):
        """Nobody can be told from anybody else, who would be sent the answer."""
        with pytest.raises(IdempotencyKeyError, match="signed in"):
            once(asked(AnonymousUser()), Gallery, lambda: made("x"))

    def test_of_another_method_is_refused(self, django_user_model):
        user = django_user_model(pk=1)
        once(asked(user, "PATCH"), Gallery, lambda: made(user))
        with pytest.raises(KeyReusedError):
            once(asked(user, "DELETE"), Gallery, lambda: made(user))

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
        assert document["header"] == "Idempotency-Key"
        assert not Screenshot.objects.filter(title="New").exists()

    @pytest.mark.parametrize("field", ['"a b, c"', '"\\"\\\\"', "x" * 255, f'"{chr(92) * 2 * 255}"'])
    def test_may_be_any_string(self, by_token, world, field):
        first, second = post(by_token, field), post(by_token, field)
        assert (first.status_code, second.status_code) == (201, 201)
        assert second.content == first.content

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


def bulk(client, method, body=None, target="/screenshots/?gallery=spring", key='"a"', **fields):
    return sent(client, method, target, body, X_BULK_OPERATION="true", Idempotency_Key=key, **fields)


def positions():
    return list(Screenshot.objects.order_by("pk").values_list("position", flat=True))


class TestBulk:
    FURTHER = {"position": {"add": 10}}

    def test_change_is_done_once_and_answered_alike(self, by_token, world):
        before = world.shots["cat"].position
        first = bulk(by_token, "PATCH", self.FURTHER)
        assert (first.status_code, json.loads(first.content)["count"]) == (200, 5)
        again = bulk(by_token, "PATCH", self.FURTHER)
        assert (again.status_code, again.content) == (200, first.content)
        for name in ("Cache-Control", "Content-Type"):
            assert again[name] == first[name], name
        assert Screenshot.objects.get(pk=world.shots["cat"].pk).position == before + 10
        assert BulkOperation.objects.count() == 1

    def test_deletion_is_done_once_and_answered_alike(self, by_token, world):
        first = bulk(by_token, "DELETE")
        world.add("late", "spring")
        again = bulk(by_token, "DELETE")
        assert (again.status_code, again.content) == (200, first.content)
        assert Screenshot.objects.filter(title="Late").exists()

    def test_key_of_another_operation_is_refused(self, by_token, world):
        bulk(by_token, "PATCH", self.FURTHER)
        for method, body, target in [
            ("PATCH", {"position": {"add": 11}}, "/screenshots/?gallery=spring"),
            ("PATCH", self.FURTHER, "/screenshots/?gallery=vault"),
            ("DELETE", None, "/screenshots/?gallery=spring"),
        ]:
            problem(bulk(by_token, method, body, target), 422, "idempotency-key-reused")

    def test_dry_run_leaves_the_key_to_the_operation(self, by_token, world):
        dry = "/screenshots/?gallery=spring&dry_run=true"
        before = positions()
        for _ in range(2):
            assert json.loads(bulk(by_token, "PATCH", self.FURTHER, dry).content)["dry_run"] is True
        assert (positions(), IdempotencyKey.objects.count()) == (before, 0)
        assert bulk(by_token, "PATCH", self.FURTHER).status_code == 200
        assert bulk(by_token, "PATCH", self.FURTHER, dry).status_code == 200

    def test_key_is_free_again_after_a_refusal(self, by_token, world):
        problem(bulk(by_token, "PATCH", {"position": {"add": -99}}), 400, "invalid-value")
        problem(bulk(by_token, "PATCH", self.FURTHER, "/screenshots/?all=true"), 403, "rows-forbidden")
        assert not IdempotencyKey.objects.exists()
        assert bulk(by_token, "PATCH", self.FURTHER).status_code == 200


OPERATIONS = [
    ("PATCH", {"position": {"add": 10}}, "/screenshots/?gallery=spring"),
    ("DELETE", None, "/screenshots/?gallery=spring"),
    ("POST", [BODY], "/screenshots/"),
]


class TestBulkOnCondition:
    @pytest.mark.parametrize(("method", "body", "target"), OPERATIONS)
    def test_is_answered_alike_though_it_no_longer_holds(self, by_token, world, method, body, target):
        condition = {"If_Match": by_token(target)["ETag"]}
        first = bulk(by_token, method, body, target, **condition)
        assert first.status_code in {200, 201}, first.content
        again = bulk(by_token, method, body, target, **condition)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        problem(bulk(by_token, method, body, target, key='"b"', **condition), 412, "precondition-failed")

    @pytest.mark.parametrize(("method", "body", "target"), OPERATIONS)
    def test_keeps_no_key_where_it_does_not_hold(self, by_token, world, method, body, target):
        problem(bulk(by_token, method, body, target, If_Match='"x"'), 412, "precondition-failed")
        assert not IdempotencyKey.objects.exists()
        told = bulk(by_token, method, body, target, If_Match=by_token(target)["ETag"])
        assert told.status_code in {200, 201}, told.content


@pytest.mark.stack("server")  # SQLite has one writer at a time
@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.fixture
    def world(self, fresh_world):
        return fresh_world

    @pytest.mark.parametrize("conditional", [True, False])
    @pytest.mark.parametrize(("method", "body", "target"), OPERATIONS)
    def test_what_comes_while_the_first_is_answered_is_answered_alike(
        self, by_token, world, method, body, target, conditional
    ):
        condition = {"If_Match": by_token(target)["ETag"]} if conditional else {}
        firsts = []

        def overtake(execute, sql, *rest):
            if sql.startswith('INSERT INTO "keybits_idempotencykey"') and not firsts:
                firsts.append(aside(lambda: bulk(by_token, method, body, target, **condition)).result(20))
            return execute(sql, *rest)

        with connection.execute_wrapper(overtake):
            told = bulk(by_token, method, body, target, **condition)
        (first,) = firsts
        assert first.status_code in {200, 201}, first.content
        assert (told.status_code, told.content) == (first.status_code, first.content)
        assert BulkOperation.objects.count() == 1


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
