"""Bulk operations on lists: what they refuse, what they do, and what they leave alone."""

from __future__ import annotations

import json
import re

import pytest
from django.contrib.auth.models import User
from writing import problem, sent

from catalog.curation import bulk
from catalog.models import BulkOperation, Gallery, Rendition, Screenshot, Tag
from keybits.drf import bulk as mechanics
from keybits.drf.members import MOST_NAMED

pytestmark = pytest.mark.django_db

SPRING = "/screenshots/?gallery=spring"
EVERY_LIST = (
    SPRING,
    "/galleries/spring/screenshots/?status=ready",
    "/tags/form/screenshots/?gallery=spring",
    "/galleries/?search=vault",
)


@pytest.fixture
def owner(by_token):
    return by_token


@pytest.fixture
def staff(world, by_user):
    return by_user(User.objects.create_user("staff", is_staff=True))


@pytest.fixture
def many(world):
    """Forty more screenshots in spring, each with a rendition and the tag `form`."""
    made = [world.add(f"more{number}", "spring", "form") for number in range(40)]
    Rendition.objects.bulk_create([Rendition(screenshot=shot, width=1) for shot in made])


def send(client, method, target, body=None, bulk="true", **fields):
    """Send a bulk operation; `bulk` is the value of the header, None for none."""
    header = {} if bulk is None else {mechanics.HEADER: bulk}
    return sent(client, method, target, body, **fields, **header)


def done(response, status=200):
    """Return the document of an operation that was done, which no cache answers and nobody keeps."""
    assert response.status_code == status, response.content
    assert response["Cache-Control"] == "private, no-store"
    assert response["Cache-Status"] == "keybits; fwd=method"
    return json.loads(response.content)


def rows():
    """Return everything that an operation could have changed."""
    models = (Gallery, Screenshot, Rendition, Tag, Screenshot.tags.through, BulkOperation)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.fixture
def unchanged():
    """Hold that nothing is written."""
    before = rows()
    yield
    assert rows() == before


@pytest.mark.usefixtures("unchanged")
class TestTheHeader:
    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    @pytest.mark.parametrize("value", [None, "false", "TRUE", "1", "yes", "true, true"])
    def test_counts_by_its_value(self, owner, method, value):
        body = {"title": "New"} if method == "PATCH" else None
        for target in EVERY_LIST:
            document = problem(send(owner, method, target, body, bulk=value), 400, "bulk-header")
            assert document["header"] == "X-BULK-OPERATION"
            assert document["allowed"] == ["true"]
            assert value is None or value in document["detail"]

    def test_is_nothing_without_a_client_that_is_known(self, api):
        for target in EVERY_LIST:
            response = send(api, "DELETE", target)
            problem(response, 401)
            assert response["WWW-Authenticate"]

    @pytest.mark.parametrize("value", [None, "false"])
    def test_counts_for_many_items_too(self, owner, value):
        item = {"gallery": "spring", "title": "New", "source_url": "https://one.example/"}
        for body in ([item], {"items": [item]}):
            response = send(owner, "POST", "/screenshots/", body, bulk=value)
            assert problem(response, 400, "bulk-header")["allowed"] == ["true"]

    @pytest.mark.parametrize("value", ["false", "TRUE", ""])
    def test_with_another_value_is_said_to_be_wrong_whatever_the_body(self, owner, value):
        item = {"gallery": "spring", "title": "New", "source_url": "https://one.example/"}
        for body in (item, [], {}):
            response = send(owner, "POST", "/screenshots/", body, bulk=value)
            assert problem(response, 400, "bulk-header")["header"] == "X-BULK-OPERATION"


@pytest.mark.usefixtures("unchanged")
class TestWhichRowsAreMeant:
    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_has_to_be_said(self, owner, method):
        body = {"title": "New"} if method == "PATCH" else None
        for target in EVERY_LIST:
            for query in (
                "",
                "?all=false",
                "?dry_run=true",
                "?max=9",
                "?skip_forbidden=true",
                "?format=json",
            ):
                bare = target.partition("?")[0] + query
                assert problem(send(owner, method, bare, body), 400, "bulk-unfiltered")["parameter"] == "all"

    @pytest.mark.parametrize("blank", ["+", "%C2%A0", "%E3%80%80%09"])
    def test_is_not_said_by_a_search_for_nothing(self, owner, blank):
        for target in ("/screenshots/", "/galleries/"):
            response = send(owner, "DELETE", f"{target}?search={blank}")
            assert problem(response, 400, "malformed-parameter")["parameter"] == "search"

    @pytest.mark.parametrize(
        "query",
        [
            "galery=spring",
            "limit=1",
            "page=1",
            "cursor=x",
            "page_size=5",
            "ordering=title",
            "fields=id",
            "include=gallery",
        ],
    )
    def test_is_said_by_filters_alone(self, owner, query):
        """What pages, orders or shapes a list does not choose rows: a client that counts on it is told."""
        name = query.partition("=")[0]
        document = problem(
            send(owner, "DELETE", f"/screenshots/?status=ready&{query}"), 400, "unknown-parameter"
        )
        assert document["parameter"] == name
        assert "gallery" in document["allowed"]

    @pytest.mark.parametrize(
        "query",
        ["all=yes", "dry_run=1", "max=0", "max=-1", "max=all", "skip_forbidden=", "all=true&all=true"],
    )
    def test_is_said_in_values_that_can_be_read(self, owner, query):
        problem(send(owner, "DELETE", f"{SPRING}&{query}"), 400)

    def test_is_not_said_in_a_body(self, owner):
        assert "errors" in problem(send(owner, "DELETE", SPRING, {"ids": [1]}), 400)

    def test_is_a_list_that_there_is(self, owner, by_user, world):
        other = by_user(world.other)
        for client, target in [
            (owner, "/galleries/nowhere/screenshots/?status=ready"),
            (owner, "/tags/nowhere/screenshots/?status=ready"),
            (other, "/galleries/vault/screenshots/?status=ready"),
        ]:
            problem(send(client, "DELETE", target), 404)


