"""Galleries and tags in the admin: the first screenshots, the cover, who may do what, and what curation refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.signals import post_init
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings
from staff import act, shown, told

from catalog.curation.tags import tags_named
from catalog.models import BulkOperation, Gallery, Screenshot, Tag, Tombstone, Visibility

pytestmark = pytest.mark.django_db
LIST = "/admin/catalog/gallery/"


def page(gallery: Gallery) -> str:
    return reverse("admin:catalog_gallery_change", args=[gallery.pk])


def form(
    gallery: Gallery | None = None, shots: list[Screenshot] | None = None, **changes: Any
) -> dict[str, Any]:
    fields = {
        "title": gallery.title if gallery else "Summer",
        "description": gallery.description if gallery else "",
        "visibility": gallery.visibility if gallery else "public",
        "owner": gallery.owner_id if gallery else "",
        "position": 0,
        "max_age": "",
        "edge_max_age": "",
        "cover": (gallery.cover_id if gallery else None) or "",
        "screenshots-TOTAL_FORMS": len(shots or ()),
        "screenshots-INITIAL_FORMS": len(shots or ()),
    }
    if gallery:
        names = ("title", "description", "visibility", "position", "max_age", "edge_max_age")
        own = {name: getattr(gallery, name) for name in names}
        fields |= shown(**own, owner=gallery.owner_id, cover=gallery.cover_id)
    for number, shot in enumerate(shots or ()):
        values = {"title": shot.title, "position": shot.position}
        values["tags"] = " ".join(shot.tags.values_list("slug", flat=True))
        row = {"id": shot.pk, "gallery": shot.gallery_id} | values | shown(**values)
        fields |= {f"screenshots-{number}-{name}": value for name, value in row.items()}
    return fields | changes


class TestList:
    def test_costs_the_same_for_two_rows_and_for_fifty(self, cost: Any, shoot: Any, owner: User) -> None:
        def add(number: int) -> None:
            made = Gallery.objects.create(slug=f"g{number}", title="G", owner=owner)
            made.cover = shoot("Cat", gallery=made)
            made.save()

        add(0)
        add(1)
        few = cost(LIST)
        for number in range(2, 50):
            add(number)
        assert cost(LIST) == few

    def test_shows_the_cover_and_how_many_there_are(
        self, admin_client: Client, shoot: Any, gallery: Gallery
    ) -> None:
        gallery.cover = shoot("Cat")
        gallery.save()
        shoot("Dog")
        text = admin_client.get(LIST).content.decode()
        assert gallery.cover.renditions.get(width=320).address in text
        assert f'<a href="/admin/catalog/screenshot/?gallery__id__exact={gallery.pk}">2</a>' in text

    def test_is_filtered_by_owner(self, admin_client: Client, gallery: Gallery, owner: User) -> None:
        Gallery.objects.create(slug="nobodys", title="Nobody's")
        response = admin_client.get(f"{LIST}?owner__id__exact={owner.pk}&visibility__exact=public")
        assert list(response.context["cl"].result_list) == [gallery]


class TestForm:
    def test_a_new_one_is_the_clerks_unless_told_otherwise(self, admin_client: Client, owner: User) -> None:
        text = admin_client.get(f"{LIST}add/").content.decode()
        admin = User.objects.get(username="admin")
        assert f'<option value="{admin.pk}" selected>' in text
        response = admin_client.post(f"{LIST}add/", form(slug="summer", owner=owner.pk))
        assert response.status_code == 302, response.content
        assert Gallery.objects.get(slug="summer").owner == owner
        assert LogEntry.objects.get().object_repr == "Summer"

    def test_a_slug_stays(self, admin_client: Client, gallery: Gallery) -> None:
        admin_client.post(page(gallery), form(gallery, slug="other", title="Other"))
        gallery.refresh_from_db()
        assert (gallery.slug, gallery.title) == ("spring", "Other")

    def test_a_slug_that_is_taken_meanwhile_is_said_at_the_form(
        self, admin_client: Client, db: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Tag.objects.create(slug="x", name="First")
        monkeypatch.setattr(Tag, "validate_unique", lambda *_, **__: None)  # the look of a moment before
        response = admin_client.post("/admin/catalog/tag/add/", {"name": "X", "slug": "x", "kind": "topic"})
        assert response.status_code == 200
        assert "The slug &#x27;x&#x27; is taken." in response.content.decode()
        assert 'value="X"' in response.content.decode()

    def test_none_is_made_private_to_nobody(self, admin_client: Client, gallery: Gallery) -> None:
        response = admin_client.post(page(gallery), form(gallery, owner="", visibility="private"))
        assert "A private gallery needs an owner" in response.content.decode()
        gallery.refresh_from_db()
        assert gallery.visibility == Visibility.PUBLIC

    def test_a_cover_is_one_of_its_own(
        self, admin_client: Client, shoot: Any, gallery: Gallery, other: Gallery
    ) -> None:
        own, foreign = shoot("Own"), shoot("Foreign", gallery=other)
        choices = (
            admin_client.get(page(gallery))
            .content.decode()
            .partition('name="cover"')[2]
            .partition("</select>")[0]
        )
        assert "Own" in choices
        assert "Foreign" not in choices
        assert admin_client.post(page(gallery), form(gallery, cover=foreign.pk)).status_code == 200
        assert admin_client.post(page(gallery), form(gallery, cover=own.pk)).status_code == 302
        gallery.refresh_from_db()
        assert gallery.cover == own

    def test_a_cover_that_leaves_meanwhile_is_refused_at_the_form(
        self, admin_client: Client, shoot: Any, gallery: Gallery, other: Gallery
    ) -> None:
        shot = shoot("Own")

        def leave(instance: Any, **_: Any) -> None:
            """Once the form has been checked: curation looks at a gallery of its own making."""
            if instance.cover_id == shot.pk and instance.slug == "":
                post_init.disconnect(leave, sender=Gallery)
                Screenshot.objects.filter(pk=shot.pk).update(gallery=other)
                instance.cover.gallery = other

        post_init.connect(leave, sender=Gallery)
        response = admin_client.post(page(gallery), form(gallery, [shot], cover=shot.pk))
        assert response.status_code == 200
        assert "Choose a screenshot of this gallery." in response.content.decode()
        gallery.refresh_from_db()
        assert gallery.cover is None


class TestFirstScreenshots:
    def test_are_as_many_as_a_page_holds(self, admin_client: Client, shoot: Any, gallery: Gallery) -> None:
        for number in range(25):
            shoot(f"Cat {number:02}", position=number)
        text = admin_client.get(page(gallery)).content.decode()
        assert 'value="Cat 19"' in text
        assert 'value="Cat 20"' not in text

    def test_cost_the_same_for_two_and_for_twenty(self, cost: Any, shoot: Any, gallery: Gallery) -> None:
        shoot("Cat", tags=("a", "b"))
        shoot("Cat", tags=("a",))
        few = cost(page(gallery))
        for _ in range(18):
            shoot("Dog", tags=("a", "b"))
        assert cost(page(gallery)) == few

    def test_of_which_one_is_the_cover_offer_it_however_many_come_before(
        self, admin_client: Client, shoot: Any, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise whoever saves the form would take it off unawares."""
        monkeypatch.setattr("catalog.admin.galleries.COVERS", 1)
        shoot("Cat", position=0)
        gallery.cover = shoot("Dog", position=1)
        gallery.save()
        text = admin_client.get(page(gallery)).content.decode()
        assert f'<option value="{gallery.cover.pk}" selected>Dog</option>' in text

    def test_are_changed_and_deleted(self, admin_client: Client, shoot: Any, gallery: Gallery) -> None:
        cat, dog = shoot("Cat", tags=("old",)), shoot("Dog")
        rows = form(gallery, [cat, dog])
        rows |= {"screenshots-0-title": "Kitten", "screenshots-0-tags": "new", "screenshots-1-DELETE": "on"}
        assert admin_client.post(page(gallery), rows).status_code == 302
        cat.refresh_from_db()
        assert (cat.title, [tag.slug for tag in cat.tags.all()]) == ("Kitten", ["new"])
        assert Tombstone.objects.filter(name=str(dog.pk)).exists()
        assert BulkOperation.objects.get().count == 1

    def test_are_those_that_were_shown_whatever_has_come_before_them(
        self, admin_client: Client, shoot: Any, gallery: Gallery
    ) -> None:
        cat = shoot("Cat", position=5)
        rows = form(gallery, [cat], **{"screenshots-0-title": "Kitten"})
        for _ in range(25):
            shoot("Dog", position=0)
        assert admin_client.post(page(gallery), rows).status_code == 302
        cat.refresh_from_db()
        assert cat.title == "Kitten"

    @pytest.mark.parametrize("gone", ["deleted", "moved"])
    def test_that_have_gone_meanwhile_are_said_to(
        self, admin_client: Client, shoot: Any, gallery: Gallery, other: Gallery, gone: str
    ) -> None:
        cat, dog = shoot("Cat"), shoot("Dog")
        rows = form(gallery, [cat, dog], **{"screenshots-0-title": "Kitten", "screenshots-1-title": "Puppy"})
        if gone == "deleted":
            cat.delete()
        else:
            Screenshot.objects.filter(pk=cat.pk).update(gallery=other)
        response = admin_client.post(page(gallery), rows)
        assert response.status_code == 200
        assert "errornote" in response.content.decode()
        assert set(Screenshot.objects.values_list("title", flat=True)) <= {"Cat", "Dog"}


