"""What a manifest may contain, and how each of its pictures becomes a screenshot.

The galleries are validated first. After that each picture is imported independently, so a bad one does not stop the
others. Rows that already agree with the manifest are not written. `docs/importing.md` is the reference of the format.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, OperationalError, models, transaction
from rest_framework import serializers

from catalog.capture import images, redrawing, storage
from catalog.capture.redrawing import OvertakenError, StoredRendition
from catalog.curation.tags import tags_named
from catalog.models import (
    LARGEST,
    LONGEST_DESCRIPTION,
    ColorScheme,
    Gallery,
    Rendition,
    Screenshot,
    State,
    Visibility,
    page_url,
)
from keybits import replicas
from keybits.drf.writes import BusyError, atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "Failure",
    "KeepingError",
    "Manifest",
    "ManifestError",
    "Outcome",
    "Report",
    "StoredRendition",
    "import_manifest",
    "put_cover",
    "put_gallery",
    "put_screenshot",
    "read_manifest",
    "source_url",
]

T = TypeVar("T")
SCHEMA = "demo-manifest/1"
BATCH = 2_000
"""Rows whose tags and renditions are read at once: SQLite allows at most 32,766 parameters in a statement."""


class ManifestError(ValueError):
    """The manifest cannot be used at all. The message names the place, and what is accepted there."""


class KeepingError(RuntimeError):
    """No picture can be stored, because the file storage or the database fails. The message says which, and why."""


class _ItemError(ValueError):
    """One picture cannot be imported; the message is the reason."""


class Outcome(enum.Enum):
    """What a write did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was not imported: its place in the manifest, why, and how many pictures it stands for."""

    item: str
    reason: str
    pictures: int = 1
    is_cover: bool = False


@dataclass(slots=True)
class Report:
    """The result of an import: the number of pictures by outcome, and the failures."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, result: Outcome | Failure | None) -> None:
        """Count an outcome, or keep a failure; ignore None."""
        if isinstance(result, Failure):
            self.failures.append(result)
        elif result is not None:
            self.outcomes[result] += 1

    @property
    def failed(self) -> int:
        """The number of pictures that failed."""
        return sum(failure.pictures for failure in self.failures)

    @property
    def failed_covers(self) -> int:
        """The number of covers that failed."""
        return sum(failure.is_cover for failure in self.failures)

    def __str__(self) -> str:
        done = ", ".join(f"{self.outcomes[outcome]} {outcome.value}" for outcome in Outcome)
        return f"{done}, {self.failed} failed"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose galleries are validated. Pictures are validated one by one, when they are imported."""

    root: Path
    """The folder that contains all pictures, with links resolved."""
    galleries: Sequence[Mapping[str, Any]]
    device_pixel_ratio: float

    @property
    def total(self) -> int:
        """The number of pictures in the manifest."""
        return sum(len(gallery["screenshots"]) for gallery in self.galleries)

    @property
    def covers(self) -> int:
        """The number of galleries in the manifest with a cover."""
        return sum(bool(gallery.get("cover")) for gallery in self.galleries)


# --- The format ---------------------------------------------------------------------------------------------


def _choice(*values: str, **options: Any) -> serializers.ChoiceField:
    wrong = f"{{input}} is unknown here; write one of {', '.join(values)}."
    return serializers.ChoiceField(values, error_messages={"invalid_choice": wrong}, **options)


def _digits(pattern: str, wrong: str, **options: Any) -> serializers.RegexField:
    return serializers.RegexField(pattern, error_messages={"invalid": wrong}, **options)


def _color() -> serializers.RegexField:
    return _digits(r"^#[0-9a-f]{6}\Z", "Write a colour as # and six lower-case hex digits.", required=False)


class _Serializer(serializers.Serializer[Any]):
    pass


class _SourceFormat(_Serializer):
    package = serializers.CharField()
    version = serializers.CharField()
    licence = serializers.CharField()
    page_path = serializers.CharField()


class _ViewportFormat(_Serializer):
    width = serializers.IntegerField(min_value=1, max_value=100_000)
    height = serializers.IntegerField(min_value=1, max_value=100_000)


class _ItemFormat(_Serializer):
    slug = serializers.SlugField(max_length=100)
    file = serializers.CharField(trim_whitespace=False)
    sha256 = _digits(r"^[0-9a-f]{64}\Z", "Write the file's SHA-256 as 64 lower-case hexadecimal digits.")
    title = serializers.CharField(max_length=200)
    alt = serializers.CharField(max_length=500, allow_blank=True, required=False)
    page_title = serializers.CharField(max_length=500, allow_blank=True, required=False)
    page_key = serializers.CharField(required=False)
    source = _SourceFormat(required=False)  # type: ignore[assignment]
    source_url = serializers.CharField(max_length=2000, validators=[page_url], required=False)
    final_url = serializers.CharField(
        max_length=2000, validators=[page_url], allow_blank=True, required=False
    )
    viewport = _ViewportFormat()
    device_pixel_ratio = serializers.FloatField(min_value=0.1, max_value=10, required=False)
    full_page = serializers.BooleanField(required=False)
    color_scheme = _choice(*ColorScheme.values, required=False)
    state = _choice(*State.values, default=State.READY.value)
    http_status = serializers.IntegerField(min_value=100, max_value=599, allow_null=True, default=200)
    error_code = serializers.CharField(max_length=50, allow_blank=True, required=False)
    tags = serializers.ListField(child=serializers.SlugField(max_length=100), default=list)
    captured_at = serializers.DateTimeField()
    position = serializers.IntegerField(min_value=0, max_value=LARGEST, required=False)
    dominant_color = _color()
    accent_color = _color()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "source" not in attrs and "source_url" not in attrs:
            raise serializers.ValidationError("Give source (package, version, ...) or source_url.")
        return attrs


class _GalleryFormat(_Serializer):
    slug = serializers.SlugField(max_length=100)
    title = serializers.CharField(max_length=200)
    description = serializers.CharField(max_length=LONGEST_DESCRIPTION, allow_blank=True, required=False)
    visibility = _choice(*Visibility.values, required=False)
    position = serializers.IntegerField(min_value=0, max_value=LARGEST, required=False)
    cover = serializers.CharField(allow_null=True, required=False)
    screenshots = serializers.ListField()


class _CaptureFormat(_Serializer):
    device_scale_factor = serializers.FloatField(min_value=0.1, max_value=10, default=1.0)


class _ManifestFormat(_Serializer):
    schema = _choice(SCHEMA)
    capture = _CaptureFormat(required=False)
    galleries = _GalleryFormat(many=True, allow_empty=False)

    def validate_galleries(self, galleries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        twice = [slug for slug, n in Counter(gallery["slug"] for gallery in galleries).items() if n > 1]
        if twice:
            raise serializers.ValidationError(f"Use each slug once; used more often: {', '.join(twice)}.")
        return galleries


def read_manifest(*, path: Path) -> Manifest:
    """Read and validate a manifest, or the `manifest.json` of a folder. Raises `ManifestError`."""
    file = path
    try:
        file = path / "manifest.json" if path.is_dir() else path
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"{file}: {error.strerror}. Name a manifest, or the folder of one.") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{file} is not JSON in UTF-8: {error}.") from error
    try:
        found = _checked(_ManifestFormat, data, "$")
    except _ItemError as error:
        raise ManifestError(f"{file} is not a manifest. {error}") from error
    scale = found.get("capture", {}).get("device_scale_factor", 1.0)
    return Manifest(root=file.parent.resolve(), galleries=found["galleries"], device_pixel_ratio=scale)


def _checked(format: type[_Serializer], data: object, place: str) -> dict[str, Any]:
    """Return the validated `data`. Raises `_ItemError`, which names every wrong place."""
    serializer = format(data=data)
    if not serializer.is_valid():
        found = _messages(serializer.errors, place)
        raise _ItemError(" ".join(f"{where.lstrip('.')}: {what}" if where else what for where, what in found))
    return dict(serializer.validated_data)


def _messages(errors: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield REST framework's errors, which mirror the data, each with its place as a JSON path."""
    if isinstance(errors, dict):
        for key, below in errors.items():
            yield from _messages(below, _below(place, key))
    elif isinstance(errors, list):
        for index, below in enumerate(errors):
            yield from _messages(below, place if isinstance(below, str) else f"{place}[{index}]")
    else:
        yield place, str(errors)


