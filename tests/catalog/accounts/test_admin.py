"""Keys in the admin: issued and shown once, revoked, never changed; what was used is only looked at."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.authtoken.models import Token

from catalog.accounts import keys, usage
from catalog.accounts.models import Account, ApiKey, Plan, UsageEvent

pytestmark = pytest.mark.django_db
ADD = "/admin/accounts/apikey/add/"


@pytest.fixture
def issued(admin_client: Client, plan: Plan) -> tuple[ApiKey, str]:
    """A key issued in the admin, and what its page showed."""
    response = admin_client.post(ADD, form())
    assert response.status_code == 200
    found = re.search(r'<code id="issued">(.+?)</code>', response.content.decode())
    assert found, response.content
    assert "no-store" in response["Cache-Control"]
    return ApiKey.objects.get(), found[1]


def form(**changes: Any) -> dict[str, Any]:
    account = Account.objects.get()
    fields = {
        "account": account.pk,
        "name": "by hand",
        "scopes": ["read"],
        "expires_at_0": "",
        "expires_at_1": "",
    }
    return fields | changes


def pages() -> list[str]:
    """Every page of the admin that could show something of a key."""
    models = ["plan", "account", "apikey", "monthlyusage", "usageevent"]
    lists = [reverse(f"admin:accounts_{model}_changelist") for model in models]
    rows = [("plan", Plan), ("account", Account), ("apikey", ApiKey), ("usageevent", UsageEvent)]
    details = [
        reverse(f"admin:accounts_{name}_change", args=[model.objects.get().pk]) for name, model in rows
    ]
    history = reverse("admin:accounts_apikey_history", args=[ApiKey.objects.get().pk])
    return ["/admin/", ADD, history, *lists, *details]


class TestIssuing:
    @pytest.mark.parametrize("name", ["expires_at", "scopes", "account", "name"])
    def test_whatever_an_address_says_of_a_new_key_is_no_failure(
        self, admin_client: Client, plan: Plan, name: str
    ) -> None:
        for value in ("abc", "2030-01-01", "\x01", "[]"):
            assert admin_client.get(ADD, {name: value}).status_code == 200

    @pytest.mark.parametrize("account", ["", "x", "-1", "\x00", "9" * 23])
    def test_no_account_is_shown_as_an_error(self, admin_client: Client, plan: Plan, account: str) -> None:
        response = admin_client.post(ADD, form(account=account))
        assert response.status_code == 200
        assert "errorlist" in response.content.decode()
        assert not ApiKey.objects.exists()

    @pytest.mark.parametrize("account", ["x", "9" * 23])
    def test_an_address_that_names_no_account_shows_the_form(
        self, admin_client: Client, account: str
    ) -> None:
        assert admin_client.get(ADD, {"account": account}).status_code == 200

    def test_the_key_that_is_shown_is_good(self, issued: tuple[ApiKey, str]) -> None:
        key, text = issued
        assert keys.find(keys.Presented.read(text)) == key
        assert (key.name, key.scopes) == ("by hand", ["read"])

    def test_it_is_shown_once(self, admin_client: Client, issued: tuple[ApiKey, str]) -> None:
        key, text = issued
        usage.count(key=key, method="GET", route="x")
        for page in pages():
            response = admin_client.get(page)
            assert response.status_code == 200, page
            assert text.partition(".")[2] not in response.content.decode(), page
            assert key.digest not in response.content.decode(), page

    def test_it_is_in_no_cookie_session_or_record(
        self, admin_client: Client, issued: tuple[ApiKey, str]
    ) -> None:
        secret = issued[1].partition(".")[2]
        sessions = [session.get_decoded() for session in Session.objects.all()]
        records = list(LogEntry.objects.values())
        assert len(records) == 1
        assert secret not in f"{admin_client.cookies} {sessions} {records}"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"scopes": []},
            {"scopes": ["write"]},
            {"name": ""},
            {"account": 0},
            {"expires_at_0": "2020-01-01", "expires_at_1": "00:00"},
            {"expires_at_0": "9999-12-31", "expires_at_1": "23:59"},
        ],
    )
    def test_what_is_wrong_issues_nothing_and_is_said(
        self, admin_client: Client, plan: Plan, wrong: dict[str, Any]
    ) -> None:
        response = admin_client.post(ADD, form(**wrong))
        assert response.status_code == 200
        assert "errorlist" in response.content.decode()
        assert not ApiKey.objects.exists()

    def test_who_is_inactive_is_issued_no_key_and_that_is_said(
        self, admin_client: Client, plan: Plan
    ) -> None:
        User.objects.filter(username="owner").update(is_active=False)
        response = admin_client.post(ADD, form())
        assert response.status_code == 200
        assert "owner is inactive: the key would be refused from the start." in response.content.decode()
        assert not ApiKey.objects.exists()

    def test_who_is_inactive_is_issued_no_token_and_that_is_said(self, admin_client: Client) -> None:
        user = User.objects.create_user("owner", is_active=False)
        response = admin_client.post("/admin/authtoken/tokenproxy/add/", {"user": user.pk})
        assert response.status_code == 200
        assert "owner is inactive: the key would be refused from the start." in response.content.decode()
        assert not Token.objects.exists()

    def test_it_takes_leave_to(self, client: Client, plan: Plan) -> None:
        clerk = User.objects.create_user("clerk", is_staff=True)
        clerk.user_permissions.add(Permission.objects.get(codename="view_apikey"))
        client.force_login(clerk)
        assert client.get("/admin/accounts/apikey/").status_code == 200
        assert client.post(ADD, form()).status_code == 403


class TestRevoking:
    def test_ends_the_key_and_is_on_record(self, admin_client: Client, issued: tuple[ApiKey, str]) -> None:
        key, text = issued
        action = {"action": "revoke", "_selected_action": [key.pk]}
        assert admin_client.post("/admin/accounts/apikey/", action).status_code == 302
        assert keys.find(keys.Presented.read(text)) is None
        assert LogEntry.objects.filter(object_id=key.pk, change_message="Revoked.").exists()

    def test_a_key_is_neither_changed_nor_deleted(
        self, admin_client: Client, issued: tuple[ApiKey, str]
    ) -> None:
        key, _ = issued
        before = ApiKey.objects.values().get()
        address = reverse("admin:accounts_apikey_change", args=[key.pk])
        assert admin_client.post(address, form(name="other")).status_code == 403
        assert admin_client.post(address.replace("change", "delete"), {"post": "yes"}).status_code == 403
        action = {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"}
        admin_client.post("/admin/accounts/apikey/", action)
        assert ApiKey.objects.values().get() == before


class TestUsage:
    def test_is_only_looked_at(self, admin_client: Client, plan: Plan, issue: Any) -> None:
        usage.count(key=issue()[0], method="GET", route="x")
        for model in ("usageevent", "monthlyusage"):
            base = f"/admin/accounts/{model}/"
            assert admin_client.get(base).status_code == 200
            assert admin_client.post(f"{base}add/").status_code == 403
            row = (
                UsageEvent.objects.get().pk if model == "usageevent" else Account.objects.get().usage.get().pk
            )
            for page in ("change", "delete"):
                assert admin_client.post(f"{base}{row}/{page}/", {"post": "yes"}).status_code == 403
        assert UsageEvent.objects.count() == 1

    def test_is_filtered_by_the_methods_there_are_without_reading_which_there_are(
        self, admin_client: Client, issue: Any
    ) -> None:
        usage.count(key=issue()[0], method="GET", route="x")
        with CaptureQueriesContext(connection) as asked:
            page = admin_client.get("/admin/accounts/usageevent/?method=GET").content.decode()
        assert "?method=PATCH" in page
        assert not [query["sql"] for query in asked if "DISTINCT" in query["sql"]]


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "accounts/usageevent/?q=%00",
            "accounts/usageevent/?method=%00",
            "accounts/apikey/add/?account=%00",
            "auth/user/?q=%00",
            "autocomplete/?app_label=accounts&model_name=apikey&field_name=account&term=%00",
            "catalog/screenshot/?%00=1",
        ],
    )
    def test_nul_is_refused_as_no_row_holds_it(self, admin_client: Client, address: str) -> None:
        assert admin_client.get(f"/admin/{address}").status_code == 400

    def test_half_a_range_leads_back_to_the_list(self, admin_client: Client) -> None:
        answer = admin_client.get("/admin/accounts/apikey/?prefix__range=0")
        assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/accounts/apikey/?e=1")
