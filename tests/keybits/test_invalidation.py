"""Where the database records nothing by itself, Django's signals close the scopes of a change, after commit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from catalog.models import Gallery, Rendition, Screenshot, Tag
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)
SCOPES = ("galleries", "gallery:a", "gallery:b", "screenshots", "tag:x", "tag:y", "tags")
SHOT = {"screenshots", "gallery:a", "tag:x"}


@pytest.fixture
def shot(settings: Any) -> Screenshot:
    settings.KEYBITS_TRACKING = "signals"
    galleries = [Gallery.objects.create(slug=slug, title=slug) for slug in "ab"]
    tags = [Tag.objects.create(slug=slug, name=slug) for slug in "xy"]
    shot = Screenshot.objects.create(gallery=galleries[0], title="one", source_url="https://one.example/")
    shot.tags.add(tags[0])
    return shot


def closed_by(write: Callable[[], object]) -> set[str]:
    before = dict(zip(SCOPES, get_store().mint(SCOPES), strict=True))
    write()
    after = dict(zip(SCOPES, get_store().mint(SCOPES), strict=True))
    return {scope for scope in SCOPES if before[scope] != after[scope]}


def move(shot: Screenshot) -> None:
    shot.gallery = Gallery.objects.get(slug="b")
    shot.save()


def add_from_the_tag(shot: Screenshot) -> None:
    Tag.objects.get(slug="y").screenshots.add(shot)


WRITES: list[tuple[str, Callable[[Screenshot], object], set[str]]] = [
    ("save", lambda shot: shot.save(), SHOT),
    ("move", move, SHOT | {"gallery:b"}),
    ("delete", lambda shot: shot.delete(), SHOT),
    ("cascade", lambda shot: shot.gallery.delete(), SHOT | {"galleries"}),
    ("m2m add", lambda shot: shot.tags.add(Tag.objects.get(slug="y")), SHOT | {"tag:y"}),
    ("m2m add from the other side", add_from_the_tag, SHOT | {"tag:y"}),
    ("m2m remove", lambda shot: shot.tags.remove(*shot.tags.all()), SHOT),
    ("m2m clear", lambda shot: shot.tags.clear(), SHOT),
    ("m2m set", lambda shot: shot.tags.set(Tag.objects.filter(slug="y")), SHOT | {"tag:y"}),
    ("tag renamed", lambda shot: Tag(pk=shot.tags.get().pk, slug="z", name="Z").save(), {"tags", "tag:x"}),
    ("rendition", lambda shot: Rendition.objects.create(screenshot=shot), SHOT),
]


@pytest.mark.parametrize(("write", "expected"), [row[1:] for row in WRITES], ids=[row[0] for row in WRITES])
def test_a_write_closes_what_the_row_was_and_is_part_of(
    shot: Screenshot, write: Callable[[Screenshot], object], expected: set[str]
) -> None:
    assert closed_by(lambda: write(shot)) == expected


def test_nothing_is_closed_before_commit_and_all_of_it_afterwards(shot: Screenshot) -> None:
    def write() -> None:
        with transaction.atomic():
            assert closed_by(shot.save) == set()

    assert closed_by(write) == SHOT


def test_a_rollback_closes_nothing(shot: Screenshot) -> None:
    def write() -> None:
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            shot.save()
            raise ZeroDivisionError

    assert closed_by(write) == set()


def test_a_savepoint_rolled_back_does_not_swallow_what_comes_after(shot: Screenshot) -> None:
    def write() -> None:
        with transaction.atomic():
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                Gallery.objects.get(slug="b").save()
                raise ZeroDivisionError
            shot.save()

    assert closed_by(write) >= SHOT
