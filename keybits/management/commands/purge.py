"""`manage.py purge`: purge the caches in front now, by address, by scope, or entirely."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keybits import edge
from keybits.delivery import orders
from keybits.purge import Order


class Command(BaseCommand):
    help = "Purge the caches in KEYBITS_PURGERS. Exits with 1 if one of them does not acknowledge."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", action="append", default=[], help="An absolute URL; repeatable.")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            help="A scope, such as gallery:spring: purge all answers made from it; repeatable.",
        )
        parser.add_argument("--all", action="store_true", help="Purge every answer ever sent.")
        parser.add_argument(
            "--hard",
            action="store_true",
            help="Remove answers instead of making them stale. Takedowns are always removed.",
        )
        parser.add_argument("--purger", action="append", default=[], help="Only this one of KEYBITS_PURGERS.")

    def handle(self, *args: Any, purger: list[str], **options: Any) -> None:
        wanted = _orders(options)
        names = _named(purger)
        failures = {name: failure for order in wanted for name, failure in edge.purge(order, names).items()}
        if failures:
            raise CommandError("Not purged. " + "; ".join(f"{name}: {failures[name]}" for name in failures))
        self.stdout.write(self.style.SUCCESS(f"Purged: {', '.join(names)}."))


def _orders(options: dict[str, Any]) -> list[Order]:
    """Return the orders to send. Takedowns are hard, as in the delivery of recorded changes."""
    order = _order(options)
    if options["hard"]:
        return [order]
    rest = replace(order, scopes=())
    return [*orders(order.scopes), *([rest] if rest.urls or rest.everything else ())]


def _order(options: dict[str, Any]) -> Order:
    order = Order(
        scopes=tuple(options["scope"]),
        urls=tuple(options["url"]),
        everything=options["all"],
        soft=not options["hard"],
    )
    if not (order.scopes or order.urls or order.everything):
        raise CommandError("Give --url, --scope or --all.")
    if not all(scope.strip() for scope in order.scopes):
        raise CommandError("--scope is empty; give a scope such as gallery:spring.")
    if relative := [url for url in order.urls if not url.startswith(("http://", "https://"))]:
        raise CommandError(f"{relative[0]!r} is not an absolute URL; write https://host/path.")
    return order


def _named(names: list[str]) -> list[str]:
    purgers = edge.purgers()
    if not purgers:
        raise CommandError("There is nothing to purge: KEYBITS_PURGERS is empty.")
    if unknown := sorted(set(names) - purgers.keys()):
        raise CommandError(f"There is no purger {unknown[0]!r}; there are: {', '.join(purgers)}.")
    return [name for name in purgers if not names or name in names]
