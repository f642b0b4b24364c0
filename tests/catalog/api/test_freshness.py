"""Every write shows at once wherever it must, and leaves alone what it need not touch."""

from __future__ import annotations

import json
import threading

import pytest
from django.db import connection, transaction

from catalog.models import Gallery, Rendition, Screenshot, State, Tag
from keybits.drf import exchange
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)

READS = [
    "/galleries/",
    "/galleries/spring/",
    "/galleries/autumn/",
    "/galleries/drafts/",
    "/galleries/renamed/",
    "/galleries/spring/screenshots/",
    "/galleries/autumn/screenshots/?page=1",
    "/galleries/drafts/screenshots/",
    "/galleries/spring/screenshots/{cat}/",
    "/galleries/autumn/screenshots/{cat}/",
    "/screenshots/?include=gallery,renditions&page_size=max",
    "/screenshots/?tag=dark&tag=chart",
    "/screenshots/?domain=one.example",
    "/screenshots/?domain=two.example",
    "/screenshots/?search=cat",
    "/screenshots/?status=pending&limit=5",
    "/screenshots/{cat}/?include=gallery",
    "/screenshots/{cat}/renditions/",
    "/screenshots/{owl}/",
    "/tags/",
    "/tags/dark/",
    "/tags/form/",
    "/tags/renamed/",
    "/tags/dark/screenshots/",
    "/tags/form/screenshots/",
    "/tags/mobile/screenshots/",
]
COUNTED = (
    "/galleries/spring/screenshots/?count=exact&page_size=1&fields=id",
    "/galleries/spring/screenshots/?count=estimated&page_size=1&fields=id",
)
READS += COUNTED
OF_AUTUMN = ("/galleries/autumn/", "/galleries/autumn/screenshots/?page=1", "/screenshots/{owl}/")
OF_OTHER_TAGS = ("/tags/form/", "/tags/form/screenshots/", "/tags/mobile/screenshots/")
OF_OTHER_DOMAINS = ("/screenshots/?domain=two.example",)
UNTOUCHED_BY_CAT = (*OF_AUTUMN, *OF_OTHER_TAGS, *OF_OTHER_DOMAINS)
LISTS_OF_CAT = (
    "/galleries/spring/screenshots/",
    "/screenshots/?include=gallery,renditions&page_size=max",
    "/screenshots/?tag=dark&tag=chart",
    "/screenshots/?domain=one.example",
    "/tags/dark/screenshots/",
)
CAT = ("/screenshots/{cat}/?include=gallery", "/galleries/spring/screenshots/{cat}/")


@pytest.fixture
def world(fresh_world):
    return fresh_world


def put(row, **fields):
    """Set fields and save."""
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()


def everything(client, world, reads=READS):
    """Return what each read answers: its status and its document."""
    return {read: _answer(client(world.at(read))) for read in reads}


def _answer(response):
    return response.status_code, json.loads(response.content)


