"""How a write is run: in one transaction on the primary, and again where other transactions kept it from completing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import IntegrityError, OperationalError, router, transaction
from django.db.models import Model
from rest_framework.exceptions import APIException

from keybits import changes, replicas
from keybits.database_errors import ABORTED
from keybits.problems import RETRY_AFTER
from keybits.transactions import WriteRefusedError

__all__ = ["BusyError", "ReplicaReadError", "atomically"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
ATTEMPTS = 3
UNIQUE = "23505"
OVERTAKEN = frozenset({"23503", UNIQUE})
"""The SQLSTATEs of a write that another has overtaken: it has deleted a row that this one refers to (reported at
COMMIT), or made the same row (not in this one's snapshot)."""


class BusyError(APIException):
    """503: others were writing the same rows. Nothing was written, and the request can be repeated unchanged."""

    status_code = 503
    default_detail = "Other requests are writing the same; nothing was written. Send the request again."
    members = {"type": "urn:problem:busy"}
    wait = 1


class ReplicaReadError(APIException):
    """503: the write had read from a replica, which may be behind. Nothing was written."""

    status_code = 503
    default_detail = "The server could not determine the present state; nothing was written."
    members = {"type": "urn:problem:replica-read"}
    wait = RETRY_AFTER


def atomically(model: type[Model], work: Callable[[], T]) -> T:
    """Run `work` in one transaction on the primary. Raise `BusyError` if other transactions keep it from completing.

    Replicas are not read meanwhile. If one was read all the same, nothing is written and `ReplicaReadError` is raised.

    If PostgreSQL aborts the transaction in favour of another, or another was first to delete a row that this one refers
    to or to make the same row, `work` runs again from its beginning, `ATTEMPTS` times in all; it then sees what the
    other has done. If a unique constraint fails each time, there was no race, and Django's `IntegrityError` is raised:
    no validator checks that constraint.
    """
    alias = router.db_for_write(model)
    attempts = 1 if transaction.get_connection(alias).in_atomic_block else ATTEMPTS
    for left in reversed(range(attempts)):
        try:
            with replicas.filling() as lagging, _writing(alias):
                done = work()
                _demand_primary(lagging, alias)
                return done
        except WriteRefusedError as error:
            raise BusyError from error
        except (OperationalError, IntegrityError) as error:
            if not _is_transient(error) or (attempts > 1 and not left and _sqlstate(error) == UNIQUE):
                raise
            if not left or not _is_given_up(error):
                raise BusyError from error
    raise BusyError


@contextmanager
def _writing(alias: str) -> Iterator[None]:
    """Begin a transaction that will write; on SQLite, with its lock."""
    connection: Any = transaction.get_connection(alias)
    is_kept = changes.is_kept(connection)
    with transaction.atomic(using=alias):
        if is_kept and connection.vendor == "sqlite" and connection.transaction_mode in {None, "DEFERRED"}:
            changes.lock(connection)
        yield


def _demand_primary(lagging: set[str], alias: str) -> None:
    """Raise `ReplicaReadError` if replicas were read: they may be behind the rows about to be overwritten."""
    if lagging:
        logger.error(
            "nothing was written: a write of %s has read %s, which may be behind; take .using() out of its queries",
            alias,
            ", ".join(sorted(lagging)),
        )
        raise ReplicaReadError


def _is_given_up(error: Exception) -> bool:
    return _sqlstate(error) in ABORTED | OVERTAKEN


def _sqlstate(error: Exception) -> str | None:
    """Return the SQLSTATE of the error, or None."""
    return getattr(error.__cause__, "sqlstate", None)


def _is_transient(error: Exception) -> bool:
    return _is_given_up(error) or "database is locked" in str(error)