class TestWhatTheClientMayNotChange:
    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_has_the_whole_refused(self, owner, method):
        body = {"title": "New"} if method == "PATCH" else None
        document = problem(send(owner, method, "/screenshots/?all=true", body), 403, "rows-forbidden")
        assert document["count"] == 2
        assert document["parameter"] == "skip_forbidden"
        assert problem(send(owner, method, "/galleries/?all=true", body), 403)["count"] == 1
        assert problem(send(owner, method, "/tags/dark/screenshots/?all=true", body), 403)["count"] == 1

    def test_is_left_out_on_request(self, owner, world):
        document = done(send(owner, "PATCH", "/screenshots/?all=true&skip_forbidden=true", {"title": "Mine"}))
        assert document["count"] == 9
        mine = set(Screenshot.objects.filter(title="Mine").values_list("pk", flat=True))
        assert mine == {shot.pk for name, shot in world.shots.items() if name not in {"owl", "pig"}}

    def test_is_nothing_to_staff(self, staff):
        """But staff sees the lists that everybody sees."""
        assert done(send(staff, "PATCH", "/screenshots/?all=true", {"alt": "x"}))["count"] == 7

    @pytest.mark.usefixtures("unchanged")
    def test_is_no_place_to_move_to(self, owner):
        problem(send(owner, "PATCH", SPRING, {"gallery": "autumn"}), 403)


class TestTheMost:
    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_is_not_exceeded(self, owner, method, settings):
        body = {"title": "New"} if method == "PATCH" else None
        document = problem(send(owner, method, f"{SPRING}&max=4", body), 409, "too-many-rows")
        assert (document["count"], document["max"], document["parameter"]) == (5, 4, "max")
        settings.KEYBITS_BULK_LIMIT = 3
        assert problem(send(owner, method, SPRING, body), 409, "too-many-rows")["max"] == 3

    def test_is_said_where_the_usual_does_not_do(self, owner, settings):
        settings.KEYBITS_BULK_LIMIT = 3
        assert done(send(owner, "PATCH", f"{SPRING}&max=5", {"title": "New"}))["count"] == 5


class TestADryRun:
    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_counts_and_shows_a_few(self, owner, world, method, many, count_queries):
        body = {"title": "New", "tags": ["fresh"]} if method == "PATCH" else None
        before = rows()
        with count_queries() as queries:
            document = done(send(owner, method, f"{SPRING}&dry_run=true&max=1", body))
        assert rows() == before
        assert document["count"] == 45
        assert document["dry_run"] is True
        assert [item["id"] for item in document["sample"]] == owner.ids(SPRING)[:5]
        assert all(owner(item["url"]).status_code == 200 for item in document["sample"])
        assert not [each["sql"] for each in queries if re.match("INSERT|UPDATE|DELETE|CREATE", each["sql"])]

    @pytest.mark.usefixtures("unchanged")
    def test_refuses_what_the_operation_would(self, owner):
        problem(send(owner, "PATCH", f"{SPRING}&dry_run=true", {"position": {"add": -1}}), 400)
        problem(send(owner, "DELETE", "/screenshots/?all=true&dry_run=true"), 403)


BAD_CHANGES = [
    ({}, ""),
    ([], ""),
    ("x", ""),
    ({"title": ""}, "title"),
    ({"title": None}, "title"),
    ({"title": "x" * 201}, "title"),
    ({"title": "nul\0"}, "title"),
    ({"position": -1}, "position"),
    ({"position": 2**63}, "position"),
    ({"position": "many"}, "position"),
    ({"width": 5}, "width"),
    ({"source_url": "https://x.example/"}, "source_url"),
    ({"id": 5}, "id"),
    ({"titel": "x"}, "titel"),
    ({"gallery": "nowhere"}, "gallery"),
    ({"tags": ["not a slug"]}, "tags"),
    ({"tags": "dark"}, "tags"),
    ({"position": {"add": -1}}, "position"),
    ({"position": {"add": 2**31 - 1}}, "position"),
    ({"position": {"add": 2**31}}, "position"),
    ({"position": {"add": "1"}, "title": ""}, "title"),
    ({"position": {"ad": 1}}, "position"),
    ({"position": {}}, "position"),
    ({"alt": {"add": 1}}, "alt"),
    ({"title": {"replace": ["", "x"]}}, "title"),
    ({"title": {"replace": ["Cat"]}}, "title"),
    ({"title": {"replace": ["Cat", ""]}}, "title"),
    ({"title": {"replace": ["Cat", " "]}}, "title"),
    ({"title": {"replace": ["Cat", "\t\r\n\x1f\x85\xa0\u2003\u3000"]}}, "title"),
    ({"title": {"replace": ["a", "x" * 200]}}, "title"),
    ({"tags": {}}, "tags"),
    ({"tags": {"add": ["x"], "remove": ["x"]}}, "tags"),
    ({"tags": {"add": ["not a slug"]}}, "tags"),
    ({"tags": {"set": ["x"]}}, "tags"),
]


