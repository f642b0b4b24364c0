"""A connection to PostgreSQL that is kept: believed while nothing was said on it, and left as soon as it has ended."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DataError, connection
from django.db.backends.postgresql import base
from django.test import Client

pytestmark = [pytest.mark.stack("server"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The connection, as it is in a deployment: tests close theirs with each request."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    monkeypatch.setitem(connection.settings_dict, "CONN_HEALTH_CHECKS", True)
    connection.close()
    connection.ensure_connection()
    yield
    connection.close()


def end() -> None:
    """Have the server end the connection, and wait until it has said so."""
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
    other.close()
    assert select.select([connection.connection.fileno()], [], [], 30)[0]


def refuse(*_: Any) -> bool:
    raise AssertionError("the server was asked")


def test_one_on_which_nothing_was_said_is_believed_without_a_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base.DatabaseWrapper, "is_usable", refuse)
    assert connection.is_usable()


def test_one_that_the_server_has_ended_is_not() -> None:
    end()
    assert not connection.is_usable()


def test_one_that_was_closed_here_is_not() -> None:
    connection.connection.close()
    assert not connection.is_usable()


def test_one_whose_transaction_has_failed_is_not() -> None:
    """Django asks the same after an error, and goes on with what is usable."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        with pytest.raises(DataError):
            cursor.execute("SELECT 1 / 0")
    assert not connection.is_usable()


def test_one_on_which_something_else_was_said_is() -> None:
    with connection.cursor() as cursor:
        cursor.execute("LISTEN something")
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("NOTIFY something")
    other.close()
    assert select.select([connection.connection.fileno()], [], [], 30)[0]
    assert connection.is_usable()


def test_a_request_after_the_end_is_answered_over_a_new_one(client: Client) -> None:
    assert client.get("/api/v1/tags/").status_code == 200
    connection.ensure_connection()
    before = connection.connection.info.backend_pid
    end()
    connection.close_if_unusable_or_obsolete()  # as a request begins
    assert client.get("/api/v1/tags/?page_size=2").status_code == 200
    assert connection.connection.info.backend_pid != before
