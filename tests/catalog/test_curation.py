"""The changes that people make, as functions: atomic, by keywords, and of nothing that they were not asked for."""

from __future__ import annotations

import inspect
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from importlib import import_module
from threading import Barrier

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from stacks.threads import PATIENCE, aside, wait_for_who_waits_for_us

from catalog.curation.galleries import change_gallery, create_gallery, delete_gallery
from catalog.curation.ownership import changeable, may_change
from catalog.curation.screenshots import change_screenshot, create_screenshot
from catalog.curation.slugs import SlugTakenError, insert
from catalog.curation.tags import change_tag, create_tag, tag_kind, tag_name, tags_named
from catalog.models import Gallery, Rendition, Screenshot, State, Tag, Visibility
from keybits.selections import lock

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner():
    return User.objects.create_user("owner")


@pytest.fixture
def gallery(owner):
    return create_gallery(owner=owner, slug="spring", title="Spring")


@pytest.fixture
def shot(gallery):
    return create_screenshot(
        gallery=gallery, source_url="https://One.example:81/", title="One", tags=["dark", "x"]
    )


@pytest.fixture
def hidden(gallery, shot):
    """A word that its owner alone sees."""
    change_gallery(gallery=gallery, visibility=Visibility.PRIVATE)
    return Tag.objects.hidden_from(None).get(slug="x")


@pytest.mark.parametrize("module", ["galleries", "screenshots", "tags"])
def test_every_function_is_called_by_keywords(module):
    written = import_module(f"catalog.curation.{module}")
    for name in written.__all__:
        kinds = {
            parameter.kind for parameter in inspect.signature(getattr(written, name)).parameters.values()
        }
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}, name


class TestScreenshot:
    def test_new_one_waits_for_its_picture(self, shot):
        assert (shot.state, shot.domain) == (State.PENDING, "one.example")
        assert {tag.slug for tag in shot.tags.all()} == {"dark", "x"}

    def test_change_leaves_to_others_what_they_changed_meanwhile(self, shot):
        Screenshot.objects.filter(pk=shot.pk).update(alt="By another", position=7)
        change_screenshot(screenshot=shot, title="Two")
        found = Screenshot.objects.get(pk=shot.pk)
        assert (found.title, found.alt, found.position) == ("Two", "By another", 7)

    def test_change_of_tags_alone_dates_it_too(self, shot):
        before = shot.updated_at
        change_screenshot(screenshot=shot, tags=["dark"])
        found = Screenshot.objects.get(pk=shot.pk)
        assert found.updated_at > before
        assert {tag.slug for tag in found.tags.all()} == {"dark"}

    def test_same_tags_in_another_order_write_nothing(self, shot):
        with CaptureQueriesContext(connection) as queries:
            change_screenshot(screenshot=shot, tags=["x", "dark", "x"], title="One")
        assert not [q for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]

    def test_failed_change_leaves_nothing(self, shot):
        with pytest.raises(ValueError, match="gallery"):
            change_screenshot(screenshot=shot, tags=["quite-new"], gallery="no gallery")
        assert not Tag.objects.filter(slug="quite-new").exists()

    def test_that_leaves_its_gallery_is_its_cover_no_longer(self, owner, gallery, shot):
        change_gallery(gallery=gallery, cover=shot)
        other = create_gallery(owner=owner, slug="other", title="Other")
        change_screenshot(screenshot=shot, gallery=other)
        assert Gallery.objects.get(slug="spring").cover is None
        change_gallery(gallery=other, cover=shot)
        change_screenshot(screenshot=shot, gallery=other, title="Again")
        assert Gallery.objects.get(slug="other").cover == shot


