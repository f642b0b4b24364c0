"""Single writes: on what condition each goes on, what it changes, and what it answers."""

from __future__ import annotations

import gzip
import io
import json
import re

import brotli
import pytest
from django.contrib.auth.models import User
from django.db import connection
from writing import problem, sent

from catalog.models import Gallery, Screenshot, State, Tag, Visibility
from keybits.drf import members
from keybits.drf.parsers import MOST_NESTED

pytestmark = pytest.mark.django_db

NONE = object()
"""No If-Match at all."""
CAT = "/screenshots/{cat}/"
TARGETS = (CAT, "/galleries/spring/", "/galleries/spring/screenshots/{cat}/", "/tags/dark/")


class Slow(io.BytesIO):
    """Content that says when it is read."""

    def read(self, *size):
        self.heard()
        return super().read(*size)


@pytest.fixture
def owner(by_token):
    return by_token


@pytest.fixture
def other(world, by_user):
    return by_user(world.other)


@pytest.fixture
def staff(world, by_user):
    return by_user(User.objects.create_user("staff", is_staff=True))


def send(client, method, target, body=None, if_match=None, **fields):
    """Send a body on condition of the ETag that the client has now, or of another, or of none."""
    if if_match is None and method != "POST":
        if_match = client(target)["ETag"]
    condition = {"If-Match": if_match} if isinstance(if_match, str) else {}
    return sent(client, method, target, body, **fields, **condition)


class TestPatch:
    def test_sets_what_it_names_and_nothing_else(self, owner, world):
        target = world.at(CAT)
        before = owner.read(target)
        body = {"title": "Lion", "alt": "A lion", "position": 9, "tags": ["new-word", "mobile"]}
        response = send(owner, "PATCH", target, body)
        assert response.status_code == 200, response.content
        after = owner.read(target)
        assert json.loads(response.content) == after
        assert {name for name in after if after[name] != before[name]} == {*body, "updated_at"}
        assert after | {**body, "tags": ["mobile", "new-word"]} == after
        assert Tag.objects.get(slug="new-word").name == "New word"

    def test_of_a_gallery_sets_what_people_curate(self, owner, world):
        body = {
            "title": "Summer",
            "description": "Warm",
            "visibility": "unlisted",
            "position": 7,
            "cover": world.shots["dog"].pk,
            "max_age": 60,
            "edge_max_age": None,
        }
        response = send(owner, "PATCH", "/galleries/spring/", body)
        assert response.status_code == 200, response.content
        gallery = Gallery.objects.get(slug="spring")
        assert {name: getattr(gallery, name) for name in body} == body | {"cover": world.shots["dog"]}

    def test_writes_the_columns_that_it_changes_and_no_others(self, owner, world, count_queries):
        with count_queries() as queries:
            send(owner, "PATCH", world.at(CAT), {"title": "Lion", "position": 2}, if_match="*")
        (update,) = [q["sql"] for q in queries if q["sql"].startswith("UPDATE")]
        assert set(re.findall(r'"(\w+)" =', update.partition(" WHERE ")[0])) == {"title", "updated_at"}

    def test_that_changes_nothing_writes_nothing(self, owner, world, count_queries):
        target = world.at(CAT)
        tag = owner(target)["ETag"]
        with count_queries() as queries:
            response = send(owner, "PATCH", target, owner.read(target), if_match=tag)
        assert (response.status_code, response["ETag"]) == (200, tag)
        assert not [q for q in queries if q["sql"].startswith(("UPDATE", "INSERT", "DELETE"))]

    def test_of_tags_takes_as_many_statements_for_many_as_for_one(self, owner, world, count_queries):
        counts = []
        for tags in (["one"], [f"word-{number}" for number in range(50)]):
            with count_queries() as queries:
                response = send(owner, "PATCH", world.at(CAT), {"tags": tags}, if_match="*")
            assert json.loads(response.content)["tags"] == sorted(tags)
            counts.append(len(queries))
        assert counts[0] == counts[1]

    def test_moves_a_screenshot_and_leaves_no_cover_behind(self, owner, world):
        response = send(
            owner, "PATCH", world.at("/galleries/spring/screenshots/{cat}/"), {"gallery": "vault"}
        )
        assert response["Content-Location"] == world.at("/api/v1/galleries/vault/screenshots/{cat}/")
        assert Gallery.objects.get(slug="spring").cover is None
        assert owner(response["Content-Location"])["ETag"] == response["ETag"]

    @pytest.mark.parametrize(
        "odd",
        [10**30, pytest.param("\ud800", marks=pytest.mark.stack("embedded"))],
        ids=["number", "surrogate"],
    )
    def test_of_what_holds_odd_metadata_shows_it_and_goes_on(self, owner, world, odd):
        """Only orjson finds them odd; of the databases, PostgreSQL keeps no lone surrogates."""
        target = world.at(CAT)
        Screenshot.objects.filter(pk=world.shots["cat"].pk).update(metadata={"odd": odd})
        shown = owner(target)
        assert shown.status_code == 200
        assert json.loads(shown.content.decode())["metadata"] == {"odd": odd}
        assert send(owner, "PATCH", target, {"title": "Lion"}).status_code == 200
        again = {"title": "Lion", "metadata": {"odd": "even"}}
        assert "metadata" in problem(send(owner, "PATCH", target, again), 400)["errors"]

    def test_by_staff_answers_also_what_staff_cannot_see_afterwards(self, staff, world):
        response = send(staff, "PATCH", "/galleries/spring/", {"visibility": "private"})
        assert json.loads(response.content)["visibility"] == "private"
        problem(staff("/galleries/spring/"), 404)

    def test_leaves_no_gallery_private_to_nobody(self, staff, world):
        Gallery.objects.filter(slug="spring").update(owner=None)
        response = send(staff, "PATCH", "/galleries/spring/", {"visibility": "private", "title": "x"})
        assert list(problem(response, 400)["errors"]) == ["visibility"]
        assert staff.read("/galleries/spring/")["title"] == "Spring"
        assert send(staff, "PATCH", "/galleries/spring/", {"visibility": "unlisted"}).status_code == 200


