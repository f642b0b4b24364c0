"""What `manage.py` says where a deployment keeps a command from running, or a person stops it: no traceback.

It alone decides which failures are the deployment's: what its environment says, and a database that is out of reach or
has not been migrated. All others are faults of the code, and keep their traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError

__all__ = ["run"]

INTERRUPTED = 128 + signal.SIGINT
NOT_AS_MIGRATED = frozenset({"42P01", "42703", "42501"})
"""The SQLSTATEs of a table or column that is missing, and of one that the role has no right to."""


def run(arguments: Sequence[str]) -> None:
    """Run a command; exit with 1 and one message on standard error if the deployment keeps it from running.

    With `--traceback` the exception is raised instead, as Django does for a `CommandError`. A command that is
    interrupted (SIGINT) exits with 130, as shells do.
    """
    try:
        execute_from_command_line(list(arguments))
    except (ImproperlyConfigured, DatabaseError, InterfaceError) as error:
        if "--traceback" in arguments or not _is_of_the_deployment(error):
            raise
        sys.exit(f"CommandError: {_told(error)}")
    except KeyboardInterrupt:
        if "--traceback" in arguments:
            raise
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(INTERRUPTED)


def _is_of_the_deployment(error: Exception) -> bool:
    if isinstance(error, ProgrammingError):
        return getattr(error.__cause__, "sqlstate", None) in NOT_AS_MIGRATED
    known = isinstance(error, ImproperlyConfigured | OperationalError | InterfaceError)
    return known or type(error) is DatabaseError  # SQLite's, of a file that is no database


def _told(error: Exception) -> str:
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    return (
        f"The database cannot be used: {' '.join(str(error).split())}\n"
        "See what DATABASE_URL names, and whether `manage.py migrate` has been run there. "
        "--traceback shows where the command failed."
    )
