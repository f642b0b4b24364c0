"""Watched templates: only a change of what they watch is recorded, and the end of the row; what it was part of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.models import Case, F, PositiveIntegerField, When
from django.test.utils import isolate_apps

from catalog.models import Gallery, Rendition, Screenshot, Tag
from keybits import invalidation, triggers
from keybits.stamps import MOST_MEMBERS
from keybits.templates import Template, parse

pytestmark = pytest.mark.django_db(transaction=True)

CHECKOUT = Path(__file__).parents[2]
AGED = "aged:{slug} on max_age, owner_id"


def execute(sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def recorded(write: Callable[[], object]) -> list[str]:
    """Return the scopes that `write` has the database record."""
    execute("DELETE FROM keybits_change")
    write()
    return sorted(scope for (scope,) in execute("SELECT scope FROM keybits_change"))


@pytest.fixture
def declared() -> Iterator[Callable[..., None]]:
    """Have the database record other templates of a model for a while."""
    models = set()

    def declare(model: Any, *templates: str) -> None:
        models.add(model)
        triggers.sync(connection, model, templates)

    yield declare
    for model in models:
        label = model._meta
        triggers.sync(connection, model, invalidation.templates_of(label.app_label, label.model_name))


@pytest.fixture
def galleries(declared: Callable[..., None]) -> list[Gallery]:
    """Three galleries of which only ages and owners are watched."""
    made = [
        Gallery.objects.create(slug=slug, title=slug, max_age=age)
        for slug, age in zip("abc", (None, 1, 2), strict=True)
    ]
    declared(Gallery, AGED)
    return made


def upsert(slug: str, **values: Any) -> None:
    Gallery.objects.bulk_create(
        [Gallery(slug=slug, **values)],
        update_conflicts=True,
        unique_fields=["slug"],
        update_fields=list(values),
    )


def updated(**values: Any) -> Callable[[], object]:
    return lambda: Gallery.objects.update(**values)


def only_some() -> None:
    """One statement over all rows; the age of one of them becomes another."""
    age = Case(When(slug="b", then=9), default=F("max_age"), output_field=PositiveIntegerField())
    Gallery.objects.update(title="new", max_age=age)


def renumbered() -> None:
    execute("UPDATE catalog_gallery SET id = id + 1000 WHERE slug = 'a'")


WRITES: dict[str, tuple[Callable[[], object], list[str]]] = {
    "an insert": (lambda: Gallery.objects.create(slug="d", title="D", max_age=5), []),
    "another field": (updated(title="new", description="new"), []),
    "the field set to what it is": (updated(max_age=F("max_age")), []),
    "the field": (lambda: Gallery.objects.filter(slug="b").update(max_age=5), ["aged:b"]),
    "the second field watched": (lambda: owned("b"), ["aged:b"]),
    "the field, from NULL": (lambda: Gallery.objects.filter(slug="a").update(max_age=5), ["aged:a"]),
    "the field, to NULL": (lambda: Gallery.objects.filter(slug="b").update(max_age=None), ["aged:b"]),
    "the field, NULL as before": (lambda: Gallery.objects.filter(slug="a").update(max_age=None), []),
    "some rows of many": (only_some, ["aged:b"]),
    "all rows": (updated(max_age=7), ["aged:a", "aged:b", "aged:c"]),
    "the field and the name of the scope": (
        lambda: Gallery.objects.filter(slug="b").update(max_age=5, slug="z"),
        ["aged:b"],
    ),
    "the primary key": (renumbered, ["aged:a"]),
    "the end of a row": (lambda: Gallery.objects.get(slug="b").delete(), ["aged:b"]),
    "the end of many": (lambda: execute("DELETE FROM catalog_gallery"), ["aged:a", "aged:b", "aged:c"]),
    "update_or_create that creates": (
        lambda: Gallery.objects.update_or_create({"title": "D", "max_age": 3}, slug="d"),
        [],
    ),
    "update_or_create that updates": (
        lambda: Gallery.objects.update_or_create({"max_age": 3}, slug="c"),
        ["aged:c"],
    ),
    "update_or_create of another field": (
        lambda: Gallery.objects.update_or_create({"title": "C"}, slug="c"),
        [],
    ),
    "an upsert that inserts": (lambda: upsert("d", title="D", max_age=3), []),
    "an upsert that updates": (lambda: upsert("c", title="C", max_age=3), ["aged:c"]),
    "an upsert that changes nothing": (lambda: upsert("c", title="C", max_age=2), []),
}


def owned(slug: str) -> None:
    Gallery.objects.filter(slug=slug).update(owner=User.objects.create(username="u"))


@pytest.mark.parametrize(("write", "scopes"), WRITES.values(), ids=WRITES)
def test_a_watched_template_records(
    galleries: list[Gallery], write: Callable[[], object], scopes: list[str]
) -> None:
    assert recorded(write) == scopes


def test_what_is_rolled_back_is_not_recorded(galleries: list[Gallery]) -> None:
    def write() -> None:
        with transaction.atomic():
            updated(max_age=9)()
            transaction.set_rollback(True)

    assert recorded(write) == []


def test_templates_beside_it_count_every_change(
    declared: Callable[..., None], galleries: list[Gallery]
) -> None:
    declared(Gallery, "galleries", "gallery:{slug}", AGED)
    assert recorded(updated(title="new")) == ["galleries", "gallery:a", "gallery:b", "gallery:c"]
    assert recorded(lambda: Gallery.objects.create(slug="d", title="D")) == ["galleries", "gallery:d"]
    assert "aged:d" in recorded(Gallery.objects.all().delete)


def test_it_may_watch_without_naming_a_field(declared: Callable[..., None], galleries: list[Gallery]) -> None:
    declared(Gallery, "ages on max_age")
    assert recorded(updated(title="new")) == []
    assert recorded(updated(max_age=9)) == ["ages"]
    assert recorded(Gallery.objects.all().delete) == ["ages"]


def test_it_may_name_a_field_of_a_related_row(galleries: list[Gallery]) -> None:
    """As `takedown:among/{gallery__slug} on gallery` does: what counts is the gallery that it was in."""
    shot = Screenshot.objects.create(gallery=galleries[0], title="one", source_url="https://a.example/")
    before = [f"takedown:among/{galleries[0].slug}", f"takedown:screenshot/{shot.pk}"]

    def takedowns(write: Callable[[], object]) -> list[str]:
        return [scope for scope in recorded(write) if scope.startswith("takedown:")]

    assert takedowns(lambda: Screenshot.objects.update(title="two")) == []
    assert takedowns(lambda: Screenshot.objects.update(gallery=galleries[1])) == before
    assert takedowns(shot.delete) == ["takedown:among/b", before[1]]


@pytest.mark.stack("server")
@pytest.mark.parametrize("collation", ['"C"', "without_case"])
def test_columns_of_any_collations_name_scopes(galleries: list[Gallery], collation: str) -> None:
    """Two of them cannot be united, and those that ignore case know no substrings."""
    Screenshot.objects.create(gallery=galleries[0], title="S", source_url="https://one.example/")
    with transaction.atomic():
        execute(
            "CREATE COLLATION without_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        for (index,) in execute(
            "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%%slug%%pattern_ops%%' "
            "AND tablename = 'catalog_gallery'"
        ):
            execute(f'DROP INDEX "{index}"')
        execute(f"ALTER TABLE catalog_gallery ALTER COLUMN slug TYPE varchar(100) COLLATE {collation}")
        execute('ALTER TABLE catalog_tag ALTER COLUMN slug TYPE varchar(100) COLLATE "und-x-icu"')
        scopes = recorded(lambda: Screenshot.objects.update(title="T"))
        transaction.set_rollback(True)
    assert f"gallery:{galleries[0].slug}" in scopes


def test_very_many_are_recorded_as_their_family_or_one_by_one(declared: Callable[..., None]) -> None:
    """A statement of PostgreSQL says it itself; SQLite records rows, and the writer makes one of them."""
    declared(Gallery, AGED)
    rows = range(MOST_MEMBERS + 1)
    Gallery.objects.bulk_create([Gallery(slug=f"g{n}", title="g") for n in rows])
    each = sorted(f"aged:g{n}" for n in rows)
    assert recorded(updated(max_age=9)) == (["aged:*"] if connection.vendor == "postgresql" else each)


@pytest.mark.parametrize("values", [MOST_MEMBERS, MOST_MEMBERS + 1])
def test_rows_without_a_value_hide_no_scope_of_the_others(declared: Callable[..., None], values: int) -> None:
    """Of a family no more is read than it takes to record it: what has no scope is none of that."""
    declared(Gallery, "aged:{max_age}")
    ages = [*[None] * 3, *range(values)]
    Gallery.objects.bulk_create([Gallery(slug=f"g{n}", title="g", max_age=age) for n, age in enumerate(ages)])
    each = sorted(f"aged:{age}" for age in range(values))
    is_family = connection.vendor == "postgresql" and values > MOST_MEMBERS
    assert recorded(updated(title="new")) == (["aged:*"] if is_family else each)


@pytest.mark.stack("server")
def test_a_statement_over_many_rows_reads_each_table_on_the_way_once() -> None:
    through = Screenshot.tags.through
    templates = invalidation.templates_of("catalog", "screenshot_tags")
    made = triggers.statements("postgresql", through, templates)
    (deletion,) = (each for each in made if re.match(r'CREATE OR REPLACE FUNCTION "\w+_delete"', each))
    tables: list[Any] = [Screenshot, Gallery, through]
    assert [deletion.count(f'"{model._meta.db_table}" j') for model in tables] == [1, 1, 1]


@pytest.mark.stack("server")
def test_truncate_ends_every_row(declared: Callable[..., None], galleries: list[Gallery]) -> None:
    declared(Gallery, AGED, "ages on max_age", "galleries")
    assert {"aged:*", "ages", "galleries"} <= set(
        recorded(lambda: execute("TRUNCATE catalog_gallery CASCADE"))
    )


@pytest.mark.stack("server")
@isolate_apps("catalog")
def test_a_role_with_the_rights_that_docs_freshness_names_can_write() -> None:
    class Place(Named):
        class Meta(Named.Meta):
            abstract = False

    class Room(Named):
        place = models.ForeignKey(Place, models.CASCADE)

    rooms: Any = Room._default_manager
    with tables_of(Place, Room):
        triggers.sync(connection, Room, ("place:{place__name}", "room:{name}"))
        rooms.create(place=Place._default_manager.create(name="p"), name="r")
        execute("DELETE FROM keybits_change")
        with transaction.atomic():
            execute("CREATE ROLE writer")
            execute("GRANT SELECT, UPDATE ON catalog_place, catalog_room TO writer")
            execute("GRANT INSERT, SELECT ON keybits_change TO writer")
            execute("SET LOCAL ROLE writer")
            rooms.update(name="s")
            execute("SET CONSTRAINTS ALL IMMEDIATE")
            scopes = {scope for (scope,) in execute("SELECT scope FROM keybits_change")}
            transaction.set_rollback(True)
    assert scopes == {"place:p", "room:r", "room:s"}


@pytest.mark.parametrize(
    "templates",
    [
        ("aged:{slug}",),
        ("aged:{slug} on max_age",),
        ("aged:{slug} on owner_id, max_age",),
        ("aged:{slug} on max_age, owner_id", "ages"),
        (),
    ],
)
def test_another_declaration_makes_other_triggers(
    declared: Callable[..., None], galleries: list[Gallery], templates: tuple[str, ...]
) -> None:
    assert triggers.sync(connection, Gallery, (AGED,)) is False
    assert triggers.sync(connection, Gallery, templates) is True
    assert triggers.sync(connection, Gallery, templates) is False


@pytest.mark.stack("server")
@pytest.mark.parametrize("how", ["DISABLE", "ENABLE REPLICA"])
def test_what_somebody_has_turned_off_is_made_anew_by_a_migrate(how: str) -> None:
    found = (
        "SELECT tgname, tgenabled FROM pg_trigger "
        "WHERE tgrelid = 'catalog_gallery'::regclass AND tgname ~ '^keybits_'"
    )
    before = sorted(execute(found))
    execute(f'ALTER TABLE catalog_gallery {how} TRIGGER "{before[0][0]}"')
    call_command("migrate", verbosity=0)
    assert sorted(execute(found)) == before


def test_without_templates_nothing_is_recorded(
    declared: Callable[..., None], galleries: list[Gallery]
) -> None:
    declared(Gallery)
    assert recorded(updated(max_age=9)) == []


@contextmanager
def tables_of(*kinds: type[models.Model]) -> Iterator[None]:
    """Have the database hold tables of these models for a while."""
    with connection.schema_editor() as editor:
        for kind in kinds:
            editor.create_model(kind)
    try:
        yield
    finally:
        for kind in kinds:
            triggers.drop(connection, kind)
        with connection.schema_editor() as editor:
            for kind in reversed(kinds):
                editor.delete_model(kind)


class Named(models.Model):
    """What the models of these tests have in common."""

    name = models.CharField(max_length=9)

    class Meta:
        abstract = True
        app_label = "catalog"

    def __str__(self) -> str:
        return self.name


@pytest.mark.stack("server")
@isolate_apps("catalog")
def test_arrays_of_any_lengths_can_be_watched() -> None:
    class Thing(Named):
        words = ArrayField(models.TextField(), null=True)

    with tables_of(Thing):
        triggers.sync(connection, Thing, ("worded:{name} on words",))
        things: Any = Thing._default_manager
        for name, words in (("a", []), ("b", None), ("c", ["x"]), ("d", ["x", "y"])):
            things.create(name=name, words=words)
        assert recorded(lambda: things.update(name="same")) == []
        assert recorded(lambda: things.filter(words__len=2).update(words=["x"])) == ["worded:same"]


@isolate_apps("catalog")
def test_a_uuid_is_spelt_as_an_address_spells_it() -> None:
    class Thing(Named):
        id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    with tables_of(Thing):
        triggers.sync(connection, Thing, ("thing:{id}",))
        things: Any = Thing._default_manager
        key = things.create().pk
        assert recorded(lambda: things.update(name="new")) == [f"thing:{key}"]


@isolate_apps("catalog")
@pytest.mark.parametrize("table", ["legacy-pages 2024", "größe" * 9, "it's", '"quoted"'])
def test_a_table_is_tracked_however_it_is_called(table: str) -> None:
    class Thing(Named):
        class Meta(Named.Meta):
            abstract = False
            db_table = table

    with tables_of(Thing):
        assert triggers.sync(connection, Thing, ("thing:{id}", "things")) is True
        assert triggers.sync(connection, Thing, ("thing:{id}", "things")) is False
        things: Any = Thing._default_manager
        key = things.create().pk
        assert recorded(lambda: things.update(name="new")) == [f"thing:{key}", "things"]
        assert triggers.sync(connection, Thing, ()) is True
        assert recorded(lambda: things.update(name="newer")) == []


@isolate_apps("catalog")
def test_a_many_to_many_relation_is_followed_by_the_columns_that_it_refers_to() -> None:
    class Label(Named):
        code = models.CharField(max_length=9, unique=True)

    class Book(Named):
        isbn = models.CharField(max_length=9, unique=True)
        labels = models.ManyToManyField(Label, through="Labelled")

    class Labelled(Named):
        book = models.ForeignKey(Book, models.CASCADE, to_field="isbn")
        label = models.ForeignKey(Label, models.CASCADE, to_field="code")

    with tables_of(Label, Book, Labelled):
        triggers.sync(connection, Book, ("label:{labels__name}", "takedown:{labels__code} on name"))
        kinds: Any = [kind._default_manager for kind in (Label, Book, Labelled)]
        labels, books, pairs = kinds
        pair = {"label": labels.create(name="n", code="c"), "book": books.create(isbn="i")}
        pairs.create(**pair)
        assert recorded(lambda: books.update(name="new")) == ["label:n", "takedown:c"]
        assert recorded(lambda: books.update(isbn="i")) == ["label:n"]


@isolate_apps("catalog")
@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_a_key_that_a_row_refers_by_is_told_although_the_database_has_changed_what_it_refers_to_first(
    action: str,
) -> None:
    """Where it deletes or changes rows by its own ON DELETE and ON UPDATE, what they referred to is already gone."""

    class Label(Named):
        code = models.CharField(max_length=9, unique=True)

    class Book(Named):
        label = models.ForeignKey(Label, models.DO_NOTHING, to_field="code", null=True)

    class Chapter(Named):
        book = models.ForeignKey(Book, models.DO_NOTHING, null=True)

    refers = "varchar(9) REFERENCES catalog_label (code)", "bigint REFERENCES catalog_book"
    with tables_of(Label, Book, Chapter):
        for model, column, key in ((Book, "label_id", refers[0]), (Chapter, "book_id", refers[1])):
            execute(f"DROP TABLE {model._meta.db_table}{' CASCADE' * (connection.vendor == 'postgresql')}")
            execute(
                f"CREATE TABLE {model._meta.db_table} (id bigint PRIMARY KEY, name varchar(9), "
                f"{column} {key} ON DELETE {action} ON UPDATE CASCADE)"
            )
        triggers.sync(connection, Book, ("label:{label__code}",))
        triggers.sync(connection, Chapter, ("book:{book__pk}", "shelf:{book__label__code}"))
        execute("INSERT INTO catalog_label (id, name, code) VALUES (1, '', 'a')")
        execute("INSERT INTO catalog_book VALUES (2, '', 'a')")
        execute("INSERT INTO catalog_chapter VALUES (3, '', 2)")
        renamed = recorded(lambda: execute("UPDATE catalog_label SET code = 'b'"))
        assert renamed == ["label:a", "label:b"]
        assert "label:b" in recorded(lambda: execute("DELETE FROM catalog_label"))
        execute("DELETE FROM catalog_chapter")
        execute("DELETE FROM catalog_book")
        execute("INSERT INTO catalog_book VALUES (4, '', NULL)")
        execute("INSERT INTO catalog_chapter VALUES (5, '', 4)")
        assert recorded(lambda: execute("DELETE FROM catalog_book")) == ["book:4"]


@isolate_apps("catalog")
def test_a_key_of_what_a_row_refers_to_is_that_of_the_last_of_several_of_one_name() -> None:
    class Node(Named):
        up = models.ForeignKey("self", models.CASCADE, null=True)

    with tables_of(Node):
        triggers.sync(connection, Node, ("top:{up__up__pk}",))
        nodes: Any = Node._default_manager
        top = nodes.create(name="top")
        leaf = nodes.create(name="leaf", up=nodes.create(name="node", up=top))
        assert recorded(lambda: nodes.filter(pk=leaf.pk).update(name="new")) == [f"top:{top.pk}"]


@isolate_apps("catalog")
def test_of_a_composite_key_every_column_tells_rows_apart() -> None:
    class Line(Named):
        pk = models.CompositePrimaryKey("order", "number")
        order = models.IntegerField()
        number = models.IntegerField()

    with tables_of(Line):
        triggers.sync(connection, Line, ("order:{order} on name",))
        lines: Any = Line._default_manager
        lines.bulk_create([Line(order=order, number=number) for order in (1, 2) for number in (1, 2)])
        assert recorded(lambda: lines.update(name=F("name"))) == []
        assert recorded(lambda: lines.filter(order=1).update(name="new")) == ["order:1"]
        assert recorded(lambda: lines.filter(order=2, number=2).update(number=3)) == ["order:2"]


@isolate_apps("catalog")
def test_fields_that_a_row_inherits_are_read_from_the_table_that_has_them() -> None:
    class Place(Named):
        class Meta(Named.Meta):
            abstract = False

    class Inn(Place):
        rooms = models.IntegerField(default=1)

    class Suite(Inn):
        size = models.IntegerField(default=1)

    class Review(Named):
        suite = models.ForeignKey(Suite, models.CASCADE)

    with tables_of(Place, Inn, Suite, Review):
        triggers.sync(connection, Suite, ("suite:{name}", "rooms:{rooms}", "number:{pk}", "key:{id}"))
        triggers.sync(connection, Review, ("place:{suite__name}", "of:{suite}", "review:{pk}"))
        suites, reviews = Suite._default_manager, Review._default_manager
        suite = suites.create(name="a", rooms=2)
        review = reviews.create(suite=suite)
        of_suite = [f"key:{suite.pk}", f"number:{suite.pk}", "rooms:2", "suite:a"]
        assert recorded(lambda: suites.update(size=2)) == of_suite
        of_review = [f"of:{suite.pk}", "place:a", f"review:{review.pk}"]
        assert recorded(lambda: reviews.update(name="new")) == of_review
        assert set(of_suite) <= set(recorded(suite.delete))


@isolate_apps("catalog")
def test_a_date_is_spelt_alike_whatever_a_client_s_dates_look_like() -> None:
    class Event(Named):
        day = models.DateField()

    with tables_of(Event):
        triggers.sync(connection, Event, ("day:{day}",))
        events: Any = Event._default_manager
        events.create(day="2026-02-01")
        if connection.vendor == "postgresql":
            execute("SET datestyle = German")
        try:
            assert recorded(lambda: events.update(name="new")) == ["day:2026-02-01"]
        finally:
            connection.close()


class Shouted(models.CharField):
    """A text that Python sees in other letters than the database."""

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return value and value.upper()


UNFIT: dict[str, str] = {
    "{slug}": "names a field before any kind",
    "page-{slug}": "names a field before any kind",
    "{slug}:page": "names a field before any kind",
    "page:{nothing}": "names 'nothing', and catalog.Unfit has no such field",
    "page:{tag__slug} on nothing": "watches 'nothing', which is no column of catalog.Unfit",
    "page:{tag__slug} on slug": "watches 'slug', which is no column of catalog.Unfit",
    "page:{nothing__slug}": "names 'nothing', and catalog.Unfit has no such field",
    "page:{tag__screenshots__id}": "goes through 'screenshots'",
    "page:{slug__id}": "goes through 'slug'",
    "page:{tag__screenshots}": "names 'screenshots' of catalog.Tag, which is no column",
    "page:{shouted}": "whose values in Python are not those in the database",
    "page:{slug}:{title}": "names 2 fields: a template names one at most, which may be a generated field",
    "page:{tag_id:05}": "has braces that are not those of one plain field",
    "page:{tag__slug!r}": "has braces that are not those of one plain field",
    "page:{{tag_id}}": "has braces that are not those of one plain field",
    "page:{}": "has braces that are not those of one plain field",
    "line:{line}": "names 'line'",
}


@isolate_apps("catalog")
@pytest.mark.parametrize(("template", "reason"), UNFIT.items(), ids=UNFIT)
def test_a_template_that_cannot_work_is_refused_by_name_with_the_reason(template: str, reason: str) -> None:
    class Parent(Named):
        slug = models.SlugField()

    class Unfit(Parent):
        shouted = Shouted(max_length=9)
        tag = models.ForeignKey(Tag, models.CASCADE, related_name="+")

    with pytest.raises(ImproperlyConfigured) as raised:
        triggers.statements("sqlite", Unfit, (template,))
    assert str(raised.value).startswith(f"catalog.Unfit is declared with {template!r}, which ")
    assert reason in str(raised.value)


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
@pytest.mark.parametrize("template", ["made:{created_at}", "made:{gallery__updated_at}", "full:{full_page}"])
def test_a_field_that_databases_spell_in_another_way_than_python_is_refused(
    vendor: str, template: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"a scope is named by a number, a text, a date or a UUID"):
        triggers.statements(vendor, Screenshot, (template,))


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
@pytest.mark.parametrize("field", ["maxage", "screenshots", "owner__username"])
def test_a_field_that_is_no_column_is_named(vendor: str, field: str) -> None:
    with pytest.raises(
        ImproperlyConfigured, match=rf"watches '{field}', which is no column of catalog.Gallery"
    ):
        triggers.statements(vendor, Gallery, (f"aged:{{slug}} on {field}",))


def test_a_database_without_triggers_of_ours_gets_none() -> None:
    assert triggers.statements("mysql", Gallery, (AGED,)) == []


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("pages", Template("pages", ())),
        ("page:{slug}", Template("page:{slug}", ("slug",))),
        ("page:{slug} on title", Template("page:{slug}", ("slug",), ("title",))),
        (
            "page:{author__name} on a,b ,  c",
            Template("page:{author__name}", ("author__name",), ("a", "b", "c")),
        ),
        ("pages on title", Template("pages", (), ("title",))),
    ],
)
def test_a_template_says_its_scope_and_what_it_watches(text: str, template: Template) -> None:
    assert parse(text) == template


def test_a_rendition_that_goes_or_becomes_another_takes_its_picture_down(galleries: list[Gallery]) -> None:
    """Its bytes may be held for a year under their old name."""
    shot = Screenshot.objects.create(gallery=galleries[0], title="one", source_url="https://a.example/")
    rendition = Rendition.objects.create(screenshot=shot, width=1, sha256="a" * 64)
    down = f"takedown:screenshot/{shot.pk}"
    assert down not in recorded(lambda: Rendition.objects.update(bytes=5))
    assert down in recorded(lambda: Rendition.objects.update(sha256="b" * 64))
    assert down in recorded(lambda: Rendition.objects.update(format="jpeg"))
    assert down in recorded(rendition.delete)
    assert down not in recorded(lambda: shot.tags.add(Tag.objects.create(slug="x", name="X")))


def rows_worked_through(plan: dict[str, Any]) -> int:
    """Count the rows that the nodes of an analysed plan have made or thrown away."""
    removed = sum(value for name, value in plan.items() if name.startswith("Rows Removed by"))
    below = sum(rows_worked_through(each) for each in plan.get("Plans", ()))
    return int((plan["Actual Rows"] + removed) * plan["Actual Loops"]) + below


@pytest.mark.stack("server")
def test_a_plan_that_was_made_for_one_row_does_not_compare_each_of_many_with_each() -> None:
    statements = triggers.statements("postgresql", Gallery, (AGED,))
    function = next(each for each in statements if "_update" in each and "FUNCTION" in each.split("(")[0])
    body = function.partition(" BEGIN ")[2].partition(" RETURN NULL")[0].rpartition(";")[0]
    rows = 1_000
    made = "SELECT {0} AS id, CAST({0} AS text) AS slug, {1} AS max_age, 1 AS owner_id"
    with transaction.atomic():
        for name in ("old_rows", "new_rows"):
            execute(f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS {made.format(0, 0)}")
            execute(f"ANALYZE {name}")
        execute(f"PREPARE recorded AS {body}")
        execute("EXECUTE recorded")
        for name, age in {"old_rows": 1, "new_rows": 2}.items():
            execute(f"INSERT INTO {name} {made.format('n', age)} FROM generate_series(1, {rows}) n")
        ((explained,),) = execute("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE recorded")
        execute("DEALLOCATE recorded")
    assert rows_worked_through(explained[0]["Plan"]) < 50 * rows


def test_every_process_calls_triggers_alike() -> None:
    """By their names each `migrate` knows those that are there; were they others, it would make them all again."""
    program = (
        "import django; django.setup(); from keybits import invalidation, triggers;"
        "[print(triggers.statements('sqlite', each.model, each.templates)) for each in invalidation.declarations()]"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
        ).stdout
        for seed in ("1", "5")
    }
    assert len(said) == 1