class TestAChange:
    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(("body", "member"), BAD_CHANGES, ids=[str(body)[:40] for body, _ in BAD_CHANGES])
    def test_is_validated_before_anything_is_written(self, owner, body, member):
        document = problem(send(owner, "PATCH", SPRING, body), 400, "invalid-value")
        assert not member or member in document["errors"]

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(
        ("body", "most"),
        [
            ({"tags": ["!"] * 5_000}, 100),
            ({"tags": {"add": ["!"] * 5_000}}, 100),
            ({"tags": {"remove": ["!"] * 5_000}}, 100),
            ({"title": {"replace": [None] * 5_000}}, 2),
        ],
    )
    def test_whose_list_is_too_long_is_refused_before_what_is_in_it_is_looked_at(self, owner, body, most):
        response = send(owner, "PATCH", SPRING, body)
        problem(response, 400, "invalid-value")
        assert f"no more than {most} elements" in response.content.decode()
        assert len(response.content) < 400

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(
        "body",
        [{"visibility": "secret"}, {"cover": 1}, {"slug": "x"}, {"max_age": -1}, {"edge_max_age": 2**31 - 1}],
    )
    def test_of_galleries_is_validated_too(self, owner, body):
        document = problem(send(owner, "PATCH", "/galleries/?search=vault", body), 400, "invalid-value")
        assert set(document["errors"]) == set(body)

    def test_sets_what_it_says_in_all_that_the_list_shows(self, owner, world):
        before = {shot.pk: shot.updated_at for shot in Screenshot.objects.all()}
        body = {"title": "New", "alt": "What it shows", "position": 7}
        assert done(send(owner, "PATCH", "/galleries/spring/screenshots/?status=ready", body))["count"] == 3
        for name, shot in world.shots.items():
            now = Screenshot.objects.get(pk=shot.pk)
            if name in {"cat", "dog", "elk"}:
                assert (now.title, now.alt, now.position) == ("New", "What it shows", 7)
                assert now.updated_at > before[shot.pk]
            else:
                assert (now.title, now.alt, now.position) == (shot.title, shot.alt, shot.position)
                assert now.updated_at == before[shot.pk]

    def test_moves_and_leaves_no_cover_behind(self, owner, world):
        done(send(owner, "PATCH", SPRING, {"gallery": "vault"}))
        assert not Screenshot.objects.filter(gallery__slug="spring").exists()
        assert Gallery.objects.get(slug="spring").cover is None
        assert Gallery.objects.get(slug="vault").cover == world.shots["yak"]
        assert Gallery.objects.get(slug="drafts").cover == world.shots["rat"]

    def test_computes_each_row_s_own(self, owner, world):
        body = {"position": {"add": 10}, "title": {"replace": ["o", "00"]}}
        done(send(owner, "PATCH", SPRING, body))
        now = {name: Screenshot.objects.get(pk=world.shots[name].pk) for name in ("cat", "dog", "fox")}
        assert {name: (shot.title, shot.position) for name, shot in now.items()} == {
            "cat": ("Cat", 12),
            "dog": ("D00g", 11),
            "fox": ("F00x", 11),
        }

    def test_goes_as_far_as_the_least_position_and_the_longest_title(self, owner, world):
        least = min(
            shot.position for name, shot in world.shots.items() if name in {"cat", "dog", "elk", "fox"}
        )
        target = world.at("/screenshots/?ids={cat},{dog},{elk},{fox}")
        done(send(owner, "PATCH", target, {"position": {"add": -least}}))
        assert Screenshot.objects.get(pk=world.shots["dog"].pk).position == 0
        target = world.at("/screenshots/?ids={dog}")
        done(send(owner, "PATCH", target, {"title": {"replace": ["Dog", "g" * 200]}}))
        assert Screenshot.objects.get(pk=world.shots["dog"].pk).title == "g" * 200
        longer = send(owner, "PATCH", target, {"title": {"replace": ["g" * 200, "g" * 199 + "oo"]}})
        assert problem(longer, 400)["errors"]

    def test_leaves_no_gallery_private_to_nobody(self, staff, world):
        Gallery.objects.filter(slug="spring").update(owner=None)
        for query in ("", "&dry_run=true"):
            response = send(staff, "PATCH", f"/galleries/?all=true{query}", {"visibility": "private"})
            assert problem(response, 400)["errors"]["visibility"][0].startswith("1 of the rows")
        assert Gallery.objects.filter(visibility="public").count() == 2
        done(send(staff, "PATCH", "/galleries/?search=autumn", {"visibility": "private"}))

    def test_leaves_private_what_is_nobody_s_already(self, world):
        Gallery.objects.filter(slug="vault").update(owner=None)
        changed = bulk.update(
            rows=Gallery.objects.filter(slug="vault"),
            actor=User(is_staff=True),
            changes=bulk.Changes({"visibility": "private", "title": "Crypt"}),
            most=1,
            record=BulkOperation(username="staff", path="/"),
        )
        assert (changed.count, Gallery.objects.get(slug="vault").title) == (1, "Crypt")

    def test_of_galleries_changes_galleries(self, owner):
        body = {
            "visibility": "unlisted",
            "max_age": 60,
            "position": {"add": 2},
            "title": {"replace": ["V", "W"]},
        }
        assert done(send(owner, "PATCH", "/galleries/?search=vault", body))["count"] == 1
        vault = Gallery.objects.get(slug="vault")
        assert (vault.visibility, vault.max_age, vault.position, vault.title) == ("unlisted", 60, 3, "Wault")

    def test_of_nothing_is_done(self, owner):
        assert done(send(owner, "PATCH", f"{SPRING}&search=nothing", {"title": "New"}))["count"] == 0
        assert done(send(owner, "PATCH", "/screenshots/?tag=nowhere", {"tags": ["x"]}))["count"] == 0

    @pytest.mark.parametrize(
        "query",
        [
            "search=cat",
            "ids={cat}",
            "tag=dark&tag=chart",
            "min_width=1000&status=ready&gallery=spring",
            "domain=one.example&search=cat",
        ],
    )
    def test_reaches_what_the_same_list_shows(self, owner, world, query):
        shown = owner.ids(world.at(f"/screenshots/?{query}"))
        assert shown == [world.shots["cat"].pk]
        assert (
            done(send(owner, "PATCH", world.at(f"/screenshots/?{query}"), {"alt": "reached"}))["count"] == 1
        )
        assert Screenshot.objects.get(alt="reached").pk == shown[0]


