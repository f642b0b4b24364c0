"""Whether this process can answer at present, for whoever spreads requests over several (`GET` or `HEAD`).

Mount the view where no cache in front looks anything up, and where no client of the API goes:
`path("health", keybits.health.report)`.
"""

from __future__ import annotations

import logging
from functools import cache

import orjson
from django.db import Error, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse

from keybits.cache_control import cache_control
from keybits.conf import conf
from keybits.database_errors import UnmigratedError
from keybits.outages import Outage
from keybits.problems import RETRY_AFTER, database_failure, problem_response
from keybits.stores import StoreError, get_store

__all__ = ["MEDIA_TYPE", "report"]

MEDIA_TYPE = "application/health+json"
"""That of draft-inadarei-api-health-check, whose members the document has."""
METHODS = ("GET", "HEAD")
PASS, WARN, FAIL = "pass", "warn", "fail"
UNKEPT = cache_control(no_store=True)
SLOW = "Nothing that is cached is believed at present: reads go to the database."
UNUSABLE = "The database cannot be used at present."

Migration = tuple[str, str]
"""The label of an application, and the name of its migration."""

_outage = Outage(logging.getLogger(__name__), "the database cannot be used")


@transaction.non_atomic_requests
def report(request: HttpRequest) -> HttpResponse:
    """Answer 200 while the default database can be used and has every migration of this code; otherwise 503.

    While the store fails, or no relay vouches for it, the status is `warn` and the answer still a 200: reads are then
    as right as ever, and slower. One statement is sent to the database, and one command to the store. What failed is
    told without its cause, which is logged.
    """
    if request.method not in METHODS:
        refusal = problem_response(405, detail="Health is only read.")
        refusal["Allow"] = ", ".join(METHODS)
        return refusal
    failure = _failure_of_the_database()
    slow = "" if _is_store_believed() else SLOW
    status = FAIL if failure else WARN if slow else PASS
    checks = {"database": [_check(FAIL, failure)], "store": [_check(WARN, slow)]}
    response = HttpResponse(
        orjson.dumps({"status": status, "checks": checks}),
        status=503 if failure else 200,
        content_type=MEDIA_TYPE,
        headers={"Cache-Control": UNKEPT},
    )
    if failure:
        response["Retry-After"] = str(RETRY_AFTER)
        response._has_been_logged = True  # type: ignore[attr-defined]  # Django would, each time
    return response


def _check(worse: str, output: str) -> dict[str, str]:
    """Return what a check has found: `worse`, and why, where there is any `output`."""
    found = {"status": worse, "output": output} if output else {"status": PASS}
    return {"componentType": "datastore", **found}


def _failure_of_the_database() -> str:
    """Return what clients may be told of why the database cannot be used; "" where it can."""
    try:
        _demand_migrations()
    except Error as error:
        known = database_failure(error)
        if known is not None:
            return known[0]
        _outage.note(error, traceback=True)
        return UNUSABLE
    return ""


def _demand_migrations() -> None:
    """Raise `UnmigratedError` if the database lacks a migration that this code has. One statement."""
    applied = set(MigrationRecorder(connection).migration_qs.values_list("app", "name"))
    lacking = [
        ".".join(migration)
        for migration, replaced in _migrations().items()
        if migration not in applied and not (replaced and replaced <= applied)
    ]
    if lacking:
        raise UnmigratedError(f"it has not been migrated to {', '.join(sorted(lacking))}")


@cache
def _migrations() -> dict[Migration, frozenset[Migration]]:
    """Return the migrations of this code, each with those that stand for it: the ones that it was squashed from."""
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    return {key: frozenset(migration.replaces) for key, migration in loader.disk_migrations.items()}


def _is_store_believed() -> bool:
    """Return whether reads can be answered from the store. One that has failed is left to the relay to try again."""
    store = get_store()
    if store.is_tripped and conf.RELAY == "thread":
        return False
    try:
        return store.vouched() > 0 or conf.RELAY == "off"
    except StoreError:
        return False