class TestGallery:
    def test_slug_that_is_taken_is_said_to_be(self, owner, gallery):
        with pytest.raises(SlugTakenError, match="spring"):
            create_gallery(owner=owner, slug="spring", title="Again")
        assert Gallery.objects.count() == 1

    def test_cover_of_another_gallery_is_refused(self, owner, shot):
        other = create_gallery(owner=owner, slug="other", title="Other")
        with pytest.raises(ValidationError):
            change_gallery(gallery=other, cover=shot, title="Changed")
        assert Gallery.objects.get(slug="other").title == "Other"

    @pytest.mark.parametrize(
        ("before", "changes"),
        [
            ({"owner": None}, {"visibility": "private"}),
            ({"visibility": "private"}, {"owner": None}),
            ({}, {"visibility": "private", "owner": None}),
        ],
    )
    def test_is_not_made_private_to_nobody(self, gallery, before, changes):
        change_gallery(gallery=gallery, **before)
        with pytest.raises(ValidationError) as refused:
            change_gallery(gallery=gallery, title="Changed", **changes)
        assert list(refused.value.message_dict) == ["visibility"]
        assert Gallery.objects.get().title == "Spring"

    def test_is_not_made_as_one_that_nobody_sees(self, db):
        with pytest.raises(ValidationError):
            create_gallery(owner=None, slug="new", title="New", visibility="private")
        assert not Gallery.objects.exists()

    def test_whose_owner_has_gone_is_still_changed_and_given_to_another(self, owner, gallery):
        Gallery.objects.update(owner=None, visibility="private")
        gallery.refresh_from_db()
        change_gallery(gallery=gallery, title="Changed", visibility="private")
        change_gallery(gallery=gallery, owner=owner)
        assert (gallery.title, gallery.visibility, gallery.owner) == ("Changed", "private", owner)

    def test_goes_with_all_that_is_in_it(self, gallery, shot):
        delete_gallery(gallery=gallery)
        assert not Screenshot.objects.exists()
        assert not Gallery.objects.exists()

    def test_goes_by_as_many_statements_however_much_is_in_it(self, owner):
        counts = []
        for slug, number in (("small", 2), ("large", 1200)):
            gallery = create_gallery(owner=owner, slug=slug, title=slug)
            shots = [Screenshot(gallery=gallery, title="x", source_url="https://x.example/")] * number
            made = Screenshot.objects.bulk_create([copy(shot) for shot in shots])
            Rendition.objects.bulk_create(
                Rendition(screenshot=shot, width=1, height=1, sha256="0" * 64) for shot in made
            )
            change_gallery(gallery=gallery, cover=made[0])
            with CaptureQueriesContext(connection) as queries:
                delete_gallery(gallery=gallery)
            counts.append(len(queries))
        assert counts[0] == counts[1] < 20
        assert not Rendition.objects.exists()


