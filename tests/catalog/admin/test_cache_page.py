"""The page "Cache": the scopes of an object, what the store has for them, and purges that are asked for twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from pytest_django import Settings
from staff import told

from catalog.models import Gallery, Screenshot, Tag
from keybits import inspection
from keybits.purge import Order, PurgeError, Purger
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)


class Front(Purger):
    """A cache in front that remembers its orders, or refuses them."""

    heard: ClassVar[list[Order]] = []

    def __init__(self, client: httpx.Client, *, refuses: bool = False, token: str = "") -> None:
        super().__init__(client)
        self.refuses = refuses

    def requests(self, order: Order) -> Iterator[httpx.Request]:
        if self.refuses:
            raise PurgeError("It is away.")
        self.heard.append(order)
        yield from ()


def front(**options: Any) -> dict[str, Any]:
    return {"BACKEND": f"{__name__}.Front", **options}


def page(row: Any) -> str:
    return reverse(f"admin:catalog_{row._meta.model_name}_cache", args=[row.pk])


@pytest.fixture
def shot(shoot: Any) -> Screenshot:
    """A screenshot that has been read through the API."""
    made: Screenshot = shoot("Cat", tags=("dark",))
    for path in (f"screenshots/{made.pk}/", "galleries/spring/"):
        assert Client().get(f"/api/v1/{path}").status_code == 200
    return made


def is_hit(path: str) -> bool:
    return "hit" in Client().get(f"/api/v1/{path}")["Cache-Status"]


class TestKnowledge:
    def test_names_every_scope_with_its_stamp(self, admin_client: Client, shot: Screenshot) -> None:
        text = admin_client.get(page(shot)).content.decode()
        rows = dict(re.findall(r"<td><code>([^<]+)</code></td>\s*<td>(?:<code>)?([^<]+)", text))
        assert re.fullmatch("[0-9a-f]{8}…", rows[f"screenshot:{shot.pk}"])
        assert rows["domain:one.example"] == "none"
        assert rows["takedown:among/spring"] == "only purges"
        assert rows.keys() >= {"screenshots", "gallery:spring", "tag:dark"}

    def test_lists_entries_that_were_made_from_it_alone(self, admin_client: Client, shot: Screenshot) -> None:
        tag = Tag.objects.get()
        sample = admin_client.get(page(shot)).context["sample"]
        assert {found.url for found in sample.found} == {
            f"/api/v1/screenshots/{shot.pk}/",
            "/api/v1/galleries/spring/",
        }
        assert sample.seen >= 2
        assert {found.url for found in admin_client.get(page(tag)).context["sample"].found} == {
            f"/api/v1/screenshots/{shot.pk}/"
        }

    def test_no_longer_lists_what_a_change_has_ended(self, admin_client: Client, shot: Screenshot) -> None:
        Screenshot.objects.update(title="Dog")
        assert admin_client.get(page(shot)).context["sample"].found == ()

    def test_says_that_it_is_a_sample(self, admin_client: Client, shot: Screenshot) -> None:
        assert "This is a sample" in admin_client.get(page(shot)).content.decode()

    def test_says_why_there_is_none(self, admin_client: Client, shot: Screenshot, settings: Settings) -> None:
        settings.KEYBITS_STORE = f"{__name__}.Away"
        text = admin_client.get(page(shot)).content.decode()
        assert "The store cannot be read: It is away." in text
        assert f"screenshot:{shot.pk}" in text

    def test_is_linked_from_the_form(self, admin_client: Client, shot: Screenshot) -> None:
        form = admin_client.get(reverse("admin:catalog_screenshot_change", args=[shot.pk])).content.decode()
        assert f'href="{page(shot)}"' in form

    def test_holds_no_secret_of_a_purger(
        self, admin_client: Client, shot: Screenshot, settings: Settings
    ) -> None:
        settings.KEYBITS_PURGERS = {"front": front(token="hunter2")}
        asked = admin_client.post(page(shot), {"purge": "edge", "scope": ["screenshots"]})
        assert "hunter2" not in f"{admin_client.get(page(shot)).content!r} {asked.content!r}"

    def test_a_row_that_is_not_there_has_none(self, admin_client: Client) -> None:
        for pk in ("0", "x", "9" * 30):
            assert admin_client.get(f"/admin/catalog/tag/{pk}/cache/").status_code == 404

    def test_takes_leave_to(self, clerk: Callable[..., Client], shot: Screenshot) -> None:
        assert clerk("view_gallery").get(page(shot)).status_code == 403


class TestPurges:
    @pytest.fixture(autouse=True)
    def _heard(self) -> Iterator[None]:
        yield
        Front.heard.clear()

    def test_are_asked_for_twice(self, admin_client: Client, shot: Screenshot) -> None:
        scope = f"screenshot:{shot.pk}"
        response = admin_client.post(page(shot), {"purge": "store", "scope": [scope]})
        assert 'name="confirmed"' in response.content.decode()
        assert is_hit(f"screenshots/{shot.pk}/")

    def test_of_the_store_end_what_was_made_from_the_scope_and_nothing_else(
        self, admin_client: Client, shot: Screenshot
    ) -> None:
        scope = f"screenshot:{shot.pk}"
        response = admin_client.post(page(shot), {"purge": "store", "scope": [scope], "confirmed": "yes"})
        assert told(response) == [f"Purged from the store: {scope}."]
        assert LogEntry.objects.get().change_message == f"Purged from the store: {scope}."
        assert not is_hit(f"screenshots/{shot.pk}/")
        assert is_hit("galleries/spring/")

    def test_of_the_caches_in_front_are_hard_for_takedowns(
        self, admin_client: Client, shot: Screenshot, settings: Settings
    ) -> None:
        settings.KEYBITS_PURGERS = {"front": front()}
        scopes = ["gallery:spring", f"takedown:screenshot/{shot.pk}"]
        admin_client.post(page(shot), {"purge": "edge", "scope": scopes, "confirmed": "yes"})
        assert {(order.scopes, order.soft) for order in Front.heard} == {
            (("gallery:spring",), True),
            ((f"takedown:screenshot/{shot.pk}",), False),
        }

    def test_say_which_cache_did_not_do_it(
        self, admin_client: Client, shot: Screenshot, settings: Settings
    ) -> None:
        settings.KEYBITS_PURGERS = {"near": front(), "far": front(refuses=True)}
        response = admin_client.post(
            page(shot), {"purge": "edge", "scope": ["screenshots"], "confirmed": "yes"}
        )
        assert told(response) == ["far was not purged: It is away.", "Purged from near: screenshots."]

    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"purge": "store"},
            {"purge": "all", "scope": ["screenshots"]},
            {"purge": "store", "scope": ["gallery:x"]},
        ],
    )
    def test_of_what_is_not_the_objects_are_refused(
        self, admin_client: Client, shot: Screenshot, asked: dict[str, Any]
    ) -> None:
        response = admin_client.post(page(shot), asked | {"confirmed": "yes"})
        assert told(response) == ["Choose a scope of this object, and where to purge it."]
        assert is_hit("galleries/spring/")

    def test_take_leave_to(self, clerk: Callable[..., Client], shot: Screenshot) -> None:
        client = clerk("view_screenshot")
        assert 'name="purge"' not in client.get(page(shot)).content.decode()
        asked = {"purge": "store", "scope": ["screenshots"], "confirmed": "yes"}
        assert client.post(page(shot), asked).status_code == 403

    def test_take_a_token_against_forgery(self, admin_user: Any, shot: Screenshot) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)
        asked = {"purge": "store", "scope": [f"screenshot:{shot.pk}"], "confirmed": "yes"}
        assert client.post(page(shot), asked).status_code == 403
        assert is_hit(f"screenshots/{shot.pk}/")

    def test_of_a_store_that_is_away_say_so(
        self, admin_client: Client, shot: Screenshot, settings: Settings
    ) -> None:
        settings.KEYBITS_STORE = f"{__name__}.Away"
        asked = {"purge": "store", "scope": ["screenshots"], "confirmed": "yes"}
        assert told(admin_client.post(page(shot), asked)) == ["The store was not purged: It is away."]


class Away:
    """A store that does nothing."""

    def __getattr__(self, name: str) -> Any:
        from keybits.stores import StoreError  # noqa: PLC0415

        def fail(*_: Any) -> Any:
            raise StoreError("It is away.")

        return fail


class TestInspection:
    def test_a_frame_of_somebody_elses_is_passed_over(self, gallery: Gallery) -> None:
        get_store().write("x", b"not a frame")
        known = inspection.stamps_of(["gallery:spring"])
        assert inspection.sample(known, 10).found == ()
