"""The run of an import: gallery by gallery, each picture in a transaction of its own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, OperationalError

from catalog.capture.redrawing import OvertakenError
from catalog.importing.manifests import Manifest, gallery_fields
from catalog.importing.pictures import Job, KeepingError, Prepared, prepare
from catalog.importing.reports import Failure, Outcome, Report
from catalog.importing.rows import differs, put_cover, put_gallery, put_screenshot
from catalog.models import Gallery, Screenshot
from keybits import replicas
from keybits.drf.attempts import BusyError, atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["BATCH", "import_manifest"]

T = TypeVar("T")
BATCH = 2_000
"""Rows whose tags and renditions are read at once: SQLite allows at most 32,766 parameters in a statement."""


def import_manifest(
    *,
    manifest: Manifest,
    owner: Any = None,
    report: Report | None = None,
    on_item: Callable[[], object] = lambda: None,
) -> Report:
    """Import every gallery of a manifest, each picture in its own transaction. The report has the failures.

    `owner` becomes the owner of the galleries that have none.
    Raises `KeepingError` if a picture cannot be stored, because no other could be either. What was imported before
    stays, and is in the given `report`. Calls `on_item` after each picture. Encodes pictures in as many threads as
    there are processors; only the calling thread uses the database. Leaves alone what the manifest does not name.
    """
    report = Report() if report is None else report
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool, replicas.filling():
            _Run(manifest, owner, pool, report, on_item).go()
    except OperationalError as error:
        raise KeepingError(f"The database fails: {error}. Correct that, then run this again.") from error
    return report


class _Run(NamedTuple):
    """One import: what is imported, and where its results go."""

    manifest: Manifest
    owner: Any
    pool: ThreadPoolExecutor
    report: Report
    on_item: Callable[[], object]

    def go(self) -> None:
        for index, entry in enumerate(self.manifest.galleries):
            place = f"$.galleries[{index}]"
            gallery = _import_entry(entry, place, self.owner)
            if isinstance(gallery, Failure):
                self.report.add(gallery)
            else:
                self._fill(gallery, entry, place)

    def _fill(self, gallery: Gallery, entry: Mapping[str, Any], place: str) -> None:
        for result in _import_pictures(self.manifest, gallery, _jobs(entry, place), self.pool):
            self.report.add(result)
            self.on_item()
        self.report.add(_import_cover(gallery, entry.get("cover"), f"{place}.cover"))


def _import_entry(entry: Mapping[str, Any], place: str, owner: Any) -> Gallery | Failure:
    put = partial(put_gallery, slug=entry["slug"], fields=gallery_fields(entry), owner=owner)
    failed = partial(Failure, f"{place} ({entry['slug']})", pictures=len(entry["screenshots"]))
    written = _written(put, failed)
    return written if isinstance(written, Failure) else written[0]


def _jobs(entry: Mapping[str, Any], place: str) -> list[Job]:
    pictures = enumerate(entry["screenshots"])
    return [Job(f"{place}.screenshots[{position}]", position, data) for position, data in pictures]


def _import_pictures(
    manifest: Manifest, gallery: Gallery, jobs: Sequence[Job], pool: ThreadPoolExecutor
) -> Iterator[Outcome | Failure]:
    known = _known(gallery)
    taken: set[str] = set()
    for job, prepared in zip(jobs, pool.map(partial(prepare, manifest, known), jobs), strict=True):
        if isinstance(prepared, Failure):
            yield prepared
        elif prepared.slug in taken:
            yield job.failed("slug: Another picture of this gallery has it; use each once.")
        else:
            taken.add(prepared.slug)
            yield _import_picture(manifest, gallery, known.get(prepared.slug), job, prepared)


def _known(gallery: Gallery) -> dict[str, Screenshot]:
    """Return the gallery's imported screenshots by their slug in the manifest; of duplicates, the oldest."""
    imported = Screenshot.objects.filter(gallery=gallery, metadata__has_key="slug").order_by("-pk")
    shots = imported.prefetch_related("tags", "renditions").iterator(BATCH)
    return {shot.metadata["slug"]: shot for shot in shots}


def _import_picture(
    manifest: Manifest, gallery: Gallery, known: Screenshot | None, job: Job, prepared: Prepared
) -> Outcome | Failure:
    """Write a picture. If its row was deleted or got another picture since it was read (`known`), prepare it again."""
    try:
        return _write(gallery, known, job, prepared)
    except OvertakenError:
        anew = prepare(manifest, {}, job)
        return anew if isinstance(anew, Failure) else _write(gallery, None, job, anew)


def _write(gallery: Gallery, known: Screenshot | None, job: Job, prepared: Prepared) -> Outcome | Failure:
    # Read first: a row that does not differ needs no transaction. `known` may be hours old.
    at_present = Screenshot.objects.filter(pk=known.pk, gallery=gallery).first() if known else None
    if at_present and not differs(at_present, prepared.fields, prepared.tags, prepared.renditions):
        return Outcome.UNCHANGED
    put = partial(
        put_screenshot,
        gallery=gallery,
        slug=prepared.slug,
        fields=prepared.fields,
        tags=prepared.tags,
        renditions=prepared.renditions,
    )
    return _written(put, job.failed)


def _import_cover(gallery: Gallery, slug: str | None, place: str) -> Failure | None:
    if not slug:
        return None
    failed = partial(Failure, place, pictures=0, is_cover=True)
    try:
        done = _written(partial(put_cover, gallery=gallery, slug=slug), failed)
    except Screenshot.DoesNotExist:
        return failed(f"{slug}: No picture of this gallery has been imported under this slug.")
    return done if isinstance(done, Failure) else None


def _written(put: Callable[[], T], failed: Callable[[str], Failure]) -> T | Failure:
    """Run a write, with retries if others are writing the same rows. A failure says what prevented it."""
    try:
        return atomically(Gallery, put)
    except ValidationError as error:
        return failed(" ".join(error.messages))
    except BusyError as error:
        return failed(f"Others were writing; import it again: {error.__cause__}")
    except (DataError, IntegrityError) as error:
        return failed(f"The database refuses it: {error}")
    except Gallery.DoesNotExist:
        return failed("Its gallery has been deleted meanwhile.")
