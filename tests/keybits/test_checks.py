"""The system checks, a class for each: what is wrong is named, with a way out, and nothing else is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lmdb
import pytest
from corsheaders.signals import check_request_enabled
from django.core.checks import CheckMessage, run_checks
from django.middleware.common import CommonMiddleware
from pytest_django import Settings

from keybits import checks
from keybits.conf import Conf
from keybits.stores import Store
from keybits.stores.lmdb import LMDBStore

CHECKOUT = Path(__file__).resolve().parents[2]
LMDB = {"KEYBITS_STORE": "keybits.stores.lmdb.LMDBStore"}
REDIS = {
    "KEYBITS_STORE": "keybits.stores.redis.RedisStore",
    "CACHES": {
        "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://192.0.2.1:6379/0"},
        "plain": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    },
}
HOST = "keybits.middleware.host_middleware"
NOT_POSITIVE = [0, -1, 1.5, "60", True, None]


class Incomplete:
    """A store that can be read but not written."""

    def read(self) -> None: ...


class Own(Store):
    """A store that somebody else has written."""


class SlashMiddleware(CommonMiddleware):
    """A project's own kind of a middleware that does harm."""


def configure(settings: Settings, *several: dict[str, Any], **values: Any) -> None:
    for name, value in (item for some in (*several, values) for item in some.items()):
        setattr(settings, name, value)


def found() -> list[CheckMessage]:
    """Return what `manage.py check` reports of keybits, as the application registers it."""
    return [message for message in run_checks() if str(message.id).startswith("keybits.")]


def ids() -> list[str]:
    return [str(message.id) for message in found()]


def only() -> CheckMessage:
    (message,) = found()
    return message


