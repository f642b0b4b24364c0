"""Where and with what something was measured, in the words that stand above every table."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["circumstances", "versions"]

PACKAGES = (
    "Django",
    "djangorestframework",
    "drf-extensions",
    "django-cacheops",
    "django-redis",
    "redis",
    "lmdb",
    "fastapi",
    "granian",
    "gunicorn",
    "uvicorn",
)


def circumstances(command: str) -> str:
    """Return the machine, how busy it was, the date and the command, in one line."""
    today = datetime.datetime.now(datetime.UTC).date()
    busy = os.getloadavg()[0]
    return f"{os.cpu_count()} cores of {_model()}, load {busy:.1f} at the start; {today}; `{command}`"


def versions() -> str:
    """Return the versions of everything that is measured and installed."""
    found = [f"{name} {installed}" for name in PACKAGES if (installed := _version(name))]
    return f"Python {platform.python_version()}, {', '.join(found)}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _model() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()
