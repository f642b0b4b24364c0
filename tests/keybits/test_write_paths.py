"""Every way to write, and what it closes: exactly what the rows were part of, before and after, at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, connections, models, transaction
from django.db.models import F
from django.http import HttpRequest

from catalog.admin.screenshots import ScreenshotAdmin
from catalog.models import Gallery, Rendition, Screenshot, Tag
from keybits.stamps import scope_names
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)

EVERYTHING = (
    "galleries",
    "gallery:a",
    "gallery:b",
    "screenshots",
    "tags",
    "tag:x",
    "tag:y",
    "domain:one.example",
    "domain:two.example",
)


class World:
    """Two galleries, a screenshot in the first, two tags; and which scopes a write closes."""

    def __init__(self) -> None:
        self.a = Gallery.objects.create(slug="a", title="A")
        self.b = Gallery.objects.create(slug="b", title="B")
        self.x = Tag.objects.create(slug="x", name="X")
        self.y = Tag.objects.create(slug="y", name="Y")
        self.shot = Screenshot.objects.create(gallery=self.a, title="one", source_url="https://one.example/")
        self.shot.tags.add(self.x)

    @property
    def own(self) -> str:
        return f"screenshot:{self.shot.pk}"

    def closed_by(self, write: Callable[[], object]) -> set[str]:
        """Return the scopes whose stamps end with `write`, as a reader sees it at the next moment."""
        names = [name for name in scope_names((*EVERYTHING, self.own)) if not name.endswith(":*")]
        before = dict(zip(names, get_store().mint(names), strict=True))
        write()
        after = dict(zip(names, get_store().mint(names), strict=True))
        assert None not in after.values(), "a scope was left open"
        return {name for name in names if before[name] != after[name]}


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def _nothing_is_left_to_the_relay() -> Iterator[None]:
    """Whatever a test wrote, its own commit closed: no row waits unclaimed."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM keybits_change")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT scope FROM keybits_change WHERE writer = ''")
        assert cursor.fetchall() == []


def in_a(world: World, *more: str) -> set[str]:
    """What any change of the screenshot ends."""
    return {"screenshots", world.own, "gallery:a", "domain:one.example", "tag:x", *more}


def renamed(world: World) -> None:
    world.shot.title = "two"
    world.shot.save()


def moved(world: World) -> None:
    world.shot.gallery = world.b
    world.shot.save()


def elsewhere(world: World) -> None:
    world.shot.source_url = "https://two.example/"
    world.shot.save()


def formula(world: World) -> None:
    Screenshot.objects.update(position=F("position") + 1)


def bulk_updated(world: World) -> None:
    world.shot.title = "three"
    Screenshot.objects.bulk_update([world.shot], ["title"])


def upserted(world: World) -> None:
    Tag.objects.bulk_create(
        [Tag(slug="x", name="New")], update_conflicts=True, unique_fields=["slug"], update_fields=["name"]
    )


def raw_sql(world: World) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE catalog_screenshot SET title = 'raw'")


def many_raw_sql(world: World) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE catalog_screenshot SET title = %s WHERE id = %s", [("raw", world.shot.pk)])


def raw_delete(world: World) -> None:
    Screenshot.tags.through.objects.all()._raw_delete("default")


def deleted_by_the_admin(world: World) -> None:
    request = HttpRequest()
    request.user = User.objects.create_superuser("staff")
    ScreenshotAdmin(Screenshot, admin.site).delete_queryset(request, Screenshot.objects.all())


async def async_writes(world: World) -> None:
    await Screenshot.objects.aupdate(title="async")
    await sync_to_async(connections.close_all)()  # the thread's own


def nested(world: World) -> None:
    with transaction.atomic(), transaction.atomic():
        renamed(world)


def durable(world: World) -> None:
    with transaction.atomic(durable=True):
        renamed(world)


def half_rolled_back(world: World) -> None:
    with transaction.atomic():
        renamed(world)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            Gallery.objects.filter(slug="b").update(title="never")
            raise ZeroDivisionError


