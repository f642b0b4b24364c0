"""What `manage.py` says where a deployment keeps a command from running, or a person stops it: no traceback.

The deployment's are what its environment says, and what `keybits.database_errors` knows of a database. All others are
faults of the code, and keep their traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError

from keybits.database_errors import Meaning, meaning

__all__ = ["run"]

INTERRUPTED = 128 + signal.SIGINT


def run(arguments: Sequence[str]) -> None:
    """Run a command; exit with 1 and one message on standard error if the deployment keeps it from running.

    With `--traceback` the exception is raised instead, as Django does for a `CommandError`. A command that is
    interrupted (SIGINT) exits with 130, as shells do.
    """
    try:
        execute_from_command_line(list(arguments))
    except (ImproperlyConfigured, DatabaseError) as error:
        told = _told(error)
        if "--traceback" in arguments or not told:
            raise
        sys.exit(f"CommandError: {told}")
    except KeyboardInterrupt:
        if "--traceback" in arguments:
            raise
        sys.stderr.write("\nInterrupted.\n")
        sys.exit(INTERRUPTED)


def _told(error: Exception) -> str:
    """Return what to say of a failure that is the deployment's; "" for any other."""
    if isinstance(error, ImproperlyConfigured):
        return str(error)
    found, said = meaning(error), " ".join(str(error).split())
    if found is None:
        return ""
    if found is Meaning.CONTENDED:
        return (
            f"Others were at work in the database: {said}\n"
            "Run the command again. --traceback shows where it failed."
        )
    return (
        f"The database cannot be used: {said}\n"
        "See what DATABASE_URL names, and whether `manage.py migrate` has been run there. "
        "--traceback shows where the command failed."
    )
