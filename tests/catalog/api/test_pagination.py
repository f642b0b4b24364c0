"""Three ways through a list: every item once, forwards and backwards, whatever happens to the rows meanwhile."""

from __future__ import annotations

import base64
import itertools
import re

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stacks.threads import before_statement

from catalog.api import parameters
from catalog.api.pagination import Cursor, Order
from catalog.models import Gallery, Screenshot

pytestmark = pytest.mark.django_db

ORDERINGS = {
    "/screenshots/": ["captured_at", "created_at", "updated_at", "title"],
    "/screenshots/?tag=dark": ["captured_at", "title"],
    "/galleries/spring/screenshots/": ["position", "captured_at", "created_at", "updated_at", "title"],
    "/tags/dark/screenshots/": ["captured_at", "title"],
    "/galleries/": ["position", "title", "created_at", "updated_at"],
    "/tags/": ["slug", "name"],
    "/screenshots/{cat}/renditions/": [],
    "/galleries/spring/screenshots/{cat}/renditions/": [],
}
WALKS = [
    *ORDERINGS,
    *(
        f"{path}{'&' if '?' in path else '?'}ordering={sign}{name}"
        for path, names in ORDERINGS.items()
        for name in names
        for sign in ("", "-")
    ),
]


def ids(pages):
    """Return the ids on these pages, in order."""
    return [item["id"] for page in pages for item in page["results"]]


def with_parameter(target, parameter):
    """Return `target` with one parameter more."""
    return f"{target}{'&' if '?' in target else '?'}{parameter}"


def way_back(api, pages):
    """Return the last page and those before it, by `previous`, in the order of the list."""
    last = pages[-1]
    before = api.walk(last["previous"], "previous") if last["previous"] else []
    return [*reversed(before), last]


@pytest.fixture
def ties(world):
    """Many equal values: six screenshots that differ in nothing but their id."""
    for number in range(6):
        world.add(f"tie{number}", "spring", "dark", title="Tie", position=1)
    Screenshot.objects.filter(title="Tie").update(
        created_at=world.shots["tie0"].created_at, updated_at=world.shots["tie0"].updated_at
    )
    for number in range(3):
        Gallery.objects.create(slug=f"tie{number}", title="Tie")
    return world


