"""What a browser makes of the answers: Chromium, its own HTTP cache, and a page of this origin that fetches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

from clients.wire import Wire

pytestmark = pytest.mark.stack("embedded")

API = "/api/v1/"
LIST = f"{API}galleries/a/screenshots/"
DETAIL = f"{API}galleries/a/"
FETCH = "async url => { const answer = await fetch(url); return [answer.status, await answer.text()] }"
SHOW = "async url => { const i = new Image(); i.src = url; await i.decode(); return i.naturalWidth }"


@pytest.fixture
def page(browser: Callable[..., Any], wire: Wire) -> Iterator[Page]:
    """A page of this origin: the root, which needs no script and no style."""
    with browser(bypass_csp=True) as context:
        yield opened(context, wire)


def opened(context: BrowserContext, wire: Wire) -> Page:
    page = context.new_page()
    page.goto(f"{wire.url}{API}")
    return page


def fetch(page: Page, target: str) -> str:
    status, text = page.evaluate(FETCH, target)
    assert status == 200
    return str(text)


def pictures(wire: Wire) -> list[str]:
    shown = wire.origin.get(f"{API}screenshots/1/renditions/").json()["results"]
    return [rendition["url"] for rendition in shown]


def test_a_second_fetch_is_a_304_on_the_wire_and_a_change_elsewhere_shows_at_once(
    page: Page, wire: Wire
) -> None:
    first = fetch(page, LIST)
    assert fetch(page, LIST) == first
    assert wire.statuses(LIST) == [200, 304]
    title = wire.write()
    assert title in fetch(page, LIST)
    assert title in fetch(page, LIST)
    assert wire.statuses(LIST) == [200, 304, 200, 304]


def test_a_fetch_is_never_answered_without_asking(page: Page, wire: Wire) -> None:
    for _ in range(5):
        fetch(page, DETAIL)
    assert wire.statuses(DETAIL) == [200, 304, 304, 304, 304]


# RFC 9110 knows an address by its spelling; No-Vary-Search says which spellings are one.
def test_another_order_of_the_same_parameters_revalidates_the_same_answer_and_shows_a_change(
    page: Page, wire: Wire
) -> None:
    spellings = ("?tag=x&page_size=3", "?page_size=3&tag=x", "?tag=x&page_size=3&utm_source=mail")
    targets = [f"{API}screenshots/{spelling}" for spelling in spellings]

    def statuses() -> list[int]:
        return [exchange.status for exchange in wire.exchanges if "screenshots" in exchange.target]

    assert len({fetch(page, target) for target in targets}) == 1
    assert statuses() == [200, 304, 304]
    title = wire.write()
    for target in reversed(targets):
        assert title in fetch(page, target)
    assert statuses() == [200, 304, 304, 200, 304, 304]


# RFC 9111 section 6: history shows what was seen, and asks nobody.
def test_back_shows_what_was_seen_and_going_there_anew_what_is(page: Page, wire: Wire) -> None:
    page.goto(f"{wire.url}{DETAIL}")
    page.goto(f"{wire.url}{API}tags/")
    title = wire.write()
    page.go_back()
    assert title not in page.inner_text("body")
    assert wire.statuses(DETAIL) == [200]
    page.reload()
    assert title in page.inner_text("body")
    page.go_forward()
    page.goto(f"{wire.url}{DETAIL}")
    assert title in page.inner_text("body")
    assert wire.statuses(DETAIL) == [200, 200, 304]


def test_a_script_of_a_page_gone_back_to_is_shown_the_change(page: Page, wire: Wire) -> None:
    fetch(page, DETAIL)
    page.goto(f"{wire.url}{API}tags/")
    title = wire.write()
    page.go_back()
    assert title in fetch(page, DETAIL)


def test_a_picture_is_asked_for_once_by_any_page_and_after_a_restart(
    browser: Callable[..., Any], wire: Wire
) -> None:
    shown = pictures(wire)
    for _ in range(2):
        with browser(bypass_csp=True) as context:
            for page in (opened(context, wire), opened(context, wire)):
                assert [page.evaluate(SHOW, picture) for picture in shown] == [320] * len(shown)
    assert [wire.statuses(picture) for picture in shown] == [[200]] * len(shown)