SCREENSHOT_WRITES: list[tuple[str, Callable[[World], object], tuple[str, ...]]] = [
    ("save", renamed, ()),
    ("save with update_fields", lambda w: w.shot.save(update_fields=["title"]), ()),
    ("move between galleries", moved, ("gallery:b",)),
    ("move between domains", elsewhere, ("domain:two.example",)),
    ("queryset update", lambda w: Screenshot.objects.update(title="two"), ()),
    ("queryset update with F", formula, ()),
    ("queryset update that moves", lambda w: Screenshot.objects.update(gallery=w.b), ("gallery:b",)),
    ("bulk_update", bulk_updated, ()),
    ("update_or_create", lambda w: Screenshot.objects.update_or_create({"title": "n"}, pk=w.shot.pk), ()),
    ("delete", lambda w: w.shot.delete(), ()),
    ("queryset delete", lambda w: Screenshot.objects.all().delete(), ()),
    ("admin action", deleted_by_the_admin, ()),
    ("cascade", lambda w: w.a.delete(), ("galleries",)),
    ("m2m add", lambda w: w.shot.tags.add(w.y), ("tag:y",)),
    ("m2m add from the other side", lambda w: w.y.screenshots.add(w.shot), ("tag:y",)),
    ("m2m remove", lambda w: w.shot.tags.remove(w.x), ()),
    ("m2m set", lambda w: w.shot.tags.set([w.y]), ("tag:y",)),
    ("m2m clear", lambda w: w.shot.tags.clear(), ()),
    ("m2m clear from the other side", lambda w: w.x.screenshots.clear(), ()),
    (
        "through model",
        lambda w: Screenshot.tags.through.objects.create(screenshot=w.shot, tag=w.y),
        ("tag:y",),
    ),
    ("raw delete of through rows", raw_delete, ()),
    ("tag deleted", lambda w: w.x.delete(), ("tags",)),
    ("rendition", lambda w: Rendition.objects.create(screenshot=w.shot, width=1), ()),
    ("rendition in bulk", lambda w: Rendition.objects.bulk_create([Rendition(screenshot=w.shot)]), ()),
    ("raw SQL", raw_sql, ()),
    ("raw SQL, many", many_raw_sql, ()),
    ("async", lambda w: asyncio.run(async_writes(w)), ()),
    ("nested transactions", nested, ()),
    ("durable transaction", durable, ()),
    ("transaction with a savepoint rolled back", half_rolled_back, ()),
]


@pytest.mark.parametrize(
    ("write", "more"), [row[1:] for row in SCREENSHOT_WRITES], ids=[r[0] for r in SCREENSHOT_WRITES]
)
def test_a_write_ends_what_the_screenshot_was_and_is_part_of_and_nothing_else(
    world: World, write: Callable[[World], object], more: tuple[str, ...]
) -> None:
    expected = in_a(world, *more)
    assert world.closed_by(lambda: write(world)) == expected


OTHER_WRITES: list[tuple[str, Callable[[World], object], set[str]]] = [
    ("gallery saved", lambda w: w.b.save(), {"galleries", "gallery:b"}),
    (
        "gallery renamed",
        lambda w: Gallery.objects.filter(slug="b").update(slug="c"),
        {"galleries", "gallery:b"},
    ),
    ("gallery created", lambda w: Gallery.objects.create(slug="c", title="C"), {"galleries"}),
    ("get_or_create", lambda w: Gallery.objects.get_or_create(slug="c"), {"galleries"}),
    ("get_or_create that gets", lambda w: Gallery.objects.get_or_create(slug="b"), set()),
    ("tag renamed", lambda w: Tag.objects.filter(slug="y").update(name="Z"), {"tags", "tag:y"}),
    ("upsert", upserted, {"tags", "tag:x"}),
    (
        "bulk_create, conflicts ignored",
        lambda w: Tag.objects.bulk_create([Tag(slug="x")], ignore_conflicts=True),
        set(),
    ),
    ("a user", lambda w: get_user_model().objects.create(username="u"), set()),
]


