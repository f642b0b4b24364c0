"""The application's registration, its system checks included."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate

from keybits import checks
from keybits.conf import conf
from keybits.entries import fingerprint


class KeybitsConfig(AppConfig):
    name = "keybits"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "keybits"

    def ready(self) -> None:
        _know_the_code()
        _watch_writes()
        _audit()
        for check in (checks.check_store, checks.check_settings, checks.check_middleware):
            register(check, Tags.caches)


def _know_the_code() -> None:
    """Take the fingerprint of the code that runs: a deployment may replace it on disk before the first request comes.

    What is wrong with the settings for that, a check says.
    """
    with suppress(AttributeError, ImportError, TypeError, ValueError):
        fingerprint()


def _watch_writes() -> None:
    """Watch every connection there is and will be, and keep the triggers as they are declared."""
    from keybits import transactions  # noqa: PLC0415 - needs the settings

    for connection in connections.all(initialized_only=True):
        transactions.watch(connection)
    connection_created.connect(_watch, dispatch_uid="keybits watch")
    post_migrate.connect(_sync_triggers, dispatch_uid="keybits triggers")


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    from keybits import transactions  # noqa: PLC0415 - needs the settings

    transactions.watch(connection)


def _sync_triggers(app_config: AppConfig, using: str, **_: Any) -> None:
    from keybits import changes, invalidation, triggers  # noqa: PLC0415 - needs the settings

    connection = connections[using]
    if not changes.is_kept(connection):
        return
    declared = [
        each for each in invalidation.declarations() if each.model._meta.app_label == app_config.label
    ]
    tables = (
        connection.introspection.table_names() if declared else ()
    )  # after `migrate APP zero` it has none
    for declaration in declared:
        model = declaration.model
        if model._meta.db_table in tables and router.allow_migrate_model(using, model):
            triggers.sync(connection, model, declaration.templates)


def _audit() -> None:
    from keybits import audit  # noqa: PLC0415 - needs the settings

    if conf.AUDIT != "off":
        audit.install()