class TestAll:
    def test_this_project_passes(self) -> None:
        assert found() == []

    @pytest.mark.parametrize("store", [LMDB, REDIS], ids=["lmdb", "redis"])
    def test_nothing_is_connected_to_opened_or_made(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: dict[str, Any]
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("a check reached out")

        configure(settings, store, KEYBITS_LMDB_PATH=tmp_path / "not" / "there")
        with monkeypatch.context() as patch:
            for place, name in ((socket.socket, "connect"), (socket.socket, "connect_ex"), (lmdb, "open")):
                patch.setattr(place, name, refuse)
            assert found() == []
        assert list(tmp_path.iterdir()) == []

    def test_no_id_stands_for_two_mistakes(self) -> None:
        source = Path(checks.__file__).read_text()
        counted = Counter(re.findall(r'"(keybits\.[EW]\d{3})"', source))
        assert counted
        assert set(counted.values()) == {1}

    def test_every_finding_has_a_hint(self, settings: Settings) -> None:
        configure(
            settings,
            KEYBITS_STORE="nowhere.Store",
            KEYBITS_STOER="",
            KEYBITS_ENTRY_TTL=0,
            KEYBITS_FINGERPRINT_PACKAGES=["nowhere"],
            KEYBITS_PURGERS={"edge": {}},
            MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
        )
        assert len(ids()) == 7
        assert all(message.hint for message in found())


class TestE001Store:
    def test_one_that_cannot_be_imported(self, settings: Settings) -> None:
        settings.KEYBITS_STORE = "keybits.stores.lmbd.LMDBStore"
        assert only().id == "keybits.E001"
        assert "'keybits.stores.lmbd.LMDBStore'" in only().msg

    @pytest.mark.parametrize("path", ["", "LMDBStore", "keybits.stores.lmdb.Store"])
    def test_one_that_names_nothing(self, settings: Settings, path: str) -> None:
        settings.KEYBITS_STORE = path
        assert ids() == ["keybits.E001"]

    def test_one_that_lacks_methods_says_which(self, settings: Settings) -> None:
        settings.KEYBITS_STORE = f"{__name__}.Incomplete"
        assert only().id == "keybits.E001"
        assert re.search(r"lacks .*\bwrite\b", only().msg)
        assert not re.search(r"\bread\b", only().msg)

    @pytest.mark.parametrize("method", [name for name in vars(Store) if not name.startswith("_")])
    def test_every_method_of_the_protocol_counts(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        configure(settings, LMDB)
        with monkeypatch.context() as patch:
            patch.setattr(LMDBStore, method, None)
            assert f"lacks {method}." in only().msg

    def test_one_of_your_own_needs_neither_lmdb_nor_redis(self, settings: Settings) -> None:
        configure(settings, KEYBITS_STORE=f"{__name__}.Own", KEYBITS_CACHE_ALIAS="", KEYBITS_LMDB_PATH="here")
        assert ids() == []


class TestE002LMDBPath:
    @pytest.fixture(autouse=True)
    def _lmdb(self, settings: Settings) -> None:
        configure(settings, LMDB)

    def test_a_folder_below_a_file_cannot_be_made(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").touch(mode=0o777)
        settings.KEYBITS_LMDB_PATH = tmp_path / "file" / "deep" / "keybits.lmdb"
        assert only().id == "keybits.E002"
        assert repr(str(tmp_path / "file")) in only().msg

    def test_a_file_is_no_folder(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").touch(mode=0o777)
        settings.KEYBITS_LMDB_PATH = str(tmp_path / "file")
        assert ids() == ["keybits.E002"]

    @pytest.mark.parametrize("path", ["", "keybits.lmdb", "a/b/keybits.lmdb"])
    def test_the_nearest_folder_there_is_must_be_writable(
        self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        """A root user may write everywhere, so the answer of the system is given here."""
        wanted = (tmp_path, os.W_OK | os.X_OK)
        settings.KEYBITS_LMDB_PATH = tmp_path / path
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, mode: (path, mode) != wanted)
            assert ids() == ["keybits.E002"]

    def test_one_that_is_there_or_can_be_made_is_right(self, settings: Settings, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "keybits.lmdb", tmp_path / "a" / "b"):
            settings.KEYBITS_LMDB_PATH = path
            assert ids() == []

    def test_other_stores_need_none(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").touch(mode=0o777)
        configure(settings, REDIS, KEYBITS_LMDB_PATH=tmp_path / "file", KEYBITS_LMDB_MAP_SIZE=1)
        assert ids() == []


class TestW001LMDBPath:
    def test_a_relative_one_differs_between_processes(self, settings: Settings) -> None:
        configure(settings, LMDB, KEYBITS_LMDB_PATH="keybits.lmdb")
        assert ids() == ["keybits.W001"]


class TestE003LMDBMapSize:
    @pytest.mark.parametrize("size", [1024 * 1024 - 1, 2e9, "256 MiB", True, None, -1])
    def test_less_than_a_mebibyte_or_no_whole_number(self, settings: Settings, size: Any) -> None:
        configure(settings, LMDB, KEYBITS_LMDB_MAP_SIZE=size)
        assert only().id == "keybits.E003"
        assert repr(size) in only().msg

    def test_a_mebibyte_is_enough(self, settings: Settings) -> None:
        configure(settings, LMDB, KEYBITS_LMDB_MAP_SIZE=1024 * 1024)
        assert ids() == []


class TestE004RedisCache:
    @pytest.mark.parametrize("alias", ["plain", "missing"])
    def test_a_cache_that_is_not_of_django_redis(self, settings: Settings, alias: str) -> None:
        configure(settings, REDIS, KEYBITS_CACHE_ALIAS=alias)
        assert only().id == "keybits.E004"
        assert f"CACHES['{alias}']" in only().msg

    def test_lmdb_needs_none(self, settings: Settings) -> None:
        configure(settings, REDIS, LMDB, KEYBITS_CACHE_ALIAS="missing")
        assert ids() == []


class TestE005IgnoredExceptions:
    @staticmethod
    def caches(**options: Any) -> dict[str, Any]:
        return {"default": REDIS["CACHES"]["default"] | {"OPTIONS": options}}  # type: ignore[index]

    def test_of_the_cache(self, settings: Settings) -> None:
        configure(settings, REDIS, CACHES=self.caches(IGNORE_EXCEPTIONS=True))
        assert ids() == ["keybits.E005"]

    def test_of_all_caches(self, settings: Settings) -> None:
        configure(settings, REDIS, DJANGO_REDIS_IGNORE_EXCEPTIONS=True)
        assert ids() == ["keybits.E005"]

    def test_the_cache_has_the_last_word_as_in_django_redis(self, settings: Settings) -> None:
        configure(
            settings, REDIS, DJANGO_REDIS_IGNORE_EXCEPTIONS=True, CACHES=self.caches(IGNORE_EXCEPTIONS=False)
        )
        assert ids() == []

    def test_a_cache_that_keybits_does_not_use_may(self, settings: Settings) -> None:
        configure(settings, REDIS, LMDB, DJANGO_REDIS_IGNORE_EXCEPTIONS=True)
        assert ids() == []


class TestE006UnknownSetting:
    def test_the_nearest_is_suggested(self, settings: Settings) -> None:
        settings.KEYBITS_ENTRY_TLL = 60
        assert only().id == "keybits.E006"
        assert "KEYBITS_ENTRY_TLL" in only().msg
        assert "Did you mean KEYBITS_ENTRY_TTL?" in str(only().hint)

    def test_without_anything_near_all_are_listed(self, settings: Settings) -> None:
        settings.KEYBITS_XYZZY_XYZZY = 1
        assert "Did you mean" not in str(only().hint)
        assert "KEYBITS_STAMP_LEASE" in str(only().hint)

    def test_settings_of_others_are_their_own(self, settings: Settings) -> None:
        settings.MY_KEYBITS_ENTRY_TLL = 60
        assert ids() == []


COUNTED = ["BULK_LIMIT", "ENTRY_TTL", "IDEMPOTENCY_TTL", "MAX_ENTRY_BYTES", "STAMP_LEASE"]


@pytest.mark.stack("embedded")
class TestE007PositiveWholeNumbers:
    @pytest.mark.parametrize("name", COUNTED)
    @pytest.mark.parametrize("value", NOT_POSITIVE)
    def test_what_is_no_positive_whole_number_is_an_error(
        self, settings: Settings, name: str, value: Any
    ) -> None:
        setattr(settings, f"KEYBITS_{name}", value)
        assert only().id == "keybits.E007"
        assert only().msg == f"KEYBITS_{name} is {value!r}."

    @pytest.mark.parametrize("value", [-1, 1.5, "x", True, None])
    def test_no_memory_is_enough_but_no_less(self, settings: Settings, value: Any) -> None:
        settings.KEYBITS_MEMORY_BYTES = 0
        assert ids() == []
        settings.KEYBITS_MEMORY_BYTES = value
        assert only().id == "keybits.E007"
        assert only().msg == f"KEYBITS_MEMORY_BYTES is {value!r}."

    @pytest.mark.parametrize("name", COUNTED)
    def test_one_is_enough(self, settings: Settings, name: str) -> None:
        setattr(settings, f"KEYBITS_{name}", 1)
        assert ids() == []


class TestE008FingerprintPackages:
    @pytest.mark.parametrize("package", ["catalogue", "nowhere.models", "", ".catalog"])
    def test_one_that_cannot_be_found(self, settings: Settings, package: str) -> None:
        settings.KEYBITS_FINGERPRINT_PACKAGES = ["catalog", package]
        assert only().id == "keybits.E008"
        assert repr(package) in only().msg

    def test_a_module_is_no_package(self, settings: Settings) -> None:
        """Its source is not read, so a change in it would go unseen."""
        settings.KEYBITS_FINGERPRINT_PACKAGES = ["catalog.models"]
        assert ids() == ["keybits.E008"]


@pytest.mark.stack("embedded")
class TestE009Choices:
    @pytest.mark.parametrize("name", ["RELAY", "WRITE_POLICY", "TRACKING", "AUDIT"])
    @pytest.mark.parametrize("value", ["on", "", None, True])
    def test_what_is_none_of_the_choices_is_an_error(self, settings: Settings, name: str, value: Any) -> None:
        setattr(settings, f"KEYBITS_{name}", value)
        assert only().id == "keybits.E009"
        assert only().msg == f"KEYBITS_{name} is {value!r}."

    @pytest.mark.parametrize(
        ("name", "value"),
        [("RELAY", "external"), ("WRITE_POLICY", "refuse"), ("TRACKING", "signals"), ("AUDIT", "log")],
    )
    def test_one_of_them(self, settings: Settings, name: str, value: str) -> None:
        setattr(settings, f"KEYBITS_{name}", value)
        assert ids() == []


DURATIONS = ["OPEN_LEASE", "RELAY_INTERVAL", "RELAY_BOUND", "STORE_RETRY"]


@pytest.mark.stack("embedded")
class TestE010Durations:
    @pytest.mark.parametrize("name", DURATIONS)
    @pytest.mark.parametrize("value", [0, -0.5, "1", True, None, float("nan"), float("inf")])
    def test_anything_but_a_number_above_zero(self, settings: Settings, name: str, value: Any) -> None:
        setattr(settings, f"KEYBITS_{name}", value)
        assert only().id == "keybits.E010"
        assert only().msg == f"KEYBITS_{name} is {value!r}."

    @pytest.mark.parametrize("value", [-5, "x", True, None, float("nan"), float("inf")])
    def test_a_purge_may_be_sent_again_after_no_time_but_no_less(
        self, settings: Settings, value: Any
    ) -> None:
        settings.KEYBITS_PURGE_AGAIN = 0
        assert ids() == []
        settings.KEYBITS_PURGE_AGAIN = value
        assert only().id == "keybits.E010"
        assert only().msg == f"KEYBITS_PURGE_AGAIN is {value!r}."

    def test_a_part_of_a_second_will_do(self, settings: Settings) -> None:
        configure(settings, KEYBITS_STORE_RETRY=0.001, KEYBITS_RELAY_INTERVAL=0.01)
        assert ids() == []


class TestE011DurationsInOrder:
    @pytest.mark.parametrize(("shorter", "longer"), [("RELAY_INTERVAL", "RELAY_BOUND")])
    def test_as_long_is_too_long(self, settings: Settings, shorter: str, longer: str) -> None:
        configure(settings, {f"KEYBITS_{shorter}": 7, f"KEYBITS_{longer}": 7})
        assert only().id == "keybits.E011"
        assert only().msg.startswith(f"KEYBITS_{shorter} is not less than KEYBITS_{longer}")
        setattr(settings, f"KEYBITS_{longer}", 7.1)
        assert ids() == []


class TestE012Replicas:
    @pytest.mark.parametrize("alias", ["replcia", "default"])
    def test_what_is_none(self, settings: Settings, alias: str) -> None:
        settings.KEYBITS_REPLICAS = [alias]
        assert only().id == "keybits.E012"
        assert repr(alias) in only().msg


def purger(**options: Any) -> dict[str, Any]:
    return {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": ["http://192.0.2.1"], **options}


class TestE013Purgers:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            [],
            "keybits.purge.varnish.XkeyPurger",
            purger(BACKEND="keybits.purge.varnish.Nothing"),
            purger(BACKEND="keybits.stores.lmdb.LMDBStore"),
            purger(speed=1),
            purger(servers=["192.0.2.1"]),
        ],
    )
    def test_one_that_cannot_be_made_is_named(self, settings: Settings, options: Any) -> None:
        settings.KEYBITS_PURGERS = {"right": purger(), "wrong": options}
        assert only().id == "keybits.E013"
        assert only().msg.startswith("KEYBITS_PURGERS['wrong']")

    @pytest.mark.parametrize("configured", [["edge"], "edge", 1, {"edge"}])
    def test_what_is_no_dict(self, settings: Settings, configured: Any) -> None:
        settings.KEYBITS_PURGERS = configured
        assert ids() == ["keybits.E013"]

    def test_no_value_of_an_option_is_shown(self, settings: Settings) -> None:
        settings.KEYBITS_PURGERS = {"edge": purger(token="hunter 2", servers=["http://u:hunter2@192.0.2.1"])}
        assert only().id == "keybits.E013"
        assert "hunter" not in f"{only().msg}{only().hint}"

    def test_one_that_can_be_made_is_right(self, settings: Settings) -> None:
        settings.KEYBITS_PURGERS = {"edge": purger()}
        assert ids() == []


class TestE014Metrics:
    def test_without_the_library_that_counts(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.KEYBITS_METRICS = True
        assert ids() == []
        monkeypatch.setattr(checks.util, "find_spec", lambda name: None)
        assert "keybits.E014" in ids()


TEXTS = ["CACHE_ALIAS", "VERSION", "WARM_BASE_URL", "WARM_URLS"]
SWITCHES = ["FASTPATH", "METRICS"]
LISTS = [
    "FASTPATH_MIDDLEWARE",
    "FINGERPRINT_PACKAGES",
    "FINGERPRINT_SETTINGS",
    "REPLICAS",
    "WARM_AFTER_PURGE",
]


@pytest.mark.stack("embedded")
class TestE015Types:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, value) for name in LISTS for value in (5, None, "gallery:*", [5], {"a": 1})),
            *((name, value) for name in SWITCHES for value in ("false", 1, None)),
            *((name, value) for name in TEXTS for value in (5, None, [])),
            *(("LMDB_PATH", value) for value in (5, None, [])),
        ],
    )
    def test_what_is_of_another_type_is_named(self, settings: Settings, name: str, value: Any) -> None:
        configure(settings, LMDB, {f"KEYBITS_{name}": value})
        assert "keybits.E015" in ids()
        assert set(ids()) <= {"keybits.E015", "keybits.E001"}
        message = next(message for message in found() if message.id == "keybits.E015")
        assert message.msg == f"KEYBITS_{name} is {value!r}."

    @pytest.mark.parametrize("made", [list, tuple, set, frozenset])
    def test_any_collection_of_texts_is_a_list(self, settings: Settings, made: Any) -> None:
        settings.KEYBITS_FINGERPRINT_PACKAGES = made(["catalog", "gallery_api"])
        assert ids() == []

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ("5", "(keybits.E015) KEYBITS_FINGERPRINT_PACKAGES is 5."),
            ("[5]", "(keybits.E015) KEYBITS_FINGERPRINT_PACKAGES is [5]."),
            ("['nowhere.models']", "(keybits.E008) KEYBITS_FINGERPRINT_PACKAGES has 'nowhere.models'"),
        ],
    )
    def test_it_is_said_of_what_the_application_reads_as_it_starts(
        self, tmp_path: Path, value: str, told: str
    ) -> None:
        (tmp_path / "wrong.py").write_text(
            f"from gallery_api.settings import *\nKEYBITS_FINGERPRINT_PACKAGES = {value}\n"
        )
        found = subprocess.run(
            [sys.executable, "-m", "django", "check"],
            env={**os.environ, "PYTHONPATH": f"{CHECKOUT}:{tmp_path}", "DJANGO_SETTINGS_MODULE": "wrong"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told in found.stderr

    @pytest.mark.parametrize("name", [name for name, it in vars(Conf).items() if isinstance(it, property)])
    def test_no_setting_may_hold_just_anything(self, settings: Settings, name: str) -> None:
        configure(settings, LMDB, {f"KEYBITS_{name}": object()})
        assert ids() != []


class TestE016WarmBaseURL:
    @pytest.mark.parametrize(
        "url", ["foo", "https://", "https://gallery.example/path", "ftp://gallery.example"]
    )
    def test_one_at_which_nothing_can_be_asked(self, settings: Settings, url: str) -> None:
        settings.KEYBITS_WARM_BASE_URL = url
        assert only().id == "keybits.E016"
        assert only().msg.startswith("KEYBITS_WARM_BASE_URL: ")

    def test_no_password_is_shown(self, settings: Settings) -> None:
        settings.KEYBITS_WARM_BASE_URL = "https://user:hunter2@gallery.example"
        assert only().id == "keybits.E016"
        assert "hunter" not in f"{only().msg}{only().hint}"

    @pytest.mark.parametrize("url", ["", "https://gallery.example", "http://[::1]:8000/"])
    def test_one_at_which_something_can(self, settings: Settings, url: str) -> None:
        settings.KEYBITS_WARM_BASE_URL = url
        assert ids() == []


class TestW007PurgersThatAreToldOfNothing:
    def test_where_nothing_is_recorded(self, settings: Settings) -> None:
        configure(settings, KEYBITS_PURGERS={"edge": purger()}, KEYBITS_TRACKING="signals")
        assert ids() == ["keybits.W007"]

    def test_where_nothing_can_be_recorded(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.KEYBITS_PURGERS = {"edge": purger()}
        with monkeypatch.context() as patch:
            patch.setattr(checks, "connections", {"default": SimpleNamespace(vendor="mysql")})
            assert ids() == ["keybits.W007"]

    def test_without_purgers_there_is_nobody_to_tell(self, settings: Settings) -> None:
        settings.KEYBITS_TRACKING = "signals"
        assert ids() == []


class TestW011TransactionsThatKeepNothing:
    """SQLite shows a transaction what was there when it began: were it kept, it could be stale."""

    @pytest.mark.parametrize("option", [("ATOMIC_REQUESTS", True), ("AUTOCOMMIT", False)], ids=str)
    @pytest.mark.parametrize(("vendor", "expected"), [("sqlite", ["keybits.W011"]), ("postgresql", [])])
    def test_a_request_that_is_always_one(
        self,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        option: tuple[str, bool],
        vendor: str,
        expected: list[str],
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setitem(settings.DATABASES["default"], *option)
            patch.setattr(checks, "connections", {"default": SimpleNamespace(vendor=vendor)})
            assert ids() == expected


class TestW012CookiesThatAreHeld:
    @pytest.mark.parametrize(("purgers", "expected"), [({"edge": purger()}, ["keybits.W012"]), ({}, [])])
    def test_where_caches_hold_what_a_middleware_gives_a_cookie(
        self, settings: Settings, purgers: dict[str, Any], expected: list[str]
    ) -> None:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "cookieless" not in name]
        settings.KEYBITS_PURGERS = purgers
        assert ids() == expected


class TestW002HostMiddleware:
    def test_is_warned_of_where_it_is_missing(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != HOST]
        assert ids() == ["keybits.W002"]


class TestW003ToW006HarmfulMiddleware:
    @pytest.mark.parametrize(
        ("middleware", "check_id"),
        [
            ("django.middleware.common.CommonMiddleware", "keybits.W003"),
            ("django.middleware.gzip.GZipMiddleware", "keybits.W004"),
            ("django.middleware.http.ConditionalGetMiddleware", "keybits.W005"),
            ("django.middleware.cache.UpdateCacheMiddleware", "keybits.W006"),
            ("django.middleware.cache.FetchFromCacheMiddleware", "keybits.W006"),
            ("django.middleware.cache.CacheMiddleware", "keybits.W006"),
        ],
    )
    def test_is_named(self, settings: Settings, middleware: str, check_id: str) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
        assert only().id == check_id
        assert repr(middleware) in only().msg

    def test_so_is_a_subclass(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [HOST, f"{__name__}.SlashMiddleware"]
        assert ids() == ["keybits.W003"]

    def test_one_that_cannot_be_imported_is_for_django_to_report(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [HOST, "nowhere.Middleware"]
        assert ids() == []


@pytest.mark.usefixtures("fast_path_on")
class TestW008StrangersToTheFastPath:
    @pytest.fixture(autouse=True)
    def _stranger(self, settings: Settings) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]

    def test_are_named(self) -> None:
        assert only().id == "keybits.W008"
        assert "LocaleMiddleware" in only().msg

    def test_not_where_the_project_answers_for_them(self, settings: Settings) -> None:
        settings.KEYBITS_FASTPATH_MIDDLEWARE = [
            *settings.KEYBITS_FASTPATH_MIDDLEWARE,
            "django.middleware.locale.LocaleMiddleware",
        ]
        assert ids() == []

    def test_not_where_there_is_no_fast_path(self, settings: Settings) -> None:
        settings.KEYBITS_FASTPATH = False
        assert ids() == []

    def test_a_receiver_that_decides_about_origins_makes_one_of_django_cors_headers(
        self, settings: Settings
    ) -> None:
        settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]
        check_request_enabled.connect(_decides)
        try:
            assert only().id == "keybits.W008"
        finally:
            check_request_enabled.disconnect(_decides)


def _decides(**_: Any) -> bool:
    return True