@pytest.mark.parametrize(
    ("write", "ended"), [row[1:] for row in OTHER_WRITES], ids=[row[0] for row in OTHER_WRITES]
)
def test_a_write_ends_its_own_scopes_and_nothing_else(
    world: World, write: Callable[[World], object], ended: set[str]
) -> None:
    assert world.closed_by(lambda: write(world)) == ended


def test_a_rollback_ends_nothing(world: World) -> None:
    def write() -> None:
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            renamed(world)
            raise ZeroDivisionError

    assert world.closed_by(write) == set()


def test_nothing_ends_before_commit(world: World) -> None:
    with transaction.atomic():
        assert world.closed_by(lambda: renamed(world)) == set()


def test_fixtures_loaded_end_what_they_touch(world: World, tmp_path: Any) -> None:
    fixture = tmp_path / "fixture.json"
    fixture.write_text(
        f'[{{"model": "catalog.tag", "pk": {world.y.pk}, "fields": {{"slug": "y", "name": "loaded"}}}}]',
        "utf-8",
    )
    assert world.closed_by(lambda: call_command("loaddata", fixture, verbosity=0)) == {"tags", "tag:y"}


def test_one_transaction_opens_and_closes_once_however_much_it_writes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded(monkeypatch)
    with transaction.atomic():
        for _ in range(20):
            renamed(world)
    assert [name for name, _ in calls] == ["open", "close"]


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list that grows by the name and the number of scopes of each `open` and `close`."""
    calls: list[tuple[str, int]] = []
    store: Any = get_store()
    for name in ("open", "close"):
        original = getattr(store.store, name)

        def call(scopes: list[str], writer: str = "", name: str = name, original: Any = original) -> None:
            calls.append((name, len(scopes)))
            original(scopes, writer)

        monkeypatch.setattr(store.store, name, call)
    return calls


@pytest.mark.parametrize("rows", [10, 400])
def test_a_bulk_write_is_one_statement_and_a_bounded_number_of_messages(
    world: World, rows: int, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Screenshot.objects.bulk_create(
        [Screenshot(gallery=world.a, title=str(n), source_url="https://one.example/") for n in range(rows)]
    )
    calls = recorded(monkeypatch)
    with django_assert_num_queries(4):  # BEGIN, UPDATE, the claim, COMMIT
        Screenshot.objects.update(title="all")
    assert [name for name, _ in calls] == ["open", "close"]
    assert all(scopes <= 220 for _, scopes in calls)


def test_a_family_that_is_closed_whole_ends_every_member(world: World) -> None:
    reader = scope_names([world.own])
    before = get_store().mint(reader)
    Screenshot.objects.bulk_create(
        [Screenshot(gallery=world.a, title=str(n), source_url="https://one.example/") for n in range(400)]
    )
    assert get_store().mint(reader) != before


def test_every_declared_model_has_its_triggers() -> None:
    from keybits import invalidation, triggers  # noqa: PLC0415

    for declaration in invalidation.declarations():
        assert triggers.sync(connection, declaration.model, declaration.templates) is False


def test_triggers_that_are_lost_or_outdated_are_made_again() -> None:
    from keybits import invalidation, triggers  # noqa: PLC0415

    triggers.drop(connection, Tag)
    assert triggers.sync(connection, Tag, ("tags",)) is True
    assert triggers.sync(connection, Tag, invalidation.templates_of("catalog", "tag")) is True
    assert triggers.sync(connection, Tag, invalidation.templates_of("catalog", "tag")) is False
    with connection.cursor() as cursor:  # the relay would close what was written while there were none
        cursor.execute("DELETE FROM keybits_change")


def test_a_migration_s_data_operation_ends_what_it_touches(world: World) -> None:
    def forwards(apps: Any, schema_editor: Any) -> None:
        model: type[models.Model] = apps.get_model("catalog", "Tag")
        model._default_manager.filter(slug="y").update(name="migrated")

    def migrate() -> None:
        from django.apps import apps  # noqa: PLC0415

        with connection.schema_editor() as editor:
            forwards(apps, editor)

    assert world.closed_by(migrate) == {"tags", "tag:y"}
