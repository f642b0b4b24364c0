"""What somebody else has changed since a form of the admin was shown is told, and never undone without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from stacks.threads import PATIENCE, aside, wait_for_who_waits_for_us
from staff import fields, opened

from catalog.accounts.models import Account, Plan
from catalog.admin.galleries import GalleryAdmin
from catalog.curation.screenshots import change_screenshot
from catalog.models import Gallery, Screenshot, Tag

pytestmark = [pytest.mark.django_db, pytest.mark.stack("server")]  # pages: they hang on no stack
TOLD = "Somebody else has changed this meanwhile. It is now: "


def page(row: Any) -> str:
    return reverse(f"admin:catalog_{row._meta.model_name}_change", args=[row.pk])


def refused(response: HttpResponse, *told: str) -> dict[str, Any]:
    """Return the fields of the form that says these things, and was not saved."""
    assert response.status_code == 200
    text = response.content.decode()
    for each in told:
        assert each in text
    return fields(response)


def saved(client: Client, address: str, form: dict[str, Any]) -> None:
    response = client.post(address, form)
    assert response.status_code == 302, response.content.decode()


class TestAnAccount:
    """Plans and accounts have no functions of their own, and are held to the same."""

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan.objects.create(slug="large", name="Large", monthly_quota=1000)

    def test_s_plan_keeps_the_quota_that_was_lowered_meanwhile(
        self, admin_client: Client, plan: Plan
    ) -> None:
        address = reverse("admin:accounts_plan_change", args=[plan.pk])
        form = opened(admin_client, address) | {"name": "Larger"}
        Plan.objects.update(monthly_quota=5)
        again = refused(admin_client.post(address, form), f"{TOLD}5")
        assert again["monthly_quota"] == 5
        saved(admin_client, address, again)
        plan.refresh_from_db()
        assert (plan.name, plan.monthly_quota) == ("Larger", 5)

    def test_keeps_the_plan_and_the_user_that_it_was_given_meanwhile(
        self, admin_client: Client, plan: Plan
    ) -> None:
        first, second = (User.objects.create_user(name) for name in ("first", "second"))
        account = Account.objects.create(user=first, plan=plan)
        address = reverse("admin:accounts_account_change", args=[account.pk])
        form = opened(admin_client, address)
        Account.objects.update(user=second, plan=Plan.objects.create(slug="small", name="Small"))
        again = refused(admin_client.post(address, form), f"{TOLD}second", f"{TOLD}Small")
        saved(admin_client, address, again)
        account.refresh_from_db()
        assert (account.user, account.plan.slug) == (second, "small")

    @pytest.mark.stack("server")
    @pytest.mark.django_db(transaction=True)
    def test_s_plan_is_held_while_it_is_compared_and_saved(self, admin_client: Client, plan: Plan) -> None:
        address = reverse("admin:accounts_plan_change", args=[plan.pk])
        form = opened(admin_client, address) | {"name": "Larger"}
        with transaction.atomic():
            Plan.objects.update(monthly_quota=5)
            other = aside(lambda: admin_client.post(address, form))
            wait_for_who_waits_for_us(other)
        refused(other.result(PATIENCE), f"{TOLD}5")
        assert Plan.objects.get().monthly_quota == 5


class TestAGallery:
    def test_that_was_hidden_meanwhile_is_not_public_again(
        self, admin_client: Client, gallery: Gallery
    ) -> None:
        form = opened(admin_client, page(gallery)) | {"description": "Warm"}
        Gallery.objects.update(visibility="private")
        again = refused(admin_client.post(page(gallery), form), f"{TOLD}Private")
        gallery.refresh_from_db()
        assert (gallery.visibility, gallery.description) == ("private", "")
        assert (again["visibility"], again["description"]) == ("private", "Warm")
        saved(admin_client, page(gallery), again)
        gallery.refresh_from_db()
        assert (gallery.visibility, gallery.description) == ("private", "Warm")

    def test_that_both_have_edited_shows_what_each_has_entered(
        self, admin_client: Client, gallery: Gallery
    ) -> None:
        form = opened(admin_client, page(gallery)) | {"title": "Mine"}
        Gallery.objects.update(title="Theirs")
        again = refused(admin_client.post(page(gallery), form), f"{TOLD}Theirs", "is not saved yet")
        assert again["title"] == "Mine"
        saved(admin_client, page(gallery), again)
        assert Gallery.objects.get().title == "Mine"

    def test_whose_lines_a_browser_ends_in_its_own_way_counts_as_not_edited(
        self, admin_client: Client, gallery: Gallery
    ) -> None:
        Gallery.objects.update(description="One\nTwo")
        form = opened(admin_client, page(gallery)) | {"description": "One\r\nTwo", "title": "Summer"}
        Gallery.objects.update(description="Three")
        again = refused(admin_client.post(page(gallery), form), f"{TOLD}Three")
        assert (again["description"], again["title"]) == ("Three", "Summer")

    @pytest.mark.parametrize("field", ["owner", "cover"])
    def test_whose_row_of_another_table_has_changed_names_it(
        self, admin_client: Client, gallery: Gallery, shoot: Any, field: str
    ) -> None:
        there = {"owner": User.objects.create_user("heir"), "cover": shoot("Cat")}[field]
        form = opened(admin_client, page(gallery)) | {"position": 7}
        Gallery.objects.update(**{field: there})
        again = refused(admin_client.post(page(gallery), form), f"{TOLD}{there}")
        saved(admin_client, page(gallery), again)
        changed = Gallery.objects.get()
        assert (getattr(changed, field), changed.position) == (there, 7)

    def test_that_is_sent_twice_is_saved_once(self, admin_client: Client, gallery: Gallery) -> None:
        form = opened(admin_client, page(gallery)) | {"title": "Summer"}
        for _ in range(2):
            saved(admin_client, page(gallery), form)
        assert Gallery.objects.get().title == "Summer"

    @pytest.mark.parametrize("shown", [None, "", "{", "[]", "{}", '{"title": "Spring"}', "[" * 100_000])
    def test_whose_form_does_not_say_what_it_had_shown_stays(
        self, admin_client: Client, gallery: Gallery, shown: str | None
    ) -> None:
        form = opened(admin_client, page(gallery)) | {"title": "Summer", "shown": shown}
        response = admin_client.post(
            page(gallery), {name: form[name] for name in form if form[name] is not None}
        )
        refused(response, "does not say which values it had shown")
        assert Gallery.objects.get().title == "Spring"

    @pytest.mark.parametrize("field", ["title", "position", "tags", "gallery"])
    @pytest.mark.parametrize("said", [[1], {"a": 1}, [], True, 1e300])
    def test_whose_form_says_that_it_had_shown_what_no_field_holds_stays(
        self, admin_client: Client, gallery: Gallery, field: str, said: Any
    ) -> None:
        shot = Screenshot.objects.create(gallery=gallery, title="Old", source_url="https://one.example/")
        form = opened(admin_client, page(shot)) | {"title": "New", "tags": "new", "position": 7}
        form["shown"] = json.dumps(json.loads(form["shown"]) | {field: said})
        assert admin_client.post(page(shot), form).status_code == 200
        assert Screenshot.objects.get().title == "Old"

    @pytest.mark.stack("server")
    @pytest.mark.django_db(transaction=True)
    def test_that_is_being_saved_keeps_nobody_from_its_screenshots(
        self, admin_client: Client, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who writes one holds it and asks for its gallery; the form holds the gallery and may ask for it."""
        shot = Screenshot.objects.create(gallery=gallery, title="Old", source_url="https://one.example/")
        write = GalleryAdmin.save_model

        def save_model(*args: Any) -> None:
            aside(lambda: Screenshot.objects.filter(pk=shot.pk).update(alt="New")).result(30)
            write(*args)

        form = opened(admin_client, page(gallery)) | {"title": "Summer"}
        monkeypatch.setattr(GalleryAdmin, "save_model", save_model)
        saved(
            admin_client, page(gallery), form | {"screenshots-TOTAL_FORMS": 0, "screenshots-INITIAL_FORMS": 0}
        )
        shot.refresh_from_db()
        assert shot.alt == "New"

    @pytest.mark.django_db(transaction=True)
    def test_of_two_who_save_at_once_tells_one(self, gallery: Gallery) -> None:
        clerk = User.objects.create_superuser("clerk")
        clients = [Client(), Client()]
        for client in clients:
            client.force_login(clerk)
        forms = [opened(client, page(gallery)) for client in clients]
        forms[0] |= {"title": "Summer"}
        forms[1] |= {"description": "Warm"}
        barrier = Barrier(2)

        def save(number: int) -> int:
            barrier.wait()
            try:
                return clients[number].post(page(gallery), forms[number]).status_code
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            statuses = list(pool.map(save, range(2)))
        assert sorted(statuses) == [200, 302]
        gallery.refresh_from_db()
        kept = [("Summer", ""), ("Spring", "Warm")][statuses.index(302)]
        assert (gallery.title, gallery.description) == kept


