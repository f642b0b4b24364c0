"""What a manifest may say, and what becomes of it."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from PIL import Image
from stacks.threads import PATIENCE, aside, wait_for_who_waits_for_us

from catalog import importing
from catalog.capture import images, redrawing, storage
from catalog.importing import Failure, ManifestError, Outcome, import_manifest, read_manifest
from catalog.models import Gallery, Rendition, Screenshot, Tag

pytestmark = pytest.mark.django_db

Manifest = dict[str, Any]
LAST_WEEK = datetime(2026, 11, 14, tzinfo=UTC)


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> Path:
    """Point the default storage at an empty folder."""
    options = {"location": str(tmp_path / "media"), "base_url": "/files/"}
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    return tmp_path / "media"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gallery" / "images").mkdir(parents=True)
    return tmp_path / "gallery"


def draw(folder: Path, name: str, color: str = "navy", size: tuple[int, int] = (340, 200)) -> dict[str, str]:
    """Write a picture; return what a manifest has to say about it."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    (folder / "images" / f"{name}.png").write_bytes(buffer.getvalue())
    return {"file": f"images/{name}.png", "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}


def item(folder: Path, slug: str, **changes: Any) -> Manifest:
    source = {"package": "@scope/site", "version": "1.0.0+a", "licence": "MIT", "page_path": "dist/a b.html"}
    return {
        "slug": slug,
        **draw(folder, slug),
        "title": slug.title(),
        "alt": f"Screenshot of {slug}",
        "page_title": "A page",
        "page_key": f"site:{slug}",
        "source": source,
        "viewport": {"width": 1280, "height": 800},
        "full_page": True,
        "color_scheme": "dark",
        "tags": ["dark", "full-page"],
        "captured_at": "2026-11-20T14:29:45Z",
        **changes,
    }


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    return {
        "schema": "demo-manifest/1",
        "capture": {"device_scale_factor": 2},
        "galleries": [
            {
                "slug": "spring",
                "title": "Spring",
                "description": "Made in spring.",
                "position": 3,
                "cover": "second",
                "screenshots": [item(folder, "first"), item(folder, "second", tags=["mobile"])],
            }
        ],
    }


@pytest.fixture
def run(folder: Path, manifest: Manifest) -> Callable[[], importing.Report]:
    """Write the manifest as it is now, and import it."""

    def run() -> importing.Report:
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return import_manifest(manifest=read_manifest(path=folder))

    return run


Run = Callable[[], importing.Report]


@pytest.fixture
def written(folder: Path, manifest: Manifest) -> importing.Manifest:
    """The manifest as it is read from its file."""
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return read_manifest(path=folder)


def age() -> None:
    """Put all dates of change back, so that a later one shows."""
    Screenshot.objects.update(updated_at=LAST_WEEK)
    Gallery.objects.update(updated_at=LAST_WEEK)


def changed() -> set[str]:
    """Return the titles of what has changed since `age`."""
    rows = [*Screenshot.objects.all(), *Gallery.objects.all()]
    return {row.title for row in rows if row.updated_at != LAST_WEEK}


def test_a_description_has_an_end(folder: Path, manifest: Manifest) -> None:
    manifest["galleries"][0]["description"] = "x" * 5_001
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=r"description.*5000"):
        read_manifest(path=folder)


def test_a_name_that_no_file_can_have_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="Name a manifest"):
        read_manifest(path=tmp_path / ("x" * 5_000))