# A write, what it must change, and what must go on as hits.
WRITES = {
    "title of a screenshot": (
        lambda w: put(w.shots["cat"], title="Changed"),
        (*LISTS_OF_CAT, *CAT, "/screenshots/?search=cat"),
        UNTOUCHED_BY_CAT,
    ),
    "some fields of a screenshot": (
        lambda w: (setattr(w.shots["cat"], "alt", "New"), w.shots["cat"].save(update_fields=["alt"])),
        (*LISTS_OF_CAT, *CAT),
        UNTOUCHED_BY_CAT,
    ),
    "state of a screenshot": (
        lambda w: put(w.shots["cat"], state=State.PENDING),
        (*LISTS_OF_CAT, *CAT, "/screenshots/?status=pending&limit=5"),
        UNTOUCHED_BY_CAT,
    ),
    "position of a screenshot": (
        lambda w: put(w.shots["cat"], position=0),
        ("/galleries/spring/screenshots/", *CAT),
        UNTOUCHED_BY_CAT,
    ),
    "page of a screenshot": (
        lambda w: put(w.shots["cat"], source_url="https://two.example/"),
        (*LISTS_OF_CAT, *CAT, "/screenshots/?domain=two.example"),
        (*OF_AUTUMN, *OF_OTHER_TAGS),
    ),
    "screenshot moved to another gallery": (
        lambda w: put(w.shots["cat"], gallery=w.galleries["autumn"]),
        (*LISTS_OF_CAT, *CAT, *OF_AUTUMN[:2], "/galleries/spring/", "/galleries/autumn/screenshots/{cat}/"),
        (*OF_OTHER_TAGS, *OF_OTHER_DOMAINS, OF_AUTUMN[2], "/galleries/drafts/screenshots/"),
    ),
    "screenshot moved to a private gallery": (
        lambda w: put(w.shots["cat"], gallery=w.galleries["vault"]),
        (
            *LISTS_OF_CAT,
            *CAT,
            "/galleries/spring/",
            "/galleries/",
            "/tags/",
            "/tags/dark/",
            "/screenshots/{cat}/renditions/",
        ),
        UNTOUCHED_BY_CAT,
    ),
    "screenshot added": (
        lambda w: w.add("new", "spring", "dark chart"),
        (*LISTS_OF_CAT, *COUNTED, "/galleries/", "/galleries/spring/", "/tags/", "/tags/dark/"),
        (*UNTOUCHED_BY_CAT, *CAT),
    ),
    "screenshot deleted": (
        lambda w: w.shots["dog"].delete(),
        (
            "/galleries/",
            "/galleries/spring/",
            "/galleries/spring/screenshots/",
            "/tags/",
            "/tags/dark/screenshots/",
        ),
        (*UNTOUCHED_BY_CAT, *CAT),
    ),
    "several screenshots deleted": (
        lambda w: Screenshot.objects.filter(title__in=["Dog", "Fox"]).delete(),
        (
            "/galleries/",
            "/galleries/spring/",
            "/galleries/spring/screenshots/",
            "/tags/",
            "/tags/dark/screenshots/",
        ),
        (*UNTOUCHED_BY_CAT, *CAT),
    ),
    "screenshots updated in one statement": (
        lambda w: Screenshot.objects.filter(gallery__slug="spring").update(alt="All"),
        (*LISTS_OF_CAT, *CAT, "/tags/form/screenshots/"),
        (*OF_AUTUMN, "/galleries/drafts/screenshots/"),
    ),
    "screenshots created in one statement": (
        lambda w: Screenshot.objects.bulk_create(
            [
                Screenshot(
                    gallery=w.galleries["spring"],
                    title="Cat",
                    source_url="https://one.example/",
                    domain="one.example",
                )
            ]
        ),
        (
            "/galleries/spring/screenshots/",
            "/screenshots/?search=cat",
            "/screenshots/?domain=one.example",
            "/galleries/",
        ),
        (*UNTOUCHED_BY_CAT, *CAT, "/tags/dark/screenshots/"),
    ),
    "tag added": (
        lambda w: w.shots["cat"].tags.add(w.tags["form"]),
        (
            *CAT,
            "/tags/",
            "/tags/form/",
            "/tags/form/screenshots/",
            "/tags/dark/screenshots/",
            "/galleries/spring/screenshots/",
        ),
        (*OF_AUTUMN, *OF_OTHER_DOMAINS, "/tags/mobile/screenshots/"),
    ),
    "tag removed": (
        lambda w: w.shots["cat"].tags.remove(w.tags["dark"]),
        (*CAT, "/tags/", "/tags/dark/", "/tags/dark/screenshots/", "/screenshots/?tag=dark&tag=chart"),
        UNTOUCHED_BY_CAT,
    ),
    "tags set": (
        lambda w: w.shots["cat"].tags.set([w.tags["form"]]),
        (*CAT, "/tags/", "/tags/dark/", "/tags/form/", "/tags/dark/screenshots/", "/tags/form/screenshots/"),
        (*OF_AUTUMN, *OF_OTHER_DOMAINS, "/tags/mobile/screenshots/"),
    ),
    "tags cleared": (
        lambda w: w.shots["cat"].tags.clear(),
        (*CAT, "/tags/", "/tags/dark/", "/tags/dark/screenshots/", "/galleries/spring/screenshots/"),
        UNTOUCHED_BY_CAT,
    ),
    "screenshot added to a tag": (
        lambda w: w.tags["form"].screenshots.add(w.shots["cat"]),
        (*CAT, "/tags/", "/tags/form/", "/tags/form/screenshots/", "/galleries/spring/screenshots/"),
        (*OF_AUTUMN, *OF_OTHER_DOMAINS, "/tags/mobile/screenshots/"),
    ),
    "screenshot removed from a tag": (
        lambda w: w.tags["dark"].screenshots.remove(w.shots["cat"]),
        (*CAT, "/tags/", "/tags/dark/", "/tags/dark/screenshots/", "/galleries/spring/screenshots/"),
        UNTOUCHED_BY_CAT,
    ),
    "screenshots of a tag cleared": (
        lambda w: w.tags["form"].screenshots.clear(),
        ("/tags/", "/tags/form/", "/tags/form/screenshots/", "/galleries/spring/screenshots/"),
        (*OF_AUTUMN, *CAT, "/tags/mobile/screenshots/"),
    ),
    "name of a tag": (
        lambda w: put(w.tags["dark"], name="Changed"),
        ("/tags/", "/tags/dark/"),
        (),
    ),
    "slug of a tag": (
        lambda w: put(w.tags["dark"], slug="renamed"),
        (
            *LISTS_OF_CAT,
            *CAT,
            "/tags/",
            "/tags/dark/",
            "/tags/renamed/",
            "/screenshots/{owl}/",
        ),
        (),
    ),
    "tag created": (
        lambda w: Tag.objects.create(slug="renamed", name="New"),
        ("/tags/", "/tags/renamed/"),
        (),
    ),
    "tag deleted": (
        lambda w: w.tags["dark"].delete(),
        (*LISTS_OF_CAT, *CAT, "/tags/", "/tags/dark/", "/tags/mobile/screenshots/"),
        (),
    ),
    "title of a gallery": (
        lambda w: put(w.galleries["spring"], title="Changed"),
        (
            "/galleries/",
            "/galleries/spring/",
            CAT[0],
            "/screenshots/?include=gallery,renditions&page_size=max",
        ),
        ("/galleries/autumn/", "/galleries/drafts/"),
    ),
    "slug of a gallery": (
        lambda w: put(w.galleries["spring"], slug="renamed"),
        (
            *LISTS_OF_CAT,
            *CAT,
            "/galleries/",
            "/galleries/spring/",
            "/galleries/renamed/",
        ),
        ("/galleries/autumn/", "/galleries/drafts/"),
    ),
    "gallery made private": (
        lambda w: put(w.galleries["spring"], visibility="private"),
        (
            *LISTS_OF_CAT,
            *CAT,
            "/galleries/",
            "/galleries/spring/",
            "/tags/",
            "/tags/dark/",
            "/screenshots/{cat}/renditions/",
        ),
        ("/galleries/autumn/",),
    ),
    "gallery made unlisted": (
        lambda w: put(w.galleries["spring"], visibility="unlisted"),
        (
            "/galleries/",
            "/galleries/spring/",
            CAT[0],
            "/tags/dark/",
            "/tags/dark/screenshots/",
            "/screenshots/?search=cat",
        ),
        ("/galleries/autumn/",),
    ),
    "gallery made public": (
        lambda w: put(w.galleries["drafts"], visibility="public"),
        (
            "/galleries/",
            "/galleries/drafts/",
            "/tags/",
            "/tags/form/screenshots/",
            "/screenshots/?domain=one.example",
        ),
        ("/galleries/autumn/", "/galleries/spring/"),
    ),
    "cover of a gallery": (
        lambda w: put(w.galleries["spring"], cover=w.shots["dog"]),
        ("/galleries/spring/",),
        ("/galleries/autumn/",),
    ),
    "picture of a cover": (
        lambda w: put(w.shots["cat"], dominant_color="#102030"),
        ("/galleries/spring/", *LISTS_OF_CAT, *CAT),
        UNTOUCHED_BY_CAT,
    ),
    "cover deleted": (
        lambda w: w.shots["cat"].delete(),
        (*LISTS_OF_CAT, "/galleries/", "/galleries/spring/", "/tags/", "/tags/dark/"),
        (),
    ),
    "gallery created": (
        lambda w: Gallery.objects.create(slug="renamed", title="New"),
        ("/galleries/", "/galleries/renamed/"),
        ("/galleries/autumn/", "/galleries/spring/"),
    ),
    "gallery deleted": (
        lambda w: w.galleries["spring"].delete(),
        (
            "/galleries/",
            "/galleries/spring/",
            "/galleries/spring/screenshots/",
            "/tags/",
            "/tags/dark/screenshots/",
        ),
        ("/galleries/autumn/",),
    ),
    "rendition added": (
        lambda w: Rendition.objects.create(screenshot=w.shots["cat"], width=320, height=200, sha256="a" * 64),
        (
            *CAT,
            "/galleries/spring/",
            "/screenshots/{cat}/renditions/",
            "/screenshots/?include=gallery,renditions&page_size=max",
        ),
        UNTOUCHED_BY_CAT,
    ),
    "rendition changed": (
        lambda w: put(w.shots["cat"].renditions.first(), bytes=7),
        (*CAT, "/screenshots/{cat}/renditions/"),
        UNTOUCHED_BY_CAT,
    ),
    "rendition deleted": (
        lambda w: w.shots["cat"].renditions.first().delete(),
        (*CAT, "/screenshots/{cat}/renditions/", "/galleries/spring/"),
        UNTOUCHED_BY_CAT,
    ),
    "rendition moved to another screenshot": (
        lambda w: put(w.shots["cat"].renditions.first(), screenshot=w.shots["dog"]),
        (*CAT, "/screenshots/{cat}/renditions/"),
        UNTOUCHED_BY_CAT,
    ),
}
SEEN_BY_THE_OWNER = {
    "private gallery renamed": (
        lambda w: put(w.galleries["vault"], title="Changed"),
        ["/galleries/", "/galleries/vault/"],
    ),
    "private screenshot changed": (
        lambda w: put(w.shots["yak"], title="Changed"),
        ["/galleries/vault/screenshots/", "/screenshots/", "/tags/dark/screenshots/", "/screenshots/{yak}/"],
    ),
    "private screenshot added": (
        lambda w: w.add("new", "vault", "dark"),
        [
            "/galleries/vault/screenshots/",
            "/screenshots/",
            "/tags/dark/screenshots/",
            "/tags/",
            "/galleries/",
        ],
    ),
    "gallery given to another": (
        lambda w: put(w.galleries["vault"], owner=w.other),
        ["/galleries/", "/galleries/vault/", "/screenshots/", "/tags/", "/tags/dark/", "/screenshots/{yak}/"],
    ),
}


