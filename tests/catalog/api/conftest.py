"""A small world to ask about: every visibility, two owners, ties, and a way to put requests on the wire."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpResponse
from django.test.client import Client, ClientHandler
from django.test.utils import CaptureQueriesContext
from rest_framework.authtoken.models import Token

from catalog.models import Gallery, Rendition, Screenshot, State, Tag, Tombstone, Visibility

ROOT = "/api/v1"
HANDLER = ClientHandler(enforce_csrf_checks=True)  # one for all: each would index every static file
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Api:
    """A client that sends a target as it stands, like a socket: no encoding, no redirect, CSRF enforced."""

    def __init__(self, client: Client | None = None, **headers: str) -> None:
        self.client = client or Client()
        self.client.handler = HANDLER
        self.headers = headers

    def __call__(
        self, target: str, method: str = "GET", headers: Mapping[str, str] | None = None, **environ: Any
    ) -> HttpResponse:
        """Send `target`, whose characters stand for bytes (latin-1), under `/api/v1` or from its own root."""
        path, _, query = target.partition("?")
        path = path if path.startswith(("/api", "//")) else ROOT + path
        environ = {
            "QUERY_STRING": query,
            "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        } | environ
        response: HttpResponse = self.client.generic(
            method, "/", headers={**self.headers, **(headers or {})}, **environ
        )
        return response

    def read(self, target: str) -> Any:
        """Return the JSON of a 200."""
        response = self(target)
        assert response.status_code == 200, (target, response.status_code, response.content)
        return json.loads(response.content)

    def ids(self, target: str) -> list[int]:
        """Return the ids of a list's page, in its order."""
        return [item["id"] for item in self.read(target)["results"]]

    def walk(self, target: str, link: str = "next") -> list[dict[str, Any]]:
        """Follow `link` from `target` to the end and return the pages."""
        pages = [self.read(target)]
        while (following := pages[-1][link]) is not None:
            assert len(pages) < 100, "the links go round in circles"
            pages.append(self.read(following))
        return pages


@dataclass
class World:
    """Names for the rows: `shots["cat"].pk`, `galleries["spring"]`."""

    owner: User
    other: User
    tags: dict[str, Tag] = field(default_factory=dict)
    galleries: dict[str, Gallery] = field(default_factory=dict)
    shots: dict[str, Screenshot] = field(default_factory=dict)

    def ids(self, *names: str) -> set[int]:
        """Return the ids of these screenshots."""
        return {self.shots[name].pk for name in names}

    def names(self, ids: list[int]) -> list[str]:
        """Return the names of the screenshots with these ids, in that order."""
        found = {shot.pk: name for name, shot in self.shots.items()}
        return [found[pk] for pk in ids]

    def at(self, target: str) -> str:
        """Fill in ids: `/screenshots/{cat}/`."""
        return target.format_map({name: shot.pk for name, shot in self.shots.items()})

    def add(self, name: str, gallery: str, tags: str = "", **fields: Any) -> Screenshot:
        """Add a screenshot, titled like its name unless told otherwise."""
        values = {
            "title": name.title(),
            "source_url": "https://one.example/",
            "state": State.READY,
            "captured_at": NOON,
        }
        shot = Screenshot.objects.create(gallery=self.galleries[gallery], **(values | fields))
        shot.tags.set(self.tags[slug] for slug in tags.split())
        self.shots[name] = shot
        return shot


def add_rendition(shot: Screenshot, width: int, format: str = "webp") -> Rendition:
    """Add a rendition whose digest is made of its id and width."""
    return Rendition.objects.create(
        screenshot=shot,
        width=width,
        height=width // 2,
        format=format,
        bytes=width,
        sha256=f"{shot.pk:060x}{width:04x}",
    )


@pytest.fixture(scope="class")
def _standing_world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """The world of the tests of one class, which leave it as it was: each runs in a transaction of its own."""
    with django_db_blocker.unblock():
        yield build_world()
        for model in (Gallery, Tag, User, Tombstone):
            model.objects.all().delete()


@pytest.fixture
def world(_standing_world: World, db: None) -> World:
    """The world as it stands. A test may change rows, but not the objects of others: they are copies."""
    return copy.deepcopy(_standing_world)


