"""`manage.py cache_audit` tells entries that are what the database says from those that are not, and why."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.urls import path as url
from pytest_django import Settings
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.models import Tag
from keybits import changes
from keybits.bits import UpdatedAtKeyBit
from keybits.constructors import DefaultListKeyConstructor
from keybits.drf import cache_response_and_etag
from keybits.stores import StoreError, get_store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asked() -> Any:
    Tag.objects.create(slug="x", name="X")
    for path in ("tags/", "tags/x/", "galleries/"):
        assert Client().get(f"/api/v1/{path}").status_code == 200


class TagKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit("tags")


class Greeting(viewsets.GenericViewSet[Tag]):
    """Reads what its key does not have."""

    authentication_classes = []
    permission_classes = []
    key = TagKey()

    @cache_response_and_etag("key")
    def list(self, request: Request) -> Response:
        return Response({"hello": request.headers.get("X-Name", "")})


urlpatterns = [url("hello/", Greeting.as_view({"get": "list"}))]


def audit() -> str:
    out, err = StringIO(), StringIO()
    try:
        call_command("cache_audit", quiet=True, stdout=out, stderr=err)
    except CommandError as error:
        return f"{out.getvalue()}{err.getvalue()}{error}"
    return out.getvalue()


def test_entries_that_agree_are_counted(asked: Any) -> None:
    assert audit() == "3 of 3 entries are consistent (100.00%); 0 skipped\n"


@pytest.mark.parametrize("https", [False, True])
@pytest.mark.parametrize("host", ["gallery.example", ".gallery.example", "[::1]", "*"])
def test_entries_are_made_again_as_the_site_is_served(settings: Settings, host: str, https: bool) -> None:
    """A redirection to https, or a host that is refused, would be no answer to compare with."""
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = [host], https
    named = "localhost" if host == "*" else host.lstrip(".")
    assert Client().get("/api/v1/tags/", secure=https, headers={"Host": named}).status_code == 200
    assert audit() == "1 of 1 entries are consistent (100.00%); 0 skipped\n"


def test_an_entry_that_was_overtaken_is_skipped_for_it_is_not_believed(asked: Any) -> None:
    Tag.objects.update(name="Y")
    assert audit() == "1 of 1 entries are consistent (100.00%); 2 skipped\n"


def test_an_entry_that_a_change_did_not_end_is_named_with_its_scopes(asked: Any) -> None:
    wrappers, connection.execute_wrappers = connection.execute_wrappers, []
    with connection.cursor() as cursor:  # a change that nobody records
        cursor.execute("UPDATE catalog_tag SET name = 'Y'")
        cursor.execute(f"DELETE FROM {changes.TABLE}")  # noqa: S608
    connection.execute_wrappers = wrappers
    report = audit()
    assert "1 of 3 entries are consistent (33.33%)" in report
    assert "/api/v1/tags/x/: changed without ending any of its scopes" in report
    assert "tag:x" in report
    assert "2 entries differ from what the database says." in report


def test_an_entry_that_was_made_for_somebody_else_is_named_with_what_is_missing(settings: Settings) -> None:
    settings.ROOT_URLCONF, settings.KEYBITS_AUDIT = __name__, "off"
    Client().get("/hello/", headers={"X-Name": "Ann"})
    report = audit()
    assert "0 of 1 entries are consistent (0.00%)" in report
    assert "/hello/: made under tags; Greeting reads header 'X_NAME': " in report


def test_it_leaves_the_store_as_it_was(asked: Any) -> None:
    audit()
    assert Client().get("/api/v1/tags/")["Cache-Status"] == "keybits; hit"


def test_what_was_made_for_somebody_is_not_made_again(django_user_model: Any) -> None:
    client = Client()
    client.force_login(django_user_model.objects.create(username="u"))
    client.get("/api/v1/tags/")
    assert audit() == "0 of 0 entries are consistent; 1 skipped\n"


def test_what_is_not_served_at_present_is_skipped(asked: Any, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["*.example"]  # which is no host
    assert audit() == "0 of 0 entries are consistent; 3 skipped\n"


def test_what_is_no_entry_is_skipped(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = get_store().sample
    monkeypatch.setattr(type(get_store()), "sample", lambda *_: [*sample(9), ("key", b"of another release")])
    assert audit() == "3 of 3 entries are consistent (100.00%); 1 skipped\n"


def test_an_entry_whose_view_fails_is_not_said_to_differ(asked: Any) -> None:
    def refuse(*_: Any) -> None:
        raise OperationalError("the database is not there")

    with connection.execute_wrapper(refuse):
        report = audit()
    assert report.startswith("0 of 0 entries are consistent; 0 skipped\n")
    assert "/api/v1/tags/x/: could not be made again: 500" in report
    assert report.endswith("3 entries could not be compared: see why their views fail.")


@pytest.mark.parametrize("sample", ["-5", "0", "99999999999999999999"])
def test_a_sample_of_nothing_or_too_much_is_refused(sample: str) -> None:
    """Of nothing, everything would be found consistent."""
    with pytest.raises(CommandError, match="--sample takes a number from 1 to 2147483647"):
        call_command("cache_audit", "--sample", sample)


def test_a_store_that_is_out_of_reach_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise StoreError("out of reach")

    monkeypatch.setattr(type(get_store()), "sample", away)
    assert audit() == "The store cannot be read: out of reach"
