"""Lists under a parent: 404 where the parent is not there, whatever the URL holds."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import Settings
from rest_framework import serializers, viewsets
from rest_framework.pagination import PageNumberPagination

from catalog.models import Gallery, Screenshot
from keybits.drf import NestedViewSetMixin

pytestmark = pytest.mark.django_db


class Pages(PageNumberPagination):
    page_size = 2


class ScreenshotSerializer(serializers.ModelSerializer[Screenshot]):
    class Meta:
        model = Screenshot
        fields = ["title"]


class Nested(NestedViewSetMixin, viewsets.ReadOnlyModelViewSet[Screenshot]):  # type: ignore[misc]
    queryset = Screenshot.objects.order_by("id")
    serializer_class = ScreenshotSerializer
    pagination_class = Pages
    filter_backends = []


class OfGallery(Nested):
    def get_parent_queryset(self) -> QuerySet[Gallery]:
        return Gallery.objects.reachable_by(None).filter(slug=self.kwargs["parent_lookup_gallery__slug"])


class OfGalleryById(Nested):
    def get_parent_queryset(self) -> QuerySet[Gallery]:
        return Gallery.objects.filter(pk=self.kwargs["parent_lookup_gallery"])


class OfCode(Nested):
    """Its parent lookup ends in `_code`, which drf-extensions takes for a UUID."""

    def get_parent_queryset(self) -> QuerySet[Screenshot]:
        return Screenshot.objects.filter(error_code=self.kwargs["parent_lookup_error_code"])


class Unpaged(OfGallery):
    pagination_class = None  # type: ignore[assignment]


class Parentless(Nested):
    """Forgets to say who its parent is."""


class UnpagedTop(Parentless):
    pagination_class = None  # type: ignore[assignment]


class InAnyCase(OfGallery):
    """Its parent lookup ends in no field."""

    def get_parent_queryset(self) -> QuerySet[Gallery]:
        return Gallery.objects.filter(slug__iexact=self.kwargs["parent_lookup_gallery__slug__iexact"])


LIST: dict[str, Any] = {"get": "list"}
DETAIL: dict[str, Any] = {"get": "retrieve"}
urlpatterns = [
    path("galleries/<str:parent_lookup_gallery__slug>/", OfGallery.as_view(LIST)),
    path("galleries/<str:parent_lookup_gallery__slug>/<int:pk>/", OfGallery.as_view(DETAIL)),
    path("ids/<str:parent_lookup_gallery>/", OfGalleryById.as_view(LIST)),
    path("numbers/<int:parent_lookup_gallery>/", OfGalleryById.as_view(LIST)),
    path("any-case/<str:parent_lookup_gallery__slug__iexact>/", InAnyCase.as_view(LIST)),
    path("moments/<str:parent_lookup_captured_at>/", OfCode.as_view(LIST)),
    path("codes/<str:parent_lookup_error_code>/", OfCode.as_view(LIST)),
    path("unpaged/<str:parent_lookup_gallery__slug>/", Unpaged.as_view(LIST)),
    path("top/", Parentless.as_view(LIST)),
    path("unpaged-top/", UnpagedTop.as_view(LIST)),
    path("parentless/<str:parent_lookup_gallery__slug>/", Parentless.as_view(LIST)),
]
handler404 = "keybits.problems.not_found"


@pytest.fixture(autouse=True)
def _routes(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.fixture(autouse=True)
def spring() -> Gallery:
    """A gallery with a screenshot, beside an empty one and a private one."""
    Gallery.objects.create(slug="empty", title="Empty")
    private = Gallery.objects.create(slug="private", title="Private", visibility="private")
    spring = Gallery.objects.create(slug="spring", title="Spring")
    Screenshot.objects.create(gallery=spring, title="One", error_code="timeout")
    Screenshot.objects.create(gallery=private, title="Hidden", error_code="dns")
    return spring


def get(url: str) -> Any:
    return Client().get(url)


def titles(url: str) -> list[str]:
    answer = get(url)
    assert answer.status_code == 200
    found = answer.json()
    return [item["title"] for item in (found if isinstance(found, list) else found["results"])]


class TestParents:
    def test_a_list_holds_the_parent_s_own(self, spring: Gallery) -> None:
        assert titles("/galleries/spring/") == titles(f"/ids/{spring.pk}/") == ["One"]

    @pytest.mark.parametrize("url", ["/top/", "/unpaged-top/"])
    def test_are_not_asked_for_where_the_url_names_none(self, url: str) -> None:
        """drf-extensions' documents give the mixin to the viewset at the top, too."""
        assert len(titles(url)) == 2
        Screenshot.objects.all().delete()
        assert titles(url) == []

    def test_of_a_lookup_or_a_converted_number_are_found(self, spring: Gallery) -> None:
        assert titles("/any-case/SPRING/") == titles(f"/numbers/{spring.pk}/") == ["One"]

    def test_a_parent_without_any_has_an_empty_list(self) -> None:
        assert titles("/galleries/empty/") == []

    @pytest.mark.parametrize("slug", ["missing", "Spring", "spring%20", "%27"])
    def test_a_missing_parent_is_404(self, slug: str) -> None:
        answer = get(f"/galleries/{slug}/")
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")

    def test_an_invisible_parent_is_404(self) -> None:
        Screenshot.objects.filter(title="Hidden").delete()
        assert get("/galleries/private/").status_code == 404

    @pytest.mark.parametrize("slug", ["missing", "empty", "private"])
    def test_an_object_under_another_parent_is_404(self, slug: str, spring: Gallery) -> None:
        pk = spring.screenshots.get().pk
        assert get(f"/galleries/spring/{pk}/").status_code == 200
        assert get(f"/galleries/{slug}/{pk}/").status_code == 404

    def test_only_an_empty_page_costs_a_query_more(self) -> None:
        counts = []
        for slug in ("spring", "empty"):
            with CaptureQueriesContext(connection) as queries:
                get(f"/galleries/{slug}/")
            counts.append(sum('FROM "catalog_gallery"' in query["sql"] for query in queries))
        assert counts == [0, 1]

    @pytest.mark.parametrize(("slug", "status"), [("spring", 200), ("empty", 200), ("missing", 404)])
    def test_lists_without_pages_too(self, slug: str, status: int) -> None:
        assert get(f"/unpaged/{slug}/").status_code == status
        assert status == 404 or titles(f"/unpaged/{slug}/") == titles(f"/galleries/{slug}/")

    def test_a_view_that_does_not_say_who_its_parent_is_is_told_how(self) -> None:
        with pytest.raises(
            NotImplementedError, match=r"Parentless is nested: define get_parent_queryset\(\)"
        ):
            get("/parentless/missing/")


