"""The fast path behind real servers and their sockets: hits, 304s and what must not be answered in front.

Whoever answers, the server logs it, and all processes together count it exactly once.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from stacks.live import CHECKOUT, LiveServer
from stacks.servers import reserve_port, wait_until_ready

from keybits.metrics import outcome

SEED = """
from catalog.models import Gallery, Tag
Gallery.objects.create(slug="a", title="A" * 150)
Tag.objects.create(slug="x", name="X")
"""
COMMANDS = {
    "gunicorn": [
        "-m",
        "gunicorn",
        "--preload",
        "--access-logfile",
        "-",
        "--workers",
        "2",
        "--bind",
        "127.0.0.1:{port}",
        "gallery_api.wsgi",
    ],
    "uvicorn": ["-m", "uvicorn", "--workers", "2", "--port", "{port}", "gallery_api.asgi:application"],
}
Start = Callable[..., LiveServer]
Counts = Counter[tuple[str, str]]
"""How many answers there were, by status and by what the cache did."""


@contextmanager
def granian(live: LiveServer, interface: str) -> Iterator[str]:
    yield live.url


@contextmanager
def other(live: LiveServer, server: str) -> Iterator[str]:
    """Serve the same deployment by another server."""
    port = reserve_port()
    command = [part.format(port=port) for part in COMMANDS[server]]
    log = live.directory / f"{server}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=CHECKOUT, env=live.environment, stdout=output, stderr=output
        )
    try:
        wait_until_ready(process, lambda: _listens(port), log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


SERVERS: dict[str, tuple[Any, str]] = {
    "granian-wsgi": (granian, "wsgi"),
    "granian-asgi": (granian, "asgi"),
    "gunicorn": (other, "gunicorn"),
    "uvicorn": (other, "uvicorn"),
}


ON_ONE_STACK = {other: [pytest.mark.stack("embedded")]}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=ON_ONE_STACK.get(serve, [])) for name, (serve, _) in SERVERS.items()]
)
def test_hits_and_304s_are_right_and_a_write_shows_at_once(
    live_server_process: Start, name: str, tmp_path: Path
) -> None:
    serve, which = SERVERS[name]
    counting = {"KEYBITS_METRICS": "true", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    live = live_server_process(
        workers=2, interface=which if serve is granian else "wsgi", environment=counting, seed=SEED
    )
    given: Counts = Counter()
    path = "/api/v1/galleries/a/"
    with serve(live, which) as url, _client(url, given) as client:
        before = _counted(tmp_path / "metrics")
        first = _settled(client, path)
        for _ in range(8):  # every worker, more than once
            _is_the_same(client.get(path), first)
            _is_not_modified(client.get(path, headers={"If-None-Match": first.headers["etag"]}), first)
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == first.headers["content-length"]
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 400
        assert "private" in client.get(path, headers={"Cookie": "sessionid=x"}).headers["cache-control"]
        live.shell("from catalog.models import Gallery; Gallery.objects.update(title='B')")
        for _ in range(8):
            assert client.get(path, headers={"If-None-Match": first.headers["etag"]}).json()["title"] == "B"
        assert _counted(tmp_path / "metrics") - before == given
        assert {("200", "hit"), ("304", "hit"), ("200", "uri-miss"), ("400", "none")} <= given.keys()
    if serve is other:
        log = (live.directory / f"{which}.log").read_text()
        assert sum(path in line for line in log.splitlines()) == given.total()


def _client(url: str, given: Counts) -> httpx.Client:
    """Return a client that notes each answer that it is given."""

    def note(told: httpx.Response) -> None:
        given[str(told.status_code), outcome(told.headers.get("cache-status", ""))] += 1

    return httpx.Client(base_url=url, timeout=30, trust_env=False, event_hooks={"response": [note]})


def _counted(folder: Path) -> Counts:
    """Return what all serving processes have counted so far."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return Counter({(each.labels["status"], each.labels["cache"]): int(each.value) for each in samples})


def _settled(client: httpx.Client, path: str) -> httpx.Response:
    """Ask until the date of the content has come, so that answers no longer change."""
    told = client.get(path)
    while (again := client.get(path)).headers["last-modified"] != told.headers["last-modified"]:
        told = again
    return again


def _is_the_same(told: httpx.Response, first: httpx.Response) -> None:
    assert (told.status_code, told.content) == (200, first.content)
    assert told.headers["cache-status"] == "keybits; hit"
    kept = ("etag", "cache-control", "content-type", "content-encoding", "vary", "x-frame-options", "link")
    assert [told.headers.get(name) for name in kept] == [first.headers.get(name) for name in kept]


def _is_not_modified(told: httpx.Response, first: httpx.Response) -> None:
    assert (told.status_code, told.content) == (304, b"")
    assert told.headers["etag"] == first.headers["etag"]
    assert "content-length" not in told.headers
