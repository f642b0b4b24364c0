"""Who sees what: every route, asked by nobody, by somebody else and by the owner."""

from __future__ import annotations

import json

import pytest
from writing import sent

from catalog.models import Gallery, Screenshot, Tag, Tombstone

pytestmark = [pytest.mark.django_db, pytest.mark.stack("server")]  # on the other, test_permissions.py

VIEWERS = ["api", "as_other", "as_owner", "by_token"]
GALLERIES = {
    "spring": "cat",
    "drafts": "rat",
    "vault": "yak",
}  # public, unlisted and private, with a screenshot
BY_SLUG = [
    "/galleries/{gallery}/",
    "/galleries/{gallery}/screenshots/",
    "/galleries/{gallery}/screenshots/{shot}/",
    "/galleries/{gallery}/screenshots/{shot}/renditions/",
]
BY_ID = ["/screenshots/{shot}/", "/screenshots/{shot}/renditions/"]
RESOURCES = [
    "/",
    "/galleries/",
    "/galleries/spring/",
    "/galleries/spring/screenshots/",
    "/galleries/spring/screenshots/{cat}/",
    "/galleries/spring/screenshots/{cat}/renditions/",
    "/screenshots/",
    "/screenshots/{cat}/",
    "/screenshots/{cat}/renditions/",
    "/tags/",
    "/tags/dark/",
    "/tags/dark/screenshots/",
    "/schema/",
    "/docs/",
]
PUBLIC = {"cat", "dog", "elk", "fox", "gnu", "owl", "pig"}
OWN = {"rat", "sow", "yak", "zebu"}


@pytest.fixture
def viewer(request):
    """The client named by the parameter, and whether it owns the galleries in question."""
    return request.getfixturevalue(request.param), request.param in {"as_owner", "by_token"}


@pytest.mark.parametrize("viewer", VIEWERS, indirect=True)
class TestStatus:
    @pytest.mark.parametrize("path", BY_SLUG)
    def test_gallery_and_all_in_it_answers_to_who_knows_its_slug_unless_private(self, viewer, world, path):
        client, owns = viewer
        for gallery, shot in GALLERIES.items():
            target = path.format(gallery=gallery, shot=world.shots[shot].pk)
            expected = 200 if owns or gallery != "vault" else 404
            for method, query in (("GET", ""), ("HEAD", ""), ("GET", "?format=api"), ("GET", "?fields=id")):
                assert client(f"{target}{query}", method).status_code == expected, target

    @pytest.mark.parametrize("path", BY_ID)
    def test_screenshot_answers_to_its_id_only_where_listed(self, viewer, world, path):
        client, owns = viewer
        for gallery, shot in GALLERIES.items():
            target = path.format(shot=world.shots[shot].pk)
            expected = 200 if owns or gallery == "spring" else 404
            for method, query in (("GET", ""), ("HEAD", ""), ("GET", "?format=api")):
                assert client(f"{target}{query}", method).status_code == expected, target

    def test_list_of_a_gallery_without_screenshots_answers_as_the_gallery_does(self, viewer, world):
        client, owns = viewer
        for visibility in ("public", "unlisted", "private"):
            Gallery.objects.create(slug=visibility, title="Bare", owner=world.owner, visibility=visibility)
            expected = 200 if owns or visibility != "private" else 404
            for path in ("", "screenshots/", "screenshots/?page=1"):
                target = f"/galleries/{visibility}/{path}"
                assert client(target).status_code == expected, target

    def test_gallery_without_an_owner_is_private_for_all(self, viewer, world):
        client, _ = viewer
        Gallery.objects.create(slug="nobody", title="Nobody", visibility="private")
        assert client("/galleries/nobody/").status_code == 404
        assert "nobody" not in {item["slug"] for item in client.read("/galleries/?page_size=max")["results"]}


