"""Deletions by relation, of what no table of the gallery is: trees, and models that are in more than one table."""

# ruff: noqa: DJ008 - nobody prints these models

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models, transaction
from django.db.models import ProtectedError, RestrictedError
from django.test.utils import isolate_apps
from pytest_django import Settings
from second_database import second_database

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

    class Chain(models.Model):
        class Meta:
            app_label = "catalog"

    class Branch(Place):
        of = models.ForeignKey(Chain, models.CASCADE)

        class Meta:
            app_label = "catalog"

    class Sight(Place):
        remarks = GenericRelation(Note, "about_id", "about_type", for_concrete_model=False)

        class Meta:
            app_label = "catalog"
            proxy = True

    class Review(models.Model):
        """No place knows of its reviews."""

        place = models.ForeignKey(Place, models.CASCADE, related_name="+")

        class Meta:
            app_label = "catalog"

    class Guide(models.Model):
        places = models.ManyToManyField(Place)

        class Meta:
            app_label = "catalog"

    class Lease(models.Model):
        place = models.ForeignKey(Place, models.PROTECT)

        class Meta:
            app_label = "catalog"

    class Owner(models.Model):
        class Meta:
            app_label = "catalog"

    class Hoped(models.Model):
        by = models.ForeignKey(Owner, models.SET_NULL, null=True)

        class Meta:
            app_label = "catalog"

    class Left(models.Model):
        to = models.ForeignKey(Owner, models.SET_DEFAULT, default=1)

        class Meta:
            app_label = "catalog"

    class Bound(models.Model):
        to = models.ForeignKey(Owner, models.RESTRICT)

        class Meta:
            app_label = "catalog"

    class Noted(models.Model):
        of = models.ForeignKey(Owner, models.DO_NOTHING, db_constraint=False)

        class Meta:
            app_label = "catalog"

    class Ruled(models.Model):
        class Meta:
            app_label = "catalog"

    class Odd(models.Model):
        to = models.ForeignKey(Ruled, models.SET(1))

        class Meta:
            app_label = "catalog"

    class Hen(models.Model):
        egg = models.ForeignKey("Egg", models.CASCADE)

        class Meta:
            app_label = "catalog"

    class Egg(models.Model):
        hen = models.ForeignKey(Hen, models.CASCADE, null=True)

        class Meta:
            app_label = "catalog"

    class Seat(models.Model):
        pk = models.CompositePrimaryKey("row", "number")
        row = models.IntegerField()
        number = models.IntegerField()

        class Meta:
            app_label = "catalog"

    class Ticket(models.Model):
        row = models.IntegerField()
        number = models.IntegerField()
        seat = models.ForeignObject(
            Seat, models.CASCADE, from_fields=["row", "number"], to_fields=["row", "number"]
        )

        class Meta:
            app_label = "catalog"


PLACES: list[Any] = [Place, Restaurant, Cafe, Kiosk, Brand, Franchise, Chain, Branch, Review, Guide, Lease]
OWNED: list[Any] = [Owner, Hoped, Left, Bound, Noted]
MODELS: list[Any] = [Note, Node, *PLACES, *OWNED]


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
    """Another database, with the same tables; its content types have numbers of its own."""
    with second_database("elsewhere", ContentType, *MODELS):
        ContentType.objects.using("elsewhere").create(pk=10_000, app_label="catalog", model="nothing")
        yield "elsewhere"
    ContentType.objects.clear_cache()


class WrittenElsewhere:
    """A router whose reads are of the default database."""

    def db_for_read(self, model: Any, **_: Any) -> str:
        return "default"

    def db_for_write(self, model: Any, **_: Any) -> str:
        return "elsewhere"


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

    @pytest.mark.parametrize("rows", ["Node", "Cafe", "Place"])
    def test_go_from_the_database_that_is_written_to_where_their_rows_name_none(
        self, elsewhere: str, settings: Settings, rows: str
    ) -> None:
        """A replica would refuse, or lose what its primary keeps."""
        for using in ("default", elsewhere):
            root = Node._base_manager.using(using).create(pk=7, code="root")
            Node._base_manager.using(using).create(code="leaf", parent=root)
            cafe = Cafe._base_manager.using(using).create(pk=7)
            own = ContentType.objects.db_manager(using).get_for_model(Place)
            Note._base_manager.using(using).create(about_type=own, about_id=cafe.pk)
        settings.DATABASE_ROUTERS = [f"{__name__}.WrittenElsewhere"]
        model = next(each for each in MODELS if each.__name__ == rows)
        assert cascades.delete(model._base_manager.filter(pk=7)) == (2 if rows == "Node" else 1)
        gone = [Node] if rows == "Node" else [Cafe, Restaurant, Place, Note]
        assert not any(each._base_manager.using(elsewhere).exists() for each in gone)
        assert all(each._base_manager.using("default").exists() for each in gone)


