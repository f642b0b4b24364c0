"""The index behind `search` outlives what migrations do to the table."""

from __future__ import annotations

import unicodedata

import pytest
from django.core.management import call_command
from django.db import connection

from catalog.models import Gallery, Screenshot
from catalog.search import COLUMNS, matching, words

pytestmark = pytest.mark.django_db(transaction=True)


CHECK = "INSERT INTO catalog_screenshot_search(catalog_screenshot_search, rank) VALUES ('integrity-check', 1)"
"""Raises where FTS5's index differs from the table."""


def found(text: str) -> list[str]:
    return list(matching(Screenshot.objects.order_by("id"), text).values_list("title", flat=True))


@pytest.fixture
def gallery() -> Gallery:
    return Gallery.objects.create(slug="g", title="G")


def test_words_are_what_stands_between_signs_of_ascii() -> None:
    assert words("Über-uns: A_b 404, 404! 😺 — \0") == ["Über", "uns", "A", "b", "404"]


TITLES = [
    "Les cafés fermés",
    unicodedata.normalize("NFD", "Les cafés fermés"),
    "İstanbul ışık",  # noqa: RUF001
    "STRASSE Straße ẞ",
    "ΣΊΣΥΦΟΣ Σίσυφος ΑΣ",
    "हिन्दी पाठ",
    "ไทยน้ำ",
    "日本語の画面",
    "ﬁle naïve² x²y 1½",
    "Step ①②",
    "Ⅷ №5 ⓐ ǅ 𝐀bc",  # noqa: RUF001
    "C++ a_b_c ಠ_ಠ Ω e\u200bf",
    "can't “quote” it\\ 'at' \"all\" %s %",
    "user@x.example v1.2.3-rc http://a/b?c=d -5 1e5 3.14 12e",
]
NO_WORDS = {"①②"}
"""What PostgreSQL takes for neither letters nor digits."""


@pytest.mark.parametrize("title", TITLES)
def test_a_text_is_found_by_itself_and_by_each_of_its_words(gallery: Gallery, title: str) -> None:
    Screenshot.objects.create(gallery=gallery, title=title, source_url="https://one.example/")
    assert [part for part in {title, *words(title)} - NO_WORDS if found(part) != [title]] == []


@pytest.mark.parametrize("text", ["①", "—", "''", "':*", '""', "%s", "\\", "' | 'beta", "a\u0301" * 100])
def test_whatever_is_searched_for_is_plain_text(gallery: Gallery, text: str) -> None:
    Screenshot.objects.create(gallery=gallery, title="Beta", source_url="https://one.example/")
    assert found(text) == (["Beta"] if "beta" in text else [])


@pytest.mark.stack("server")
def test_the_planner_knows_the_words_of_a_query(gallery: Gallery) -> None:
    plan = matching(Screenshot.objects.order_by(), "Two Words").explain()
    assert "@@ '''two'':* & ''words'':*'::tsquery" in plan


def test_the_index_follows_every_change(gallery: Gallery) -> None:
    shot = Screenshot.objects.create(gallery=gallery, title="Alpha", source_url="https://one.example/")
    assert found("alp") == ["Alpha"]
    Screenshot.objects.update(title="Beta")
    assert (found("alp"), found("beta one")) == ([], ["Beta"])
    shot.delete()
    assert found("beta") == []


@pytest.mark.parametrize("column", COLUMNS)
def test_a_text_that_is_written_later_is_found_in_place_of_what_was_there(
    gallery: Gallery, column: str
) -> None:
    shot = Screenshot.objects.create(
        gallery=gallery, source_url="https://x.example/", **{"title": "One", column: "before"}
    )
    Screenshot.objects.update(**{column: "after"})
    assert [list(matching(Screenshot.objects.all(), text)) for text in ("before", "after")] == [[], [shot]]


def test_a_screenshot_that_is_given_another_id_is_found_under_it(gallery: Gallery) -> None:
    Screenshot.objects.create(gallery=gallery, title="Alpha", source_url="https://one.example/")
    Screenshot.objects.update(id=900_001)
    assert found("alpha") == ["Alpha"]


@pytest.mark.stack("embedded")
def test_of_what_is_changed_or_deleted_nothing_is_left_in_the_index(gallery: Gallery) -> None:
    for title in ("Alpha", "Beta", "Gamma"):
        Screenshot.objects.create(gallery=gallery, title=title, source_url="https://one.example/")
    Screenshot.objects.filter(title="Alpha").update(title="Delta")
    Screenshot.objects.filter(title="Gamma").update(id=900_001)
    Screenshot.objects.filter(title="Beta").delete()
    with connection.cursor() as cursor:
        cursor.execute(CHECK)


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