LISTS = {  # target, what everybody sees, what the owner sees as well
    "/screenshots/": (PUBLIC, OWN),
    "/screenshots/?page=1": (PUBLIC, OWN),
    "/screenshots/?limit=50": (PUBLIC, OWN),
    "/screenshots/?ordering=title": (PUBLIC, OWN),
    "/screenshots/?tag=dark": ({"cat", "dog", "owl"}, {"rat", "yak"}),
    "/screenshots/?tag=dark&tag=form": (set(), {"rat"}),
    "/screenshots/?gallery=vault": (set(), {"yak", "zebu"}),
    "/screenshots/?gallery=drafts": (set(), {"rat", "sow"}),
    "/screenshots/?ids={cat},{rat},{yak}": ({"cat"}, {"rat", "yak"}),
    "/screenshots/?search=yak": (set(), {"yak"}),
    "/screenshots/?search=rat": (set(), {"rat"}),
    "/screenshots/?domain=hush.example": (set(), {"yak"}),
    "/screenshots/?captured_after=2026-03-01T14:00:00Z": (set(), {"zebu"}),
    "/screenshots/?min_width=1280&orientation=landscape": ({"cat", "owl", "pig"}, {"rat", "yak"}),
    "/tags/dark/screenshots/": ({"cat", "dog", "owl"}, {"rat", "yak"}),
    "/tags/form/screenshots/": ({"gnu"}, {"rat", "zebu"}),
    "/tags/mobile/screenshots/?gallery=vault": (set(), {"yak"}),
}


@pytest.mark.parametrize("viewer", VIEWERS, indirect=True)
class TestLists:
    @pytest.mark.parametrize("target", LISTS)
    def test_list_shows_what_is_public_and_what_is_ones_own(self, viewer, world, target):
        client, owns = viewer
        everybody, owner = LISTS[target]
        body = client.read(world.at(target))
        names = world.names([item["id"] for item in body["results"]])
        assert set(names) == (everybody | owner if owns else everybody)
        assert body.get("count", len(names)) == len(names)

    @pytest.mark.parametrize("target", ["/galleries/", "/galleries/?page=1", "/galleries/?ordering=-title"])
    def test_unlisted_and_private_galleries_are_listed_for_their_owner(self, viewer, world, target):
        client, owns = viewer
        slugs = {item["slug"] for item in client.read(target)["results"]}
        assert slugs == ({"spring", "autumn", "drafts", "vault"} if owns else {"spring", "autumn"})

    @pytest.mark.parametrize("slug", ["drafts", "vault"])
    def test_search_finds_no_gallery_that_is_not_listed(self, viewer, world, slug):
        client, owns = viewer
        assert bool(client.read(f"/galleries/?search={slug}")["results"]) is owns

    def test_tags_count_what_their_lists_show(self, viewer, world):
        client, owns = viewer
        counts = {item["slug"]: item["screenshot_count"] for item in client.read("/tags/")["results"]}
        more = {"dark": 2, "form": 2, "mobile": 1} if owns else {}
        everybody = {"dark": 3, "chart": 3, "mobile": 1, "form": 1, "idle": 0}
        assert counts == {slug: count + more.get(slug, 0) for slug, count in everybody.items()}
        for slug, count in counts.items():
            assert client.read(f"/tags/{slug}/")["screenshot_count"] == count
            assert client.read(f"/tags/{slug}/screenshots/?page=1")["count"] == count

    def test_gallery_counts_what_its_list_shows(self, viewer, world):
        client, _ = viewer
        for item in client.read("/galleries/")["results"]:
            listed = client.read(f"/galleries/{item['slug']}/screenshots/?page=1")["count"]
            assert item["screenshot_count"] == listed == client.read(item["url"])["screenshot_count"]

    def test_cover_from_another_gallery_is_not_shown(self, viewer, world):
        client, _ = viewer
        Gallery.objects.filter(slug="spring").update(cover=world.shots["yak"])
        assert client.read("/galleries/spring/")["cover"] is None


class TestSecrecy:
    @pytest.mark.parametrize("path", BY_SLUG)
    @pytest.mark.parametrize("query", ["", "?page=99", "?limit=5", "?bogus=1", "?fields=id"])
    def test_private_thing_answers_like_one_that_does_not_exist(self, api, world, path, query):
        private = api(path.format(gallery="vault", shot=world.shots["yak"].pk) + query)
        missing = api(path.format(gallery="nothing", shot=world.shots["yak"].pk) + query)
        assert private.status_code == missing.status_code
        assert private.content == missing.content
        assert dict(private.items()) == dict(missing.items())

    @pytest.mark.parametrize(
        "headers", [{"If-None-Match": "*"}, {"If-Match": "*"}, {"If-Match": '"x"'}], ids=str
    )
    def test_preconditions_tell_nothing_of_a_private_thing(self, api, world, headers):
        assert api("/galleries/vault/", headers=headers).status_code == 404

    def test_no_anonymous_answer_names_a_private_gallery_or_what_is_in_it(self, api, world):
        for path in [*RESOURCES, "/galleries/drafts/", "/galleries/drafts/screenshots/"]:
            for query in ("", "?include=gallery,renditions&page_size=max"):
                body = api(world.at(path) + query).content.lower()
                assert not any(word in body for word in (b"vault", b"yak", b"zebu", b"hush")), path


