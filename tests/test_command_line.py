"""`manage.py` where the deployment keeps a command from running: a message that says what to do, and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, connection

from gallery_api import command_line

CHECKOUT = Path(__file__).resolve().parents[1]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.stack("embedded")  # whatever the stack, and a process each
class TestADeploymentThatKeepsACommandFromRunning:
    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("DEBUG", "maybe", "CommandError: DEBUG is 'maybe'; write true or false."),
            ("DATABASE_URL", "foo", "CommandError: DATABASE_URL is something else; write a URL such as "),
            ("DATABASE_URL", "sqlite:////nowhere/at/all", "cannot be used: unable to open database file\n"),
            ("DATABASE_URL", "postgres://u:p@localhost:1/x", "See what DATABASE_URL names, and"),
        ],
    )
    def test_is_told_of_in_a_message(self, name: str, value: str, told: str) -> None:
        done = command("apikey", "list", **{name: value})
        assert done.returncode == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr

    def test_is_told_of_where_the_database_is_another_file(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no database\n" * 100)
        done = command("apikey", "list", DATABASE_URL=f"sqlite:///{tmp_path}/notes.txt")
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert "cannot be used: file is not a database\n" in done.stderr

    def test_is_told_of_where_nothing_was_migrated(self, tmp_path: Path) -> None:
        done = command("prune_tombstones", DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert "no such table: catalog_tombstone" in done.stderr

    def test_is_told_of_with_a_traceback_to_whoever_asks_for_one(self) -> None:
        done = command("apikey", "list", "--traceback", DEBUG="maybe")
        assert "Traceback" in done.stderr
        assert done.stderr.endswith("DEBUG is 'maybe'; write true or false.\n")


class TestWhoInterruptsACommand:
    """By Ctrl-C, which is SIGINT."""

    SLEEP = "print('waiting', flush=True); time.sleep(60)"
    RELAY = (
        "from django.core.management import call_command; from keybits.relay import Relay; run = Relay.run;"
        "Relay.run = lambda relay: (print('waiting', flush=True), run(relay)); call_command('keybits_relay')"
    )

    def interrupt(self, *arguments: str, work: str = SLEEP) -> subprocess.CompletedProcess[str]:
        """Interrupt a shell at its `work`, once that has said that it waits."""
        heeded = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored where pytest was started with &
        code = f"import signal, time; {heeded}; {work}"
        shell = ["manage.py", "shell", "--verbosity", "0", "--command", code, *arguments]
        started = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", *shell],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert started.stdout is not None
        assert started.stdout.readline() == "waiting\n"
        started.send_signal(signal.SIGINT)
        try:
            output, errors = started.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGABRT)  # it writes where it stands
            raise AssertionError(started.communicate()) from None
        return subprocess.CompletedProcess(started.args, started.returncode, output, errors)

    def test_is_told_so_in_a_word_and_the_shell_that_it_was_an_interrupt(self) -> None:
        done = self.interrupt()
        assert done.stderr.strip() == "Interrupted."
        assert done.returncode == 130

    def test_that_runs_until_it_is_stopped_has_stopped_it_as_meant(self) -> None:
        assert self.interrupt(work=self.RELAY).returncode == 0

    def test_is_shown_where_by_a_traceback_if_asked_for(self) -> None:
        assert self.interrupt("--traceback").stderr.endswith("KeyboardInterrupt\n")


class TestAFaultOfTheCode:
    def test_keeps_its_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: list[str]) -> None:
            raise IntegrityError("a row refers to nothing")

        monkeypatch.setattr(command_line, "execute_from_command_line", fail)
        with pytest.raises(IntegrityError):
            command_line.run(["manage.py", "seed"])

    @pytest.mark.django_db(transaction=True)
    def test_is_a_statement_that_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not a database that cannot be used, although SQLite calls both operational errors."""
        monkeypatch.setattr(
            command_line,
            "execute_from_command_line",
            lambda _: connection.cursor().execute("SELECT FROM WHERE"),
        )
        with pytest.raises(DatabaseError):
            command_line.run(["manage.py", "seed"])

    @pytest.mark.stack("server")
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize(
        "condition", ["serialization_failure", "deadlock_detected", "lock_not_available"]
    )
    def test_is_none_where_others_were_at_work_in_a_database_that_can_be_used(
        self, monkeypatch: pytest.MonkeyPatch, condition: str
    ) -> None:
        def fail(_: list[str]) -> None:
            connection.cursor().execute(f"DO $$ BEGIN RAISE {condition}; END $$")

        monkeypatch.setattr(command_line, "execute_from_command_line", fail)
        with pytest.raises(SystemExit) as told:
            command_line.run(["manage.py", "seed"])
        assert str(told.value).startswith("CommandError: Others were at work in the database: ")
        assert "Run the command again." in str(told.value)

    def test_is_none_where_the_configuration_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: list[str]) -> None:
            raise ImproperlyConfigured("X is 1; write 2.")

        monkeypatch.setattr(command_line, "execute_from_command_line", fail)
        with pytest.raises(SystemExit, match=r"^CommandError: X is 1; write 2\.$"):
            command_line.run(["manage.py", "check"])