class TestTags:
    @pytest.mark.parametrize("tags", [["word-of-nothing"], {"add": ["word-of-nothing"]}])
    def test_of_no_rows_makes_no_word(self, owner, world, tags):
        response = send(owner, "PATCH", "/screenshots/?gallery=spring&search=nothing", {"tags": tags})
        assert done(response)["count"] == 0
        assert not Tag.objects.filter(slug="word-of-nothing").exists()

    def of(self, world, name):
        return set(world.shots[name].tags.values_list("slug", flat=True))

    def test_are_added_and_removed(self, owner, world):
        done(send(owner, "PATCH", SPRING, {"tags": {"add": ["form", "fresh"], "remove": ["dark", "idle"]}}))
        assert self.of(world, "cat") == {"chart", "form", "fresh"}
        assert self.of(world, "gnu") == {"form", "fresh"}
        assert self.of(world, "owl") == {"dark", "mobile"}
        assert Tag.objects.get(slug="fresh").name == "Fresh"

    def test_as_a_list_replace_those_that_each_row_has(self, owner, world):
        done(send(owner, "PATCH", SPRING, {"tags": ["form", "fresh"]}))
        assert self.of(world, "cat") == self.of(world, "fox") == {"form", "fresh"}
        done(send(owner, "PATCH", SPRING, {"tags": []}))
        assert self.of(world, "cat") == self.of(world, "fox") == set()
        assert self.of(world, "owl") == {"dark", "mobile"}

    def test_are_at_most_a_hundred_of_each_screenshot(self, owner, world):
        target = world.at("/screenshots/?ids={cat},{fox}")
        words = [f"word-{number}" for number in range(98)]
        done(send(owner, "PATCH", target, {"tags": {"add": words}}))
        assert len(self.of(world, "cat")) == 100
        before = rows()
        for query in ("", "&dry_run=true"):
            document = problem(send(owner, "PATCH", target + query, {"tags": {"add": ["one-more"]}}), 400)
            assert document["errors"] == {
                "tags": ["1 of the rows would have more than 100 tags; none was changed."]
            }
        problem(send(owner, "PATCH", target, {"tags": {"add": ["x", "y", "dark"], "remove": ["chart"]}}), 400)
        assert rows() == before

    def test_that_a_screenshot_has_or_loses_are_not_counted_twice(self, owner, world):
        target = world.at("/screenshots/?ids={cat}")
        words = [f"word-{number}" for number in range(98)]
        done(send(owner, "PATCH", target, {"tags": {"add": words}}))
        done(send(owner, "PATCH", target, {"tags": {"add": ["dark", *words]}}))
        done(send(owner, "PATCH", target, {"tags": {"add": ["one-more"], "remove": ["dark", "idle"]}}))
        assert self.of(world, "cat") == {"chart", "one-more", *words}
        done(send(owner, "PATCH", target, {"tags": [f"other-{number}" for number in range(100)]}))
        assert len(self.of(world, "cat")) == 100

    def test_of_one_that_has_too_many_already_can_be_removed(self, owner, world):
        tags = Tag.objects.bulk_create([Tag(slug=f"t{number}", name="x") for number in range(150)])
        world.shots["cat"].tags.set(tags)
        target = world.at("/screenshots/?ids={cat}")
        done(send(owner, "PATCH", target, {"tags": {"remove": ["t0"]}}))
        assert len(self.of(world, "cat")) == 149
        done(send(owner, "PATCH", target, {"tags": ["t1"]}))
        assert self.of(world, "cat") == {"t1"}

    @pytest.mark.stack("embedded")
    def test_on_sqlite_are_no_more_in_all_than_others_can_wait_for(self, owner, world, monkeypatch):
        count = Screenshot.objects.filter(gallery__slug="spring").count()
        monkeypatch.setattr(bulk, "MOST_PAIRS", 2 * count)
        before = rows()
        for body in ({"add": ["a", "b", "c"]}, ["a", "b", "c"]):
            for query in ("", "&dry_run=true"):
                document = problem(send(owner, "PATCH", SPRING + query, {"tags": body}), 400, "invalid-value")
                assert f"at most {2 * count}" in document["errors"]["tags"][0]
        assert rows() == before
        done(send(owner, "PATCH", SPRING, {"tags": {"add": ["a", "b"]}}))

    @pytest.mark.stack("embedded")
    def test_on_sqlite_that_are_taken_off_count_as_well(self, owner, world, monkeypatch):
        pairs = Screenshot.tags.through.objects.filter(screenshot__gallery__slug="spring").count()
        monkeypatch.setattr(bulk, "MOST_PAIRS", pairs - 1)
        document = problem(send(owner, "PATCH", SPRING, {"tags": []}), 400, "invalid-value")
        assert f"There are {pairs} tags in all" in document["errors"]["tags"][0]
        done(send(owner, "PATCH", SPRING, {"tags": {"remove": ["dark"]}}))
        done(send(owner, "PATCH", SPRING, {"tags": []}))

    @pytest.mark.stack("server")
    def test_on_postgresql_are_as_many_as_there_are_rows_for(self, owner, world, monkeypatch):
        monkeypatch.setattr(bulk, "MOST_PAIRS", 0)
        done(send(owner, "PATCH", SPRING, {"tags": {"add": ["a", "b"], "remove": ["dark"]}}))

    def test_can_be_what_the_rows_are_chosen_by(self, owner, world):
        """The rows are chosen once: taking away what chose them does not end the operation half way."""
        body = {"tags": {"add": ["light"], "remove": ["dark"]}, "gallery": "vault", "title": "Light"}
        assert done(send(owner, "PATCH", "/tags/dark/screenshots/?gallery=spring", body))["count"] == 2
        for name in ("cat", "dog"):
            world.shots[name].refresh_from_db()
            assert (world.shots[name].title, world.shots[name].gallery.slug) == ("Light", "vault")
        assert self.of(world, "cat") == {"chart", "light"}


