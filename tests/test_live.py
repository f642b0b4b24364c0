"""The whole thing as it is deployed: several workers, another process that writes, every resource over a socket."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from stacks.live import LiveServer
from stacks.servers import Postgres

SEED = """
from catalog.models import *
from django.contrib.auth import get_user_model
owner = get_user_model().objects.create_user("owner", password="pw")
a = Gallery.objects.create(slug="a", title="A")
Gallery.objects.create(slug="hidden", title="Hidden", visibility="private", owner=owner)
x = Tag.objects.create(slug="x", name="X")
for number in range(30):
    shot = Screenshot.objects.create(
        gallery=a, title=f"one {number}", source_url="https://one.example/", position=number,
        width=1280, height=800, state="ready",
    )
    shot.tags.add(x)
    Rendition.objects.create(screenshot=shot, width=320, height=200, sha256="0" * 64)
a.cover = shot
a.save()
"""
RESOURCES = (
    "galleries/",
    "galleries/a/",
    "galleries/a/screenshots/",
    "galleries/a/screenshots/1/",
    "galleries/a/screenshots/1/renditions/",
    "screenshots/",
    "screenshots/1/",
    "screenshots/1/renditions/",
    "tags/",
    "tags/x/",
    "tags/x/screenshots/",
)
# What is written, and a resource that shows it, before and after.
WRITES = (
    ("Gallery.objects.get(slug='a')", "title", "galleries/a/"),
    ("Gallery.objects.get(slug='a')", "title", "galleries/"),
    ("Screenshot.objects.get(pk=1)", "title", "galleries/a/screenshots/"),
    ("Screenshot.objects.get(pk=1)", "title", "screenshots/1/"),
    ("Screenshot.objects.get(pk=30)", "title", "screenshots/"),
    ("Screenshot.objects.get(pk=30)", "title", "tags/x/screenshots/"),
    ("Tag.objects.get(slug='x')", "name", "tags/x/"),
)
Start = Callable[..., LiveServer]


def get(live: LiveServer, path: str, **headers: str) -> Any:
    return live.get(
        f"/api/v1/{path}", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@pytest.mark.parametrize("interface", ["wsgi", pytest.param("asgi", marks=pytest.mark.stack("server"))])
def test_every_resource_answers_hits_and_revalidates_and_a_save_elsewhere_shows_at_once(
    live_server_process: Start, interface: str
) -> None:
    live = live_server_process(workers=2, interface=interface, seed=SEED)
    for path in RESOURCES:
        first = get(live, path)
        assert first.status_code == 200, path
        again = get(live, path)
        assert again.headers["cache-status"] == "keybits; hit", path
        assert again.content == first.content
        revalidated = get(live, path, If_None_Match=f"W/{first.headers['etag']}")
        assert (revalidated.status_code, revalidated.content) == (304, b"")
        assert revalidated.headers["cache-status"] == "keybits; hit"
    writes = "\n".join(
        f"input(); row = {row}; row.{field} = 'changed {number}'; row.save(); print('saved', flush=True)"
        for number, (row, field, _) in enumerate(WRITES)
    )
    writer = live.spawn("from catalog.models import *\n" + writes)
    assert writer.stdin is not None
    assert writer.stdout is not None
    for number, (_, _, path) in enumerate(WRITES):
        before = get(live, path)
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "saved\n"
        for _ in range(4):  # every worker
            after = get(live, path, If_None_Match=before.headers["etag"])
            assert after.status_code == 200, path
            assert f"changed {number}" in after.text
    assert writer.wait(timeout=30) == 0


def test_by_asgi_no_connection_to_the_database_outlives_its_request(live_server_process: Start) -> None:
    """Each request has a thread of its own there, and with it a connection that no other will ask."""
    live = live_server_process(workers=1, interface="asgi")
    assert live.process is not None
    (worker,) = psutil.Process(live.process.pid).children()

    def open_after(number: int) -> int:
        assert get(live, f"screenshots/?min_width={number}").status_code == 200
        files: int = worker.num_fds()
        return files

    first = open_after(0)
    assert max(map(open_after, range(1, 40))) <= first + 4  # those of one that is about to end


READS = ("--include-method=GET", "--max-examples=4")  # beside the 2,344 cases of its coverage
CONDITIONAL = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "401", "403", "404", "412"]
"""
"""Reads that are right may be so on a condition that does not hold, which no schema can tell."""
WRITES_BY_NOBODY = ("--exclude-method=GET", "--phases=examples,fuzzing", "--max-examples=3")
WRITES_BY_AN_OWNER = (
    "--include-method=POST",
    "--include-method=PUT",
    "--include-method=PATCH",
    "--phases=fuzzing",
    "--max-examples=5",
)
SEED_OWNED = """
from catalog.accounts import keys
from catalog.models import *
from django.contrib.auth import get_user_model
owner = get_user_model().objects.create_user("curator", is_staff=True)
gallery = Gallery.objects.create(slug="b", title="B", owner=owner)
Screenshot.objects.create(gallery=gallery, title="two", source_url="https://two.example/")
Tag.objects.create(slug="tag-b", name="B")
print(keys.issue(user=owner, name="all", scopes=["read", "curate", "capture"])[1].reveal())
"""
OWNED = """
[parameters]
"path.gallery_slug" = "b"
"path.tag_slug" = "x"
"path.id" = 31
"header.If-Match" = "*"
"header.If-None-Match" = '"x"'
"query.all" = "true"

[[operations]]
include-path = "/api/v1/galleries/{slug}/"
parameters = { "path.slug" = "b" }

[[operations]]
include-path = "/api/v1/tags/{slug}/"
parameters = { "path.slug" = "tag-b" }

[[operations]]
include-method = "POST"
include-path = ["/api/v1/galleries/", "/api/v1/galleries/{gallery_slug}/screenshots/"]
parameters = { "header.X-BULK-OPERATION" = "true" }
"""


