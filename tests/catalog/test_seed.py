"""What the seed fills in, and that it is the same for the same seed."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Count
from django.test.utils import CaptureQueriesContext

from catalog.models import Gallery, Screenshot, Tag

pytestmark = pytest.mark.django_db

FEW = {"galleries": 20, "tags": 15, "batch": 100, "quiet": True}


def seed(screenshots: int = 250, **options: Any) -> None:
    call_command("seed", screenshots=screenshots, **{**FEW, **options})


def content() -> list[tuple[Any, ...]]:
    """Return every column of every screenshot, with its tags, keys and their offsets aside."""
    fields = [field.name for field in Screenshot._meta.concrete_fields if field.name not in ("id", "gallery")]
    shots = Screenshot.objects.order_by("position").prefetch_related("tags").select_related("gallery")
    return [
        (shot.gallery.slug, [tag.slug for tag in shot.tags.all()], *(getattr(shot, name) for name in fields))
        for shot in shots
    ]


def shares(path: str) -> dict[Any, float]:
    """Return which part of the screenshots each value has, the largest first."""
    counts = Screenshot.objects.order_by().values_list(path).annotate(n=Count("pk")).order_by("-n", path)
    return {value: n / 250 for value, n in counts}


class TestRows:
    def test_there_are_as_many_as_asked_for(self) -> None:
        seed(250)

        assert (Screenshot.objects.count(), Gallery.objects.count(), Tag.objects.count()) == (250, 20, 15)

    def test_they_pass_the_models_validators(self) -> None:
        seed(60)
        for shot in Screenshot.objects.all():
            shot.full_clean()
        for gallery in Gallery.objects.all():
            gallery.full_clean()

    def test_galleries_words_and_sites_are_skewed(self) -> None:
        seed()

        for path in ("gallery__slug", "tags__slug", "domain"):
            first, *_, last = shares(path).values()
            assert first > 5 * last

    def test_visibilities_states_and_shapes_are_mixed(self) -> None:
        seed()

        assert set(shares("gallery__visibility")) == {"public", "unlisted", "private"}
        assert set(shares("state")) == {"ready", "pending", "failed"}
        assert set(shares("orientation")) == {"landscape", "portrait", "square", ""}
        assert shares("gallery__visibility")["public"] > 0.6
        assert shares("state")["ready"] > 0.9

    def test_the_domain_is_the_address_s(self) -> None:
        seed(20)
        for shot in Screenshot.objects.all():
            domain = shot.domain
            shot.save()
            assert shot.domain == domain

    def test_no_row_costs_a_query_of_its_own(self) -> None:
        with CaptureQueriesContext(connection) as queries:
            seed(1000, batch=1000)

        assert len(queries) < 100

    def test_the_planner_is_told(self) -> None:
        with CaptureQueriesContext(connection) as queries:
            seed(20)

        assert queries[-1]["sql"] == "ANALYZE"

    @pytest.mark.parametrize(("screenshots", "times"), [(20, 1), (100, 1), (101, 2), (250, 2)])
    def test_the_planner_is_told_early_only_where_more_is_to_come(self, screenshots: int, times: int) -> None:
        with CaptureQueriesContext(connection) as queries:
            seed(screenshots, batch=100)

        assert [query["sql"] for query in queries].count("ANALYZE") == times


class TestDeterminism:
    def test_the_same_seed_gives_the_same_rows_in_batches_of_any_size(self) -> None:
        seed(250, batch=100)
        first = content()
        Gallery.objects.all().delete()
        seed(250, batch=37)

        assert content() == first

    def test_another_seed_gives_other_rows(self) -> None:
        seed(50)
        first = content()
        Gallery.objects.all().delete()
        seed(50, seed=2)

        assert content() != first

    def test_dates_are_fixed_and_other_rows_get_the_present_again(self) -> None:
        seed(20)
        days = Screenshot.objects.values_list("created_at__year", "updated_at__year", "captured_at__year")
        later = Gallery.objects.create(slug="later", title="Later")

        assert {year for years in days for year in years} <= {2024, 2025}
        assert later.created_at is not None
        assert later.created_at.year > 2025


class TestSecondRun:
    def test_it_is_refused_and_says_what_to_do(self) -> None:
        seed(20)

        with pytest.raises(CommandError, match=r"seeded already \(20 screenshots\).*--append"):
            seed(20)
        assert Screenshot.objects.count() == 20

    def test_append_goes_on_where_the_last_run_ended(self) -> None:
        seed(20)
        before = content()
        seed(30, append=True)

        assert content()[:20] == before
        assert [shot.position for shot in Screenshot.objects.order_by("position")] == list(range(50))
        assert (Gallery.objects.count(), Tag.objects.count()) == (20, 15)

    def test_galleries_of_others_are_no_obstacle(self) -> None:
        Gallery.objects.create(slug="spring", title="Spring")
        seed(20)

        assert Screenshot.objects.filter(gallery__slug="spring").count() == 0

    @pytest.mark.parametrize("name", ["screenshots", "galleries", "tags", "batch"])
    @pytest.mark.parametrize("number", [0, 10_000_001])
    def test_numbers_that_make_no_sense_are_refused(self, name: str, number: int) -> None:
        with pytest.raises(
            CommandError, match=f"--{name} takes a whole number from 1 to [0-9,]+, not {number:,}"
        ):
            seed(**{name: number})
        assert not Gallery.objects.exists()

    def test_more_than_the_titles_can_number_is_refused_whatever_run_adds_it(self) -> None:
        seed(20)

        with pytest.raises(CommandError, match="--screenshots takes a whole number from 1 to 9,999,980, not"):
            seed(9_999_981, append=True)


class TestOutput:
    def test_it_shows_how_far_it_is_and_what_it_did(self, capfd: pytest.CaptureFixture[str]) -> None:
        seed(20, quiet=False)
        out, err = capfd.readouterr()

        assert out == "20 screenshots added to 0 that were there.\n"
        assert "20.0/20.0" in err
