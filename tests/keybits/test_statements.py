"""A statement is used again for the same question alone, and its rows are read each time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.sql import Query

from catalog.models import Gallery, Screenshot, Tag
from keybits.drf import settled
from keybits.drf.statements import EVERY_COLUMN_HOLDS, MOST, Statements, _Statement
from keybits.drf.statements import _known as remembered

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEPT = settled(
    Screenshot.objects.filter(Exists(Gallery.objects.filter(pk=OuterRef("gallery"), visibility="public")))
)
COUNTED = settled(Gallery.objects.annotate(two=Value(2)))


class Within(models.Func):
    """A condition that says what it is made of."""

    output_field = models.BooleanField()
    template = "width BETWEEN %(expressions)s"
    arg_joiner = " AND "

    def __init__(self, low, high):
        self.keybits_made_of = (low, high)
        super().__init__(Value(low), Value(high))


class Beyond(models.Func):
    """A condition that says what it is made of but for its values."""

    output_field = models.BooleanField()
    template = "(catalog_screenshot.width, catalog_screenshot.title) > (%(expressions)s)"
    keybits_shape = ()

    def __init__(self, width, title):
        super().__init__(Value(width), Value(title))


class Wider(Query):
    """A query that writes what none of its conditions says, as those with common table expressions do."""

    width = 0

    def clone(self):
        made = super().clone()
        made.width = self.width
        return made

    def get_compiler(self, *given, **named):
        compiler = super().get_compiler(*given, **named)
        compiler.as_sql = lambda: self._written(*type(compiler).as_sql(compiler))
        return compiler

    def _written(self, sql, parameters):
        return sql.replace(" ORDER BY", f" WHERE width >= {self.width} ORDER BY"), parameters


def wider(width):
    query = Wider(Screenshot)
    query.width = width
    query.add_ordering("width")
    return models.QuerySet(Screenshot, query)


@pytest.fixture
def shots():
    gallery = Gallery.objects.create(slug="one", title="One")
    hidden = Gallery.objects.create(slug="two", title="Two", visibility="private", position=1)
    for number in range(6):
        Screenshot.objects.create(
            gallery=[gallery, hidden][number % 2],
            title=["a", "b", ""][number % 3],
            position=number // 2,
            width=number,
            full_page=number > 3,
            source_url="https://one.example/",
            captured_at=NOON + timedelta(hours=number),
        )


@pytest.fixture
def written():
    """The list of statements that are written from now on."""
    made = []
    original = _Statement.__init__

    def init(self, *given):
        original(self, *given)
        made.append(self.sql)

    with mock.patch.object(_Statement, "__init__", init):
        yield made


def as_django(queryset, paths):
    """Return what Django reads."""
    return [tuple(row) for row in queryset.values_list(*paths)]


PATHS = ("pk", "title", "gallery__slug", "captured_at", "full_page", "metadata")
ALL = Screenshot.objects.order_by("id")
EITHER = settled(Screenshot.objects.filter(Q(title__in=["a", "b"]) | Q(position=1)))
QUESTIONS = {
    "all": lambda: ALL,
    "backwards": ALL.reverse,
    "by descending id": lambda: ALL.order_by("-id"),
    "by the model": Screenshot.objects.all,
    "in no order": ALL.order_by,
    "by two": lambda: ALL.order_by("title", "-id"),
    "by more": lambda: ALL.extra(order_by=["-width"]),
    "by another's": lambda: ALL.order_by("gallery__title", "id"),
    "first": lambda: ALL[:1],
    "second": lambda: ALL[1:2],
    "all but the first": lambda: ALL[1:],
    "title a": lambda: ALL.filter(title="a"),
    "title b": lambda: ALL.filter(title="b"),
    "no title a": lambda: ALL.exclude(title="a"),
    "alt a": lambda: ALL.filter(alt="a"),
    "title like a": lambda: ALL.filter(title__gt="a"),
    "either": lambda: ALL.filter(Q(title="a") | Q(position=1)),
    "both": lambda: ALL.filter(Q(title="a") & Q(position=1)),
    "position 1": lambda: ALL.filter(position=1),
    "width 1": lambda: ALL.filter(width=1),
    "width true": lambda: ALL.filter(full_page=True),
    "width false": lambda: ALL.filter(full_page=False),
    "neither": lambda: ALL.filter(~(Q(title="a") | Q(position=1))),
    "not both": lambda: ALL.filter(~(Q(title="a") & Q(position=1))),
    "out of range": lambda: ALL.filter(width=2**70),
    "after noon": lambda: ALL.filter(captured_at__gt=NOON),
    "after one": lambda: ALL.filter(captured_at__gt=NOON + timedelta(hours=1)),
    "of one": lambda: ALL.filter(gallery__slug="one"),
    "of two": lambda: ALL.filter(gallery__slug="two"),
    "kept": lambda: KEPT.order_by("id"),
    "kept and more": lambda: KEPT.filter(title="a").order_by("id"),
    "kept either": lambda: EITHER.order_by("id"),
    "two": lambda: ALL.filter(title__in=["a", "b"]),
    "one": lambda: ALL.filter(title__in=["a"]),
    "by a column": lambda: ALL.filter(width=F("position")),
    "between": lambda: ALL.filter(Within(1, 3)),
    "between others": lambda: ALL.filter(Within(2, 3)),
    "beyond 1": lambda: ALL.filter(Beyond(1, "a")),
    "beyond 3": lambda: ALL.filter(Beyond(3, "")),
    "beyond nothing": lambda: ALL.filter(Beyond(3, None)),
    "beyond one and after noon": lambda: ALL.filter(Beyond(1, "a"), captured_at__gt=NOON),
    "not beyond 1": lambda: ALL.exclude(Beyond(1, "a")),
    "between widths": lambda: ALL.filter(width__gte=1, width__lt=4, position__lte=1),
    "between other widths": lambda: ALL.filter(width__gte=2, width__lt=3, position__lte=1),
    "of no title": lambda: ALL.filter(title=""),
    "of no status": lambda: ALL.filter(http_status=None),
    "below zero": lambda: ALL.filter(width__gt=-1),
    "beyond any width": lambda: ALL.filter(width__lt=2**70),
    "tagged": lambda: ALL.filter(tags__slug="none"),
    "none": ALL.none,
    "nothing": lambda: ALL.filter(pk__in=[]),
    "annotated": lambda: ALL.annotate(n=Value(1)),
    "at random": lambda: ALL.filter(width=1).order_by("?"),
}


def test_every_question_has_its_own_answer_however_often_and_in_any_order(shots):
    statements = Statements(PATHS)
    for names in (QUESTIONS, reversed(QUESTIONS), QUESTIONS):
        for name in names:
            found = [tuple(row) for row in statements.rows(QUESTIONS[name]())]
            assert found == as_django(QUESTIONS[name](), PATHS), name


@pytest.mark.parametrize(
    "name",
    [
        "all",
        "second",
        "title a",
        "either",
        "after noon",
        "of one",
        "kept",
        "kept and more",
        "kept either",
        "between",
    ],
)
def test_same_question_is_written_once(shots, written, name):
    statements = Statements(PATHS)
    for _ in range(3):
        statements.rows(QUESTIONS[name]())
    assert len(written) == 1


@pytest.mark.parametrize("name", ["two", "by a column", "annotated", "at random", "by more"])
def test_what_cannot_be_compared_is_left_to_django(shots, written, name):
    Statements(PATHS).rows(QUESTIONS[name]())
    assert written == []


def test_a_query_of_another_class_is_left_to_django(shots, written):
    statements = Statements(["width"])
    found = [[row[0] for row in statements.rows(wider(width))] for width in (4, 5, 0)]
    assert found == [[4, 5], [5], [0, 1, 2, 3, 4, 5]]
    assert written == []


def test_rows_are_read_each_time(shots):
    statements = Statements(("pk", "title"))
    for title in ("before", "after"):
        Screenshot.objects.update(title=title)
        assert {row[1] for row in statements.rows(ALL)} == {title}


def test_conditions_that_are_only_alike_are_not_the_same(shots, written):
    statements = Statements(("pk",))
    for slug in ("one", "two"):
        kept = settled(
            Screenshot.objects.filter(Exists(Gallery.objects.filter(pk=OuterRef("gallery"), slug=slug)))
        )
        assert [tuple(row) for row in statements.rows(kept)] == as_django(kept, ("pk",))
    assert len(written) == 2


def test_annotations_of_a_kept_queryset(shots, written):
    statements = Statements(("pk", "two"))
    for _ in range(2):
        rows = statements.rows(COUNTED.filter(visibility="public"))
        assert [row[1] for row in rows] == [2]
    assert len(written) == 1
    three = settled(Gallery.objects.annotate(two=Value(3))).filter(visibility="public")
    assert [row[1] for row in statements.rows(three)] == [3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("title a", "title b"),
        ("title a", "of no title"),
        ("after noon", "after one"),
        ("of one", "of two"),
        ("between widths", "between other widths"),
        ("beyond 1", "beyond 3"),
    ],
)
def test_a_question_of_other_values_is_not_written_again(shots, written, one, other):
    statements = Statements(PATHS)
    for name in (one, other, one):
        found = [tuple(row) for row in statements.rows(QUESTIONS[name]())]
        assert found == as_django(QUESTIONS[name](), PATHS), name
    assert len(written) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("width 1", "out of range"), ("width true", "width false"), ("between", "between others")],
)
def test_values_that_make_another_statement_are_no_parameters(shots, written, one, other):
    statements = Statements(PATHS)
    for name in (one, other, one, other):
        found = [tuple(row) for row in statements.rows(QUESTIONS[name]())]
        assert found == as_django(QUESTIONS[name](), PATHS), name


def test_querysets_are_left_as_they_were(shots):
    queryset = ALL.filter(Beyond(1, "a"), title="a")
    before = str(queryset.query)
    Statements(PATHS).rows(queryset)
    assert str(queryset.query) == before


def test_only_so_many_are_remembered(shots):
    """However many lists and shapes they are of: clients choose those."""
    for number in range(MOST + 10):
        Statements(("pk", "name")[: 1 + number % 2]).rows(
            Tag.objects.filter(pk__lt=EVERY_COLUMN_HOLDS + 1 + number)
        )
        assert len(remembered) <= MOST


def test_locked_rows_are_left_to_django(shots, written):
    Statements(("pk",)).rows(ALL.select_for_update())
    assert written == []