@pytest.mark.stack("embedded")
@pytest.mark.parametrize("options", [READS, WRITES_BY_NOBODY], ids=["reads", "writes by nobody"])
def test_schemathesis_finds_nothing(
    live_server_process: Start, tmp_path: Any, options: tuple[str, ...]
) -> None:
    live = live_server_process(workers=2, seed=SEED)
    (tmp_path / "schemathesis.toml").write_text(CONDITIONAL)
    find_nothing(live, tmp_path, *options)


@pytest.mark.stack("server")
def test_schemathesis_finds_nothing_in_the_writes_of_an_owner(
    live_server_process: Start, tmp_path: Any
) -> None:
    """What is written stays: a valid change may meet a condition (412, 422) that its schema cannot tell."""
    live = live_server_process(workers=2, seed=SEED + SEED_OWNED)
    key = live.seeded
    (tmp_path / "schemathesis.toml").write_text(OWNED)
    signed = ("--header", f"Authorization: Api-Key {key}", "--exclude-checks=positive_data_acceptance")
    find_nothing(live, tmp_path, *WRITES_BY_AN_OWNER, *signed)
    kinds = live.shell("print(*sorted(set(BulkOperation.objects.values_list('kind', flat=True))))")
    assert kinds.split() == ["create", "update"]


def find_nothing(live: LiveServer, directory: Any, *options: str) -> None:
    """Run schemathesis, and fail with what it says where it finds anything."""
    command = shutil.which("schemathesis", path=f"{sys.prefix}/bin") or "schemathesis"
    run = subprocess.run(
        [command, "run", f"{live.url}/api/v1/schema/", "--checks=all", "--seed=1", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-5000:]


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_while_the_database_is_down_clients_are_told_to_come_back_and_afterwards_they_are_answered(
    live_server_process: Start, postgres_server: Postgres, interface: str
) -> None:
    live = live_server_process(workers=1, interface=interface)
    assert get(live, "galleries/").status_code == 200
    postgres_server.stop()
    for path in ("tags/", "galleries/nobody-has-asked-for-it/"):
        refused = get(live, path)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.headers["content-type"] == "application/problem+json"
    postgres_server.heal()
    assert get(live, "tags/").status_code == 200
