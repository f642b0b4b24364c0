"""How a test runs Varnish and nginx: the files of docs/deploy/ as they are, but for the addresses in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest
from stacks.servers import Server

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
PARAMETERS = ("http_gzip_support=off", "backend_remote_error_holddown=0")
"""As the README of docs/deploy/ says; later ones overrule them."""
PATIENCE = 20.0
"""Seconds after which an event that a test waits for will not come."""


def program(name: str) -> str:
    """Return where `name` is; skip the test where it is not installed, or fail it if REQUIRE_PROGRAMS is set."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin")
    if found is not None:
        return found
    reason = f"{name} is not installed: apt-get install varnish varnish-modules nginx pgbouncer"
    if os.environ.get("REQUIRE_PROGRAMS"):
        pytest.fail(f"{reason} (REQUIRE_PROGRAMS is set)", pytrace=False)
    pytest.skip(reason)


def substituted(file: str, replacements: dict[str, str]) -> str:
    """Return a file of docs/deploy/ with your addresses for those in it; each must be there."""
    text = (DEPLOY / file).read_text()
    for old, new in replacements.items():
        assert old in text, f"{file} has no {old!r}"
        text = text.replace(old, new)
    return text


class Varnish(Server):
    """A varnishd with its own working directory, before the origin on `origin_port`."""

    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, origin_port: int, *parameters: str) -> None:
        super().__init__(directory)
        self.binary = program("varnishd")
        self.work = directory / "work"
        self.vcl = directory / "varnish.vcl"
        self.parameters = (*PARAMETERS, *parameters)
        self.vcl.write_text(substituted("varnish.vcl", {'.port = "8000"': f'.port = "{origin_port}"'}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        listen = ["-F", "-j", "none", "-n", str(self.work), "-a", f"127.0.0.1:{self.port}"]
        storage = ["-s", "malloc,64m", "-s", "Transient=malloc,64m", "-f", str(self.vcl)]
        return [self.binary, *listen, *storage, *(part for each in self.parameters for part in ("-p", each))]

    def ready(self) -> bool:
        return accepts(self.port)

    def forget(self) -> None:
        """Remove every object."""
        self.admin("ban", "obj.status != 0")

    def admin(self, *words: str) -> str:
        command = [program("varnishadm"), "-n", str(self.work), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def waiting(self) -> int:
        """Return how many requests wait for what another one has asked the origin for."""
        counters = self.counters()
        return counters["MAIN.busy_sleep"] - counters["MAIN.busy_wakeup"]

    def counters(self) -> dict[str, int]:
        """Return the counters of varnish-counters(7)."""
        command = [program("varnishstat"), "-n", str(self.work), "-1", "-j"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return {name: each["value"] for name, each in json.loads(done.stdout)["counters"].items()}


class Nginx(Server):
    """An nginx with the file in its http block, before the origin on `origin_port`."""

    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, origin_port: int) -> None:
        super().__init__(directory)
        self.binary = program("nginx")
        etc = _debian(directory, self.port)
        _as_the_readme_says(directory)
        replacements = {
            "127.0.0.1:8000": f"127.0.0.1:{origin_port}",
            "listen 80 ": f"listen 127.0.0.1:{self.port} ",
            "listen [::]:80 ": f"listen [::1]:{self.port} "
            if has_ipv6()
            else f"listen 127.0.0.2:{self.port} ",
            "/var/cache/nginx": str(directory / "cache"),
            "/run/gallery-revalidate.sock": str(directory / "revalidate.sock"),
        }
        (etc / "conf.d" / "gallery.conf").write_text(substituted("nginx.conf", replacements))
        self.main = directory / "main.conf"
        self.main.write_text(_main(directory))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [self.binary, "-p", str(self.directory), "-c", str(self.main), "-e", "stderr"]

    def ready(self) -> bool:
        return accepts(self.port)


def _debian(directory: Path, port: int) -> Path:
    """Lay out /etc/nginx as Debian's package does, with its site that answers whoever no other one does."""
    etc = directory / "etc"
    for name in ("conf.d", "sites-enabled"):
        (etc / name).mkdir(parents=True)
    site = f'server {{ listen 127.0.0.1:{port} default_server; return 200 "Welcome to nginx!"; }}'
    (etc / "sites-enabled" / "default").write_text(site)
    return etc


def _as_the_readme_says(directory: Path) -> None:
    """Run the commands of its section on nginx, in this directory; there need be no www-data here."""
    (commands,) = re.findall(
        r"^## nginx\n\n```sh\n(.*?)^```", (DEPLOY / "README.md").read_text(), re.M | re.S
    )
    here = {"/etc/nginx": f"{directory}/etc", "/var/cache/nginx": f"{directory}/cache", "-o www-data ": ""}
    for old, new in here.items():
        assert old in commands
        commands = commands.replace(old, new)
    subprocess.run(["sh", "-ec", commands], check=True, cwd=DEPLOY.parents[1])


def _main(directory: Path) -> str:
    """What a distribution's own nginx.conf has around the file."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"  {kind}_temp_path {directory}/{kind};" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    return f"""{user}daemon off;
pid {directory}/nginx.pid;
worker_processes 2;
events {{}}
http {{
{paths}
  access_log off;
  include {directory}/etc/conf.d/*.conf;
  include {directory}/etc/sites-enabled/*;
}}
"""


def client(url: str) -> httpx.Client:
    """Return a client that sends what it is told, and no Accept-Encoding of its own."""
    connected = httpx.Client(base_url=url, trust_env=False, timeout=30)
    del connected.headers["Accept-Encoding"]
    return connected


def raw(port: int, head: str) -> bytes:
    """Send these lines as they are, each with its end; return everything that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        last = "" if "Connection:" in head else "Connection: close\r\n"
        connection.sendall(f"{head}{last}\r\n".encode())
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def has_ipv6() -> bool:
    """Say whether this machine can listen on ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def eventually(happened: Callable[[], bool]) -> None:
    """Return when it has: for what another program only counts, and tells nobody."""
    deadline = monotonic() + PATIENCE
    while not happened():
        assert monotonic() < deadline, "it never happened"
        sleep(0.01)
