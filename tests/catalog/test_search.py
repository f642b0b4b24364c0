"""The index behind `search` outlives what migrations do to the table."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection

from catalog.models import Gallery, Screenshot
from catalog.search import matching, words

pytestmark = pytest.mark.django_db(transaction=True)


def found(text: str) -> list[str]:
    return list(matching(Screenshot.objects.order_by("id"), text).values_list("title", flat=True))


@pytest.fixture
def gallery() -> Gallery:
    return Gallery.objects.create(slug="g", title="G")


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words("Über-uns: A_b 404, 404!") == ["über", "uns", "a", "b", "404"]


def test_the_index_follows_every_change(gallery: Gallery) -> None:
    shot = Screenshot.objects.create(gallery=gallery, title="Alpha", source_url="https://one.example/")
    assert found("alp") == ["Alpha"]
    Screenshot.objects.update(title="Beta")
    assert (found("alp"), found("beta one")) == ([], ["Beta"])
    shot.delete()
    assert found("beta") == []


@pytest.mark.stack("embedded")
def test_triggers_that_a_rebuilt_table_has_lost_are_put_back_and_what_they_missed_is_found(
    gallery: Gallery,
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER catalog_screenshot_search_insert")
    Screenshot.objects.create(gallery=gallery, title="Missed", source_url="https://one.example/")
    assert found("missed") == []
    call_command("migrate", verbosity=0)
    assert found("missed") == ["Missed"]
