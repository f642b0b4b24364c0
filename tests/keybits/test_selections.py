"""Selections of the same rows never deadlock, in whatever order the database finds them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import connection, transaction
from stacks.threads import PATIENCE, aside, eventually

from catalog.models import Tag
from keybits.selections import hold, lock

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]  # SQLite has no row locks

PLANS = {"by an index": "enable_seqscan", "as they lie": "enable_indexscan"}
"""What keeps PostgreSQL from finding rows in the other way."""


def held(rows: Any) -> None:
    with hold(rows):
        pass


def found(plan: str, select: Callable[[Any], None]) -> None:
    """Select all tags, which are found by such a plan."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            for each in (PLANS[plan], "enable_bitmapscan"):
                cursor.execute(f"SET LOCAL {each} = off")
        select(Tag.objects.order_by().filter(slug__gte="a"))


def order(plan: str) -> list[str]:
    """Return the slugs as such a plan finds them."""
    slugs: list[str] = []
    found(plan, lambda rows: slugs.extend(rows.values_list("slug", flat=True)))
    return slugs


def all_wait(others: list[Future[Any]]) -> bool:
    assert not any(other.done() for other in others)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone() == (len(others),))


@pytest.mark.parametrize("select", [held, lock])
def test_two_selections_lock_in_one_order_though_their_rows_are_found_in_opposite_ones(
    select: Callable[[Any], None],
) -> None:
    for slug in "zyx":
        Tag.objects.create(slug=slug, name=slug)
    assert [order(plan) for plan in PLANS] == [["x", "y", "z"], ["z", "y", "x"]]
    with transaction.atomic():
        Tag.objects.select_for_update().get(slug="y")  # where both come by
        others = [aside(lambda plan=plan: found(plan, select)) for plan in PLANS]  # type: ignore[misc]
        eventually(lambda: all_wait(others))
    assert [other.result(PATIENCE) for other in others] == [None, None]
