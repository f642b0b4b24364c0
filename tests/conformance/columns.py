"""The columns of the matrix: which servers are asked, how each is configured, and what can be done to its rows.

All serve the same rows from SQLite, by one process of granian over WSGI, each from a database and a store of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from stacks.live import Deployments, Interface, LiveServer

from conformance import wire
from conformance.wire import Fields, Reply

__all__ = ["COLUMNS", "Column", "Configuration", "running"]

API = "/api/v1/"
TESTS = Path(__file__).resolve().parents[1]
SEED = """
from catalog.models import *
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token
owner = get_user_model().objects.create_user("owner", password="pw")
a = Gallery.objects.create(slug="a", title="A", description="Words. " * 60)
Gallery.objects.create(slug="hidden", title="Kept from view", visibility="private", owner=owner)
x = Tag.objects.create(slug="x", name="X")
for number in range(30):
    shot = Screenshot.objects.create(
        gallery=a, title=f"one {number}", source_url="https://one.example/", position=number,
        width=1280, height=800, state="ready",
    )
    shot.tags.add(x)
def logged_in():
    from django.test import Client
    client = Client()
    client.force_login(owner)
    return client.cookies["sessionid"].value
TOLD = {"token": Token.objects.create(user=owner).key, "session": logged_in()}
"""
TALK = """
import json, sys
for line in sys.stdin:
    exec(json.loads(line))
    print("\\x1f" + json.dumps(TOLD), flush=True)
"""


@dataclass(frozen=True)
class Configuration:
    """A column before it runs: its heading, what it is, and how many entries its cache holds."""

    name: str
    described: str
    settings: str
    entries: str


PEER_ENTRIES = """
from django.conf import settings
TOLD = len(list((settings.VAR_DIR / "peer").glob("*.djcache")))
"""
COLUMNS = (
    Configuration(
        "ours",
        "this project as deployed, with `KEYBITS_PURGERS` naming a cache that reads every field for keys and "
        "lifetimes",
        "conformance.peers.ours",
        "from keybits.stores import get_store\nTOLD = len(get_store().sample(100_000))",
    ),
    Configuration(
        "drf-extensions",
        "drf-extensions 0.8.0 as documented: `@etag` over `@cache_response`, constructors with the documented "
        "`UpdatedAtKeyBit`, `post_save` and `post_delete`; the default middleware of `startproject`",
        "conformance.peers.drf_extensions",
        PEER_ENTRIES,
    ),
    Configuration(
        "cache_page",
        'Django\'s `cache_page(600)` with `vary_on_headers("Authorization", "Cookie")` as REST framework documents '
        "it, under `GZipMiddleware` and `ConditionalGetMiddleware` in the documented order",
        "conformance.peers.cache_page",
        PEER_ENTRIES,
    ),
)


class Column:
    """One running server, asked over a socket, and a process beside it that writes."""

    def __init__(self, configuration: Configuration, live: LiveServer) -> None:
        self.configuration = configuration
        self.name = configuration.name
        self._live = live
        self._beside = live.spawn(TALK)
        self._sizes = count(5)
        told = self.do(SEED)
        self.token = ("Authorization", f"Token {told['token']}")
        self.session = ("Cookie", f"sessionid={told['session']}")

    def ask(self, target: str, *fields: tuple[str, str], method: str = "GET", body: bytes = b"") -> Reply:
        """Ask for `target`, below `/api/v1/` where it is relative."""
        absolute = target if target.startswith(("/", "http:")) else API + target
        return wire.ask(self._live.port, absolute, method, fields, body)

    def flood(self, targets: Iterable[str], fields: Fields = ()) -> int:
        return wire.flood(self._live.port, (API + target for target in targets), fields)

    def fresh(self) -> str:
        """Return the address of a list that nobody has asked for yet."""
        return f"screenshots/?page_size={next(self._sizes)}"

    def entries(self) -> int:
        """Return how many entries the cache holds."""
        return int(self.do(self.configuration.entries))

    def do(self, code: str) -> Any:
        """Run `code` beside the server; return what it leaves in `TOLD`."""
        assert self._beside.stdin is not None
        assert self._beside.stdout is not None
        self._beside.stdin.write(json.dumps(f"TOLD = None\n{code}") + "\n")
        self._beside.stdin.flush()
        said = []
        for line in self._beside.stdout:
            if line.startswith("\x1f"):
                return json.loads(line[1:])
            said.append(line)
        raise AssertionError("".join(said))

    def rename(self, title: str) -> None:
        """Save the first screenshot under another title."""
        self.do(f"shot = Screenshot.objects.get(pk=1); shot.title = {title!r}; shot.save()")


@contextmanager
def running(
    configuration: Configuration, deployments: Deployments, interface: Interface = "wsgi"
) -> Iterator[Column]:
    """Start the column's server, with its rows, and end it."""
    environment = {
        "DJANGO_SETTINGS_MODULE": configuration.settings,
        "PYTHONPATH": str(TESTS),
        "KEYBITS_AUDIT": "off",
        "ANON_THROTTLE_RATE": "10000000/min",
    }
    live = deployments.make(environment)
    try:
        live.start(workers=1, interface=interface)
        yield Column(configuration, live)
    finally:
        deployments.discard(live)
