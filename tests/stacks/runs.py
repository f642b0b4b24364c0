"""Where one test run keeps its files, and what is left when it ends: nothing, however it ends.

A run owns one temporary directory, and every process started under it carries the directory's name in its
environment. A janitor in a session of its own waits for the pytest process to end, whether by its last line,
an interrupt or SIGKILL, then kills what still carries the name and removes the directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import psutil  # type: ignore[import-untyped]

MARK = "KEYBITS_TEST_RUN"
"""The environment variable that says which run a process belongs to: the run's directory."""


def begin() -> Path:
    """Make the directory of a new run, mark this process's children with it, and post its janitor."""
    run = Path(tempfile.mkdtemp(prefix="keybits-tests-")).resolve()
    run.chmod(0o711)  # PostgreSQL refuses root, so as root its files below belong to another user
    os.environ[MARK] = str(run)
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    subprocess.Popen(
        [sys.executable, __file__, str(os.getpid()), str(run)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return run


def end(run: Path) -> None:
    """Kill what still belongs to the run and remove its directory."""
    for _ in range(10):
        left = list(_processes_of(run))
        if not left:
            break
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        wait_until_dead(left)
    shutil.rmtree(run, ignore_errors=True)


def _processes_of(run: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and _belongs(process, run):
                yield process


def _belongs(process: psutil.Process, run: Path) -> bool:
    """Redis and PostgreSQL write their titles over their environment, but work in a directory of the run."""
    if not alive(process):
        return False
    if process.environ().get(MARK) == str(run):
        return True
    return process.name() in {"postgres", "redis-server"} and Path(process.cwd()).is_relative_to(run)


def alive(process: psutil.Process) -> bool:
    """Whether the process still does or holds anything; a zombie, which only its parent can remove, does not.

    A process that was killed is called a zombie as soon as its first thread has ended. Until the last one has, its
    sockets are open: what connects to them now is reset.
    """
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def wait_until_dead(processes: Iterable[psutil.Process], seconds: float = 10.0) -> None:
    """Return when none is alive, or after `seconds`."""
    _wait(lambda process: not alive(process), list(processes), seconds)


def wait_until_stopped(processes: Iterable[psutil.Process], seconds: float = 10.0) -> None:
    """Return when SIGSTOP has reached each of them, or after `seconds`."""
    _wait(_stopped, list(processes), seconds)


def _stopped(process: psutil.Process) -> bool:
    return not alive(process) or process.status() == psutil.STATUS_STOPPED


def _wait(
    condition: Callable[[psutil.Process], bool], processes: list[psutil.Process], seconds: float
) -> None:
    """The kernel reports neither event to anybody but the parent, so look every hundredth of a second."""
    deadline = monotonic() + seconds
    while not all(condition(process) for process in processes) and monotonic() < deadline:
        sleep(0.01)


def main() -> None:
    """Be the janitor: `runs.py PID DIRECTORY`."""
    pid, run = int(sys.argv[1]), Path(sys.argv[2])
    with suppress(psutil.NoSuchProcess):
        pytest = psutil.Process(pid)
        while alive(pytest):  # a zombie that nobody reaps never lets a wait return
            with suppress(psutil.TimeoutExpired):
                pytest.wait(timeout=1)
    end(run)


if __name__ == "__main__":
    main()