@pytest.fixture
def fresh_world(transactional_db: None) -> World:
    """A world of one's own, committed; modules whose transactions are real put it in the place of `world`."""
    return build_world()


def build_world() -> World:
    """Make four galleries (two public of two owners, one unlisted, one private) and what is in them.

    | gallery | owner | visibility | screenshots |
    | --- | --- | --- | --- |
    | spring | owner | public | cat, dog, elk, fox, gnu |
    | autumn | other | public | owl, pig |
    | drafts | owner | unlisted | rat, sow |
    | vault | owner | private | yak, zebu |
    """
    with transaction.atomic():
        return _build_world()


TAGS = {"dark": "scheme", "chart": "topic", "mobile": "device", "form": "topic", "idle": "topic"}


def _build_world() -> World:
    made = World(User.objects.create_user("owner"), User.objects.create_user("other"))
    for slug, kind in TAGS.items():
        made.tags[slug] = Tag.objects.create(slug=slug, name=slug.title(), kind=kind)
    for position, (slug, owner, visibility) in enumerate(
        [
            ("spring", made.owner, Visibility.PUBLIC),
            ("autumn", made.other, Visibility.PUBLIC),
            ("drafts", made.owner, Visibility.UNLISTED),
            ("vault", made.owner, Visibility.PRIVATE),
        ]
    ):
        made.galleries[slug] = Gallery.objects.create(
            slug=slug, title=slug.title(), owner=owner, visibility=visibility, position=position // 2
        )
    hour = timedelta(hours=1)
    two = "https://two.example/"
    made.add("cat", "spring", "dark chart", width=1280, height=800, position=2)
    made.add("dog", "spring", "dark", width=390, height=844, position=1, captured_at=NOON)
    made.add("elk", "spring", "chart", width=500, height=500, position=1, captured_at=NOON + hour)
    made.add("fox", "spring", "", position=1, state=State.PENDING, captured_at=NOON + hour)
    made.add("gnu", "spring", "form", width=1280, height=3000, state=State.FAILED, source_url=two)
    made.add("owl", "autumn", "dark mobile", width=1280, height=800, captured_at=NOON + hour, source_url=two)
    made.add("pig", "autumn", "chart", width=1920, height=1080, captured_at=NOON - hour)
    made.add("rat", "drafts", "dark form", width=1280, height=800)
    made.add("sow", "drafts", "", width=390, height=844, captured_at=NOON + hour)
    made.add("yak", "vault", "dark mobile", width=1280, height=800, source_url="https://hush.example/")
    made.add("zebu", "vault", "form", width=390, height=844, captured_at=NOON + 2 * hour)
    for name in ("cat", "owl", "rat", "yak"):
        for width, encoding in [(640, "webp"), (1280, "webp"), (640, "jpeg")]:
            add_rendition(made.shots[name], width, encoding)
    for slug, name in [("spring", "cat"), ("drafts", "rat"), ("vault", "yak")]:
        Gallery.objects.filter(slug=slug).update(cover=made.shots[name])
        made.galleries[slug].refresh_from_db()
    return made


@pytest.fixture
def api() -> Api:
    """An anonymous client."""
    return Api()


@pytest.fixture
def as_owner(world: World) -> Api:
    """The owner of spring, drafts and vault, by a session."""
    return _signed_in(world.owner)


@pytest.fixture
def as_other(world: World) -> Api:
    """The owner of autumn, by a session."""
    return _signed_in(world.other)


@pytest.fixture
def by_token(world: World) -> Api:
    """The owner, by a token."""
    return Api(authorization=f"Token {Token.objects.create(user=world.owner).key}")


def _signed_in(user: User) -> Api:
    client = Client()
    client.force_login(user)
    return Api(client)


@pytest.fixture
def rendition() -> Callable[..., Rendition]:
    """Add a rendition: `rendition(shot, width=320)`."""
    return add_rendition


@pytest.fixture
def count_queries() -> Callable[[], CaptureQueriesContext]:
    """Count the SQL of a block: `with count_queries() as queries: ...; assert len(queries) == 0`."""
    return lambda: CaptureQueriesContext(connection)


@pytest.fixture
def by_user() -> Callable[[User], Api]:
    """A client of any user's, by a token."""
    return lambda user: Api(authorization=f"Token {Token.objects.create(user=user).key}")
