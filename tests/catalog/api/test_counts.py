"""A list says how many items it has as it is asked to: exactly, about, or not; and says which of these it did."""

from __future__ import annotations

import pytest
from django.db import connection

from catalog.api import counts
from catalog.models import Screenshot

pytestmark = pytest.mark.django_db

LISTS = {
    "/screenshots/": 7,
    "/screenshots/?tag=dark": None,
    "/galleries/spring/screenshots/": 5,
    "/tags/dark/screenshots/": None,
    "/galleries/": None,
    "/tags/": None,
    "/screenshots/{cat}/renditions/": None,
}
WAYS = ("page_size=2", "page=1&page_size=2", "limit=2", "limit=2&offset=0")


def with_query(target, query):
    """Return `target` with more parameters."""
    return f"{target}{'&' if '?' in target else '?'}{query}"


@pytest.fixture
def near(monkeypatch):
    """Have an estimate begin to guess after three items."""
    monkeypatch.setattr(counts, "FAR", 3)


@pytest.fixture
def planned():
    """Give PostgreSQL's planner its statistics; SQLite is asked for none."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


class TestKinds:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("path", LISTS)
    def test_exact_is_the_number_of_items_whichever_way_they_are_read(self, api, world, path, way):
        target = world.at(path)
        everything = api.ids(with_query(target, "page_size=max"))
        page = api.read(with_query(target, f"{way}&count=exact"))
        assert (page["count"], page["count_is"]) == (len(everything), "exact")
        assert LISTS[path] in {None, page["count"]}

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("path", LISTS)
    def test_an_estimate_of_few_items_is_exact(self, api, world, path, way):
        target = world.at(path)
        everything = api.ids(with_query(target, "page_size=max"))
        page = api.read(with_query(target, f"{way}&count=estimated"))
        assert (page["count"], page["count_is"]) == (len(everything), "exact")

    @pytest.mark.parametrize("way", WAYS)
    def test_none_is_no_count_and_counts_nothing(self, api, world, count_queries, way):
        with count_queries() as queries:
            page = api.read(f"/screenshots/?{way}&count=none")
        assert set(page) == {"next", "previous", "results"}
        assert not [query for query in queries if "COUNT(" in query["sql"]]

    @pytest.mark.parametrize("way", WAYS)
    def test_without_the_parameter_numbers_are_counted_and_cursors_are_not(self, api, world, way):
        page = api.read(f"/screenshots/?{way}")
        assert page.get("count") == (7 if way != WAYS[0] else None)
        assert "count_is" not in page

    def test_another_kind_is_refused_with_those_there_are(self, api, world):
        response = api("/screenshots/?count=exactly")
        assert response.status_code == 400
        assert response.json()["allowed"] == ["exact", "estimated", "none"]
        assert response.json()["suggestion"] == "exact"


@pytest.mark.usefixtures("near", "planned")
class TestEstimates:
    @pytest.mark.stack("embedded")
    @pytest.mark.parametrize("way", WAYS)
    def test_sqlite_says_that_there_are_so_many_at_least(self, api, world, way):
        page = api.read(f"/screenshots/?{way}&count=estimated")
        assert (page["count"], page["count_is"]) == (3, "at least")

    @pytest.mark.stack("server")
    @pytest.mark.parametrize("way", WAYS)
    def test_postgresql_gives_what_its_planner_expects_and_no_less_than_was_counted(self, api, world, way):
        Screenshot.objects.filter(gallery__slug="spring").update(title="One title")
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        page = api.read(f"/screenshots/?{way}&count=estimated")
        assert page["count_is"] == "estimated"
        assert 3 < page["count"] <= 2 * Screenshot.objects.count()

    @pytest.mark.stack("server")
    def test_a_plan_for_fewer_than_were_counted_is_no_estimate(self, api, world, monkeypatch):
        monkeypatch.setattr(counts, "_planned", lambda rows: 2)
        page = api.read("/screenshots/?page_size=2&count=estimated")
        assert (page["count"], page["count_is"]) == (3, "at least")

    @pytest.mark.parametrize("way", WAYS)
    def test_no_more_rows_are_counted_than_tell_that_there_are_many(self, api, world, count_queries, way):
        with count_queries() as queries:
            api.read(f"/screenshots/?{way}&count=estimated")
        [counting] = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
        assert "LIMIT 4)" in counting

    def test_what_the_page_tells_anyway_is_exact_and_not_counted(self, api, world, count_queries):
        for way in ("page_size=max", "page=4&page_size=2", "limit=3&offset=6"):
            with count_queries() as queries:
                page = api.read(f"/screenshots/?{way}&count=estimated")
            assert (page["count"], page["count_is"]) == (7, "exact"), way
            assert not [query for query in queries if "COUNT(" in query["sql"]], way

    @pytest.mark.parametrize("path", ["/screenshots/?tag=dark", "/tags/dark/screenshots/?min_width=1"])
    def test_no_estimate_takes_more_than_six_statements(self, api, world, count_queries, path):
        with count_queries() as queries:
            api.read(f"{path}&page_size=1&include=gallery,renditions&count=estimated")
        asked = [query["sql"] for query in queries if "catalog_" in query["sql"]]
        assert len(asked) <= 6, asked

    @pytest.mark.parametrize(
        ("number", "shown"),
        [(987_654, 990_000), (10_500, 10_000), (95, 95), (1, 1), (0, 0), (1_000_000, 1_000_000)],
    )
    def test_a_guess_has_no_more_digits_than_it_is_worth(self, number, shown):
        assert counts._rounded(number) == shown


class TestWalking:
    @pytest.mark.parametrize("kind", ["exact", "estimated", "none"])
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("path", ["/screenshots/", "/galleries/spring/screenshots/", "/galleries/"])
    def test_pages_are_the_same_whatever_is_counted(self, api, world, path, way, kind):
        plain = api.walk(f"{path}?{way}")
        pages = api.walk(f"{path}?{way}&count={kind}")
        assert [page["results"] for page in pages] == [page["results"] for page in plain]
        assert all(f"count={kind}" in page["next"] for page in pages[:-1])
        assert [bool(page["previous"]) for page in pages] == [bool(page["previous"]) for page in plain]

    @pytest.mark.parametrize("kind", ["exact", "estimated"])
    @pytest.mark.parametrize("way", WAYS)
    def test_every_page_tells_the_same_count_forwards_and_back(self, api, world, way, kind):
        pages = api.walk(f"/screenshots/?{way}&count={kind}")
        back = api.walk(pages[-1]["previous"], "previous")
        assert len(pages) == len(back) + 1 == 4
        assert {(page["count"], page["count_is"]) for page in (*pages, *back)} == {(7, "exact")}

    def test_a_page_beyond_the_end_is_none_though_nothing_is_counted(self, api, world):
        assert api("/screenshots/?page=5&page_size=2&count=none").status_code == 404
        assert api("/screenshots/?page=4&page_size=2&count=none").status_code == 200
        assert api.read("/tags/idle/screenshots/?page=1&count=none")["results"] == []

    def test_an_offset_beyond_the_end_is_an_empty_page_whose_list_is_counted(self, api, world):
        page = api.read("/screenshots/?limit=2&offset=50&count=estimated")
        assert (page["results"], page["count"], page["next"]) == ([], 7, None)

    @pytest.mark.parametrize("kind", ["none", "estimated"])
    def test_offsets_end_in_a_cursor_that_goes_on_from_the_same_row(self, api, world, monkeypatch, kind):
        monkeypatch.setattr("catalog.api.pagination.DEEPEST_OFFSET", 2)
        pages = api.walk(f"/screenshots/?limit=2&count={kind}")
        assert [item["id"] for page in pages for item in page["results"]] == api.ids("/screenshots/")


class TestVisibility:
    def test_each_client_has_the_count_of_its_own_list(self, api, as_owner, world):
        mine, theirs = (
            client.read("/screenshots/?page_size=1&count=estimated")["count"] for client in (as_owner, api)
        )
        assert mine > theirs
