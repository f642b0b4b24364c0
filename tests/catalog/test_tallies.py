"""Tallies are what one would count, after every way of writing, whoever writes and however many at once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import contextmanager
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from stacks.threads import aside, at_once, wait_for_who_waits_for_us

from catalog import tallies
from catalog.models import Gallery, Screenshot, Tag, Visibility
from catalog.tallies import TagCount
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)

TAGGED = Screenshot.tags.through


def sql(statement, *parameters):
    """Send one statement as somebody does who knows no Django."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def told():
    """Return what the tallies say, by tag and gallery."""
    found = Counter()
    for tag, gallery, number in sql("SELECT tag_id, gallery_id, number FROM catalog_tally"):
        found[tag, gallery] += number
    return {pair: number for pair, number in found.items() if number}


def truth():
    """Return what one would count."""
    return Counter(TAGGED.objects.values_list("tag_id", "screenshot__gallery_id"))


class World:
    def __init__(self):
        self.a, self.b = (Gallery.objects.create(slug=slug, title=slug) for slug in ("a", "b"))
        self.tags = [Tag.objects.create(slug=slug, name=slug) for slug in ("x", "y", "z")]
        self.shots = [
            Screenshot.objects.create(gallery=gallery, title="Shot", source_url="https://one.example/")
            for gallery in (self.a, self.a, self.b)
        ]
        self.x, self.y, self.z = self.tags
        self.one, self.two, self.three = self.shots
        self.one.tags.add(self.x, self.y)
        self.two.tags.add(self.x)
        self.three.tags.add(self.x, self.z)


@pytest.fixture
def world(db):
    return World()


def new_shot(world, **fields):
    return Screenshot(gallery=world.a, title="New", source_url="https://two.example/", **fields)


def added_in_bulk(w):
    shots = Screenshot.objects.bulk_create([new_shot(w) for _ in range(30)])
    TAGGED.objects.bulk_create([TAGGED(screenshot=shot, tag=tag) for shot in shots for tag in w.tags])
    TAGGED.objects.bulk_create([TAGGED(screenshot=w.one, tag=w.x)], ignore_conflicts=True)


def moved_by_bulk_update(w):
    for shot in w.shots:
        shot.gallery = w.b
    Screenshot.objects.bulk_update(w.shots, ["gallery", "title"])


def copied(w, pk, gallery):
    """Insert a copy of a screenshot by SQL, under another id."""
    columns = [f.column for f in Screenshot._meta.concrete_fields if f.column != "orientation"]
    values = ", ".join({"id": "%s", "gallery_id": "%s"}.get(name, name) for name in columns)
    insert = "INSERT INTO catalog_screenshot ({}) SELECT {} FROM catalog_screenshot WHERE id = %s"
    return insert.format(", ".join(columns), values), (pk, gallery.pk, w.one.pk)


def tagged_before_it_was_there(w):
    """Foreign keys are checked at COMMIT: the tag may come before what has it."""
    with transaction.atomic():
        sql("INSERT INTO catalog_screenshot_tags (screenshot_id, tag_id) VALUES (%s, %s)", 900_001, w.x.pk)
        statement, parameters = copied(w, 900_001, w.b)
        sql(statement, *parameters)


def deleted_before_its_tags(w):
    with transaction.atomic():
        sql("DELETE FROM catalog_screenshot WHERE id = %s", w.three.pk)
        sql("DELETE FROM catalog_screenshot_tags WHERE screenshot_id = %s", w.three.pk)


def given_another_id(w):
    with transaction.atomic():
        sql("UPDATE catalog_screenshot SET id = 900002, gallery_id = %s WHERE id = %s", w.b.pk, w.one.pk)
        sql("UPDATE catalog_screenshot_tags SET screenshot_id = 900002 WHERE screenshot_id = %s", w.one.pk)


def given_another_id_where_it_is(w):
    with transaction.atomic():
        sql("UPDATE catalog_screenshot SET id = 900002 WHERE id = %s", w.one.pk)
        sql("UPDATE catalog_screenshot_tags SET screenshot_id = 900002 WHERE screenshot_id = %s", w.one.pk)


