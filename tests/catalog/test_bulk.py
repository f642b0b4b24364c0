"""Bulk operations on the database's own terms: what they end, what they record, and what others may do meanwhile."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from stacks.threads import aside, before_statement

from catalog.curation import bulk
from catalog.models import MOST_TAGS, BulkOperation, Gallery, Rendition, Screenshot, Tag
from keybits import cascades
from keybits.selections import hold
from keybits.stamps import scope_names
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner():
    return User.objects.create_user("owner")


@pytest.fixture
def galleries(owner):
    return {slug: Gallery.objects.create(slug=slug, title=slug, owner=owner) for slug in "ab"}


def add(gallery, count, tag=None):
    """Add screenshots, each with a rendition, and one of these tags."""
    rows = [
        Screenshot(gallery=gallery, title=str(n), source_url="https://one.example/", domain="one.example")
        for n in range(count)
    ]
    made = Screenshot.objects.bulk_create(rows)
    Rendition.objects.bulk_create([Rendition(screenshot=row, width=1) for row in made])
    if tag is not None:
        through = Screenshot.tags.through
        through.objects.bulk_create([through(screenshot=row, tag=tag) for row in made])
    return made


def record():
    return BulkOperation(username="owner", path="/")


def rows_of(gallery):
    return Screenshot.objects.filter(gallery=gallery)


OPERATIONS = {
    "an update": lambda rows, owner: bulk.update(
        rows=rows, actor=owner, changes=bulk.Changes({"title": "new"}), most=9_999, record=record()
    ),
    "tags": lambda rows, owner: bulk.update(
        rows=rows,
        actor=owner,
        changes=bulk.Changes(tagging=bulk.Tagging(frozenset({"y"}), frozenset({"x"}))),
        most=9_999,
        record=record(),
    ),
    "a deletion": lambda rows, owner: bulk.delete(rows=rows, actor=owner, most=9_999, record=record()),
}


@pytest.fixture
def messages(monkeypatch):
    """The name and the number of scopes of each message that the store is sent by a writer."""
    sent = []
    store = get_store().store
    for name in ("open", "close"):
        original = getattr(store, name)

        def send(scopes, writer="", name=name, original=original):
            sent.append((name, len(scopes)))
            original(scopes, writer)

        monkeypatch.setattr(store, name, send)
    return sent


class TestWhatEnds:
    NAMES = ("gallery:a", "gallery:b", "tag:x", "tag:y", "tag:z", "domain:one.example", "domain:two.example")

    def ended(self, write):
        """Return which scopes have a new stamp after `write`, their families' left aside."""
        before = dict(zip(self.NAMES, get_store().mint(self.NAMES), strict=True))
        write()
        after = dict(zip(self.NAMES, get_store().mint(self.NAMES), strict=True))
        return {name for name in self.NAMES if before[name] != after[name]}

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_is_what_the_rows_were_and_are_part_of_and_nothing_else(self, owner, galleries, name):
        tags = {slug: Tag.objects.create(slug=slug, name=slug) for slug in "xyz"}
        add(galleries["a"], 5, tags["x"])
        add(galleries["b"], 5, tags["z"])
        ended = self.ended(lambda: OPERATIONS[name](rows_of(galleries["a"]), owner))
        more = {"tag:y"} if name == "tags" else set()
        assert ended == {"gallery:a", "tag:x", "domain:one.example"} | more

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_leaves_the_gallery_beside_it_alone_however_many_rows_there_are(self, owner, galleries, name):
        """Past two hundred of a kind the kind ends as a whole; but galleries are not many."""
        tag = Tag.objects.create(slug="x", name="x")
        Tag.objects.create(slug="y", name="y")
        add(galleries["a"], 300, tag)
        (other,) = add(galleries["b"], 1)
        watched = scope_names(["gallery:b"])
        before = get_store().mint(watched)
        lost = get_store().mint(scope_names([f"screenshot:{other.pk}"]))
        OPERATIONS[name](rows_of(galleries["a"]), owner)
        assert get_store().mint(watched) == before
        assert get_store().mint(scope_names([f"screenshot:{other.pk}"])) != lost

    @pytest.mark.parametrize("name", OPERATIONS)
    @pytest.mark.parametrize("count", [5, 1_000])
    def test_is_told_in_a_bounded_number_of_messages(self, owner, galleries, messages, name, count):
        tag = Tag.objects.create(slug="x", name="x")
        Tag.objects.create(slug="y", name="y")
        add(galleries["a"], count, tag)
        messages.clear()
        OPERATIONS[name](rows_of(galleries["a"]), owner)
        assert [each for each, _ in messages] == ["open", "close"]
        assert all(scopes <= 30 for _, scopes in messages)