class TestTags:
    def test_words_become_tags_as_people_write_them(self):
        made = {tag.slug: tag for tag in tags_named(slugs=["full-page", "dark", "mobile"])}
        assert made["full-page"].name == "Full page"
        assert (made["dark"].kind, made["mobile"].kind) == (Tag.Kind.SCHEME, Tag.Kind.DEVICE)
        assert (tag_name(slug="a_b"), tag_kind(slug="a_b")) == ("A b", Tag.Kind.TOPIC)

    @pytest.mark.parametrize("slug", ["--", "_", "-_-"])
    def test_without_a_letter_are_named_as_they_are_spelt(self, slug):
        assert create_tag(slug=slug).name == slug

    def test_of_the_same_words_by_many_at_once_are_made_once(self):
        barrier = Barrier(4)

        def name(number):
            barrier.wait()
            try:
                return {tag.pk for tag in tags_named(slugs=[f"word-{n}" for n in range(number, 20 + number)])}
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(name, range(4)))
        assert [len(each) for each in found] == [20] * 4
        assert Tag.objects.count() == 23

    def test_new_ones_are_made_in_one_order_so_that_no_two_writers_wait_for_each_other(self):
        slugs = [f"word-{number:02}" for number in range(30)]
        tags_named(slugs=slugs[::-1])
        assert list(Tag.objects.order_by("pk").values_list("slug", flat=True)) == slugs

    @pytest.mark.stack("embedded")  # PostgreSQL is not told values apart from the statement
    def test_may_be_more_than_a_statement_takes_values(self):
        connection.ensure_connection()
        most = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        try:
            words = {f"word-{number}" for number in range(2_500)}
            assert {tag.slug for tag in tags_named(slugs=words)} == words
            assert {tag.slug for tag in tags_named(slugs=words)} == words
        finally:
            connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)

    def test_no_word_is_none(self):
        with pytest.raises(ValueError, match="one character"):
            tags_named(slugs=[""])

    def test_slug_that_is_taken_is_said_to_be(self):
        create_tag(slug="x")
        with pytest.raises(SlugTakenError):
            create_tag(slug="x", name="Y")

    @pytest.mark.stack("server")  # SQLite has one writer at a time
    def test_one_that_somebody_offers_meanwhile_keeps_its_slug_and_its_screenshots(self, hidden, shot):
        with transaction.atomic():
            change_tag(tag=hidden, offered=True)
            other = aside(lambda: create_tag(slug="x"))
            wait_for_who_waits_for_us(other)
        with pytest.raises(SlugTakenError):
            other.result(PATIENCE)
        assert Tag.objects.get(slug="x") == hidden
        assert list(hidden.screenshots.all()) == [shot]

    @pytest.mark.stack("server")
    def test_one_that_somebody_renames_meanwhile_keeps_its_screenshots(self, hidden, shot):
        with transaction.atomic():
            change_tag(tag=hidden, slug="y")
            other = aside(lambda: create_tag(slug="x"))
            wait_for_who_waits_for_us(other)
        made = other.result(PATIENCE)
        assert list(hidden.screenshots.all()) == [shot]
        assert not made.screenshots.exists()

    @pytest.mark.stack("server")
    def test_one_whose_screenshot_somebody_has_locked_is_left_to_them_until_they_have_done(
        self, hidden, gallery, shot
    ):
        """Otherwise each would wait for what the other has locked."""
        second = create_screenshot(gallery=gallery, source_url="https://two.example/", title="Two")
        with transaction.atomic():
            lock(Screenshot.objects.filter(pk=shot.pk))
            other = aside(lambda: create_tag(slug="x"))
            wait_for_who_waits_for_us(other)
            second.tags.add(hidden)
        assert {*other.result(PATIENCE).screenshots.all()} == {shot, second}

    def test_slug_is_not_said_to_be_taken_where_something_else_is_refused(self):
        other = create_tag(slug="y")
        with pytest.raises(IntegrityError, match="tag_kind_known"):
            insert(Tag(slug="x", name="X", kind="word"))
        assert Tag.objects.get() == other


class TestOwnership:
    def test_is_the_owners_and_staff_s(self, owner, gallery, shot):
        other, staff = User.objects.create_user("other"), User.objects.create_user("staff", is_staff=True)
        tag = create_tag(slug="y")
        told = {
            (who.username, thing): may_change(who, thing)
            for who in (owner, other, staff, AnonymousUser())
            for thing in (gallery, shot, tag)
        }
        assert {pair for pair, may in told.items() if may} == {
            ("owner", gallery),
            ("owner", shot),
            *(("staff", thing) for thing in (gallery, shot, tag)),
        }

    def test_of_rows_is_that_of_each(self, owner, shot):
        create_screenshot(
            gallery=create_gallery(owner=None, slug="nobody", title="Nobody's"),
            source_url="https://x/",
            title="X",
        )
        staff = User.objects.create_user("staff", is_staff=True)
        create_tag(slug="y")
        for who in (owner, staff, AnonymousUser()):
            for model in (Gallery, Screenshot, Tag):
                found = set(model.objects.filter(changeable(model=model, actor=who)))
                assert found == {each for each in model.objects.all() if may_change(who, each)}
