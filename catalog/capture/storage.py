"""Where a picture's bytes are stored: under a name made of their sha256, so the bytes of a name never change.

Decides the name, the address and the media type. The place is Django's default storage. Originals are stored apart and
unchanged. They have no address, because their metadata may reveal more than renditions do (a location, an author).
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage

from catalog.models import FILE_EXTENSIONS

MEDIA_TYPES = {"webp": "image/webp", "jpeg": "image/jpeg"}
_FORMATS = {extension: format for format, extension in FILE_EXTENSIONS.items()}
_BASENAME = re.compile(r"([0-9a-f]{64})\.(webp|jpg)")
_FILE = re.compile(r"(../[0-9a-f]{64}\.(webp|jpg)|originals/../[0-9a-f]{64})(\.[0-9a-f]{32}\.part)*")


class NoFolderError(RuntimeError):
    """The storage is not a folder, so a file cannot be removed safely while somebody stores the same one."""

    def __init__(self) -> None:
        super().__init__("The pictures are not stored in a folder (STORAGES); nothing was removed.")


def store(data: bytes, format: str) -> str:
    """Store these bytes and return their sha256 in hexadecimal. A complete file is not written again.

    `format` is "webp" or "jpeg". A reader finds the complete file or none, even after a crash.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    _keep(name(sha256, format), data)
    return sha256


def store_original(data: bytes) -> str:
    """Store an original, of any format, as `store` does a rendition. Return its sha256 in hexadecimal."""
    sha256 = hashlib.sha256(data).hexdigest()
    _keep(name_of_original(sha256), data)
    return sha256


def has_original(sha256: str, size: int | None = None) -> bool:
    """Return whether the original with this sha256 is stored and, if `size` is given, has that many bytes."""
    kept = _size(name_of_original(sha256))
    return kept is not None and size in {None, kept}


def original(sha256: str) -> bytes:
    """Return an original. Raises FileNotFoundError if it is not stored."""
    with default_storage.open(name_of_original(sha256), "rb") as file:
        data: bytes = file.read()
        return data


def exists(sha256: str, format: str, size: int) -> bool:
    """Return whether the file is stored with all `size` bytes: a disk may have failed, or a copy may be truncated."""
    return _size(name(sha256, format)) == size


def open(sha256: str, format: str) -> File[bytes]:
    """Open a file for reading in binary; the caller closes it. Raises FileNotFoundError if it is not stored."""
    return default_storage.open(name(sha256, format), "rb")


def url(sha256: str, format: str) -> str:
    """Return the path of the file on this site. It has no host, so no request's Host can affect it."""
    return f"/files/{sha256}.{FILE_EXTENSIONS[format]}"


def parse(basename: str) -> tuple[str, str] | None:
    """Return the sha256 and the format in the last segment of a `url`, or None if it is not one."""
    found = _BASENAME.fullmatch(basename)
    return (found[1], _FORMATS[found[2]]) if found else None


def name(sha256: str, format: str) -> str:
    """Return the name in the storage, in a folder of the first two digits, so that no folder holds everything."""
    return f"{sha256[:2]}/{sha256}.{FILE_EXTENSIONS[format]}"


def name_of_original(sha256: str) -> str:
    """Return the name of an original in the storage."""
    return f"originals/{sha256[:2]}/{sha256}"


def names(digit: str) -> Iterator[str]:
    """Yield the name of each file whose sha256 begins with this digit, including temporary files of killed writes.

    Raises `NoFolderError`.
    """
    if not isinstance(default_storage, FileSystemStorage):
        raise NoFolderError
    for base in ("", "originals/"):
        for folder in _listed(base)[0]:
            if len(folder) == 2 and folder.startswith(digit):
                files = (f"{base}{folder}/{file}" for file in _listed(base + folder)[1])
                yield from filter(_FILE.fullmatch, files)


def _listed(folder: str) -> tuple[list[str], list[str]]:
    try:
        return default_storage.listdir(folder)
    except FileNotFoundError:
        return [], []


def remove(final: str, before: datetime) -> bool:
    """Remove the file of this name, unless it was stored, or stored again, after `before`. Return whether it did."""
    path, aside = (Path(default_storage.path(each)) for each in (final, f"{final}.{uuid.uuid4().hex}.part"))
    with suppress(FileNotFoundError):  # another process has removed it
        if path.stat().st_mtime <= before.timestamp():
            # A process that stores it from now on does not find it, and writes it. One that has just found it has
            # updated its date, which is checked again below.
            os.replace(path, aside)
            if aside.stat().st_mtime <= before.timestamp():
                aside.unlink()
                return True
            os.replace(aside, path)
    return False


def _size(final: str) -> int | None:
    """Return the length in bytes of the file with this name, or None."""
    try:
        return default_storage.size(final)
    except FileNotFoundError:
        return None


def _keep(final: str, data: bytes) -> None:
    kept = _size(final)
    if kept == len(data) and _is_dated_anew(final):
        return
    if isinstance(default_storage, FileSystemStorage):
        _write_aside(final, data)
        return
    if kept is not None:
        default_storage.delete(final)  # otherwise a storage may choose another name
    default_storage.save(final, ContentFile(data))  # an object store, where a put is atomic


def _is_dated_anew(final: str) -> bool:
    """Update the file's date, so that it stays until a row names it. Return False if that fails."""
    if isinstance(default_storage, FileSystemStorage):
        try:
            os.utime(default_storage.path(final))
        except OSError:  # it has just been removed, or belongs to another user
            return False
    return True


def _write_aside(final: str, data: bytes) -> None:
    """Write a temporary file to the disk, then rename it; a rename within a folder is atomic (POSIX)."""
    aside = f"{final}.{uuid.uuid4().hex}.part"
    try:
        default_storage.save(aside, ContentFile(data))
        _flush(default_storage.path(aside))
        os.replace(default_storage.path(aside), default_storage.path(final))
    except BaseException:
        with suppress(OSError):  # the folder itself may be the cause
            default_storage.delete(aside)
        raise


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
