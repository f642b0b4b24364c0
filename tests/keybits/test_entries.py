"""What a frame keeps, what is no frame, and what makes all frames unreadable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.test.utils import override_script_prefix
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from keybits.conf import conf
from keybits.entries import HEAD, LENGTHS, Entry, EntryError, fingerprint

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

text = st.text(max_size=20)
entries = st.builds(
    Entry,
    witness=st.binary(max_size=64),
    etag=text,
    changed=st.integers(0, 2**53),
    headers=st.lists(st.tuples(text, text), max_size=4).map(tuple),
    body=st.binary(max_size=200),
    expires=st.none() | st.floats(0, 2**40),
    url=text,
    coded=st.lists(st.tuples(text, st.binary(max_size=20)), max_size=3).map(tuple),
    shared=st.lists(st.tuples(text, text), max_size=2).map(tuple),
    max_age=st.integers(0, 2**31),
    cost=st.floats(0, 100),
    stale=st.integers(0, 2**31),
    guard=st.lists(text, max_size=2).map(tuple),
    guarded=st.binary(max_size=32),
)
ENTRY = Entry(b"w" * 16, '"tag"', 11, (("Content-Type", "application/json"), ("Link", "<x>")), b'{"a":1}')

HEAD_END = LENGTHS.size + LENGTHS.unpack_from(ENTRY.pack())[1]


def flipped(position: int, bits: int) -> bytes:
    """Return the frame of `ENTRY` with these bits of one byte turned round."""
    frame = bytearray(ENTRY.pack())
    frame[position] ^= bits
    return bytes(frame)


def framed(change: Callable[[list[Any]], Any]) -> bytes:
    """Return the frame of `ENTRY` with another head: what `change` makes of tag, date, headers and the rest."""
    frame = ENTRY.pack()
    magic, head_size, witness_size = LENGTHS.unpack_from(frame)
    rest = frame[LENGTHS.size + head_size :]
    head = orjson.dumps(change(orjson.loads(frame[LENGTHS.size : LENGTHS.size + head_size])))
    return LENGTHS.pack(magic, len(head), witness_size) + head + rest


def with_member(position: int, value: Any) -> Callable[[list[Any]], Any]:
    return lambda head: [*head[:position], value, *head[position + 1 :]]


class TestRoundTrip:
    @given(entries)
    def test_what_was_packed_is_unpacked(self, entry: Entry) -> None:
        assert Entry.unpack(entry.pack()) == entry

    def test_no_attribute_is_left_out(self) -> None:
        assert {each.name for each in fields(Entry)} == {"witness", "body", "coded", *HEAD}

    @given(entries)
    def test_the_same_entry_has_the_same_frame(self, entry: Entry) -> None:
        assert Entry.unpack(entry.pack()).pack() == entry.pack()

    def test_the_body_is_kept_byte_for_byte_at_the_end(self) -> None:
        assert ENTRY.pack().endswith(ENTRY.body)

    def test_it_is_no_pickle(self) -> None:
        assert b"keybits" not in ENTRY.pack()
        assert not ENTRY.pack().startswith(b"\x80")


class TestForeignBytes:
    @pytest.mark.parametrize("frame", [b"", b"K", b"KB\x00\x01", b"\x80\x04K\x01.", b"\x00" * 64])
    def test_are_an_entry_error(self, frame: bytes) -> None:
        with pytest.raises(EntryError):
            Entry.unpack(frame)

    @pytest.mark.parametrize("position", range(4))
    def test_another_magic_is_an_entry_error(self, position: int) -> None:
        frame = bytearray(ENTRY.pack())
        frame[position] ^= 1
        with pytest.raises(EntryError):
            Entry.unpack(bytes(frame))

    @pytest.mark.parametrize("length", range(len(ENTRY.pack()) - len(ENTRY.body) - len(ENTRY.witness)))
    def test_a_truncated_head_is_an_entry_error(self, length: int) -> None:
        with pytest.raises(EntryError):
            Entry.unpack(ENTRY.pack()[:length])

    @pytest.mark.parametrize("missing", range(1, len(ENTRY.body) + len(ENTRY.witness) + 1))
    def test_a_truncated_witness_or_body_is_an_entry_error(self, missing: int) -> None:
        with pytest.raises(EntryError):
            Entry.unpack(ENTRY.pack()[:-missing])

    def test_a_frame_taken_apart_and_put_together_is_one(self) -> None:
        assert Entry.unpack(framed(lambda head: head)) == ENTRY

    @pytest.mark.parametrize(
        "change",
        [
            lambda head: 1,
            lambda head: None,
            lambda head: {"a": 1},
            lambda head: [],
            lambda head: head[:-1],
            lambda head: [*head, 0],
            with_member(2, 1),
            with_member(2, [["a"]]),
            with_member(2, [["a", "b", "c"]]),
        ],
    )
    def test_another_head_is_an_entry_error(self, change: Callable[[list[Any]], Any]) -> None:
        with pytest.raises(EntryError):
            Entry.unpack(framed(change))

    @pytest.mark.parametrize(
        "change",
        [
            *(with_member(0, 1), with_member(1, "0"), with_member(2, [[1, 2]]), with_member(2, ["ab"])),
            *(with_member(position, "x") for position in (3, 5, 6, 7, 8, 10, 11)),
            *(with_member(position, None) for position in (4, 6, 7, 8, 9, 11, 12)),
            *(
                with_member(11, float(len(ENTRY.body))),
                with_member(12, [[1, 0]]),
                with_member(12, [["gzip", 0.0]]),
            ),
        ],
    )
    def test_a_head_of_other_types_is_an_entry_error(self, change: Callable[[list[Any]], Any]) -> None:
        with pytest.raises(EntryError):
            Entry.unpack(framed(change))

    @given(st.binary(max_size=100))
    def test_no_bytes_raise_anything_else(self, frame: bytes) -> None:
        for candidate in (frame, ENTRY.pack()[:4] + frame):
            with pytest.raises(EntryError):
                Entry.unpack(candidate)

    @given(st.integers(0, LENGTHS.size - 1), st.integers(1, 255))
    def test_a_byte_of_the_magic_or_the_lengths_that_has_changed_is_an_entry_error(
        self, position: int, flip: int
    ) -> None:
        with pytest.raises(EntryError):
            Entry.unpack(flipped(position, flip))

    @given(st.integers(LENGTHS.size, HEAD_END - 1), st.integers(1, 255))
    def test_a_byte_of_the_head_that_has_changed_is_an_entry_error_or_makes_a_sound_entry(
        self, position: int, flip: int
    ) -> None:
        try:
            entry = Entry.unpack(flipped(position, flip))
        except EntryError:
            return
        assert (entry.witness, entry.body) == (ENTRY.witness, ENTRY.body)
        assert Entry.unpack(entry.pack()) == entry

    @given(st.integers(HEAD_END, len(ENTRY.pack()) - 1), st.integers(1, 255))
    def test_a_byte_of_the_witness_or_the_body_that_has_changed_changes_that_alone(
        self, position: int, flip: int
    ) -> None:
        frame = flipped(position, flip)
        entry = Entry.unpack(frame)
        assert entry.witness + entry.body == frame[HEAD_END:]
        assert replace(entry, witness=ENTRY.witness, body=ENTRY.body) == ENTRY


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of its own, which the fingerprint is told of."""
    folder = tmp_path / "shaping_package"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "deep" / "module.py").write_text("a = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    fingerprint.cache_clear()


@pytest.fixture
def anew() -> Iterator[Callable[[], str]]:
    """The fingerprint as a process has it that starts now."""

    def compute() -> str:
        fingerprint.cache_clear()
        return fingerprint()

    yield compute
    fingerprint.cache_clear()


class TestFingerprint:
    def test_is_32_hexadecimal_digits(self, anew: Callable[[], str]) -> None:
        assert len(bytes.fromhex(anew())) == 16

    def test_changes_with_a_source_file(
        self, settings: Settings, package: Path, anew: Callable[[], str]
    ) -> None:
        settings.KEYBITS_FINGERPRINT_PACKAGES = ["shaping_package"]
        module = package / "deep" / "module.py"
        seen = [anew()]
        module.write_text("a = 2")
        seen.append(anew())
        module.rename(package / "deep" / "other.py")
        seen.append(anew())
        (package / "new.py").touch()
        seen.append(anew())
        assert len(set(seen)) == 4

    def test_changes_with_a_template_and_a_translation(
        self, settings: Settings, package: Path, anew: Callable[[], str]
    ) -> None:
        settings.KEYBITS_FINGERPRINT_PACKAGES = ["shaping_package"]
        seen = [anew()]
        for name in ("page.html", "django.mo"):
            (package / "deep" / name).touch()
            seen.append(anew())
        assert len(set(seen)) == 3

    def test_is_of_the_project_s_own_packages_where_none_are_named(self, settings: Settings) -> None:
        del settings.KEYBITS_FINGERPRINT_PACKAGES
        assert conf.FINGERPRINT_PACKAGES == ["catalog", "gallery_api"]

    def test_stays_with_what_is_no_source_or_of_no_listed_package(
        self, settings: Settings, package: Path, anew: Callable[[], str]
    ) -> None:
        settings.KEYBITS_FINGERPRINT_PACKAGES = ["shaping_package"]
        before = anew()
        (package / "deep" / "module.pyc").touch()
        (package / ".#module.py").symlink_to("somebody@somewhere.1")  # Emacs has unsaved changes
        assert anew() == before
        settings.KEYBITS_FINGERPRINT_PACKAGES = []
        before = anew()
        (package / "deep" / "module.py").write_text("a = 3")
        assert anew() == before

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("KEYBITS_VERSION", "2"),
            ("KEYBITS_FINGERPRINT_PACKAGES", []),
            ("FORCE_SCRIPT_NAME", "/under"),
            ("FORMAT_MODULE_PATH", "shop.formats"),
            ("LANGUAGE_CODE", "de"),
            ("MEDIA_URL", "https://media.example/"),
            ("SITE_ID", 2),
            ("STATIC_URL", "https://static.example/"),
            ("USE_THOUSAND_SEPARATOR", True),
            ("REST_FRAMEWORK", {"COERCE_DECIMAL_TO_STRING": False}),
            ("ROOT_URLCONF", "catalog.api.urls"),
            ("TIME_ZONE", "Europe/Berlin"),
            ("USE_I18N", True),
            ("USE_TZ", False),
        ],
    )
    def test_changes_with_a_setting_at_once(self, settings: Settings, name: str, value: Any) -> None:
        before = fingerprint()
        setattr(settings, name, value)
        assert fingerprint() != before

    def test_leaves_a_relative_address_to_the_prefix_of_the_request(
        self, settings: Settings, anew: Callable[[], str]
    ) -> None:
        settings.MEDIA_URL = "media/"
        anew()
        with override_script_prefix("/under/"):
            assert settings.MEDIA_URL == "/under/media/"

    @pytest.mark.parametrize(
        "changed", ["Django", "djangorestframework", "drf-extensions", "django-filter", "orjson"]
    )
    def test_changes_with_a_version(
        self, monkeypatch: pytest.MonkeyPatch, anew: Callable[[], str], changed: str
    ) -> None:
        before, version = anew(), metadata.version
        monkeypatch.setattr(metadata, "version", lambda name: version(name) + "+" * (name == changed))
        assert anew() != before

    def test_a_project_needs_not_every_distribution(
        self, monkeypatch: pytest.MonkeyPatch, anew: Callable[[], str]
    ) -> None:
        version = metadata.version

        def without_filters(name: str) -> str:
            if name == "django-filter":
                raise metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(metadata, "version", without_filters)
        assert anew()

    def test_is_of_the_code_that_runs_whatever_replaces_it_on_disk_before_the_first_request(
        self, settings: Settings, package: Path
    ) -> None:
        """A worker that has been idle would keep what old code makes as if new code had."""
        code = (
            "import pathlib, sys, django; django.setup(); pathlib.Path(sys.argv[1]).write_text(sys.argv[2]); "
            "from keybits.entries import fingerprint; print(fingerprint())"
        )
        environment = {"DJANGO_SETTINGS_MODULE": "shaping_settings", "SECRET_KEY": settings.SECRET_KEY}
        environment |= {
            "VAR_DIR": str(settings.VAR_DIR),
            "PYTHONPATH": f"{settings.BASE_DIR}:{package.parent}",
        }
        (package.parent / "shaping_settings.py").write_text(
            "from gallery_api.settings import *\nKEYBITS_FINGERPRINT_PACKAGES = ['shaping_package']\n"
        )
        module = package / "deep" / "module.py"
        command = [sys.executable, "-c", code, str(module)]
        seen = [
            subprocess.check_output([*command, content], env=environment, text=True)
            for content in (module.read_text(), "a = 2", "a = 3")
        ]
        assert seen[0] == seen[1] != seen[2]

    def test_is_the_same_in_every_process(self, settings: Settings, anew: Callable[[], str]) -> None:
        code = "import django; django.setup(); from keybits.entries import fingerprint; print(fingerprint())"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": seed, "DJANGO_SETTINGS_MODULE": "gallery_api.settings"}
                | {
                    "VAR_DIR": str(settings.VAR_DIR),
                    "SECRET_KEY": settings.SECRET_KEY,
                    "PYTHONPATH": str(settings.BASE_DIR),
                },
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in ("1", "2")
        ]
        assert {process.communicate()[0].strip() for process in processes} == {anew()}


@pytest.mark.parametrize(
    "more",
    [
        {"body": b"x" * 10_000},
        {"witness": b"x" * 10_000},
        {"guarded": b"x" * 10_000},
        {"etag": "x" * 10_000},
        {"url": "x" * 10_000},
        {"headers": (("X-Long", "x" * 10_000),)},
        {"shared": (("xkey", "x" * 10_000),)},
        {"coded": (("br", b"x" * 10_000),)},
        {"guard": ("x" * 10_000,)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_whatever_is_long_in_an_entry_is_counted_as_its_size(more: dict[str, Any]) -> None:
    small = Entry(b"w", '"tag"', 1, (("X-Long", ""),), b"")
    assert replace(small, **more).size > small.size + 9_900


def test_a_setting_that_the_project_names_changes_the_fingerprint(settings: Settings) -> None:
    settings.KEYBITS_FINGERPRINT_SETTINGS = ["GREETING"]
    told = set()
    for settings.GREETING in ("Good morning", "Good evening"):
        told.add(fingerprint())
    assert len(told) == 2