class TestRelations:
    def test_are_followed_to_rows_of_several_tables(self) -> None:
        gone, left = Chain._base_manager.create(), Chain._base_manager.create()
        for chain in (gone, left):
            Branch._base_manager.create(of=chain)
        assert delete(Chain._base_manager.filter(pk=gone.pk)) == 1
        assert [each._base_manager.count() for each in (Branch, Place)] == [1, 1]

    def test_of_many_to_many_end_and_their_rows_stay(self) -> None:
        gone, left = Place._base_manager.create(), Place._base_manager.create()
        guide = Guide._base_manager.create()
        guide.places.set([gone, left])
        assert delete(Place._base_manager.filter(pk=gone.pk)) == 1
        assert list(guide.places.all()) == [left]
        assert delete(Guide._base_manager.all()) == 1
        assert Place._base_manager.count() == 1

    @pytest.mark.parametrize("model", [Place, Cafe])
    def test_that_protect_leave_everything_as_it_was_without_a_transaction_too(self, model: Any) -> None:
        free, leased = Cafe._base_manager.create(), Cafe._base_manager.create()
        for place in (free, leased):
            Review._base_manager.create(place_id=place.pk)
        Lease._base_manager.create(place_id=leased.pk)
        with pytest.raises(ProtectedError):
            cascades.delete(model._base_manager.all())
        assert [each._base_manager.count() for each in (Place, Restaurant, Cafe, Review)] == [2, 2, 2, 2]

    def test_that_protect_leave_another_database_as_it_was(self, elsewhere: str) -> None:
        cafe = Cafe._base_manager.using(elsewhere).create()
        Lease._base_manager.using(elsewhere).create(place_id=cafe.pk)
        with pytest.raises(ProtectedError):
            cascades.delete(Cafe._base_manager.using(elsewhere).all())
        assert Cafe._base_manager.using(elsewhere).exists()

    def test_are_ended_or_changed_or_left_as_they_say(self) -> None:
        default, gone = Owner._base_manager.create(pk=1), Owner._base_manager.create(pk=2)
        for owner in (default, gone):
            Hoped._base_manager.create(by=owner)
            Left._base_manager.create(to=owner)
            Noted._base_manager.create(of=owner)
        assert delete(Owner._base_manager.filter(pk=gone.pk)) == 1
        assert list(Hoped._base_manager.order_by("pk").values_list("by", flat=True)) == [1, None]
        assert list(Left._base_manager.values_list("to", flat=True)) == [1, 1]
        assert list(Noted._base_manager.order_by("pk").values_list("of", flat=True)) == [1, 2]

    def test_that_restrict_or_protect_say_which_rows_are_in_the_way(self) -> None:
        free, owner = Owner._base_manager.create(), Owner._base_manager.create()
        bound = Bound._base_manager.create(to=owner)
        with pytest.raises(RestrictedError, match=r"catalog\.Bound\.to refers to them") as restricted:
            delete(Owner._base_manager.all())
        assert restricted.value.restricted_objects == {bound}
        lease = Lease._base_manager.create(place=Place._base_manager.create())
        with pytest.raises(ProtectedError, match=r"catalog\.Lease\.place refers to them") as protected:
            delete(Place._base_manager.all())
        assert protected.value.protected_objects == {lease}
        assert delete(Owner._base_manager.filter(pk=free.pk)) == 1

    def test_with_a_rule_of_their_own_are_refused_by_name(self) -> None:
        with pytest.raises(NotImplementedError, match=r"catalog\.Odd\.to has an on_delete of its own"):
            cascades.delete(Ruled._base_manager.all())

    def test_by_several_columns_are_refused_by_name(self) -> None:
        with pytest.raises(NotImplementedError, match=r"catalog\.Ticket\.seat refers by several columns"):
            cascades.delete(Seat._base_manager.all())

    @pytest.mark.parametrize("model", [Hen, Egg])
    def test_that_lead_back_to_themselves_are_refused_by_name(self, model: Any) -> None:
        with pytest.raises(NotImplementedError, match=r"catalog\.(Hen\.egg|Egg\.hen) leads back to itself"):
            cascades.delete(model._base_manager.all())

    @pytest.mark.parametrize(("model", "left"), [(Sight, 1), (Place, 2)])
    def test_by_the_type_of_a_proxy_are_those_of_its_own_deletion(self, model: Any, left: int) -> None:
        """As by Django's own deletion."""
        sight = Sight._base_manager.create()
        for of in (Sight, ContentType):
            own = ContentType.objects.get_for_model(of, for_concrete_model=False)
            Note._base_manager.create(about_type=own, about_id=sight.pk)
        assert delete(model._base_manager.all()) == 1
        assert Note._base_manager.count() == left


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


def test_no_selection_is_made_of_rows_whose_key_has_several_columns() -> None:
    with (
        pytest.raises(NotImplementedError, match=r"catalog\.Seat has a primary key of several columns"),
        hold(Seat._base_manager.all()),
    ):
        pass
