"""Screenshots in the admin: what the list shows and costs, what can be changed, and what actions do."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from PIL import Image
from pytest_django import Settings
from staff import act, fields, shown, told

from catalog.admin.tags import SlugsField
from catalog.capture import images, redrawing, storage
from catalog.curation import bulk
from catalog.models import MOST_TAGS, BulkOperation, Gallery, Rendition, Screenshot, State, Tag, Tombstone

pytestmark = [pytest.mark.django_db, pytest.mark.stack("server")]  # pages: they hang on no stack
LIST = "/admin/catalog/screenshot/"
NASTY = [
    '<script>alert("x")</script>',
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    '"onerror=alert(1)//',
]


def page(shot: Screenshot) -> str:
    return reverse("admin:catalog_screenshot_change", args=[shot.pk])


def form(shot: Screenshot, **changes: Any) -> dict[str, Any]:
    values = {
        "gallery": shot.gallery_id,
        "title": shot.title,
        "alt": shot.alt,
        "position": shot.position,
        "tags": " ".join(shot.tags.values_list("slug", flat=True)),
    }
    no_renditions = {"renditions-TOTAL_FORMS": 0, "renditions-INITIAL_FORMS": 0}
    return values | shown(**values) | no_renditions | changes


class TestList:
    @pytest.mark.parametrize("title", NASTY)
    def test_shows_a_nasty_title_as_text(
        self, admin_client: Client, shoot: Any, gallery: Gallery, title: str
    ) -> None:
        shot = shoot(title, alt=title, tags=("dark",))
        Gallery.objects.update(title=title, cover=shot)
        pages = [LIST, page(shot), reverse("admin:catalog_gallery_change", args=[gallery.pk])]
        ask = act(admin_client, "move", shot, confirmed=None)
        caches = reverse("admin:catalog_screenshot_cache", args=[shot.pk])
        for content in [
            *(admin_client.get(each).content for each in [*pages, caches, "/admin/catalog/gallery/"]),
            ask.content,
        ]:
            text = content.decode()
            assert title not in text
            assert "<script>alert" not in text

    def test_shows_the_smallest_rendition(self, admin_client: Client, shoot: Any) -> None:
        shot = shoot("Cat", alt="A cat")
        small = shot.renditions.get(width=320).address
        assert f'<img src="{small}" alt="A cat"' in admin_client.get(LIST).content.decode()

    def test_costs_the_same_for_five_rows_and_for_fifty(self, cost: Any, shoot: Any) -> None:
        for number in range(5):
            shoot(f"Cat {number}", tags=("dark", f"t{number}"))
        few = cost(LIST)
        for number in range(45):
            shoot(f"Dog {number}", tags=("dark",))
        assert cost(LIST) == few

    def test_never_counts_all_rows(self, admin_client: Client, shoot: Any) -> None:
        shoot("Cat")
        with CaptureQueriesContext(connection) as asked:
            admin_client.get(LIST)
        counts = [
            query["sql"] for query in asked if "COUNT(" in query["sql"] and "screenshot" in query["sql"]
        ]
        assert counts
        assert all("LIMIT 10001" in sql for sql in counts)

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("q=cat", ["Cat"]),
            ("q=two.example", ["Dog"]),
            ("q=%2B%2B", []),
            ("domain=two.example", ["Dog"]),
            ("domain=", ["Cat", "Dog"]),
            ("state__exact=failed", ["Dog"]),
            ("color_scheme__exact=dark", ["Cat"]),
            ("orientation=portrait", ["Dog"]),
            ("tags__id__exact={night}", ["Cat"]),
            ("gallery__id__exact={vault}", ["Dog"]),
            ("gallery__id__exact=", ["Cat", "Dog"]),
            ("q=dog&gallery__id__exact={spring}", []),
        ],
    )
    def test_is_filtered(
        self, admin_client: Client, shoot: Any, gallery: Gallery, other: Gallery, query: str, found: list[str]
    ) -> None:
        shoot("Cat", color_scheme="dark", tags=("night",))
        dog = {"source_url": "https://two.example/", "gallery": other, "state": State.FAILED, "width": 1}
        shoot("Dog", **dog)
        ids = {"night": Tag.objects.get().pk, "vault": other.pk, "spring": gallery.pk}
        response = admin_client.get(f"{LIST}?{query.format_map(ids)}")
        assert response.status_code == 200
        assert sorted(shot.title for shot in response.context["cl"].result_list) == found

    @pytest.mark.parametrize(
        "query",
        [
            "gallery__id__exact=x",
            "gallery__id__exact=99999999999999999999",
            "tags__id__exact=-",
            "o=99",
            "p=x",
            "p=7",
        ],
    )
    def test_leads_back_from_a_filter_that_means_nothing(
        self, admin_client: Client, shoot: Any, query: str
    ) -> None:
        shoot("Cat")
        assert admin_client.get(f"{LIST}?{query}").status_code in {200, 302}

    @pytest.mark.parametrize("query", ["q=%00", "domain=a%00", "state__exact=%00"])
    def test_refuses_what_no_database_can_read(self, admin_client: Client, query: str) -> None:
        assert admin_client.get(f"{LIST}?{query}").status_code in {200, 400}

    def test_offers_no_filter_that_lists_a_table(
        self, admin_client: Client, shoot: Any, other: Gallery
    ) -> None:
        shoot("Cat", tags=("night",))
        sidebar = admin_client.get(LIST).content.decode().partition('id="changelist-filter"')[2]
        assert "Vault" not in sidebar
        assert 'name="gallery__id__exact"' in sidebar


class TestForm:
    def test_changes_what_people_curate(self, admin_client: Client, shoot: Any, other: Gallery) -> None:
        shot = shoot("Cat", tags=("dark", "old"))
        Gallery.objects.filter(slug="spring").update(cover=shot)
        values = {"title": "Kitten", "position": 7, "tags": "dark, new", "gallery": other.pk}
        assert admin_client.post(page(shot), form(shot, **values)).status_code == 302
        shot.refresh_from_db()
        assert (shot.title, shot.position, shot.gallery) == ("Kitten", 7, other)
        assert {tag.slug for tag in shot.tags.all()} == {"dark", "new"}
        assert Gallery.objects.get(slug="spring").cover is None
        assert LogEntry.objects.filter(object_id=str(shot.pk)).count() == 1

    def test_leaves_what_was_measured(self, admin_client: Client, shoot: Any) -> None:
        shot = shoot("Cat")
        before = Screenshot.objects.values().get()
        measured = {"width": 1, "state": "failed", "sha256": "0" * 64, "source_url": "https://evil.example/"}
        admin_client.post(page(shot), form(shot, **measured))
        after = Screenshot.objects.values().get()
        assert {name for name in after if after[name] != before[name]} <= {"updated_at"}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"title": ""},
            {"tags": "not/a/slug"},
            {"gallery": 0},
            {"gallery": "9" * 30},
            {"position": -1},
            {"tags": "x" * 101},
            {"title": "\x00"},
        ],
    )
    def test_shows_what_is_wrong(self, admin_client: Client, shoot: Any, wrong: dict[str, Any]) -> None:
        shot = shoot("Cat")
        response = admin_client.post(page(shot), form(shot, **wrong))
        assert response.status_code == 200
        assert "errorlist" in response.content.decode()
        assert Screenshot.objects.get().title == "Cat"

    def test_a_new_one_waits_for_its_picture(self, admin_client: Client, gallery: Gallery) -> None:
        values = {"gallery": gallery.pk, "title": "Cat", "position": 0, "source_url": "https://one.example/a"}
        counts = {"renditions-TOTAL_FORMS": 0, "renditions-INITIAL_FORMS": 0}
        response = admin_client.post(f"{LIST}add/", values | counts | {"tags": "dark new"})
        assert response.status_code == 302, response.content
        shot = Screenshot.objects.get()
        assert (shot.state, shot.domain) == (State.PENDING, "one.example")
        assert {tag.slug for tag in shot.tags.all()} == {"dark", "new"}

    def test_a_new_one_of_no_web_page_is_refused(self, admin_client: Client, gallery: Gallery) -> None:
        values = {"gallery": gallery.pk, "title": "Cat", "position": 0, "source_url": "ftp://one.example/a"}
        counts = {"renditions-TOTAL_FORMS": 0, "renditions-INITIAL_FORMS": 0}
        assert admin_client.post(f"{LIST}add/", values | counts).status_code == 200
        assert not Screenshot.objects.exists()

    def test_is_deleted_with_a_tombstone_and_a_record(self, admin_client: Client, shoot: Any) -> None:
        shot = shoot("Cat")
        address = reverse("admin:catalog_screenshot_delete", args=[shot.pk])
        assert "Cat" in admin_client.get(address).content.decode()
        assert admin_client.post(address, {"post": "yes"}).status_code == 302
        assert not Screenshot.objects.exists()
        assert Tombstone.objects.filter(kind="screenshot", name=str(shot.pk)).exists()
        assert BulkOperation.objects.get().count == 1


class TestActions:
    def test_ask_before_they_do_anything(self, admin_client: Client, shoot: Any) -> None:
        shot = shoot("Cat", tags=("dark",))
        for action in ("move", "add_tags", "remove_tags", "delete_selected"):
            response = act(admin_client, action, shot, confirmed=None)
            assert response.status_code == 200
            assert 'name="confirmed" value="1"' in response.content.decode()
        assert Screenshot.objects.count() == 1
        assert not BulkOperation.objects.exists()

    def test_move_to_a_gallery(self, admin_client: Client, shoot: Any, other: Gallery) -> None:
        cat, dog, owl = shoot("Cat"), shoot("Dog"), shoot("Owl")
        response = act(admin_client, "move", cat, dog, gallery=other.pk)
        assert told(response) == ["Moved to vault: 2 of the screenshots chosen."]
        assert set(Screenshot.objects.filter(gallery=other)) == {cat, dog}
        owl.refresh_from_db()
        assert owl.gallery.slug == "spring"
        record = BulkOperation.objects.get()
        assert (record.kind, record.count, record.username) == ("update", 2, "admin")
        assert sorted(record.query.removeprefix("ids=").split(",")) == sorted([str(cat.pk), str(dog.pk)])
        assert LogEntry.objects.filter(change_message="Moved to vault.").count() == 2

    def test_put_tags_on_and_take_them_off(self, admin_client: Client, shoot: Any) -> None:
        cat, dog = shoot("Cat", tags=("old",)), shoot("Dog", tags=("new", "old"))
        new, old = Tag.objects.get(slug="new"), Tag.objects.get(slug="old")
        act(admin_client, "add_tags", cat, dog, tags=[new.pk])
        act(admin_client, "remove_tags", cat, dog, tags=[old.pk])
        assert [list(shot.tags.all()) for shot in (cat, dog)] == [[new], [new]]
        assert BulkOperation.objects.count() == 2

    def test_put_on_no_more_tags_than_a_screenshot_may_have(self, admin_client: Client, shoot: Any) -> None:
        cat, dog = shoot("Cat", tags=("old",)), shoot("Dog")
        tags = Tag.objects.bulk_create([Tag(slug=f"t{number}", name="x") for number in range(101)])
        for chosen, count in ((tags[:100], 1), (tags, 2)):
            response = act(admin_client, "add_tags", cat, dog, tags=[tag.pk for tag in chosen])
            refusal = f"Nothing was changed. {count} of the rows would have more than 100 tags."
            assert told(response)[-1] == refusal
        assert (cat.tags.count(), dog.tags.count()) == (1, 0)

    def test_delete_by_the_same_number_of_statements_however_many(
        self, admin_client: Client, shoot: Any
    ) -> None:
        def cost(*shots: Screenshot) -> int:
            with CaptureQueriesContext(connection) as asked:
                assert told(act(admin_client, "delete_selected", *shots))[-1] == f"{len(shots)} deleted."
            return len(asked)

        cost(*(shoot("Owl") for _ in range(2)))
        few = cost(*(shoot("Cat") for _ in range(2)))
        assert cost(*(shoot("Dog") for _ in range(20))) == few
        assert Tombstone.objects.filter(kind="screenshot").count() == 24
        assert sorted(BulkOperation.objects.values_list("kind", "count")) == [
            ("delete", 2),
            ("delete", 2),
            ("delete", 20),
        ]
        assert LogEntry.objects.count() == 24

    def test_of_all_that_the_filter_shows_is_about_those(self, admin_client: Client, shoot: Any) -> None:
        cats = [shoot("Cat") for _ in range(3)]
        shoot("Dog")
        ask = act(
            admin_client,
            "delete_selected",
            cats[0],
            address=f"{LIST}?q=cat",
            select_across="1",
            confirmed=None,
        )
        assert 'name="confirmed" value="3"' in ask.content.decode()
        across = {"select_across": "1", "confirmed": "3"}
        act(admin_client, "delete_selected", cats[0], address=f"{LIST}?q=cat", **across)
        assert [shot.title for shot in Screenshot.objects.all()] == ["Dog"]

    def test_ask_again_where_there_are_more_than_were_shown(self, admin_client: Client, shoot: Any) -> None:
        cat = shoot("Cat")
        shoot("Cat")
        across = {"select_across": "1", "confirmed": "1"}
        response = act(admin_client, "delete_selected", cat, address=f"{LIST}?q=cat", **across)
        assert 'name="confirmed" value="2"' in response.content.decode()
        assert Screenshot.objects.count() == 2

    def test_refuse_more_than_the_limit(self, admin_client: Client, shoot: Any, settings: Settings) -> None:
        settings.KEYBITS_BULK_LIMIT = 1
        response = act(admin_client, "delete_selected", shoot("Cat"), shoot("Dog"))
        assert told(response) == ["Nothing was changed. There are 2 rows, and no more than 1 may be touched."]
        assert Screenshot.objects.count() == 2

    def test_do_as_many_as_the_limit(self, admin_client: Client, shoot: Any, settings: Settings) -> None:
        settings.KEYBITS_BULK_LIMIT = 2
        act(admin_client, "delete_selected", shoot("Cat"), shoot("Dog"))
        assert not Screenshot.objects.exists()

    @pytest.mark.parametrize("limit", [1, 10_000])
    def test_say_how_many_are_too_many_to_be_made_anew(
        self,
        admin_client: Client,
        shoot: Any,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        limit: int,
    ) -> None:
        rows = [shoot(title) for title in ("Cat", "Dog", "Elk")]
        monkeypatch.setattr("catalog.admin.screenshots.MOST_REDRAWN", 1)
        settings.KEYBITS_BULK_LIMIT = limit
        refused = told(act(admin_client, "redraw", *rows))
        assert refused == ["Nothing was changed. There are 3 rows, and no more than 1 may be touched."]
        monkeypatch.setattr("catalog.admin.screenshots.MOST_REDRAWN", 3)
        settings.KEYBITS_BULK_LIMIT = 3
        assert "0 of 3 screenshots" in told(act(admin_client, "redraw", *rows))[-1]

    def test_take_as_many_tags_as_a_screenshot_may_have(self) -> None:
        slugs = [f"t{number}" for number in range(MOST_TAGS)]
        assert SlugsField().clean(" ".join(slugs)) == sorted(slugs)
        with pytest.raises(ValidationError):
            SlugsField().clean(" ".join([*slugs, "more"]))

    @pytest.mark.parametrize(("action", "field"), [("add_tags", "tags"), ("move", "gallery")])
    @pytest.mark.parametrize("chosen", ["x", "-1", "9" * 40])
    def test_refuse_to_choose_what_can_be_no_id(
        self, admin_client: Client, shoot: Any, action: str, field: str, chosen: str
    ) -> None:
        assert act(admin_client, action, shoot("Cat"), **{field: [chosen]}).status_code == 400

    @pytest.mark.parametrize("chosen", ["x", "-1", "9" * 40, "1 or 1"])
    def test_refuse_what_is_no_row(self, admin_client: Client, chosen: str) -> None:
        data = {"action": "delete_selected", "_selected_action": [chosen]}
        assert admin_client.post(LIST, data).status_code == 400

    def test_happen_whole_or_not_at_all(
        self, admin_client: Client, shoot: Any, other: Gallery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shot = shoot("Cat")

        def fail(*args: Any, **options: Any) -> None:
            raise RuntimeError

        monkeypatch.setattr(type(LogEntry.objects), "log_actions", fail)
        with pytest.raises(RuntimeError):
            act(admin_client, "move", shot, gallery=other.pk)
        shot.refresh_from_db()
        assert shot.gallery.slug == "spring"
        assert not BulkOperation.objects.exists()

    @pytest.mark.stack("embedded")
    def test_on_more_tags_than_sqlite_can_hold_others_up_for_are_refused(
        self, admin_client: Client, shoot: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bulk, "MOST_PAIRS", 0)
        shot, tag = shoot("Cat"), Tag.objects.create(slug="dark", name="Dark")
        (said,) = told(act(admin_client, "add_tags", shot, tags=[tag.pk]))
        assert said.startswith("Nothing was changed. There are 1 tags in all")
        assert not shot.tags.exists()

    @pytest.mark.parametrize("action", ["move", "add_tags", "remove_tags", "redraw", "delete_selected"])
    def test_take_leave_to(
        self, clerk: Callable[..., Client], shoot: Any, other: Gallery, action: str
    ) -> None:
        shot = shoot("Cat", tags=("dark",))
        act(clerk("view_screenshot"), action, shot, gallery=other.pk, tags=[Tag.objects.get().pk])
        shot.refresh_from_db()
        assert shot.gallery.slug == "spring"
        assert not BulkOperation.objects.exists()


def test_an_address_that_names_tags_of_a_new_one_shows_them_as_they_are_entered(
    admin_client: Client, db: None
) -> None:
    response = admin_client.get("/admin/catalog/screenshot/add/", {"tags": "wide,dark"})
    assert fields(response)["tags"] == "dark wide"


def kept_original(width: int) -> str:
    """Keep an original of this width, and return its sha256."""
    picture = io.BytesIO()
    Image.new("RGB", (width, width // 2), "teal").save(picture, "WEBP")
    return storage.store_original(picture.getvalue())


class TestRedrawing:
    def test_makes_the_renditions_of_an_original_that_is_kept(self, admin_client: Client, shoot: Any) -> None:
        shot = shoot("Cat", sha256=kept_original(700))
        before = set(shot.renditions.values_list("pk", flat=True))
        response = act(admin_client, "redraw", shot)
        assert told(response) == ["Renditions were made anew for 1 of 1 screenshots."]
        record = BulkOperation.objects.get()
        assert (record.kind, record.count) == ("update", 1)
        rows = Rendition.objects.all()
        assert {(row.width, row.format) for row in rows} == {
            (w, f) for w in (320, 640) for f in ("webp", "jpeg")
        }
        assert all(storage.exists(row.sha256, row.format, row.bytes) for row in rows)
        assert not before & {row.pk for row in rows}

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("happens", ["nothing", "deletion", "another picture"])
    def test_keeps_nobody_waiting_while_it_encodes(
        self, admin_client: Client, shoot: Any, happens: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shot = shoot("Cat", sha256=kept_original(320))
        encode = images.renditions

        def watched(original: bytes) -> Any:
            assert not connection.in_atomic_block
            if happens == "deletion":
                Screenshot.objects.all().delete()
            if happens == "another picture":
                Screenshot.objects.update(sha256="0" * 64)
            return encode(original)

        monkeypatch.setattr(images, "renditions", watched)
        before = set(Rendition.objects.values_list("pk", flat=True))
        messages = told(act(admin_client, "redraw", shot))
        done = 1 if happens == "nothing" else 0
        assert messages[-1] == f"Renditions were made anew for {done} of 1 screenshots."
        assert ("It has been deleted, or has another picture by now." in messages[0]) == (not done)
        kept = set(Rendition.objects.values_list("pk", flat=True))
        assert kept == (before if happens == "another picture" else kept - before)

    def test_names_what_has_no_original_and_leaves_it(self, admin_client: Client, shoot: Any) -> None:
        cat = shoot("Cat", sha256="0" * 64)
        first, last = told(act(admin_client, "redraw", cat))
        assert first == f"Cat ({cat.pk}) stays as it is. Its original picture is not kept; import it again."
        assert last == "Renditions were made anew for 0 of 1 screenshots."
        assert cat.renditions.count() == 2

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (OperationalError("deadlock detected"), "Others were writing the same rows. Send it again."),
            (OSError(28, "No space left on device"), "No space left on device."),
        ],
        ids=["a deadlock", "a full disk"],
    )
    def test_says_what_was_done_and_what_was_not_where_one_could_not_be(
        self,
        admin_client: Client,
        shoot: Any,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        said: str,
    ) -> None:
        first, second, third = (shoot(title, sha256=kept_original(320)) for title in ("Cat", "Dog", "Elk"))
        replace = redrawing.replace

        def fails(*, screenshot: Screenshot, renditions: Any) -> None:
            if screenshot == second:
                raise error
            replace(screenshot=screenshot, renditions=renditions)

        monkeypatch.setattr(redrawing, "replace", fails)
        one, last = told(act(admin_client, "redraw", first, second, third))
        assert one.startswith(f"Dog ({second.pk}) stays as it is. ")
        assert one.endswith(said)
        assert last == "Renditions were made anew for 2 of 3 screenshots."
        logged = LogEntry.objects.filter(change_message="Renditions made anew.").values_list("object_id")
        assert {pk for (pk,) in logged} == {str(first.pk), str(third.pk)}
        assert BulkOperation.objects.get().count == 2

    def test_does_not_say_that_nothing_was_changed_where_what_was_cannot_be_recorded(
        self, admin_client: Client, shoot: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: Any) -> None:
            raise OperationalError("database is locked")

        monkeypatch.setattr(bulk, "recorded", fails)
        unrecorded, last = told(act(admin_client, "redraw", shoot("Cat", sha256=kept_original(320))))
        assert unrecorded.startswith("What was done could not be recorded.")
        assert last == "Renditions were made anew for 1 of 1 screenshots."
        assert not LogEntry.objects.filter(change_message="Renditions made anew.").exists()

    def test_is_refused_for_more_than_one_can_wait_for(self, admin_client: Client, shoot: Any) -> None:
        response = act(admin_client, "redraw", *(shoot("Cat") for _ in range(21)))
        assert "no more than 20" in told(response)[0]


class TestAnswers:
    def test_are_stored_by_nobody(self, admin_client: Client, shoot: Any, owner: User) -> None:
        shot = shoot("Cat")
        base = "/admin/catalog/screenshot"
        search = "/admin/autocomplete/?app_label=catalog&model_name=screenshot&field_name=gallery&term=s"
        for address in [
            "/admin/",
            LIST,
            page(shot),
            f"{base}/{shot.pk}/cache/",
            f"{base}/{shot.pk}/history/",
            search,
        ]:
            response = admin_client.get(address)
            assert response.status_code == 200, address
            assert {"private", "no-store"} <= set(response["Cache-Control"].split(", ")), address
        assert "no-store" in Client().get(LIST)["Cache-Control"]
