"""At most four statements for any list, whatever is combined."""

from __future__ import annotations

from itertools import combinations

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db(transaction=True)
MOST = 4
FILTERS = (
    "tag=dark",
    "tag=dark&tag=chart",
    "gallery=spring",
    "domain=one.example",
    "min_width=1",
    "min_height=1",
    "orientation=landscape",
    "status=ready",
    "search=cat",
    "ids=1,2,3",
    "captured_after=2020-01-01",
)
LISTS = ("/screenshots/", "/galleries/spring/screenshots/", "/tags/dark/screenshots/")
PAGES = ("page_size=2", "page=1", "limit=2", "page_size=2&ordering=title", "page=1&ordering=-title")


@pytest.fixture
def world(fresh_world):
    return fresh_world


@pytest.mark.stack("embedded")  # SQLite is asked no less than the other: it may search along an order
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("path", LISTS)
def test_any_filters_with_everything_embedded(api, world, count_queries, path, page):
    """Any three of them on the page that most ask for, any two on the others."""
    for filters in combinations(FILTERS, 3 if page == PAGES[0] else 2):
        if sum(one.startswith("tag=") for one in filters) > 1 or (
            "gallery=spring" in filters and path.startswith("/galleries")
        ):
            continue
        target = f"{path}?{'&'.join(filters)}&{page}&include=gallery,renditions"
        with count_queries() as queries:
            assert api(target).status_code == 200, target
        assert len(queries) <= MOST, (target, [query["sql"] for query in queries])


@pytest.mark.stack("embedded")
class TestFoundAlongTheOrder:
    """SQLite does not sort the many rows of one value for a page in an order that has an index of its own."""

    MANY = ("domain=one.example", "orientation=landscape", "status=ready", "captured_after=2020-01-01")

    @pytest.fixture(autouse=True)
    def _many(self, monkeypatch, world):
        """Rows count as many, and SQLite knows nothing of the few that there are, nor of another test's."""
        monkeypatch.setattr("catalog.api.filters.MANY", 0)
        with connection.cursor() as cursor:
            for statement in ("ANALYZE", "DELETE FROM sqlite_stat1", "ANALYZE sqlite_schema"):
                cursor.execute(statement)

    @pytest.mark.parametrize("query", MANY)
    def test_rows_that_are_many_are_not_sorted(self, api, world, count_queries, query):
        plan = page_plan(api, count_queries, f"/screenshots/?{query}&ordering=title&page_size=1")
        assert "screenshot_by_title" in plan
        assert "TEMP B-TREE FOR ORDER" not in plan

    @pytest.mark.parametrize("query", ["domain=none.example", "captured_after=2090-01-01"])
    def test_rows_that_are_few_are_found_by_their_index(self, api, world, count_queries, query):
        assert "SEARCH catalog_screenshot " in page_plan(
            api, count_queries, f"/screenshots/?{query}&ordering=title&page_size=1"
        )

    @pytest.mark.parametrize("ordering", ["title", "-created_at", "captured_at"])
    @pytest.mark.parametrize("query", [*MANY, "&".join(MANY)])
    def test_the_page_is_the_same_either_way(self, api, world, monkeypatch, query, ordering):
        target = f"/screenshots/?{query}&ordering={ordering}"
        found = api.ids(f"{target}&page_size=max")
        monkeypatch.setattr("catalog.api.filters.MANY", 50_000)
        assert api.ids(f"{target}&page_size=99") == found != []


def page_plan(api, count_queries, target):
    """Return SQLite's plan of the statement that reads the page."""
    with count_queries() as queries:
        api.read(target)
    page = [each["sql"] for each in queries if "ORDER BY" in each["sql"] and "LIMIT 2" in each["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {page[-1]}")
        return "\n".join(row[3] for row in cursor.fetchall())
