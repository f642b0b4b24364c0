"""A cache in front hears of every change, though whoever made it has ended and whoever told it was killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pytest_django import Settings
from stacks.live import LiveServer

from keybits import surrogates

pytestmark = pytest.mark.stack("server")  # as with a cache in front it is deployed
LONG = 60


class Cache:
    """Speaks as Varnish does for `XkeyPurger`, and answers 503 while it is down."""

    def __init__(self) -> None:
        self.is_down = True
        self.keys: set[str] = set()
        self._heard = threading.Condition()
        self.asked = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cache = self

        class Handler(BaseHTTPRequestHandler):
            def do_PURGE(self) -> None:
                named = self.headers.get("xkey-purge", "") + " " + self.headers.get("xkey-softpurge", "")
                self.send_response(cache.hear(named.split()))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def hear(self, keys: list[str]) -> int:
        with self._heard:
            self.asked += 1
            if not self.is_down:
                self.keys.update(keys)
            self._heard.notify_all()
            return 503 if self.is_down else 200

    def wait(self, until: Callable[[], bool]) -> bool:
        with self._heard:
            return self._heard.wait_for(until, LONG)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def cache() -> Iterator[Cache]:
    found = Cache()
    yield found
    found.stop()


@pytest.fixture
def live(cache: Cache, live_server_process: Callable[..., LiveServer], settings: Settings) -> LiveServer:
    edge = {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": [cache.url]}
    environment = {"PURGERS": json.dumps({"edge": edge}), "SECRET_KEY": settings.SECRET_KEY}
    return live_server_process(workers=2, environment=environment)


def test_what_a_cache_that_is_down_was_to_be_told_survives_the_process_that_told_it(
    live: LiveServer, cache: Cache
) -> None:
    live.shell("Tag.objects.create(slug='crash', name='Crash')")
    assert cache.wait(lambda: cache.asked > 0)
    live.kill_worker()
    live.kill_worker()  # whichever of the two it was that told
    cache.is_down = False
    wanted = set(surrogates.purged(["tag:crash", "tags"]))
    assert cache.wait(lambda: wanted <= cache.keys)


def test_so_does_a_change_whose_writer_was_killed_before_it_told_anybody(
    live: LiveServer, cache: Cache
) -> None:
    cache.is_down = False
    live.shell(
        "import os, signal\n"
        "from keybits import transactions\n"
        "transactions._close = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if os.fork() == 0:\n"
        "    Tag.objects.create(slug='killed', name='Killed')\n"
        "os.wait()\n"
    )
    wanted = set(surrogates.purged(["tag:killed"]))
    assert cache.wait(lambda: wanted <= cache.keys)
