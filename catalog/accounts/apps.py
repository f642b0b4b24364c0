"""The application's registration."""

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
        post_migrate.connect(_mend, sender=self, dispatch_uid="accounts triggers")


def _mend(using: str, **_: Any) -> None:
    from catalog.accounts import append_only  # noqa: PLC0415 - as late as it is needed

    append_only.make_triggers(connections[using])
