"""The admin as a whole: what any of its lists says of a question that cannot be answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse

from catalog.models import Tag

UNREADABLE = ("99999999999999999999", "-99999999999999999999", "-1", "x", "", "[")
SUFFIXES = ("", "__exact", "__id__exact", "__gte", "__year", "__regex")
COMBINED = ("99999999999999999999", "[")
"""What every suffix is asked with; the others only repeat these two, and each request takes ten milliseconds."""


def lists() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of each list, and the names by which it is filtered."""
    for model, options in admin.site._registry.items():
        filters: Any = options.get_list_filter(None)  # type: ignore[arg-type]  # nobody's is another
        named = {each[0] if isinstance(each, tuple) else each for each in filters}
        names = {getattr(name, "parameter_name", name) for name in named} | {"id", "pk"}
        opts = model._meta
        yield reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"), sorted(map(str, names))


@pytest.mark.django_db(transaction=True)  # of which PostgreSQL would give up what it has refused something of
class TestLists:
    @pytest.mark.parametrize("value", UNREADABLE)
    def test_lead_back_from_any_filter_whose_value_cannot_be_read(
        self, admin_client: Client, value: str
    ) -> None:
        suffixes = SUFFIXES if value in COMBINED else ("",)
        for address, names in lists():
            for name in (f"{name}{suffix}" for name in names for suffix in suffixes):
                response = admin_client.get(address, {name: value})
                led_back = response.status_code == 302 and response["Location"] == f"{address}?e=1"
                assert led_back or response.status_code in {200, 400}, (address, name, value)
                if led_back:
                    assert admin_client.get(address, {name: value, "e": "1"}).status_code == 200

    def test_refuse_actions_on_what_is_no_row(self, admin_client: Client) -> None:
        """Those that have none show themselves."""
        for address, _ in lists():
            for chosen in ("", "x", "-1", "9" * 40, "\x00"):
                data = {"action": "delete_selected", "_selected_action": [chosen]}
                assert admin_client.post(address, data).status_code in {200, 302, 400}

    def test_lead_back_where_an_action_is_on_what_cannot_be_read(self, admin_client: Client) -> None:
        data = {"action": "publish", "_selected_action": ["1"]}
        response = admin_client.post("/admin/catalog/gallery/?owner=99999999999999999999", data)
        assert response.status_code == 302

    def test_say_what_is_wrong_with_the_database_where_no_filter_is(
        self, admin_client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> Any:
            raise DatabaseError("gone")

        monkeypatch.setattr(admin.site._registry[Tag], "get_queryset", fail)
        with pytest.raises(DatabaseError, match="gone"):
            admin_client.get("/admin/catalog/tag/?e=1")


@pytest.mark.django_db
class TestForms:
    @pytest.mark.parametrize("number", ["9" * 19, "9" * 30])
    def test_refuse_the_id_of_a_choice_that_no_database_holds(
        self, admin_client: Client, number: str
    ) -> None:
        """Django's own forms of groups and users would ask SQLite for it."""
        form = {"name": "clerks", "permissions": [number]}
        assert admin_client.post("/admin/auth/group/add/", form).status_code in {200, 400}
        assert not Group.objects.exists()

    @pytest.mark.parametrize("page", ["change", "delete"])
    def test_refuse_to_find_their_row_by_no_field(self, admin_client: Client, page: str) -> None:
        for model in admin.site._registry:
            address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=[1])
            for asked in ({"_to_field": ""}, {"_to_field": "x"}):
                refused = admin_client.get(address, asked), admin_client.post(address, asked)
                assert {each.status_code for each in refused} <= {400, 403}, address


class TestWhatNobodyKeeps:
    @pytest.mark.parametrize("name", ["index", "login", "password_change", "password_change_done"])
    def test_a_page_of_the_admin_itself(self, admin_client: Client, name: str) -> None:
        kept = admin_client.get(reverse(f"admin:{name}"))["Cache-Control"]
        assert {"private", "no-store"} <= set(kept.split(", "))

    def test_the_refusal_of_a_form_without_its_token(self) -> None:
        response = Client(enforce_csrf_checks=True).post(reverse("admin:login"))
        assert response.status_code == 403
        assert {"private", "no-store"} <= set(response["Cache-Control"].split(", "))

    def test_but_anybody_the_script_of_translations(self, admin_client: Client) -> None:
        assert "Cache-Control" not in admin_client.get(reverse("admin:jsi18n"))