LOCK = "SELECT count(*) FROM (SELECT"
"""How the statement begins that locks what is to be changed."""


@pytest.mark.stack("server")  # SQLite has one writer at a time
class TestMeanwhile:
    def test_rows_that_come_do_not_get_past_the_most(self, owner, galleries):
        add(galleries["a"], 3)
        with (
            before_statement('UPDATE "catalog_screenshot"', lambda: add(galleries["a"], 3)),
            pytest.raises(bulk.TooManyRowsError, match="6 rows"),
        ):
            bulk.update(
                rows=rows_of(galleries["a"]),
                actor=owner,
                changes=bulk.Changes({"title": "new"}),
                most=4,
                record=record(),
            )
        assert not Screenshot.objects.filter(title="new").exists()
        assert not BulkOperation.objects.exists()

    def test_rows_that_come_do_not_get_past_the_most_of_a_deletion(self, owner, galleries):
        add(galleries["a"], 3)
        with (
            before_statement("CREATE TEMPORARY TABLE", lambda: add(galleries["a"], 3)),
            pytest.raises(bulk.TooManyRowsError, match="6 rows"),
        ):
            bulk.delete(rows=rows_of(galleries["a"]), actor=owner, most=4, record=record())
        assert Screenshot.objects.count() == 6

    def test_rows_that_somebody_moves_out_of_reach_are_not_deleted(self, owner, galleries):
        first, *_ = add(galleries["a"], 3)
        other = User.objects.create_user("other")
        theirs = Gallery.objects.create(slug="theirs", title="theirs", owner=other)
        move = rows_of(galleries["a"]).filter(pk=first.pk).update
        with before_statement("CREATE TEMPORARY TABLE", lambda: move(gallery=theirs)):
            done = bulk.delete(rows=Screenshot.objects.all(), actor=owner, most=9, record=record())
        assert done.count == 2
        assert list(Screenshot.objects.values_list("pk", "gallery")) == [(first.pk, theirs.pk)]

    def test_tags_that_come_do_not_get_past_the_most(self, owner, galleries):
        (row,) = add(galleries["a"], 1)
        tags = Tag.objects.bulk_create([Tag(slug=f"t{number}", name="x") for number in range(100)])
        with (
            before_statement("CREATE TEMPORARY TABLE", lambda: row.tags.set(tags)),
            pytest.raises(bulk.SpoiltRowsError, match="1 of the rows would have more than 100 tags"),
        ):
            bulk.update(
                rows=rows_of(galleries["a"]),
                actor=owner,
                changes=bulk.Changes(tagging=bulk.Tagging(frozenset({"y"}))),
                most=9,
                record=record(),
            )
        assert not Tag.objects.filter(slug="y").exists()

    def test_rows_that_are_renamed_do_not_come_out_without_a_title(self, owner, galleries):
        add(galleries["a"], 3)
        rows_of(galleries["a"]).update(title="20")
        with (
            before_statement(LOCK, lambda: rows_of(galleries["a"]).update(title="2 ")),
            pytest.raises(IntegrityError),
        ):
            bulk.update(
                rows=rows_of(galleries["a"]),
                actor=owner,
                changes=bulk.Changes(formulas={"title": bulk.Replaced("2", "", longest=200)}),
                most=9,
                record=record(),
            )
        assert set(Screenshot.objects.values_list("title", flat=True)) == {"2 "}
        assert not BulkOperation.objects.exists()

    def test_rows_that_somebody_moves_out_of_reach_are_left_alone(self, owner, galleries):
        first, *_ = add(galleries["a"], 3)
        theirs = Gallery.objects.create(
            slug="theirs", title="theirs", owner=User.objects.create_user("other")
        )

        def move():
            Screenshot.objects.filter(pk=first.pk).update(gallery=theirs)

        with before_statement(LOCK, move):
            done = bulk.update(
                rows=Screenshot.objects.all(),
                actor=owner,
                changes=bulk.Changes({"title": "new"}),
                most=9,
                record=record(),
            )
        assert done.count == 2
        first.refresh_from_db()
        assert first.title != "new"

    def test_rows_that_have_been_chosen_wait_for_nobody_and_let_nobody_in(self, owner, galleries):
        """A screenshot that is put into a gallery while it is deleted is neither lost nor left without a gallery."""
        add(galleries["a"], 3)
        started = threading.Event()

        def put():
            started.set()
            with transaction.atomic():
                add(galleries["a"], 1)

        with transaction.atomic(), hold(Gallery.objects.filter(slug="a")) as selection:
            other = aside(put)
            started.wait(timeout=20)
            cascades.delete(selection.rows)
        assert isinstance(other.exception(20), IntegrityError)
        assert not Screenshot.objects.exists()


