"""Operations on a whole list, of any viewset: what a project has to say, and what it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import Settings
from rest_framework import serializers, viewsets
from rest_framework.throttling import BaseThrottle

from catalog.models import Tag
from keybits.bits import UpdatedAtKeyBit
from keybits.constructors import DefaultListKeyConstructor
from keybits.drf import ClosedQueryMixin, ListCacheResponseAndETAGMixin
from keybits.drf.bulk import BulkMixin, BulkTerms, RowsForbiddenError
from keybits.parameters import Parameter, Text
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)
KIND = Text(name="kind", longest=10)


class TagListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit("tags")


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["slug", "name"]


class TagViewSet(  # type: ignore[misc]  # a mixin that counts on what comes after it
    ClosedQueryMixin, ListCacheResponseAndETAGMixin, BulkMixin, viewsets.ReadOnlyModelViewSet[Tag]
):
    """Says what there is by `get_queryset` alone."""

    serializer_class = TagSerializer
    pagination_class = None
    filter_backends = []
    permission_classes = []
    bulk_filters = (KIND,)
    list_cache_key_func = TagListKey()
    slugs: tuple[str, ...] = ()

    def get_query_parameters(self) -> list[Parameter]:
        own = self.get_bulk_parameters() if self.is_bulk else [KIND]
        return [*super().get_query_parameters(), *own]

    def get_queryset(self) -> QuerySet[Tag]:
        rows = Tag.objects.order_by("slug")
        kind = self.query.get("kind")
        rows = rows.filter(kind=kind) if kind else rows
        return rows.filter(slug__in=self.slugs) if self.slugs else rows

    def update_rows(self, rows: QuerySet[Tag], terms: BulkTerms) -> dict[str, Any]:
        count = rows.count() if terms.is_dry else rows.order_by().update(**self.request.data)
        return {"dry_run": terms.is_dry, "count": count}


MAPPING = {"get": "list", "patch": "partial_update_bulk"}
urlpatterns = [
    path("tags/", TagViewSet.as_view(MAPPING)),
    path("some/", TagViewSet.as_view(MAPPING, slugs=("a",))),
]


@pytest.fixture(autouse=True)
def _project(settings: Settings) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    for slug in "ab":
        Tag.objects.create(slug=slug, name=slug.upper())
    yield
    get_store().clear()


def patch(url: str, **headers: str) -> Any:
    named = {"X-BULK-OPERATION": "true", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Client().generic("PATCH", url, json.dumps({"name": "New"}), "application/json", headers=named)


@pytest.mark.parametrize(("url", "count"), [("/tags/", 2), ("/some/", 1)])
def test_changes_what_the_list_shows_on_condition_that_it_is_the_one_that_was_seen(
    url: str, count: int
) -> None:
    etag = Client().get(f"{url}?kind=topic")["ETag"]
    assert patch(f"{url}?kind=topic", If_Match='"other"').status_code == 412
    response = patch(f"{url}?kind=topic", If_Match=etag)
    assert (response.status_code, response.json()) == (200, {"dry_run": False, "count": count})
    assert Tag.objects.filter(name="New").count() == count


@pytest.mark.parametrize("condition", [{}, {"If_Match": "*"}, {"If_Match": '"other"'}])
def test_counts_once_however_often_it_looks_at_the_list(
    monkeypatch: pytest.MonkeyPatch, condition: dict[str, str]
) -> None:
    asked: list[str | None] = []

    class Counting(BaseThrottle):
        def allow_request(self, request: Any, view: Any) -> bool:
            asked.append(request.method)
            return True

    monkeypatch.setattr(TagViewSet, "throttle_classes", [Counting])
    patch("/tags/?all=true", **condition)
    assert asked == ["PATCH"]


@pytest.mark.parametrize("error", [IntegrityError, DataError])
def test_that_the_database_refuses_can_be_sent_again(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """The rows were looked at before: what is wrong with them now, another has written meanwhile."""

    def overtaken(self: Any, rows: QuerySet[Tag], terms: BulkTerms) -> dict[str, Any]:
        rows.update(name="New")
        raise error

    monkeypatch.setattr(TagViewSet, "update_rows", overtaken)
    response = patch("/tags/?all=true")
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert response.json()["type"] == "urn:problem:busy"
    assert not Tag.objects.filter(name="New").exists()


def test_that_is_refused_anyway_locks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Any, rows: QuerySet[Tag], terms: BulkTerms) -> dict[str, Any]:
        raise RowsForbiddenError(rows.count())

    monkeypatch.setattr(TagViewSet, "update_rows", refused)
    with CaptureQueriesContext(connection) as queries:
        assert patch("/tags/?all=true", If_Match="*").status_code == 403
    assert not [query["sql"] for query in queries if "keybits_held" in query["sql"]]
