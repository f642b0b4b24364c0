"""How long each address may be held, as its galleries say, and that what is taken down is purged wherever it shows."""

from __future__ import annotations

import re

import pytest
from django.db import connection

from catalog.models import Gallery, Rendition, Screenshot, State, Tag, Visibility
from catalog.policy import for_galleries
from keybits import surrogates
from keybits.cache_control import Lifetime, Policy
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)

PRIVATE = "private, no-store"
HIT = "keybits; hit"
DAY = 86_400
OF_SPRING = (
    "/galleries/spring/",
    "/galleries/spring/screenshots/",
    "/galleries/spring/screenshots/?include=gallery,renditions&page=2&page_size=2",
    "/galleries/spring/screenshots/{cat}/",
    "/galleries/spring/screenshots/{cat}/renditions/",
    "/screenshots/{cat}/",
    "/screenshots/{cat}/?include=gallery",
    "/screenshots/{cat}/renditions/",
    "/screenshots/?gallery=spring",
    "/screenshots/?gallery=spring&fields=id",
)
OF_SEVERAL = (
    "/galleries/",
    "/galleries/?fields=slug",
    "/screenshots/",
    "/screenshots/?limit=50",
    "/screenshots/?page=1&page_size=max",
    "/tags/dark/screenshots/",
)
OF_AUTUMN = (
    "/galleries/autumn/",
    "/galleries/autumn/screenshots/",
    "/galleries/autumn/screenshots/{owl}/",
    "/galleries/autumn/screenshots/{owl}/renditions/",
    "/screenshots/{owl}/",
    "/screenshots/{owl}/renditions/",
)
OF_DRAFTS = (
    "/galleries/drafts/",
    "/galleries/drafts/screenshots/",
    "/galleries/drafts/screenshots/{rat}/",
    "/galleries/drafts/screenshots/{rat}/renditions/",
)
TAGS = ("/tags/", "/tags/dark/")


@pytest.fixture
def world(fresh_world):
    return fresh_world


@pytest.fixture(autouse=True)
def _purged(settings):
    """A cache in front that is told of changes."""
    backend = "keybits.purge.varnish.XkeyPurger"
    settings.KEYBITS_PURGERS = {"edge": {"BACKEND": backend, "servers": ["http://192.0.2.1"]}}


def ages(response):
    """Return for how long everybody may use the answer, and the cache that is purged."""
    assert response.status_code == 200
    fields = (response["Cache-Control"], response["Surrogate-Control"])
    return tuple(int(re.search(r"\bmax-age=(\d+)", field)[1]) for field in fields)


def age(slug, **values):
    assert Gallery.objects.filter(slug=slug).update(**values) == 1