CREDENTIALS = {
    "session that is none": {"Cookie": "sessionid=junk"},
    "empty session": {"Cookie": "sessionid="},
    "session among others": {"Cookie": "a=b; sessionid=junk; c=d"},
    "wrong token": {"Authorization": "Token wrong"},
    "other scheme": {"Authorization": "Basic b3duZXI6b3duZXI="},
    "nonsense": {"Authorization": "x"},
}
ERRORS = [
    "/nothing/",
    "/galleries/nothing/",
    "/screenshots/?bogus=1",
    "/screenshots/?page=99",
    "/galleries",
    "/tags.json",
]


class TestCredentials:
    @pytest.mark.parametrize("headers", CREDENTIALS.values(), ids=CREDENTIALS)
    def test_answer_to_credentials_even_wrong_ones_is_private_and_not_stored(self, api, world, headers):
        for path in (*RESOURCES, *ERRORS):
            for method, more in (("GET", {}), ("HEAD", {}), ("GET", {"If-None-Match": "*"})):
                response = api(world.at(path), method, headers=headers | more)
                assert response["Cache-Control"] == "private, no-store", (path, method)

    @pytest.mark.parametrize("viewer", VIEWERS[1:], indirect=True)
    def test_answer_to_a_known_client_is_private_and_not_stored(self, viewer, world):
        client, _ = viewer
        for path in (*RESOURCES, *ERRORS, *RESOURCES):
            assert client(world.at(path))["Cache-Control"] == "private, no-store", path

    @pytest.mark.parametrize("cookie", [None, f"csrftoken={'a' * 32}", "theme=dark; _ga=1", "=;;="])
    def test_anonymous_answer_sets_no_cookie_and_varies_by_none(self, api, world, cookie):
        for path in (*RESOURCES, *ERRORS):
            response = api(world.at(path), headers={"Cookie": cookie} if cookie else {})
            assert not response.has_header("Set-Cookie"), path
            assert not response.cookies, path
            assert "cookie" not in response.get("Vary", "").lower(), path

    @pytest.mark.parametrize("path", [path for path in RESOURCES if path != "/docs/"])
    def test_anonymous_answer_may_be_kept_by_anybody_who_asks_before_using_it(self, api, world, path):
        for method in ("GET", "HEAD"):
            assert api(world.at(path), method)["Cache-Control"] == "public, max-age=0, must-revalidate"

    def test_token_of_a_user_who_was_deactivated_is_refused(self, by_token, world):
        world.owner.is_active = False
        world.owner.save()
        assert by_token("/galleries/vault/").status_code == 401

    def test_session_of_a_user_who_was_deactivated_is_anonymous(self, as_owner, world):
        world.owner.is_active = False
        world.owner.save()
        assert as_owner("/galleries/vault/").status_code == 404
        assert set(world.names(as_owner.ids("/screenshots/"))) == PUBLIC


KEPT_APART = [
    "/galleries/",
    "/galleries/drafts/",
    "/galleries/vault/",
    "/galleries/vault/screenshots/",
    "/galleries/vault/screenshots/{yak}/",
    "/galleries/vault/screenshots/{yak}/renditions/",
    "/screenshots/",
    "/screenshots/?tag=dark&include=gallery,renditions",
    "/screenshots/?search=yak",
    "/screenshots/{yak}/",
    "/screenshots/{yak}/renditions/",
    "/screenshots/{rat}/",
    "/tags/",
    "/tags/dark/",
    "/tags/dark/screenshots/",
]


