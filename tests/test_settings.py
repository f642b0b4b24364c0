"""What a deployment says by its environment: what is meant is taken, and what cannot be meant is refused by name."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from gallery_api import environment, settings
from gallery_api.secret import secret_key
from keybits.conf import defaults

CHECKOUT = Path(__file__).resolve().parents[1]
RATES = ["ANON", "USER", "CURATE", "CAPTURE", "TOKEN"]
WRONG_RATES = ["abc", "5", "5/fortnight", "-5/min", "0/min", "/min", "5/", "1.5/min", "9999999999/s"]
WRONG = [
    *(("ANON_THROTTLE_RATE", rate) for rate in WRONG_RATES),
    *((f"{name}_THROTTLE_RATE", "abc") for name in RATES),
    *(("REDIS_URL", url) for url in ("foo", "redis://h:abc/0", "redis://h/x", "redis://h/0?foo=1")),
    ("REDIS_URL", "redis://a/0,redis://b/0"),
    ("REDIS_URL", "unix://"),
    *(("DATABASE_URL", url) for url in ("foo", "xyz://h/n", "postgres://h:abc/n", "postgres://h")),
    *(("DATABASE_URL", url) for url in ("mysql://h/n", "oracle://h/n", "sqlite://:memory:")),
    *(("DATABASE_URL", f"postgres://h/n?{query}") for query in ("pool=true", "conn_max_age=long")),
    *(("NUM_PROXIES", number) for number in ("-1", "x", "1.5", "1001")),
    *(("TOMBSTONE_DAYS", number) for number in ("-1", "x", "99999999999")),
    *(("KEYBITS_BULK_LIMIT", number) for number in ("0", "x", "99999999999")),
    *((name, "enabled") for name in ("DEBUG", "HTTPS", "BEHIND_TLS_PROXY", "JWT", "CURATION_HIDES")),
    *((name, "2") for name in ("KEYBITS_FASTPATH", "KEYBITS_METRICS")),
    *(("MEDIA_ROOT", place) for place in ("/etc/passwd", "/etc/passwd/media")),
    ("VAR_DIR", "/etc/passwd"),
    *(
        ("ALLOWED_HOSTS", name)
        for name in ("https://gallery.example", "gallery.example:443", "*.example", ",")
    ),
    *(("KEYBITS_RELAY_BOUND", seconds) for seconds in ("0", "-1", "x", "inf", "nan", "1s")),
    *(("KEYBITS_RELAY_INTERVAL", seconds) for seconds in ("0", "x")),
    *(("KEYBITS_PURGE_AGAIN", seconds) for seconds in ("-1", "x")),
    *(("KEYBITS_MEMORY_BYTES", number) for number in ("-1", "64M")),
    *(("KEYBITS_LMDB_MAP_SIZE", number) for number in ("1000", "1G")),
    *(("WARM_BASE_URL", url) for url in ("foo", "https://", "https://h:x", "https://h/path", "https://u@h")),
    *(("PURGERS", text) for text in ("{", "[]", '{"edge": 1}')),
    *(("CORS_ORIGIN", origin) for origin in ("app.example", "https://App.example", "https://app.example/")),
    *(
        ("CORS_ORIGIN", origin)
        for origin in ("https://a.example,https://b.example", "null", "https://u@a.example")
    ),
    *(
        ("CORS_ORIGIN", origin)
        for origin in ("https://a.example:443", "http://a.example:80", "https://a:x", "*.a")
    ),
    ("LOG_LEVEL", "LOUD"),
    ("KEYBITS_AUDIT", "on"),
    ("KEYBITS_RELAY", "extern"),
]
WITH_A_DEFAULT = {
    "DATABASE_URL": "DATABASES",
    "REDIS_URL": "CACHES",
    "PURGERS": "KEYBITS_PURGERS",
    "LOG_LEVEL": "LOGGING",
    "NUM_PROXIES": "REST_FRAMEWORK",
    "ANON_THROTTLE_RATE": "REST_FRAMEWORK",
    "TOMBSTONE_DAYS": "TOMBSTONE_DAYS",
    "KEYBITS_BULK_LIMIT": "KEYBITS_BULK_LIMIT",
    "KEYBITS_FASTPATH": "KEYBITS_FASTPATH",
    "MEDIA_ROOT": "STORAGES",
    "ALLOWED_HOSTS": "ALLOWED_HOSTS",
    "HTTPS": "SECURE_SSL_REDIRECT",
    "CORS_ORIGIN": "CORS_ALLOWED_ORIGINS",
    "WARM_BASE_URL": "KEYBITS_WARM_BASE_URL",
}
OF_THIS_PROJECT = {
    "KEYBITS_FASTPATH_MIDDLEWARE",
    "KEYBITS_FINGERPRINT_PACKAGES",
    "KEYBITS_LMDB_PATH",
    "KEYBITS_WARM_URLS",
}
"""Settings of keybits that are the same for each deployment of this project."""


def read() -> dict[str, Any]:
    """Return the settings as a process that starts now would read them."""
    return runpy.run_path(settings.__file__)


class TestWhatCannotBeMeant:
    @pytest.mark.parametrize(("name", "value"), WRONG)
    def test_is_refused_by_name_with_what_would_do(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ImproperlyConfigured, match=rf"^{name} is .+; write .+\.$"):
            read()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("REDIS_URL", "redis://:hunter/2@h/0"),
            ("DATABASE_URL", "postgres://u:hunter/2@h/n"),
            ("PURGERS", '{"edge": {"token": "hunter2"}'),
        ],
    )
    def test_is_not_shown_where_it_may_be_a_secret(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(ImproperlyConfigured, match=name) as caught:
            read()
        assert "hunter" not in str(caught.value)
        assert caught.value.__context__ is None

    def test_is_refused_by_name_where_a_file_is_in_the_place_of_a_folder(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "static").touch()
        monkeypatch.setenv("VAR_DIR", str(tmp_path))
        with pytest.raises(
            ImproperlyConfigured, match=rf"^VAR_DIR is '{tmp_path}'; write .+ may write to\.$"
        ):
            read()


class TestWhatIsMeant:
    @pytest.mark.parametrize(("name", "setting"), WITH_A_DEFAULT.items())
    @pytest.mark.parametrize("nothing", ["", " "])
    def test_an_empty_variable_is_one_that_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch, name: str, setting: str, nothing: str
    ) -> None:
        monkeypatch.delenv(name, raising=False)
        without = read()[setting]
        monkeypatch.setenv(name, nothing)
        assert repr(read()[setting]) == repr(without)

    def test_without_any_variable_keybits_is_as_it_is_anywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in os.environ.keys() - {"VAR_DIR", "SECRET_KEY"}:
            monkeypatch.delenv(name)
        found = {name: value for name, value in read().items() if name.startswith("KEYBITS_")}
        own = {name: value for name, value in found.items() if name not in OF_THIS_PROJECT}
        assert own == {name: getattr(defaults, name.removeprefix("KEYBITS_")) for name in own}
        assert {"KEYBITS_MEMORY_BYTES", "KEYBITS_STORE"} < own.keys()

    @pytest.mark.parametrize("name", ["VAR_DIR", "MEDIA_ROOT"])
    def test_an_empty_folder_is_not_the_current_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        monkeypatch.setenv(name, "")
        assert environment.folder(name, default=tmp_path / "own") == tmp_path / "own"

    @pytest.mark.parametrize(
        ("value", "meant"),
        [*((yes, True) for yes in ("true", "ON", " 1")), *((no, False) for no in ("False", "off", "0"))],
    )
    def test_a_boolean_is_true_or_false_in_so_many_words(
        self, monkeypatch: pytest.MonkeyPatch, value: str, meant: bool
    ) -> None:
        monkeypatch.setenv("HTTPS", value)
        assert read()["SECURE_SSL_REDIRECT"] is meant

    @pytest.mark.parametrize(
        "origin",
        [
            *("https://app.example", "http://localhost:3000", "https://[::1]:8443", "http://app.example:443"),
            "capacitor://localhost",
        ],
    )
    def test_one_origin_is_allowed_in_place_of_all(
        self, monkeypatch: pytest.MonkeyPatch, origin: str
    ) -> None:
        for given, all, some in (("*", True, []), (origin, False, [origin])):
            monkeypatch.setenv("CORS_ORIGIN", given)
            found = read()
            assert (found["CORS_ALLOW_ALL_ORIGINS"], found["CORS_ALLOWED_ORIGINS"]) == (all, some)

    def test_the_members_of_a_list_have_no_blanks_around_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALLOWED_HOSTS", "gallery.example, localhost,, [::1] ,.example,*")
        monkeypatch.setenv("WARM_AFTER_PURGE", "gallery:*, tag:*")
        found = read()
        assert found["ALLOWED_HOSTS"] == ["gallery.example", "localhost", "[::1]", ".example", "*"]
        assert found["KEYBITS_WARM_AFTER_PURGE"] == ["gallery:*", "tag:*"]

    @pytest.mark.parametrize(
        ("query", "seconds"), [("", 60), ("?conn_max_age=0", 0), ("?conn_max_age=None", None)]
    )
    def test_connections_are_kept_for_as_long_as_the_url_says(
        self, monkeypatch: pytest.MonkeyPatch, query: str, seconds: int | None
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", f"postgres://h/n{query}")
        assert read()["DATABASES"]["default"]["CONN_MAX_AGE"] == seconds

    @pytest.mark.parametrize("rate", ["1/s", "5/second", "600/min", "20/hour", "8/d"])
    def test_a_rate_has_any_period_that_rest_framework_knows(
        self, monkeypatch: pytest.MonkeyPatch, rate: str
    ) -> None:
        monkeypatch.setenv("ANON_THROTTLE_RATE", f" {rate}")
        assert read()["REST_FRAMEWORK"]["DEFAULT_THROTTLE_RATES"]["anon"] == rate

    def test_a_level_is_one_in_small_letters_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOG_LEVEL", "debug")
        assert read()["LOGGING"]["root"]["level"] == "DEBUG"

    @pytest.mark.parametrize("url", ["redis://:a%2Fb,c@h:6379/1", "rediss://h", "unix:///run/redis?db=2"])
    def test_a_redis_is_one_whatever_its_password(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        monkeypatch.setenv("REDIS_URL", url)
        assert read()["CACHES"]["default"]["LOCATION"] == [url]

    def test_a_secret_that_begins_with_a_dollar_names_no_other_variable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_KEY", "$ecret")
        assert read()["SECRET_KEY"] == "$ecret"

    def test_the_relay_is_where_the_environment_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "KEYBITS_RELAY" not in read()
        monkeypatch.setenv("KEYBITS_RELAY", "external")
        assert read()["KEYBITS_RELAY"] == "external"

    @pytest.mark.parametrize(
        ("name", "value", "meant"),
        [
            ("KEYBITS_RELAY_BOUND", "2.5", 2.5),
            ("KEYBITS_RELAY_INTERVAL", "0.05", 0.05),
            ("KEYBITS_PURGE_AGAIN", "0", 0),
            ("KEYBITS_MEMORY_BYTES", "0", 0),
            ("KEYBITS_LMDB_MAP_SIZE", str(2**33), 2**33),
        ],
    )
    def test_what_a_machine_and_its_network_decide_is_what_the_environment_says(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, meant: float
    ) -> None:
        monkeypatch.setenv(name, value)
        assert read()[name] == meant

    def test_keys_of_before_are_told_with_commas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET_KEY_FALLBACKS", "older, oldest")
        assert read()["SECRET_KEY_FALLBACKS"] == ["older", "oldest"]


class TestTheSecretKeyThatIsKept:
    def test_is_made_once_for_its_owner_alone(self, tmp_path: Path) -> None:
        made = secret_key(tmp_path / "secret_key")
        assert len(made) > 50
        assert secret_key(tmp_path / "secret_key") == made
        assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("content", [b"", b" \n", "schlüssel".encode()])
    def test_is_refused_by_the_name_of_its_file_where_it_can_be_none(
        self, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "secret_key").write_bytes(content)
        with pytest.raises(ImproperlyConfigured, match=rf"^{tmp_path}/secret_key holds .+ SECRET_KEY\.$"):
            secret_key(tmp_path / "secret_key")

    @pytest.mark.parametrize("where", ["folder", "/sys/kernel/secret_key"])
    def test_is_refused_by_the_name_of_its_file_where_none_can_be(self, tmp_path: Path, where: str) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(
            ImproperlyConfigured, match=rf"{where} cannot be kept \(.+\); .+VAR_DIR.+SECRET_KEY"
        ):
            secret_key(tmp_path / where)


@pytest.mark.stack("embedded")  # whatever the stack, and a process each
class TestServers:
    @pytest.mark.parametrize("interface", ["wsgi", "asgi"])
    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("KEYBITS_STORE", "keybits.stores.nowhere", "keybits.E001"),
            ("PURGERS", '{"edge": {}}', "keybits.E013"),
            ("TOMBSTONE_DAYS", "99999999999", "TOMBSTONE_DAYS is '99999999999'; write a whole number"),
        ],
    )
    def test_do_not_start_where_every_request_would_fail(
        self, interface: str, name: str, value: str, told: str
    ) -> None:
        started = subprocess.run(
            [sys.executable, "-c", f"import gallery_api.{interface}"],
            cwd=CHECKOUT,
            env={**os.environ, name: value},
            capture_output=True,
            text=True,
            check=False,
        )
        assert started.returncode != 0
        assert told in started.stderr


class TestLog:
    def test_a_foreign_host_costs_one_line_which_says_how_to_allow_it(
        self, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Who looks for open servers asks for many; whoever forgot to allow his own looks for the line."""
        assert client.get("/api/v1/", headers={"host": "evil.example"}).status_code == 400
        (record,) = caplog.records
        assert "You may need to add 'evil.example' to ALLOWED_HOSTS." in record.message
        assert record.exc_info is None
