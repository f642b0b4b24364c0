"""`manage.py apikey`: issue, list and revoke keys. A key is printed once, when issued, alone on standard output."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from catalog.accounts import keys
from catalog.accounts.models import LATEST, ApiKey, Scope
from catalog.management.arguments import user_named, utf8
from catalog.management.printing import on_one_line

OPTIONS = {"name": "--name", "scopes": "--scope", "expires_at": "--expires"}
"""The options that fields of a key are set by."""


class Command(BaseCommand):
    help = "Issues, lists and revokes API keys."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        issue = actions.add_parser("issue", help="Create a key and print it. It cannot be shown again.")
        issue.add_argument("user", type=utf8, help="The name of the user that the key is for.")
        issue.add_argument("--name", type=utf8, required=True, help="What the key is for.")
        issue.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=Scope.values,
            help="What the key permits; repeatable.",
        )
        issue.add_argument("--expires", help="An ISO 8601 date or time, in UTC unless it has an offset.")
        listing = actions.add_parser("list", help="Print the keys, without their secrets.")
        listing.add_argument("--user", type=utf8, help="Only the keys of this user.")
        revoke = actions.add_parser("revoke", help="Revoke a key.")
        revoke.add_argument("prefix", type=utf8, help="The part of the key before the dot.")

    def handle(self, *, action: str, **options: Any) -> None:
        """Run the action. Raises `CommandError`, with nothing changed, if it fails."""
        actions: dict[str, Callable[..., None]] = {
            "issue": self._issue,
            "list": self._list,
            "revoke": self._revoke,
        }
        actions[action](**options)

    def _issue(self, *, user: str, name: str, scope: list[str], expires: str | None, **_: Any) -> None:
        try:
            scopes = list(dict.fromkeys(scope))
            owner, ends = user_named(user), _moment(expires)
            secret = keys.issue(user=owner, name=name, scopes=scopes, expires_at=ends)[1]
        except ValidationError as error:
            raise CommandError("; ".join(_told(error))) from error
        self.stderr.write("Store this key now: it cannot be shown again.")
        self.stdout.write(secret.reveal())

    def _list(self, *, user: str | None, **_: Any) -> None:
        found = ApiKey.objects.select_related("account__user")
        if user is not None:
            found = found.filter(account__user=user_named(user))
        for key in found:
            scopes = ",".join(key.scopes)
            line = f"{key.prefix}  {_state(key):7}  {scopes:19}  {key.user}  {key.name}"
            self.stdout.write(on_one_line(line))

    def _revoke(self, *, prefix: str, **_: Any) -> None:
        key = ApiKey.objects.filter(prefix=prefix.partition(".")[0]).first()
        if key is None:
            raise CommandError("No key has this prefix; `manage.py apikey list` prints all prefixes.")
        keys.revoke(key=key)
        self.stdout.write(on_one_line(f"{key} is revoked."))


def _told(error: ValidationError) -> list[str]:
    """Return what is wrong, each with the option that it is about."""
    if not hasattr(error, "error_dict"):
        return error.messages
    found = error.message_dict.items()
    return [f"{OPTIONS.get(field, field)}: {each}" for field, said in found for each in said]


def _moment(text: str | None) -> datetime | None:
    """Return the time in `text`; for a date, its beginning. Raise `CommandError` if it is malformed or past."""
    if text is None:
        return None
    try:
        moment = _read(text)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment > LATEST:
        raise CommandError(
            "--expires takes a date or time until 9999-12-31T00:00Z, such as 2030-01-31 or 2030-01-31T12:00Z, "
            f"not {text!r}."
        )
    if moment <= timezone.now():
        raise CommandError(f"--expires {text} is in the past: the key would never be valid.")
    return moment


def _read(text: str) -> datetime | None:
    """Return the time in UTC. If it is malformed, return None or raise ValueError; OverflowError if out of range."""
    day = parse_date(text)
    moment = datetime(day.year, day.month, day.day) if day else parse_datetime(text)  # noqa: DTZ001 - just below
    if moment is None:
        return None
    return (timezone.make_aware(moment) if timezone.is_naive(moment) else moment).astimezone(UTC)


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "good" if key.is_good() else "ended"
