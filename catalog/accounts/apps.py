"""The application's registration, and what it does at start-up and after `migrate`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "catalog.accounts"
    label = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        _keep_tokens_to_themselves()
        post_migrate.connect(_mend, sender=self, dispatch_uid="accounts triggers")


def _keep_tokens_to_themselves() -> None:
    """Name tokens after their users: REST framework's `str` of one is its key, which would show wherever rows are."""
    from rest_framework.authtoken.models import Token  # noqa: PLC0415 - models are not loaded before

    def named(token: Any) -> str:
        return f"the token of {token.user}"

    Token.__str__ = named  # type: ignore[method-assign]


def _mend(using: str, **_: Any) -> None:
    from catalog.accounts import append_only  # noqa: PLC0415 - models are not loaded before

    append_only.make_triggers(connections[using])
