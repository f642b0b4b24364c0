"""What each write of a screenshot, its tags and its renditions pays for: no index that another one can stand for."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from catalog.models import Gallery, Rendition, Screenshot
from catalog.search import matching

pytestmark = pytest.mark.django_db(transaction=True)


def indexes(model: Any = Screenshot) -> dict[str, Any]:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    return {
        name: each for name, each in found.items() if (each["index"] or each["unique"]) and each["columns"]
    }


@pytest.mark.parametrize("model", [Screenshot, Screenshot.tags.through, Rendition])
def test_no_index_is_the_beginning_of_another(model: Any) -> None:
    found = indexes(model)
    begun = [
        (a, b)
        for a, ours in found.items()
        for b, others in found.items()
        if a != b and not ours["unique"] and others["columns"][: len(ours["columns"])] == ours["columns"]
    ]
    assert begun == []


def test_migrating_rows_back_and_forth_keeps_indexes_search_and_triggers() -> None:
    before = indexes()
    gallery = Gallery.objects.create(slug="g", title="G")
    Screenshot.objects.create(gallery=gallery, title="Alpha", source_url="https://one.example/")
    call_command("migrate", "catalog", "0009", verbosity=0)
    call_command("migrate", verbosity=0)
    Screenshot.objects.update(title="Beta")
    assert indexes() == before
    assert matching(Screenshot.objects.all(), "beta one").exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM keybits_change WHERE scope = 'gallery:g'")
        assert cursor.fetchone()


@pytest.mark.stack("server")
def test_an_update_finds_anew_the_words_of_the_columns_that_it_sets() -> None:
    gallery = Gallery.objects.create(slug="g", title="G")
    Screenshot.objects.create(
        gallery=gallery, title="One two", alt="Three", source_url="https://four.example/"
    )
    words = "SELECT title_words::text, other_words::text FROM catalog_screenshot"
    with connection.cursor() as cursor:
        cursor.execute(words)
        assert cursor.fetchone() == ("'one' 'two'", "'example' 'four' 'three'")
        Screenshot.objects.update(title="Five")
        cursor.execute(words)
        assert cursor.fetchone() == ("'five'", "'example' 'four' 'three'")
