"""What the admin writes and the database gives up, for the sake of others, is said to have changed nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from stacks.threads import PATIENCE, aside, wait_for_who_waits_for_us
from staff import fields, opened

from catalog.models import Gallery, Screenshot, Tag
from keybits.stores import StoreError, get_store

TOLD = "Others were writing the same rows. Send it again."


@pytest.fixture
def shot(db: None) -> Screenshot:
    gallery = Gallery.objects.create(slug="spring", title="Spring")
    shot = Screenshot.objects.create(gallery=gallery, title="Old", source_url="https://one.example/")
    shot.tags.add(Tag.objects.create(slug="dark", name="Dark"))
    return shot


def page(shot: Screenshot, what: str = "change") -> str:
    return reverse(f"admin:catalog_screenshot_{what}", args=[shot.pk])


def against_another(shot: Screenshot, work: Callable[[], HttpResponse]) -> HttpResponse:
    """Do `work`, which writes the screenshot, against who has its tag and wants it: PostgreSQL gives up the work."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '60s'")  # it is the other who looks
        list(Tag.objects.select_for_update())
        doing = aside(work)
        wait_for_who_waits_for_us(doing)
        list(Screenshot.objects.select_for_update().filter(pk=shot.pk))
    response: HttpResponse = doing.result(PATIENCE)
    return response


@pytest.mark.stack("server")
@pytest.mark.django_db(transaction=True)
class TestADeadlock:
    def test_is_said_at_the_form_with_all_that_was_entered(
        self, admin_client: Client, shot: Screenshot
    ) -> None:
        form = opened(admin_client, page(shot)) | {"title": "New"}
        response = against_another(shot, lambda: admin_client.post(page(shot), form))
        assert response.status_code == 200
        assert TOLD in response.content.decode()
        assert Screenshot.objects.get().title == "Old"
        assert fields(response)["title"] == "New"
        assert admin_client.post(page(shot), fields(response)).status_code == 302
        assert Screenshot.objects.get().title == "New"

    def test_is_said_of_an_action(self, admin_client: Client, shot: Screenshot) -> None:
        address = reverse("admin:catalog_screenshot_changelist")
        form = {"action": "delete_selected", "_selected_action": shot.pk, "confirmed": 1}
        assert told(admin_client, against_another(shot, lambda: admin_client.post(address, form)), TOLD)
        assert Screenshot.objects.exists()

    def test_is_said_of_a_deletion(self, admin_client: Client, shot: Screenshot) -> None:
        address = page(shot, "delete")
        response = against_another(shot, lambda: admin_client.post(address, {"post": "yes"}))
        assert told(admin_client, response, TOLD)
        assert Screenshot.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_write_that_is_refused_without_the_store_is_said_at_the_form(
    admin_client: Client, shot: Screenshot, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = opened(admin_client, page(shot)) | {"title": "New"}
    settings.KEYBITS_WRITE_POLICY = "refuse"
    monkeypatch.setattr(type(get_store().store), "open", out_of_reach)
    response = admin_client.post(page(shot), form)
    assert response.status_code == 200
    assert "the cache is unreachable" in response.content.decode()
    assert Screenshot.objects.get().title == "Old"


def out_of_reach(*_: object) -> None:
    raise StoreError("out of reach")


def told(client: Client, response: HttpResponse, what: str) -> bool:
    """Say whether the page that an answer leads to shows it."""
    assert response.status_code == 302
    return what in client.get(response["Location"]).content.decode()