class TestADeletion:
    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize("body", [b'{"dry_run": true}', b"{}", b"[]", b"null", b" "])
    def test_takes_no_body_whatever_it_says(self, owner, body):
        assert "send no body" in json.dumps(problem(send(owner, "DELETE", SPRING, body), 400)["errors"])

    def test_takes_what_hangs_on_the_rows_with_it(self, owner, world):
        assert done(send(owner, "DELETE", SPRING))["count"] == 5
        gone = world.ids("cat", "dog", "elk", "fox", "gnu")
        assert not Screenshot.objects.filter(pk__in=gone).exists()
        assert not Rendition.objects.filter(screenshot__in=gone).exists()
        assert not Screenshot.tags.through.objects.filter(screenshot__in=gone).exists()
        assert Gallery.objects.get(slug="spring").cover is None
        assert Screenshot.objects.count() == 6
        assert Rendition.objects.count() == 9

    def test_of_galleries_takes_what_is_in_them(self, owner, world):
        Gallery.objects.filter(slug="autumn").update(cover=world.shots["yak"])  # no function of ours would
        assert done(send(owner, "DELETE", "/galleries/?all=true&skip_forbidden=true"))["count"] == 3
        assert set(Gallery.objects.values_list("slug", flat=True)) == {"autumn"}
        assert set(Screenshot.objects.values_list("pk", flat=True)) == world.ids("owl", "pig")
        assert Gallery.objects.get(slug="autumn").cover is None

    def test_leaves_tombstones(self, owner, api, world):
        done(send(owner, "DELETE", f"{SPRING}&status=ready"))
        assert api(world.at("/screenshots/{cat}/")).status_code == 410
        done(send(owner, "DELETE", "/galleries/?search=vault"))
        assert owner("/galleries/vault/").status_code == 410
        assert api("/galleries/vault/").status_code == 404

    def test_by_a_tag_takes_the_tagged(self, owner, world):
        assert done(send(owner, "DELETE", "/tags/chart/screenshots/?gallery=spring"))["count"] == 2
        assert not Screenshot.objects.filter(pk__in=world.ids("cat", "elk")).exists()


def statements(queries):
    """Return the statements, each by its verb and its table."""
    found = (re.match(r'(\w+)(?: INTO| FROM)? "?(\w+)', each["sql"]) for each in queries)
    return [" ".join(each.groups()) for each in found if each]


class TestTheNumberOfStatements:
    @pytest.mark.parametrize(
        ("method", "target", "body"),
        [
            ("PATCH", SPRING, {"title": "New", "position": {"add": 1}}),
            ("PATCH", SPRING, {"gallery": "vault"}),
            (
                "PATCH",
                "/tags/form/screenshots/?gallery=spring",
                {"tags": {"add": ["idle", "mobile"], "remove": ["dark"]}},
            ),
            ("DELETE", SPRING, None),
            ("DELETE", "/galleries/?search=spring", None),
        ],
    )
    def test_is_the_same_for_any_number_of_rows(self, owner, world, method, target, body, count_queries):
        counts = []
        for more in (1, 60):
            gallery, _ = Gallery.objects.get_or_create(slug="spring", owner=world.owner, title="Spring")
            world.galleries["spring"] = gallery
            for number in range(more):
                world.add(f"n{more}-{number}", "spring", "form chart")
            with count_queries() as queries:
                done(send(owner, method, target, body))
            counts.append(len(queries))
        assert counts[0] == counts[1]

    def test_is_one_for_an_update(self, owner, many, count_queries):
        with count_queries() as queries:
            done(send(owner, "PATCH", SPRING, {"title": "New", "position": {"add": 1}}))
        writes = [each for each in statements(queries) if re.match("INSERT|UPDATE|DELETE", each)]
        assert writes == ["UPDATE catalog_screenshot", "INSERT catalog_bulkoperation"]
        # The token, a look at the rows, and the savepoints of a test's transaction.
        assert len(queries) <= 10, statements(queries)

    def test_is_one_for_each_table_of_a_deletion(self, owner, many, count_queries):
        with count_queries() as queries:
            done(send(owner, "DELETE", SPRING))
        deleted = [each for each in statements(queries) if each.startswith("DELETE")]
        assert sorted(deleted) == [
            "DELETE catalog_rendition",
            "DELETE catalog_screenshot",
            "DELETE catalog_screenshot_tags",
        ]


