"""What scripts of other sites may do, in Chromium: those of every site, or of the one that a deployment names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page
from stacks.live import Deployments, LiveServer

from clients.conftest import SEED

pytestmark = pytest.mark.stack("embedded")

LIST = "/api/v1/screenshots/?page_size=2"
READ = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options)
        return [answer.status, answer.headers.get("etag"), (await answer.text()).length > 0]
    } catch (error) { return error.name }
}"""
ABORT = """async url => {
    const [early, late] = [new AbortController(), new AbortController()]
    early.abort()
    const name = await fetch(url, {signal: early.signal}).catch(error => error.name)
    const answer = await fetch(url, {signal: late.signal})
    late.abort()
    return [name, answer.status, (await (await fetch(url)).json()).results.length]
}"""
REFUSED = "TypeError"


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href=data:,>")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[str]:
    """A site with an empty page; yields its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Blank) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[str, str]]:
    with site() as app, site() as other:
        yield app, other


@pytest.fixture(scope="module")
def narrowed(deployments: Deployments, sites: tuple[str, str]) -> Iterator[LiveServer]:
    """A deployment whose API the scripts of the first site alone may use."""
    with deployments.seeded(SEED, {"CORS_ORIGIN": sites[0]}) as server:
        yield server


@pytest.fixture
def context(browser: Callable[..., Any]) -> Iterator[BrowserContext]:
    with browser() as opened:
        yield opened


def at(context: BrowserContext, origin: str) -> Page:
    page = context.new_page()
    page.goto(origin)
    return page


def asked(page: Page, server: LiveServer, target: str = LIST, **options: Any) -> Any:
    return page.evaluate(READ, [f"http://127.0.0.1:{server.port}{target}", options])


def test_scripts_of_every_site_read_and_revalidate(
    context: BrowserContext, live: LiveServer, sites: tuple[str, str]
) -> None:
    for page in (at(context, each) for each in sites):
        status, etag, has_content = asked(page, live)
        assert (status, has_content) == (200, True)
        assert asked(page, live, headers={"If-None-Match": etag}) == [304, etag, False]
        for cache in ("no-store", "reload", "no-cache", "force-cache"):
            assert asked(page, live, cache=cache) == [200, etag, True]


def test_a_script_that_gives_up_gets_the_next_answer_whole(
    context: BrowserContext, live: LiveServer, sites: tuple[str, str]
) -> None:
    url = f"http://127.0.0.1:{live.port}{LIST}"
    assert at(context, sites[0]).evaluate(ABORT, url) == ["AbortError", 200, 2]


def test_scripts_of_the_one_site_read_write_and_see_refusals_and_no_others(
    context: BrowserContext, narrowed: LiveServer, sites: tuple[str, str]
) -> None:
    """Whoever asked first: what the browser has stored by then is the same for both."""
    app, other = (at(context, each) for each in sites)
    write = {"method": "POST", "headers": {"Content-Type": "application/json", "Idempotency-Key": "k"}}
    for page, expected in ((other, [REFUSED] * 3), (app, [200, 400, 401]), (other, [REFUSED] * 3)):
        answers = [
            asked(page, narrowed),
            asked(page, narrowed, f"{LIST}&x=1"),
            asked(page, narrowed, "/api/v1/tags/", body="{}", **write),
        ]
        assert [answer if answer == REFUSED else answer[0] for answer in answers] == expected
