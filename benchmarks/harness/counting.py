"""A WSGI entry point that counts how often the database is asked for a page of the list, by all processes together.

`BENCHMARK_TARGET` is the application, `BENCHMARK_COUNT` a file that grows by one byte for each such statement.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from django.db.backends.signals import connection_created

_FILE = os.open(os.environ["BENCHMARK_COUNT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _count(execute: Any, sql: str, *arguments: Any) -> Any:
    if sql.startswith("SELECT") and 'FROM "catalog_screenshot"' in sql:
        os.write(_FILE, b".")
    return execute(sql, *arguments)


def _watch(connection: Any, **_: Any) -> None:
    if _count not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count)


connection_created.connect(_watch)
_module, _, _name = os.environ["BENCHMARK_TARGET"].partition(":")
application = getattr(import_module(_module), _name)