class TestTheRecord:
    def test_says_who_did_what_to_which_list(self, owner, world):
        body = {"title": "New", "position": {"add": 1}}
        document = done(send(owner, "PATCH", "/galleries/spring/screenshots/?status=ready&max=9", body))
        record = BulkOperation.objects.get()
        assert record.pk == document["record"]
        assert (record.user, record.username, record.kind, record.count) == (
            world.owner,
            "owner",
            "update",
            3,
        )
        assert (record.path, record.query) == ("/api/v1/galleries/spring/screenshots/", "status=ready")
        assert record.changes == body

    def test_stays_when_the_user_goes(self, owner, world):
        done(send(owner, "DELETE", SPRING))
        User.objects.filter(username="owner").delete()
        assert (BulkOperation.objects.get().user, BulkOperation.objects.get().username) == (None, "owner")


class TestIfMatch:
    def test_lets_the_operation_on_while_the_list_is_as_it_was(self, owner):
        for coding in ("identity", "gzip", "br", "zstd"):
            tag = owner(SPRING, headers={"Accept-Encoding": coding})["ETag"]
            done(send(owner, "PATCH", f"{SPRING}&max=9", {"alt": coding}, If_Match=tag))
        done(send(owner, "PATCH", SPRING, {"alt": "any"}, If_Match="*"))

    def test_lets_it_on_where_a_tag_beside_is_weak(self, owner):
        plain, packed = (
            owner(SPRING, headers={"Accept-Encoding": name})["ETag"] for name in ("identity", "br")
        )
        done(send(owner, "PATCH", SPRING, {"alt": "new"}, If_Match=f"W/{plain}, {packed}"))

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_refuses_it_once_the_list_has_changed(self, owner, world, method):
        body = {"alt": "new"} if method == "PATCH" else None
        tag = owner(SPRING)["ETag"]
        Screenshot.objects.filter(pk=world.shots["cat"].pk).update(title="Changed")
        before = rows()
        response = send(owner, method, SPRING, body, If_Match=tag)
        problem(response, 412, "precondition-failed")
        assert rows() == before
        done(send(owner, method, SPRING, body, If_Match=response["ETag"]))

    def test_is_about_the_list_with_its_filters(self, owner):
        tag = owner("/screenshots/?status=ready")["ETag"]
        problem(send(owner, "DELETE", f"{SPRING}&status=ready", If_Match=tag), 412)

    @pytest.mark.usefixtures("many")
    @pytest.mark.parametrize("terms", ["all=true", "max=99", "skip_forbidden=true", "all=true&max=99"])
    def test_lets_it_on_whatever_its_terms_where_the_list_has_more_pages(self, owner, terms):
        tag = owner("/galleries/spring/screenshots/?status=ready")["ETag"]
        target = f"/galleries/spring/screenshots/?status=ready&{terms}"
        done(send(owner, "PATCH", f"{target}&dry_run=true", {"alt": "new"}, If_Match=tag))
        done(send(owner, "PATCH", target, {"alt": "new"}, If_Match=tag))
        refused = send(owner, "PATCH", target, {"alt": "newer"}, If_Match=tag)
        problem(refused, 412)
        assert refused["ETag"] == owner("/galleries/spring/screenshots/?status=ready")["ETag"]

    def test_cannot_be_replaced_by_a_date(self, owner):
        date = "Sun, 29 Nov 2099 00:00:00 GMT"
        before = rows()
        for fields in ({}, {"If_None_Match": '"x"'}):
            problem(send(owner, "DELETE", SPRING, If_Unmodified_Since=date, **fields), 428)
        assert rows() == before

    @pytest.mark.parametrize(("gallery", "status"), [("spring", 403), ("vault", 404)])
    def test_is_not_asked_where_nothing_may_be_made(self, by_user, db, world, gallery, status):
        stranger = by_user(User.objects.create_user("stranger"))
        target = f"/galleries/{gallery}/screenshots/"
        for body, header in (([item(1)], "true"), (item(1), None)):
            problem(send(stranger, "POST", target, body, bulk=header, If_Match='"x"'), status)

    @pytest.mark.parametrize(
        ("field", "hint"),
        [('W/"x"', "weak"), ("junk", "double quotes"), ('"x"', "weak"), ("", "double quotes")],
    )
    def test_that_names_nothing_present_refuses(self, owner, field, hint):
        assert hint in problem(send(owner, "DELETE", SPRING, If_Match=field), 412)["detail"]

    def test_is_about_a_list_that_there_is(self, owner):
        problem(send(owner, "DELETE", "/galleries/nowhere/screenshots/?status=ready", If_Match="*"), 404)

    @pytest.mark.parametrize("target", ["/galleries/spring/screenshots/", "/tags/chart/screenshots/"])
    def test_of_a_list_of_what_was_deleted_is_410(self, owner, world, target):
        Gallery.objects.filter(slug="spring").delete()
        Tag.objects.get(slug="chart").delete()
        problem(send(owner, "PATCH", f"{target}?status=ready", {"alt": "new"}, If_Match="*"), 410)

    def test_is_about_the_list_and_not_its_page_for_people(self, owner, world):
        tag = owner(SPRING)["ETag"]
        response = send(owner, "PATCH", f"{SPRING}&format=api", {"alt": "new"}, If_Match=tag)
        assert response.status_code == 200, response.content


