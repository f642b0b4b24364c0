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
        _keep_tokens_to_themselves()
        post_migrate.connect(_mend, sender=self, dispatch_uid="accounts triggers")


def _keep_tokens_to_themselves() -> None:
    """Have a token named after its user: REST framework's text of one is its key, and goes wherever rows are named."""
    from rest_framework.authtoken.models import Token  # noqa: PLC0415 - models are not there before

    def named(token: Any) -> str:
        return f"the token of {token.user}"

    Token.__str__ = named  # type: ignore[method-assign]


def _mend(using: str, **_: Any) -> None:
    from catalog.accounts import append_only  # noqa: PLC0415 - as late as it is needed

    append_only.make_triggers(connections[using])
