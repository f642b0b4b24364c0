"""What the demo does before it serves, and what it serves with."""

from __future__ import annotations

import ipaddress
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog.capture import images
from catalog.management.commands import demo
from catalog.models import Gallery, Screenshot

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _media(settings: Any, tmp_path: Path) -> None:
    options = {"location": str(tmp_path / "media"), "base_url": "/files/"}
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": default}


@pytest.fixture
def listener() -> Iterator[int]:
    """Return a port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def small_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put one picture of the bundled galleries in their place."""
    bundled = demo.demo_folder()
    manifest = json.loads((bundled / "manifest.json").read_text())
    gallery = manifest["galleries"][0]
    gallery["screenshots"] = gallery["screenshots"][:1]
    folder = tmp_path / "demo"
    folder.mkdir()
    file = folder / gallery["screenshots"][0]["file"]
    file.parent.mkdir()
    file.write_bytes((bundled / gallery["screenshots"][0]["file"]).read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "galleries": [gallery]}))
    monkeypatch.setattr(demo, "demo_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Catch what would replace this process."""
    caught: list[tuple[Any, ...]] = []
    monkeypatch.setattr(demo.os, "execve", lambda *given: caught.append(given))
    monkeypatch.setattr(demo.connections, "close_all", lambda: None)
    return caught


class TestPort:
    def test_a_port_in_use_is_refused_before_anything_is_done(self, listener: int) -> None:
        with pytest.raises(CommandError, match=rf"Port {listener} is in use.*--port {listener + 1}"):
            call_command("demo", port=listener)
        assert not Gallery.objects.exists()

    @pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
    def test_an_address_that_is_not_this_machines_is_refused(self, host: str) -> None:
        with pytest.raises(CommandError, match="Cannot serve on"):
            call_command("demo", host=host)

    @pytest.mark.parametrize("host", ["a..b", "a" * 70])
    def test_what_is_no_name_of_a_host_is_refused(self, host: str) -> None:
        with pytest.raises(CommandError, match="is not a host name"):
            call_command("demo", host=host)

    def test_a_host_that_every_request_for_would_be_refused_is_refused(self, free_port: int) -> None:
        with pytest.raises(
            CommandError, match=r"ALLOWED_HOSTS=\S+,127\.0\.0\.2 python manage.py demo --host 127"
        ):
            call_command("demo", host="127.0.0.2", port=free_port)

    @pytest.mark.parametrize("port", [-1, 0, 65_536])
    def test_what_is_no_port_is_refused(self, port: int) -> None:
        with pytest.raises(CommandError, match="is not a port"):
            call_command("demo", port=port)

    def test_a_server_without_workers_is_refused(self) -> None:
        with pytest.raises(CommandError, match="at least one worker"):
            call_command("demo", workers=0)

    def test_without_serving_no_port_is_needed(self, listener: int, small_demo: Path) -> None:
        call_command("demo", port=listener, no_serve=True)

        assert Gallery.objects.exists()


@pytest.mark.usefixtures("small_demo")
class TestContent:
    def test_the_galleries_are_imported_once(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("demo", no_serve=True)
        monkeypatch.setattr(images, "develop", None)
        call_command("demo", no_serve=True)

        assert Screenshot.objects.count() == 1
        assert "0 created, 0 updated, 1 unchanged, 0 failed" in capsys.readouterr().out

    def test_without_serving_nothing_is_served(self, served: list[tuple[Any, ...]]) -> None:
        call_command("demo", no_serve=True)

        assert served == []


class TestBundled:
    def test_the_folder_is_found_through_the_package(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert (demo.demo_folder() / "manifest.json").is_file()
        assert demo.demo_folder().is_absolute()


@pytest.mark.usefixtures("small_demo")
class TestServing:
    def test_it_says_where_to_look_and_what_to_try(
        self, free_port: int, served: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        call_command("demo", port=free_port)
        out = capsys.readouterr().out

        for path in ("/api/v1/", "/api/v1/docs/", "/api/v1/schema/"):
            assert f"http://localhost:{free_port}{path}\n" in out
        assert "--etag-compare" in out

    def test_the_server_replaces_the_process(self, free_port: int, served: list[tuple[Any, ...]]) -> None:
        call_command("demo", port=free_port, workers=3)
        ((program, arguments, environment),) = served

        assert program == sys.executable
        assert arguments[:3] == [sys.executable, "-m", "granian"]
        assert arguments[-1] == "gallery_api.wsgi:application"
        assert "--workers 3" in " ".join(arguments)
        assert f"--host 127.0.0.1 --port {free_port}" in " ".join(arguments)
        assert str(Path(demo.__file__).resolve().parents[3]) in environment["PYTHONPATH"].split(":")

    def test_a_name_is_told_and_what_it_resolves_to_is_served_on(
        self, free_port: int, served: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The server takes addresses alone."""
        call_command("demo", host="localhost", port=free_port)
        ((_, arguments, _),) = served

        ipaddress.ip_address(arguments[arguments.index("--host") + 1])
        assert f"http://localhost:{free_port}/api/v1/\n" in capsys.readouterr().out

    def test_a_name_in_capitals_is_the_same_name(self, free_port: int, served: list[Any]) -> None:
        """As a browser sends it, and as ALLOWED_HOSTS are compared."""
        call_command("demo", host="LOCALHOST", port=free_port)
        assert served

    @pytest.mark.parametrize(
        ("host", "root"),
        [
            ("127.0.0.1", "http://localhost:80"),
            ("0.0.0.0", "http://localhost:80"),  # noqa: S104 - the text is tested
            ("::1", "http://localhost:80"),
            ("192.0.2.1", "http://192.0.2.1:80"),
            ("2001:db8::1", "http://[2001:db8::1]:80"),
        ],
    )
    def test_the_address_is_one_to_open(self, host: str, root: str) -> None:
        assert demo.root_url(host, 80) == root