class TestIdempotencyKey:
    def test_has_a_formula_done_once(self, owner, world):
        before = Screenshot.objects.get(pk=world.shots["cat"].pk).position
        body = {"position": {"add": 10}}
        told = [done(send(owner, "PATCH", SPRING, body, Idempotency_Key='"k"')) for _ in range(2)]
        assert told[0] == told[1]
        assert Screenshot.objects.get(pk=world.shots["cat"].pk).position == before + 10
        assert BulkOperation.objects.count() == 1
        problem(send(owner, "PATCH", SPRING, {"position": {"add": 1}}, Idempotency_Key='"k"'), 422)

    def test_has_rows_deleted_once(self, owner):
        told = [done(send(owner, "DELETE", SPRING, Idempotency_Key='"k"')) for _ in range(2)]
        assert told[0] == told[1]

    @pytest.mark.parametrize("method", ["PATCH", "DELETE", "POST"])
    def test_is_asked_before_the_condition_which_held_the_first_time(self, owner, method):
        target = "/screenshots/" if method == "POST" else SPRING
        body = {"PATCH": {"alt": "new"}, "DELETE": None, "POST": [item(1)]}[method]
        fields = {"If_Match": owner(target)["ETag"], "Idempotency_Key": '"k"'}
        status = 201 if method == "POST" else 200
        told = [done(send(owner, method, target, body, **fields), status) for _ in range(2)]
        assert told[0] == told[1]

    def test_is_not_used_up_by_what_was_refused(self, owner):
        fields = {"Idempotency_Key": '"k"'}
        problem(send(owner, "PATCH", SPRING, {"alt": "new"}, If_Match='"old"', **fields), 412)
        done(send(owner, "PATCH", SPRING, {"alt": "new"}, **fields))

    def test_is_not_used_up_by_a_dry_run(self, owner):
        assert done(send(owner, "PATCH", f"{SPRING}&dry_run=true", {"alt": "new"}, Idempotency_Key='"k"'))[
            "dry_run"
        ]
        done(send(owner, "PATCH", SPRING, {"alt": "new"}, Idempotency_Key='"k"'))

    @pytest.mark.parametrize("dry", ["", "&dry_run=true"])
    def test_that_is_malformed_is_refused_by_a_dry_run_too(self, owner, dry):
        for method, body in (("PATCH", {"alt": "new"}), ("DELETE", None)):
            response = send(owner, method, f"{SPRING}{dry}", body, Idempotency_Key='"k')
            problem(response, 400, "malformed-idempotency-key")


def item(number, **fields):
    return {
        "gallery": "spring",
        "title": f"Item {number}",
        "source_url": f"https://i.example/{number}",
        **fields,
    }


