"""`manage.py keybits_relay`: run the relay, from the record of changes to the store, in a process of its own."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from keybits.fencing import ContestedError
from keybits.relay import Relay
from keybits.roster import UnannouncedError
from keybits.stores import StoreError
from keybits.trigger_health import UntrackedError


class Command(BaseCommand):
    help = "Close the scopes that writers did not: of raw SQL, of other services, of processes that died."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="Look once and print how many rows were handled."
        )

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        relay = Relay()
        if once:
            self._once(relay)
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: relay.stopped.set())
        relay.run()

    def _once(self, relay: Relay) -> None:
        try:
            self.stdout.write(f"{relay.once()} rows")
        except (Error, StoreError, ContestedError, UnannouncedError, UntrackedError) as error:
            raise CommandError(f"Nothing was vouched for: {error}") from error
        relay.sweep()
