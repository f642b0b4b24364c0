"""`manage.py keybits_metrics`: the metrics of all processes on this host, in Prometheus's format."""

from __future__ import annotations

import os
import signal
import threading
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keybits.gauges import Gauges
from keybits.metrics import FOLDER


class Command(BaseCommand):
    help = "Print the metrics of all processes on this host in Prometheus's format, or serve them on a port."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--serve",
            type=_address,
            metavar="HOST:PORT",
            help="Serve them there until interrupted. Anybody who can reach that port can read them.",
        )

    def handle(self, *args: Any, serve: tuple[str, int] | None, **options: Any) -> None:
        folder = os.environ.get(FOLDER, "")
        if not Path(folder).is_dir() or not folder:
            raise CommandError(
                f"{FOLDER} is {folder!r}: name the folder where the serving processes keep their metrics."
            )
        try:
            from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - an extra
            from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - as above
        except ImportError:
            raise CommandError("This command needs prometheus-client: the extra `metrics`.") from None
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        registry.register(Gauges())
        if serve is None:
            self.stdout.write(generate_latest(registry).decode(), ending="")
        else:
            self._serve(registry, *serve)

    def _serve(self, registry: Any, host: str, port: int) -> None:
        from prometheus_client import start_http_server  # noqa: PLC0415 - as above

        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise CommandError(f"Cannot serve at {host}:{port}: {error}.") from None
        stopped.wait()
        server.shutdown()
        thread.join()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9464")
    return host.strip("[]"), int(port)
