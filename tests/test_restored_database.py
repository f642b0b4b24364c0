"""A backup is put back under running servers: what they have cached of what came after it is shown no more."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from stacks.live import PATIENCE, LiveServer
from stacks.plugin import Stack
from stacks.servers import Postgres

PATH = "/api/v1/galleries/a/"
GALLERY = "Gallery.objects.create(slug='a', title='before')"
RENAMED = "gallery = Gallery.objects.get(slug='a'); gallery.title = 'after'; gallery.save()"


class SQLiteBackup:
    """A copy of the file, made and put back as `sqlite3`'s `.backup` and `.restore` do it."""

    def __init__(self, live: LiveServer) -> None:
        self._file = live.environment["DATABASE_URL"].removeprefix("sqlite:///")
        self._copy = str(live.directory / "backup.sqlite3")
        self._replace(self._copy, self._file)

    def restore(self) -> None:
        self._replace(self._file, self._copy)

    def take_the_place(self) -> None:
        """Be the file from now on, as after `mv`."""
        Path(self._copy).replace(self._file)
        for name in ("-wal", "-shm"):
            Path(self._file + name).unlink(missing_ok=True)

    def _replace(self, target: str, source: str) -> None:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
            read.backup(written)


class PostgresBackup:
    """Another database, which takes the first one's place and name."""

    def __init__(self, live: LiveServer, postgres: Postgres) -> None:
        self._name = live.directory.name
        self._postgres = postgres
        self._copy = f"{self._name}_backup"
        self._alone(f'CREATE DATABASE "{self._copy}" TEMPLATE "{self._name}"')

    def restore(self) -> None:
        self._alone(f'DROP DATABASE "{self._name}"')
        self._postgres.execute(f'ALTER DATABASE "{self._copy}" RENAME TO "{self._name}"')

    def _alone(self, statement: str) -> None:
        """Run what nobody may be connected for."""
        self._postgres.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false')
        self._postgres.execute(
            f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{self._name}'"  # noqa: S608
        )
        self._postgres.execute(statement)
        if not statement.startswith("DROP"):
            self._postgres.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true')


def test_what_came_after_a_backup_is_shown_no_more_once_it_is_restored(
    live_server_process: Callable[..., LiveServer], stack: Stack
) -> None:
    live = live_server_process(workers=2)
    live.shell(GALLERY)
    live.settle()
    backup = SQLiteBackup(live) if stack.postgres is None else PostgresBackup(live, stack.postgres)
    live.shell(RENAMED)
    live.settle()
    until(live, lambda answer: "hit" in answer.headers["cache-status"])
    assert live.get(PATH).json()["title"] == "after"
    backup.restore()
    until(live, lambda answer: answer.json()["title"] == "before")


@pytest.mark.stack("embedded")
def test_a_file_that_takes_the_place_of_another_is_read_and_what_is_written_to_it_is_seen(
    live_server_process: Callable[..., LiveServer],
) -> None:
    """Whoever has opened the one before would go on reading that."""
    live = live_server_process(workers=2)
    live.shell(GALLERY)
    live.settle()
    file = Path(live.environment["DATABASE_URL"].removeprefix("sqlite:///"))
    other = SQLiteBackup(live)
    live.shell(RENAMED)
    live.settle()
    until(live, lambda answer: answer.json()["title"] == "after" and "hit" in answer.headers["cache-status"])
    other.take_the_place()
    until(live, lambda answer: answer.json()["title"] == "before" and "hit" in answer.headers["cache-status"])
    with closing(sqlite3.connect(file, timeout=20)) as connection, connection:
        connection.execute("UPDATE catalog_gallery SET title = 'by another'")
    until(live, lambda answer: answer.json()["title"] == "by another")


def until(live: LiveServer, is_right: Callable[[Any], bool]) -> None:
    """Ask until the answer is right; while the database is away there may be none."""
    deadline = monotonic() + PATIENCE
    while not ((answer := live.get(PATH)).status_code == 200 and is_right(answer)):
        assert monotonic() < deadline, (answer.status_code, answer.headers, answer.text)
