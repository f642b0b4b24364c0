"""What HTTP clients with a cache of their own make of the answers: hishel under httpx, CacheControl under requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from cachecontrol import CacheControl
from hishel import CacheOptions, SqliteStorage
from hishel.httpx import CacheTransport

from clients.wire import Wire

pytestmark = pytest.mark.stack("embedded")

LIST = "/api/v1/galleries/"
DETAIL = "/api/v1/galleries/a/"
HIDDEN = "/api/v1/galleries/hidden/"
TOKEN = {"Authorization": f"Token {'0' * 40}"}
CODINGS = ("br", "gzip", "identity")

Get = Callable[..., Any]


def hishel(shared: bool, store: Path) -> httpx.Client:
    """Return a client that keeps the rules of RFC 9111: without `rfc`, hishel 2 reads no Cache-Control at all."""
    storage = SqliteStorage(database_path=store / "cache.sqlite3")
    transport = httpx.HTTPTransport(trust_env=False)
    cache = CacheTransport(transport, storage=storage, rfc=CacheOptions(shared=shared))
    return httpx.Client(transport=cache, trust_env=False)


def cache_control() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return CacheControl(session)


CLIENTS: dict[str, Callable[[Path], httpx.Client | requests.Session]] = {
    "hishel, shared": lambda store: hishel(shared=True, store=store),
    "hishel, private": lambda store: hishel(shared=False, store=store),
    "CacheControl": lambda _: cache_control(),
}


@pytest.fixture(params=CLIENTS)
def get(request: pytest.FixtureRequest, wire: Wire, tmp_path: Path) -> Iterator[Get]:
    """Ask along the wire with a client that has a cache, empty at first."""
    with ExitStack() as stack:
        client: Any = stack.enter_context(CLIENTS[request.param](tmp_path))
        yield lambda path, **fields: client.get(f"{wire.url}{path}", headers=fields)


def test_each_use_of_what_is_stored_is_confirmed_by_a_304(get: Get, wire: Wire) -> None:
    first, *later = [get(LIST) for _ in range(3)]
    assert wire.statuses(LIST) == [200, 304, 304]
    for answer in later:
        assert (answer.status_code, answer.content) == (200, first.content)


def test_a_change_made_elsewhere_shows_at_once(get: Get, wire: Wire) -> None:
    get(DETAIL)
    for _ in range(2):
        title = wire.write()
        assert get(DETAIL).json()["title"] == title
        assert get(DETAIL).json()["title"] == title
    assert wire.statuses(DETAIL) == [200, 200, 304, 200, 304]


def test_an_answer_to_somebody_is_stored_by_nobody(get: Get, wire: Wire) -> None:
    for _ in range(2):
        assert get(HIDDEN, **TOKEN).json()["title"] == "Hidden"
    assert get(HIDDEN).status_code == 404
    assert [(exchange.status, exchange.condition) for exchange in wire.exchanges] == [
        (200, None),
        (200, None),
        (404, None),
    ]


def test_what_somebody_may_see_is_shown_to_nobody_else(get: Get) -> None:
    def slugs(**fields: str) -> list[str]:
        return sorted(gallery["slug"] for gallery in get(LIST, **fields).json()["results"])

    assert [slugs(), slugs(**TOKEN), slugs(), slugs(**TOKEN)] == [["a"], ["a", "hidden"]] * 2


def test_an_error_is_not_stored(get: Get, wire: Wire) -> None:
    for _ in range(2):
        assert get(f"{LIST}?nope=1").status_code == 400
    assert [exchange.condition for exchange in wire.exchanges] == [None, None]


def test_each_coding_is_an_answer_of_its_own(get: Get, wire: Wire) -> None:
    answers = [get(DETAIL, **{"Accept-Encoding": coding}) for coding in CODINGS]
    assert wire.statuses(DETAIL) == [200] * len(CODINGS)
    again = [get(DETAIL, **{"Accept-Encoding": coding}) for coding in CODINGS]
    for answer in (*answers, *again):
        assert json.loads(answer.content) == answers[0].json()
