"""How the server stack runs beside the embedded one: a second pytest, the same arguments, one verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

TOTALS = "KEYBITS_TEST_TOTALS"
"""The environment variable that tells the second pytest where to write its totals."""

FIRST = ("passed", "failed", "error")


class SecondRun:
    """The second pytest, and the hooks by which the first waits for it.

    Its whole output goes to a file, so that it never mixes with the first's.
    """

    def __init__(self, config: pytest.Config, run: Path) -> None:
        self.output = run / "server-stack.txt"
        self.totals_file = run / "server-stack.json"
        self.reported = False
        width = {"COLUMNS": str(config.get_terminal_writer().fullwidth)}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *_arguments(config)],
                cwd=config.invocation_params.dir,
                env={**os.environ, **width, TOTALS: str(self.totals_file)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # else Ctrl-C would reach it twice: from the terminal and from us
            )

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Pass Ctrl-C on, but not an end that the tests brought about, such as an error in collection."""
        if not isinstance(excinfo.value, pytest.Session.Interrupted):
            self.interrupt()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Wait for the second run: the session's exit status is about both."""
        session.exitstatus = verdict(exitstatus, self.wait())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """Outermost: the second report stands below the whole of the first and above the closing line."""
        result = yield
        first, second = totals(terminalreporter), self.totals()
        terminalreporter.write_sep("#", "the same tests on the server stack: PostgreSQL and Redis", bold=True)
        terminalreporter.write_line(self._text())
        terminalreporter.write_sep("#", "both stacks", bold=True)
        terminalreporter.write_line(f"embedded: {_phrase(first)}")
        terminalreporter.write_line(f"server: {_phrase(second)} (exit code {self.process.returncode})")
        for outcome, count in second.items() if not terminalreporter.config.option.collectonly else ():
            # pytest's closing line counts what its statistics hold: one entry is one test.
            terminalreporter._add_stats(outcome, [None] * count)
        self.reported = True
        return result

    def pytest_unconfigure(self) -> None:
        """After an internal error pytest prints no summary: end the second run and show what it said."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if not self.reported:
            sys.stderr.write(f"The server stack said:\n{self._text()}\n")

    def interrupt(self) -> None:
        """Ask the second run to end as on Ctrl-C: with its report."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Wait for the end and return the exit code; Ctrl-C while waiting is passed on."""
        try:
            return self.process.wait()
        except KeyboardInterrupt:
            self.interrupt()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=30)
            return pytest.ExitCode.INTERRUPTED

    def totals(self) -> dict[str, int]:
        """The second run's counts by outcome; one error if it did not live to write them."""
        try:
            counts: dict[str, int] = json.loads(self.totals_file.read_text())
        except FileNotFoundError:
            return {"error": 1}
        return counts

    def _text(self) -> str:
        return self.output.read_text(errors="replace").rstrip("\n")


def verdict(first: int, second: int) -> int:
    """One exit code for two runs: the first failure; "no tests" only if neither had any.

    A second run that was killed (a negative code) counts as an internal error.
    """
    none = pytest.ExitCode.NO_TESTS_COLLECTED
    if first == second == none:
        return none
    failures = [code for code in (first, second) if code not in (pytest.ExitCode.OK, none)]
    if not failures:
        return pytest.ExitCode.OK
    return failures[0] if failures[0] > 0 else pytest.ExitCode.INTERNAL_ERROR


def totals(reporter: pytest.TerminalReporter) -> dict[str, int]:
    """The counts by outcome, as pytest's own closing line has them."""
    counts = {
        outcome: sum(getattr(report, "count_towards_summary", True) for report in reports)
        for outcome, reports in sorted(reporter.stats.items(), key=lambda item: item[0] not in FIRST)
    }
    return {outcome: count for outcome, count in counts.items() if outcome and count}


def write_totals(reporter: pytest.TerminalReporter, file: Path) -> None:
    """Leave this run's totals for the run that started it."""
    file.write_text(json.dumps(totals(reporter)))


def _phrase(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "no tests ran"


def _arguments(config: pytest.Config) -> list[str]:
    """The same command line for the other stack, what the run writes kept apart from the first's."""
    colour = "yes" if config.get_terminal_writer().hasmarkup else "no"
    added = ["--stack=server", f"--color={colour}"]
    if config.pluginmanager.has_plugin("cacheprovider"):
        added += ["-o", f"cache_dir={config.getini('cache_dir')}/server"]
    if config.option.xmlpath:
        added += [f"--junit-xml={Path(config.option.xmlpath).with_suffix('.server.xml')}"]
    arguments = [str(argument) for argument in config.invocation_params.args]
    end_of_options = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:end_of_options], *added, *arguments[end_of_options:]]
