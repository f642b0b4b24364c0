"""Behind PgBouncer, which gives each transaction another connection to PostgreSQL: nothing may rely on having one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from edge.programs import program
from stacks.plugin import Stack
from stacks.servers import Postgres, Server, unprivileged

from catalog.first_pages import urls
from catalog.models import Tag
from keybits import changes, selections
from keybits.invalidation import scopes_of
from keybits.relay import Relay
from keybits.stores import get_store

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]
SERVERS = 2
"""Connections to PostgreSQL, of which it takes the one that has been idle for longest."""


class PgBouncer(Server):
    """One in transaction pooling before `postgres`."""

    stop_signal = signal.SIGINT

    def __init__(self, postgres: Postgres, directory: Any) -> None:
        super().__init__(directory)
        self._start_options = unprivileged(directory)
        self.postgres = postgres
        self.binary = program("pgbouncer")
        self.file = directory / "pgbouncer.ini"
        self.file.write_text(f"""[databases]
* = host=127.0.0.1 port={postgres.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {SERVERS}
server_round_robin = 1
""")

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{connection.settings_dict['NAME']}"

    def command(self) -> list[str]:
        return [self.binary, str(self.file)]

    def ready(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="module")
def _pgbouncer(stack: Stack) -> Iterator[PgBouncer]:
    directory = stack.run / "pgbouncer"
    directory.mkdir(parents=True)
    assert stack.postgres is not None
    pgbouncer = PgBouncer(stack.postgres, directory)
    yield pgbouncer
    pgbouncer.kill()


@pytest.fixture(autouse=True)
def _pooled(_pgbouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every connection through it, with all of its own in use before."""
    if _pgbouncer.process is None:
        _pgbouncer.start()
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", _pgbouncer.port)
    _use_all(_pgbouncer.url)
    yield
    connection.close()
    _pgbouncer.stop()  # or the database of the tests could not be emptied, or dropped


def _use_all(url: str) -> None:
    clients = [psycopg.connect(url) for _ in range(SERVERS)]
    for client in clients:
        client.execute("SELECT 1")
    for client in clients:
        client.rollback()
        client.close()


@pytest.fixture
def tag() -> Tag:
    return Tag.objects.create(slug="x", name="X")


def ask(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def test_it_gives_each_transaction_another_connection() -> None:
    """Else nothing here would prove anything."""
    assert ask("SELECT pg_backend_pid()") != ask("SELECT pg_backend_pid()")


def test_what_is_worth_warming_is_found(tag: Tag) -> None:
    assert "/api/v1/tags/" in list(urls())


def test_the_scopes_of_rows_are_found_in_a_project_that_lets_django_use_cursors(
    tag: Tag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", False)
    assert scopes_of(Tag.objects.all()) == {"tags", "tag:x"}


def test_a_write_ends_what_was_stored_and_a_relay_clears_its_record(tag: Tag) -> None:
    before = get_store().mint(["tag:x"])
    Tag.objects.update(name="Y")
    assert get_store().mint(["tag:x"]) != before
    relay = Relay()
    relay.once()
    relay.sweep()
    assert changes.recorded(connection) == []


def test_a_selection_is_there_for_every_statement_of_its_transaction(tag: Tag) -> None:
    with transaction.atomic(), selections.hold(Tag.objects.all()) as chosen:
        assert chosen.rows.update(name="Y") == 1
    assert Tag.objects.get().name == "Y"


def test_a_relay_leaves_no_connection_listening(tag: Tag) -> None:
    """What another client then got without having asked; PgBouncer logs a warning where there is no client."""
    relay = Relay()
    for _ in range(SERVERS):
        relay.once()
        relay._wait()
    assert [ask("SELECT pg_listening_channels()") for _ in range(SERVERS)] == [[]] * SERVERS
