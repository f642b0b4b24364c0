"""One Varnish, one nginx and one origin for all tests here, emptied before each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from stacks.plugin import Stack

from edge.origin import Origin
from edge.programs import Nginx, Varnish, client


@pytest.fixture(scope="session")
def _origin() -> Iterator[Origin]:
    origin = Origin()
    yield origin
    origin.down()


@pytest.fixture(scope="session")
def _varnish(_origin: Origin, stack: Stack) -> Iterator[Varnish]:
    varnish = Varnish(_directory(stack.run / "varnish"), _origin.port)
    varnish.start()
    yield varnish
    varnish.stop()


@pytest.fixture(scope="session")
def nginx(_origin: Origin, stack: Stack) -> Iterator[Nginx]:
    started = Nginx(_directory(stack.run / "nginx"), _origin.port)
    started.start()
    yield started
    started.stop()


def _directory(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.fixture
def origin(_origin: Origin) -> Origin:
    """The origin, with no pages yet."""
    _origin.reset()
    return _origin


@pytest.fixture
def varnish(_varnish: Varnish, origin: Origin) -> Varnish:
    """Varnish before that origin, empty."""
    _varnish.heal()
    _varnish.forget()
    return _varnish


@pytest.fixture
def edge(varnish: Varnish) -> Iterator[httpx.Client]:
    """A client of Varnish that sends what it is told, and no Accept-Encoding of its own."""
    with client(varnish.url) as connected:
        yield connected


@pytest.fixture
def proxy(nginx: Nginx, origin: Origin) -> Iterator[httpx.Client]:
    """The same, of nginx, under a name of its own: nothing can be removed from nginx."""
    with client(nginx.url) as connected:
        connected.headers["Host"] = f"{uuid.uuid4()}.example"
        yield connected
