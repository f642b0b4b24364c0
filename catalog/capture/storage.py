"""Where a picture's bytes lie: at a name made of their sha256, so a name never changes its bytes.

Decides the name, the address and the media type. The place is Django's default storage. Originals lie apart, as they
came: no address leads to them, for they may say more than their renditions do (where a camera was, who drew a picture).
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
    """The files are in no folder, so that none can be removed without a risk to who stores the same one."""

    def __init__(self) -> None:
        super().__init__("Pictures lie in no folder here (STORAGES); nothing was removed.")


def store(data: bytes, format: str) -> str:
    """Keep these bytes and return their sha256 in hexadecimal; what is there whole is not written again.

    `format` is "webp" or "jpeg". A reader finds the whole file or none, after a crash too.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    _keep(name(sha256, format), data)
    return sha256


def store_original(data: bytes) -> str:
    """Keep an original, whatever it is, as `store` keeps a rendition; return its sha256 in hexadecimal."""
    sha256 = hashlib.sha256(data).hexdigest()
    _keep(name_of_original(sha256), data)
    return sha256


def has_original(sha256: str, size: int | None = None) -> bool:
    """Say whether the original with this sha256 is kept, and where `size` is given, all of its bytes."""
    kept = _size(name_of_original(sha256))
    return kept is not None and size in {None, kept}


def original(sha256: str) -> bytes:
    """Return an original; raises FileNotFoundError where it is not kept."""
    with default_storage.open(name_of_original(sha256), "rb") as file:
        data: bytes = file.read()
        return data


def exists(sha256: str, format: str, size: int) -> bool:
    """Say whether these bytes are kept, all `size` of them: a disk may have failed, or a copy been cut short."""
    return _size(name(sha256, format)) == size


def open(sha256: str, format: str) -> File[bytes]:
    """Open for reading in binary; the caller closes. Raises FileNotFoundError where the file is not kept."""
    return default_storage.open(name(sha256, format), "rb")


def url(sha256: str, format: str) -> str:
    """Return the address below the root of this site; it holds no host, so no request can spoil it."""
    return f"/files/{sha256}.{FILE_EXTENSIONS[format]}"


def parse(basename: str) -> tuple[str, str] | None:
    """Return the sha256 and the format that the last segment of `url` names, or None where it names none."""
    found = _BASENAME.fullmatch(basename)
    return (found[1], _FORMATS[found[2]]) if found else None


def name(sha256: str, format: str) -> str:
    """Return the name in the storage: two digits' folder, so that no folder holds everything."""
    return f"{sha256[:2]}/{sha256}.{FILE_EXTENSIONS[format]}"


def name_of_original(sha256: str) -> str:
    """Return the name of an original in the storage."""
    return f"originals/{sha256[:2]}/{sha256}"


def names(digit: str) -> Iterator[str]:
    """Yield the name of each file whose sha256 begins with this digit, also where a write that was killed left it.

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
    """Remove the file of this name unless it was stored, or stored again, after `before`; say whether it is gone."""
    path, aside = (Path(default_storage.path(each)) for each in (final, f"{final}.{uuid.uuid4().hex}.part"))
    with suppress(FileNotFoundError):  # somebody else was faster
        if path.stat().st_mtime <= before.timestamp():
            # Whoever stores it from now on finds none, and writes it; who has just found it has dated it anew.
            os.replace(path, aside)
            if aside.stat().st_mtime <= before.timestamp():
                aside.unlink()
                return True
            os.replace(aside, path)
    return False


def _size(final: str) -> int | None:
    """Return the length in bytes of what is kept under a name, None where nothing is."""
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
        default_storage.delete(final)  # else a storage may choose another name
    default_storage.save(final, ContentFile(data))  # an object store: a put is atomic there


def _is_dated_anew(final: str) -> bool:
    """Have what is kept count as new, so that it stays until a row names it; False where that cannot be done."""
    if isinstance(default_storage, FileSystemStorage):
        try:
            os.utime(default_storage.path(final))
        except OSError:  # it has just been removed, or is somebody else's
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
        with suppress(OSError):  # the folder itself may be what is wrong
            default_storage.delete(aside)
        raise


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