class TestWrites:
    @pytest.mark.parametrize("name", WRITES)
    def test_write_shows_wherever_it_must_and_leaves_the_rest_as_hits(self, api, world, name):
        write, affected, untouched = WRITES[name]
        before = everything(api, world)
        write(world)
        responses = {read: api(world.at(read)) for read in READS}
        hits = {
            read for read, response in responses.items() if response.get("Cache-Status") == "keybits; hit"
        }
        assert hits >= set(untouched)
        after = {read: _answer(response) for read, response in responses.items()}
        assert [read for read in affected if after[read] == before[read]] == []
        get_store().clear()
        assert {read: after[read] for read in hits} == everything(api, world, hits)

    @pytest.mark.parametrize("name", SEEN_BY_THE_OWNER)
    def test_write_in_a_private_gallery_shows_to_its_owner_alone(self, api, as_owner, world, name):
        write, affected = SEEN_BY_THE_OWNER[name]
        targets = [world.at(read) for read in affected]
        before = [(_answer(as_owner(target)), _answer(api(target))) for target in targets]
        write(world)
        after = [(_answer(as_owner(target)), _answer(api(target))) for target in targets]
        for target, (owned, public), (owned_then, public_then) in zip(targets, after, before, strict=True):
            assert owned != owned_then, target
            assert public == public_then, target

    def test_many_writes_in_a_row_each_show(self, api, world):
        for number in range(20):
            put(world.shots["cat"], title=f"Cat {number}")
            assert api.read(world.at("/screenshots/{cat}/"))["title"] == f"Cat {number}"
            assert f"Cat {number}" in {item["title"] for item in api.read("/screenshots/")["results"]}


