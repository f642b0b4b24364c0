"""Who may do what, and that nothing which saw a credential may be kept: every route and method, asked by everybody.

`docs/permissions.md` holds the tables, one for each value of `CURATION_HIDES`. Where they differ, the
failure shows the table as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from writing import sent

from catalog.accounts import keys

pytestmark = pytest.mark.django_db

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "permissions.md"
SCOPES = ("read", "curate", "capture")
COLUMNS = ("nobody", "another", *(f"key: {scope}" for scope in SCOPES), "session", "staff")
PRIVATE = "private, no-store"
OF_GALLERIES = {
    "public": {"slug": "spring", "gallery_slug": "spring", "id": "cat", "screenshot_id": "cat"},
    "unlisted": {"slug": "drafts", "gallery_slug": "drafts", "id": "rat", "screenshot_id": "rat"},
    "private": {"slug": "vault", "gallery_slug": "vault", "id": "yak", "screenshot_id": "yak"},
}
OF_TAGS = {"": {"slug": "dark", "tag_slug": "dark"}}
BULK = {"PATCH": {"position": 0}, "DELETE": None}


@pytest.fixture
def clients(api, world, by_user, as_owner):
    """Everybody that the table names, by column."""
    staff = by_user(User.objects.create_user("staff", is_staff=True))
    as_owner.client.cookies["csrftoken"] = "a" * 32
    as_owner.headers["X-CSRFToken"] = "a" * 32
    named = {"nobody": api, "another": by_user(world.other), "session": as_owner, "staff": staff}
    for scope in SCOPES:
        _, secret = keys.issue(user=world.owner, name=scope, scopes=[scope])
        named[f"key: {scope}"] = type(api)(Client(), authorization=f"Api-Key {secret.reveal()}")
    return named


def routes(schema) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """Yield each path and method, with each kind of thing that the path can name."""
    for path, item in schema["paths"].items():
        named = {"": {}} if "{" not in path else OF_TAGS if "/tags/" in path else OF_GALLERIES
        for kind, names in named.items():
            for method in item:
                yield path, method.upper(), kind, names


def ask(client, world, path, method, names):
    """Send what lets the method go on where it may: If-Match, a body that can be read, a bulk operation's header."""
    ids = {name: world.shots[value].pk if value in world.shots else value for name, value in names.items()}
    target = path.format(**ids)
    headers, body = {}, {}
    is_bulk = method in BULK and not path.endswith("id}/") and not path.endswith("slug}/")
    if is_bulk:
        target += "?all=true&dry_run=true"
        headers, body = {"X-BULK-OPERATION": "true"}, BULK[method]
    elif method in {"PUT", "PATCH", "DELETE"}:
        headers = {"If-Match": "*"}
    with transaction.atomic():
        response = client(
            target,
            method,
            headers=headers,
            data=b"" if method in {"GET", "DELETE"} else json.dumps(body).encode(),
            content_type="application/json",
        )
        transaction.set_rollback(True)
    return response


def cell(response) -> str:
    kept = "" if response.get("Cache-Control") == PRIVATE else " public"
    return f"{response.status_code}{kept}"


def table(rows) -> str:
    lines = [["path", "of", "method", *COLUMNS], ["---"] * (3 + len(COLUMNS)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def answered(schema, world, clients) -> list[list[str]]:
    """Ask for everything as everybody, and return the rows of the table."""
    rows = []
    for path, method, kind, names in routes(schema):
        cells = [cell(ask(clients[column], world, path, method, names)) for column in COLUMNS]
        rows.append([f"`{path.removeprefix('/api/v1/') or './'}`", kind, method, *cells])
    return rows


@pytest.mark.stack("embedded")  # 2,000 requests, of which no database decides anything
def test_tables_of_permissions_are_the_documents_and_nothing_that_saw_a_credential_may_be_kept(
    api, world, clients, settings
):
    schema = api.read("/schema/")
    told = answered(schema, world, clients)
    settings.CURATION_HIDES = True
    hidden = answered(schema, world, clients)
    differing = [row for row, other in zip(hidden, told, strict=True) if row != other]
    for each in (table(told), table(differing)):
        assert f"\n\n{each}\n" in DOCUMENT.read_text(), f"docs/permissions.md should have:\n\n{each}"
    seen = [answer for row in (*told, *hidden) for answer in row[4:]]
    assert len(seen) > 600
    assert not [answer for answer in seen if "public" in answer]


def test_who_is_hidden_from_is_told_what_they_are_told_of_what_is_not_there(api, world, clients, settings):
    """To the last byte: a 404 with a reason of its own would say that there is something."""
    settings.CURATION_HIDES = True
    nothing = dict.fromkeys(("slug", "gallery_slug", "tag_slug"), "nothing")
    nothing |= dict.fromkeys(("id", "screenshot_id"), "999999")
    compared = 0
    for path, method, _, names in routes(api.read("/schema/")):
        if method == "GET" or not names:
            continue
        hidden, missing = (ask(clients["another"], world, path, method, each) for each in (names, nothing))
        if hidden.status_code == 404:
            assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content), path
            compared += 1
    assert compared > 20


@pytest.mark.parametrize(
    ("target", "bulk"), [("/screenshots/?tag=dark", {"X-BULK-OPERATION": "true"}), ("/tags/dark/", {})]
)
def test_a_key_that_curates_alone_writes_on_the_etag_that_it_has_read(api, world, target, bulk):
    """Something private to its account is among what both are made from."""
    world.owner.is_staff = True
    world.owner.save()
    _, secret = keys.issue(user=world.owner, name="curate", scopes=["curate"])
    client = type(api)(Client(), authorization=f"Api-Key {secret.reveal()}")
    body = {"position": 5} if bulk else {"title": "Dim"}
    written = sent(client, "PATCH", target, body, **{"If-Match": client(target)["ETag"], **bulk})
    assert written.status_code == 200, written.content
    if not bulk:
        assert written["ETag"] == client(target)["ETag"]
