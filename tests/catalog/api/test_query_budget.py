"""At most four statements for any list, whatever is combined."""

from __future__ import annotations

from itertools import combinations

import pytest

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
PAGES = ("page_size=2", "page=1", "limit=2")


@pytest.fixture
def world(fresh_world):
    return fresh_world


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("path", LISTS)
def test_any_three_filters_with_everything_embedded(api, world, count_queries, path, page):
    for filters in combinations(FILTERS, 3):
        if sum(one.startswith("tag=") for one in filters) > 1 or (
            "gallery=spring" in filters and path.startswith("/galleries")
        ):
            continue
        target = f"{path}?{'&'.join(filters)}&{page}&include=gallery,renditions"
        with count_queries() as queries:
            assert api(target).status_code == 200, target
        assert len(queries) <= MOST, (target, [query["sql"] for query in queries])
