"""What a miss of a list costs, beside the plain REST framework view: `python -m benchmarks.miss`.

CPU of the calling thread, in one process without any server, for one page of 50 screenshots. Plain is the same
queryset and the same serializer in REST framework's own view, with its own pages by cursor, JSON, authentication and
throttle, django-filter's filters, and Django's middleware as the gallery has it; ours is the application as deployed,
with an empty store before each request. They take turns, and every answer that is counted has the same bytes. Writes
`miss.md`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import brotli

from benchmarks.harness.machine import circumstances, versions
from benchmarks.harness.rounds import CONTROL, Rounds

ROOT = Path(__file__).resolve().parent.parent
REPORT = Path(__file__).with_suffix(".md")
sys.path.insert(0, str(ROOT / "tests"))

from stacks import runs  # noqa: E402
from stacks.servers import start_postgres, start_redis  # noqa: E402

STACKS = {"embedded": "SQLite + LMDB", "server": "PostgreSQL + Redis"}
SCREENSHOTS, GALLERIES, TAGS = 5_000, 50, 30
PATH, QUERY = "/api/v1/screenshots/", "page_size=50"
BAR = 0.25
HIT, MISS, NONE = "keybits; hit", "keybits; fwd=uri-miss; stored", ""
VOUCHED = 900
"""Milliseconds for which the benchmark, in place of a relay, has the store believed: emptied it is not."""
SESSIONS = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
)
PLAIN = "plain REST framework"
ARMS = {
    PLAIN: "the reference",
    CONTROL: "the reference once more, for the noise",
    "plain, bare": "without filters, throttle, authentication and middleware",
    "ours": "as deployed",
    "ours, a new question": "with none of its SQL remembered, as for a filter or an order that nobody has asked for",
    "ours, in brotli": "for a client that accepts it: a coding is made for the first who is sent it",
    "ours, by the serializer": "the same, had the serializer not been compiled",
    "a hit": "no miss: what is in front of the view, and the store",
}


# --- In the process that is measured ------------------------------------------------------------------------------


class Application:
    """A WSGI application, called for the page; the store is emptied before, outside what is measured.

    `said` is the Cache-Status that every answer must have, "" for none.
    """

    def __init__(self, handler: Any, said: str, coding: str = "") -> None:
        self.handler = handler
        self.said = said
        self.coding = coding

    def page(self) -> bytes:
        body = self._called()[1]
        return bytes(brotli.decompress(body)) if self.coding else body

    def cost(self, count: int) -> float:
        """Return the CPU microseconds of one request, the mean of `count`."""
        return sum(self._called()[0] for _ in range(count)) / count * 1e6

    def _called(self) -> tuple[float, bytes]:
        from keybits.stores import get_store  # noqa: PLC0415 - Django must be set up

        store = get_store()
        heads: list[tuple[str, dict[str, str]]] = []
        if self.said != HIT:
            store.clear()
        store.vouch(store.now() + VOUCHED)
        environ = _environ() | ({"HTTP_ACCEPT_ENCODING": self.coding} if self.coding else {})
        start = time.thread_time()
        response = self.handler(environ, lambda status, headers: heads.append((status, dict(headers))))
        body = b"".join(response)
        spent = time.thread_time() - start
        response.close()
        [(status, headers)] = heads
        said = headers.get("Cache-Status", "")
        assert (status, said) == ("200 OK", self.said), f"{status}, {said!r} and not {self.said!r}"
        return spent, body


def _environ() -> dict[str, Any]:
    asked = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": PATH, "QUERY_STRING": QUERY}
    server = {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1"}
    gateway = {"wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http", "REMOTE_ADDR": "127.0.0.1"}
    return asked | server | gateway | {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "*/*"}


def plain_view(*, bare: bool) -> Any:
    """Return the view as REST framework has it: only `next` is written as the API does, for the bytes to be equal."""
    from django_filters.rest_framework import DjangoFilterBackend  # noqa: PLC0415 - Django must be set up
    from rest_framework.authentication import BasicAuthentication, SessionAuthentication  # noqa: PLC0415 - as above
    from rest_framework.generics import ListAPIView  # noqa: PLC0415 - as above
    from rest_framework.pagination import CursorPagination  # noqa: PLC0415 - as above
    from rest_framework.renderers import JSONRenderer  # noqa: PLC0415 - as above
    from rest_framework.throttling import AnonRateThrottle  # noqa: PLC0415 - as above

    from catalog.api.filters import ScreenshotFilter  # noqa: PLC0415 - as above
    from catalog.api.pagination import Cursor, Order  # noqa: PLC0415 - as above
    from catalog.api.serializers import ScreenshotSerializer  # noqa: PLC0415 - as above
    from catalog.api.viewsets import _within  # noqa: PLC0415 - as above
    from catalog.models import Gallery  # noqa: PLC0415 - as above
    from keybits.query import Query  # noqa: PLC0415 - as above

    class Pages(CursorPagination):
        ordering = ("-captured_at", "-id")
        page_size_query_param = "page_size"

        def get_next_link(self) -> str | None:
            order = Order(("captured_at",), descending=True)
            cursor = Cursor.at(self.page[-1], order, backwards=False).encoded()
            return f"{PATH}?cursor={cursor}&{QUERY}" if self.has_next else None

    class Plain(ListAPIView):  # type: ignore[type-arg]
        serializer_class = ScreenshotSerializer
        pagination_class = Pages
        renderer_classes = [JSONRenderer]
        authentication_classes = [] if bare else [SessionAuthentication, BasicAuthentication]
        throttle_classes = [] if bare else [AnonRateThrottle]
        filter_backends = [] if bare else [DjangoFilterBackend]
        filterset_class = ScreenshotFilter
        query = Query(())  # what the serializer chooses its fields by: the default

        def get_queryset(self) -> Any:
            listed = _within(Gallery.objects.listed_for(None))
            return listed.select_related("gallery").prefetch_related("tags")

    return Plain.as_view()


def applications() -> dict[str, Application]:
    """Return what is called, by arm."""
    from django.conf import settings  # noqa: PLC0415 - Django must be set up
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415 - as above

    ours = WSGIHandler()
    stock = [name for name in settings.MIDDLEWARE if not name.startswith(("keybits.", "gallery_api."))]
    bare, plain = (
        plain_handler(bare=True, middleware=[]),
        plain_handler(bare=False, middleware=[*stock, *SESSIONS]),
    )
    others = {PLAIN: plain, CONTROL: plain, "plain, bare": bare}
    called = {name: Application(ours, MISS) for name in ARMS}
    called |= {name: Application(handler, NONE) for name, handler in others.items()}
    called["ours, in brotli"].coding, called["a hit"].said = "br", HIT
    return called


def plain_handler(*, bare: bool, middleware: list[str]) -> Any:
    from django.core.handlers.wsgi import WSGIHandler, WSGIRequest  # noqa: PLC0415 - Django must be set up
    from django.test import override_settings  # noqa: PLC0415 - as above
    from django.urls import include, path  # noqa: PLC0415 - as above

    class PlainRequest(WSGIRequest):
        urlconf: Any = (path(PATH[1:], plain_view(bare=bare)), path("", include("gallery_api.urls")))

    with override_settings(MIDDLEWARE=middleware):
        handler = WSGIHandler()
    handler.request_class = PlainRequest
    return handler


@contextmanager
def arm(name: str) -> Iterator[None]:
    """Be as the arm of this name is."""
    from django.urls import reverse  # noqa: PLC0415 - Django must be set up

    from keybits.drf import statements  # noqa: PLC0415 - as above

    def by_reverse(name: str, *_: str) -> Any:
        return lambda **values: reverse(name, kwargs=values)

    def incomparable(_: Any) -> Any:
        raise statements._IncomparableError

    plain = ("catalog.api.fields.addresses", by_reverse)  # the fields as they would be without keybits
    changed = {
        **dict.fromkeys((PLAIN, CONTROL, "plain, bare"), plain),
        "ours, a new question": ("keybits.drf.statements._Shape", incomparable),
        "ours, by the serializer": ("keybits.drf.lists.explain", lambda _: "not here"),
    }
    with ExitStack() as stack:
        if name in changed:
            stack.enter_context(mock.patch(*changed[name]))
        yield


def measured(rounds: int, count: int) -> dict[str, Any]:
    """Return the costs by arm and round, or fail where an answer has other bytes."""
    import django  # noqa: PLC0415 - the settings come with the environment

    django.setup()
    from django.db import connection  # noqa: PLC0415 - Django must be set up

    connection.settings_dict["CONN_MAX_AGE"] = None  # nobody connects anew in what is measured
    called, taken = applications(), Rounds(PLAIN, CONTROL)

    def turn(name: str) -> float:
        with arm(name):
            page = called[name].page()
            assert page == pages.setdefault("page", page), f"{name} has other bytes"
            return called[name].cost(count)

    pages: dict[str, bytes] = {}
    taken.run(list(called), turn, 2)  # what is compiled and loaded at first use
    taken.costs.clear()
    taken.run(list(called), turn, rounds)
    return {"costs": taken.costs, "bytes": len(pages["page"])}


# --- Around it ----------------------------------------------------------------------------------------------------


def deployed(name: str, run: Path) -> dict[str, str]:
    """Return the environment of a seeded deployment on this stack."""
    own = {"VAR_DIR": str(run / name), "KEYBITS_AUDIT": "off", "ANON_THROTTLE_RATE": "100000000/min"}
    own |= {"KEYBITS_RELAY": "external"}  # which there is none of: see VOUCHED
    if name == "server":
        postgres = start_postgres(run / "postgres")
        postgres.execute("CREATE DATABASE miss")
        own |= {"DATABASE_URL": postgres.database_url("miss"), "REDIS_URL": start_redis(run / "redis").url}
    environment = {**os.environ, **own, "DJANGO_SETTINGS_MODULE": "gallery_api.settings"}
    numbers = {"screenshots": SCREENSHOTS, "galleries": GALLERIES, "tags": TAGS}
    for command in (["migrate", "-v0"], ["seed", *(f"--{key}={value}" for key, value in numbers.items())]):
        manage = [sys.executable, str(ROOT / "manage.py"), *command]
        subprocess.run(manage, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
    return environment


def asked(name: str, environment: dict[str, str], options: argparse.Namespace) -> tuple[Rounds[str], int]:
    """Have a process of that deployment measure, and return its rounds and the length of the page."""
    numbers = ["--rounds", str(options.rounds), "--count", str(options.count)]
    command = [sys.executable, "-m", "benchmarks.miss", "--on", name, *numbers]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    return Rounds(PLAIN, CONTROL, found["costs"]), found["bytes"]


def verdict(rounds: Rounds[str]) -> str:
    """Say whether the machine was quiet enough to conclude from these rounds."""
    found = "quiet enough" if rounds.is_quiet() else "**too noisy to conclude anything from these figures**"
    return f"Plain against itself: {rounds.noise().ratio()}; the machine was {found}."


def section(name: str, rounds: Rounds[str], size: int) -> list[str]:
    """Return what was found on one stack."""
    ratio = rounds.ratio("ours")
    met = "met" if ratio.median <= BAR else "**not met**"
    lines = [
        f"## {STACKS[name]}",
        "",
        f"{verdict(rounds)} The bar of {BAR} is {met}: {ratio.ratio()}. {size:,} bytes, the same from all.",
        "",
        "| | CPU, ms (quartiles) | ratio to plain (quartiles) | |",
        "| --- | --: | --: | --- |",
    ]
    for each, words in ARMS.items():
        cost = rounds.cost(each)
        spent = f"{cost.median / 1e3:.2f} ({cost.low / 1e3:.2f} to {cost.high / 1e3:.2f})"
        lines.append(
            f"| {each if each != CONTROL else PLAIN} | {spent} | {rounds.ratio(each).ratio()} | {words} |"
        )
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.miss", description=__doc__)
    parser.add_argument("--stack", choices=STACKS, help="one stack alone, and write no table")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each (default: 40)")
    parser.add_argument("--count", type=int, default=10, help="requests in a turn (default: 10)")
    parser.add_argument("--on", choices=STACKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.on:
        print(json.dumps(measured(options.rounds, options.count)))
        return 0
    lines = ["# What a miss of a list costs", "", circumstances("python -m benchmarks.miss"), versions(), ""]
    run = runs.begin()
    try:
        for name in [options.stack] if options.stack else STACKS:
            lines += section(name, *asked(name, deployed(name, run), options))
    finally:
        runs.end(run)
    print("\n".join(lines))
    if not options.stack:
        REPORT.write_text("\n".join(lines), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