class TestLookups:
    @pytest.mark.parametrize(("code", "expected"), [("timeout", ["One"]), ("dns", ["Hidden"])])
    def test_a_code_need_not_be_a_uuid(self, code: str, expected: list[str]) -> None:
        assert titles(f"/codes/{code}/") == expected

    @pytest.mark.parametrize("moment", ["2026-02-30", "yesterday"])
    def test_a_moment_that_is_none_is_404(self, moment: str) -> None:
        assert get(f"/moments/{moment}/").status_code == 404

    def test_a_code_that_is_not_there_is_404(self) -> None:
        assert get("/codes/8d0b5bcd-5f0e-4a3c-a1a1-4b9c1a2b3c4d/").status_code == 404


class TestValuesThatTheFieldCannotHold:
    @pytest.mark.parametrize("value", ["x", "1.5", "-1", "0", "nan", "1e3", "1 2", "None", "9" * 5000])
    def test_a_number_that_is_none_is_404(self, value: str) -> None:
        assert get(f"/ids/{quote(value)}/").status_code == 404

    @pytest.mark.parametrize("value", [str(2**63), "9" * 40])
    @pytest.mark.parametrize("written", ["{}", "-{}0", "+{}", "%20{}", "1_{}"])
    def test_so_is_one_that_is_too_large_however_it_is_written(self, value: str, written: str) -> None:
        """Python reads all of these, and SQLite's driver refuses numbers of more than 64 bits."""
        assert get(f"/ids/{written.format(value)}/").status_code == 404

    @pytest.mark.parametrize("slug", ["20261231235959123456", str(2**63), "9" * 40])
    def test_text_of_many_digits_is_no_number(self, slug: str) -> None:
        Gallery.objects.filter(slug="empty").update(slug=slug)
        assert titles(f"/galleries/{slug}/") == []

    @pytest.mark.parametrize("value", ["x" * 1000, "\u2028", "'; --", "%", "\U0001f5bc"])
    def test_text_that_no_row_has_is_404(self, value: str) -> None:
        assert get(f"/galleries/{quote(value)}/").status_code == 404

    def test_neither_has_any_row_a_nul(self) -> None:
        """PostgreSQL's text cannot hold one."""
        assert get("/galleries/a%00b/").status_code == 404