@pytest.mark.stack("embedded")
class TestAges:
    def test_nobody_uses_anything_unasked_but_who_is_told_of_changes(self, api, world):
        for path in (*OF_SPRING, *OF_SEVERAL, *OF_AUTUMN, *OF_DRAFTS, *TAGS, "/", "/schema/"):
            assert [ages(api(world.at(path))) for _ in range(2)] == [(0, DAY)] * 2, path

    def test_a_gallery_s_own_hold_wherever_it_alone_is_shown(self, api, world):
        age("spring", max_age=60, edge_max_age=30)
        age("drafts", max_age=7)
        for paths, expected in ((OF_SPRING, (60, 30)), (OF_DRAFTS, (7, DAY)), (OF_AUTUMN, (0, DAY))):
            for path in paths:
                assert [ages(api(world.at(path))) for _ in range(2)] == [expected] * 2, path

    def test_of_several_galleries_the_strictest_holds(self, api, world):
        age("autumn", max_age=60, edge_max_age=500)
        age("spring", max_age=30)
        for path in OF_SEVERAL:
            assert ages(api(world.at(path))) == (30, 500), path

    @pytest.mark.parametrize(("strict", "lax"), [("spring", "autumn"), ("autumn", "spring")])
    def test_of_galleries_that_agree_on_one_age_the_strictest_other_holds(self, api, world, strict, lax):
        age(strict, max_age=60, edge_max_age=30)
        for laxer in ({"max_age": 60, "edge_max_age": 500}, {"max_age": 500, "edge_max_age": 30}):
            age(lax, **laxer)
            for path in OF_SEVERAL:
                assert ages(api(world.at(path))) == (60, 30), path

    def test_a_gallery_without_its_own_is_as_strict_as_the_api(self, api, world):
        age("spring", max_age=60)
        for path in OF_SEVERAL:
            assert ages(api(world.at(path))) == (0, DAY), path

    def test_a_gallery_that_the_answer_does_not_show_has_no_say(self, api, world):
        for slug in ("drafts", "vault"):
            age(slug, edge_max_age=1)
        for path in (*OF_SPRING, *OF_SEVERAL, *OF_AUTUMN, *TAGS):
            assert ages(api(world.at(path))) == (0, DAY), path

    @pytest.mark.parametrize("field", ["max_age", "edge_max_age"])
    def test_a_change_of_them_holds_at_once(self, api, world, field):
        for seconds in (5, 0, None, 6):
            age("spring", **{field: seconds})
            expected = {
                "max_age": 0,
                "edge_max_age": DAY,
                **({field: seconds} if seconds is not None else {}),
            }
            for path in OF_SPRING:
                assert ages(api(world.at(path))) == tuple(expected.values()), (path, seconds)

    def test_what_is_never_to_be_used_unasked_is_not_used_in_need_either(self, api, world):
        age("spring", edge_max_age=0)
        for path in OF_SPRING:
            assert api(world.at(path))["Surrogate-Control"] == "max-age=0, must-revalidate", path

    def test_stale_answers_are_used_no_longer_than_fresh_ones(self, api, world):
        age("spring", edge_max_age=9)
        assert api("/galleries/spring/")["Surrogate-Control"] == "max-age=9, stale-if-error=9"

    @pytest.mark.parametrize("seconds", [0, 9])
    def test_whatever_the_api_allows_a_gallery_s_own_bounds_all_uses_of_a_stale_answer(self, seconds):
        lax, strict = Lifetime(60, stale_while_revalidate=30, stale_if_error=90), Lifetime(*[seconds] * 3)
        for_all = Policy(everybody=lax, edge=lax)
        assert for_galleries(for_all, [Gallery(max_age=seconds)]) == Policy(everybody=strict, edge=lax)
        assert for_galleries(for_all, [Gallery(edge_max_age=seconds)]) == Policy(everybody=lax, edge=strict)

    def test_no_age_reaches_who_is_signed_in(self, as_owner, world):
        age("spring", max_age=60)
        for path in (*OF_SPRING, *OF_SEVERAL):
            response = as_owner(world.at(path))
            assert response["Cache-Control"] == PRIVATE, path
            assert not {"Surrogate-Control", "xkey", "Expires"} & set(response.headers), path

    def test_what_decides_costs_no_query(self, api, world, count_queries):
        most = {"/screenshots/{cat}/renditions/": 2, "/galleries/spring/": 3, "/screenshots/{cat}/": 4}
        for path, queries_at_most in most.items():
            with count_queries() as queries:
                assert api(world.at(path)).status_code == 200
            assert len(queries) <= queries_at_most, (path, [query["sql"] for query in queries])


@pytest.mark.stack("embedded")
class TestPending:
    PATHS = ("/screenshots/{fox}/", "/galleries/spring/screenshots/{fox}/")
    RENDITIONS = tuple(f"{path}renditions/" for path in PATHS)

    def test_a_capture_that_has_not_ended_is_held_by_nobody(self, api, world, rendition):
        rendition(world.shots["fox"], 320)
        for path in (*self.PATHS, *self.RENDITIONS):
            for _ in range(2):
                response = api(world.at(path))
                assert (response.status_code, response["Cache-Control"]) == (200, PRIVATE), path
                assert response["Cache-Status"] == "keybits; fwd=uri-miss"
                assert not {"Surrogate-Control", "xkey"} & set(response.headers), path
            assert api(world.at(path), headers={"If-Match": '"x"'}).status_code == 412

    def test_one_that_has_ended_is(self, api, world):
        for state in (State.READY, State.FAILED):
            Screenshot.objects.filter(pk=world.shots["fox"].pk).update(state=state)
            for path in (*self.PATHS, *self.RENDITIONS):
                assert ages(api(world.at(path))) == (0, DAY), path

    def test_a_list_that_has_one_is(self, api, world):
        for path in ("/screenshots/?status=pending", "/galleries/spring/screenshots/"):
            assert ages(api(path)) == (0, DAY), path