def rolled_back(w):
    with transaction.atomic():
        w.one.tags.add(w.z)
        with transaction.atomic():
            w.one.tags.clear()
            w.two.delete()
            transaction.set_rollback(True)
        w.one.tags.remove(w.y)
    with transaction.atomic():
        w.three.tags.clear()
        transaction.set_rollback(True)


def loaded(w):
    call_command("seed", screenshots=60, galleries=4, tags=6, batch=7, quiet=True)


WRITES = {
    "nothing": lambda w: None,
    "tags added": lambda w: w.two.tags.add(w.y, w.z, w.x),
    "tags removed": lambda w: w.one.tags.remove(w.x, w.z),
    "tags set": lambda w: w.one.tags.set([w.z]),
    "tags cleared": lambda w: w.one.tags.clear(),
    "tag cleared from the other side": lambda w: w.x.screenshots.clear(),
    "rows added in bulk": added_in_bulk,
    "rows of tags deleted": lambda w: TAGGED.objects.filter(tag=w.x).delete(),
    "rows of tags deleted raw": lambda w: TAGGED.objects.all()._raw_delete("default"),
    "tag of a row changed": lambda w: TAGGED.objects.filter(tag=w.z).update(tag=w.y),
    "screenshot of a row changed": lambda w: TAGGED.objects.filter(tag=w.z).update(screenshot=w.two),
    "screenshot deleted": lambda w: w.one.delete(),
    "screenshots deleted": lambda w: Screenshot.objects.filter(title="Shot").delete(),
    "screenshot deleted before its tags": deleted_before_its_tags,
    "screenshot tagged before it was there": tagged_before_it_was_there,
    "screenshot given another id": given_another_id,
    "screenshot given another id where it is": given_another_id_where_it_is,
    "screenshot moved": lambda w: Screenshot.objects.filter(pk=w.one.pk).update(gallery=w.b),
    "screenshots moved in bulk": moved_by_bulk_update,
    "screenshot saved": lambda w: w.one.save(),
    "gallery emptied by SQL": lambda w: sql("UPDATE catalog_screenshot SET gallery_id = %s", w.b.pk),
    "gallery deleted": lambda w: w.a.delete(),
    "gallery hidden": lambda w: Gallery.objects.filter(pk=w.a.pk).update(visibility=Visibility.PRIVATE),
    "tag deleted": lambda w: w.x.delete(),
    "rolled back": rolled_back,
    "seeded": loaded,
    "everything deleted": lambda w: (Gallery.objects.all().delete(), Tag.objects.all().delete()),
}


class TestWrites:
    @pytest.mark.parametrize("name", WRITES)
    def test_tallies_are_what_one_would_count(self, world, name):
        WRITES[name](world)
        assert told() == truth()

    def test_a_quiet_database_has_one_row_for_each_tally(self, world):
        for _ in range(5):
            world.one.tags.set([world.z])
            world.one.tags.set([world.x])
        rows = sql("SELECT tag_id, gallery_id FROM catalog_tally")
        assert len(rows) == len(set(rows)) == len(truth())

    def test_any_sequence_of_writes(self, world):
        chance = random.Random(7)  # noqa: S311 - the same each time
        for _ in range(60):
            shot, tag, kind = chance.choice(world.shots), chance.choice(world.tags), chance.randrange(4)
            if kind == 0:
                shot.tags.add(tag)
            elif kind == 1:
                shot.tags.remove(tag)
            elif kind == 2:
                shot.tags.set(chance.sample(world.tags, 2))
            else:
                gallery = chance.choice([world.a, world.b])
                Screenshot.objects.filter(pk=shot.pk).update(gallery=gallery)
        assert told() == truth()

    @pytest.mark.stack("server")
    def test_truncating_empties_them(self, world):
        sql("TRUNCATE catalog_screenshot_tags")
        assert told() == truth() == {}

    @pytest.mark.stack("server")
    def test_a_screenshot_and_its_tags_in_one_statement_are_counted_once(self, world):
        statement, parameters = copied(world, 900_003, world.b)
        tagged = (
            "WITH shot AS ({} RETURNING id) INSERT INTO catalog_screenshot_tags (screenshot_id, tag_id) "
            "SELECT shot.id, %s FROM shot"
        )
        sql(tagged.format(statement), *parameters, world.x.pk)
        assert told() == truth()
        assert told()[world.x.pk, world.b.pk] == 2