@pytest.mark.django_db(transaction=True)
class TestCacheKeys:
    """With transactions that end, so that answers are kept and could be given to the wrong client."""

    @pytest.fixture
    def world(self, fresh_world):
        return fresh_world

    @pytest.mark.parametrize(
        "order", [("as_owner", "api"), ("by_token", "as_other"), ("as_other", "as_owner")]
    )
    def test_no_client_is_given_what_was_made_for_another(self, request, world, order):
        first, second = (request.getfixturevalue(name) for name in order)
        for path in KEPT_APART:
            target = world.at(path)
            expected = (second(target).status_code, second(target).content)
            for _ in range(2):
                first(target)
                answer = second(target)
                assert (answer.status_code, answer.content) == expected, target

    def test_owner_asking_first_leaves_nothing_for_the_anonymous_client(self, as_owner, api, world):
        for path in KEPT_APART:
            target = world.at(path)
            private = as_owner(target)
            assert private.status_code == 200
            etag = private["ETag"]
            public = api(target)
            assert public.status_code == 404 or public["Cache-Status"].startswith("keybits; fwd=uri-miss"), (
                target
            )
            if path != "/galleries/drafts/":
                assert public.content != private.content, target
                assert api(target, headers={"If-None-Match": etag}).status_code in {200, 404}, target

    def test_anonymous_client_asking_first_takes_nothing_from_the_owner(self, as_owner, api, world):
        for path in KEPT_APART:
            target = world.at(path)
            api(target)
            api(target)
            assert as_owner(target).status_code == 200, target
        assert set(world.names(as_owner.ids("/screenshots/"))) == PUBLIC | OWN

    def test_junk_session_shares_the_anonymous_content_but_not_its_headers(self, api, world):
        public = api("/screenshots/")
        junk = type(api)()("/screenshots/", headers={"Cookie": "sessionid=junk"})
        assert junk.content == public.content
        assert (public["Cache-Control"], junk["Cache-Control"]) == (
            "public, max-age=0, must-revalidate",
            "private, no-store",
        )
        assert api("/screenshots/")["Cache-Control"] == "public, max-age=0, must-revalidate"

    @pytest.mark.parametrize(
        "path", ["/screenshots/?tag=dark&count=exact", "/tags/dark/", "/tags/", "/galleries/"]
    )
    def test_a_change_of_something_private_changes_neither_content_nor_tag_of_what_shows_something(
        self, api, world, path
    ):
        """Its `Cache-Status` and `Last-Modified` do tell: docs/permissions.md says so."""
        before = api(path)
        world.shots["yak"].tags.add(world.tags["dark"])
        world.shots["yak"].tags.remove(world.tags["dark"])
        after = api(path)
        assert (after.content, after["ETag"]) == (before.content, before["ETag"])

    @pytest.mark.parametrize(
        ("narrowed", "none_such"),
        [
            ("/screenshots/?gallery=vault", "/screenshots/?gallery=no-such-thing"),
            ("/screenshots/?domain=hush.example", "/screenshots/?domain=no-such-thing"),
            ("/screenshots/?tag=zoo", "/screenshots/?tag=no-such-thing"),
            ("/tags/offered/screenshots/", "/tags/unused/screenshots/"),
        ],
    )
    def test_a_change_of_something_private_shows_in_no_list_that_is_empty(
        self, api, world, narrowed, none_such, clock
    ):
        """Neither by what the cache says it did, nor by a date, at whatever time it is asked for."""
        world.shots["yak"].tags.add(Tag.objects.create(slug="zoo", name="Zoo", offered=False))
        world.shots["yak"].tags.add(Tag.objects.create(slug="offered", name="Offered"))
        Tag.objects.create(slug="unused", name="Unused")
        paths = [narrowed, none_such]

        def told():
            answers = [api(path) for path in paths for _ in range(2)]
            assert {json.loads(answer.content)["results"] == [] for answer in answers} == {True}
            return {(answer["Cache-Status"], answer.get("Last-Modified")) for answer in answers}

        before = told()
        Screenshot.objects.filter(pk=world.shots["yak"].pk).update(title="Changed")
        clock.now += 5
        assert told() == before
        assert len(before) == 1


class TestAddresses:
    def test_what_an_unlisted_gallery_links_to_answers_whoever_was_given_it(self, api, world):
        for shot in api.read("/galleries/drafts/screenshots/")["results"]:
            assert api(shot["url"].removeprefix("/api/v1")).status_code == 200, shot["url"]

    def test_a_word_that_only_private_galleries_use_is_theirs(self, api, world, django_user_model):
        secret = Tag.objects.create(slug="secret", name="Secret", offered=False)
        world.shots["yak"].tags.add(secret)
        Tag.objects.create(slug="unused", name="Unused")
        slugs = {tag["slug"] for tag in api.read("/tags/?page_size=max")["results"]}
        assert "secret" not in slugs
        assert "unused" in slugs
        assert api("/tags/secret/").status_code == 404
        assert api("/tags/secret/screenshots/").status_code == 404

    def test_that_private_galleries_use_a_tag_which_is_offered_shows_nowhere(self, api, world):
        offered = Tag.objects.create(slug="offered", name="Offered")
        before = [api.read(path) for path in ("/tags/offered/", "/tags/?page_size=max")]
        world.shots["yak"].tags.add(offered)
        assert [api.read(path) for path in ("/tags/offered/", "/tags/?page_size=max")] == before


