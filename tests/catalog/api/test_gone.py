"""What was deleted answers 410 for a while, to those who could see it, and is a 404 to everybody else."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from catalog.models import Gallery, Screenshot, Tag, Tombstone

pytestmark = pytest.mark.django_db

OF_CAT = (
    "/screenshots/{cat}/",
    "/galleries/spring/screenshots/{cat}/",
    "/screenshots/{cat}/renditions/",
    "/galleries/spring/screenshots/{cat}/renditions/",
)
OF_SPRING = (*OF_CAT, "/galleries/spring/", "/galleries/spring/screenshots/")
OF_DRAFTS = (
    "/galleries/drafts/",
    "/galleries/drafts/screenshots/",
    "/galleries/drafts/screenshots/{rat}/",
    "/galleries/drafts/screenshots/{rat}/renditions/",
)
OF_VAULT = (
    "/galleries/vault/",
    "/galleries/vault/screenshots/",
    "/galleries/vault/screenshots/{yak}/",
    "/screenshots/{yak}/",
    "/screenshots/{yak}/renditions/",
)
OF_DARK = ("/tags/dark/", "/tags/dark/screenshots/")


@pytest.fixture
def other(world, by_user):
    return by_user(world.other)


def deleted(world, *names):
    Screenshot.objects.filter(pk__in=world.ids(*names)).delete()


def statuses(client, world, targets, method="GET"):
    return {client(world.at(target), method, headers={"If-Match": "*"}).status_code for target in targets}


class TestGone:
    @pytest.mark.parametrize(
        ("delete", "targets"),
        [
            (lambda w: deleted(w, "cat"), OF_CAT),
            (lambda w: Screenshot.objects.filter(pk=w.shots["cat"].pk)._raw_delete("default"), OF_CAT),
            (lambda w: w.galleries["spring"].delete(), OF_SPRING),
            (lambda w: Gallery.objects.all().delete(), (*OF_SPRING, *OF_DRAFTS)),
            (lambda w: w.tags["dark"].delete(), OF_DARK),
            (lambda w: Tag.objects.all().delete(), OF_DARK),
        ],
    )
    def test_whoever_deleted_it(self, api, by_token, world, delete, targets):
        assert statuses(api, world, targets) == {200}
        self.clear_the_way(world)
        delete(world)
        for method in ("GET", "HEAD"):
            assert statuses(api, world, targets, method) == {410}
        own = [target for target in targets if not target.endswith(("screenshots/", "renditions/"))]
        for method in ("PATCH", "PUT", "DELETE"):
            assert statuses(by_token, world, own, method) == {410}
            assert statuses(api, world, own, method) == {401}

    def clear_the_way(self, world):
        """Take off what a raw DELETE would leave pointing nowhere."""
        cat = world.shots["cat"]
        Gallery.objects.filter(cover=cat).update(cover=None)
        cat.renditions.all().delete()
        Screenshot.tags.through.objects.filter(screenshot=cat).delete()
        world.add("extra", "spring", "dark")

    @pytest.mark.django_db(transaction=True)
    def test_a_gallery_that_somebody_deletes_before_what_is_in_it(self, api, fresh_world):
        """Foreign keys are checked at COMMIT."""
        world = fresh_world
        spring = world.galleries["spring"]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM catalog_gallery WHERE id = %s", [spring.pk])
            Screenshot.objects.filter(gallery_id=spring.pk).delete()
        assert statuses(api, world, ["/galleries/spring/", "/galleries/spring/screenshots/"]) == {410}
        assert statuses(api, world, OF_CAT) == {404}

    def test_is_a_problem_that_nobody_keeps(self, api, world):
        deleted(world, "cat")
        for _ in range(2):
            response = api(world.at("/screenshots/{cat}/"))
            assert (response["Content-Type"], response["Cache-Control"]) == (
                "application/problem+json",
                "private, no-store",
            )
            assert "stored" not in response.get("Cache-Status", "")
            assert json.loads(response.content)["type"] == "urn:problem:gone"

    def test_by_the_api_too(self, api, by_token, world):
        for target in ("/screenshots/{cat}/", "/galleries/spring/"):
            response = by_token(world.at(target), "DELETE", headers={"If-Match": "*"})
            assert response.status_code == 204
            assert statuses(api, world, [target]) == {410}

    @pytest.mark.parametrize("kind", ["galleries", "shots", "tags"])
    def test_since_the_moment_of_the_deletion_wherever_the_server_is(self, world, settings, kind):
        settings.TIME_ZONE = "Asia/Tokyo"
        name = {"galleries": "spring", "shots": "cat", "tags": "dark"}[kind]
        getattr(world, kind)[name].delete()
        assert Tombstone.objects.exists()
        for tombstone in Tombstone.objects.all():
            assert abs(timezone.now() - tombstone.deleted_at) < timedelta(minutes=10)

    @pytest.mark.parametrize(
        ("target", "targets"),
        [
            ("/galleries/spring/screenshots/?all=true", OF_CAT),
            ("/galleries/?search=Spring", OF_SPRING),
        ],
    )
    def test_in_bulk_too(self, api, by_token, world, target, targets):
        response = by_token(target, "DELETE", headers={"X-BULK-OPERATION": "true"})
        assert response.status_code == 200, response.content
        assert statuses(api, world, targets) == {410}


class TestWhoIsTold:
    def test_of_what_was_private_its_owner_alone(self, api, by_token, other, world):
        world.galleries["vault"].delete()
        for client in (api, other):
            assert statuses(client, world, OF_VAULT) == {404}
        assert statuses(by_token, world, OF_VAULT) == {410}

    def test_of_what_was_unlisted_who_knows_its_gallery(self, api, by_token, world):
        world.galleries["drafts"].delete()
        assert statuses(api, world, OF_DRAFTS) == {410}
        assert statuses(api, world, ["/screenshots/{rat}/", "/screenshots/{rat}/renditions/"]) == {404}
        assert statuses(by_token, world, ["/screenshots/{rat}/"]) == {410}

    def test_of_a_word_that_only_private_galleries_used_nobody(self, api, other, world):
        hush = Tag.objects.create(slug="hush", name="Hush", offered=False)
        world.shots["yak"].tags.add(hush)
        hush.delete()
        for client in (api, other):
            assert statuses(client, world, ["/tags/hush/"]) == {404}

    def test_of_a_word_that_came_with_what_everybody_sees_everybody(self, api, other, world):
        word = Tag.objects.create(slug="word", name="Word", offered=False)
        world.shots["cat"].tags.add(word)
        word.delete()
        for client in (api, other):
            assert statuses(client, world, ["/tags/word/", "/tags/word/screenshots/"]) == {410}

    def test_what_went_private_and_was_then_deleted_is_not_told_of(self, api, world):
        Gallery.objects.filter(slug="spring").update(visibility="private")
        Gallery.objects.get(slug="spring").delete()
        assert statuses(api, world, OF_SPRING) == {404}

    def test_that_something_hidden_had_the_name_since_nobody_is_told(self, api, by_token, other, world):
        Gallery.objects.get(slug="spring").delete()
        assert statuses(api, world, ["/galleries/spring/"]) == {410}
        Gallery.objects.create(slug="spring", title="Vault", visibility="private", owner=world.other)
        Gallery.objects.get(slug="spring").delete()
        for client in (api, by_token, other):
            assert statuses(client, world, ["/galleries/spring/"]) == {410}

    def test_of_something_hidden_its_owner_whatever_had_the_name_long_before(self, api, other, world):
        Gallery.objects.get(slug="spring").delete()
        Tombstone.objects.update(deleted_at=timezone.now() - timedelta(days=1000))
        Gallery.objects.create(slug="spring", title="Vault", visibility="private", owner=world.other)
        Gallery.objects.get(slug="spring").delete()
        assert statuses(api, world, ["/galleries/spring/"]) == {404}
        assert statuses(other, world, ["/galleries/spring/"]) == {410}

    @pytest.mark.parametrize("name", ["spring", "dark", "cat"])
    def test_of_a_name_that_something_hidden_has_now_all_who_were_told_before(
        self, api, by_token, other, world, name
    ):
        """That it turns into a 404 would tell of what they cannot see."""
        thing, targets, again = self.HIDDEN[name]
        thing(world).delete()
        clients = (api, other)
        assert {status for client in clients for status in statuses(client, world, targets)} == {410}
        again(world)
        assert {status for client in clients for status in statuses(client, world, targets)} == {410}
        assert statuses(by_token, world, targets) == {200}

    HIDDEN = {
        "spring": (
            lambda world: world.galleries["spring"],
            ["/galleries/spring/", "/galleries/spring/screenshots/"],
            lambda world: Gallery.objects.create(
                slug="spring", title="Mine", owner=world.owner, visibility="private"
            ),
        ),
        "dark": (
            lambda world: world.tags["dark"],
            ["/tags/dark/", "/tags/dark/screenshots/"],
            lambda world: Tag.objects.create(slug="dark", name="Dark", offered=False).screenshots.add(
                world.shots["yak"]
            ),
        ),
        "cat": (
            lambda world: Screenshot.objects.filter(pk=world.shots["cat"].pk),
            ["/screenshots/{cat}/", "/screenshots/{cat}/renditions/"],
            lambda world: world.add("cat", "vault", pk=world.shots["cat"].pk),
        ),
    }

    def test_the_owner_s_tombstones_go_with_the_owner(self, world):
        world.galleries["vault"].delete()
        world.owner.delete()
        assert not Tombstone.objects.filter(name="vault").exists()


class TestNotGone:
    def test_what_never_was(self, api, world):
        world.galleries["spring"].delete()
        for target in (
            "/galleries/autumn/screenshots/{cat}/",
            "/galleries/spring/screenshots/99999/",
            "/tags/x/",
        ):
            assert statuses(api, world, [target]) == {404}

    def test_what_was_moved(self, api, world):
        Screenshot.objects.filter(pk=world.shots["cat"].pk).update(gallery=world.galleries["autumn"])
        assert statuses(api, world, ["/galleries/spring/screenshots/{cat}/"]) == {404}

    def test_what_is_there_again(self, api, by_token, world):
        world.galleries["spring"].delete()
        body = {"slug": "spring", "title": "Again"}
        made = by_token(
            "/galleries/", "POST", data=json.dumps(body).encode(), content_type="application/json"
        )
        assert made.status_code == 201
        targets = ["/galleries/spring/", "/galleries/spring/screenshots/"]
        assert statuses(api, world, targets) == {200}
        Gallery.objects.filter(slug="spring").update(visibility="private")
        assert statuses(api, world, targets) == {410}
        assert statuses(by_token, world, targets) == {200}
        Gallery.objects.filter(slug="spring").update(visibility="unlisted")
        Gallery.objects.get(slug="spring").delete()
        assert statuses(api, world, targets) == {410}

    def test_after_its_time(self, api, world, settings, capsys):
        deleted(world, "cat", "dog")
        cat = Tombstone.objects.filter(name=world.at("{cat}"))
        cat.update(deleted_at=timezone.now() - timedelta(days=settings.TOMBSTONE_DAYS, seconds=1))
        assert statuses(api, world, OF_CAT) == {404}
        assert statuses(api, world, ["/screenshots/{dog}/"]) == {410}
        call_command("prune_tombstones")
        assert capsys.readouterr().out == "1 tombstones removed.\n"
        assert statuses(api, world, ["/screenshots/{dog}/"]) == {410}

    def test_where_nothing_is_remembered(self, api, world, settings, count_queries):
        deleted(world, "cat")
        settings.TOMBSTONE_DAYS = 0
        with count_queries() as queries:
            assert statuses(api, world, OF_CAT[:1]) == {404}
        assert not [query for query in queries if "tombstone" in query["sql"]]


class TestCost:
    @pytest.mark.parametrize(
        "target",
        ["/screenshots/99999/", "/galleries/x/", "/galleries/x/screenshots/1/", "/tags/x/screenshots/"],
    )
    def test_of_a_404_is_one_query_more(self, api, world, count_queries, target):
        with count_queries() as queries:
            assert api(target).status_code == 404
        assert len([query for query in queries if "tombstone" in query["sql"]]) == 1

    def test_of_a_deletion_does_not_grow_with_it(self, world, count_queries):
        counts = []
        for gallery in ("autumn", "spring"):
            with count_queries() as queries:
                world.galleries[gallery].delete()
            counts.append(len([query for query in queries if "catalog_tombstone" in query["sql"]]))
        assert counts == [0, 0]
