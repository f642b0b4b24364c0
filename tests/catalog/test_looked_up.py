"""How triggers find rows on PostgreSQL: by plans that are kept, made for one row while every table is nearly empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from catalog.models import Gallery, Screenshot, Tag

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]
OVER_STATEMENTS = """
    SELECT proname, relname, prosrc, proconfig, array_remove(ARRAY[tgoldtable, tgnewtable], NULL)::text[]
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_class ON pg_class.oid = tgrelid
    WHERE tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL
"""
Node = dict[str, Any]


@pytest.fixture(autouse=True)
def _one_row_of_each() -> None:
    gallery = Gallery.objects.create(slug="g", title="G")
    shot = Screenshot.objects.create(gallery=gallery, title="S", captured_at=timezone.now())
    shot.tags.add(Tag.objects.create(slug="t", name="t"))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")  # that the tables are small is known


def statements(source: str) -> Iterator[str]:
    """Yield the statements of a function, as they can be explained."""
    for statement in source.strip().removeprefix("BEGIN").split(";"):
        plain = statement.strip()
        if plain.startswith(("PERFORM", "WITH", "INSERT")):
            yield plain.replace("PERFORM", "SELECT", 1)


def explained(table: str, source: str, settings: list[str], rows: list[str]) -> Iterator[Node]:
    """Yield the plan of each statement of a function, with one row in each of its transition tables."""
    with transaction.atomic(), connection.cursor() as cursor:
        for name in rows:
            cursor.execute(f"CREATE TEMPORARY TABLE {name} AS SELECT * FROM {table} LIMIT 1")  # noqa: S608
            cursor.execute(f"ANALYZE {name}")
        for setting in settings:
            cursor.execute(f"SET LOCAL {setting}")
        for statement in statements(source):
            cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
            yield cursor.fetchone()[0][0]["Plan"]
        transaction.set_rollback(True)


def nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def looks_up(node: Node) -> bool:
    """Say whether a node reads no more than what it is given the keys of, or is a single row."""
    if node["Node Type"] == "Aggregate":
        return node["Strategy"] == "Plain"
    if "Scan" in node["Node Type"] and "Relation Name" in node:
        return "Index Cond" in node or "Recheck Cond" in node
    return len(node.get("Plans", ())) == 1 and looks_up(node["Plans"][0])


def compares(plan: Node, rows: list[str]) -> list[str]:
    """Name what would take each of many rows through each of many others, or through a whole table."""
    scans = [node for node in nodes(plan) if "Scan" in node["Node Type"] and "Relation Name" in node]
    loops = [node for node in nodes(plan) if node["Node Type"] == "Nested Loop"]
    return [
        *(
            node["Relation Name"]
            for node in scans
            if node["Relation Name"] not in rows and not looks_up(node)
        ),
        *(node.get("Join Filter", "a loop") for node in loops if not looks_up(node["Plans"][1])),
    ]


def test_no_trigger_compares_each_row_with_each_whatever_its_plan_was_made_for() -> None:
    with connection.cursor() as cursor:
        cursor.execute(OVER_STATEMENTS)
        functions = cursor.fetchall()
    assert len(functions) > 20
    found = {
        name: bad
        for name, table, source, settings, rows in functions
        for plan in explained(table, source, settings or [], rows)
        if (bad := compares(plan, rows))
    }
    assert found == {}
