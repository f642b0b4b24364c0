"""What the real clients meet: a deployment with pictures in it, and the wire to it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Playwright, sync_playwright
from stacks.live import Deployments, LiveServer

from clients.wire import Wire

FLAGS = (
    "--headless",
    "--no-sandbox",  # a test may run as root, and it opens its own server's pages alone
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SEED = """
from io import BytesIO
from PIL import Image
from catalog.capture import storage
from catalog.models import *
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token

def rendition(shot, format):
    data = BytesIO()
    Image.effect_noise((320, 200), 40).save(data, format)
    picture = data.getvalue()
    sha256 = storage.store(picture, format)
    shot.renditions.create(width=320, height=200, format=format, bytes=len(picture), sha256=sha256)

owner = get_user_model().objects.create_user("owner", password="pw")
Token.objects.create(user=owner, key="0" * 40)
Gallery.objects.create(slug="hidden", title="Hidden", visibility="private", owner=owner)
a = Gallery.objects.create(slug="a", title="A")
x = Tag.objects.create(slug="x", name="X")
for number in range(8):
    shot = Screenshot.objects.create(
        gallery=a, title=f"one {number}", source_url="https://one.example/", position=number,
        width=1280, height=800, state="ready",
    )
    shot.tags.add(x)
    for format in ("webp", "jpeg"):
        rendition(shot, format)
a.cover = shot
a.save()
"""


@pytest.fixture(scope="module")
def live(deployments: Deployments) -> Iterator[LiveServer]:
    """A deployment with one public gallery of eight screenshots with pictures, and a private one.

    The tests of a module share it: what they write must be new each time.
    """
    with deployments.seeded(SEED) as server:  # by one worker: what more of them do, test_live.py says
        yield server


@pytest.fixture
def wire(live: LiveServer) -> Iterator[Wire]:
    """The way to `live` that remembers."""
    with Wire(live) as between:
        thread = threading.Thread(target=between.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield between
        between.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> str:
    """The path of Chromium, which no wheel has; without it skip, or fail if REQUIRE_PROGRAMS is set."""
    found = shutil.which("chromium")
    if found is not None:
        return found
    reason = "chromium is not installed: apt-get install chromium"
    if os.environ.get("REQUIRE_PROGRAMS"):
        pytest.fail(f"{reason} (REQUIRE_PROGRAMS is set)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture
def browser(chromium: str, playwright: Playwright, tmp_path: Path) -> Callable[..., Any]:
    """Open Chromium: `with browser() as context`; what it has stored it finds again the next time.

    With `bypass_csp=True` a test's own scripts may do on any page what its policy forbids to scripts.
    """

    @contextmanager
    def opened(**options: Any) -> Iterator[BrowserContext]:
        start = playwright.chromium.launch_persistent_context
        profile = str(tmp_path / "profile")
        with start(profile, executable_path=chromium, args=list(FLAGS), **options) as context:
            yield context

    return opened