class TestCount:
    def test_it_is_of_the_galleries_given(self, world):
        Gallery.objects.filter(pk=world.b.pk).update(visibility=Visibility.PRIVATE)
        counted = Tag.objects.annotate(n=TagCount(Gallery.objects.listed_for(None)))
        assert dict(counted.values_list("slug", "n")) == {"x": 2, "y": 1, "z": 0}


class TestMending:
    def test_triggers_that_are_lost_are_made_again_and_what_they_missed_is_counted(self, world):
        of = " ON catalog_screenshot_tags" if connection.vendor == "postgresql" else ""
        sql(f"DROP TRIGGER {tallies.PREFIX}tag_insert{of}")
        world.two.tags.add(world.z)
        assert told() != truth()
        assert tallies.mend(connection)
        world.two.tags.add(world.y)
        assert told() == truth()
        assert not tallies.mend(connection)

    def test_migrating_back_and_forth_counts_what_is_there(self, world):
        tallies.drop(connection)
        world.two.tags.add(world.z)
        tallies.create(connection)
        assert told() == truth()


@contextmanager
def meanwhile(work):
    """In the block another connection has done `work` and not committed; no lock is waited for longer than 5 s."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            work()
            held.set()
            assert done.wait(30)

    other = aside(hold)
    assert held.wait(30)
    try:
        with transaction.atomic():
            sql("SET LOCAL lock_timeout = '5s'")
            yield
    finally:
        done.set()
    other.result(30)


@pytest.mark.stack("server")
class TestManyWriters:
    def test_nobody_waits_for_a_tally(self, world):
        with meanwhile(lambda: world.one.tags.remove(world.y)):
            world.two.tags.add(world.y)
        assert told() == truth()
        assert told()[world.y.pk, world.a.pk] == 1

    @pytest.mark.parametrize("tagged", ["added", "removed"])
    def test_a_tag_given_or_taken_during_a_move_is_counted_where_the_screenshot_went(self, world, tagged):
        change = {
            "added": lambda: world.one.tags.add(world.z),
            "removed": lambda: world.one.tags.remove(world.x),
        }[tagged]
        with transaction.atomic():
            Screenshot.objects.filter(pk=world.one.pk).update(gallery=world.b)
            other = aside(change)
            wait_for_who_waits_for_us(other)
        other.result(30)
        assert told() == truth()

    def test_a_move_during_a_tagging_takes_the_new_tag_along(self, world):
        def move():
            Screenshot.objects.filter(pk=world.one.pk).update(gallery=world.b)

        with transaction.atomic():
            world.one.tags.add(world.z)
            other = aside(move)
            wait_for_who_waits_for_us(other)
        other.result(30)
        assert told() == truth()

    @pytest.mark.parametrize("change", ["tagged", "moved"])
    def test_counting_again_waits_for_whoever_writes(self, world, change):
        with transaction.atomic():
            if change == "tagged":
                world.two.tags.add(world.z)
            else:
                Screenshot.objects.filter(pk=world.two.pk).update(gallery=world.b)
            other = aside(lambda: tallies.recount(connection))
            wait_for_who_waits_for_us(other)
        other.result(30)
        assert told() == truth()

    def test_many_writers_of_the_same_tallies_lose_nothing_and_do_not_deadlock(self, world):
        def write(seed):
            chance = random.Random(seed)  # noqa: S311 - the same each time
            shots = Screenshot.objects.bulk_create([new_shot(world) for _ in range(4)])
            for _ in range(25):
                with transaction.atomic():
                    for tag in chance.sample(world.tags, 3):
                        chance.choice(shots).tags.add(tag)
                    chance.choice(shots).tags.remove(chance.choice(world.tags))
                Screenshot.objects.filter(pk=chance.choice(shots).pk).update(
                    gallery=chance.choice([world.a, world.b])
                )

        at_once(*(partial(write, seed) for seed in range(6)))
        assert told() == truth()


def test_a_recount_ends_what_was_made_from_the_tallies_before():
    World()
    before = get_store().mint(["tags"])
    sql("UPDATE catalog_tally SET number = number + 1")
    tallies.recount(connection)
    assert told() == truth()
    assert get_store().mint(["tags"]) not in {before, (None,)}
