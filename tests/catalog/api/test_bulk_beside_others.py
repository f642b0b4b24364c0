"""A bulk operation on condition of its list, while others write: what they do is before it or after it, never both."""

from __future__ import annotations

import json

import pytest
from stacks.threads import aside, wait_for_who_waits_for_us
from writing import sent

from catalog.curation import bulk
from catalog.curation import tags as curate
from catalog.models import BulkOperation, Gallery, Screenshot, Tag
from keybits.drf.bulk import HEADER

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(fresh_world):
    return fresh_world


@pytest.fixture
def beside(monkeypatch):
    """Have `work` run once, when the list has been compared and nothing of it is written yet."""

    def meanwhile(work):
        write = bulk.update

        def update(**asked):
            monkeypatch.setattr(bulk, "update", write)
            work()
            return write(**asked)

        monkeypatch.setattr(bulk, "update", update)

    return meanwhile


def patch(client, target, body):
    condition = {HEADER: "true", "If-Match": client(target).headers["ETag"]}
    return sent(client, "PATCH", target, body, **condition)


def test_who_tags_what_is_moved_out_of_sight_waits_and_shows_nothing(api, by_token, world, beside):
    Gallery.objects.filter(slug="vault").update(owner=world.owner)
    cat, late = world.shots["cat"], Tag.objects.create(slug="late", name="Late")
    others = []

    def tag():
        others.append(aside(lambda: cat.tags.add(late)))
        wait_for_who_waits_for_us(others[0])

    beside(tag)
    assert patch(by_token, f"/screenshots/?ids={cat.pk}", {"gallery": "vault"}).status_code == 200
    others[0].result(30)
    for _ in range(2):
        shown = api("/tags/late/screenshots/")
        assert shown.status_code == 404 or json.loads(shown.content)["results"] == []


def test_what_comes_into_the_list_after_it_was_compared_is_not_changed(by_token, world, beside):
    here = {"gallery": world.shots["cat"].gallery, "source_url": "https://late.example/"}
    beside(lambda: aside(lambda: Screenshot.objects.create(title="Late", **here)).result(30))
    shown = patch(by_token, "/screenshots/?gallery=spring", {"title": "Changed"})
    assert shown.status_code == 200, shown.content
    assert Screenshot.objects.get(source_url=here["source_url"]).title == "Late"


def test_what_changed_before_it_was_locked_is_a_412(by_token, world):
    etag = by_token("/screenshots/?gallery=spring").headers["ETag"]
    world.shots["cat"].tags.add(Tag.objects.create(slug="late", name="Late"))
    condition = {HEADER: "true", "If-Match": etag}
    shown = sent(by_token, "PATCH", "/screenshots/?gallery=spring", {"title": "Changed"}, **condition)
    assert shown.status_code == 412
    assert not Screenshot.objects.filter(title="Changed").exists()


def test_what_others_own_is_not_locked_by_who_leaves_it_out(by_token, world, beside):
    pig = Screenshot.objects.exclude(gallery__owner=world.owner).filter(gallery__visibility="public").first()
    seen = []

    def write():
        seen.append(aside(lambda: Screenshot.objects.filter(pk=pig.pk).update(title="Mine")).result(30))

    beside(write)
    target = "/screenshots/?all=true&skip_forbidden=true"
    etag = by_token("/screenshots/").headers["ETag"]
    shown = sent(by_token, "PATCH", target, {"alt": "Changed"}, **{HEADER: "true", "If-Match": etag})
    assert shown.status_code == 200, shown.content
    assert seen == [1]
    assert Screenshot.objects.get(pk=pig.pk).title == "Mine"


def test_what_is_seen_beyond_the_limit_keeps_nothing_of_ones_own_from_being_locked(
    by_token, world, beside, settings
):
    """Others' rows count for the limit no more than they are changed."""
    listed = Screenshot.objects.listed_for(world.owner)
    settings.KEYBITS_BULK_LIMIT = listed.filter(gallery__owner=world.owner).count()
    assert listed.count() > settings.KEYBITS_BULK_LIMIT
    others, cat = [], world.shots["cat"]

    def write():
        others.append(aside(lambda: Screenshot.objects.filter(pk=cat.pk).update(title="Later")))
        wait_for_who_waits_for_us(others[0])

    beside(write)
    target = "/screenshots/?all=true&skip_forbidden=true"
    etag = by_token("/screenshots/").headers["ETag"]
    shown = sent(by_token, "PATCH", target, {"title": "Bulk"}, **{HEADER: "true", "If-Match": etag})
    assert shown.status_code == 200, shown.content
    assert others[0].result(30) == 1
    assert Screenshot.objects.get(pk=cat.pk).title == "Later"


def test_two_that_meet_by_different_filters_and_who_takes_a_tag_away_wait_and_do_not_refuse_each_other(
    by_token, world
):
    """Each locks in the order of keys, whatever order its plan finds them in."""
    Screenshot.objects.bulk_create(
        Screenshot(
            gallery=world.shots["cat"].gallery,
            title=f"{100 - number:03}",
            position=number * 7 % 100,
            source_url="https://many.example/",
            state="ready",
        )
        for number in range(100)
    )
    owner = world.owner

    def change(filters, body):
        record = BulkOperation(user=owner, username=owner.username, path="/", query="", changes={})
        rows = Screenshot.objects.filter(gallery=world.shots["cat"].gallery, **filters)
        for _ in range(20):
            record.pk = None
            changes = bulk.Changes(values=body)
            bulk.update(rows=rows, actor=owner, changes=changes, most=1_000, record=record)

    def retag():
        for number in range(20):
            tag = Tag.objects.create(slug=f"late-{number}", name="Late")
            tag.screenshots.add(*Screenshot.objects.filter(source_url="https://many.example/"))
            curate.delete_tag(tag=Tag.objects.get(pk=tag.pk))

    works = [
        aside(lambda: change({"title__gte": "000"}, {"title": "a"})),
        aside(lambda: change({"position__gte": 0}, {"alt": "b"})),
        aside(retag),
    ]
    for work in works:
        work.result(120)  # a deadlock would be raised