def _below(place: str, key: object) -> str:
    if key == "non_field_errors":
        return place
    return f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}"


# --- Names --------------------------------------------------------------------------------------------------


def source_url(*, package: str, version: str, page_path: str) -> str:
    """Return the public URL of a file of an npm package. It is permanent: a version never changes."""
    return f"https://unpkg.com/{quote(package, safe='@/')}@{quote(version)}/{quote(page_path.lstrip('/'))}"


# --- Writes -------------------------------------------------------------------------------------------------


@transaction.atomic
def put_gallery(*, slug: str, fields: Mapping[str, Any]) -> tuple[Gallery, Outcome]:
    """Create the gallery with this slug, or update the fields that differ. Writes nothing if none differs."""
    gallery = Gallery.objects.select_for_update(no_key=True).filter(slug=slug).first() or Gallery(slug=slug)
    return gallery, _save(gallery, _changes(gallery, fields))


@transaction.atomic
def put_screenshot(
    *,
    gallery: Gallery,
    slug: str,
    fields: Mapping[str, Any],
    tags: Collection[str],
    renditions: Collection[StoredRendition] | None = None,
) -> Outcome:
    """Create the screenshot with this slug in this gallery, or update what differs. Writes nothing if nothing does.

    `fields` are attributes of `Screenshot`; `metadata` is merged into the present one. `tags` are the slugs of all its
    tags; those that do not exist are created. `renditions` are all its renditions; None leaves them alone. `updated_at`
    changes if any of these differs. Raises Django's `ValidationError`, and, without `renditions`, `OvertakenError` if
    the screenshot has no picture yet, or a different one than in `fields`.
    """
    Gallery.objects.select_for_update(no_key=True).get(pk=gallery.pk)  # serializes concurrent imports
    screenshot = _find(gallery, slug) or Screenshot(gallery=gallery, metadata={"slug": slug})
    if renditions is None and screenshot.sha256 != fields.get("sha256", screenshot.sha256):
        raise OvertakenError
    plan = _plan(screenshot, fields, tags, renditions)
    outcome = _save(screenshot, plan.changes, touch=plan.retag or plan.redraw)
    if plan.retag:
        screenshot.tags.set(tags_named(slugs=tags))
    if plan.redraw:
        redrawing.replace(screenshot=screenshot, renditions=renditions or ())
    return outcome


