"""A second database beside that of the tests, to which a router may lead: SQLite, in memory, on every stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.models import Model

__all__ = ["second_database"]


@contextmanager
def second_database(alias: str, *models: type[Model]) -> Iterator[Any]:
    """Have a database under this alias, with the tables of these models and nothing else; yield its connection."""
    own = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    second = DatabaseWrapper({**connections.settings["default"], **own}, alias)
    second.ensure_connection()  # before Django's test case hears of the alias
    connections.settings[alias] = second.settings_dict
    connections[alias] = second
    try:
        with second.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
        yield second
    finally:
        del connections[alias]
        del connections.settings[alias]
