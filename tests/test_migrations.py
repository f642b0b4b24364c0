"""Migrations go back and forth on both databases, with the triggers that come and go with their tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stacks.live import Deployments, LiveServer

FROM_BEFORE = """
from django.db import connection
from catalog.models import Gallery, Screenshot
with connection.cursor() as cursor:
    for slug in ("unused", "public", "private", "both"):
        cursor.execute("INSERT INTO catalog_tag (slug, name, kind) VALUES (%s, %s, 'topic')", [slug, slug])
    for visibility in ("public", "private"):
        gallery = Gallery.objects.create(slug=visibility, title="A", visibility=visibility)
        shot = Screenshot.objects.create(gallery=gallery, title="A", source_url="https://one.example/")
        cursor.execute(
            "INSERT INTO catalog_screenshot_tags (screenshot_id, tag_id)"
            " SELECT %s, id FROM catalog_tag WHERE slug IN (%s, 'both')", [shot.pk, visibility]
        )
"""
OFFERED = """
from catalog.models import Tag
print(*Tag.objects.filter(offered=True).values_list("slug", flat=True))
"""

SPELT = """
from catalog.models import Gallery, Screenshot
gallery = Gallery.objects.create(slug="g", title="G")
for domain in ("münchen.example", "xn--mnchen-3ya.example", "one.example.", "two.example", "", "not a host"):
    shot = Screenshot.objects.create(gallery=gallery, title="A", source_url="https://one.example/")
    Screenshot.objects.filter(pk=shot.pk).update(domain=domain)
"""
DOMAINS = """
from catalog.models import Screenshot
print(*Screenshot.objects.order_by("pk").values_list("domain", flat=True), sep="|")
"""

ANOTHER_ID = """
from django.db import connection
from catalog.models import Gallery, Screenshot
with connection.cursor() as cursor:
    cursor.execute("SELECT sql FROM sqlite_master WHERE name = 'catalog_screenshot_search_update'")
    (present,) = cursor.fetchone()
    cursor.execute("DROP TRIGGER catalog_screenshot_search_update")
    cursor.execute(present.replace("UPDATE OF id, ", "UPDATE OF "))
gallery = Gallery.objects.create(slug="g", title="G")
for title in ("Alpha", "Beta"):
    Screenshot.objects.create(gallery=gallery, title=title, source_url="https://one.example/")
Screenshot.objects.filter(title="Alpha").update(id=900_001)
"""
FOUND = """
from catalog.models import Screenshot
from catalog.search import matching
Screenshot.objects.filter(title="Beta").update(id=900_002)
print(*(matching(Screenshot.objects.all(), word).count() for word in ("alpha", "beta")))
"""


@pytest.fixture
def made(deployments: Deployments) -> Iterator[LiveServer]:
    """A deployment whose database is of now."""
    made = deployments.make({})
    yield made
    deployments.discard(made)


def test_the_catalogue_can_be_migrated_to_nothing_and_again(made: LiveServer) -> None:
    made.manage("migrate", "catalog", "zero", "--verbosity", "0")
    made.manage("migrate", "--verbosity", "0")


def test_tags_from_before_are_listed_if_they_were(made: LiveServer) -> None:
    made.manage("migrate", "catalog", "0012", "--verbosity", "0")
    made.shell(FROM_BEFORE)
    made.manage("migrate", "--verbosity", "0")
    assert made.shell(OFFERED).split() == ["both", "public", "unused"]


def test_hosts_from_before_have_one_name_each(made: LiveServer) -> None:
    made.manage("migrate", "catalog", "0016", "--verbosity", "0")
    made.shell(SPELT)
    made.manage("migrate", "--verbosity", "0")
    one = "xn--mnchen-3ya.example"
    assert made.shell(DOMAINS).strip() == f"{one}|{one}|one.example|two.example||not a host"
    made.manage("migrate", "catalog", "0016", "--verbosity", "0")


@pytest.mark.stack("embedded")
def test_screenshots_given_another_id_are_found_whether_before_or_after(made: LiveServer) -> None:
    made.manage("migrate", "catalog", "0017", "--verbosity", "0")
    made.shell(ANOTHER_ID)
    made.manage("migrate", "--verbosity", "0")
    assert made.shell(FOUND).split() == ["1", "1"]