@transaction.atomic
def put_cover(*, gallery: Gallery, slug: str) -> Outcome:
    """Make the screenshot with this slug the gallery's cover. Raises `DoesNotExist` of either model."""
    gallery = Gallery.objects.select_for_update(no_key=True).get(pk=gallery.pk)
    cover = _find(gallery, slug)
    if cover is None:
        raise Screenshot.DoesNotExist
    return _save(gallery, {"cover_id": cover.pk} if gallery.cover_id != cover.pk else {})


class _Plan(NamedTuple):
    """The differences between a screenshot and what it should be."""

    changes: dict[str, Any]
    retag: bool
    redraw: bool


def _plan(
    screenshot: Screenshot,
    fields: Mapping[str, Any],
    tags: Collection[str],
    renditions: Collection[StoredRendition] | None,
) -> _Plan:
    metadata = {**screenshot.metadata, **fields.get("metadata", {})}
    return _Plan(
        changes=_changes(screenshot, {**fields, "metadata": metadata}),
        retag=_tags(screenshot) != set(tags),
        redraw=renditions is not None and _drawn(screenshot) != set(renditions),
    )


def _changes(instance: models.Model, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if getattr(instance, name) != value}


def _save(instance: models.Model, changes: Mapping[str, Any], *, touch: bool = False) -> Outcome:
    """Write only the changes. `touch` updates `updated_at` even if there are none."""
    created = instance._state.adding
    if not (created or changes or touch):
        return Outcome.UNCHANGED
    for name, value in changes.items():
        setattr(instance, name, value)
    instance.clean_fields(exclude={"gallery", "owner", "cover"})
    instance.save(update_fields=None if created else [*changes, "updated_at"])
    return Outcome.CREATED if created else Outcome.UPDATED


