"""The signing key of a deployment whose environment gives none: made once, and kept beside the data."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def secret_key(path: Path) -> str:
    """Return the key kept in `path`; where there is no file, create it (mode 0600). Raises `ImproperlyConfigured`.

    Of several processes that start at once, the first to create the file decides, and the others read it.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        staged.touch(mode=0o600)
        staged.write_text(secrets.token_urlsafe(50), encoding="ascii")
        try:
            os.link(staged, path)
        except FileExistsError:
            pass
        finally:
            staged.unlink()
    return _kept(path)


def _kept(path: Path) -> str:
    with suppress(UnicodeDecodeError):
        if (key := path.read_text(encoding="ascii")).strip():
            return key
    raise ImproperlyConfigured(
        f"{path} holds no key of ASCII characters; remove it to have a new key made, or set SECRET_KEY."
    )
