"""Work in threads of its own, each with connections of its own, and what comes of it where somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

from django.db import connection, connections

T = TypeVar("T")
PATIENCE = 120
"""Seconds after which what has not ended is taken to hang."""


def aside(work: Callable[[], Any]) -> Future[Any]:
    """Begin `work` in a thread; the future has what it returned or raised, once its connections are closed."""
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            connections.close_all()
            outcome.set_exception(error)
        else:
            connections.close_all()
            outcome.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return outcome


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Begin all of `works` in the same moment; return what they returned, or raise what the first of them raised."""
    together = threading.Barrier(len(works))

    def begun(work: Callable[[], Any]) -> Any:
        together.wait(PATIENCE)
        return work()

    outcomes = [aside(lambda work=work: begun(work)) for work in works]  # type: ignore[misc]
    return [outcome.result(PATIENCE) for outcome in outcomes]


def eventually(look: Callable[[], T]) -> T:
    """Look again and again until what is seen is true, and return that; fail where it has not come by `PATIENCE`."""
    deadline = monotonic() + PATIENCE
    while not (seen := look()):
        assert monotonic() < deadline, f"{PATIENCE} seconds have passed, and what was waited for has not come"
    return seen


def wait_for_who_waits_for_us(other: Future[Any]) -> None:
    """Return when another connection to PostgreSQL waits for a lock of this one's; `other` is who should be waiting."""
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    with connection.cursor() as cursor:
        while not cursor.execute(waiting).fetchall():
            assert not other.done(), other.exception()


@contextmanager
def before_statement(beginning: str, act: Callable[[], Any]) -> Iterator[None]:
    """Have another connection `act` just before the first statement that begins so."""
    acted: list[bool] = []

    def look(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(beginning) and not acted:
            acted.append(True)
            aside(act).result(PATIENCE)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        yield
    assert acted, f"no statement began with {beginning}"
