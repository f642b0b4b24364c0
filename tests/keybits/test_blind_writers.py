"""Writers who do not see each other: what one adds to a row, or renames, the other records as it is in the end.

What a transaction has not committed nobody else sees. Were two of them let on, one would record what a row is part of
and the other what that is called, each as it was; and whoever reads between their COMMITs keeps what neither ends.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from stacks.threads import aside, wait_for_who_waits_for_us

from catalog.models import Gallery, Rendition, Screenshot, Tag

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.stack("server")]

Write = Callable[[Any], object]


@pytest.fixture
def world() -> Any:
    gallery = Gallery.objects.create(slug="old", title="Old")
    other = Gallery.objects.create(slug="other", title="Other")
    tags = [Tag.objects.create(slug=slug, name=slug) for slug in ("had", "new")]
    shot = Screenshot.objects.create(gallery=gallery, title="Shot", source_url="https://one.example/")
    shot.tags.add(tags[0])
    return SimpleNamespace(gallery=gallery, other=other, had=tags[0], new=tags[1], shot=shot)


def recorded_by_the_last() -> set[str]:
    """Return the scopes that the transaction recorded which began to write last."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT scope FROM keybits_change WHERE tx = (SELECT max(tx) FROM keybits_change)")
        return {scope for (scope,) in cursor.fetchall()}


def change(world: Any, **values: Any) -> None:
    Screenshot.objects.filter(pk=world.shot.pk).update(**values)


WRITES: dict[str, Write] = {
    "a title": lambda w: change(w, title="Changed"),
    "a domain": lambda w: change(w, domain="two.example"),
    "a move": lambda w: change(w, gallery=w.other),
    "a tag put on": lambda w: w.shot.tags.add(w.new),
    "a tag taken off": lambda w: w.shot.tags.remove(w.had),
    "a rendition": lambda w: Rendition.objects.create(screenshot=w.shot, width=9, sha256="a" * 64),
    "a gallery renamed": lambda w: Gallery.objects.filter(pk=w.gallery.pk).update(slug="renamed"),
    "a tag renamed": lambda w: Tag.objects.filter(pk=w.had.pk).update(slug="renamed"),
}


@pytest.mark.parametrize(
    ("first", "second", "scope"),
    [
        ("a tag put on", "a title", "tag:new"),
        ("a tag put on", "a rendition", "tag:new"),
        ("a tag taken off", "a title", "gallery:old"),
        ("a title", "a tag put on", "tag:new"),
        ("a title", "a tag taken off", "tag:had"),
        ("a domain", "a tag put on", "domain:two.example"),
        ("a domain", "a rendition", "domain:two.example"),
        ("a move", "a tag put on", "gallery:other"),
        ("a move", "a rendition", "gallery:other"),
        ("a gallery renamed", "a title", "gallery:renamed"),
        ("a gallery renamed", "a tag put on", "gallery:renamed"),
        ("a gallery renamed", "a rendition", "gallery:renamed"),
        ("a tag renamed", "a title", "tag:renamed"),
        ("a tag renamed", "a tag put on", "tag:renamed"),
        ("a title", "a gallery renamed", "gallery:renamed"),
        ("a title", "a tag renamed", "tag:renamed"),
    ],
)
def test_the_second_waits_for_the_first_and_records_what_it_has_left(
    world: Any, first: str, second: str, scope: str
) -> None:
    with transaction.atomic():
        WRITES[first](world)
        other = aside(lambda: WRITES[second](world))
        wait_for_who_waits_for_us(other)
    other.result(30)
    assert scope in recorded_by_the_last()


@pytest.mark.parametrize("first", ["a title", "a tag put on", "a rendition"])
def test_neighbours_in_a_gallery_wait_for_nobody(world: Any, first: str) -> None:
    neighbour = Screenshot.objects.create(gallery=world.gallery, title="B", source_url="https://b.example/")
    neighbour.tags.add(world.had)
    with transaction.atomic():
        WRITES[first](world)
        aside(lambda: neighbour.tags.add(world.new)).result(30)
        aside(lambda: Screenshot.objects.filter(pk=neighbour.pk).update(title="Beside")).result(30)
        aside(lambda: Gallery.objects.filter(pk=world.gallery.pk).update(title="Beside")).result(30)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_who_sees_but_one_snapshot_records_the_family_of_what_others_may_have_added(
    world: Any, level: str
) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        assert Screenshot.objects.get(pk=world.shot.pk).tags.count() == 1
        aside(lambda: world.shot.tags.add(world.new)).result(30)
        change(world, title="Changed")
    assert "tag:*" in recorded_by_the_last()
