"""`manage.py warm`, against servers as they are deployed: what it fills, what it leaves alone, how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from stacks.live import Deployments, LiveServer, ManagementCommandError

from catalog import first_pages
from catalog.models import Gallery, Screenshot, Tag

Start = Callable[..., LiveServer]
SEED = """
from catalog.models import *
from django.contrib.auth import get_user_model
owner = get_user_model().objects.create_user("owner", password="pw")
galleries = {
    name: Gallery.objects.create(slug=name, title=name, visibility=name, owner=owner)
    for name in ("public", "unlisted", "private")
}
for gallery in galleries.values():
    shot = Screenshot.objects.create(gallery=gallery, title="one", source_url="https://one.example/", state="ready")
    shot.tags.add(Tag.objects.create(slug=f"of-{gallery.slug}", name="X", offered=False))
Screenshot.objects.create(
    gallery=galleries["public"], title="later", source_url="https://one.example/", state="pending"
)
"""
PUBLIC = [
    "/api/v1/",
    "/api/v1/schema/",
    "/api/v1/galleries/",
    "/api/v1/screenshots/",
    "/api/v1/tags/",
    "/api/v1/galleries/public/",
    "/api/v1/galleries/public/screenshots/",
    "/api/v1/screenshots/1/",
    "/api/v1/tags/of-public/",
    "/api/v1/tags/of-public/screenshots/",
]
QUICK = ("--rate", "1000", "--quiet")


@pytest.fixture
def live(live_server_process: Start) -> LiveServer:
    """A deployment that nobody has asked for anything."""
    return live_server_process(workers=1, seed=SEED)


@pytest.fixture(scope="module")
def busy(deployments: Deployments) -> Iterator[LiveServer]:
    """A deployment that other tests have asked for things."""
    with deployments.seeded(SEED) as live:
        yield live


@pytest.fixture
def seeded(db: None) -> None:
    """The same rows, in this process."""
    exec(SEED, {})  # noqa: S102 - the text above


LIST = ("--base-url", "http://h", "--dry-run")


def warm(live: LiveServer, *arguments: str) -> str:
    return live.manage("warm", "--base-url", live.url, *QUICK, *arguments)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("warm", *QUICK, *arguments, stdout=out)
    return out.getvalue()


def status(live: LiveServer, path: str) -> str:
    return live.get(path).headers["cache-status"]


@pytest.mark.stack("server")
class TestTheFirstPages:
    def test_are_made_and_then_found_by_whoever_comes_next(self, live: LiveServer) -> None:
        summary = warm(live)
        assert summary == (
            f"{live.url}: {2 * len(PUBLIC)} 200; "
            f"Cache-Status: {len(PUBLIC)} keybits fwd=uri-miss, {len(PUBLIC)} keybits hit\n"
        )
        assert {path: status(live, path) for path in PUBLIC} == dict.fromkeys(PUBLIC, "keybits; hit")
        assert warm(live) == f"{live.url}: 20 200; Cache-Status: 20 keybits hit\n"

    def test_name_nothing_that_is_private_unlisted_or_not_ready(self, seeded: None) -> None:
        first = Screenshot.objects.get(title="one", gallery__slug="public").pk
        expected = [path.replace("screenshots/1/", f"screenshots/{first}/") for path in PUBLIC]
        assert run(*LIST).splitlines() == [f"http://h{path}" for path in expected]

    def test_a_dry_run_asks_for_nothing(self, busy: LiveServer) -> None:
        path = "/api/v1/tags/?page_size=11"
        assert warm(busy, "--dry-run", path) == f"{busy.url}{path}\n"
        assert status(busy, path).startswith("keybits; fwd=uri-miss")

    @pytest.mark.django_db
    def test_every_one_of_them_is_there(self) -> None:
        gallery = Gallery.objects.create(slug="a", title="A")
        shot = Screenshot.objects.create(gallery=gallery, title="s", source_url="https://h/", state="failed")
        shot.tags.add(Tag.objects.create(slug="x", name="X"))
        urls = list(first_pages.urls())
        assert f"/api/v1/screenshots/{shot.pk}/" in urls
        assert {Client().get(url).status_code for url in urls} == {200}

    @pytest.mark.django_db
    def test_are_bounded_and_take_three_queries(
        self, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
    ) -> None:
        for number in range(4):
            gallery = Gallery.objects.create(slug=f"g{number}", title="G")
            shot = Screenshot.objects.create(
                gallery=gallery, title="s", source_url="https://h/", state="ready"
            )
            Tag.objects.create(slug=f"t{number}", name="T")
        monkeypatch.setattr(first_pages, "MOST", 2)
        with django_assert_num_queries(3):
            urls = list(first_pages.urls())
        assert urls[len(first_pages.LISTS)] == "/api/v1/galleries/g3/"
        assert urls[len(first_pages.LISTS) + 2 * 2] == f"/api/v1/screenshots/{shot.pk}/"
        assert len(urls) == len(first_pages.LISTS) + 2 * 2 + 2 + 2 * 2


class TestWhatTheStoreHas:
    def test_is_warmed_once_it_is_stale_by_the_address_that_was_asked_for(self, live: LiveServer) -> None:
        path = "/api/v1/galleries/unlisted/screenshots/?page_size=3"
        before = live.get(f"{path}&utm_source=x")
        live.shell("from catalog.models import *\nScreenshot.objects.filter(title='one').update(title='two')")
        assert "Cache-Status: " in warm(live)
        after = live.get(path)
        assert after.headers["cache-status"] == "keybits; hit"
        assert after.content != before.content

    def test_of_what_one_person_may_see_nothing_is_asked_for(
        self, seeded: None, django_user_model: Any
    ) -> None:
        client = Client()
        client.force_login(django_user_model.objects.get())
        assert client.get("/api/v1/galleries/private/").status_code == 200
        assert "private" not in run(*LIST)

    def test_has_gone_since_without_being_a_failure(self, live: LiveServer) -> None:
        assert live.get("/api/v1/tags/of-unlisted/").status_code == 404
        assert live.get("/api/v1/galleries/unlisted/").status_code == 200
        live.shell("from catalog.models import *\nGallery.objects.filter(slug='unlisted').delete()")
        assert "2 410" in warm(live)

    @pytest.mark.django_db(transaction=True)
    def test_no_more_of_it_is_looked_at_or_asked_for_than_was_said(self) -> None:
        for number in range(1, 6):
            assert Client().get(f"/api/v1/tags/?page_size={number}").status_code == 200
        assert run(*LIST).count("page_size") == 5
        assert run(*LIST, "--sample", "3").count("page_size") == 3
        assert run(*LIST, "--limit", "2") == f"http://h{PUBLIC[0]}\nhttp://h{PUBLIC[1]}\n"

    def test_comes_without_its_content_where_it_is_unchanged(self, busy: LiveServer) -> None:
        busy.get("/api/v1/tags/?page_size=7")
        assert " 304" in warm(busy, "--conditional")
        assert " 304" not in warm(busy)


@pytest.mark.stack("server")
class TestWhatIsGiven:
    def test_is_asked_for_alone(self, tmp_path: Any) -> None:
        (tmp_path / "urls").write_text(
            "# the lists\n/api/v1/tags/\nhttps://gallery.example/api/v1/galleries/\n"
        )
        listed = run(*LIST, "/api/v1/", "--file", str(tmp_path / "urls"))
        assert listed.splitlines() == [f"http://h/api/v1/{name}" for name in ("", "tags/", "galleries/")]

    def test_can_come_from_another_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("/a/\n\n/b/\n"))
        assert run(*LIST, "--file", "-") == "http://h/a/\nhttp://h/b/\n"

    def test_nothing_at_all_warms_nothing(self, tmp_path: Any) -> None:
        (tmp_path / "urls").write_text("")
        assert run(*LIST, "--file", str(tmp_path / "urls")) == ""

    def test_a_404_of_it_is_a_failure_that_is_named(self, busy: LiveServer) -> None:
        with pytest.raises(ManagementCommandError) as failed:
            warm(busy, "/api/v1/tags/nowhere/", "/api/v1/tags/")
        assert "/api/v1/tags/nowhere/: 404" in str(failed.value)
        assert "2 200, 2 404" in str(failed.value).replace("2 404, 2 200", "2 200, 2 404")
        assert "2 requests failed, 0 were not made" in str(failed.value)


@pytest.mark.stack("server")
class TestWhere:
    def test_each_base_url_is_warmed_and_has_its_line(self, busy: LiveServer) -> None:
        other = busy.url.replace("127.0.0.1", "localhost")
        lines = warm(busy, "--base-url", other, "/api/v1/tags/").splitlines()
        assert [line.split(": ")[0] for line in lines] == [busy.url, other]

    def test_without_one_the_setting_counts_and_without_that_it_says_what_to_give(
        self, settings: Any
    ) -> None:
        settings.KEYBITS_WARM_BASE_URL = "https://gallery.example"
        assert run("/a/", "--dry-run") == "https://gallery.example/a/\n"
        settings.KEYBITS_WARM_BASE_URL = ""
        with pytest.raises(
            CommandError, match=r"--base-url, as in https://gallery\.example, or set KEYBITS_WARM_BASE_URL"
        ):
            run("/a/", "--dry-run")

    def test_an_edge_is_asked_by_its_address_for_the_host_that_was_named(self, busy: LiveServer) -> None:
        assert "2 200" in warm(busy, "--host", "localhost", "/api/v1/tags/")
        with pytest.raises(ManagementCommandError, match="2 400"):
            warm(busy, "--host", "somebody.example", "/api/v1/tags/")

    def test_a_server_that_is_not_there_is_given_up_and_the_next_is_asked(self, busy: LiveServer) -> None:
        urls = [f"/api/v1/tags/?page_size={number}" for number in range(1, 9)]
        bases = ("--base-url", "http://127.0.0.1:9", "--base-url", busy.url)
        with pytest.raises(CommandError, match=r"^5 requests failed, 11 were not made") as failed:
            run(*bases, "--concurrency", "1", *urls)
        assert failed.value.returncode == 1
        assert status(busy, urls[-1]) == "keybits; hit"


@pytest.mark.stack("server")
class TestHow:
    def test_each_coding_is_asked_for(self, busy: LiveServer) -> None:
        answered = warm(busy, "--codings", "zstd", "--codings", "identity", "--codings", "", "/api/v1/tags/")
        assert ": 3 200;" in answered

    def test_progress_is_shown_unless_it_is_not_wanted(self, busy: LiveServer, capfd: Any) -> None:
        arguments = ("--base-url", busy.url, "--codings", "br", "/api/v1/tags/", "/api/v1/galleries/")
        call_command("warm", *arguments, stdout=io.StringIO())
        assert "2/2" in capfd.readouterr().err
        call_command("warm", *arguments, "--quiet", stdout=io.StringIO())
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (("--rate", "0"), "not a number above 0"),
            (("--rate", "nan"), "not a number above 0"),
            (("--rate", "inf"), "not a number above 0"),
            (("--timeout", "x"), "not a number above 0"),
            (("--concurrency", "0"), "not a whole number"),
            (("--limit", "1.5"), "not a whole number"),
            (("--host", "a b"), "not a host"),
            (("--host", "a\r\nX: y"), "not a host"),
            (("--codings", "a\nX: y"), "not an Accept-Encoding"),
            (("--base-url", "h"), "not a base URL"),
            (("--base-url", "https://me:pw@h"), "not a base URL"),
            (("a/",), "not a URL to warm"),
            (("--file", "nowhere/urls"), "cannot be read"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
        self, arguments: tuple[str, ...], why: str
    ) -> None:
        with pytest.raises(CommandError, match=why):
            run("--base-url", "http://127.0.0.1:9", *arguments)

    def test_a_store_that_cannot_be_read_is_said(self, monkeypatch: Any, settings: Any) -> None:
        from keybits.stores import StoreError, get_store  # noqa: PLC0415

        def broken(most: int) -> Any:
            raise StoreError("out of reach")

        settings.KEYBITS_WARM_URLS = ""
        monkeypatch.setattr(get_store(), "sample", broken)
        with pytest.raises(CommandError, match="out of reach"):
            run("--base-url", "http://127.0.0.1:9")


class TestAfterAPurge:
    def test_what_was_made_from_a_hot_scope_is_made_again(self, live_server_process: Start) -> None:
        varnish = {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": ["http://127.0.0.1:9"]}
        live = live_server_process(
            workers=1, environment={"PURGERS": json.dumps({"varnish": varnish})}, seed=SEED
        )
        hot, cold = "/api/v1/galleries/public/", "/api/v1/tags/of-public/"
        for path in (hot, cold):
            assert live.get(path).status_code == 200
        live.shell("from catalog.models import *\nfor row in Screenshot.objects.all(): row.save()")
        live.shell(
            "from django.conf import settings\n"
            f"settings.KEYBITS_WARM_BASE_URL = {live.url!r}\n"
            "settings.KEYBITS_WARM_AFTER_PURGE = ['gallery:*']\n"
            "from keybits.warming import afterwards\n"
            "afterwards.LULL = 0\n"
            "afterwards.warm_after(['gallery:public', 'screenshots', 'tag:of-public'])\n"
            "import os; afterwards._afterwards(os.getpid()).thread.join(60)"
        )
        assert status(live, hot) == "keybits; hit"
        assert status(live, cold).startswith("keybits; fwd=stale")
