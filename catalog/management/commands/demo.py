"""`manage.py demo`: migrate, import the bundled galleries and serve them, in one command.

The server replaces this process, so that stopping the command stops the server.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.http.request import validate_host

if TYPE_CHECKING:
    from argparse import ArgumentParser

WELCOME = """
The API      {root}/api/v1/
Its pages    {root}/api/v1/docs/
Its schema   {root}/api/v1/schema/

Try it, then ask again only for what has changed (a 304, without a body):
  curl -i '{root}/api/v1/screenshots/?page_size=3' --etag-save tag.txt
  curl -i '{root}/api/v1/screenshots/?page_size=3' --etag-compare tag.txt
"""

# Per process. Granian's default is hundreds of threads, each of which would hold a database connection.
THREADS = ("--blocking-threads", "4")


class Command(BaseCommand):
    help = "Migrates, imports the bundled galleries (once), and serves them with granian until it is stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="Address to serve on (default: 127.0.0.1).")
        parser.add_argument("--port", type=int, default=8000, help="Port to serve on (default: 8000).")
        parser.add_argument("--workers", type=int, default=2, help="Processes that serve (default: 2).")
        parser.add_argument("--no-serve", action="store_true", help="Migrate and import, then stop.")

    def handle(self, *, host: str, port: int, workers: int, no_serve: bool, **options: Any) -> None:
        """Prepare everything, then become the server. Raises `CommandError` before anything is changed."""
        address = "" if no_serve else _checked(host, port, workers)
        call_command("migrate", interactive=False, verbosity=0, stdout=self.stdout)
        call_command("import_gallery", demo_folder(), stdout=self.stdout, stderr=self.stderr)
        if address:
            self.stdout.write(WELCOME.format(root=root_url(host, port)))
            serve(address, port, workers)


def demo_folder() -> Path:
    """Return the folder of the galleries that come with the package."""
    return Path(apps.get_app_config("catalog").path, "demo")


def root_url(host: str, port: int) -> str:
    """Return the URL to open in a browser on this machine, without a trailing slash."""
    return f"http://{_name(host)}:{port}"


def _name(host: str) -> str:
    """Return the host that a browser sends in `Host`."""
    if host in ("127.0.0.1", "0.0.0.0", "::1", "::"):  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host.lower()


def server_command(address: str, port: int, workers: int) -> list[str]:
    """Return the command line of the server for this project, with this interpreter."""
    module, _, name = (settings.WSGI_APPLICATION or "").rpartition(".")
    where = ["--host", address, "--port", str(port), "--workers", str(workers)]
    return [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--no-ws",
        *THREADS,
        *where,
        f"{module}:{name}",
    ]


def serve(address: str, port: int, workers: int) -> NoReturn:
    """Become the server, which gets this process's id and so its signals. `address` is an IP address. Never returns."""
    connections.close_all()
    sys.stdout.flush()
    sys.stderr.flush()
    # The server is a new interpreter; give it the import path of this one, whatever the current folder.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    os.execve(sys.executable, server_command(address, port, workers), environment)  # noqa: S606 - no shell is wanted


def _checked(host: str, port: int, workers: int) -> str:
    """Return the IP address to serve on. Raise `CommandError` if no request could be answered there."""
    if workers < 1:
        raise CommandError("A server needs at least one worker: --workers 1.")
    if not 0 < port < 65_536:  # the resolver would take it modulo 65536
        raise CommandError(f"{port} is not a port. Give one from 1 to 65535: manage.py demo --port 8000")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except UnicodeError as error:
        raise CommandError(f"{host!r} is not a host name.") from error
    except OSError as error:
        raise CommandError(_why(error, host, port)) from error
    _check_name(_name(host), host)
    return str(address[0])


def _check_name(name: str, host: str) -> None:
    if not validate_host(name, settings.ALLOWED_HOSTS):
        hosts = ",".join([*settings.ALLOWED_HOSTS, name])
        raise CommandError(
            f"{name} is not in ALLOWED_HOSTS, so every request would be refused. "
            f"Try: ALLOWED_HOSTS={hosts} python manage.py demo --host {host}"
        )


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use. Stop what listens there, or try: manage.py demo --port {port + 1}"
    if error.errno == errno.EACCES:
        return f"This user may not use port {port}. Take one above 1023: manage.py demo --port 8000"
    return f"Cannot serve on {host}:{port} ({error}). Give an address of this machine and a free port."
