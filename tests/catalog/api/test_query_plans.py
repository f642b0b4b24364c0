"""Every list, in every order and with every filter, is answered from an index: no table is read whole for a page."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from benchmarks import query_plans
from benchmarks.query_plans import FILTERS, GALLERY, ORDERINGS, SCREENSHOTS, TAG, Api, Case, explain
from catalog.api import filters

pytestmark = pytest.mark.django_db

ROWS = 30_000
NESTED = {
    f"{name}, {order}": f"{path}?ordering={order}"
    for name, path in {"gallery": GALLERY, "tag": TAG}.items()
    for order in (*ORDERINGS, *(("position", "-position") if path == GALLERY else ()))
}
PAGES = {
    **{
        f"{name}, {order}": f"{SCREENSHOTS}?{query}&ordering={order}"
        for name, query in FILTERS.items()
        for order in ORDERINGS
    },
    **NESTED,
}

CREATED = ("-created_at", "created_at", "-updated_at", "updated_at")
KNOWN = {
    "sqlite": {
        # Captures and creation go together, which no statistics tell: along the one there may be none of the other.
        *(f"captured range, one year, {order}" for order in CREATED),
        # FTS5 has its own order: what it finds is sorted.
        *(f"{name}, {order}" for name in ("search, frequent", "search and tag") for order in ORDERINGS),
        # Of so few rows it is soon found along any order.
        *(f"tag, rare, {order}" for order in ORDERINGS),
    },
    "postgresql": {
        *(f"captured range, one year, {order}" for order in CREATED),
        # The planner takes titles in their order to words, one by one, rather than sort what the index finds.
        *(f"search and tag, {order}" for order in ("title", "-title")),
    },
}
"""What is read or sorted at length nevertheless, and why."""


@pytest.fixture(scope="module")
def _seeded(django_db_setup, django_db_blocker):
    """So many rows that a table read whole stands out, and the planner's statistics of them; never committed.

    To delete them again one by one, past all triggers, takes SQLite as long as to make them.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        call_command("seed", screenshots=ROWS, galleries=600, quiet=True)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        yield
        transaction.set_rollback(True)


@pytest.fixture
def api(_seeded, monkeypatch):
    """The API past its cache, with what is few and many in proportion to the rows."""
    monkeypatch.setattr(filters, "FEW", filters.FEW * ROWS // 1_000_000)
    monkeypatch.setattr(filters, "MANY", filters.MANY * ROWS // 1_000_000)
    monkeypatch.setattr(query_plans, "MANY_ROWS", ROWS // 5)
    monkeypatch.setattr(query_plans, "MANY_STEPS", ROWS * 2)
    monkeypatch.setattr(query_plans, "MEASURED", 1)
    return Api()


def test_no_page_reads_a_table_whole_or_sorts_much_of_it(api):
    results = {name: explain(Case(name, address), api) for name, address in PAGES.items()}
    flagged = {name: result.flags for name, result in results.items() if result.flags}
    assert {name: flags for name, flags in flagged.items() if name not in KNOWN[connection.vendor]} == {}


@pytest.mark.parametrize("sql", ["ORDER BY alt", "WHERE alt = 'none'"])
def test_a_table_that_is_read_whole_would_be_noticed(api, sql):
    plan = query_plans._sqlite_plan if connection.vendor == "sqlite" else query_plans._postgresql_plan
    assert plan(f"SELECT id, alt || '!' FROM catalog_screenshot {sql} LIMIT 24", ()).flags  # noqa: S608 - constants