class TestManyItems:
    @pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"items": items}])
    def test_are_made_in_order(self, owner, world, wrap):
        items = [item(1, tags=["fresh", "dark"]), item(2, gallery="vault", position=3), item(3)]
        document = done(send(owner, "POST", "/screenshots/", wrap(items)), 201)
        assert document["count"] == 3
        for index, result in enumerate(document["results"]):
            assert (result["index"], result["status"]) == (index, 201)
            shown = owner.read(result["url"])
            assert (shown["title"], shown["id"]) == (items[index]["title"], result["id"])
            assert shown["gallery"] == items[index]["gallery"]
            assert shown["tags"] == sorted(items[index].get("tags", []))
            assert (shown["domain"], shown["status"]) == ("i.example", "pending")
        assert BulkOperation.objects.get().count == 3

    def test_are_made_in_the_gallery_of_the_address(self, owner):
        items = [{"title": "A", "source_url": "https://a.example/"}]
        document = done(send(owner, "POST", "/galleries/drafts/screenshots/", items), 201)
        assert document["results"][0]["url"].startswith("/api/v1/galleries/drafts/")

    def test_can_be_galleries(self, owner, world):
        document = done(
            send(owner, "POST", "/galleries/", [{"slug": "x", "title": "X"}, {"slug": "y", "title": "Y"}]),
            201,
        )
        assert [each["url"] for each in document["results"]] == [
            "/api/v1/galleries/x/",
            "/api/v1/galleries/y/",
        ]
        assert Gallery.objects.get(slug="y").owner == world.owner

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(
        ("target", "bad", "member"),
        [
            ("/screenshots/", {"title": "x", "gallery": "spring"}, "source_url"),
            ("/screenshots/", item(2, gallery="nowhere"), "gallery"),
            ("/screenshots/", item(2, gallery=5), "gallery"),
            ("/screenshots/", item(2, gallery=["spring"]), "gallery"),
            ("/screenshots/", item(2, width=5), "width"),
            ("/screenshots/", item(2, tags=["not a slug"]), "tags"),
            ("/screenshots/", "x", "non_field_errors"),
            ("/screenshots/", None, "non_field_errors"),
            ("/galleries/", {"slug": "spring", "title": "X"}, "slug"),
            ("/galleries/", {"slug": "fresh", "title": "X"}, "slug"),
            ("/galleries/", {"slug": "", "title": "X"}, "slug"),
        ],
    )
    def test_are_none_where_one_is_bad_and_say_which(self, owner, target, bad, member):
        good = item(1) if target == "/screenshots/" else {"slug": "fresh", "title": "Fresh"}
        document = problem(send(owner, "POST", target, [good, bad]), 400, "invalid-value")
        assert document["errors"][-1]["index"] == 1
        assert member in document["errors"][-1]["errors"]

    @pytest.mark.usefixtures("unchanged")
    @pytest.mark.parametrize(
        "body", [[], {}, {"items": []}, {"items": {}}, {"items": [], "more": 1}, "x", 5, None]
    )
    def test_are_refused_where_the_body_has_none(self, owner, body):
        problem(send(owner, "POST", "/screenshots/", body), 400)

    @pytest.mark.usefixtures("unchanged")
    def test_are_the_owner_s_to_make(self, owner):
        problem(send(owner, "POST", "/screenshots/", [item(1), item(2, gallery="autumn")]), 403)
        problem(send(owner, "POST", "/galleries/autumn/screenshots/", [{"title": "A"}]), 403)

    def test_are_made_once_for_each_idempotency_key(self, owner):
        items = [item(1), item(2)]
        answers = [send(owner, "POST", "/screenshots/", items, Idempotency_Key='"k"') for _ in range(2)]
        assert done(answers[0], 201) == done(answers[1], 201)
        assert Screenshot.objects.filter(domain="i.example").count() == 2
        problem(send(owner, "POST", "/screenshots/", [item(3)], Idempotency_Key='"k"'), 422)

    @pytest.mark.usefixtures("unchanged")
    def test_are_no_more_than_the_limit(self, owner, settings):
        settings.KEYBITS_BULK_LIMIT = 2
        response = send(owner, "POST", "/screenshots/", [item(n) for n in range(3)])
        document = problem(response, 413, "too-many-items")
        assert (document["count"], document["max"]) == (3, 2)

    def test_are_made_where_they_are_as_many_as_the_limit(self, owner, settings):
        settings.KEYBITS_BULK_LIMIT = 2
        done(send(owner, "POST", "/screenshots/", [item(n) for n in range(2)]), 201)

    @pytest.mark.usefixtures("unchanged")
    def test_have_no_more_tags_in_all_than_others_can_wait_for(self, owner, monkeypatch):
        monkeypatch.setattr(bulk, "MOST_PAIRS", 5)
        items = [item(n, tags=["a", "b", "b", "c"]) for n in range(2)]
        document = problem(send(owner, "POST", "/screenshots/", items), 400, "invalid-value")
        (told,) = document["errors"]["tags"]
        assert "6 tags in all" in told
        assert "at most 5" in told

    @pytest.mark.usefixtures("unchanged")
    def test_have_their_tags_counted_before_each_is_looked_at(self, owner, monkeypatch):
        monkeypatch.setattr(bulk, "MOST_PAIRS", 5)
        items = [item(n, tags=[f"no slug {m}" for m in range(3)]) for n in range(2)]
        document = problem(send(owner, "POST", "/screenshots/", items), 400, "invalid-value")
        assert document["errors"].keys() == {"tags"}

    @pytest.mark.usefixtures("unchanged")
    def test_of_which_many_are_wrong_have_the_first_told_and_all_counted(self, owner):
        wrong = {"gallery": "spring", "source_url": "https://one.example/", "title": "", "tags": ["!"] * 100}
        response = send(owner, "POST", "/screenshots/", [wrong] * 150)
        document = problem(response, 400, "invalid-value")
        assert [each["index"] for each in document["errors"]] == list(range(MOST_NAMED))
        assert document["count"] == 150
        tags = document["errors"][0]["errors"]["tags"]
        assert list(tags) == [*map(str, range(MOST_NAMED)), "non_field_errors"]
        assert tags["non_field_errors"] == [f"{100 - MOST_NAMED} more cannot be used."]
        assert len(response.content) < 50_000

    def test_that_are_refused_anyway_tell_nothing_of_what_there_is(self, owner):
        """Else whoever gives a slug twice could ask for a thousand, private ones among them, and leave no trace."""
        items = [{"slug": slug, "title": "X"} for slug in ("vault", "nothing", "twice", "twice")]
        document = problem(send(owner, "POST", "/galleries/", items), 400, "invalid-value")
        assert [error["index"] for error in document["errors"]] == [2, 3]

    def test_take_a_statement_for_a_batch_and_none_for_an_item(self, owner, count_queries):
        counts = []
        for count in (2, 120):
            items = [item(n, tags=["fresh"], gallery=["spring", "vault"][n % 2]) for n in range(count)]
            with count_queries() as queries:
                done(send(owner, "POST", "/screenshots/", items), 201)
            counts.append(len(queries))
        assert counts[1] <= counts[0] + 4, counts  # SQLite takes some thirty rows in a statement