class Elsewhere(threading.Thread):
    """A read by another thread, on a connection of its own, as by another worker."""

    def __init__(self, api, *targets):
        super().__init__()
        self.api, self.targets = type(api)(), targets
        self.answers = []
        self.start()
        self.join(timeout=30)
        assert not self.is_alive()

    def run(self):
        try:
            self.answers = [_answer(self.api(target)) for target in self.targets]
        finally:
            connection.close()


class TestTransactions:
    TARGETS = (
        "/screenshots/",
        "/galleries/spring/screenshots/",
        "/tags/dark/screenshots/",
        "/galleries/",
        "/tags/",
    )

    def change(self, world):
        put(world.shots["cat"], title="Changed")
        world.add("new", "spring", "dark")

    @pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
    def test_others_see_the_old_until_commit_and_the_new_after_it(self, api, world, warm):
        before = Elsewhere(api, *self.TARGETS).answers
        if not warm:
            get_store().clear()
        with transaction.atomic():
            self.change(world)
            assert Elsewhere(api, *self.TARGETS).answers == before
            assert Elsewhere(api, *self.TARGETS).answers == before
        after = Elsewhere(api, *self.TARGETS).answers
        assert all(new != old for new, old in zip(after, before, strict=True))
        get_store().clear()
        assert after == Elsewhere(api, *self.TARGETS).answers

    def test_writer_sees_its_own_changes_and_leaves_them_to_nobody(self, api, world):
        before = Elsewhere(api, *self.TARGETS).answers
        with transaction.atomic():
            self.change(world)
            own = [_answer(api(target)) for target in self.TARGETS]
            assert all(new != old for new, old in zip(own, before, strict=True))
            assert Elsewhere(api, *self.TARGETS).answers == before
            transaction.set_rollback(True)
        assert Elsewhere(api, *self.TARGETS).answers == before
        assert [_answer(api(target)) for target in self.TARGETS] == before

    def test_rollback_leaves_everything_as_it_was(self, api, world):
        before = everything(api, world)
        with transaction.atomic():
            self.change(world)
            world.galleries["autumn"].delete()
            transaction.set_rollback(True)
        assert everything(api, world) == before
        get_store().clear()
        assert everything(api, world) == before

    def test_write_after_a_rollback_shows(self, api, world):
        api("/screenshots/")
        with transaction.atomic():
            put(world.shots["cat"], title="Lost")
            transaction.set_rollback(True)
        put(world.shots["cat"], title="Kept")
        titles = {item["title"] for item in api.read("/screenshots/")["results"]}
        assert "Kept" in titles
        assert "Lost" not in titles

    def test_savepoint_that_is_rolled_back_takes_nothing_else_with_it(self, api, world):
        api("/screenshots/")
        with transaction.atomic():
            put(world.shots["dog"], title="Kept")
            with transaction.atomic():
                put(world.shots["cat"], title="Lost")
                transaction.set_rollback(True)
        titles = {item["title"] for item in api.read("/screenshots/")["results"]}
        assert {"Kept", "Cat"} <= titles
        assert "Lost" not in titles

    def test_page_is_a_hit_again_after_the_transaction(self, api, world):
        with transaction.atomic():
            self.change(world)
        api("/screenshots/")
        assert api("/screenshots/")["Cache-Status"] == "keybits; hit"


def test_a_hit_under_way_as_the_content_changes_has_another_date_than_the_new_one(
    api, world, settings, clock, monkeypatch
):
    """Both contents are of one second, and each is sent after it."""
    usual = exchange.missing_coding

    def wait(*given):
        patch.setattr(exchange, "missing_coding", usual)
        Tag.objects.filter(slug="dark").update(name="New")
        api("/tags/dark/")
        clock.now += 1
        return usual(*given)

    settings.KEYBITS_FASTPATH = False
    api("/tags/dark/")
    with monkeypatch.context() as patch:
        patch.setattr(exchange, "missing_coding", wait)
        old = api("/tags/dark/")
    assert old.content != api("/tags/dark/").content
    assert api("/tags/dark/", headers={"If-Modified-Since": old["Last-Modified"]}).status_code == 200
