"""Where the database records nothing by itself, Django's signals close the scopes of a change, after commit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, NotSupportedError, OperationalError, connection, models, transaction
from django.test.utils import isolate_apps

from catalog.models import Gallery, Rendition, Screenshot, Tag
from keybits import invalidation, triggers
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
    ("tag deleted", lambda shot: shot.tags.get().delete(), SHOT | {"tags"}),
    ("rendition", lambda shot: Rendition.objects.create(screenshot=shot), SHOT),
]


@pytest.mark.parametrize(("write", "expected"), [row[1:] for row in WRITES], ids=[row[0] for row in WRITES])
def test_a_write_closes_what_the_row_was_and_is_part_of(
    shot: Screenshot, write: Callable[[Screenshot], object], expected: set[str]
) -> None:
    assert closed_by(lambda: write(shot)) == expected


@pytest.mark.parametrize("template", ["tag:{slug", "tag:slug}", ["tags", "tag:{slug}"]], ids=str)
def test_what_is_no_template_is_refused_when_it_is_declared(template: Any) -> None:
    before = invalidation.declarations()
    with pytest.raises(ImproperlyConfigured, match=r"catalog\.Tag is declared with .+, which is no template"):
        invalidation.declare(Tag, template)
    assert invalidation.declarations() == before


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


@pytest.fixture
def place() -> Iterator[Any]:
    """A model with a proxy and a model that inherits its table: `Place`, `Shown` and `Inn`."""
    with isolate_apps("catalog"):

        class Place(models.Model):
            name = models.CharField(max_length=9)

            class Meta:
                app_label = "catalog"

            def __str__(self) -> str:
                return self.name

        class Shown(Place):
            class Meta:
                app_label = "catalog"
                proxy = True

        class Inn(Place):
            class Meta:
                app_label = "catalog"

        with connection.schema_editor() as editor:
            editor.create_model(Place)
            editor.create_model(Inn)
        try:
            yield Place
        finally:
            for kind in (Place, Shown):
                invalidation._declared.pop(kind, None)
            triggers.drop(connection, Place)
            with connection.schema_editor() as editor:
                editor.delete_model(Inn)
                editor.delete_model(Place)


def classes_of(place: Any) -> dict[str, Any]:
    return {each.__name__: each for each in (place, *place.__subclasses__())}


def ended_by(write: Callable[[], object], *scopes: str) -> set[str]:
    before = get_store().mint(scopes)
    write()
    after = get_store().mint(scopes)
    return {scope for scope, old, new in zip(scopes, before, after, strict=True) if old != new}


@pytest.mark.parametrize("declared", ["Place", "Shown"])
@pytest.mark.parametrize("written", ["Place", "Shown", "Inn"])
def test_a_row_is_one_of_its_table_whichever_class_it_is_written_by(
    settings: Any, place: Any, declared: str, written: str
) -> None:
    settings.KEYBITS_TRACKING = "signals"
    invalidation.declare(classes_of(place)[declared], "place:{name}", "places")
    row = classes_of(place)[written](name="a")
    assert ended_by(row.save, "place:a", "places") == {"place:a", "places"}
    row.name = "b"
    assert ended_by(row.save, "place:a", "place:b") == {"place:a", "place:b"}
    assert ended_by(row.delete, "place:b", "places") == {"place:b", "places"}


@pytest.mark.parametrize("order", [("Place", "Shown"), ("Shown", "Place")])
def test_what_is_declared_of_a_proxy_is_added_to_what_is_declared_of_its_table(
    place: Any, order: tuple[str, ...]
) -> None:
    for name in order:
        invalidation.declare(classes_of(place)[name], f"{name.lower()}:{{name}}", "places")
    (found,) = (each for each in invalidation.declarations() if each.model is place)
    assert sorted(found.templates) == ["place:{name}", "places", "shown:{name}"]
    assert triggers.sync(connection, place, found.templates) is True
    assert ended_by(lambda: place.objects.create(name="a"), "place:a", "shown:a") == {"place:a", "shown:a"}


@pytest.mark.parametrize("managed", [contextlib.nullcontext, transaction.atomic])
def test_a_transaction_that_django_does_not_end_is_closed_as_it_commits(
    shot: Screenshot, managed: Callable[[], Any]
) -> None:
    def save() -> None:
        # SQLite begins a transaction here, not at the savepoint of a block.
        Tag.objects.filter(slug="none").update(name="")
        with managed():
            shot.save()

    transaction.set_autocommit(False)
    try:
        assert closed_by(save) == set()
        assert closed_by(transaction.rollback) == set()
        save()
        assert closed_by(transaction.commit) == SHOT
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.stack("embedded")
def test_a_savepoint_of_sqlite_that_nothing_contains_is_closed_as_it_is_released(shot: Screenshot) -> None:
    """Its release is a COMMIT. Django makes such savepoints for blocks while autocommit is off."""
    run("SAVEPOINT a")
    assert closed_by(shot.save) == set()
    assert closed_by(lambda: run("RELEASE a")) == SHOT


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_a_transaction_that_sql_begins_and_ends_is_closed_as_it_commits(shot: Screenshot) -> None:
    run("BEGIN")
    assert closed_by(shot.save) == set()
    assert closed_by(lambda: run("COMMIT")) == SHOT


@pytest.mark.stack("server")
@pytest.mark.parametrize(
    "text",
    [
        "UPDATE catalog_tag SET name = name; COMMIT",
        "SELECT 1; COMMIT; BEGIN",
        "ROLLBACK TO SAVEPOINT a; COMMIT",
    ],
)
def test_a_text_of_several_statements_is_closed_as_it_commits(shot: Screenshot, text: str) -> None:
    run("BEGIN")
    assert closed_by(shot.save) == set()
    run("SAVEPOINT a")
    assert closed_by(lambda: run(text)) == SHOT
    run("ROLLBACK")


@pytest.mark.stack("server")
def test_a_text_that_only_looks_like_a_commit_keeps_nothing_from_being_closed_by_one(
    shot: Screenshot,
) -> None:
    run("BEGIN")
    shot.save()
    run("SELECT 1 -- ; commit", "UPDATE catalog_tag SET name = name -- ; commit")
    assert closed_by(lambda: run("COMMIT")) == SHOT


@pytest.mark.stack("server")
@pytest.mark.parametrize("fails", ["SELECT 1 / 0", "SELECT pg_terminate_backend(pg_backend_pid())"])
def test_a_text_that_fails_after_it_has_committed_is_closed(shot: Screenshot, fails: str) -> None:
    """Even if the connection is lost, as it may be in a COMMIT."""

    def commit() -> None:
        with pytest.raises(DatabaseError):
            run(f"COMMIT; {fails}")

    run("BEGIN")
    shot.save()
    assert closed_by(commit) == SHOT
    connection.close()


@pytest.mark.stack("server")
@pytest.mark.parametrize(
    "text",
    [
        *("PREPARE TRANSACTION 'a'", "-- two\nprepare  transaction 'a'", "SELECT 1; PREPARE TRANSACTION 'a'"),
        *("SELECT ''; PREPARE TRANSACTION 'a'", "SELECT 1 AS \"'\"; PREPARE TRANSACTION 'a'"),
        *("-- It's\n; PREPARE TRANSACTION 'a'", "SELECT 1 /* It's */; PREPARE TRANSACTION 'a'"),
        *(r"SELECT E'\''; PREPARE TRANSACTION 'a'", "SELECT $$It's$$; PREPARE TRANSACTION 'a'"),
    ],
)
def test_a_transaction_that_is_to_close_scopes_cannot_be_prepared(text: str) -> None:
    """Whoever commits it, perhaps another process, does not know of them."""
    run("BEGIN")
    invalidation.changed({"tags"}, "default")
    with pytest.raises(NotSupportedError, match="cannot be prepared"):
        run(text)
    run("ROLLBACK")


@pytest.mark.parametrize(
    "text", ["SELECT '; PREPARE TRANSACTION ''a'''", "SELECT 1 AS \"; prepare transaction 'a'\", '; it''s'"]
)
def test_a_text_that_only_quotes_such_words_prepares_nothing(text: str) -> None:
    run("BEGIN")
    invalidation.changed({"tags"}, "default")
    run(text)
    assert closed_by(lambda: run("COMMIT")) == {"tags"}


@pytest.mark.stack("embedded")
def test_nothing_is_taken_to_be_prepared_by_a_database_that_prepares_nothing() -> None:
    run("BEGIN")
    invalidation.changed({"tags"}, "default")
    run("SELECT 'C:\\; PREPARE TRANSACTION' -- ; prepare transaction 'a'")
    assert closed_by(lambda: run("COMMIT")) == {"tags"}


@pytest.mark.stack("server")
def test_a_transaction_may_be_prepared_whatever_was_to_be_closed_by_one_that_sql_has_rolled_back() -> None:
    run("BEGIN")
    invalidation.changed({"tags"}, "default")
    run("ROLLBACK")
    with pytest.raises(OperationalError, match="prepared transactions are disabled"), transaction.atomic():
        run("PREPARE TRANSACTION 'a'")  # which the server has been asked for


def test_what_is_said_to_have_changed_is_closed_by_a_commit_whatever_has_been_written(
    shot: Screenshot,
) -> None:
    run("BEGIN")
    assert closed_by(lambda: invalidation.changed({"tags"}, "default")) == set()
    assert closed_by(lambda: run("COMMIT")) == {"tags"}


def test_what_is_said_to_have_changed_is_closed_at_once_where_there_is_no_transaction() -> None:
    """Even if this thread has asked the database nothing yet."""
    with ThreadPoolExecutor(1) as threads:
        assert closed_by(lambda: threads.submit(invalidation.changed, {"tags"}, "default").result()) == {
            "tags"
        }


def test_what_else_is_to_be_done_after_a_commit_and_fails_keeps_nothing_from_being_closed(
    shot: Screenshot,
) -> None:
    def fail() -> None:
        raise OSError("no mail today")

    def write() -> None:
        with contextlib.suppress(OSError), transaction.atomic():
            transaction.on_commit(fail)
            shot.save()
            written.append(shot)

    written: list[Screenshot] = []
    assert closed_by(write) == SHOT
    assert written