def takedowns(write):
    """Return the takedowns that `write` has recorded."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM keybits_change")
        write()
        cursor.execute("SELECT scope FROM keybits_change WHERE scope LIKE 'takedown:%%'")
        return {scope for (scope,) in cursor.fetchall()}


def hide(slug, visibility):
    return lambda world: Gallery.objects.filter(slug=slug).update(visibility=visibility)


def move(world):
    Screenshot.objects.filter(title="Cat").update(gallery=world.galleries["vault"])


def moved_in_python(world):
    world.shots["cat"].gallery = world.galleries["vault"]
    world.shots["cat"].save()


def raw(world):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE catalog_gallery SET visibility = 'private' WHERE slug = 'spring'")


OF_CAT = (
    *(path for path in OF_SPRING if "fields=id" not in path and "page=2" not in path),
    *OF_SEVERAL,
    *TAGS,
)
OF_DOG = ("/screenshots/{dog}/", "/galleries/spring/screenshots/{dog}/")
ELSEWHERE = (*OF_AUTUMN, *OF_DRAFTS)
TAKEDOWNS = {
    "hidden": (hide("spring", Visibility.PRIVATE), (*OF_SPRING, *OF_SEVERAL, *TAGS, *OF_DOG), ELSEWHERE),
    "unlisted": (hide("spring", Visibility.UNLISTED), (*OF_SPRING, *OF_SEVERAL, *TAGS), ELSEWHERE),
    "hidden by raw SQL": (raw, (*OF_SPRING, *OF_SEVERAL, *TAGS, *OF_DOG), ELSEWHERE),
    "unlisted one hidden": (hide("drafts", Visibility.PRIVATE), OF_DRAFTS, (*OF_AUTUMN, *OF_DOG)),
    "renamed": (
        lambda world: Gallery.objects.filter(slug="spring").update(slug="summer"),
        (*OF_SPRING, *OF_SEVERAL, *OF_DOG),
        ELSEWHERE,
    ),
    "gallery deleted": (
        lambda world: world.galleries["spring"].delete(),
        (*OF_SPRING, *OF_SEVERAL, *TAGS, *OF_DOG),
        ELSEWHERE,
    ),
    "screenshot deleted": (lambda world: world.shots["cat"].delete(), OF_CAT, (*ELSEWHERE, *OF_DOG)),
    "screenshots deleted": (
        lambda world: Screenshot.objects.filter(title="Cat").delete(),
        OF_CAT,
        (*ELSEWHERE, *OF_DOG),
    ),
    "moved": (move, OF_CAT, (*ELSEWHERE, *OF_DOG)),
    "moved by save()": (moved_in_python, OF_CAT, (*ELSEWHERE, *OF_DOG)),
    "rendition deleted": (
        lambda world: Rendition.objects.filter(screenshot=world.shots["cat"], width=1280).delete(),
        ("/screenshots/{cat}/", "/screenshots/{cat}/renditions/"),
        (*ELSEWHERE, *OF_DOG),
    ),
    "rendition of another picture": (
        lambda world: Rendition.objects.filter(screenshot=world.shots["cat"]).update(sha256="a" * 64),
        ("/screenshots/{cat}/", "/screenshots/{cat}/renditions/"),
        (*ELSEWHERE, *OF_DOG),
    ),
    "rendition in another format": (
        lambda world: Rendition.objects.filter(screenshot=world.shots["cat"], width=1280).update(
            format=Rendition.Format.JPEG
        ),
        ("/screenshots/{cat}/", "/screenshots/{cat}/renditions/"),
        (*ELSEWHERE, *OF_DOG),
    ),
    "rendition moved": (
        lambda world: Rendition.objects.filter(screenshot=world.shots["cat"]).update(
            screenshot=world.shots["dog"]
        ),
        ("/screenshots/{cat}/", "/screenshots/{cat}/renditions/"),
        ELSEWHERE,
    ),
}
NO_TAKEDOWNS = {
    "another title": lambda world: Gallery.objects.update(title="New"),
    "another cover": lambda world: Gallery.objects.update(cover=None),
    "other ages": lambda world: Gallery.objects.update(max_age=5),
    "saved as it is": lambda world: world.galleries["spring"].save(),
    "another picture": lambda world: Screenshot.objects.update(title="New", state=State.FAILED),
    "a screenshot more": lambda world: world.add("new", "spring", "dark"),
    "a tag less": lambda world: world.tags["dark"].delete(),
    "a rendition more": lambda world: Rendition.objects.create(screenshot=world.shots["dog"], width=5),
}


class TestTakedowns:
    @pytest.mark.parametrize(("write", "purged", "kept"), TAKEDOWNS.values(), ids=TAKEDOWNS)
    def test_purge_every_address_that_showed_it_and_no_page_of_another_gallery(
        self, api, world, write, purged, kept
    ):
        tagged = {path: set(api(world.at(path))["xkey"].split()) for path in (*purged, *kept)}
        keys = set(surrogates.purged(takedowns(lambda: write(world))))
        assert {path for path in tagged if tagged[path] & keys} == set(purged)

    @pytest.mark.parametrize("write", NO_TAKEDOWNS.values(), ids=NO_TAKEDOWNS)
    def test_are_of_what_goes_or_leaves_sight_alone(self, world, write):
        assert takedowns(lambda: write(world)) == set()

    def test_reach_an_answer_that_shows_nothing(self, api, world):
        """An empty list tells that there is such a screenshot, or such a gallery."""
        gallery = Gallery.objects.create(slug="bare", title="Bare")
        paths = ["/galleries/bare/", "/galleries/bare/screenshots/"]
        paths += [
            world.at(path) for path in ("/screenshots/{dog}/renditions/", "/screenshots/?search=nothing")
        ]
        tagged = [set(api(path)["xkey"].split()) for path in paths]
        keys = set(surrogates.purged(takedowns(gallery.delete)))
        assert all(tags & keys for tags in tagged)
        keys = set(surrogates.purged(takedowns(world.shots["dog"].delete)))
        assert tagged[2] & keys

    def test_no_address_tells_what_it_is_made_from(self, api, world):
        for path in (*OF_SPRING, *OF_SEVERAL, *OF_DRAFTS, *TAGS):
            for name in api(world.at(path))["xkey"].split():
                assert re.fullmatch(r"[\w-]{12}", name)


@pytest.mark.stack("embedded")
class TestFreshnessKeys:
    @pytest.mark.parametrize(
        "write",
        [
            lambda world: Gallery.objects.filter(slug="autumn").update(title="New"),
            lambda world: Screenshot.objects.filter(gallery__slug="autumn").update(title="New"),
            lambda world: world.shots["owl"].tags.clear(),
        ],
        ids=["gallery", "screenshots", "tags"],
    )
    def test_a_change_in_another_gallery_purges_no_page_of_this_one(self, api, world, write):
        """But for what names galleries by their slugs: those end together, as is said of the scope `galleries`."""
        tags = set(api("/galleries/spring/")["xkey"].split())
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM keybits_change")
            write(world)
            cursor.execute("SELECT scope FROM keybits_change")
            scopes = [scope for (scope,) in cursor.fetchall()]
        assert scopes
        assert not tags & set(surrogates.purged(scopes))

    @pytest.mark.parametrize(
        "write",
        [
            lambda world: Tag.objects.update(name="New"),
            lambda world: Tag.objects.filter(slug="dark").update(slug="light"),
            lambda world: Tag.objects.create(slug="new", name="New"),
            lambda world: Gallery.objects.filter(slug="autumn").update(title="New", slug="winter"),
        ],
        ids=["tags renamed", "tag moved", "tag made", "another gallery"],
    )
    def test_a_gallery_s_page_shows_no_tag_and_no_other_gallery(self, api, world, write):
        paths = ["/galleries/spring/", "/galleries/drafts/"]
        before = [api(path).content for path in paths]
        write(world)
        assert [api(path)["Cache-Status"] for path in paths] == [HIT, HIT]
        get_store().clear()
        assert [api(path).content for path in paths] == before
