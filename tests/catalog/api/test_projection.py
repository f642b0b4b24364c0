"""Every list is read as columns, and has the very bytes that its serializer gives, whatever is asked for."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.test.utils import override_script_prefix
from django.urls import resolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.api import viewsets
from catalog.models import Gallery, Screenshot, State, Tag
from keybits import readthrough
from keybits.drf import lists
from keybits.drf.projection import Projection
from keybits.parameters import Choice

pytestmark = pytest.mark.django_db

SHOTS = ["/screenshots/", "/galleries/spring/screenshots/", "/tags/dark/screenshots/"]
LISTS = [
    "/galleries/",
    "/tags/",
    *SHOTS,
    "/galleries/drafts/screenshots/",
    "/screenshots/{cat}/renditions/",
    "/screenshots/{dog}/renditions/",
    "/galleries/drafts/screenshots/{rat}/renditions/",
]
TOLD = ("Content-Type", "Link", "Cache-Control", "Surrogate-Key", "ETag")
WORDS = ["", "Café 猫 😺 \u202e", '"\\/\u2028\u2029</script>&', "\t\n\r\x7f", "null", "a" * 200]


@contextmanager
def by_serializer(explain="keybits.drf.lists.explain"):
    """Have every list made by its serializer."""
    with mock.patch(explain, return_value="not in this test"):
        yield


@contextmanager
def compiled():
    """Yield the pages that are made by a projection."""
    pages = []
    original = Projection.items

    def items(self, rows):
        pages.append(rows)
        return original(self, rows)

    with mock.patch.object(Projection, "items", items):
        yield pages


def assert_same(api, target):
    """Ask for `target` both ways, hold one answer against the other, and return what both say."""
    with readthrough.without_store():
        with compiled() as pages:
            ours = api(target)
        with by_serializer():
            theirs = api(target)
    assert ours.content == theirs.content, target
    assert ours.status_code == theirs.status_code
    assert [ours.get(name) for name in TOLD] == [theirs.get(name) for name in TOLD]
    assert len(pages) == (ours.status_code == 200), f"{target} was not compiled"
    return ours.json() if ours.status_code == 200 else {}


def assert_same_there_and_back(api, target):
    """Ask also for the pages beside, as the links say."""
    page = assert_same(api, target)
    for name in ("next", "previous"):
        if page.get(name):
            assert_same(api, page[name])


def grammar(path):
    """Return the parameters of the list at `path`, by name."""
    callback = resolve(f"/api/v1{path}").func
    view = callback.cls(**callback.initkwargs)
    return {parameter.name: parameter for parameter in view.get_query_parameters()}


def with_query(path, pairs):
    """Return the target for these parameters."""
    return f"{path}?{'&'.join(f'{name}={value}' for name, value in pairs)}"


@pytest.fixture
def odd(world):
    """Add what is odd: every kind of text, moments, numbers at their ends, no tags, many of them, no colour."""
    moments = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC),
    ]
    for number, (text, gallery) in enumerate(zip(WORDS, ["spring", "autumn", "drafts"] * 2, strict=True)):
        world.add(
            f"odd{number}",
            gallery,
            "dark mobile chart form" if number % 2 else "dark",
            title=text or "Odd",
            alt=text,
            placeholder=text[:64],
            position=[0, 2**31 - 1][number % 2],
            width=[0, 2**31 - 1, 7][number % 3],
            height=7,
            dominant_color=["", "#ffffff"][number % 2],
            captured_at=moments[number % 4],
            state=[State.READY, State.FAILED, State.PENDING][number % 3],
        )
    huge = Screenshot.objects.create(
        pk=10**18 - 1, gallery=world.galleries["spring"], title="Huge", source_url="https://one.example/"
    )
    huge.tags.set([world.tags["dark"]])
    Tag.objects.create(slug="-_", name=WORDS[1][:100])
    Gallery.objects.create(slug="0", title=WORDS[2], description=WORDS[3], position=2**31 - 1, max_age=0)
    Gallery.objects.filter(slug="spring").update(description=WORDS[1], max_age=60, edge_max_age=5)
    return world


class TestBytes:
    @pytest.mark.parametrize("path", LISTS)
    @pytest.mark.parametrize(
        "page", ["", "page=1", "limit=3", "limit=3&offset=2", "page_size=2", "page=2&page_size=3"]
    )
    def test_every_way_through_every_list(self, api, odd, path, page):
        assert_same_there_and_back(api, f"{odd.at(path)}?{page}")

    @pytest.mark.parametrize("path", LISTS)
    def test_every_field_alone_and_all_but_one(self, api, odd, path):
        path = odd.at(path)
        names = grammar(path)["fields"].choices
        for name in names:
            assert_same(api, f"{path}?fields={name}&page_size=max")
            rest = ",".join(other for other in names if other != name)
            assert_same(api, f"{path}?fields={rest}")

    @pytest.mark.parametrize("path", LISTS)
    def test_every_ordering(self, api, odd, path):
        path = odd.at(path)
        ordering = grammar(path).get("ordering")
        for name in ordering.choices if ordering else ():
            assert_same_there_and_back(api, f"{path}?ordering={name}&page_size=2")
            assert_same_there_and_back(api, f"{path}?ordering={name}&page_size=2&fields=id")

    @pytest.mark.parametrize("path", [*SHOTS, "/galleries/drafts/screenshots/"])
    @pytest.mark.parametrize("include", ["gallery", "renditions", "gallery,renditions"])
    def test_everything_that_can_be_embedded(self, api, odd, path, include):
        assert_same_there_and_back(api, f"{path}?include={include}&page_size=3")
        assert_same(api, f"{path}?include={include}&fields=id")

    @pytest.mark.parametrize(
        "path", [*LISTS, "/galleries/vault/screenshots/", "/screenshots/{yak}/renditions/"]
    )
    def test_whoever_asks(self, as_owner, as_other, api, odd, path):
        for client in (as_owner, as_other, api):
            assert_same(client, odd.at(path))

    @pytest.mark.parametrize("path", [*SHOTS, "/galleries/0/screenshots/", "/tags/idle/screenshots/"])
    def test_empty_page(self, api, odd, path):
        assert_same(api, f"{path}?domain=nowhere.example&include=gallery,renditions")
        assert_same(api, f"{path}?page=1&captured_before=0001-01-01T00:00:00Z")

    @pytest.mark.parametrize("path", ["/galleries/none/screenshots/", "/tags/none/screenshots/"])
    def test_missing_parent(self, api, odd, path):
        assert_same(api, path)

    def test_another_time_zone(self, api, odd, settings):
        settings.TIME_ZONE = "Europe/London"
        Screenshot.objects.exclude(captured_at__range=("1900-01-01T00:00Z", "2100-01-01T00:00Z")).delete()
        page = assert_same(api, "/screenshots/?page_size=max")
        assert any(item["captured_at"].endswith("+01:00") for item in page["results"])

    @pytest.mark.parametrize("prefix", ["/at/", "/at é%/", "/"])
    def test_another_prefix(self, api, odd, prefix):
        with override_script_prefix(prefix):
            for path in LISTS:
                assert_same(api, odd.at(path))
            page = assert_same(api, "/screenshots/?include=gallery,renditions&tag=dark")
        start = f"{quote(prefix)}api/v1/"
        assert all(item["url"].startswith(f"{start}screenshots/") for item in page["results"])
        assert all(item["gallery_info"]["url"].startswith(f"{start}galleries/") for item in page["results"])

    def test_page_for_people(self, api, odd):
        pages = []
        for way in (compiled, by_serializer):
            with way():
                pages.append(api("/screenshots/?format=api&include=gallery&tag=dark").content)
        own, other = (re.sub(rb"[A-Za-z0-9]{64}", b"a token", page) for page in pages)
        assert own == other


VALUES = {
    "tag": ["dark", "chart", "none"],
    "gallery": ["spring", "autumn", "drafts", "none"],
    "domain": ["one.example", "two.example"],
    "captured_after": ["2026-01-01T00:00:00%2B14:00", "2026-03-01T12:00:00Z"],
    "captured_before": ["2026-03-01T13:00:00Z", "9999-12-31"],
    "min_width": ["1", "500"],
    "min_height": ["0", "800"],
    "ids": ["{cat},{dog},{owl}", "1"],
    "search": ["cat", "caf%C3%A9", "spring", "!"],
    "page_size": ["1", "3", "max"],
    "page": ["1", "2"],
    "limit": ["1", "4"],
    "offset": ["0", "3"],
}


@st.composite
def queries(draw, path, world):
    """Any query that the list at `path` accepts, as pairs."""
    known = grammar(path)
    pairs = []
    for name in draw(
        st.lists(st.sampled_from(sorted(set(known) - {"cursor", "format"})), max_size=5, unique=True)
    ):
        parameter = known[name]
        if name in {"fields", "include"}:
            chosen = draw(st.lists(st.sampled_from(parameter.choices), min_size=1, unique=True))
            pairs.append((name, ",".join(chosen)))
        else:
            own = parameter.choices if isinstance(parameter, Choice) else VALUES[name]
            pairs.append((name, world.at(draw(st.sampled_from(own)))))
    return pairs


@pytest.mark.stack("server")  # what each stack makes of each field, the tests above ask on both
@pytest.mark.parametrize("path", LISTS)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(data=st.data())
def test_any_query(api, odd, path, data):
    path = odd.at(path)
    assert_same_there_and_back(api, with_query(path, data.draw(queries(path, odd))))


class TestWork:
    @pytest.mark.parametrize("path", LISTS)
    def test_no_more_statements_than_the_serializer_takes(self, api, odd, count_queries, path):
        for query in ("page=1", "include=gallery,renditions" if path in SHOTS else "limit=5"):
            counts = []
            for way in (compiled, by_serializer):
                with readthrough.without_store(), way(), count_queries() as sent:
                    assert api(f"{odd.at(path)}?{query}").status_code == 200
                counts.append(len(sent))
            assert counts[0] <= counts[1] <= 4

    def test_only_what_is_shown_is_read(self, api, odd, count_queries):
        with readthrough.without_store(), count_queries() as sent:
            api("/screenshots/?fields=title")
        [statement] = [query["sql"] for query in sent]
        assert '"title"' in statement
        for unread in ("source_url", "metadata", "page_title", "alt", "sha256"):
            assert f'"{unread}"' not in statement

    @pytest.mark.parametrize("path", SHOTS)
    def test_page_asked_for_again_is_read_again(self, api, odd, path):
        for title in ("One", "Two"):
            Screenshot.objects.update(title=title)
            assert {item["title"] for item in assert_same(api, path)["results"]} == {title}

    def test_every_viewset_is_compiled(self):
        for name in viewsets.__all__:
            view = getattr(viewsets, name)(detail=False, action="list", kwargs={})
            view.request = view.format_kwarg = None
            assert isinstance(lists.explain(view), Projection), name


def test_command_says_which_lists_are_compiled(capsys):
    call_command("projections")
    with by_serializer("keybits.management.commands.projections.explain"):
        call_command("projections")
    said = capsys.readouterr().out.splitlines()
    names = [
        "gallery",
        "gallery-screenshot",
        "gallery-screenshot-rendition",
        "screenshot",
        "screenshot-rendition",
        "tag",
        "tag-screenshot",
    ]
    for name in names:
        assert f"{name}-list: columns" in said
        assert f"{name}-list: serializer: not in this test" in said
    assert len(said) == 2 * len(names)
