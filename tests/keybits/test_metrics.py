"""Metrics: what is counted, under which name, and who is told."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from django.core.management import CommandError, call_command
from stacks.servers import reserve_port, wait_until_ready

from keybits import cache_status, metrics

CHECKOUT = Path(__file__).resolve().parents[2]
COUNT = f"""
from keybits.metrics import answers
for told in ({cache_status.HIT!r}, {cache_status.HIT!r}, "keybits; fwd=uri-miss; stored"):
    answers().count(200, told)
"""


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (cache_status.HIT, "hit"),
        (cache_status.stale(3), "hit-stale"),
        (cache_status.forwarded(cache_status.MISS, stored=True), "uri-miss"),
        (cache_status.forwarded(cache_status.STALE), "stale"),
        (cache_status.forwarded(cache_status.BYPASS, detail="x y"), "bypass"),
        (cache_status.forwarded(cache_status.METHOD), "method"),
        (cache_status.forwarded(cache_status.STALE, collapsed=True), "collapsed"),
        ("keybits; fwd=because-i-say-so", "none"),
        ("other; hit", "none"),
        ("", "none"),
    ],
)
def test_every_answer_has_one_of_few_words(told: str, word: str) -> None:
    assert metrics.outcome(told) == word


def test_nothing_is_counted_unless_it_is_asked_for(settings: Any) -> None:
    settings.KEYBITS_METRICS = False
    assert metrics.answers() is None


def test_a_folder_that_cannot_be_made_is_an_error_before_the_first_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(metrics.FOLDER, str(tmp_path / "file" / "metrics"))
    monkeypatch.setenv("KEYBITS_METRICS", "true")
    command = [sys.executable, "-c", "import gallery_api.wsgi"]
    done = subprocess.run(command, check=False, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImproperlyConfigured: PROMETHEUS_MULTIPROC_DIR names a folder that cannot be made" in done.stderr


@pytest.mark.stack("embedded")  # whatever the stack, and a process each
@pytest.mark.django_db
class TestCommand:
    def test_prints_what_processes_counted_that_have_ended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv(metrics.FOLDER, str(tmp_path / "metrics"))
        monkeypatch.setenv("KEYBITS_METRICS", "true")
        for _ in range(2):
            shell(COUNT)
        call_command("keybits_metrics")
        lines = capsys.readouterr().out.splitlines()
        assert 'keybits_answers_total{cache="hit",status="200"} 4.0' in lines
        assert 'keybits_answers_total{cache="uri-miss",status="200"} 2.0' in lines

    def test_serves_them_at_a_port_of_its_own_until_it_is_interrupted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
        port, log = reserve_port(), tmp_path / "log"
        command = [sys.executable, "manage.py", "keybits_metrics", "--serve", f"127.0.0.1:{port}"]
        with log.open("wb") as output, subprocess.Popen(command, cwd=CHECKOUT, stderr=output) as process:
            wait_until_ready(process, lambda: answers(port), log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0

    @pytest.mark.parametrize("folder", ["", "/nowhere"])
    def test_without_a_folder_says_so(self, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
        monkeypatch.setenv(metrics.FOLDER, folder)
        with pytest.raises(CommandError, match="name the folder"):
            call_command("keybits_metrics")

    def test_without_the_extra_says_which_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with pytest.raises(CommandError, match="prometheus-client: the extra `metrics`"):
            call_command("keybits_metrics")

    @pytest.mark.parametrize("address", ["9464", ":9464", "localhost:", "localhost:0", "localhost:65536"])
    def test_an_address_that_is_none_is_refused(self, address: str) -> None:
        with pytest.raises(CommandError, match="not HOST:PORT"):
            call_command("keybits_metrics", "--serve", address)

    def test_an_address_that_is_taken_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(metrics.FOLDER, str(tmp_path))
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "{}:{}".format(*taken.getsockname())
            with pytest.raises(CommandError, match=f"Cannot serve at {address}: "):
                call_command("keybits_metrics", "--serve", address)


def shell(code: str) -> None:
    subprocess.run([sys.executable, "manage.py", "shell", "-v0", "-c", code], cwd=CHECKOUT, check=True)


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics") as told:
            return bool(told.status == 200)
    except OSError:
        return False
