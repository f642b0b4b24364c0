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
    try:
        _make(path)
        return _kept(path)
    except OSError as error:
        why = error.strerror or error
        raise ImproperlyConfigured(
            f"{path} cannot be kept ({why}); have VAR_DIR name a folder that this process may write to, "
            "or set SECRET_KEY."
        ) from None


def _make(path: Path) -> None:
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


def _kept(path: Path) -> str:
    with suppress(UnicodeDecodeError):
        if (key := path.read_text(encoding="ascii")).strip():
            return key
    raise ImproperlyConfigured(
        f"{path} holds no key of ASCII characters; remove it to have a new key made, or set SECRET_KEY."
    )
