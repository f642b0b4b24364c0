"""A bulk operation on condition of its list, while others write: what they do is before it or after it, never both."""

from __future__ import annotations

import json

import pytest
from stacks.threads import aside, wait_for_who_waits_for_us
from writing import sent

from catalog.curation import bulk
from catalog.models import Gallery, Screenshot, Tag
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