class TestPut:
    def test_of_what_was_read_with_changes_replaces_it(self, owner, staff, world):
        for client, target, change in [
            (owner, world.at(CAT), {"title": "Lion", "tags": []}),
            (owner, "/galleries/spring/", {"title": "Summer", "cover": None}),
            (staff, "/tags/dark/", {"title": "Dim", "kind": "topic"}),
        ]:
            response = send(client, "PUT", target, client.read(target) | change)
            assert response.status_code == 200, response.content
            assert client.read(target) | change == client.read(target)

    def test_has_to_say_everything_that_can_be_set(self, owner, world):
        document = problem(send(owner, "PUT", world.at(CAT), {"title": "Lion"}), 400, "invalid-value")
        assert set(document["errors"]) == {"alt", "gallery", "position", "tags"}
        assert Screenshot.objects.get(pk=world.shots["cat"].pk).title == "Cat"

    def test_of_a_gallery_has_to_say_its_ages_which_a_get_shows(self, owner, world):
        target = "/galleries/spring/"
        assert send(owner, "PATCH", target, {"max_age": 60, "edge_max_age": 3600}).status_code == 200
        shown = owner.read(target)
        assert (shown["max_age"], shown["edge_max_age"]) == (60, 3600)
        body = {name: value for name, value in shown.items() if name not in {"max_age", "edge_max_age"}}
        document = problem(send(owner, "PUT", target, body | {"title": "Summer"}), 400, "invalid-value")
        assert set(document["errors"]) == {"max_age", "edge_max_age"}
        assert send(owner, "PUT", target, shown | {"max_age": None}).status_code == 200
        assert owner.read(target)["max_age"] is None


class TestDelete:
    def test_deletes(self, owner, staff, world):
        for client, target in [(staff, "/tags/dark/"), (owner, CAT), (owner, "/galleries/spring/")]:
            response = send(client, "DELETE", world.at(target))
            assert (response.status_code, response.content) == (204, b"")
            assert response["Cache-Control"] == "private, no-store"
            assert response["Cache-Status"] == "keybits; fwd=method"
            assert client(world.at(target)).status_code in {404, 410}
        assert not Screenshot.objects.filter(gallery__slug="spring").exists()

    @pytest.mark.parametrize("body", [b'{"dry_run": true}', b"{}", b"[]", b"null", b"0", b" "])
    def test_takes_no_body_whatever_it_says(self, owner, staff, world, body):
        for client, target in [(staff, "/tags/dark/"), (owner, CAT), (owner, "/galleries/spring/")]:
            document = problem(send(client, "DELETE", world.at(target), body), 400)
            assert "send no body" in json.dumps(document["errors"])
            assert client(world.at(target)).status_code == 200


