"""How one picture of a manifest is validated, measured, encoded and stored: in any thread, without the database."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from catalog.capture import images, redrawing, storage
from catalog.importing.manifests import ItemError, Manifest, item_fields, read_item
from catalog.importing.reports import Failure
from catalog.importing.rows import stored_renditions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from catalog.capture.redrawing import StoredRendition
    from catalog.models import Screenshot

__all__ = ["Job", "KeepingError", "Prepared", "prepare"]


class KeepingError(RuntimeError):
    """No picture can be stored, because the file storage or the database fails. The message says which, and why."""


class Job(NamedTuple):
    """A picture of the manifest, not yet validated, and its place."""

    place: str
    position: int
    data: Any

    def failed(self, reason: str) -> Failure:
        slug = self.data.get("slug") if isinstance(self.data, dict) else None
        return Failure(f"{self.place} ({slug})" if slug else self.place, reason)


class Prepared(NamedTuple):
    """A picture that was validated and stored; `renditions` is None if the present ones are still right."""

    slug: str
    fields: dict[str, Any]
    tags: list[str]
    renditions: list[StoredRendition] | None


def prepare(manifest: Manifest, known: Mapping[str, Screenshot], job: Job) -> Prepared | Failure:
    """Validate and store the picture of `job`; `known` has, by slug, the gallery's screenshots as they were read.

    Raises `KeepingError` where no picture can be stored.
    """
    try:
        item = read_item(job.data)
        original = _original(manifest.root, item)
        facts, renditions = _developed(original, known.get(item["slug"]), item["sha256"])
    except (ItemError, images.ImageError) as error:
        return job.failed(str(error))
    except OSError as error:
        return job.failed(f"file: {_wrong(error)}: {error.filename or item['file']}")
    item.setdefault("position", job.position)
    item.setdefault("device_pixel_ratio", manifest.device_pixel_ratio)
    return Prepared(item["slug"], {**facts, **item_fields(item)}, item["tags"], renditions)


def _original(root: Path, item: Mapping[str, Any]) -> bytes:
    """Return the picture's bytes. Raises `ItemError` for files that are missing, too large, damaged or outside.

    A file is outside if, with links followed, it does not lie below the manifest's folder.
    """
    path = _resolved(root / item["file"])
    if path and not path.is_relative_to(root):
        raise ItemError("file: It lies outside the manifest's folder; write a path below that folder.")
    if not (path and path.is_file()):
        raise ItemError(f"file: There is no file {item['file']} in the manifest's folder.")
    if path.stat().st_size > images.MAX_BYTES:
        raise ItemError(f"file: It is too large; accepted is {images.LIMITS}.")
    data: bytes = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != item["sha256"]:
        raise ItemError(f"sha256: The file's is {found}; it is another file, or damaged.")
    return data


def _resolved(path: Path) -> Path | None:
    """Return the path with links resolved, or None if it leads nowhere. Raises OSError for circular links.

    Resolution is strict: a partly resolved path could still lead outside by a link.
    """
    try:
        return type(path)(os.path.realpath(path, strict=True))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _developed(
    original: bytes, known: Screenshot | None, sha256: str
) -> tuple[dict[str, Any], list[StoredRendition] | None]:
    """Measure, encode and store a picture, unless it is known and all its files, including the original, are stored."""
    if known is not None and known.sha256 == sha256 and _complete(known, len(original)):
        return {}, None
    facts, encoded = images.develop(original)
    try:
        storage.store_original(original)
        return asdict(facts), [redrawing.keep(rendition) for rendition in encoded]
    except OSError as error:
        raise KeepingError(
            f"{error.filename or 'A picture'} cannot be written: {_wrong(error)}. Correct that, or set MEDIA_ROOT to a "
            "folder that this user may write to, on a disk with room."
        ) from error


def _wrong(error: OSError) -> str:
    """Return the text of an error. Only an error of the operating system has `strerror`."""
    return error.strerror or str(error)


def _complete(screenshot: Screenshot, size: int) -> bool:
    """Return whether every file of the screenshot is stored completely; `size` is that of the original, in bytes."""
    rows = stored_renditions(screenshot)
    wanted = set(product(images.rendition_widths(screenshot.width), images.FORMATS))
    kept = all(storage.exists(row.sha256, row.format, row.bytes) for row in rows)
    return (
        kept
        and storage.has_original(screenshot.sha256, size)
        and {(row.width, row.format) for row in rows} == wanted
    )
