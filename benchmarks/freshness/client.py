"""A client as browsers are: it keeps its connections, remembers bodies by their validators, and asks again.

It tells its journal what each answer showed. A 304 shows the body that the client was told it may go on using.
"""

from __future__ import annotations

import http.client
import json
import random
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from benchmarks.freshness.journal import Journal, clock
from benchmarks.freshness.world import BITS, GALLERIES, World, parse_title, tags_version

__all__ = ["Client", "path"]

API = "/api/v1/"
TIMEOUT = 10.0
"""Seconds after which a request that has no answer counts as stuck."""
Shown = list[list[Any]]


@dataclass
class Memory:
    """What a client keeps of one address: bodies by ETag, and which came last, with its date."""

    bodies: dict[str, int] = field(default_factory=dict)
    contents: dict[str, int] = field(default_factory=dict)
    etag: str = ""
    date: str = ""


def path(world: World, randomly: random.Random, subject: str = "gallery") -> str:
    """Return an address to read: details mostly, and every kind of list that the subject has."""
    row, _ = randomly.choice(world.rows)
    slug = randomly.choice(GALLERIES)
    tag = f"b{min(int(randomly.expovariate(0.8)), BITS - 1):02}"
    paths = {
        f"screenshots/{row}/": 40,
        f"galleries/{slug}/screenshots/?page_size=max": 22,
        f"tags/{tag}/screenshots/?page_size=max": 10,
        "screenshots/?page_size=max": 10,
    }
    if subject == "gallery":
        paths |= {
            f"screenshots/?page_size=max&tag={tag}": 4,
            f"screenshots/?domain=site{row % 3}.example&page_size=max": 6,
            f"galleries/{slug}/": 5,
            "galleries/": 3,
        }
    return API + randomly.choices(list(paths), list(paths.values()))[0]


def shown(body: Any) -> Shown:
    """Return what a body says: of screenshots id, title's version and author, tags' version, position, gallery;
    of galleries slug, title's version and author, count."""
    items = body.get("results", [body])
    return [_of_screenshot(item) if "tags" in item else _of_gallery(item) for item in items]


def _of_screenshot(item: Any) -> list[Any]:
    versions = [*parse_title(item["title"]), tags_version(item["tags"]), item["position"]]
    return [item["id"], *versions, item["gallery"]]


def _of_gallery(item: Any) -> list[Any]:
    return [item["slug"], *parse_title(item["title"]), item.get("screenshot_count", -1)]


class Client:
    """One client of several servers, with one connection to each."""

    def __init__(self, ports: list[int], journal: Journal, randomly: random.Random) -> None:
        self.journal = journal
        self.randomly = randomly
        self._connections = {
            port: http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT) for port in ports
        }
        self._memories: dict[str, Memory] = {}
        self._bodies = 0

    def get(self, path: str) -> int:
        """GET from any server, half of the time with a condition; return the status, 0 where there was no answer."""
        memory = self._memories.setdefault(path, Memory())
        headers = self._condition(memory)
        port = self.randomly.choice(list(self._connections))
        begun = clock()
        try:
            response, content = self._send(port, path, headers)
        except (OSError, http.client.HTTPException) as error:
            self._connections[port].close()
            self.journal.tell("lost", t0=begun, t1=clock(), u=path, p=port, why=repr(error))
            return 0
        ended = clock()
        status, cache = response.status, response.headers.get("Cache-Status", "")
        number = -1
        if status == 200:
            number = self._told(memory, path, response.headers, content)
        elif status == 304:
            number = self._reminded(memory, path, headers, response.headers.get("ETag", ""))
        asked = next(iter(headers), "")
        said = {"s": status, "c": cache.removeprefix("keybits; "), "b": number, "p": port, "if": asked}
        if status >= 500:
            said["why"] = content[:300].decode(errors="replace")
        self.journal.tell("read", t0=begun, t1=ended, u=path, **said)
        return int(status)

    def _send(self, port: int, path: str, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connections[port]
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response, response.read()

    def _condition(self, memory: Memory) -> dict[str, str]:
        if not memory.bodies or self.randomly.random() < 0.5:
            return {}
        chance = self.randomly.random()
        if chance < 0.2 and memory.date:
            return {"If-Modified-Since": memory.date}
        if chance < 0.4:
            return {"If-None-Match": ", ".join(list(memory.bodies)[-3:])}
        return {"If-None-Match": memory.etag} if memory.etag else {}

    def _reminded(self, memory: Memory, path: str, condition: dict[str, str], etag: str) -> int:
        """Return the number of the body that a 304 stands for. A date stands for the last one."""
        if "If-Modified-Since" in condition:
            etag = memory.etag
        if etag not in memory.bodies:
            self.journal.tell("wrong", u=path, why=f"304 for {etag}, which this client was never given")
        return memory.bodies.get(etag, -1)

    def _told(self, memory: Memory, path: str, headers: Message, content: bytes) -> int:
        """Remember a body and return its number."""
        try:
            what = shown(json.loads(content))
        except (ValueError, KeyError, TypeError) as error:
            self.journal.tell("wrong", u=path, why=f"a body that cannot be read: {error!r}")
            return -1
        etag = headers.get("ETag", "")
        if etag and memory.contents.setdefault(etag, hash(content)) != hash(content):
            self.journal.tell("wrong", u=path, why=f"two bodies with the ETag {etag}")
        self._bodies += 1
        self.journal.tell("body", b=self._bodies, i=what)
        if etag:
            memory.bodies.pop(etag, None)
            memory.bodies[etag] = self._bodies
        memory.etag, memory.date = etag, headers.get("Last-Modified", "")
        return self._bodies

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
