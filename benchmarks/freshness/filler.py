"""Fills the embedded store with entries that nobody asks for, again and again, for some seconds."""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.freshness.settings")
django.setup()

from benchmarks.freshness.journal import clock  # noqa: E402
from keybits.stores import StoreError, get_store  # noqa: E402


def main() -> None:
    until, number = clock() + float(sys.argv[1]), 0
    while clock() < until and number < 100_000:
        number += 1
        try:
            get_store().write(f"filler {number}", b"x" * 100_000)
        except StoreError:
            continue


if __name__ == "__main__":
    main()
