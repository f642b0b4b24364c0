"""What is deleted while something that refers to it is written.

PostgreSQL says at COMMIT that it is gone: the write is done again, and does not find it.
"""

from __future__ import annotations

import pytest
from stacks.threads import aside, before_statement
from writing import problem, sent

from catalog.api.viewsets import GalleryViewSet, ScreenshotViewSet
from catalog.curation import bulk, screenshots
from catalog.models import Gallery, Screenshot, Tag

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]

CAT = "/screenshots/{cat}/"


@pytest.fixture
def world(fresh_world):
    return fresh_world


def send(client, method, target, body):
    condition = {} if method == "POST" else {"If-Match": "*"}
    return sent(client, method, target, body, **condition)


@pytest.fixture
def owner(by_token):
    return by_token


@pytest.fixture
def deletes(monkeypatch):
    """Have somebody else delete rows once, before `name` of `place` runs: what is written refers to them already."""

    def meanwhile(rows, place, name):
        write = getattr(place, name)

        def after(*args, **kwargs):
            monkeypatch.setattr(place, name, write)
            aside(lambda: rows._raw_delete(rows.db)).result(60)
            return write(*args, **kwargs)

        monkeypatch.setattr(place, name, after)

    return meanwhile


def test_a_gallery_that_something_is_added_to_is_not_there(owner, world, deletes):
    Gallery.objects.create(slug="doomed", title="Doomed", owner=world.owner)
    deletes(Gallery.objects.filter(slug="doomed"), ScreenshotViewSet, "perform_create")
    body = {"gallery": "doomed", "title": "New", "source_url": "https://new.example/"}
    problem(send(owner, "POST", "/screenshots/", body), 400)


def test_a_gallery_that_something_moves_to_is_not_there(owner, world, deletes):
    Gallery.objects.create(slug="doomed", title="Doomed", owner=world.owner)
    deletes(Gallery.objects.filter(slug="doomed"), ScreenshotViewSet, "perform_update")
    problem(send(owner, "PATCH", world.at(CAT), {"gallery": "doomed"}), 400)


def test_a_tag_is_made_again(owner, world, monkeypatch):
    monkeypatch.setattr(screenshots, "tags_named", deleted_when_named(monkeypatch, screenshots))
    Tag.objects.create(slug="doomed", name="Old")
    assert send(owner, "PATCH", world.at(CAT), {"tags": ["doomed"]}).status_code == 200
    assert Screenshot.objects.get(pk=world.shots["cat"].pk).tags.get().name == "Doomed"


def test_a_cover_is_not_there(owner, world, deletes):
    shot = Screenshot.objects.create(gallery_id=world.shots["cat"].gallery_id, title="Doomed")
    deletes(Screenshot.objects.filter(pk=shot.pk), GalleryViewSet, "perform_update")
    problem(send(owner, "PATCH", "/galleries/spring/", {"cover": shot.pk}), 400)


def deleted_when_named(monkeypatch, place):
    """Return what names tags as `place` does, after which somebody else deletes the doomed one, once."""
    named = place.tags_named

    def found(**asked):
        monkeypatch.setattr(place, "tags_named", named)
        tags = named(**asked)
        rows = Tag.objects.filter(slug="doomed")
        aside(lambda: rows._raw_delete(rows.db)).result(60)
        return tags

    return found


def test_a_tag_that_many_are_given_is_made_again(owner, world, monkeypatch):
    Tag.objects.create(slug="doomed", name="Old")
    monkeypatch.setattr(bulk, "tags_named", deleted_when_named(monkeypatch, bulk))
    target = "/galleries/spring/screenshots/?all=true"
    response = sent(owner, "PATCH", target, {"tags": {"add": ["doomed"]}}, **{"X-BULK-OPERATION": "true"})
    assert response.status_code == 200, response.content
    assert response.json()["count"] == Screenshot.objects.filter(tags__name="Doomed").count() > 0


@pytest.fixture
def one_goes_as_another_is_made():
    """A tag that is there is deleted by somebody else while a word beside it becomes one."""
    doomed = Tag.objects.create(slug="doomed", name="Old")
    with before_statement('INSERT INTO "catalog_tag"', doomed.delete):
        yield ["doomed", "new"]


def test_a_tag_that_goes_while_another_is_made_is_made_again(owner, world, one_goes_as_another_is_made):
    response = send(owner, "PATCH", world.at(CAT), {"tags": one_goes_as_another_is_made})
    assert response.status_code == 200, response.content
    tags = Screenshot.objects.get(pk=world.shots["cat"].pk).tags.all()
    assert {tag.name for tag in tags} == {"Doomed", "New"}


def test_a_tag_that_goes_while_another_is_made_is_made_again_for_many(
    owner, world, one_goes_as_another_is_made
):
    items = [{"source_url": "https://new.example/", "title": "New", "tags": one_goes_as_another_is_made}] * 2
    response = sent(owner, "POST", "/galleries/spring/screenshots/", items, **{"X-BULK-OPERATION": "true"})
    assert response.status_code == 201, response.content
    assert Screenshot.objects.filter(tags__name="Doomed").count() == 2