def _find(gallery: Gallery, slug: str) -> Screenshot | None:
    return Screenshot.objects.filter(gallery=gallery, metadata__slug=slug).order_by("pk").first()


def _tags(screenshot: Screenshot) -> set[str]:
    return set() if screenshot._state.adding else {tag.slug for tag in screenshot.tags.all()}


def _drawn(screenshot: Screenshot) -> set[StoredRendition]:
    return set() if screenshot._state.adding else {_row(drawn) for drawn in screenshot.renditions.all()}


def _row(rendition: Rendition) -> StoredRendition:
    return StoredRendition(
        rendition.width, rendition.height, rendition.format, rendition.bytes, rendition.sha256
    )


# --- The import ---------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    """A picture of the manifest, not yet validated, and its place."""

    place: str
    position: int
    data: Any

    def failed(self, reason: str) -> Failure:
        slug = self.data.get("slug") if isinstance(self.data, dict) else None
        return Failure(f"{self.place} ({slug})" if slug else self.place, reason)


class _Prepared(NamedTuple):
    """A picture that was validated and stored; `renditions` is None if the present ones are still right."""

    slug: str
    fields: dict[str, Any]
    tags: list[str]
    renditions: list[StoredRendition] | None


def import_manifest(
    *, manifest: Manifest, report: Report | None = None, on_item: Callable[[], object] = lambda: None
) -> Report:
    """Import every gallery of a manifest, each picture in its own transaction. The report has the failures.

    Raises `KeepingError` if a picture cannot be stored, because no other could be either. What was imported before
    stays, and is in the given `report`. Calls `on_item` after each picture. Encodes pictures in as many threads as
    there are processors; only the calling thread uses the database. Leaves alone what the manifest does not name.
    """
    report = Report() if report is None else report
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool, replicas.filling():
            for index, entry in enumerate(manifest.galleries):
                _import_gallery(manifest, entry, f"$.galleries[{index}]", pool, report, on_item)
    except OperationalError as error:
        raise KeepingError(f"The database fails: {error}. Correct that, then run this again.") from error
    return report


def _import_gallery(
    manifest: Manifest,
    entry: Mapping[str, Any],
    place: str,
    pool: ThreadPoolExecutor,
    report: Report,
    on_item: Callable[[], object],
) -> None:
    gallery = _import_entry(entry, place)
    if isinstance(gallery, Failure):
        report.add(gallery)
        return
    for result in _import_pictures(manifest, gallery, _jobs(entry, place), pool):
        report.add(result)
        on_item()
    report.add(_import_cover(gallery, entry.get("cover"), f"{place}.cover"))


def _import_entry(entry: Mapping[str, Any], place: str) -> Gallery | Failure:
    stated = {name: entry[name] for name in _GALLERY_AS_WRITTEN if name in entry}
    put = partial(put_gallery, slug=entry["slug"], fields=stated)
    failed = partial(Failure, f"{place} ({entry['slug']})", pictures=len(entry["screenshots"]))
    written = _written(put, failed)
    return written if isinstance(written, Failure) else written[0]


def _jobs(entry: Mapping[str, Any], place: str) -> list[_Job]:
    pictures = enumerate(entry["screenshots"])
    return [_Job(f"{place}.screenshots[{position}]", position, data) for position, data in pictures]


