"""Two-phase invalidation around COMMIT: open the scopes that are about to change, commit, close them.

This is the single choke point below the ORM. Every connection is watched. A statement that writes (`keybits.sql` says
which do) marks its transaction. A transaction that wrote claims its record of changes, opens the scopes, commits, and
closes them, whether Django commits or a COMMIT in SQL does. A write outside any transaction gets one, except statements
that may commit by themselves: what these have recorded is closed when they return. Reading costs nothing. A long
transaction holds scopes open only while it commits.
"""

from __future__ import annotations

import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakSet

from django.db import Error, NotSupportedError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from keybits import changes, preludes, replicas
from keybits.conf import conf
from keybits.outages import Outage
from keybits.problems import OutOfReachError
from keybits.sql import (
    begins_or_ends,
    commits_later,
    ends_itself,
    is_commit,
    prepares,
    releases,
    returns_rows,
    text_of,
    writes,
)
from keybits.stamps import coarsened
from keybits.stores import StoreError, get_store

__all__ = [
    "WriteRefusedError",
    "close_after_commit",
    "has_written",
    "may_store",
    "sees_its_own_writes",
    "watch",
]

STATE = "_keybits_written"
AFTERWARDS = "_keybits_afterwards"
"""Where a connection has the scopes that are to be closed after the COMMIT of its transaction."""
CURSORS = "_keybits_cursors"
"""The attribute in which an SQLite connection keeps its live cursors that have executed a statement."""
FRUITLESS = "_keybits_fruitless"
"""Where a connection has the writers of COMMITs that failed in a transaction that may still commit (ROLLBACK TO)."""
IDLE = "keybits_idle"
"""An SQL function that nobody calls: see `_is_idle`."""
IN_TRANSACTION, FAILED = 2, 3
"""libpq's status of a connection in a transaction, and in a failed one, which can only be rolled back."""
logger = logging.getLogger(__name__)
_outage = Outage(logger, "the relay closes what is written", "the store is told of writes again")


class WriteRefusedError(OutOfReachError):
    """The store is unreachable and `KEYBITS_WRITE_POLICY` is `refuse`: nothing was committed. Try again later."""


_writing: set[int] = set()
"""The ids of connections whose transaction has written; usually empty, so that a read need not ask connections."""


def watch(connection: BaseDatabaseWrapper) -> None:
    """Watch a connection from now on. Call it again when the connection is made anew. Idempotent."""
    if connection.vendor == "sqlite":
        connection.__dict__[CURSORS] = WeakSet()
        if connection.connection is not None:
            connection.connection.create_function(IDLE, 0, _nothing)
            changes.note_file(connection)
    if STATE in connection.__dict__:
        return
    _mark(connection, written=False)
    # The outermost wrapper: a connection may be opened within `execute_wrapper`, which pops the innermost at its end.
    connection.execute_wrappers.insert(0, _watched)
    connection._commit = partial(_commit, connection, connection._commit)  # type: ignore[attr-defined]
    connection._rollback = partial(_rollback, connection, connection._rollback)  # type: ignore[attr-defined]
    if connection.vendor == "sqlite":
        change = connection._set_autocommit  # type: ignore[attr-defined]
        connection._set_autocommit = partial(_set_autocommit, connection, change)  # type: ignore[attr-defined]


def _mark(connection: BaseDatabaseWrapper, *, written: bool) -> None:
    connection.__dict__[STATE] = written
    (_writing.add if written else _writing.discard)(id(connection))


