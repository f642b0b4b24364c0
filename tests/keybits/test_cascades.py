"""Deletions by relation, of what no table of the gallery is: trees, and models that are in more than one table."""

# ruff: noqa: DJ008 - nobody prints these models

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, models, transaction
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

    class Place(models.Model):
        class Meta:
            app_label = "catalog"

    class Restaurant(Place):
        class Meta:
            app_label = "catalog"

    class Cafe(Restaurant):
        class Meta:
            app_label = "catalog"

    class Review(models.Model):
        place = models.ForeignKey(Place, models.CASCADE)

        class Meta:
            app_label = "catalog"


MODELS: list[Any] = [Node, Place, Restaurant, Cafe, Review]


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with connection.schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield
    with connection.schema_editor() as editor:
        for model in reversed(MODELS):
            editor.delete_model(model)


def node(code: str, **refers: Any) -> Node:
    return Node._base_manager.create(code=code, **refers)


def delete(rows: Any) -> int:
    """Delete in a transaction; its end holds the constraints of the database against what is left."""
    with transaction.atomic():
        return cascades.delete(rows)


def codes() -> list[str]:
    return list(Node._base_manager.order_by("code").values_list("code", flat=True))


class TestTrees:
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
        assert [each._base_manager.count() for each in MODELS[1:]] == [1, 0, 0, 1]

    def test_are_chosen_once(self) -> None:
        Cafe._base_manager.create()
        with transaction.atomic(), hold(Cafe._base_manager.all()) as held:
            cascades.delete(held.rows)
        assert not Place._base_manager.exists()