def _import_pictures(
    manifest: Manifest, gallery: Gallery, jobs: Sequence[_Job], pool: ThreadPoolExecutor
) -> Iterator[Outcome | Failure]:
    known = _known(gallery)
    taken: set[str] = set()
    for job, prepared in zip(jobs, pool.map(partial(_prepare, manifest, known), jobs), strict=True):
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
    manifest: Manifest, gallery: Gallery, known: Screenshot | None, job: _Job, prepared: _Prepared
) -> Outcome | Failure:
    """Write a picture. If its row was deleted or got another picture since it was read (`known`), prepare it again."""
    try:
        return _write(gallery, known, job, prepared)
    except OvertakenError:
        anew = _prepare(manifest, {}, job)
        return anew if isinstance(anew, Failure) else _write(gallery, None, job, anew)


def _write(gallery: Gallery, known: Screenshot | None, job: _Job, prepared: _Prepared) -> Outcome | Failure:
    # Read first: a row that does not differ needs no transaction. `known` may be hours old.
    at_present = Screenshot.objects.filter(pk=known.pk, gallery=gallery).first() if known else None
    if at_present and not any(_plan(at_present, prepared.fields, prepared.tags, prepared.renditions)):
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


# --- One picture, in a thread of its own: no database -------------------------------------------------------


def _prepare(manifest: Manifest, known: Mapping[str, Screenshot], job: _Job) -> _Prepared | Failure:
    try:
        item = _checked(_ItemFormat, job.data, "")
        original = _original(manifest.root, item)
        facts, renditions = _developed(original, known.get(item["slug"]), item["sha256"])
    except (_ItemError, images.ImageError) as error:
        return job.failed(str(error))
    except OSError as error:
        return job.failed(f"file: {_wrong(error)}: {error.filename or item['file']}")
    item.setdefault("position", job.position)
    item.setdefault("device_pixel_ratio", manifest.device_pixel_ratio)
    return _Prepared(item["slug"], {**facts, **_fields(item)}, item["tags"], renditions)


def _original(root: Path, item: Mapping[str, Any]) -> bytes:
    """Return the picture's bytes. Raises `_ItemError` for files that are missing, too large, damaged or outside.

    A file is outside if, with links followed, it does not lie below the manifest's folder.
    """
    path = _resolved(root / item["file"])
    if path and not path.is_relative_to(root):
        raise _ItemError("file: It lies outside the manifest's folder; write a path below that folder.")
    if not (path and path.is_file()):
        raise _ItemError(f"file: There is no file {item['file']} in the manifest's folder.")
    if path.stat().st_size > images.MAX_BYTES:
        raise _ItemError(f"file: It is too large; accepted is {images.LIMITS}.")
    data: bytes = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != item["sha256"]:
        raise _ItemError(f"sha256: The file's is {found}; it is another file, or damaged.")
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
    drawn = _drawn(screenshot)
    wanted = set(product(images.rendition_widths(screenshot.width), images.FORMATS))
    kept = all(storage.exists(row.sha256, row.format, row.bytes) for row in drawn)
    return (
        kept
        and storage.has_original(screenshot.sha256, size)
        and {(row.width, row.format) for row in drawn} == wanted
    )


_GALLERY_AS_WRITTEN = ("title", "description", "visibility", "position")
_AS_WRITTEN = (
    "title",
    "alt",
    "page_title",
    "final_url",
    "device_pixel_ratio",
    "full_page",
    "color_scheme",
    "state",
    "http_status",
    "error_code",
    "captured_at",
    "position",
    "dominant_color",
    "accent_color",
)


def _fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `Screenshot` that an item states; they take precedence over measured ones."""
    source = item.get("source", {})
    page = {"page_key": item["page_key"]} if "page_key" in item else {}
    return {
        **{name: item[name] for name in _AS_WRITTEN if name in item},
        "sha256": item["sha256"],
        "source_url": item.get("source_url") or _page(source),
        "viewport_width": item["viewport"]["width"],
        "viewport_height": item["viewport"]["height"],
        "metadata": {"slug": item["slug"], **source, **page},
    }


def _page(source: Mapping[str, str]) -> str:
    return source_url(package=source["package"], version=source["version"], page_path=source["page_path"])