class TestFirstRun:
    def test_everything_is_created(self, run: Run) -> None:
        report = run()

        assert report.outcomes == {Outcome.CREATED: 2}
        assert str(report) == "2 created, 0 updated, 0 unchanged, 0 failed"

    def test_the_gallery_is_as_the_manifest_says(self, run: Run) -> None:
        run()
        gallery = Gallery.objects.get(slug="spring")

        assert (gallery.title, gallery.description, gallery.position) == ("Spring", "Made in spring.", 3)
        assert gallery.visibility == "public"
        assert gallery.cover is not None
        assert gallery.cover.title == "Second"

    def test_a_screenshot_is_as_the_manifest_says(self, run: Run) -> None:
        run()
        shot = Screenshot.objects.get(title="First")

        assert (shot.gallery.slug, shot.position) == ("spring", 0)
        assert (shot.alt, shot.page_title) == ("Screenshot of first", "A page")
        assert (shot.viewport_width, shot.viewport_height, shot.device_pixel_ratio) == (1280, 800, 2)
        assert (shot.full_page, shot.color_scheme) == (True, "dark")
        assert (shot.state, shot.http_status) == ("ready", 200)
        assert shot.captured_at == datetime(2026, 11, 20, 14, 29, 45, tzinfo=UTC)
        assert Screenshot.objects.get(title="Second").position == 1

    def test_a_screenshot_knows_its_pixels(self, run: Run, manifest: Manifest) -> None:
        run()
        shot = Screenshot.objects.get(title="First")

        assert (shot.width, shot.height, shot.orientation) == (340, 200, "landscape")
        assert (shot.dominant_color, shot.accent_color) == ("#000080", "#000080")
        assert shot.sha256 == manifest["galleries"][0]["screenshots"][0]["sha256"]
        assert len(shot.dhash256) == 64
        assert shot.placeholder

    def test_what_the_manifest_says_goes_before_what_is_measured(self, run: Run, manifest: Manifest) -> None:
        stated = {
            "dominant_color": "#ffffff",
            "accent_color": "#123456",
            "state": "failed",
            "http_status": 503,
        }
        manifest["galleries"][0]["screenshots"][0].update(
            stated, error_code="blocked", device_pixel_ratio=1.5
        )
        run()
        shot = Screenshot.objects.get(title="First")

        assert (shot.dominant_color, shot.accent_color) == ("#ffffff", "#123456")
        assert (shot.state, shot.http_status, shot.error_code) == ("failed", 503, "blocked")
        assert shot.device_pixel_ratio == 1.5

    def test_its_page_has_a_public_address_that_lasts(self, run: Run) -> None:
        run()
        shot = Screenshot.objects.get(title="First")

        assert shot.source_url == "https://unpkg.com/@scope/site@1.0.0%2Ba/dist/a%20b.html"
        assert shot.domain == "unpkg.com"
        assert shot.metadata == {
            "slug": "first",
            "package": "@scope/site",
            "version": "1.0.0+a",
            "licence": "MIT",
            "page_path": "dist/a b.html",
            "page_key": "site:first",
        }

    def test_a_page_of_the_web_needs_no_package(self, run: Run, manifest: Manifest) -> None:
        entry = manifest["galleries"][0]["screenshots"][0]
        del entry["source"]
        entry["source_url"] = "https://example.org/"
        run()

        assert Screenshot.objects.get(title="First").domain == "example.org"

    def test_a_file_may_have_any_name(self, run: Run, folder: Path, manifest: Manifest) -> None:
        manifest["galleries"][0]["screenshots"][0].update(draw(folder, " spaced "))
        (folder / " spaced.png ").write_bytes((folder / "images" / " spaced .png").read_bytes())
        manifest["galleries"][0]["screenshots"][0]["file"] = " spaced.png "

        assert run().failures == []

    def test_tags_are_named_and_sorted_by_kind(self, run: Run) -> None:
        run()

        assert set(Tag.objects.values_list("slug", "name", "kind")) == {
            ("dark", "Dark", "scheme"),
            ("full-page", "Full page", "topic"),
            ("mobile", "Mobile", "device"),
        }
        assert {tag.slug for tag in Screenshot.objects.get(title="First").tags.all()} == {"dark", "full-page"}

    def test_a_tag_that_exists_keeps_its_name(self, run: Run) -> None:
        Tag.objects.create(slug="dark", name="Night", kind="topic")
        run()

        assert Tag.objects.get(slug="dark").name == "Night"

    def test_renditions_are_stored_under_their_digest(self, run: Run) -> None:
        run()
        rows = Rendition.objects.filter(screenshot__title="First")

        assert {(row.width, row.height, row.format) for row in rows} == {
            (320, 188, "webp"),
            (320, 188, "jpeg"),
        }
        for row in rows:
            data = storage.open(row.sha256, row.format).read()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (row.bytes, row.sha256)


