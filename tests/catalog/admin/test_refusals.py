"""What another writer does between the look at a form and its saving is said at the form, and is no failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from rest_framework.authtoken.models import Token
from stacks.threads import before_statement
from staff import fields, opened

from catalog.accounts.models import Account, ApiKey, Plan

pytestmark = [
    pytest.mark.stack("server"),  # with SQLite others wait from before the look
    pytest.mark.django_db(transaction=True),
]
TOLD = "Somebody else has changed or deleted something that this is about. Look again."
KEY = {"name": "ci", "scopes": ["read"], "expires_at_0": "", "expires_at_1": ""}


@pytest.fixture
def plan() -> Plan:
    return Plan.objects.create(slug="large", name="Large")


@pytest.fixture
def account(plan: Plan) -> Account:
    return Account.objects.create(user=User.objects.create_user("owner"), plan=plan)


def add(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_add")


def refused(response: HttpResponse) -> dict[str, Any]:
    """Return the fields of the form that says that it was not saved."""
    assert response.status_code == 200
    assert TOLD in response.content.decode()
    assert not LogEntry.objects.exists()
    return fields(response)


def post_before(
    client: Client, address: str, form: dict[str, Any], statement: str, act: Callable[[], Any]
) -> HttpResponse:
    with before_statement(statement, act):
        response: HttpResponse = client.post(address, form)
    return response


class TestAForm:
    def test_of_a_new_plan_whose_slug_is_taken_meanwhile(self, admin_client: Client) -> None:
        form = {"slug": "large", "name": "Mine", "monthly_quota": "5"}
        take = lambda: Plan.objects.create(slug="large", name="Theirs")  # noqa: E731
        response = post_before(admin_client, add(Plan), form, 'INSERT INTO "accounts_plan"', take)
        assert refused(response)["name"] == "Mine"
        assert "already exists" in response.content.decode()
        assert Plan.objects.get().name == "Theirs"

    def test_of_a_plan_whose_new_slug_is_taken_meanwhile(self, admin_client: Client, plan: Plan) -> None:
        address = reverse("admin:accounts_plan_change", args=[plan.pk])
        form = opened(admin_client, address) | {"slug": "huge"}
        take = lambda: Plan.objects.create(slug="huge", name="Theirs")  # noqa: E731
        again = refused(post_before(admin_client, address, form, 'UPDATE "accounts_plan"', take))
        assert again["slug"] == "huge"
        assert admin_client.post(address, again | {"slug": "vast"}).status_code == 302
        plan.refresh_from_db()
        assert plan.slug == "vast"

    def test_of_an_account_whose_user_gets_one_meanwhile(self, admin_client: Client, plan: Plan) -> None:
        user = User.objects.create_user("owner")
        form = {"user": user.pk, "plan": plan.pk}
        take = lambda: Account.objects.create(user=user, plan=plan)  # noqa: E731
        refused(post_before(admin_client, add(Account), form, 'INSERT INTO "accounts_account"', take))
        assert Account.objects.count() == 1

    def test_of_an_account_whose_plan_is_deleted_meanwhile(self, admin_client: Client, plan: Plan) -> None:
        form = {"user": User.objects.create_user("owner").pk, "plan": plan.pk}
        refused(post_before(admin_client, add(Account), form, 'INSERT INTO "accounts_account"', plan.delete))
        assert not Account.objects.exists()

    def test_of_a_key_whose_account_is_deleted_meanwhile(
        self, admin_client: Client, account: Account
    ) -> None:
        form = KEY | {"account": account.pk}
        response = post_before(
            admin_client, add(ApiKey), form, 'INSERT INTO "accounts_apikey"', account.delete
        )
        refused(response)
        assert 'id="issued"' not in response.content.decode()

    def test_of_a_token_that_its_user_gets_meanwhile(self, admin_client: Client) -> None:
        user = User.objects.create_user("owner")
        address = reverse("admin:authtoken_tokenproxy_add")
        take = lambda: Token.objects.create(user=user)  # noqa: E731
        response = post_before(
            admin_client, address, {"user": user.pk}, 'INSERT INTO "authtoken_token"', take
        )
        refused(response)
        assert Token.objects.get().key not in response.content.decode()


class TestADeletion:
    def test_of_a_plan_that_an_account_is_put_on_meanwhile(self, admin_client: Client, plan: Plan) -> None:
        user = User.objects.create_user("owner")
        address = reverse("admin:accounts_plan_delete", args=[plan.pk])
        take = lambda: Account.objects.create(user=user, plan=plan)  # noqa: E731
        response = post_before(admin_client, address, {"post": "yes"}, 'DELETE FROM "accounts_plan"', take)
        assert response.status_code == 302
        assert f"Nothing was changed. {TOLD}" in admin_client.get(response["Location"]).content.decode()
        assert Plan.objects.exists()
        assert not LogEntry.objects.exists()