class TestItsScreenshots:
    def test_that_were_changed_meanwhile_keep_it(
        self, admin_client: Client, gallery: Gallery, shoot: Any
    ) -> None:
        cat = shoot("Cat", tags=("dark",))
        form = opened(admin_client, page(gallery)) | {"screenshots-0-position": 5}
        change_screenshot(screenshot=Screenshot.objects.get(), title="Lion", tags=["light"])
        again = refused(admin_client.post(page(gallery), form), f"{TOLD}Lion", f"{TOLD}light")
        assert (again["screenshots-0-title"], again["screenshots-0-position"]) == ("Lion", "5")
        saved(admin_client, page(gallery), again)
        cat.refresh_from_db()
        assert (cat.title, cat.position, [tag.slug for tag in cat.tags.all()]) == ("Lion", 5, ["light"])

    def test_that_were_changed_meanwhile_are_not_deleted_unseen(
        self, admin_client: Client, gallery: Gallery, shoot: Any
    ) -> None:
        shoot("Cat")
        form = opened(admin_client, page(gallery)) | {"screenshots-0-DELETE": "on"}
        Screenshot.objects.update(title="Lion")
        again = refused(admin_client.post(page(gallery), form), "a screenshot that was to be deleted")
        assert Screenshot.objects.exists()
        saved(admin_client, page(gallery), again)
        assert not Screenshot.objects.exists()

    def test_are_deleted_by_who_may_not_change_them_and_is_shown_no_fields(
        self, clerk: Any, gallery: Gallery, shoot: Any
    ) -> None:
        shot = shoot("Cat")
        client = clerk("change_gallery", "view_screenshot", "delete_screenshot", "delete_rendition")
        form = opened(client, page(gallery))
        form |= {
            "screenshots-0-id": shot.pk,
            "screenshots-0-gallery": gallery.pk,
            "screenshots-0-DELETE": "on",
        }
        form = {name: value for name, value in form.items() if name != "screenshots-0-shown"}
        saved(client, page(gallery), form)
        assert not Screenshot.objects.exists()

    def test_may_change_in_what_the_form_does_not_say(
        self, admin_client: Client, gallery: Gallery, shoot: Any
    ) -> None:
        shoot("Cat", state="pending")
        form = opened(admin_client, page(gallery)) | {"screenshots-0-title": "Lion"}
        Screenshot.objects.update(state="ready", alt="A cat")
        saved(admin_client, page(gallery), form)
        assert Screenshot.objects.values("title", "state", "alt").get() == {
            "title": "Lion",
            "state": "ready",
            "alt": "A cat",
        }

    def test_are_only_looked_at_by_who_may_not_change_them(
        self, clerk: Callable[..., Client], gallery: Gallery, shoot: Any
    ) -> None:
        shoot("Cat")
        client = clerk("view_gallery", "change_gallery", "view_screenshot")
        shown = client.get(page(gallery))
        assert shown.content.decode().count('name="shown"') == 1
        assert "screenshots-0-shown" not in shown.content.decode()
        saved(client, page(gallery), fields(shown) | {"title": "Summer"})
        assert Gallery.objects.get().title == "Summer"


