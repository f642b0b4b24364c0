"""`manage.py apikey`: what it prints can be used, and what it is told wrongly it says and leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils.dateparse import parse_datetime

from catalog.accounts import keys
from catalog.accounts.models import ApiKey

pytestmark = pytest.mark.django_db


def run(capsys: Any, *arguments: str) -> str:
    call_command("apikey", *arguments)
    printed: str = capsys.readouterr().out
    return printed


def test_what_is_issued_is_a_good_key_alone_on_its_line(owner: User, capsys: Any) -> None:
    scopes = ["--scope", "read", "--scope", "capture", "--scope", "read"]
    text = run(capsys, "issue", "owner", "--name", "ci", *scopes, "--expires", "2999-01-31")
    key = keys.find(keys.Presented.read(text.removesuffix("\n")))
    assert key is not None
    assert (key.user, key.name, key.scopes) == (owner, "ci", ["read", "capture"])
    assert key.expires_at == parse_datetime("2999-01-31T00:00Z")


@pytest.mark.parametrize(
    "expires",
    ["2999-01-31T12:00", "2999-01-31T12:00Z", "2999-01-31T14:00+02:00"],
    ids=["naive", "utc", "zone"],
)
def test_a_time_without_a_zone_is_utc(owner: User, capsys: Any, expires: str) -> None:
    run(capsys, "issue", "owner", "--name", "ci", "--scope", "read", "--expires", expires)
    assert ApiKey.objects.get().expires_at == parse_datetime("2999-01-31T12:00Z")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody", "--name", "x", "--scope", "read"], "no user 'nobody'"),
        (["owner", "--name", "x", "--scope", "write"], "invalid choice: 'write'"),
        (["owner", "--name", "x"], "--scope"),
        (["owner", "--name", "", "--scope", "read"], "--name: This field cannot be blank"),
        (["owner", "--name", "x" * 101, "--scope", "read"], "100"),
        (["owner", "--name", "x", "--scope", "read", "--expires", "soon"], "2030-01-31"),
        (["owner", "--name", "x", "--scope", "read", "--expires", "2999-02-30"], "2030-01-31"),
        (["owner", "--name", "x", "--scope", "read", "--expires", "2020-01-31"], "past"),
        (["owner", "--name", "x", "--scope", "read", "--expires", "9999-12-31T23:59:59-12:00"], "9999-12-31"),
        (["owner", "--name", "x", "--scope", "read", "--expires", "9999-12-31T00:01Z"], "9999-12-31"),
        (["owner", "--name", "x", "--scope", "read", "--expires", "0001-01-01T00:00+12:00"], "9999-12-31"),
        (["owner", "--name", "x", "--scope", "read", "--expires", "99999-01-01"], "9999-12-31"),
    ],
)
def test_what_cannot_be_issued_is_said_and_nothing_made(owner: User, arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("apikey", "issue", *arguments)
    assert not ApiKey.objects.exists()


def test_who_is_inactive_is_issued_no_key(owner: User) -> None:
    """It would be refused from the start."""
    User.objects.update(is_active=False)
    with pytest.raises(CommandError, match="owner is inactive"):
        call_command("apikey", "issue", "owner", "--name", "x", "--scope", "read")
    assert not ApiKey.objects.exists()


def test_a_list_shows_every_key_and_no_secret(issue: Any, capsys: Any) -> None:
    good, secret = issue("read", "curate")
    revoked, _ = issue("capture")
    keys.revoke(key=revoked)
    printed = run(capsys, "list")
    rows = {line.split()[0]: line.split()[1:3] for line in printed.splitlines()}
    assert rows == {good.prefix: ["good", "read,curate"], revoked.prefix: ["revoked", "capture"]}
    assert secret.reveal().partition(".")[2] not in printed
    assert good.digest not in printed


def test_the_last_moment_can_be_issued_and_listed(owner: User, capsys: Any) -> None:
    run(capsys, "issue", "owner", "--name", "ci", "--scope", "read", "--expires", "9999-12-31")
    assert "good" in run(capsys, "list")
    ApiKey.objects.get().full_clean()


def test_a_list_has_a_key_a_line_whatever_it_is_called(issue: Any, capsys: Any) -> None:
    key, _ = issue()
    ApiKey.objects.update(name="größe\nab12  good\r\x1b[2J\u2028")
    (line,) = run(capsys, "list").splitlines()
    assert line.startswith(key.prefix)
    assert line.endswith(r"größe\nab12  good\r\x1b[2J\u2028")


def test_a_list_can_be_of_one_user(issue: Any, capsys: Any) -> None:
    issue()
    User.objects.create_user("other")
    assert run(capsys, "list", "--user", "other") == ""
    assert len(run(capsys, "list", "--user", "owner").splitlines()) == 1


@pytest.mark.parametrize("whole", [False, True], ids=["by its prefix", "by the whole key"])
def test_a_key_that_is_revoked_ends(issue: Any, capsys: Any, whole: bool) -> None:
    key, secret = issue()
    assert "is revoked" in run(capsys, "revoke", secret.reveal() if whole else key.prefix)
    assert keys.find(keys.Presented.read(secret.reveal())) is None


def test_a_key_that_there_is_not_is_not_revoked(issue: Any) -> None:
    _, secret = issue()
    with pytest.raises(CommandError, match="apikey list"):
        call_command("apikey", "revoke", "0" * 12)
    assert keys.find(keys.Presented.read(secret.reveal())) is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ["issue", "x\udcff", "--name", "x", "--scope", "read"],
        ["issue", "owner", "--name", "x\udcff", "--scope", "read"],
        ["list", "--user", "x\udcff"],
        ["revoke", "x\udcff"],
    ],
)
def test_what_is_not_utf_8_is_said_to_be(owner: User, arguments: list[str]) -> None:
    """Python has such bytes of a command line as lone surrogates (PEP 383)."""
    with pytest.raises(CommandError, match=r"'x\\udcff' is not UTF-8"):
        call_command("apikey", *arguments)
    assert not ApiKey.objects.exists()
