"""The gallery itself behind Varnish and nginx: every promise that needs its answers, its keys and its purges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from stacks.live import Deployments
from stacks.servers import reserve_port

from edge.programs import Nginx, Varnish, client, eventually

pytestmark = pytest.mark.stack("server")  # as with an edge in front it is deployed

SEED = """
from catalog.models import *
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token
for model in (Gallery, Tag, get_user_model()):
    model.objects.all().delete()
owner = get_user_model().objects.create_user("owner")
print(Token.objects.create(user=owner).key)
a = Gallery.objects.create(pk=1001, slug="a", title="A")
Gallery.objects.create(slug="hidden", title="Hidden", visibility="private", owner=owner)
x = Tag.objects.create(slug="x", name="X")
for number in range(30):
    shot = Screenshot.objects.create(
        pk=1001 + number, gallery=a, title=f"one {number}", source_url="https://one.example/", position=number,
        width=1280, height=800, state="ready",
    )
    shot.tags.add(x)
"""
JSON = {"Content-Type": "application/json"}
PAGES = (
    "galleries/",
    "galleries/a/",
    "galleries/a/screenshots/",
    "galleries/a/screenshots/1001/",
    "screenshots/",
    "screenshots/1001/",
    "screenshots/?tag=x&page_size=10",
    "tags/",
    "tags/x/",
    "tags/x/screenshots/",
    "schema/",
)
"""Below /api/v1/."""
WRITES = {
    "save": "shot = Screenshot.objects.get(pk=1001); shot.title = '{new}'; shot.save()",
    "update": "Screenshot.objects.filter(pk=1001).update(title='{new}')",
    "bulk_create": "Screenshot.objects.bulk_create([Screenshot(gallery_id=1001, title='{new}', position=99,"
    " state='ready', source_url='https://one.example/')])",
    "delete": "Screenshot.objects.filter(pk=1002).delete(); print('{new}')",
    "many to many": "Screenshot.objects.get(pk=1001).tags.add(Tag.objects.create(slug='{new}', name='{new}'))",
    "raw SQL": "from django.db import connection\n"
    "connection.cursor().execute(\"UPDATE catalog_screenshot SET title = '{new}' WHERE id = 1001\")",
}


class Gallery:
    """A gallery that purges the Varnish in front of it."""

    def __init__(self, deployments: Deployments, directory: Path) -> None:
        self.deployments = deployments
        port = reserve_port()
        edge = {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": [f"http://127.0.0.1:{port}"]}
        self.live = deployments.make({"PURGERS": json.dumps({"edge": edge})})
        self.varnish = Varnish(directory, self.live.port)
        self.varnish.port = port
        self.varnish.start()
        self.edge = client(self.varnish.url)
        self.live.start(workers=2)
        self.is_sown = False

    def sow(self) -> None:
        """Make the rows anew, where any was changed."""
        if not self.is_sown:
            self.token = self.live.shell(SEED).strip()
            self.live.settle()  # purged for the second time: what went was purged hard
        self.is_sown = True
        self.varnish.admin("backend.set_health", "origin", "auto")
        self.varnish.forget()

    def get(self, page: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.edge.get(f"/api/v1/{page}", headers=named)

    def write(self, code: str) -> None:
        """Have another process write."""
        self.is_sown = False
        self.live.shell(f"from catalog.models import *\n{code}")

    def hold(self, page: str, **headers: str) -> httpx.Response:
        """Ask until the page is held, and return it: while purges of what was written are under way, it is not."""
        eventually(lambda: is_hit(self.get(page, **headers)))
        return self.get(page, **headers)

    def lose_the_origin(self) -> None:
        """Have every request to it fail, until the rows are sown again."""
        self.varnish.admin("backend.set_health", "origin", "sick")

    def hold_all(self) -> None:
        for page in PAGES:
            self.hold(page)

    def discard(self) -> None:
        self.edge.close()
        self.deployments.discard(self.live)
        self.varnish.stop()


@pytest.fixture(scope="module")
def _gallery(deployments: Deployments, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    made = Gallery(deployments, tmp_path_factory.mktemp("varnish"))
    yield made
    made.discard()


@pytest.fixture
def gallery(_gallery: Gallery) -> Gallery:
    """The gallery as it was sown, behind an empty Varnish."""
    _gallery.sow()
    return _gallery


def is_hit(answer: httpx.Response) -> bool:
    return "varnish; hit" in answer.headers["cache-status"]


def test_every_page_is_held_with_the_origin_s_headers(gallery: Gallery) -> None:
    gallery.hold_all()
    for page in PAGES:
        own, ours = gallery.live.get(f"/api/v1/{page}", {"Accept-Encoding": "identity"}), gallery.get(page)
        assert ours.content == own.content
        for name in (
            "ETag",
            "Cache-Control",
            "Content-Location",
            "No-Vary-Search",
            "Expires",
        ):
            assert ours.headers.get(name) == own.headers.get(name), (page, name)
        assert "Surrogate-Control" in own.headers
        assert {"Surrogate-Control", "xkey"}.isdisjoint(ours.headers)
        again = gallery.get(page, If_None_Match=f"W/{own.headers['etag']}")
        assert (again.status_code, again.content) == (304, b"")


def test_every_kind_of_write_shows_at_the_edge_and_leaves_the_rest_held(gallery: Gallery) -> None:
    gallery.hold_all()
    gallery.hold("screenshots/?page_size=max")
    for number, (kind, write) in enumerate(WRITES.items()):
        gallery.write(write.format(new=f"changed-{number}"))
        page = "tags/" if "Tag" in write else "screenshots/?page_size=max"
        wanted = gallery.live.get(f"/api/v1/{page}").content
        eventually(lambda page=page, wanted=wanted: gallery.get(page).content == wanted)  # type: ignore[misc]
        assert is_hit(gallery.get("schema/")), kind


def test_what_a_write_closed_and_did_not_change_costs_the_origin_a_304(gallery: Gallery) -> None:
    """A screenshot's title is not in its gallery's own page, which counts screenshots."""
    gallery.hold_all()
    gallery.write("Screenshot.objects.filter(pk=1001).update(title='changed')")
    eventually(lambda: "changed" in gallery.get("galleries/a/screenshots/1001/").text)
    asked = gallery.get("galleries/a/").headers["cache-status"]
    assert "varnish; fwd=stale; fwd-status=304" in asked


def test_codings_are_the_origin_s_each_with_its_strong_tag(gallery: Gallery) -> None:
    tags = set()
    for coding in ("br", "zstd", "gzip", "identity"):
        answer = gallery.hold("screenshots/", Accept_Encoding=coding)
        assert answer.headers.get("content-encoding", "identity") == coding
        assert answer.headers["vary"].split(", ")[0] == "Accept-Encoding"
        assert not answer.headers["etag"].startswith("W/")
        tags.add(answer.headers["etag"])
    assert len(tags) == 4


def test_nobody_chooses_the_coding_of_what_others_are_sent(gallery: Gallery) -> None:
    """WSGI takes `Accept_Encoding` for Accept-Encoding, which Varnish does not."""
    for _ in range(3):
        gallery.edge.get("/api/v1/schema/", headers={"Accept_Encoding": "gzip"})
    assert "content-encoding" not in gallery.hold("schema/").headers


def test_who_shows_a_token_sees_his_own_and_nobody_else_does(gallery: Gallery) -> None:
    gallery.hold_all()
    credentials = {"Authorization": f"Token {gallery.token}"}
    assert "hidden" in gallery.get("galleries/", **credentials).text
    assert gallery.get("galleries/hidden/", **credentials).headers["cache-control"] == "private, no-store"
    for _ in range(2):
        assert "hidden" not in gallery.get("galleries/").text
        assert gallery.get("galleries/hidden/").status_code == 404


def test_a_gallery_that_is_made_private_is_gone_from_the_edge_also_while_the_origin_is_down(
    gallery: Gallery,
) -> None:
    gallery.hold_all()
    gallery.write("Gallery.objects.filter(slug='a').update(visibility='private')")
    # 410 where another of that name was deleted before: what is hidden does not change what is told
    eventually(lambda: gallery.get("galleries/a/").status_code in {404, 410})
    eventually(lambda: "one 1" not in gallery.get("screenshots/").text)
    gallery.lose_the_origin()
    assert gallery.get("galleries/a/").status_code == 503
    assert gallery.get("galleries/a/screenshots/1001/").status_code == 503


def test_while_the_origin_is_down_its_pages_are_shown(gallery: Gallery) -> None:
    gallery.hold_all()
    gallery.lose_the_origin()
    for page in PAGES:
        gallery.edge.request("PURGE", f"/api/v1/{page}", headers={"x-soft": "1"})
        shown = gallery.get(page)
        assert shown.status_code == 200
        assert "detail=stale-if-error" in shown.headers["cache-status"]


@pytest.fixture
def proxies(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, httpx.Client]]:
    """Both programs in front of the gallery."""
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), gallery.live.port)
    nginx.start()
    try:
        with client(nginx.url) as proxy:
            yield {"varnish": gallery.edge, "nginx": proxy}
    finally:
        nginx.stop()


@pytest.mark.parametrize("name", ["varnish", "nginx"])
@pytest.mark.parametrize(("length", "status"), [(2_500_000, 401), (20_000_000, 413)])
def test_a_refusal_reaches_whoever_is_still_sending(
    proxies: dict[str, httpx.Client], name: str, length: int, status: int
) -> None:
    """RFC 9112 section 9.6: else the origin's reset of the connection would be a 502 or 503 here."""
    for _ in range(10):
        answer = proxies[name].post("/api/v1/galleries/", content=b" " * length, headers=JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status


@pytest.mark.parametrize(("name", "status"), [("varnish", 411), ("nginx", 413)])
def test_so_does_one_of_content_whose_length_is_not_said(
    proxies: dict[str, httpx.Client], name: str, status: int
) -> None:
    """Varnish would pass it on part by part, to the origin that refuses it with the first one; nginx reads it all."""
    for _ in range(3):
        parts = (b" " * 100_000 for _ in range(30))
        answer = proxies[name].post("/api/v1/galleries/", content=parts, headers=JSON)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status


@pytest.mark.parametrize("name", ["varnish", "nginx"])
def test_the_origin_s_health_is_asked_each_time_and_told_as_it_is(
    gallery: Gallery, proxies: dict[str, httpx.Client], name: str
) -> None:
    """Also where a load balancer asks past them, its next question may come through one."""
    with closing(gallery.live.database()) as database:
        for status, told, label in ((200, "pass", "x"), (503, "fail", "catalog"), (200, "pass", "catalog")):
            for _ in range(3):
                answer = proxies[name].get("/health")
                assert (answer.status_code, answer.json()["status"]) == (status, told)
                assert answer.headers["content-type"] == "application/health+json"
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers.get("retry-after") == ("5" if status == 503 else None)
                assert f"{name}; fwd=bypass" in answer.headers["cache-status"]
            database.execute("UPDATE django_migrations SET app = %s WHERE name = '0009_tallies'", [label])


def test_nginx_asks_each_time_and_a_write_shows_at_once(
    gallery: Gallery, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), gallery.live.port)
    nginx.start()
    try:
        with client(nginx.url) as proxy:
            asks_each_time(proxy)
            gallery.write("Screenshot.objects.filter(pk=1001).update(title='changed')")
            assert "changed" in proxy.get("/api/v1/screenshots/1001/").text
    finally:
        nginx.stop()


def asks_each_time(proxy: httpx.Client) -> None:
    for page in PAGES:
        proxy.get(f"/api/v1/{page}")
        assert "nginx; fwd=stale; fwd-status=304" in proxy.get(f"/api/v1/{page}").headers["cache-status"], (
            page
        )
