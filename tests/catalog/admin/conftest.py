"""A gallery of an owner's with pictures, and what a page of the admin says and asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from catalog.models import Gallery, Rendition, Screenshot, Tag, Visibility

Shoot = Callable[..., Screenshot]


@pytest.fixture
def owner(db: None) -> User:
    """Somebody who never sees the admin."""
    return User.objects.create_user("owner")


@pytest.fixture
def gallery(owner: User) -> Gallery:
    """A public gallery of the owner's, empty."""
    return Gallery.objects.create(slug="spring", title="Spring", owner=owner)


@pytest.fixture
def other(owner: User) -> Gallery:
    """A private gallery of the owner's, empty."""
    return Gallery.objects.create(slug="vault", title="Vault", owner=owner, visibility=Visibility.PRIVATE)


@pytest.fixture
def shoot(gallery: Gallery) -> Shoot:
    """Make a screenshot with two renditions: `shoot("Cat", gallery=other, tags=["dark"])`."""

    def made(title: str, *, tags: tuple[str, ...] = (), **fields: Any) -> Screenshot:
        values = {"gallery": gallery, "source_url": "https://one.example/", "width": 640, "height": 320}
        shot = Screenshot.objects.create(title=title, **(values | fields))
        shot.tags.set(Tag.objects.get_or_create(slug=slug, defaults={"name": slug})[0] for slug in tags)
        for width in (320, 640):
            digest = f"{shot.pk:060x}{width:04x}"
            Rendition.objects.create(screenshot=shot, width=width, height=width // 2, sha256=digest)
        return shot

    return made


@pytest.fixture
def clerk(client: Client, db: None) -> Callable[..., Client]:
    """Sign in somebody on the staff with these permissions alone: `clerk("view_gallery")`."""

    def signed_in(*codenames: str) -> Client:
        user = User.objects.create_user("clerk", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return client

    return signed_in


@pytest.fixture
def cost(admin_client: Client) -> Callable[[str], int]:
    """How many queries a page takes."""

    def queries(address: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            assert admin_client.get(address).status_code == 200
        return len(asked)

    return queries