class TestActions:
    @pytest.mark.parametrize(
        ("action", "visibility"), [("publish", "public"), ("unlist", "unlisted"), ("hide", "private")]
    )
    def test_say_who_sees_them(
        self, admin_client: Client, gallery: Gallery, other: Gallery, action: str, visibility: str
    ) -> None:
        Gallery.objects.create(
            slug="third", title="Third", visibility="unlisted" if action != "unlist" else "public"
        )
        response = act(admin_client, action, gallery, other)
        assert told(response) == [f"2 of the galleries chosen are {visibility}."]
        assert Gallery.objects.filter(slug__in=["spring", "vault"], visibility=visibility).count() == 2
        assert Gallery.objects.get(slug="third").visibility != visibility
        assert (BulkOperation.objects.get().count, LogEntry.objects.count()) == (2, 2)

    def test_delete_with_all_that_is_in_them(
        self, admin_client: Client, gallery: Gallery, other: Gallery, shoot: Any
    ) -> None:
        shot = shoot("Cat")
        act(admin_client, "delete_selected", gallery)
        assert list(Gallery.objects.all()) == [other]
        assert not Screenshot.objects.exists()
        assert set(Tombstone.objects.values_list("name", flat=True)) == {"spring", str(shot.pk)}

    def test_refuse_more_than_the_limit(
        self, admin_client: Client, gallery: Gallery, other: Gallery, settings: Settings
    ) -> None:
        settings.KEYBITS_BULK_LIMIT = 1
        assert told(act(admin_client, "hide", gallery, other))[0].startswith("Nothing was changed.")
        assert Gallery.objects.get(slug="spring").visibility == Visibility.PUBLIC

    def test_leave_no_gallery_private_to_nobody(self, admin_client: Client, gallery: Gallery) -> None:
        nobodys = Gallery.objects.create(slug="nobodys", title="Nobody's")
        assert "1 of the rows have no owner" in told(act(admin_client, "hide", gallery, nobodys))[0]
        assert set(Gallery.objects.values_list("visibility", flat=True)) == {"public"}

    @pytest.mark.parametrize("action", ["publish", "delete_selected"])
    def test_take_leave_to(self, clerk: Callable[..., Client], other: Gallery, action: str) -> None:
        act(clerk("view_gallery"), action, other)
        assert Gallery.objects.get(slug="vault").visibility == Visibility.PRIVATE

    def test_deletion_takes_leave_for_what_goes_as_well(
        self, clerk: Callable[..., Client], other: Gallery
    ) -> None:
        client = clerk("view_gallery", "delete_gallery")
        assert act(client, "delete_selected", other).status_code == 403
        address = reverse("admin:catalog_gallery_delete", args=[other.pk])
        assert client.post(address, {"post": "yes"}).status_code == 403
        assert Gallery.objects.exists()