class TestSecondRun:
    @pytest.fixture(autouse=True)
    def _imported(self, run: Run) -> None:
        run()
        age()

    def test_nothing_is_written(self, run: Run) -> None:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            report = run()
        written = [
            query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))
        ]

        assert report.outcomes == {Outcome.UNCHANGED: 2}
        assert written == []
        assert changed() == set()

    @pytest.mark.stack("embedded")
    def test_there_may_be_more_pictures_than_a_statement_takes_parameters(
        self, run: Run, folder: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pictures = [item(folder, f"s{number}") for number in range(12)]
        manifest["galleries"][0].update(screenshots=pictures, cover=None)
        run()
        monkeypatch.setattr("catalog.importing.run.BATCH", 5)
        most = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 11)
        try:
            assert run().outcomes == {Outcome.UNCHANGED: 12}
        finally:
            connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)

    def test_no_picture_is_developed_again(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(images, "develop", None)

        assert run().outcomes == {Outcome.UNCHANGED: 2}

    def test_one_difference_is_one_update(self, run: Run, manifest: Manifest) -> None:
        manifest["galleries"][0]["screenshots"][0]["alt"] = "Another"
        report = run()

        assert report.outcomes == {Outcome.UPDATED: 1, Outcome.UNCHANGED: 1}
        assert changed() == {"First"}
        assert Screenshot.objects.get(title="First").alt == "Another"

    def test_another_address_moves_the_domain(self, run: Run, manifest: Manifest) -> None:
        manifest["galleries"][0]["screenshots"][0]["source_url"] = "https://example.org/"
        run()

        assert Screenshot.objects.get(title="First").domain == "example.org"

    def test_other_tags_are_an_update(self, run: Run, manifest: Manifest) -> None:
        manifest["galleries"][0]["screenshots"][0]["tags"] = ["light"]
        report = run()

        assert report.outcomes[Outcome.UPDATED] == 1
        assert [tag.slug for tag in Screenshot.objects.get(title="First").tags.all()] == ["light"]
        assert changed() == {"First"}

    def test_renditions_can_be_made_anew_of_what_was_imported(self, run: Run) -> None:
        shot = Screenshot.objects.get(title="First")
        before = set(shot.renditions.values_list("sha256", flat=True))
        assert redrawing.redraw(screenshot=shot) == len(before)
        assert set(shot.renditions.values_list("sha256", flat=True)) == before

    def test_another_picture_replaces_the_renditions(
        self, run: Run, folder: Path, manifest: Manifest
    ) -> None:
        before = set(Rendition.objects.filter(screenshot__title="First").values_list("sha256", flat=True))
        manifest["galleries"][0]["screenshots"][0].update(draw(folder, "first", "red"))
        run()
        after = set(Rendition.objects.filter(screenshot__title="First").values_list("sha256", flat=True))

        assert len(after) == 2
        assert before & after == set()
        assert Screenshot.objects.get(title="First").dominant_color == "#ff0000"

    def test_lost_files_come_back_and_nothing_else_moves(self, run: Run, media: Path) -> None:
        for path in media.rglob("*.webp"):
            path.unlink()
        report = run()

        assert report.outcomes == {Outcome.UNCHANGED: 2}
        assert len(list(media.rglob("*.webp"))) == 1  # both pictures look the same
        assert changed() == set()

    def test_what_has_been_cut_short_comes_back_whole(self, run: Run, media: Path) -> None:
        whole = {path: path.read_bytes() for path in media.rglob("*") if path.is_file()}
        for path, data in whole.items():
            path.write_bytes(data[:100])
        report = run()

        assert report.outcomes == {Outcome.UNCHANGED: 2}
        assert {path: path.read_bytes() for path in whole} == whole

    def test_a_lost_original_comes_back(self, run: Run, media: Path) -> None:
        kept = Screenshot.objects.get(title="First").sha256
        (media / "originals" / kept[:2] / kept).unlink()
        assert run().outcomes == {Outcome.UNCHANGED: 2}
        assert storage.has_original(kept)

    def test_lost_renditions_come_back(self, run: Run) -> None:
        Rendition.objects.filter(screenshot__title="First", format="jpeg").delete()
        report = run()

        assert report.outcomes[Outcome.UPDATED] == 1
        assert Rendition.objects.filter(screenshot__title="First").count() == 2

    def test_an_item_is_known_by_its_slug(self, run: Run, manifest: Manifest) -> None:
        manifest["galleries"][0]["screenshots"][0]["title"] = "Renamed"
        run()

        assert set(Screenshot.objects.values_list("title", flat=True)) == {"Renamed", "Second"}

    def test_the_same_slug_in_another_gallery_is_another_item(
        self, run: Run, folder: Path, manifest: Manifest
    ) -> None:
        other = {"slug": "autumn", "title": "Autumn", "screenshots": [item(folder, "first")]}
        manifest["galleries"].append(other)

        assert run().outcomes == {Outcome.CREATED: 1, Outcome.UNCHANGED: 2}

    def test_what_the_manifest_does_not_name_stays(self, run: Run, manifest: Manifest) -> None:
        Screenshot.objects.filter(title="First").update(metadata={"slug": "first", "note": "mine"})
        Gallery.objects.update(visibility="unlisted")
        del manifest["galleries"][0]["screenshots"][1]
        run()

        assert Screenshot.objects.get(title="First").metadata["note"] == "mine"
        assert Gallery.objects.get().visibility == "unlisted"
        assert Screenshot.objects.filter(title="Second").exists()

    def test_another_cover_is_taken(self, run: Run, manifest: Manifest) -> None:
        manifest["galleries"][0]["cover"] = "first"
        run()

        assert Gallery.objects.get().cover == Screenshot.objects.get(title="First")
        assert changed() == {"Spring"}


class TestOwners:
    @pytest.fixture
    def alice(self, django_user_model: Any) -> Any:
        return django_user_model.objects.create_user("alice")

    def test_a_gallery_without_an_owner_gets_the_one_that_is_named(
        self, run: Run, folder: Path, alice: Any
    ) -> None:
        run()
        call_command("import_gallery", str(folder), "--owner=alice", "--quiet")
        assert Gallery.objects.get().owner == alice

    def test_a_gallery_keeps_its_owner(
        self, run: Run, folder: Path, alice: Any, django_user_model: Any
    ) -> None:
        run()
        Gallery.objects.update(owner=alice)
        django_user_model.objects.create_user("bob")
        call_command("import_gallery", str(folder), "--owner=bob", "--quiet")
        assert Gallery.objects.get().owner == alice

    def test_what_is_private_needs_an_owner(
        self, run: Run, folder: Path, manifest: Manifest, alice: Any
    ) -> None:
        manifest["galleries"][0]["visibility"] = "private"
        reason = "A private gallery needs an owner: nobody else would see it."
        assert run().failures == [Failure("$.galleries[0] (spring)", reason, pictures=2)]
        call_command("import_gallery", str(folder), "--owner=alice", "--quiet")
        assert [(each.visibility, each.owner) for each in Gallery.objects.all()] == [("private", alice)]

    def test_what_became_nobodys_is_still_imported(self, run: Run, manifest: Manifest) -> None:
        run()
        Gallery.objects.update(visibility="private")
        manifest["galleries"][0].update(visibility="private", title="Another")
        assert not run().failures
        assert Gallery.objects.get().title == "Another"

    def test_an_owner_that_does_not_exist_is_said_so(self, run: Run, folder: Path) -> None:
        with pytest.raises(CommandError, match="There is no user 'carol'"):
            call_command("import_gallery", str(folder), "--owner=carol")


class TestBadItems:
    """Each is reported with its place and its reason, and stops no other."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"sha256": "0" * 64}, "sha256: The file's is "),
            ({"sha256": "x"}, "sha256: Write the file's SHA-256 as 64 lower-case"),
            ({"file": "images/none.png"}, "file: There is no file images/none.png"),
            ({"file": "images"}, "file: There is no file images"),
            ({"file": "../secret.png"}, "file: It lies outside the manifest's folder"),
            ({"file": "/etc/passwd"}, "file: It lies outside the manifest's folder"),
            ({"file": "images/link.png"}, "file: It lies outside the manifest's folder"),
            ({"file": "images/loop.png"}, "file: Too many levels of symbolic links"),
            ({"file": "images/loop.png/../link.png"}, "file: Too many levels of symbolic links"),
            ({"viewport": {"width": 0, "height": 1}}, "viewport.width: Ensure this value is greater than"),
            ({"viewport": None}, "viewport: This field may not be null."),
            (
                {"color_scheme": "pink"},
                "color_scheme: pink is unknown here; write one of light, dark, no-preference.",
            ),
            ({"tags": ["fine", "not fine"]}, "tags[1]: Enter a valid"),
            (
                {"captured_at": "yesterday"},
                "captured_at: Datetime has wrong format. Use one of these formats",
            ),
            (
                {"dominant_color": "#FFF"},
                "dominant_color: Write a colour as # and six lower-case hex digits.",
            ),
            ({"title": "x" * 201}, "title: Ensure this field has no more than 200 characters."),
            ({"title": "a", "slug": "second"}, "slug: Another picture of this gallery has it"),
            *(
                ({field: url}, f"{field}: {reason}")
                for field in ("source_url", "final_url")
                for url, reason in {
                    "ftp://one.example/": "Write the URL of a page, by http or https.",
                    "https://user:password@one.example/": "Leave user and password out of the URL",
                }.items()
            ),
            ({"source": {}}, "source.package: This field is required."),
            ({"http_status": 99}, "http_status: Ensure this value is greater than or equal to 100."),
        ],
    )
    def test_the_reason_names_the_place(
        self, run: Run, folder: Path, manifest: Manifest, change: Manifest, reason: str
    ) -> None:
        (folder / "images" / "link.png").symlink_to("/etc/passwd")
        (folder / "images" / "loop.png").symlink_to("loop.png")
        (folder.parent / "secret.png").write_bytes((folder / "images" / "first.png").read_bytes())
        manifest["galleries"][0]["screenshots"][0].update(change)
        manifest["galleries"][0]["screenshots"].reverse()
        report = run()

        assert [failure.reason.startswith(reason) for failure in report.failures] == [True], report.failures
        assert report.failures[0].item == f"$.galleries[0].screenshots[1] ({change.get('slug', 'first')})"
        assert report.outcomes == {Outcome.CREATED: 1}
        assert [shot.title for shot in Screenshot.objects.all()] == ["Second"]

    def test_a_picture_needs_to_come_from_somewhere(self, run: Run, manifest: Manifest) -> None:
        del manifest["galleries"][0]["screenshots"][0]["source"]

        assert [failure.reason for failure in run().failures] == [
            "Give source (package, version, ...) or source_url."
        ]

    def test_what_is_no_object_is_no_item(self, run: Run, manifest: Manifest) -> None:
        manifest["galleries"][0]["screenshots"].insert(0, "first")
        (failure,) = run().failures

        assert failure.item == "$.galleries[0].screenshots[0]"

    def test_a_file_that_is_no_picture_is_named_as_such(
        self, run: Run, folder: Path, manifest: Manifest
    ) -> None:
        (folder / "images" / "first.png").write_bytes(b"text")
        manifest["galleries"][0]["screenshots"][0]["sha256"] = hashlib.sha256(b"text").hexdigest()
        (failure,) = run().failures

        assert failure.reason.startswith("This is not a readable picture; accepted is a WebP, PNG or JPEG")

    def test_an_error_that_names_no_file_is_told_in_its_own_words(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: bytes) -> None:
            raise OSError("the encoder is broken")

        monkeypatch.setattr(images, "develop", fail)

        assert [failure.reason for failure in run().failures[:2]] == [
            "file: the encoder is broken: images/first.png",
            "file: the encoder is broken: images/second.png",
        ]

    def test_a_picture_that_was_imported_stays_when_its_item_goes_bad(
        self, run: Run, manifest: Manifest
    ) -> None:
        run()
        manifest["galleries"][0]["screenshots"][0]["sha256"] = "0" * 64
        run()

        assert Screenshot.objects.filter(title="First").exists()

    def test_a_failed_write_leaves_no_half(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**_: object) -> None:
            raise IntegrityError("no")

        monkeypatch.setattr("catalog.importing.rows.tags_named", fail)
        report = run()

        assert [failure.reason for failure in report.failures[:1]] == ["The database refuses it: no"]
        assert not Screenshot.objects.exists()

    def test_a_cover_that_is_not_there_is_reported(self, run: Run, manifest: Manifest) -> None:
        manifest["galleries"][0]["cover"] = "third"

        assert run().failures == [
            Failure(
                "$.galleries[0].cover",
                "third: No picture of this gallery has been imported under this slug.",
                pictures=0,
                is_cover=True,
            )
        ]


def once(work: Callable[[], object]) -> Callable[[], object]:
    """Return what does the work when it is called first, and nothing after that."""
    left = [work]
    return lambda: left.pop()() if left else None


class TestOthersWriting:
    """What keeps one write from being done is tried again, or is the reason of a failure; the run goes on."""

    @pytest.fixture
    def locked(self) -> Iterator[sqlite3.Connection]:
        """Another connection to SQLite, for which nobody waits long."""
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
            yield other
        connection.close()

    @pytest.mark.stack("embedded")
    @pytest.mark.django_db(transaction=True)
    def test_a_picture_that_finds_the_database_locked_is_reported(
        self, written: importing.Manifest, locked: sqlite3.Connection
    ) -> None:
        turns = iter(["BEGIN IMMEDIATE", "ROLLBACK"])
        report = import_manifest(manifest=written, on_item=lambda: locked.execute(next(turns)))

        failure, _ = report.failures  # the second is its cover
        assert failure.item == "$.galleries[0].screenshots[1] (second)"
        assert failure.reason.startswith("Others were writing; import it again: database is locked")
        assert report.outcomes == {Outcome.CREATED: 1}

    @pytest.mark.stack("embedded")
    @pytest.mark.django_db(transaction=True)
    def test_a_gallery_that_finds_the_database_locked_is_reported(
        self, written: importing.Manifest, locked: sqlite3.Connection
    ) -> None:
        locked.execute("BEGIN IMMEDIATE")
        report = import_manifest(manifest=written)

        assert [failure.item for failure in report.failures] == ["$.galleries[0] (spring)"]
        assert str(report) == "0 created, 0 updated, 0 unchanged, 2 failed"

    @pytest.mark.stack("embedded")
    @pytest.mark.django_db(transaction=True)
    def test_a_cover_that_finds_the_database_locked_is_reported(
        self, written: importing.Manifest, locked: sqlite3.Connection
    ) -> None:
        turns = iter(["SELECT 1", "BEGIN IMMEDIATE"])
        report = import_manifest(manifest=written, on_item=lambda: locked.execute(next(turns)))

        assert [failure.item for failure in report.failures] == ["$.galleries[0].cover"]
        assert report.outcomes == {Outcome.CREATED: 2}

    @pytest.mark.parametrize("changes", [{}, {"title": "Other"}], ids=["unchanged", "changed"])
    def test_a_picture_that_is_deleted_meanwhile_is_imported_again(
        self, run: Run, folder: Path, manifest: Manifest, changes: Manifest
    ) -> None:
        run()
        manifest["galleries"][0]["screenshots"][1].update(changes)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        delete = once(Screenshot.objects.filter(title="Second").delete)
        report = import_manifest(manifest=read_manifest(path=folder), on_item=delete)

        second = Screenshot.objects.get(metadata__slug="second")
        assert report.outcomes == {Outcome.UNCHANGED: 1, Outcome.CREATED: 1}
        assert (second.width, second.height, second.renditions.count()) == (340, 200, 2)
        assert second.title == changes.get("title", "Second")

    @pytest.mark.parametrize("changes", [{}, {"title": "Other"}], ids=["unchanged", "changed"])
    def test_a_picture_that_another_import_replaces_meanwhile_is_mixed_with_nothing(
        self, run: Run, folder: Path, manifest: Manifest, changes: Manifest
    ) -> None:
        run()
        drawn = set(Rendition.objects.filter(screenshot__title="Second").values_list("sha256"))
        first, second = manifest["galleries"][0]["screenshots"]
        other = {**second, **draw(folder, "other", "red", (500, 100)), "title": "Theirs", "tags": []}
        mine = self.read(folder, manifest, [first, {**second, **changes}])
        theirs = self.read(folder, manifest, [other])
        report = import_manifest(manifest=mine, on_item=once(lambda: import_manifest(manifest=theirs)))

        shot = Screenshot.objects.get(metadata__slug="second")
        assert report.outcomes == {Outcome.UNCHANGED: 1, Outcome.UPDATED: 1}
        assert (shot.sha256, shot.width, shot.title) == (
            second["sha256"],
            340,
            changes.get("title", "Second"),
        )
        assert set(shot.renditions.values_list("sha256")) == drawn

    @staticmethod
    def read(folder: Path, manifest: Manifest, items: list[Manifest]) -> importing.Manifest:
        galleries = [{**manifest["galleries"][0], "cover": None, "screenshots": items}]
        (folder / "manifest.json").write_text(json.dumps({**manifest, "galleries": galleries}))
        return read_manifest(path=folder)

    @pytest.mark.django_db(transaction=True)
    def test_what_is_there_the_primary_is_asked(self, run: Run, settings: Any) -> None:
        run()
        settings.KEYBITS_REPLICAS = ["replica"]  # there is none: to ask it would fail
        settings.DATABASE_ROUTERS = ["keybits.replicas.ReplicaRouter"]

        assert run().outcomes == {Outcome.UNCHANGED: 2}

    @pytest.mark.django_db(transaction=True)
    def test_pictures_whose_gallery_is_deleted_meanwhile_are_reported(
        self, written: importing.Manifest
    ) -> None:
        report = import_manifest(manifest=written, on_item=lambda: Gallery.objects.all().delete())

        assert [failure.reason for failure in report.failures] == [
            "Its gallery has been deleted meanwhile.",
            "Its gallery has been deleted meanwhile.",
        ]

    @pytest.mark.stack("server")
    @pytest.mark.django_db(transaction=True)
    def test_what_is_given_up_in_a_deadlock_is_done_again(self, run: Run, manifest: Manifest) -> None:
        run()
        manifest["galleries"][0]["screenshots"][0]["title"] = "Other"
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL deadlock_timeout = '60s'")  # it is the import that looks
            list(Screenshot.objects.select_for_update())
            other = aside(run)
            wait_for_who_waits_for_us(other)
            list(Gallery.objects.select_for_update())
        report = other.result(PATIENCE)

        assert report.failures == []
        assert report.outcomes == {Outcome.UPDATED: 1, Outcome.UNCHANGED: 1}


class TestBadManifests:
    """A manifest that cannot be used at all is refused before anything is written."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"schema": "demo/2"},
                r"\$\.schema: demo/2 is unknown here; write one of demo-manifest/1",
            ),
            ({"galleries": []}, r"\$\.galleries: This list may not be empty"),
            ({"galleries": {}}, r"\$\.galleries: Expected a list of items"),
            (
                {"galleries": [{"slug": "a", "title": "A"}]},
                r"\$\.galleries\[0\]\.screenshots: This field is required",
            ),
            (
                {"galleries": [{"slug": "a b", "title": "A", "screenshots": []}]},
                r"\$\.galleries\[0\]\.slug: Enter a valid",
            ),
            (
                {"galleries": [{"slug": "a", "title": "A", "screenshots": [], "visibility": "secret"}]},
                r"\$\.galleries\[0\]\.visibility: secret is unknown here; write one of public, unlisted",
            ),
            (
                {"galleries": [{"slug": "a", "title": "A", "screenshots": []}] * 2},
                r"\$\.galleries: Use each slug once; used more often: a",
            ),
        ],
    )
    def test_the_error_names_the_place_and_what_is_accepted(
        self, run: Run, manifest: Manifest, change: Manifest, message: str
    ) -> None:
        manifest.update(change)

        with pytest.raises(ManifestError, match=message):
            run()
        assert not Gallery.objects.exists()

    @pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 200_000])
    def test_what_is_no_json_is_said_so(self, folder: Path, text: str) -> None:
        (folder / "manifest.json").write_bytes(text.encode("latin-1"))

        with pytest.raises(ManifestError, match="is not JSON"):
            read_manifest(path=folder)

    def test_a_byte_order_mark_is_no_mistake(self, folder: Path, manifest: Manifest) -> None:
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8-sig")

        assert read_manifest(path=folder).total == 2

    @pytest.mark.parametrize("text", ["[]", "1", "null", '"a"'])
    def test_what_is_no_object_is_said_so(self, folder: Path, text: str) -> None:
        (folder / "manifest.json").write_text(text)

        with pytest.raises(ManifestError, match="is not a manifest"):
            read_manifest(path=folder)

    def test_a_missing_file_is_said_so(self, folder: Path) -> None:
        with pytest.raises(ManifestError, match="Name a manifest, or the folder of one"):
            read_manifest(path=folder)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _written(self, folder: Path, manifest: Manifest) -> None:
        (folder / "manifest.json").write_text(json.dumps(manifest))

    @pytest.mark.parametrize("name", ["", "manifest.json"])
    def test_a_folder_and_a_manifest_are_both_taken(
        self, folder: Path, capfd: pytest.CaptureFixture[str], name: str
    ) -> None:
        call_command("import_gallery", str(folder / name))
        out, err = capfd.readouterr()

        assert out == "2 created, 0 updated, 0 unchanged, 0 failed\n"
        assert "2/2" in err

    def test_quiet_says_nothing(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        call_command("import_gallery", str(folder), "--quiet")

        assert capfd.readouterr() == ("", "")
        assert Screenshot.objects.count() == 2

    def test_failures_are_listed_and_make_it_fail(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "images" / "first.png").unlink()

        with pytest.raises(CommandError, match="1 of 2 pictures failed;") as caught:
            call_command("import_gallery", str(folder), "--quiet")
        assert caught.value.returncode == 1
        assert "$.galleries[0].screenshots[0] (first): file: There is no file" in capfd.readouterr().err
        assert Screenshot.objects.count() == 1

    def test_what_a_manifest_says_does_not_steer_the_terminal(
        self, folder: Path, manifest: Manifest, capfd: pytest.CaptureFixture[str]
    ) -> None:
        manifest["galleries"][0]["screenshots"][0].update(slug="\x1b[31m\nred", file="\x1b[0m")
        manifest["galleries"][0]["screenshots"][1].update(slug="\ud800", color_scheme="\r\x9b")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(CommandError):
            call_command("import_gallery", str(folder), "--quiet")
        err = capfd.readouterr().err

        assert [line.partition(": ")[0] for line in err.splitlines()] == [
            r"$.galleries[0].screenshots[0] (\x1b[31m\nred)",
            r"$.galleries[0].screenshots[1] (\ud800)",
            "$.galleries[0].cover",
        ]
        assert err.replace("\n", "").isprintable()

    def test_a_bad_manifest_does_not_steer_the_terminal_either(
        self, folder: Path, manifest: Manifest
    ) -> None:
        (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": "\x1b[31m"}))
        with pytest.raises(CommandError, match=r"\\x1b\[31m is unknown here"):
            call_command("import_gallery", str(folder))

    def test_covers_are_not_counted_as_pictures(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "images" / "second.png").unlink()

        with pytest.raises(CommandError, match="1 of 2 pictures and 1 of 1 covers failed;"):
            call_command("import_gallery", str(folder))
        assert capfd.readouterr().out == "1 created, 0 updated, 0 unchanged, 1 failed\n"

    def test_a_folder_for_pictures_that_cannot_be_used_is_named_and_no_picture_blamed(
        self, folder: Path, media: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        media.write_text("no folder")

        with pytest.raises(CommandError, match=rf"{media}.*MEDIA_ROOT"):
            call_command("import_gallery", str(folder), "--quiet")
        assert capfd.readouterr() == ("", "")

    def test_a_database_that_is_full_ends_it_and_what_was_imported_is_told(
        self, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def fill(execute: Any, sql: str, *rest: Any) -> Any:
            if sql.startswith('INSERT INTO "catalog_screenshot" ') and Screenshot.objects.exists():
                raise OperationalError("database or disk is full")
            return execute(sql, *rest)

        with (
            pytest.raises(CommandError, match="The database fails: database or disk is full"),
            connection.execute_wrapper(fill),
        ):
            call_command("import_gallery", str(folder))
        assert capfd.readouterr().out == "1 created, 0 updated, 0 unchanged, 0 failed\n"
        assert Screenshot.objects.count() == 1

    def test_a_bad_manifest_makes_it_fail(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="Name a manifest"):
            call_command("import_gallery", str(tmp_path / "none.json"))


@pytest.mark.parametrize("fields", [{"title": "a" * 201}, {"title": "Spring", "visibility": "secret"}])
def test_a_row_is_checked_by_its_model_whoever_states_it(fields: dict[str, str]) -> None:
    """Not every database bounds a text."""
    with pytest.raises(ValidationError):
        importing.put_gallery(slug="spring", fields=fields)
    assert not Gallery.objects.exists()
