"""Deletions by relation, of what no table of the gallery is: trees, and models that are in more than one table."""

# ruff: noqa: DJ008 - nobody prints these models

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, models, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test.utils import isolate_apps

from keybits import cascades
from keybits.selections import hold

pytestmark = pytest.mark.django_db(transaction=True)

with isolate_apps("catalog"):

    class Node(models.Model):
        code = models.CharField(max_length=9, unique=True)
        parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
        origin = models.ForeignKey("self", models.CASCADE, null=True, to_field="code", related_name="copies")
        friend = models.ForeignKey("self", models.SET_NULL, null=True, related_name="friends")

        class Meta:
            app_label = "catalog"

    class Note(models.Model):
        about_type = models.ForeignKey(ContentType, models.CASCADE)
        about_id = models.CharField(max_length=36)
        about = GenericForeignKey("about_type", "about_id")

        class Meta:
            app_label = "catalog"

    class Place(models.Model):
        notes = GenericRelation(Note, "about_id", "about_type")

        class Meta:
            app_label = "catalog"

    class Restaurant(Place):
        class Meta:
            app_label = "catalog"

    class Cafe(Restaurant):
        class Meta:
            app_label = "catalog"

    class Kiosk(Place):
        number = models.AutoField(primary_key=True)
        place = models.OneToOneField(Place, models.CASCADE, parent_link=True)

        class Meta:
            app_label = "catalog"

    class Brand(models.Model):
        brand = models.AutoField(primary_key=True)

        class Meta:
            app_label = "catalog"

    class Franchise(Brand, Place):
        class Meta:
            app_label = "catalog"

    class Review(models.Model):
        place = models.ForeignKey(Place, models.CASCADE)

        class Meta:
            app_label = "catalog"


MODELS: list[Any] = [Note, Node, Place, Restaurant, Cafe, Kiosk, Brand, Franchise, Review]


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with connection.schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield
    with connection.schema_editor() as editor:
        for model in reversed(MODELS):
            editor.delete_model(model)


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Another database, with the same tables."""
    own = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    other = DatabaseWrapper({**connection.settings_dict, **own}, "elsewhere")
    other.ensure_connection()  # before Django's test case hears of the alias
    connections["elsewhere"] = other
    with other.schema_editor() as editor:
        for model in (ContentType, *MODELS):
            editor.create_model(model)
    yield "elsewhere"
    del connections["elsewhere"]


def node(code: str, **refers: Any) -> Node:
    return Node._base_manager.create(code=code, **refers)


def delete(rows: Any) -> int:
    """Delete in a transaction; its end holds the constraints of the database against what is left."""
    with transaction.atomic():
        return cascades.delete(rows)


def codes() -> list[str]:
    return list(Node._base_manager.order_by("code").values_list("code", flat=True))


class TestTrees:
    def test_of_none_nothing_goes(self) -> None:
        node("root")
        assert delete(Node._base_manager.none()) == 0
        assert codes() == ["root"]

    def test_go_with_their_root_by_every_relation_and_to_any_depth(self) -> None:
        root, other = node("root"), node("other")
        twig = node("twig", origin=node("branch", parent=root))
        node("leaf", parent=twig)
        node("apart", parent=other, friend=twig)
        assert delete(Node._base_manager.filter(code="root")) == 4
        assert codes() == ["apart", "other"]
        assert Node._base_manager.get(code="apart").friend_id is None

    def test_that_bite_their_own_tail_come_to_an_end(self) -> None:
        root = node("root")
        root.parent = node("leaf", parent=root)
        root.save()
        assert delete(Node._base_manager.filter(code="root")) == 2

    def test_take_as_many_statements_however_deep_they_are(self, django_assert_num_queries: Any) -> None:
        above = None
        for number in range(30):
            above = node(f"{number}", parent=above)
        with transaction.atomic(), django_assert_num_queries(2):
            cascades.delete(Node._base_manager.filter(code="0"))
        assert codes() == []


class TestModelsOfSeveralTables:
    @pytest.mark.parametrize("model", [Place, Restaurant, Cafe])
    def test_leave_no_row_in_any(self, model: Any) -> None:
        cafe, place = Cafe._base_manager.create(), Place._base_manager.create()
        for each in (cafe, place):
            Review._base_manager.create(place_id=each.pk)
        assert delete(model._base_manager.filter(pk=cafe.pk)) == 1
        assert [each._base_manager.count() for each in (Place, Restaurant, Cafe, Review)] == [1, 0, 0, 1]

    @pytest.mark.parametrize("model", [Kiosk, Franchise])
    def test_take_their_own_rows_with_them_whatever_keys_those_have(self, model: Any) -> None:
        others = [Place._base_manager.create().pk for _ in range(3)]
        gone = model._base_manager.create()
        assert gone.pk < gone.id
        assert delete(model._base_manager.filter(pk=gone.pk)) == 1
        assert list(Place._base_manager.order_by("pk").values_list("pk", flat=True)) == others
        assert not Brand._base_manager.exists()

    def test_are_chosen_once(self) -> None:
        Cafe._base_manager.create()
        with transaction.atomic(), hold(Cafe._base_manager.all()) as held:
            cascades.delete(held.rows)
        assert not Place._base_manager.exists()

    def test_go_from_the_database_that_their_rows_name(self, elsewhere: str) -> None:
        for using in ("default", elsewhere):
            Cafe._base_manager.using(using).create(pk=7)
        assert delete(Cafe._base_manager.using(elsewhere).all()) == 1
        assert [Place._base_manager.using(each).count() for each in ("default", elsewhere)] == [1, 0]


def test_what_refers_by_type_and_key_goes_too_and_what_refers_to_another_type_stays() -> None:
    """As by Django's own deletion; keys are text there, whatever they are here."""
    gone, left = Place._base_manager.create(), Place._base_manager.create()
    for about in (gone, left):
        Note._base_manager.create(about=about)
    Note._base_manager.create(about_type=ContentType.objects.get_for_model(ContentType), about_id=gone.pk)
    assert delete(Place._base_manager.filter(pk=gone.pk)) == 1
    assert sorted(Note._base_manager.values_list("about_id", flat=True)) == sorted(
        [str(gone.pk), str(left.pk)]
    )