class TestASelection:
    def test_stays_what_it_was(self, galleries):
        chosen = {row.pk for row in add(galleries["a"], 3)}
        with transaction.atomic(), hold(rows_of(galleries["a"])) as selection:
            assert selection.count == 3
            selection.rows.update(gallery=galleries["b"])
            add(galleries["a"], 2)
            assert set(selection.rows.values_list("pk", flat=True)) == chosen

    def test_of_nothing_is_nothing(self):
        with transaction.atomic(), hold(Screenshot.objects.none()) as selection:
            assert (selection.count, selection.rows.count()) == (0, 0)

    def test_leaves_no_table_behind(self, galleries):
        with transaction.atomic(), hold(rows_of(galleries["a"])) as selection:
            pass
        with pytest.raises(ZeroDivisionError), transaction.atomic(), hold(rows_of(galleries["a"])) as second:
            raise ZeroDivisionError
        with connection.cursor() as cursor:
            names = connection.introspection.table_names(cursor)
        assert not {selection.table, second.table} & set(names)


class TestACascade:
    def test_takes_all_that_django_s_own_deletion_would(self, owner, galleries):
        tag = Tag.objects.create(slug="x", name="x")
        first, *_ = add(galleries["a"], 3, tag)
        add(galleries["b"], 2, tag)
        Gallery.objects.update(cover=first)
        with transaction.atomic():
            cascades.delete(Gallery.objects.filter(slug="a"))
        assert Gallery.objects.get().cover is None
        assert (Screenshot.objects.count(), Rendition.objects.count()) == (2, 2)
        assert tag.screenshots.count() == 2


@pytest.mark.stack("embedded")
def test_sqlite_s_triggers_write_no_more_for_a_tag_than_its_screenshot_has(owner, galleries):
    """So that what one operation may put on bounds how long it keeps others from writing."""
    add(galleries["a"], 3)
    words = frozenset(f"word-{number}" for number in range(MOST_TAGS))
    changes = bulk.Changes(tagging=bulk.Tagging(added=words))
    before = connection.connection.total_changes
    bulk.update(rows=rows_of(galleries["a"]), actor=owner, changes=changes, most=3, record=record())
    written = connection.connection.total_changes - before
    pairs = 3 * MOST_TAGS
    assert Screenshot.tags.through.objects.count() == pairs <= bulk.MOST_PAIRS
    own = 10  # the pair, its tally, and scopes that are not a tag's
    assert written <= pairs * 2 * (MOST_TAGS + own)
