"""What REDbot finds: it asks for every resource in every coding, validates, takes ranges, and reads every field."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from typing import Any

import pytest
import thor
from httplint.note import levels
from redbot.resource import HttpResource
from redbot.resource.fetch import RedFetcher, RedHttpClient
from stacks.live import LiveServer

pytestmark = pytest.mark.stack("embedded")

API = "/api/v1/"
LIST = f"{API}galleries/"
RESOURCES = (
    "",
    "galleries/",
    "galleries/a/",
    "galleries/a/screenshots/",
    "galleries/a/screenshots/1/",
    "galleries/a/screenshots/1/renditions/",
    "screenshots/",
    "screenshots/?ordering=-captured_at&tag=x",
    "screenshots/?page=2&page_size=3",
    "screenshots/1/",
    "screenshots/1/renditions/",
    "tags/",
    "tags/x/",
    "tags/x/screenshots/",
    "schema/",
)
REDIRECTS = ("/api/v1", f"{API}galleries", f"{API}galleries.json", f"{API}screenshots?tag=x")
PAGE = f"{API}docs/"
CODINGS = ("identity", "gzip", "br", "zstd")
WITHIN = 120  # seconds, for everything that one test asks

PUBLIC = "says what everybody may keep in so many words: some caches in front store nothing without `public`."
PRIVATE = "`private` is for caches that read it and not `no-store`, which then overrides it as it should."
WINDOW = "is Swagger UI's own choice: a page for people, whose sign-in by OAuth opens another window."
ASKED_FOR = "is what was asked for."
STYLED = "is for the page, of the browser's own, on which a picture is shown that is opened by itself."
# What REDbot warns of, and why it stays so.
EXPLAINED_OF_ANSWERS = {"STORE_PUBLIC_UNNECESSARY": PUBLIC}
EXPLAINED_OF_PICTURES = EXPLAINED_OF_ANSWERS | {"CSP_UNSAFE_INLINE": STYLED}
EXPLAINED_OF_THE_PAGE = {"CC_CONFLICTING": PRIVATE, "COOP_UNSAFE_NONE": WINDOW}
EXPLAINED_OF_ERRORS = {
    "CC_CONFLICTING": PRIVATE,
    "STATUS_BAD_REQUEST": ASKED_FOR,
    "STATUS_URI_TOO_LONG": ASKED_FOR,
}

Request = tuple[str, str, dict[str, str]]


def examine(live: LiveServer, requests: Sequence[Request]) -> list[Any]:
    """Let REDbot look at each (method, target, fields), one after the other, and return what it knows then."""
    loop = thor.loop.make()
    RedFetcher.client = RedHttpClient(loop)
    resources = [_resource(live, *request) for request in requests]
    turns = iter(resources)

    def next_turn() -> None:
        resource = next(turns, None)
        if resource is None:
            loop.stop()
            return
        resource.once("check_done", lambda: loop.schedule(0, next_turn))
        resource.check()

    loop.schedule(0, next_turn)
    loop.schedule(WITHIN, loop.stop)
    loop.run()
    for resource in resources:
        assert resource.response.complete, f"{resource.request.uri}: {resource.fetch_error}"
    return resources


def _resource(live: LiveServer, method: str, target: str, fields: dict[str, str]) -> Any:
    config = ConfigParser()
    config.read_dict({"redbot": {"enable_local_access": "yes"}})
    resource = HttpResource(config["redbot"])
    resource.set_request(f"{live.url}{target}", method, list(fields.items()))
    return resource


def complaints(resource: Any) -> set[str]:
    """Return the names of what is bad or a warning, in the answer and in those to REDbot's own checks of it."""
    fetched = [resource, *(check for check in resource.subreqs.values() if check.fetch_started)]
    notes = [note for fetch in fetched for note in _all(fetch.response.notes)]
    return {type(note).__name__ for note in notes if note.level in (levels.BAD, levels.WARN)}


def _all(notes: Any) -> Iterator[Any]:
    for note in notes:
        yield note
        yield from _all(note.subnotes)


def unexplained(resources: Sequence[Any], explained: dict[str, str]) -> list[tuple[str, str]]:
    found = ((resource, name) for resource in resources for name in complaints(resource))
    return [(resource.request.uri, name) for resource, name in found if name not in explained]