class TestDeletionPage:
    def test_says_how_much_goes_and_reads_no_more_for_more(
        self, admin_client: Client, gallery: Gallery, shoot: Any
    ) -> None:
        address = reverse("admin:catalog_gallery_delete", args=[gallery.pk])

        def cost() -> int:
            with CaptureQueriesContext(connection) as asked:
                text = admin_client.get(address).content.decode()
            assert f"screenshots: {Screenshot.objects.count()}" in text.lower()
            return len(asked)

        shoot("Cat")
        few = cost()
        for _ in range(10):
            shoot("Cat")
        assert cost() == few
        assert admin_client.post(address, {"post": "yes"}).status_code == 302
        assert not Gallery.objects.exists()


class TestTags:
    def test_are_made_changed_and_deleted(self, admin_client: Client, shoot: Any) -> None:
        base = "/admin/catalog/tag/"
        admin_client.post(f"{base}add/", {"name": "Dark", "slug": "dark", "kind": "scheme"})
        tag = Tag.objects.get()
        shoot("Cat", tags=("dark",))
        changed = {"name": "Night", "slug": "night", "kind": "topic", "offered": "on"}
        admin_client.post(
            f"{base}{tag.pk}/change/", changed | shown(name="Dark", kind="scheme", offered=True)
        )
        tag.refresh_from_db()
        assert (tag.slug, tag.name, tag.kind) == ("dark", "Night", "topic")
        assert "Night" in admin_client.get(f"{base}{tag.pk}/delete/").content.decode()
        assert admin_client.post(f"{base}{tag.pk}/delete/", {"post": "yes"}).status_code == 302
        assert Tombstone.objects.filter(kind="tag", name="dark").exists()

    def test_that_are_made_here_are_offered_and_a_word_can_be(self, admin_client: Client, db: None) -> None:
        base = "/admin/catalog/tag/"
        admin_client.post(f"{base}add/", {"name": "Dark", "slug": "dark", "kind": "scheme"})
        (word,) = tags_named(slugs=["night"])
        listed = Tag.objects.listed_for(None)
        assert [tag.slug for tag in listed] == ["dark"]
        changed = {"name": "Night", "kind": "topic", "offered": "on"}
        admin_client.post(
            f"{base}{word.pk}/change/", changed | shown(name="Night", kind="topic", offered=False)
        )
        assert [tag.slug for tag in listed.all()] == ["dark", "night"]

    def test_that_are_deleted_together_leave_a_tombstone_each(self, admin_client: Client, db: None) -> None:
        tags = [Tag.objects.create(slug=slug, name=slug) for slug in ("a", "b")]
        act(admin_client, "delete_selected", *tags)
        assert not Tag.objects.exists()
        assert Tombstone.objects.filter(kind="tag").count() == 2
        record = BulkOperation.objects.get()
        assert (record.kind, record.count, record.username) == ("delete", 2, "admin")
        assert record.query == f"ids={tags[0].pk},{tags[1].pk}"