def has_written(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the present transaction has written, and so sees rows that nobody else sees yet."""
    return bool(connection.__dict__.get(STATE, False)) and _in_transaction(connection)


def close_after_commit(connection: BaseDatabaseWrapper, scopes: Iterable[str]) -> None:
    """Close `scopes` when the present transaction has been committed, or now if there is none.

    Unlike Django's `on_commit`, also where autocommit is off, or SQL began the transaction, and even where a
    savepoint of it was rolled back; and before Django's hooks, one of which may fail. They are closed together with
    all others that wait for the same COMMIT.
    """
    if connection.connection is not None and _in_transaction(connection):
        connection.__dict__.setdefault(AFTERWARDS, set()).update(scopes)
    else:
        _close_changed(scopes)


def _close_changed(changed: Iterable[str]) -> None:
    scopes = coarsened(changed)
    try:
        if scopes:
            get_store().close(scopes)
    except StoreError:
        logger.exception("scopes could not be closed: %s", ", ".join(scopes))


def _close_waiting(connection: BaseDatabaseWrapper) -> None:
    """Close what waits for the COMMIT that has been sent, or may have been.

    While a transaction is under way it goes on to wait, too: that one may have been begun after the COMMIT, or be the
    same one, if a text only looked like a COMMIT.
    """
    if AFTERWARDS not in connection.__dict__:
        return
    goes_on = _is_open(connection)
    scopes = connection.__dict__.pop(AFTERWARDS)
    _close_changed(scopes)
    if goes_on:
        connection.__dict__[AFTERWARDS] = scopes


def sees_its_own_writes() -> bool:
    """Return whether this thread is in a transaction that has written, and so sees newer rows than entries show."""
    return bool(_writing) and any(map(has_written, connections.all(initialized_only=True)))


def may_store() -> bool:
    """Return whether what this thread reads now may be shown to everybody.

    Not in a transaction that has written or failed, and not in one that reads an old snapshot: only in PostgreSQL's
    READ COMMITTED does each statement see everything committed before it.
    """
    return all(_sees_the_present(connection) for connection in connections.all(initialized_only=True))


def _sees_the_present(connection: BaseDatabaseWrapper) -> bool:
    if connection.connection is None:
        return True
    if not _in_transaction(connection):
        return connection.vendor != "sqlite" or (
            _is_idle(connection) and not changes.is_of_another_file(connection)
        )
    may_ask = not (has_written(connection) or connection.needs_rollback or _has_failed(connection))
    return may_ask and _is_read_committed(connection)


def _is_idle(connection: BaseDatabaseWrapper) -> bool:
    """Return whether every statement was read to its end. While one is unfinished, others read its old snapshot.

    SQLite does not report this, but refuses to replace a function meanwhile. Replacing one makes it compile every
    statement anew, a tenth of a miss (`python -m benchmarks.miss --stack embedded`), so it is tried only while there
    are cursors.
    """
    if not connection.__dict__[CURSORS]:
        return True
    try:
        connection.connection.create_function(IDLE, 0, _nothing)
    except sqlite3.OperationalError:
        return False
    return True


def _nothing() -> None: ...


def _is_read_committed(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the transaction is READ COMMITTED and has no transaction id, which every write assigns.

    The server is asked, because SQL or the server's configuration may set the level, and many writes do not look like
    one.
    """
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_isolation'), pg_current_xact_id_if_assigned()")
        return bool(cursor.fetchone() == ("read committed", None))


def _in_transaction(connection: BaseDatabaseWrapper) -> bool:
    return connection.in_atomic_block or not connection.autocommit or _is_open(connection)


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the database itself is in a transaction, which SQL may have begun."""
    if connection.vendor == "postgresql":
        return _status(connection) in {IN_TRANSACTION, FAILED}
    return bool(getattr(connection.connection, "in_transaction", False))


def _has_failed(connection: BaseDatabaseWrapper) -> bool:
    """Return whether PostgreSQL refuses all statements until the end of the transaction."""
    return connection.vendor == "postgresql" and _status(connection) == FAILED


def _status(connection: BaseDatabaseWrapper) -> int | None:
    raw: Any = connection.connection
    if raw is None:
        return None
    _arrive(connection)
    return raw.info.transaction_status  # type: ignore[no-any-return]


def _is_pipelined(connection: BaseDatabaseWrapper) -> bool:
    raw: Any = connection.connection
    return connection.vendor == "postgresql" and raw is not None and bool(raw.pgconn.pipeline_status)


def _arrive(connection: BaseDatabaseWrapper) -> None:
    """In psycopg's pipeline mode, wait until PostgreSQL has executed all that was sent. Raise the first failure."""
    if _is_pipelined(connection):
        raw: Any = connection.connection
        with connection.wrap_database_errors, raw.pipeline() as pipeline:
            pipeline.sync()


def _awaited(connection: BaseDatabaseWrapper, run: Callable[[], Any]) -> Any:
    """Run what ends a transaction, and wait for it: until then psycopg begins no other where autocommit is off."""
    result = run()
    _arrive(connection)
    return result


def _watched(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute a statement. Mark a write's transaction, begin one where there is none, or close what it recorded."""
    connection = context["connection"]
    replicas.note(connection.alias)
    if connection.vendor == "sqlite":
        connection.__dict__[CURSORS].add(context["cursor"])
    text, run = text_of(sql, connection), partial(execute, sql, params, many, context)
    preludes.note(connection.alias, text)
    if AFTERWARDS in connection.__dict__ and connection.vendor == "postgresql" and prepares(text):
        raise NotSupportedError(
            "This transaction cannot be prepared: COMMIT PREPARED does not know which scopes it is to close."
        )
    if not writes(text):
        return _run(connection, run, text)
    if _may_be_several(connection, text) and begins_or_ends(text):
        return _closed_afterwards(connection, run, commits=True)
    if connection.vendor == "sqlite" and not connection.autocommit and not _is_open(connection):
        # Python begins a transaction before what begins as a write; what does not (WITH) commits by itself.
        return _closed_afterwards(connection, partial(_whole, run, text, context))
    if _in_transaction(connection):
        _mark(connection, written=True)
        return run()
    if ends_itself(text):
        return _closed_afterwards(connection, run)
    with _transaction(connection):
        _mark(connection, written=True)
        return _whole(run, text, context)


def _whole(run: Callable[[], Any], text: str, context: dict[str, Any]) -> Any:
    """Run a statement to its end, which the rows of a RETURNING put off on SQLite until they are read."""
    result = run()
    if context["connection"].vendor == "sqlite" and returns_rows(text):
        _read_now(context["cursor"])
    return result


def _may_be_several(connection: BaseDatabaseWrapper, text: str) -> bool:
    """Say whether a text may be several statements; SQLite executes one at a time."""
    return connection.vendor != "sqlite" and ";" in text


@contextmanager
def _transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Begin a transaction of `connection`, which need not be the one that this thread has under its alias (a copy)."""
    alias = connection.alias
    usual, connections[alias] = connections[alias], connection
    try:
        with transaction.atomic(using=alias):
            yield
    finally:
        connections[alias] = usual


def _run(connection: BaseDatabaseWrapper, run: Callable[[], Any], text: str) -> Any:
    """Run a statement that is not a write. It may be SQL that ends a transaction that has written."""
    if _is_pipelined(connection) and begins_or_ends(text):
        run = partial(_awaited, connection, run)
    if not connection.__dict__[STATE] and AFTERWARDS not in connection.__dict__:
        return run()
    may_commit_later = _may_be_several(connection, text) and commits_later(text)
    if _has_failed(connection):  # nothing can be claimed; a text may roll back to a savepoint, then commit
        return _closed_afterwards(connection, run, commits=may_commit_later)
    if may_commit_later or is_commit(text):
        return _commit(connection, run)
    if connection.vendor == "sqlite" and releases(text):
        return _closed_afterwards(connection, run)
    result = run()
    goes_on = _in_transaction(connection)
    _mark(connection, written=connection.__dict__[STATE] and goes_on)
    if not goes_on:  # a ROLLBACK in SQL, which leaves nothing for the next transaction to wait for
        _close_waiting(connection)
    return result


def _closed_afterwards(
    connection: BaseDatabaseWrapper, run: Callable[[], Any], *, commits: bool = False
) -> Any:
    """Run a text that may commit by itself; then close whatever has been committed and nobody has claimed.

    If it `commits`, it may have begun another transaction after that. If it fails, it may have committed before.
    """
    try:
        result = run()
    except Exception:
        with suppress(Error):
            _close_committed(connection, commits=commits)
        raise
    _close_committed(connection, commits=commits)
    return result


def _close_committed(connection: BaseDatabaseWrapper, *, commits: bool) -> None:
    """Close what others have committed and nobody has claimed, unless the same transaction is still under way."""
    goes_on = _is_open(connection)
    _mark(connection, written=goes_on)
    if goes_on and (not commits or _has_failed(connection)):
        return
    _close_waiting(connection)
    if conf.TRACKING == "triggers" and changes.is_kept(connection):
        fruitless = connection.__dict__.pop(FRUITLESS, ())
        scopes = coarsened(changes.unclaimed(connection, fruitless=fruitless))
        if not goes_on and _is_open(connection):  # without autocommit, the look has begun a transaction
            connection.connection.rollback()
        if scopes:
            _close(scopes, "")


class _ReadCursor:
    """A cursor whose rows were already read; everything else is delegated to the cursor."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._rows: Iterator[Any] = iter(cursor.fetchall())

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[Any]:
        return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def execute(self, *args: Any) -> Any:
        self._rows = self._cursor
        return self._cursor.execute(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def _read_now(cursor: Any) -> None:
    """Read the rows of a RETURNING now: SQLite cannot commit while rows are unread."""
    inner = cursor.cursor
    cursor.cursor = _ReadCursor(inner._cursor if isinstance(inner, _ReadCursor) else inner)


def _rollback(connection: BaseDatabaseWrapper, original: Callable[[], Any]) -> Any:
    _mark(connection, written=False)
    connection.__dict__.pop(AFTERWARDS, None)
    connection.__dict__.pop(FRUITLESS, None)
    return original()


def _set_autocommit(
    connection: BaseDatabaseWrapper, original: Callable[[bool], Any], autocommit: bool
) -> Any:
    """Treat switching autocommit on as a commit, which it is on SQLite."""
    change = partial(original, autocommit)
    return _commit(connection, change) if autocommit else change()


def _commit(connection: BaseDatabaseWrapper, original: Callable[[], Any]) -> Any:
    try:
        result = _commit_closing(connection, original)
    except Exception:
        # What failed may have committed: the connection was lost, or a text went on after its COMMIT.
        with suppress(Error):
            _close_waiting(connection)
        raise
    _close_waiting(connection)
    return result


def _commit_closing(connection: BaseDatabaseWrapper, original: Callable[[], Any]) -> Any:
    written = connection.__dict__[STATE]
    _mark(connection, written=False)
    if not written or conf.TRACKING != "triggers" or not changes.is_kept(connection):
        return original()
    writer = uuid.uuid4().hex
    scopes = coarsened(changes.claim(connection, writer, notify=bool(conf.PURGERS)))
    if not scopes:
        return original()
    try:
        _open(connection, scopes, writer)
    except WriteRefusedError:
        _unclaim(connection, writer)
        raise
    return _commit_open(connection, original, scopes, writer)


def _unclaim(connection: BaseDatabaseWrapper, writer: str) -> None:
    """Release what this COMMIT has claimed, so that another COMMIT of the same transaction claims it anew."""
    if not _has_failed(connection):  # else a savepoint is to be rolled back first, and the claim with it
        changes.release(connection, writer)
    _mark(connection, written=True)


def _commit_open(
    connection: BaseDatabaseWrapper, original: Callable[[], Any], scopes: list[str], writer: str
) -> Any:
    try:
        result = original()
        _arrive(connection)
    except Exception:
        # A lost connection may have committed, or may yet: the scopes stay open until the relay knows.
        failed = _has_failed(connection)
        if failed:  # the relay takes these for closed, although they may be committed yet
            connection.__dict__.setdefault(FRUITLESS, set()).add(writer)
        if failed or connection.is_usable():
            _close(scopes, writer)
        if _is_open(connection):  # SQLite allows to retry a failed COMMIT
            _unclaim(connection, writer)
        raise
    _close(scopes, writer)
    changes.bell.set()
    if _is_open(connection) and changes.is_pending(connection):  # it only looked like a COMMIT
        _unclaim(connection, writer)
    return result


def _open(connection: BaseDatabaseWrapper, scopes: list[str], writer: str) -> None:
    try:
        get_store().open(scopes, writer)
    except StoreError as error:
        if conf.WRITE_POLICY == "refuse":
            raise WriteRefusedError(
                "Nothing was written: the cache is unreachable, and KEYBITS_WRITE_POLICY is 'refuse'."
            ) from error
        _outage.note(error)
        logger.debug("the store is out of reach; the relay will close %d scopes", len(scopes))
        changes.release(connection, writer)


def _close(scopes: list[str], writer: str) -> None:
    try:
        get_store().close(scopes, writer)
        _outage.end()
    except StoreError as error:
        _outage.note(error)
        logger.debug("%d scopes stay open until the relay closes them", len(scopes))
