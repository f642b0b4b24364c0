"""What a browser may load and run on the pages of this server: all that they need, and nothing that is in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page
from stacks.live import LiveServer

pytestmark = pytest.mark.stack("embedded")

API = "/api/v1/"
PAGES = (
    *(
        f"{API}{target}?format=api"
        for target in ("", "galleries/", "screenshots/", "screenshots/1/", "tags/")
    ),
    f"{API}nothing/?format=api",
    f"{API}galleries/nothing/?format=api",
)
SIGN_UP = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("root", password="pw")
"""
LINKS = "[...document.querySelectorAll('a[href]')].map(each => each.pathname)"
INJECTED = """() => new Promise(resolve => {
    document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective))
    document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='document.title = \\"run\\"'>")
})"""


class Watched:
    """A page, and what the console said of its policy; `open` goes to a target and waits for all that it loads."""

    def __init__(self, page: Page, server: LiveServer) -> None:
        self.page = page
        self.origin = f"http://127.0.0.1:{server.port}"
        self.said: list[str] = []
        page.context.on("console", self._note)

    def open(self, target: str) -> Any:
        answer = self.page.goto(f"{self.origin}{target}", wait_until="networkidle")
        assert answer is not None
        return answer

    def _note(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.said.append(f"{self.page.url}: {message.text}")


@pytest.fixture
def watched(browser: Callable[..., Any], live: LiveServer) -> Iterator[Watched]:
    """Fails if any page that it was on had anything that its policy forbids."""
    with browser() as context:
        found = Watched(context.new_page(), live)
        yield found
        assert not found.said


@pytest.fixture(scope="module")
def staff(live: LiveServer) -> None:
    live.shell(SIGN_UP)


def sign_in(watched: Watched) -> None:
    watched.open("/admin/login/")
    watched.page.fill("#id_username", "root")
    watched.page.fill("#id_password", "pw")
    with watched.page.expect_navigation():
        watched.page.click("[type=submit]")


def pages_of_the_admin(watched: Watched) -> Iterator[str]:
    """Yield a page of each kind that leads on from the first, once it is shown."""
    known, ahead = set(), ["/admin/"]
    while ahead:
        target = ahead.pop()
        kind = re.sub(r"\d+", "N", target)
        if kind in known or not kind.startswith("/admin/") or kind.endswith("/logout/"):
            continue
        known.add(kind)
        watched.open(target)
        yield kind
        ahead += watched.page.evaluate(LINKS)


@pytest.mark.usefixtures("staff")
def test_every_page_of_the_admin_has_what_it_needs(watched: Watched) -> None:
    sign_in(watched)
    shown = list(pages_of_the_admin(watched))
    named = {kind.rstrip("/").rpartition("/")[2] for kind in shown}
    assert {"add", "change", "delete", "history", "cache", "password", "screenshot"} <= named
    assert not watched.said


@pytest.mark.usefixtures("staff")
def test_the_admin_finds_a_row_as_one_types_and_edits_it_in_a_window_of_its_own(watched: Watched) -> None:
    sign_in(watched)
    watched.open("/admin/catalog/screenshot/")
    box = watched.page.locator(".select2-container").first
    assert box.evaluate("each => each.offsetWidth === each.parentElement.offsetWidth")
    box.click()
    watched.page.locator(".select2-results__option", has_text="Hidden").wait_for()
    watched.open("/admin/catalog/screenshot/1/change/")
    with watched.page.expect_popup() as opened:
        watched.page.click("#change_id_gallery")
    opened.value.fill("#id_title", "By a window")
    with opened.value.expect_event("close"):
        opened.value.click("[name=_save]")
    watched.page.locator(".select2-selection__rendered", has_text="By a window").wait_for()


@pytest.mark.usefixtures("staff")
def test_the_page_about_a_forged_form_has_its_styles(watched: Watched) -> None:
    watched.open("/admin/login/")
    watched.page.context.clear_cookies()
    with watched.page.expect_navigation():
        watched.page.evaluate("document.querySelector('form').submit()")
    assert "Forbidden" in watched.page.inner_text("h1")
    assert watched.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(238, 238, 238)"


@pytest.mark.parametrize("target", PAGES)
def test_a_page_of_the_browsable_api_has_what_it_needs(watched: Watched, target: str) -> None:
    assert "content-security-policy" in watched.open(target).headers


@pytest.mark.usefixtures("staff")
def test_the_browsable_api_takes_what_is_typed(watched: Watched) -> None:
    sign_in(watched)
    watched.open(f"{API}tags/?format=api")
    watched.page.fill("textarea", '{"slug": "typed"}')
    watched.page.locator("form:has(textarea) button").click()
    watched.page.get_by_text("HTTP 201 Created").wait_for()


@pytest.mark.usefixtures("staff")
def test_the_description_of_the_api_tries_a_write_out(watched: Watched) -> None:
    """With the token that a session's write needs."""
    sign_in(watched)
    watched.open(f"{API}docs/")
    operation = watched.page.locator(".opblock-post", has_text=f"{API}tags/")
    operation.locator(".opblock-summary-control").click()
    operation.locator(".try-out__btn").click()
    operation.locator(".body-param__text").fill('{"slug": "tried"}')
    operation.locator(".execute").click()
    operation.locator(".live-responses-table .response-col_status", has_text="201").wait_for()


@pytest.mark.parametrize("number", [0, 1])
def test_a_picture_that_is_opened_by_itself_shows(watched: Watched, number: int) -> None:
    watched.open(f"{API}screenshots/1/renditions/")
    shown = watched.page.evaluate("JSON.parse(document.body.innerText).results.map(each => each.url)")
    watched.open(shown[number])
    assert watched.page.evaluate("document.images[0].naturalWidth") == 320
    middle = "(box => box.x > 0 && box.y > 0)(document.images[0].getBoundingClientRect())"
    assert watched.page.evaluate(middle)  # where the browser's own styles put it


@pytest.mark.parametrize("target", [f"{API}docs/", f"{API}tags/?format=api", "/admin/login/"])
def test_what_is_injected_into_a_page_does_not_run(watched: Watched, target: str) -> None:
    watched.open(target)
    assert watched.page.evaluate(INJECTED) == "script-src-attr"
    assert watched.page.title() != "run"
    watched.said.clear()
