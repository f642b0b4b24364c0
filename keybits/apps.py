"""What keybits sets up when Django starts: its system checks, the watching of connections, and signal handlers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate, pre_migrate

from keybits import checks
from keybits.conf import conf
from keybits.entries import fingerprint


class KeybitsConfig(AppConfig):
    name = "keybits"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "keybits"

    def ready(self) -> None:
        _know_the_code()
        from keybits import tracking, view_checks  # noqa: PLC0415 - need the settings

        _watch_writes()
        _audit()
        for check in (checks.check_store, checks.check_settings, checks.check_middleware):
            register(check, Tags.caches)
        register(tracking.check_declarations, Tags.caches)
        register(view_checks.check_views, Tags.urls)
        pre_migrate.connect(tracking.step_aside, sender=self, dispatch_uid="keybits readers")
        post_migrate.connect(tracking.keep, dispatch_uid="keybits triggers")


def _know_the_code() -> None:
    """Compute the fingerprint of the running code now: a deployment may replace it on disk before the first request.

    Errors in the settings that it reads are ignored here, because a system check reports them.
    """
    with suppress(AttributeError, ImportError, TypeError, ValueError):
        fingerprint()


def _watch_writes() -> None:
    """Watch the connections that exist, and those that are made later."""
    from keybits import transactions  # noqa: PLC0415 - needs the settings

    for connection in connections.all(initialized_only=True):
        transactions.watch(connection)
    connection_created.connect(_watch, dispatch_uid="keybits watch")


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    from keybits import transactions  # noqa: PLC0415 - needs the settings

    transactions.watch(connection)


def _audit() -> None:
    from keybits import audit  # noqa: PLC0415 - needs the settings

    if conf.AUDIT != "off":
        audit.install()
