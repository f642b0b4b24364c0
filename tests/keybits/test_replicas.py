"""A replica may lag: what fills the cache is read from the primary, or not kept."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from catalog.models import Tag
from keybits import bits
from keybits.constructors import KeyConstructor
from keybits.drf import cache_response_and_etag
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
