"""What triggers do for many rows, on a connection that has planned it for one row of nearly empty tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from catalog.models import Gallery, Screenshot, Tag
from keybits import cascades

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]
MANY = 1_000
STEPS = 100
"""Rows that all steps of all plans may yield together for each row that is written: twice what they do."""
EXPLAINED = {
    "log_min_duration": "0",
    "log_analyze": "on",
    "log_timing": "off",
    "log_nested_statements": "on",
    "log_format": "json",
    "log_level": "notice",
}
Change = Callable[[], Any]


class Kept:
    """A connection on which one row of each kind has been written before, and what its plans have read since."""

    def __init__(self) -> None:
        self.gallery = Gallery.objects.create(slug="g", title="G")
        self.other = Gallery.objects.create(slug="h", title="H")
        self.tag = Tag.objects.create(slug="t", name="t")
        self.read = 0

    def changes(self, count: int) -> dict[str, Change]:
        """Return what changes so many rows, in order."""
        return {
            "deleted at first": self.deleted,
            "made": partial(self.screenshots, count),
            "tagged": self.tags,
            "renamed": self.renamed,
            "moved": self.moved,
            "untagged": self.untagged,
            "tagged again": self.tags,
            "deleted with tags": self.deleted,
        }

    def screenshots(self, count: int) -> None:
        rows = [
            Screenshot(gallery=self.gallery, title=str(number), captured_at=timezone.now())
            for number in range(count)
        ]
        Screenshot.objects.bulk_create(rows)

    def tags(self) -> None:
        through = Screenshot.tags.through
        keys = Screenshot.objects.values_list("pk", flat=True)
        through.objects.bulk_create([through(screenshot_id=pk, tag=self.tag) for pk in keys])

    def renamed(self) -> None:
        Screenshot.objects.update(title="Another")

    def moved(self) -> None:
        Screenshot.objects.update(gallery=self.other)

    def untagged(self) -> None:
        cascades.delete(Screenshot.tags.through.objects.all())

    def deleted(self) -> None:
        cascades.delete(Screenshot.objects.all())

    def count(self, diagnostic: Any) -> None:
        _, _, told = (diagnostic.message_primary or "").partition("plan:")
        plan = json.loads(told) if told else {"Query Text": ""}
        if re.search("(old|new)_rows", plan["Query Text"]):  # a trigger's
            self.read += sum(yielded(plan["Plan"]))


def yielded(node: dict[str, Any]) -> Iterator[float]:
    """Yield the rows that each step of a plan had, and threw away, however often it was run."""
    removed = sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
    yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for child in node.get("Plans", ()):
        yield from yielded(child)


@pytest.fixture
def kept() -> Iterator[Kept]:
    connection.close()  # others have planned on it what is to be planned here
    kept = Kept()
    kept.screenshots(1)
    kept.tags()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")  # the tables are known to be small
    for change in kept.changes(1).values():
        change()
    with connection.cursor() as cursor:
        cursor.execute("LOAD 'auto_explain'")
        for name, value in EXPLAINED.items():
            cursor.execute(f"SET auto_explain.{name} = '{value}'")
    connection.connection.add_notice_handler(kept.count)
    yield kept
    connection.close()


def test_triggers_look_up_what_many_rows_lead_to_and_compare_none_with_each(kept: Kept) -> None:
    read = {}
    for name, change in kept.changes(MANY).items():
        kept.read = 0
        change()
        assert kept.read, "no plan was seen"
        read[name] = kept.read / MANY
    assert {name: steps for name, steps in read.items() if steps > STEPS} == {}
