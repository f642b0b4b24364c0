#!/usr/bin/env python
"""The command line of the gallery: `python manage.py demo` serves the bundled galleries."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gallery_api.settings")
    from gallery_api.command_line import run  # noqa: PLC0415 - settings first

    run(sys.argv)


if __name__ == "__main__":
    main()