def never_said(resources: Sequence[Any], explained: dict[str, str]) -> set[str]:
    """Return the explanations of what nobody says: a list of excuses must not grow old."""
    return set(explained) - set().union(*map(complaints, resources))


def everywhere(targets: Sequence[str]) -> list[Request]:
    """Return the requests for each: with GET and HEAD as REDbot asks (with its own gzip), with GET in each coding."""
    by_coding: list[dict[str, str]] = [{"Accept-Encoding": coding} for coding in CODINGS]
    return [
        *itertools.product(("GET", "HEAD"), targets, [{}]),
        *itertools.product(("GET",), targets, by_coding),
    ]


def pictures(live: LiveServer) -> list[str]:
    shown = live.get(f"{API}screenshots/1/renditions/").json()["results"]
    return [rendition["url"] for rendition in shown]


def made_a_second_ago(live: LiveServer, targets: Sequence[str]) -> None:
    """Make each answer, and come back when its second is over: no date of that second is ever confirmed."""
    for target in targets:
        status = 200
        while status != 304:
            answer = live.get(target)
            status = live.get(target, {"If-Modified-Since": answer.headers["last-modified"]}).status_code


def test_redbot_finds_nothing_in_any_resource_in_any_coding(live: LiveServer) -> None:
    targets = [API + path for path in RESOURCES]
    made_a_second_ago(live, targets)
    seen = examine(live, everywhere(targets))
    assert unexplained(seen, EXPLAINED_OF_ANSWERS) == []
    assert never_said(seen, EXPLAINED_OF_ANSWERS) == set()
    for resource in seen:
        assert (resource.response.status_code, resource.inm_support, resource.ims_support) == (
            200,
            True,
            True,
        )
    as_it_asks = [one for one in seen if not one.request.headers.parsed.get("accept-encoding")]
    assert any(one.gzip_support for one in as_it_asks)


def test_redbot_finds_nothing_in_pictures_redirects_and_the_page_for_people(live: LiveServer) -> None:
    seen = examine(live, everywhere(pictures(live)))
    assert unexplained(seen, EXPLAINED_OF_PICTURES) == []
    for resource in seen:
        assert (resource.response.status_code, resource.inm_support) == (200, True)
        assert resource.partial_support or resource.request.method == "HEAD"
    seen = examine(live, everywhere(REDIRECTS))
    assert unexplained(seen, EXPLAINED_OF_ANSWERS) == []
    assert {resource.response.status_code for resource in seen} == {308}
    seen = examine(live, everywhere([PAGE]))
    assert unexplained(seen, EXPLAINED_OF_THE_PAGE) == []
    assert never_said(seen, EXPLAINED_OF_THE_PAGE) == set()


def test_redbot_finds_nothing_in_errors(live: LiveServer) -> None:
    picture = pictures(live)[0]
    errors: list[tuple[int, Request]] = [
        (400, ("GET", f"{LIST}?nope=1", {})),
        (400, ("GET", f"{LIST}?page_size=none", {})),
        (401, ("GET", LIST, {"Authorization": "Token none"})),
        (404, ("GET", f"{LIST}none/", {})),
        (404, ("GET", f"{LIST}hidden/", {})),
        (404, ("GET", "/none", {})),
        (404, ("GET", f"/files/{'0' * 64}.webp", {})),
        (401, ("POST", LIST, {})),
        (401, ("DELETE", f"{LIST}a/", {})),
        (405, ("PUT", LIST, {})),
        (405, ("POST", picture, {})),
        (406, ("GET", LIST, {"Accept": "text/csv"})),
        (406, ("GET", LIST, {"Accept-Encoding": "identity;q=0, *;q=0"})),
        (412, ("GET", LIST, {"If-Match": '"another"'})),
        (412, ("GET", picture, {"If-Match": '"another"'})),
        (414, ("GET", f"{LIST}?search={'a' * 9000}", {})),
        (416, ("GET", picture, {"Range": "bytes=99999999-"})),
    ]
    seen = examine(live, [request for _, request in errors])
    assert [resource.response.status_code for resource in seen] == [status for status, _ in errors]
    assert unexplained(seen, EXPLAINED_OF_ERRORS) == []
    assert never_said(seen, EXPLAINED_OF_ERRORS) == set()