class TestWalking:
    @pytest.mark.parametrize("target", WALKS)
    def test_next_and_previous_visit_every_item_once_in_order(self, api, ties, target):
        target = ties.at(target)
        everything = api.ids(with_parameter(target, "page_size=max"))
        assert len(set(everything)) == len(everything) > 2
        pages = api.walk(with_parameter(target, "page_size=2"))
        assert ids(pages) == everything
        assert ids(way_back(api, pages)) == everything

    @pytest.mark.parametrize("way", ["page=1&page_size=2", "limit=2", "limit=3&offset=0"])
    @pytest.mark.parametrize("path", ORDERINGS)
    def test_numbers_visit_every_item_once_in_order_and_count_it(self, api, ties, path, way):
        target = ties.at(path)
        everything = api.ids(with_parameter(target, "page_size=max"))
        pages = api.walk(with_parameter(target, way))
        assert ids(pages) == everything
        assert {page["count"] for page in pages} == {len(everything)}
        assert ids(way_back(api, pages)) == everything

    @pytest.mark.parametrize("target", WALKS)
    def test_numbers_follow_each_order_as_cursors_do(self, api, ties, target):
        everything = with_parameter(ties.at(target), "page_size=max")
        assert api.ids(with_parameter(everything, "page=1")) == api.ids(everything)

    @settings(
        max_examples=12,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        database=None,
    )
    @given(titles=st.lists(st.sampled_from(["", "a", "B", "é", "a'b"]), max_size=9), size=st.integers(1, 4))
    def test_walk_is_complete_for_any_ties_and_any_page_size(self, api, world, titles, size):
        slug = f"gallery{next(NUMBERS)}"
        world.galleries[slug] = Gallery.objects.create(slug=slug, title=slug)
        for number, title in enumerate(titles):
            world.add(f"any{number}", slug, title=title, position=number % 2)
        for ordering in ("position", "-title"):
            target = f"/galleries/{slug}/screenshots/?ordering={ordering}&page_size={size}"
            pages = api.walk(target)
            assert len(ids(pages)) == len(set(ids(pages))) == len(titles)
            assert len(pages) == max(1, -(-len(titles) // size))
            assert ids(way_back(api, pages)) == ids(pages)

    def test_going_forth_and_back_returns_to_the_same_page(self, api, ties):
        first = api.read("/screenshots/?page_size=3")
        second = api.read(first["next"])
        again = api.read(second["previous"])
        assert again["results"] == first["results"]
        assert again["previous"] is None
        assert api.read(again["next"])["results"] == second["results"]

    def test_no_page_beyond_a_full_last_page(self, api, world):
        page = api.read("/galleries/spring/screenshots/?page_size=5")
        assert (len(page["results"]), page["next"]) == (5, None)
        assert api.read("/galleries/spring/screenshots/?page=1&page_size=5")["next"] is None
        assert api.read("/galleries/spring/screenshots/?limit=5")["next"] is None

    def test_filters_and_embeds_hold_on_every_page(self, api, ties):
        query = "?tag=dark&min_width=1&orientation=landscape&include=gallery&fields=id,tags&page_size=1"
        pages = api.walk(f"/screenshots/{query}")
        assert len(pages) == 2
        for page in pages:
            assert all(set(item) == {"id", "tags", "gallery_info"} for item in page["results"])
            assert all("dark" in item["tags"] for item in page["results"])


NUMBERS = itertools.count()


class TestCursor:
    def test_cursor_holds_when_its_row_is_deleted(self, api, ties):
        everything = api.ids("/screenshots/?page_size=max")
        page = api.read("/screenshots/?page_size=4")
        Screenshot.objects.get(pk=page["results"][-1]["id"]).delete()
        assert ids(api.walk(page["next"])) == everything[4:]

    def test_cursor_holds_when_its_whole_page_is_deleted(self, api, ties):
        everything = api.ids("/screenshots/?page_size=max")
        page = api.read("/screenshots/?page_size=4")
        for item in page["results"]:
            Screenshot.objects.get(pk=item["id"]).delete()
        assert ids(api.walk(page["next"])) == everything[4:]

    @pytest.mark.parametrize("ordering", ["captured_at", "-captured_at", "title", "-title"])
    @pytest.mark.parametrize("way", ["next", "previous"])
    def test_page_that_has_become_empty_leads_back_to_what_is_left(self, api, ties, ordering, way):
        first = api.read(f"/screenshots/?ordering={ordering}&page_size=4")
        second = api.read(first["next"])
        here, there = (first, second) if way == "next" else (second, first)
        Screenshot.objects.exclude(pk__in=ids([here])).delete()
        empty = api.read(here[way])
        back = "previous" if way == "next" else "next"
        assert (empty["results"], empty[way]) == ([], None)
        assert ids([api.read(empty[back])]) == ids([here])
        assert not set(ids([here])) & set(ids([there]))

    def test_page_that_is_empty_behind_the_first_row_of_all_leads_back_to_it(self, api, world):
        place = Cursor("-captured_at", backwards=False, values=(world.shots["cat"].captured_at,), id=1)
        back = api.read(f"/screenshots/?captured_before=1990-01-01&cursor={place.encoded()}")["previous"]
        assert api.read(back)["results"] == []

    @pytest.mark.parametrize("ordering", ["captured_at", "-captured_at", "title", "-title"])
    def test_row_inserted_meanwhile_shifts_no_other(self, api, ties, ordering):
        target = f"/screenshots/?ordering={ordering}&page_size=4"
        everything = api.ids(f"/screenshots/?ordering={ordering}&page_size=max")
        page = api.read(target)
        new = {ties.add(name, "spring", title=title).pk for name, title in (("new1", ""), ("new2", "zzz"))}
        seen = ids([page, *api.walk(page["next"])])
        assert [pk for pk in seen if pk not in new] == everything
        assert len(seen) == len(set(seen))

    def test_row_that_moves_along_the_order_is_not_shown_twice_behind_the_cursor(self, api, ties):
        page = api.read("/screenshots/?ordering=title&page_size=4")
        moved = Screenshot.objects.get(pk=page["results"][0]["id"])
        moved.title = "0"
        moved.save()
        assert moved.pk not in ids(api.walk(page["next"]))

    @pytest.mark.parametrize("letter", ["x", "猫", "😺", '"', "\\", "\x01", "'"])
    def test_cursor_at_the_longest_title_is_accepted(self, api, world, letter):
        longest = {world.add(f"long{number}", "autumn", title=letter * 200).pk for number in range(3)}
        for sign in ("", "-"):
            seen = ids(api.walk(f"/screenshots/?ordering={sign}title&page_size=1"))
            assert longest < set(seen)
            assert len(seen) == len(set(seen)) == 10

    @settings(max_examples=200, deadline=None)
    @given(
        title=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=200),
        pk=st.integers(1, 2**63 - 1),
        backwards=st.booleans(),
    )
    def test_cursor_is_read_as_it_was_written(self, title, pk, backwards):
        order = Order(("title",), descending=False)
        written = Cursor(str(order), backwards, (title,), pk)
        field = Screenshot._meta.get_field("title")
        text = written.encoded()
        assert Cursor.decoded(text, order, [field]) == written
        parameter = next(parameter for parameter in parameters.PAGES if parameter.name == "cursor")
        assert parameter.canonical(text) == text

    def test_cursor_holds_no_more_than_the_place(self, api, world):
        cursor = re.search(r"cursor=([^&]+)", api.read("/screenshots/?page_size=1")["next"])[1]
        content = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        assert content == ["v1", "-captured_at", 0, "2026-03-01T13:00:00+00:00", world.shots["owl"].pk]

    def test_cursor_leads_each_client_through_its_own_list(self, api, as_owner, world):
        following = api.read("/screenshots/?page_size=2")["next"]
        assert set(ids(api.walk(following))) < set(ids(as_owner.walk(following)))

    @pytest.mark.parametrize(
        "path", ["/screenshots/", "/galleries/spring/screenshots/", "/tags/dark/screenshots/"]
    )
    @pytest.mark.parametrize("sign", ["", "-"])
    @pytest.mark.parametrize("name", ["captured_at", "title"])
    def test_cursor_within_a_range_visits_all_of_it_and_no_more(self, api, ties, path, sign, name):
        moments = sorted(Screenshot.objects.values_list("captured_at", flat=True))
        bounds = {"captured_after": moments[1], "captured_before": moments[-2]}
        query = "&".join(f"{bound}={moment:%Y-%m-%dT%H:%M:%SZ}" for bound, moment in bounds.items())
        target = f"{path}?{query}&ordering={sign}{name}"
        everything = api.ids(f"{target}&page_size=max")
        pages = api.walk(f"{target}&page_size=1")
        assert ids(pages) == everything
        assert ids(way_back(api, pages)) == everything

    @pytest.mark.parametrize("ordering", ["created_at", "-created_at"])
    def test_cursor_by_another_moment_stays_within_a_range(self, api, ties, ordering):
        moments = sorted(Screenshot.objects.values_list("captured_at", flat=True))
        target = f"/screenshots/?captured_after={moments[2]:%Y-%m-%dT%H:%M:%SZ}&ordering={ordering}"
        everything = api.ids(f"{target}&page_size=max")
        assert len(everything) < len(moments)
        assert ids(api.walk(f"{target}&page_size=1")) == everything

    @pytest.mark.parametrize("bound", ["before", "after"])
    @pytest.mark.parametrize("ordering", ["captured_at", "-captured_at"])
    def test_cursor_from_outside_a_range_shows_nothing_from_outside(self, api, ties, ordering, bound):
        moment = sorted(Screenshot.objects.values_list("captured_at", flat=True))[3]
        ranged = f"captured_{bound}={moment:%Y-%m-%dT%H:%M:%SZ}"
        everything = api.ids(f"/screenshots/?ordering={ordering}&page_size=max")
        within = api.ids(f"/screenshots/?ordering={ordering}&{ranged}&page_size=max")
        for place, page in enumerate(api.walk(f"/screenshots/?ordering={ordering}&page_size=1")[:-1], 1):
            elsewhere = page["next"].replace("page_size=1", f"page_size=max&{ranged}")
            assert api.ids(elsewhere) == [pk for pk in everything[place:] if pk in within]

    @pytest.mark.parametrize(("ordering", "bound"), [("-captured_at", "<"), ("captured_at", ">=")])
    def test_a_bound_that_the_cursor_is_past_is_not_asked_for_again(
        self, api, world, count_queries, ordering, bound
    ):
        target = f"/screenshots/?captured_after=2000-01-01&captured_before=2050-01-01&ordering={ordering}"
        following = api.read(f"{target}&page_size=2")["next"]
        with count_queries() as queries:
            api.read(following)
        (page,) = [each["sql"] for each in queries if "ORDER BY" in each["sql"] and "LIMIT 3" in each["sql"]]
        compared = re.findall(r'"captured_at" (<=?|>=?) ', page)
        assert compared == [{"<": ">=", ">=": "<"}[bound]]


class TestNumbers:
    def test_pages_know_their_neighbours(self, api, world):
        first, middle, last = (api.read(f"/screenshots/?page={n}&page_size=3") for n in (1, 2, 3))
        assert (first["previous"], first["next"]) == (None, "/api/v1/screenshots/?page=2&page_size=3")
        assert middle["previous"] == "/api/v1/screenshots/?page=1&page_size=3"
        assert (len(last["results"]), last["next"], last["count"]) == (1, None, 7)

    def test_offset_past_the_end_is_an_empty_page_with_its_count_and_a_way_back(self, api, world):
        page = api.read("/screenshots/?limit=3&offset=9")
        assert (page["results"], page["count"], page["next"]) == ([], 7, None)
        assert api.read(page["previous"])["results"] != []

    def test_before_an_offset_smaller_than_the_limit_is_the_beginning(self, api, world):
        page = api.read("/screenshots/?limit=3&offset=1")
        assert page["previous"] == "/api/v1/screenshots/?limit=3&offset=0"
        assert api.read(page["previous"])["previous"] is None

    @pytest.mark.parametrize("deepest", [2, 3, 4])
    def test_offsets_end_in_a_cursor_that_goes_on_from_the_same_row(self, api, ties, monkeypatch, deepest):
        everything = api.ids("/screenshots/?page_size=max")
        monkeypatch.setattr("catalog.api.pagination.DEEPEST_OFFSET", deepest)
        pages = api.walk("/screenshots/?limit=2&tag=dark")
        assert ids(pages) == [
            pk for pk in everything if pk in api.ids("/screenshots/?tag=dark&page_size=max")
        ]
        addresses = [page["next"] for page in pages[:-1]]
        assert all(("cursor=" in address) != ("offset=" in address) for address in addresses)
        assert "cursor=" in addresses[-1]
        assert all(len(page["results"]) == 2 for page in pages[:-1])
        assert len(pages[-1]["results"]) <= 2

    @pytest.mark.django_db(transaction=True)
    def test_offset_whose_rows_go_after_they_were_counted_is_the_last_page(self, api, world, monkeypatch):
        monkeypatch.setattr("catalog.api.pagination.DEEPEST_OFFSET", 2)
        with before_statement('SELECT "catalog_screenshot"', Screenshot.objects.all().delete):
            page = api.read("/screenshots/?limit=1&offset=2")
        assert (page["results"], page["next"]) == ([], None)

    def test_numbers_and_cursors_count_only_where_asked(self, api, world, count_queries):
        with count_queries() as queries:
            api.read("/screenshots/?page_size=2")
        assert not [query for query in queries if "COUNT(" in query["sql"]]


PAGED = [
    "/screenshots/?page_size=2",
    "/screenshots/?page=2&page_size=2",
    "/screenshots/?limit=2&offset=2",
    "/galleries/?page_size=1",
    "/tags/?page=2&page_size=2",
    "/galleries/spring/screenshots/?limit=2&offset=2",
    "/screenshots/{cat}/renditions/?page_size=1",
]


class TestLinks:
    @pytest.mark.parametrize("target", PAGED)
    def test_link_field_says_what_the_body_says(self, api, world, target):
        for page in (world.at(target), api.read(world.at(target))["next"]):
            response = api(page)
            body = orjson.loads(response.content)
            links = dict(re.findall(r'<([^>]+)>; rel="(\w+)"', response["Link"]))
            expected = {"next": body["next"], "prev": body["previous"], "describedby": "/api/v1/schema/"}
            assert {rel: address for address, rel in links.items()} == {
                rel: address for rel, address in expected.items() if address
            }

    def test_single_page_links_to_its_description_alone(self, api, world):
        assert api("/screenshots/")["Link"] == '</api/v1/schema/>; rel="describedby"'

    @pytest.mark.parametrize("target", PAGED)
    def test_links_depend_on_no_host_scheme_or_proxy(self, api, world, target):
        target = world.at(target)
        plain = api(target)
        elsewhere = api(
            target,
            headers={
                "Host": "localhost:8443",
                "X-Forwarded-Host": "evil.example",
                "X-Forwarded-Proto": "https",
            },
            **{"wsgi.url_scheme": "https"},
        )
        assert elsewhere.content == plain.content
        assert elsewhere["Link"] == plain["Link"]
        body = orjson.loads(plain.content)
        assert all(body[name] is None or body[name].startswith("/api/v1/") for name in ("next", "previous"))

    def test_links_are_canonical(self, api, world):
        one = api.read("/screenshots/?tag=dark&page_size=01&utm_source=x&tag=dark&domain=ONE.example")["next"]
        other = api.read("/screenshots/?domain=one.example&format=json&page_size=1&tag=dark&_=5")["next"]
        assert one == other
        assert re.fullmatch(
            r"/api/v1/screenshots/\?cursor=[\w-]+&domain=one\.example&page_size=1&tag=dark", one
        )

    @pytest.mark.parametrize(
        "query",
        [
            "search=%C3%A9+%26+%25+one",
            "captured_after=2026-01-01T00:00:00%2B14:00",
            "ids={cat},{dog},{elk}",
            "domain=one.example",
            "tag=dark&tag=chart",
        ],
    )
    def test_every_link_is_accepted(self, api, world, query):
        world.add("accent", "spring", "dark chart", title="é one")
        world.add("accents", "spring", "dark chart", title="é one")
        for way in ("page_size=1", "page=1&page_size=1", "limit=1"):
            pages = api.walk(world.at(f"/screenshots/?{query}&{way}"))
            assert len(pages) > 1