class TestAScreenshot:
    @pytest.mark.parametrize("theirs", [{"title": "Lion"}, {"tags": ["light"]}, {"gallery": "vault"}])
    def test_that_was_changed_meanwhile_keeps_it(
        self, admin_client: Client, shoot: Any, other: Gallery, theirs: dict[str, Any]
    ) -> None:
        cat = shoot("Cat", tags=("dark",))
        form = opened(admin_client, page(cat)) | {"position": 5}
        changes = theirs | ({"gallery": other} if "gallery" in theirs else {})
        change_screenshot(screenshot=Screenshot.objects.get(), **changes)
        again = refused(admin_client.post(page(cat), form), TOLD)
        saved(admin_client, page(cat), again)
        cat.refresh_from_db()
        now = {"title": cat.title, "tags": [tag.slug for tag in cat.tags.all()], "gallery": cat.gallery.slug}
        assert cat.position == 5
        assert now == {"title": "Cat", "tags": ["dark"], "gallery": "spring"} | theirs


class TestATag:
    def test_that_was_changed_meanwhile_keeps_it(self, admin_client: Client, db: None) -> None:
        tag = Tag.objects.create(slug="dark", name="Dark")
        form = opened(admin_client, page(tag)) | {"kind": "scheme"}
        Tag.objects.update(name="Night", offered=False)
        again = refused(admin_client.post(page(tag), form), f"{TOLD}Night", f"{TOLD}False")
        saved(admin_client, page(tag), again)
        assert Tag.objects.values_list("name", "kind", "offered").get() == ("Night", "scheme", False)


def test_who_may_only_look_is_shown_nothing_of_the_sort(
    clerk: Callable[..., Client], gallery: Gallery
) -> None:
    text = clerk("view_gallery", "view_screenshot").get(page(gallery)).content.decode()
    assert "shown" not in text.lower()


def test_what_is_shown_is_out_of_sight(admin_client: Client, gallery: Gallery) -> None:
    response = admin_client.get(page(gallery))
    shown = json.loads(fields(response)["shown"])
    assert (shown["title"], shown["visibility"]) == ("Spring", "public")
    assert '<input type="hidden" name="shown"' in response.content.decode()


@pytest.mark.parametrize("spelt", ["%20{}", "{}%20", "+{}", "0_{}", "0{}"])
@pytest.mark.parametrize("view", ["change", "delete", "history", "cache"])
def test_a_row_is_found_at_one_spelling_of_its_id_alone(
    admin_client: Client, gallery: Gallery, spelt: str, view: str
) -> None:
    """Under any other it would be changed without having been locked."""
    base = "/admin/catalog/gallery/"
    assert admin_client.get(f"{base}{gallery.pk}/{view}/").status_code == 200
    assert admin_client.get(f"{base}{spelt.format(gallery.pk)}/{view}/").status_code in {302, 404}