class TestCondition:
    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
    def test_is_required_and_a_date_is_not_enough(self, staff, world, target, method):
        for fields in (
            {},
            {"If_Unmodified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
            {"If_None_Match": '"x"'},
        ):
            document = problem(
                send(staff, method, world.at(target), {"title": "x"}, if_match=NONE, **fields),
                428,
                "precondition-required",
            )
            assert document["header"] == "If-Match"
            assert "If-Match" in document["detail"]

    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
    def test_that_does_not_hold_is_412_with_the_present_tag(self, staff, world, target, method):
        target = world.at(target)
        tag = staff(target)["ETag"]
        for field, hint in (
            *((field, "a weak tag never") for field in ('"x"', f"W/{tag}", '"*"', '*, "x"')),
            *((field, "its double quotes") for field in (tag.strip('"'), tag[1:], "")),
        ):
            response = send(staff, method, target, {"title": "x"}, if_match=field)
            told = problem(response, 412, "precondition-failed")["detail"]
            assert (hint in told, "has changed" in told) == (True, False)
            assert response["ETag"] == tag
        assert staff(target)["ETag"] == tag

    def test_412_has_the_tag_of_the_coding_that_the_client_takes(self, owner, world):
        response = send(owner, "PATCH", world.at(CAT), {}, if_match='"x"', Accept_Encoding="gzip")
        assert response["ETag"] == owner(world.at(CAT), headers={"Accept-Encoding": "gzip"})["ETag"]

    @pytest.mark.parametrize("coding", ["identity", "gzip", "br", "zstd"])
    def test_may_name_any_coding_of_the_present_representation(self, owner, world, coding):
        tag = owner(world.at(CAT), headers={"Accept-Encoding": coding})["ETag"]
        assert coding in f"identity{tag}"
        assert (
            send(owner, "PATCH", world.at(CAT), {"title": coding}, if_match=f'"x", {tag}').status_code == 200
        )

    def test_that_names_what_there_was_no_longer_holds(self, owner, world):
        for target in map(world.at, (CAT, "/galleries/spring/screenshots/{cat}/")):
            tag = owner(target)["ETag"]
            assert send(owner, "PATCH", target, {"title": target}, if_match=tag).status_code == 200
            problem(send(owner, "PATCH", target, {"title": "x"}, if_match=tag), 412)

    def test_holds_for_any_representation_where_it_is_a_star(self, owner, world):
        assert send(owner, "PATCH", world.at(CAT), {"title": "x"}, if_match="*").status_code == 200
        problem(send(owner, "PATCH", "/screenshots/999/", {}, if_match="*"), 404)

    def test_if_none_match_counts_too(self, owner, world):
        tag = owner(world.at(CAT))["ETag"]
        for field in (tag, "*"):
            problem(send(owner, "PATCH", world.at(CAT), {}, if_match=tag, If_None_Match=field), 412)

    def test_comes_after_who_may_and_before_what_is_sent(self, api, owner, other, world):
        target = world.at(CAT)
        assert send(api, "PATCH", target, b"{", if_match='"x"').status_code == 401
        assert send(other, "PATCH", target, b"{", if_match='"x"').status_code == 403
        assert send(owner, "PATCH", "/screenshots/999/", b"{", if_match=NONE).status_code == 404
        assert send(owner, "PATCH", target, b"{", if_match=NONE).status_code == 428
        assert send(owner, "PATCH", target, b"{", if_match='"x"').status_code == 412
        assert send(owner, "PATCH", target, b"{").status_code == 400

    def test_rests_on_what_is_there_and_not_on_what_is_stored(self, owner, world):
        tag = owner(world.at(CAT))["ETag"]
        Screenshot.objects.filter(pk=world.shots["cat"].pk).update(title="Changed by hand")
        problem(send(owner, "PATCH", world.at(CAT), {"title": "x"}, if_match=tag), 412)

    def test_is_about_the_whole_representation_and_not_a_sparse_one(self, owner, world):
        tag = owner(world.at(f"{CAT}?fields=id"))["ETag"]
        problem(send(owner, "PATCH", world.at(CAT), {"title": "x"}, if_match=tag), 412)
        problem(
            send(owner, "PATCH", world.at(f"{CAT}?fields=id"), {}, if_match=tag), 400, "unknown-parameter"
        )


class TestAnswer:
    @pytest.mark.parametrize(
        ("coding", "decode"), [("identity", bytes), ("gzip", gzip.decompress), ("br", brotli.decompress)]
    )
    def test_is_what_the_next_get_answers(self, owner, staff, world, coding, decode):
        for client, target in [(owner, world.at(CAT)), (owner, "/galleries/spring/"), (staff, "/tags/dark/")]:
            response = send(client, "PATCH", target, {"title": f"By {coding}"}, Accept_Encoding=coding)
            assert response["Cache-Control"] == "private, no-store"
            shown = client(target, headers={"Accept-Encoding": coding})
            assert response.content == shown.content
            for name in ("ETag", "Content-Type", "Content-Location", "Content-Length", "Vary", "Link"):
                assert response[name] == shown[name], name
            assert response.get("Content-Encoding") == shown.get("Content-Encoding")
            content = (
                decode(response.content) if response.has_header("Content-Encoding") else response.content
            )
            assert json.loads(content)["title"] == f"By {coding}"

    def test_is_plain_where_the_client_takes_nothing(self, owner, world):
        response = send(owner, "PATCH", world.at(CAT), {"title": "x"}, Accept_Encoding="*;q=0")
        assert response.status_code == 200
        assert not response.has_header("Content-Encoding")

    def test_of_a_write_is_seen_by_every_read_that_follows(self, api, owner, world):
        pages = ("/screenshots/", "/galleries/spring/screenshots/", CAT, "/tags/dark/screenshots/")
        for page in pages:
            api(world.at(page))
        send(owner, "PATCH", world.at(CAT), {"title": "Freshly named"})
        for page in pages:
            assert "Freshly named" in api(world.at(page)).content.decode(), page

    def test_to_a_person_is_a_page(self, owner, world):
        response = send(owner, "PATCH", world.at(f"{CAT}?format=api"), {"title": "x"}, if_match="*")
        assert (response.status_code, response["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert response["Cache-Control"] == "private, no-store"
        assert response["Cache-Status"] == "keybits; fwd=method"


class TestCreate:
    def test_of_a_gallery_is_the_clients_own(self, owner, world):
        response = send(
            owner, "POST", "/galleries/", {"slug": "new", "title": "New", "visibility": "private"}
        )
        assert response.status_code == 201, response.content
        assert response["Location"] == "/api/v1/galleries/new/"
        shown = owner("/galleries/new/")
        assert (response["ETag"], response.content) == (shown["ETag"], shown.content)
        assert response["Content-Location"] == shown["Content-Location"]
        assert Gallery.objects.get(slug="new").owner == world.owner

    def test_of_a_gallery_sets_all_that_is_given_and_hides_it_at_once(self, api, owner):
        body = {
            "slug": "new",
            "title": "New",
            "description": "Not for everybody",
            "visibility": "private",
            "position": 7,
            "max_age": 0,
            "edge_max_age": 60,
        }
        assert send(owner, "POST", "/galleries/", body).status_code == 201
        gallery = Gallery.objects.get(slug="new")
        assert {name: getattr(gallery, name) for name in body} == body
        assert api("/galleries/new/").status_code == 404

    @pytest.mark.parametrize("target", ["/screenshots/", "/galleries/{gallery}/screenshots/"])
    @pytest.mark.parametrize("gallery", ["spring", "drafts", "vault"])
    def test_of_a_screenshot_waits_for_its_picture(self, owner, world, target, gallery):
        body = {
            "gallery": gallery,
            "title": "New",
            "source_url": "https://new.example/a?b",
            "tags": ["dark", "dark", "hitherto-unknown"],
        }
        response = send(owner, "POST", target.format(gallery=gallery), body)
        assert response.status_code == 201, response.content
        shown = owner(response["Location"])
        assert (response["ETag"], response.content) == (shown["ETag"], shown.content)
        document = json.loads(response.content)
        assert (document["status"], document["domain"]) == ("pending", "new.example")
        assert document["tags"] == ["dark", "hitherto-unknown"]
        made = Screenshot.objects.get(pk=document["id"])
        assert (made.gallery.slug, made.state) == (gallery, State.PENDING)

    def test_under_a_gallery_need_not_say_which(self, owner, world):
        body = {"title": "New", "source_url": "https://new.example/"}
        assert send(owner, "POST", "/galleries/spring/screenshots/", body).status_code == 201
        document = problem(
            send(owner, "POST", "/galleries/spring/screenshots/", {**body, "gallery": "vault"}), 400
        )
        assert "spring" in document["errors"]["gallery"][0]

    @pytest.mark.parametrize("url", ["ftp://new.example/", "new.example", "javascript:alert(1)", "http://[/"])
    def test_of_what_is_no_page_of_the_web_says_once_what_is(self, owner, world, url):
        body = {"title": "New", "source_url": url}
        document = problem(send(owner, "POST", "/galleries/spring/screenshots/", body), 400)
        assert document["errors"] == {"source_url": ["Write the URL of a page, by http or https."]}

    @pytest.mark.parametrize("user", ["user", "user:password"])
    def test_whose_url_names_a_user_is_refused(self, owner, world, user):
        body = {"title": "New", "source_url": f"https://{user}@new.example/@at"}
        document = problem(send(owner, "POST", "/galleries/spring/screenshots/", body), 400)
        assert document["errors"] == {
            "source_url": ["Leave user and password out of the URL: everybody is shown it."]
        }
        body["source_url"] = "https://new.example/@at"
        assert send(owner, "POST", "/galleries/spring/screenshots/", body).status_code == 201

    def test_of_a_tag_is_for_everybody_who_curates(self, other, world):
        response = send(other, "POST", "/tags/", {"slug": "full-page"})
        assert response.status_code == 201, response.content
        assert json.loads(response.content) == other.read("/tags/full-page/")
        assert Tag.objects.get(slug="full-page").name == "Full page"

    @pytest.mark.parametrize(("target", "slug"), [("/galleries/", "vault"), ("/tags/", "dark")])
    def test_of_what_there_is_already_is_a_conflict(self, other, world, target, slug):
        body = {"slug": slug, "title": "Again"}
        document = problem(send(other, "POST", target, body), 409, "already-exists")
        assert slug in document["detail"]
        problem(send(other, "POST", target, body, If_None_Match="*"), 412, "precondition-failed")
        problem(send(other, "POST", target, body, If_None_Match='"x"'), 409)
        assert send(other, "POST", target, {**body, "slug": "new"}, If_None_Match="*").status_code == 201

    def test_cannot_rest_on_what_is_not_there_yet(self, owner, world):
        problem(send(owner, "POST", "/galleries/", {"slug": "new", "title": "New"}, if_match="*"), 412)


class TestBadBody:
    @pytest.mark.parametrize(
        ("target", "body", "member", "says"),
        [
            (CAT, {"titel": "x"}, "titel", "Did you mean 'title'?"),
            (CAT, {"width": 3}, "width", "cannot be set"),
            (CAT, {"source_url": "https://else.example/"}, "source_url", "cannot be set"),
            (CAT, {"title": ""}, "title", "blank"),
            (CAT, {"title": "x" * 201}, "title", "200"),
            (CAT, {"title": None}, "title", "null"),
            (CAT, {"title": "a\x00"}, "title", "ull char"),
            (CAT, {"position": -1}, "position", "0"),
            (CAT, {"position": 2**70}, "position", ""),
            (CAT, {"position": 2**31}, "position", "2147483647"),
            ("/galleries/spring/", {"position": 2**31}, "position", "2147483647"),
            ("/galleries/spring/", {"position": 2**63 - 1}, "position", "2147483647"),
            (CAT, {"position": "one"}, "position", "integer"),
            (CAT, {"position": "3"}, "position", "integer"),
            (CAT, {"position": "\u0663"}, "position", "integer"),
            (CAT, {"position": 3.5}, "position", "integer"),
            (CAT, {"position": True}, "position", "integer"),
            (CAT, {"title": 18446744073709551616}, "title", "text"),
            (CAT, {"title": 5}, "title", "text"),
            (CAT, {"title": True}, "title", "text"),
            (CAT, {"title": ["x"]}, "title", "text"),
            (CAT, {"alt": 0}, "alt", "text"),
            (CAT, {"tags": [2024]}, "tags", "text"),
            ("/galleries/spring/", {"description": 1.5}, "description", "text"),
            ("/galleries/spring/", {"description": "x" * 5_001}, "description", "5000"),
            ("/galleries/spring/", {"max_age": "60"}, "max_age", "integer"),
            ("/galleries/spring/", {"cover": ""}, "cover", "id of a screenshot of this gallery"),
            ("/tags/dark/", {"title": 7}, "title", "text"),
            (CAT, {"tags": "dark"}, "tags", "JSON array"),
            (CAT, {"tags": ["no words with spaces"]}, "tags", "slug"),
            (CAT, {"tags": [None]}, "tags", "null"),
            (CAT, {"tags": [f"t{n}" for n in range(101)]}, "tags", "100"),
            (CAT, {"gallery": "nothing"}, "gallery", "does not exist"),
            (CAT, {"gallery": {"slug": "spring"}}, "gallery", "slug of a gallery: a JSON string"),
            (CAT, {"gallery": "a\x00"}, "gallery", "slug of a gallery"),
            ("/galleries/spring/", {"slug": "summer"}, "slug", "cannot be set"),
            ("/galleries/spring/", {"visibility": "secret"}, "visibility", "public"),
            ("/galleries/spring/", {"visibility": ["public"]}, "visibility", "unlisted"),
            ("/galleries/spring/", {"cover": 2**62}, "cover", f"no screenshot with the id {2**62}"),
            ("/galleries/spring/", {"cover": 10**30}, "cover", "without quotes, or null"),
            ("/galleries/spring/", {"cover": True}, "cover", "without quotes, or null"),
            ("/galleries/spring/", {"cover": "1"}, "cover", "without quotes, or null"),
            ("/galleries/spring/", {"cover": 1.0}, "cover", "without quotes, or null"),
            ("/galleries/spring/", {"max_age": 10**9}, "max_age", "31536000"),
            ("/galleries/spring/", {"owner": 1}, "owner", "no such member"),
            ("/tags/dark/", {"kind": "x"}, "kind", "Write one of "),
        ],
    )
    def test_is_told_which_member_and_why(self, staff, world, target, body, member, says):
        document = problem(send(staff, "PATCH", world.at(target), body), 400, "invalid-value")
        assert set(document["errors"]) == {member}
        assert says in json.dumps(document["errors"][member], ensure_ascii=False)

    @pytest.mark.parametrize("body", ["null", "[]", "5", '"x"'])
    def test_no_object_is_told_to_be_one_in_the_words_of_json(self, owner, world, body):
        headers = {"If-Match": "*"}
        told = owner(world.at(CAT), "PATCH", data=body, content_type="application/json", headers=headers)
        document = problem(told, 400, "invalid-value")
        assert document["errors"] == {"non_field_errors": ["Write a JSON object, in braces."]}

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    def test_that_is_none_is_not_taken_for_one_that_changes_nothing(self, owner, world, method):
        told = problem(send(owner, method, world.at(CAT), b"", if_match="*"), 400)["detail"]
        assert told == "The body is empty: send what is to be changed."
        problem(send(owner, method, world.at(CAT), b"", if_match='"x"'), 412)

    def test_list_that_is_too_long_is_refused_before_what_is_in_it_is_looked_at(self, owner, world):
        document = problem(send(owner, "PATCH", world.at(CAT), {"tags": ["!"] * 5_000}), 400)
        assert document["errors"] == {"tags": ["Ensure this field has no more than 100 elements."]}

    def test_members_that_there_are_not_are_named_to_the_dozen_and_counted_beyond(
        self, owner, world, monkeypatch
    ):
        compared = []
        monkeypatch.setattr(
            members, "get_close_matches", lambda name, *_, **__: compared.append(name) or ["title"]
        )
        body = {f"titel{number}": number for number in range(1_000)}
        errors = problem(send(owner, "PATCH", world.at(CAT), body), 400, "invalid-value")["errors"]
        assert errors.pop("non_field_errors") == ["988 more members of the body cannot be set."]
        assert list(errors) == compared == list(body)[:12]
        assert "title" in errors["titel0"][0]

    @pytest.mark.parametrize(
        "content",
        [b"{", b"nothing", b"{'a': 1}", b"\xff", b'{"title": NaN}', b"[" * 5_000, b'{"title": "\\ud800"}'],
    )
    def test_that_is_no_json_is_refused(self, owner, world, content):
        problem(send(owner, "PATCH", world.at(CAT), content), 400)

    @pytest.mark.parametrize("content", [b"[]", b"1", b"null", b'"title"'])
    def test_that_is_no_object_is_refused(self, owner, world, content):
        problem(send(owner, "PATCH", world.at(CAT), content), 400, "invalid-value")
        problem(send(owner, "POST", "/galleries/", content), 400, "invalid-value")

    def test_of_another_media_type_is_415(self, owner, world):
        tag = owner(world.at(CAT))["ETag"]
        response = owner(
            world.at(CAT), "PATCH", headers={"If-Match": tag}, data=b"title=x", content_type="text/plain"
        )
        assert problem(response, 415)["allowed"] == ["application/json"]

    @pytest.mark.parametrize(
        ("method", "told"), [("PATCH", ("application/json",) * 2), ("PUT", ("application/json", None))]
    )
    def test_of_another_media_type_is_told_which_one_to_send(self, owner, world, method, told):
        """RFC 9110 section 15.5.16, RFC 5789 section 2.2."""
        body = {"data": b"title=x", "content_type": "application/merge-patch+json"}
        response = owner(world.at(CAT), method, headers={"If-Match": "*"}, **body)
        problem(response, 415)
        assert (response["Accept"], response.headers.get("Accept-Patch")) == told

    def test_of_a_patch_is_described_by_options(self, owner, world):
        """RFC 5789 section 3.1."""
        assert owner(world.at(CAT), "OPTIONS")["Accept-Patch"] == "application/json"
        assert not owner(f"{world.at(CAT)}renditions/", "OPTIONS").has_header("Accept-Patch")

    def test_that_is_too_long_is_413(self, owner, world, settings):
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        problem(send(owner, "PATCH", world.at(CAT), b" " * 101 + b"{}"), 413, "content-too-long")
        assert send(owner, "PATCH", world.at(CAT), b" " * 98 + b"{}").status_code == 200

    @pytest.mark.parametrize("member", ["title", "position", "tags", "nothing"])
    @pytest.mark.parametrize("opened", [b"[", b'{"a":'])
    def test_that_goes_too_deep_is_refused(self, owner, world, member, opened):
        closed = b"]" if opened == b"[" else b"}"
        for levels in (MOST_NESTED, 254, 1_000):
            content = b'{"%b":%b1%b}' % (member.encode(), opened * levels, closed * levels)
            problem(send(owner, "PATCH", world.at(CAT), content), 400)
            problem(send(owner, "POST", "/galleries/", content, Idempotency_Key="a"), 400)

    @pytest.mark.parametrize(
        "content",
        [
            b'{"title":"One","title":"Two"}',
            b'{"title":"One","metadata":{"a":{"b":1,"b":1}}}',
            b'[{"a":1,"a":2}]',
        ],
    )
    def test_that_says_something_twice_is_400(self, owner, world, content):
        response = send(owner, "PATCH", world.at(CAT), content, If_Match="*")
        assert "twice" in problem(response, 400)["detail"]

    @pytest.mark.parametrize("coding", ["gzip", "br", "x", "identity, gzip"])
    def test_that_is_coded_is_415(self, owner, world, coding):
        fields = {"If_Match": "*", "Content_Encoding": coding}
        response = send(owner, "PATCH", world.at(CAT), {"title": "New"}, **fields)
        assert problem(response, 415, "coded-content")["header"] == "Content-Encoding"
        assert response["Accept-Encoding"] == "identity"

    @pytest.mark.parametrize("said", [{"Transfer-Encoding": "chunked"}, {"SERVER_PROTOCOL": "HTTP/2"}])
    def test_whose_length_a_server_does_not_say_is_411(self, owner, world, said):
        condition = {"If-Match": owner(world.at(CAT))["ETag"]} | {
            name: value for name, value in said.items() if "-" in name
        }
        protocol = {name: value for name, value in said.items() if "_" in name}
        response = owner(world.at(CAT), "PATCH", headers=condition, **protocol)
        problem(response, 411, "length-required")

    @pytest.mark.parametrize(
        ("method", "target", "fields"),
        [
            ("PATCH", CAT, {"If-Match": "*"}),
            ("POST", "/tags/", {}),
            ("POST", "/galleries/", {}),
            ("PATCH", "/screenshots/?ids={cat}", {"X-Bulk-Operation": "true"}),
            ("POST", "/screenshots/", {"X-Bulk-Operation": "true"}),
            ("DELETE", "/screenshots/?ids={cat}", {"X-Bulk-Operation": "true"}),
        ],
    )
    def test_is_in_before_a_transaction_begins(self, staff, world, method, target, fields):
        """Who sends it slowly would keep everybody else from writing."""
        content, outside, read = Slow(b'{"title": "x"}'), list(connection.savepoint_ids), []
        content.heard = lambda: read.append(connection.savepoint_ids == outside)
        staff(
            world.at(target),
            method,
            headers=fields,
            data=content.getvalue(),
            content_type="application/json",
            **{"wsgi.input": content},
        )
        assert read
        assert all(read)

    def test_cover_of_another_gallery_is_refused(self, owner, world):
        for name in ("owl", "yak"):
            body = {"cover": world.shots[name].pk}
            document = problem(send(owner, "PATCH", "/galleries/spring/", body), 400)
            assert "This gallery has no screenshot" in document["errors"]["cover"][0]

    @pytest.mark.parametrize("spelt", [int, float, "00{}".format, " {} ".format])
    def test_cover_that_is_hidden_is_refused_as_one_that_there_is_not(self, other, world, spelt):
        told = []
        for pk in (world.shots["yak"].pk, 999_999):
            document = problem(send(other, "PATCH", "/galleries/autumn/", {"cover": spelt(pk)}), 400)
            told.append(document["errors"]["cover"][0].replace(str(pk), "it"))
        assert told[0] == told[1]

    @pytest.mark.parametrize(
        ("target", "body"),
        [
            ("/galleries/", {"slug": 2024, "title": "New"}),
            ("/galleries/", {"slug": "new", "title": 2024}),
            ("/tags/", {"slug": 2024}),
            ("/galleries/spring/screenshots/", {"source_url": "https://new.example/", "title": 2024}),
            ("/galleries/spring/screenshots/", {"source_url": 2024, "title": "New"}),
        ],
    )
    def test_number_is_no_text_of_what_is_new_either(self, owner, world, target, body):
        document = problem(sent(owner, "POST", target, body), 400, "invalid-value")
        assert "text" in json.dumps(document["errors"])

    def test_cover_is_a_whole_number(self, owner, world):
        for cover in (world.shots["dog"].pk + 0.5, float(world.shots["dog"].pk), str(world.shots["dog"].pk)):
            problem(send(owner, "PATCH", "/galleries/spring/", {"cover": cover}), 400)
        assert Gallery.objects.get(slug="spring").cover == world.shots["cat"]

    def test_nothing_of_a_refused_body_is_saved(self, owner, world):
        problem(send(owner, "PATCH", world.at(CAT), {"title": "Lion", "tags": ["new"], "position": -1}), 400)
        assert Screenshot.objects.get(pk=world.shots["cat"].pk).title == "Cat"
        assert not Tag.objects.filter(slug="new").exists()


class TestWhoMay:
    def test_nobody_is_told_how_to_sign_in(self, api, world):
        for method, target in [("PATCH", CAT), ("DELETE", "/galleries/spring/"), ("POST", "/tags/")]:
            response = send(api, method, world.at(target), {}, if_match="*")
            problem(response, 401)
            assert response["WWW-Authenticate"]

    def test_what_is_another_s_is_not_changed(self, other, world):
        for method in ("PATCH", "PUT", "DELETE"):
            for target in (CAT, "/galleries/spring/", "/galleries/drafts/screenshots/{rat}/", "/tags/dark/"):
                problem(send(other, method, world.at(target), {"title": "x"}), 403)
        problem(send(other, "POST", "/galleries/spring/screenshots/", {}), 403)
        problem(send(other, "PATCH", world.at("/screenshots/{owl}/"), {"gallery": "spring"}), 403)
        body = {"gallery": "spring", "title": "x", "source_url": "https://x.example/"}
        problem(send(other, "POST", "/screenshots/", body), 403)

    def test_what_cannot_be_seen_is_not_there(self, other, staff, world):
        for client in (other, staff):
            for target in ("/screenshots/{yak}/", "/galleries/vault/", "/galleries/vault/screenshots/{yak}/"):
                for method in ("PATCH", "DELETE"):
                    problem(send(client, method, world.at(target), {}, if_match="*"), 404)
            problem(send(client, "POST", "/galleries/vault/screenshots/", {}), 404)
        document = problem(send(other, "PATCH", world.at("/screenshots/{owl}/"), {"gallery": "vault"}), 400)
        assert "does not exist" in document["errors"]["gallery"][0]

    def test_what_cannot_be_changed_can_be_hidden_too(self, other, world, settings):
        settings.CURATION_HIDES = True
        for target in (CAT, "/galleries/spring/", "/tags/dark/"):
            problem(send(other, "PATCH", world.at(target), {}, if_match="*"), 404)
        problem(send(other, "POST", "/galleries/spring/screenshots/", {}), 404)
        problem(send(other, "PATCH", world.at("/screenshots/{owl}/"), {"gallery": "spring"}), 400)

    def test_staff_changes_what_it_sees(self, staff, world):
        for target in (CAT, "/galleries/spring/", "/galleries/drafts/screenshots/{rat}/", "/tags/dark/"):
            assert send(staff, "PATCH", world.at(target), {"title": "By staff"}).status_code == 200

    def test_session_needs_its_csrf_token(self, as_owner, world):
        target = world.at(CAT)
        assert "CSRF" in problem(send(as_owner, "PATCH", target, {"title": "x"}), 403)["detail"]
        as_owner.client.cookies["csrftoken"] = "a" * 32
        assert send(as_owner, "PATCH", target, {"title": "x"}, X_CSRFToken="a" * 32).status_code == 200

    def test_session_without_its_csrf_token_is_refused_whatever_the_body(self, as_owner, world):
        as_owner.client.cookies["csrftoken"] = "a" * 32
        for content in (b"{", b"x" * 3_000_000):
            assert "CSRF" in problem(sent(as_owner, "POST", "/tags/", content), 403)["detail"]

    def test_session_s_body_is_read_as_that_of_any_other_client(self, as_owner, world):
        as_owner.client.cookies["csrftoken"] = "a" * 32
        fields = {"X_CSRFToken": "a" * 32, "Content_Encoding": "gzip"}
        problem(sent(as_owner, "POST", "/tags/", {"slug": "coded"}, **fields), 415, "coded-content")
        assert not Tag.objects.filter(slug="coded").exists()

    def test_gallery_of_nobody_is_staff_s(self, owner, staff, world):
        Gallery.objects.filter(slug="spring").update(owner=None)
        problem(send(owner, "PATCH", "/galleries/spring/", {}), 403)
        assert send(staff, "PATCH", "/galleries/spring/", {"title": "x"}).status_code == 200


class TestMethods:
    @pytest.mark.parametrize(
        ("target", "allowed"),
        [
            ("/galleries/", "GET, POST, PATCH, DELETE, HEAD, OPTIONS"),
            ("/galleries/spring/", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            ("/galleries/spring/screenshots/", "GET, POST, PATCH, DELETE, HEAD, OPTIONS"),
            ("/screenshots/{cat}/", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            ("/screenshots/{cat}/renditions/", "GET, HEAD, OPTIONS"),
            ("/tags/dark/", "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
            ("/tags/dark/screenshots/", "GET, PATCH, DELETE, HEAD, OPTIONS"),
            ("/tags/", "GET, POST, HEAD, OPTIONS"),
        ],
    )
    def test_that_are_not_offered_are_405_with_those_that_are(self, api, owner, world, target, allowed):
        target = world.at(target)
        assert api(target, "OPTIONS")["Allow"] == allowed
        for method in {"POST", "PUT", "PATCH", "DELETE"} - set(allowed.split(", ")):
            for client in (api, owner):
                response = send(client, method, target, {}, if_match="*")
                problem(response, 405)
                assert response["Allow"] == allowed

    def test_pages_for_people_show_to_each_what_it_may(self, api, owner, other, world):
        for client in (api, owner, other):
            for target in (CAT, "/screenshots/", "/galleries/", "/galleries/spring/", "/tags/dark/"):
                response = client(world.at(f"{target}?format=api"))
                assert (response.status_code, response["Cache-Control"]) == (200, "private, no-store"), target


def test_unlisted_gallery_s_screenshot_is_located_under_it(owner, world):
    assert world.galleries["drafts"].visibility == Visibility.UNLISTED
    body = {"gallery": "drafts", "title": "x", "source_url": "https://x.example/"}
    assert send(owner, "POST", "/screenshots/", body)["Location"].startswith("/api/v1/galleries/drafts/")