ONE, ALL = "/screenshots/{yak}/", "/screenshots/?gallery=vault"
UNTAGGED = {
    "deleted": ("DELETE", ONE, None),
    "deleted with its gallery": ("DELETE", "/galleries/vault/", None),
    "deleted with others": ("DELETE", ALL, None),
    "retagged": ("PATCH", ONE, {"tags": []}),
    "retagged with others": ("PATCH", ALL, {"tags": ["dark"]}),
    "untagged with others": ("PATCH", ALL, {"tags": {"remove": ["acquisition"]}}),
}


def listed(client) -> set[str]:
    return {tag["slug"] for tag in client.read("/tags/?page_size=max")["results"]}


def written(client, method, target, body=None):
    """Send a change, of a whole list where the target has a query, and return its status."""
    fields = {"X-BULK-OPERATION": "true"} if "?" in target else {"If-Match": "*"}
    fields = {} if method == "POST" else fields
    return sent(client, method, target, body, **fields).status_code


class TestWords:
    """A word that came with a screenshot is never shown to who could not see any screenshot that has it."""

    WORD = (
        "/tags/acquisition/",
        "/tags/acquisition/screenshots/",
        "/tags/acquisition/screenshots/?search=nothing",
    )

    def test_of_what_is_private_are_its_owner_s(self, api, as_other, by_token, world):
        assert written(by_token, "PATCH", world.at(ONE), {"tags": ["acquisition"]}) == 200
        self.known_to(by_token)
        self.unknown_to(api, as_other)

    @pytest.mark.parametrize("change", UNTAGGED)
    def test_become_nobody_s_with_the_last_that_is_private(self, api, as_other, by_token, world, change):
        assert written(by_token, "PATCH", world.at(ONE), {"tags": ["acquisition", "dark"]}) == 200
        method, target, body = UNTAGGED[change]
        assert written(by_token, method, world.at(target), body) in {200, 204}
        assert Tag.objects.filter(slug="acquisition", screenshots=None).exists()
        self.unknown_to(api, as_other, by_token)

    def test_leave_no_tombstone_where_nobody_saw_them(self, api, by_token, world):
        written(by_token, "PATCH", world.at(ONE), {"tags": ["acquisition"]})
        written(by_token, "DELETE", world.at(ONE))
        Tag.objects.get(slug="acquisition").delete()
        assert not Tombstone.objects.filter(kind=Tombstone.Kind.TAG).exists()
        self.unknown_to(api)

    def test_are_everybody_s_while_something_public_has_them(self, api, by_token, world):
        written(by_token, "PATCH", world.at("/screenshots/{cat}/"), {"tags": ["acquisition"]})
        self.known_to(api, by_token)

    def test_that_are_made_tags_on_purpose_are_listed_while_nothing_has_them(self, api, by_token, world):
        assert written(by_token, "POST", "/tags/", {"slug": "acquisition"}) == 201
        self.known_to(api, by_token)

    @pytest.mark.parametrize("is_used", [True, False], ids=["private", "nothing"])
    def test_that_only_what_is_private_or_nothing_has_can_be_made_tags_as_if_they_had_never_been(
        self, api, as_other, by_token, by_user, world, is_used
    ):
        """That such a word is taken would tell of what its owner hides."""
        written(by_token, "PATCH", world.at(ONE), {"tags": ["acquisition"]})
        if not is_used:
            written(by_token, "DELETE", world.at(ONE))
        other = by_user(world.other)
        for body in ({"slug": "sold"}, {"slug": "acquisition", "title": "Bought", "kind": "device"}):
            assert written(other, "POST", "/tags/", body) == 201
        self.known_to(api, as_other, by_token)
        ids = [other.read(f"/tags/{slug}/")["id"] for slug in ("sold", "acquisition")]
        assert ids == sorted(ids)  # an older id would tell as much
        assert by_token.read("/tags/acquisition/")["screenshot_count"] == is_used
        shown = api.read("/tags/acquisition/")
        assert (shown["title"], shown["kind"]) == ("Bought", "device")
        assert api.read("/tags/acquisition/screenshots/")["results"] == []

    def test_that_everybody_sees_are_taken(self, by_token, by_user, world):
        written(by_token, "PATCH", world.at("/screenshots/{cat}/"), {"tags": ["acquisition"]})
        assert written(by_user(world.other), "POST", "/tags/", {"slug": "acquisition"}) == 409

    def known_to(self, *clients):
        for client in clients:
            assert {client(target).status_code for target in self.WORD} == {200}
            assert "acquisition" in listed(client)

    def unknown_to(self, *clients):
        for client in clients:
            assert {client(target).status_code for target in self.WORD} == {404}
            assert "acquisition" not in listed(client)
