"""A replica may lag: what fills the cache is read from the primary, or not kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, router, transaction
from django.test import Client
from django.urls import path
from rest_framework import serializers, viewsets
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView
from second_database import second_database

from catalog.models import Tag
from keybits import bits
from keybits.constructors import DefaultObjectKeyConstructor, KeyConstructor
from keybits.drf import CacheResponseAndETAGMixin, cache_response_and_etag
from keybits.replicas import ReplicaRouter, filling


@pytest.fixture(autouse=True)
def _replicas(settings: Any) -> None:
    settings.KEYBITS_REPLICAS = ["replica"]


class TestRouter:
    def test_reads_go_to_a_replica(self) -> None:
        assert ReplicaRouter().db_for_read(Tag) == "replica"

    def test_reads_that_fill_the_cache_go_to_the_primary(self) -> None:
        with filling():
            assert ReplicaRouter().db_for_read(Tag) is None
        assert ReplicaRouter().db_for_read(Tag) == "replica"

    def test_where_there_is_no_replica_django_decides(self, settings: Any) -> None:
        settings.KEYBITS_REPLICAS = []
        assert ReplicaRouter().db_for_read(Tag) is None

    @pytest.mark.django_db(transaction=True)
    def test_reads_of_a_transaction_go_where_it_writes(self) -> None:
        with transaction.atomic():
            assert ReplicaRouter().db_for_read(Tag) is None
        assert ReplicaRouter().db_for_read(Tag) == "replica"

    def test_replicas_are_not_migrated(self) -> None:
        assert ReplicaRouter().allow_migrate("replica", "catalog") is False
        assert ReplicaRouter().allow_migrate("default", "catalog") is None

    def test_objects_of_a_replica_may_be_related_to_the_primary_s(self) -> None:
        one, other = Tag(), Tag()
        one._state.db, other._state.db = "default", "replica"
        assert ReplicaRouter().allow_relation(one, other) is True
        assert ReplicaRouter().allow_relation(other, one) is True
        one._state.db = other._state.db = "default"
        assert ReplicaRouter().allow_relation(one, other) is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lags", [True, False])
def test_a_fill_that_has_read_a_replica_all_the_same_is_not_kept(settings: Any, lags: bool) -> None:
    settings.KEYBITS_REPLICAS = [connection.alias] if lags else ["another"]

    class Key(KeyConstructor):
        updated_at = bits.UpdatedAtKeyBit("tags")

    class View(APIView):
        authentication_classes = ()

        @cache_response_and_etag(Key())
        def get(self, request: Any) -> Response:
            return Response({"tags": Tag.objects.count()})

    view = View.as_view()
    answers = [view(APIRequestFactory().get("/")) for _ in range(2)]
    hit = answers[1]["Cache-Status"] == "keybits; hit"
    assert hit is not lags


class EverywhereRouter:
    """As in Django's documentation: every read goes to the replica, whatever is done meanwhile."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True


class TagKey(DefaultObjectKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tag:{slug}")


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["slug", "name"]


class TagViewSet(CacheResponseAndETAGMixin, viewsets.ReadOnlyModelViewSet[Tag]):
    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    lookup_field = "slug"
    authentication_classes = ()
    object_cache_key_func = TagKey()


class StubbornViewSet(TagViewSet):
    queryset = Tag.objects.using("replica")


class EarlyViewSet(TagViewSet):
    """Shows what it has read before its handler."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.early = Tag.objects.get(slug="dark").name

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        return super().get_serializer(Tag(slug="dark", name=self.early))


ONE = {"get": "retrieve", "patch": "partial_update"}
urlpatterns = [
    path("tags/<slug:slug>/", TagViewSet.as_view(ONE)),
    path("early/<slug:slug>/", EarlyViewSet.as_view(ONE)),
    path("stubborn/<slug:slug>/", StubbornViewSet.as_view(ONE)),
]


@pytest.fixture
def replica(settings: Any) -> Iterator[Any]:
    """A database beside the primary, with a tag as it once was there."""
    settings.ROOT_URLCONF = __name__
    settings.DATABASE_ROUTERS = [f"{__name__}.EverywhereRouter"]
    with second_database("replica", Tag) as replica:
        for alias, name in (("default", "Of now"), ("replica", "Of before")):
            Tag.objects.using(alias).create(pk=1, slug="dark", name=name)
        yield replica


@pytest.mark.django_db(transaction=True)
def test_a_fill_reads_the_primary_whatever_router_there_is(replica: Any) -> None:
    shown = [Client().get("/tags/dark/") for _ in range(2)]
    assert {answer.json()["name"] for answer in shown} == {"Of now"}
    assert shown[1]["Cache-Status"] == "keybits; hit"


@pytest.mark.django_db(transaction=True)
def test_what_was_read_of_a_replica_before_the_handler_is_not_kept(
    replica: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """However long the stamps have been the present ones: the replica lags behind them."""
    shown = [Client().get("/early/dark/") for _ in range(3)]
    assert [answer.json()["name"] for answer in shown] == ["Of before"] * 3
    assert "EarlyViewSet is not kept" in caplog.text
    Tag.objects.using("replica").update(name="Of now")  # it has caught up
    assert Client().get("/early/dark/").json()["name"] == "Of now"


@pytest.mark.django_db(transaction=True)
def test_what_hangs_on_an_object_of_a_replica_is_read_from_the_primary_too(
    replica: Any, settings: Any
) -> None:
    settings.DATABASE_ROUTERS = ["keybits.replicas.ReplicaRouter"]
    tag = Tag.objects.using("replica").get()
    with filling():
        assert tag.screenshots.all().db == "default"


class ShardingRouter(EverywhereRouter):
    """Keeps what hangs on an object in the shard of that."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "shard" if hints.get("instance") else "default"


def test_where_a_row_is_written_is_asked_as_django_would_ask_it(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.ShardingRouter"]
    with filling():
        assert router.db_for_read(Tag, instance=Tag()) == "shard"
        assert router.db_for_read(Tag) == "default"


class ArchivingRouter(EverywhereRouter):
    """Reads what nobody changes any more elsewhere, which is no replica of the primary."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "archive"


def test_a_fill_reads_another_database_where_a_router_names_one(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.ArchivingRouter"]
    with filling():
        assert router.db_for_read(Tag) == "archive"


def patch(target: str, etag: str) -> Any:
    return Client().patch(target, '{"name": "New"}', "application/json", headers={"If-Match": etag})


def name() -> str:
    return Tag.objects.using("default").get(slug="dark").name


@pytest.mark.django_db(transaction=True)
class TestWrites:
    def test_are_judged_by_the_primary_whatever_router_there_is(self, replica: Any) -> None:
        before = Client().get("/stubborn/dark/")["ETag"]  # as the replica has it
        assert patch("/tags/dark/", before).status_code == 412
        assert name() == "Of now"

    def test_show_what_the_primary_has(self, replica: Any) -> None:
        response = patch("/tags/dark/", "*")
        assert (response.status_code, json.loads(response.content)["name"]) == (200, "New")

    def test_that_a_replica_had_a_part_in_are_refused_and_the_log_names_it(
        self, replica: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = patch("/stubborn/dark/", "*")
        assert response.status_code == 503
        assert response.json()["type"] == "urn:problem:replica-read"
        assert response["Retry-After"].isdecimal()  # as every 503 has it
        assert "replica" in caplog.text
        assert name() == "Of now"
