"""A key is nowhere but with its client: not in a log, an error page, a problem, or the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import InternalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.log import AdminEmailHandler
from rest_framework.authtoken.models import Token

from catalog.accounts import keys
from catalog.accounts.models import ApiKey, Plan
from keybits import problems
from keybits.outages import Outage
from keybits.stores import get_store

pytestmark = pytest.mark.django_db
TABLES = {"accounts_apikey": "while it is looked up", "accounts_usageevent": "once it is known"}


class Records(logging.Handler):
    """Every record of every logger, written out with its arguments and its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{self.format(record)} {vars(record)}\n"


@pytest.fixture
def records() -> Iterator[Records]:
    """Hear all loggers there are, at DEBUG, whether or not they hand on what they hear."""
    handler = Records()
    named = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    loggers = [logging.getLogger(), *(each for each in named if isinstance(each, logging.Logger))]
    before = [(each, each.level, each.disabled) for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        each.setLevel(logging.DEBUG)
        each.disabled = False
    yield handler
    for each, level, disabled in before:
        each.removeHandler(handler)
        each.setLevel(level)
        each.disabled = disabled


@pytest.fixture
def secret(plan: Plan, issue: Any) -> keys.Secret:
    """A good key to read, with three requests to go."""
    found: keys.Secret = issue("read")[1]
    return found


def parts(secret: keys.Secret) -> list[str]:
    """What nobody may see."""
    return [secret.reveal().partition(".")[2], ApiKey.objects.get().digest]


def break_(table: str) -> None:
    """Have the database refuse each statement about the table, as one that has not been migrated does."""
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{table}" RENAME COLUMN id TO gone')


@contextmanager
def failing(table: str) -> Iterator[None]:
    """Have each statement about the table fail, for a reason that nobody knows."""

    def fail(execute: Any, sql: str, *arguments: Any) -> Any:
        if table in sql:
            raise InternalError(f"{table} is damaged")
        return execute(sql, *arguments)

    with connection.execute_wrapper(fail):
        yield


def asked_in_vain(secret: keys.Secret) -> Any:
    client = Client(raise_request_exception=False)
    return client.get("/api/v1/galleries/", headers={"Authorization": f"Api-Key {secret.reveal()}"})


class TestLogs:
    def test_hold_no_key_whatever_becomes_of_it(
        self, ask: Any, secret: keys.Secret, records: Records, settings: Any
    ) -> None:
        settings.DEBUG = True
        text = secret.reveal()
        hidden = parts(secret)
        with CaptureQueriesContext(connection) as queries:  # what is logged where DEBUG is on
            for path in ("galleries/", "galleries/vault/", "galleries/?x=1", "nowhere/"):
                ask(path, secret)
            statuses = [ask("galleries/", each).status_code for each in (secret, f"Api-Key {text}x")]
            call_command("apikey", "list", stdout=StringIO())
            call_command("apikey", "revoke", text, stdout=StringIO())
            statuses.append(ask("galleries/", secret).status_code)
        assert statuses == [429, 401, 401]
        assert "django.db.backends" in records.text
        assert "django.request" in records.text
        assert len(queries) > 5
        assert not [each for each in hidden[:1] if each in records.text]

    @pytest.mark.parametrize("table", TABLES, ids=TABLES.values())
    def test_hold_no_key_where_the_database_fails(
        self, secret: keys.Secret, records: Records, table: str
    ) -> None:
        hidden = parts(secret)
        with failing(table):
            assert asked_in_vain(secret).status_code == 500
        assert "Internal Server Error" in records.text
        assert not [each for each in hidden if each in records.text]

    @pytest.mark.parametrize("table", TABLES, ids=TABLES.values())
    def test_hold_no_key_where_the_database_has_not_been_migrated(
        self, secret: keys.Secret, records: Records, table: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            problems, "_unmigrated", Outage(logging.getLogger("keybits.problems"), "not ready")
        )
        hidden = parts(secret)
        break_(table)
        assert asked_in_vain(secret).status_code == 503
        assert "Traceback" in records.text
        assert not [each for each in hidden if each in records.text]


class TestErrorPages:
    @pytest.mark.parametrize("debug", [True, False])
    @pytest.mark.parametrize("table", TABLES, ids=TABLES.values())
    def test_hold_no_key(self, secret: keys.Secret, settings: Any, table: str, debug: bool) -> None:
        settings.DEBUG = debug
        hidden = parts(secret)
        with failing(table):
            page = asked_in_vain(secret)
        assert page.status_code == 500
        assert ("Traceback" in page.content.decode()) == debug
        assert not [each for each in hidden if each in page.content.decode()]

    @pytest.mark.parametrize("debug", [True, False])
    @pytest.mark.parametrize("table", TABLES, ids=TABLES.values())
    def test_that_are_mailed_hold_no_key(
        self, secret: keys.Secret, settings: Any, mailoutbox: Any, table: str, debug: bool
    ) -> None:
        settings.DEBUG, settings.ADMINS = debug, [("A", "a@gallery.example")]
        hidden = parts(secret)
        handler = AdminEmailHandler(include_html=True)
        logging.getLogger("django.request").addHandler(handler)
        try:
            with failing(table):
                assert asked_in_vain(secret).status_code == 500
        finally:
            logging.getLogger("django.request").removeHandler(handler)
        mails = [mail.body for mail in mailoutbox] + [
            each.content for mail in mailoutbox for each in mail.alternatives
        ]
        assert len(mails) >= 2  # as text and as a page
        for written in mails:
            assert table in written
            assert not [each for each in hidden if each in written]


class TestProblems:
    @pytest.mark.parametrize("wrong", ["{}x", "{} {}", "x{}"])
    def test_of_a_key_that_is_refused_do_not_repeat_it(
        self, ask: Any, secret: keys.Secret, wrong: str
    ) -> None:
        text = secret.reveal()
        response = ask("galleries/", f"Api-Key {wrong.format(text, text)}")
        assert response.status_code == 401
        assert text not in f"{response.content!r} {response.headers}"

    def test_of_what_else_goes_wrong_do_not(self, ask: Any, secret: keys.Secret) -> None:
        for path in ("galleries/?x=1", "galleries/nothing/", "galleries/?format=api", "galleries/"):
            response = ask(path, secret)
            assert secret.reveal() not in f"{response.content!r} {response.headers}"
        assert response.status_code == 429


class TestStore:
    @pytest.mark.django_db(transaction=True)
    def test_holds_no_key_in_names_or_entries(
        self, ask: Any, secret: keys.Secret, everything_stored: Callable[[], list[bytes]]
    ) -> None:
        hidden = parts(secret)
        for path in ("galleries/", "galleries/vault/", "galleries/?format=api"):
            assert ask(path, secret).status_code == 200
        stored = everything_stored()
        assert any(b"throttle:user:user:" in each for each in stored)
        assert any(b"vault" in each for each in stored)
        assert not [each for each in hidden if any(each.encode() in some for some in stored)]


@pytest.fixture
def everything_stored(stack: Any) -> Callable[[], list[bytes]]:
    """Read every name and value that there is in the store."""
    store: Any = get_store().store
    return (lambda: _in_redis(store)) if stack.name == "server" else (lambda: _in_lmdb(store))


def _in_lmdb(store: Any) -> list[bytes]:
    with store._environment().begin() as txn:
        return [
            bytes(key) + bytes(value)
            for db in (store._stamps, store._entries, store._meta)
            for key, value in txn.cursor(db=db)
        ]


def _in_redis(store: Any) -> list[bytes]:
    names = [name for found in store._names("*") for name in found]
    values = [store._call(lambda _, name=name: ["DUMP", name]) for name in names]
    return [name + (value or b"") for name, value in zip(names, values, strict=True)]


class TestTokensInTheAdmin:
    """REST framework's own, which are keys as well; it shows them wherever it names them."""

    BASE = "/admin/authtoken/tokenproxy/"

    @pytest.fixture
    def token(self, owner: User) -> Token:
        """A token of the owner's."""
        made: Token = Token.objects.create(user=owner)
        return made

    def test_are_shown_once_when_they_are_issued(self, admin_client: Client, owner: User) -> None:
        page = admin_client.post(f"{self.BASE}add/", {"user": owner.pk})
        key = Token.objects.get(user=owner).key
        assert f'<code id="issued">{key}</code>' in page.content.decode()
        assert "no-store" in page["Cache-Control"]
        assert key not in str(page.cookies) + told_of(admin_client, owner)

    def test_are_in_no_page_message_or_record(self, admin_client: Client, owner: User, token: Token) -> None:
        key, row = token.key, f"{self.BASE}{owner.pk}/"
        user = f"/admin/auth/user/{owner.pk}/"
        pages = [self.BASE, f"{row}change/", f"{row}delete/", f"{row}history/", f"{user}delete/"]
        assert [page for page in pages if key in admin_client.get(page).content.decode()] == []
        assert "owner" in admin_client.get(self.BASE).content.decode()
        page = admin_client.post(f"{row}delete/", {"post": "yes"}, follow=True)
        assert not Token.objects.exists()
        assert key not in page.content.decode() + told_of(admin_client, owner)

    def test_of_a_user_that_is_deleted_are_in_no_record(
        self, admin_client: Client, owner: User, token: Token
    ) -> None:
        data = {"action": "delete_selected", "_selected_action": [owner.pk]}
        confirm = admin_client.post("/admin/auth/user/", data)
        done = admin_client.post("/admin/auth/user/", data | {"post": "yes"}, follow=True)
        assert not Token.objects.exists()
        pages = confirm.content.decode() + done.content.decode()
        assert token.key not in pages + told_of(admin_client, owner)

    @pytest.mark.parametrize("lookup", ["key__startswith", "pk__startswith", "key"])
    def test_cannot_be_guessed_by_filters(self, admin_client: Client, token: Token, lookup: str) -> None:
        asked = admin_client.get(self.BASE, {lookup: token.key})
        assert asked.status_code in {302, 400}

    def test_that_were_in_the_record_are_taken_out(self, owner: User, token: Token) -> None:
        of = ContentType.objects.get_for_model(Token)
        LogEntry.objects.create(user=owner, content_type=of, object_repr=token.key, action_flag=1)
        migration = import_module("catalog.accounts.migrations.0003_unnamed_tokens")
        migration.take_out(apps, SimpleNamespace(connection=connection))
        assert LogEntry.objects.get().object_repr == "a token"

    def test_are_neither_changed_nor_given_to_others(
        self, admin_client: Client, owner: User, token: Token
    ) -> None:
        assert admin_client.post(f"{self.BASE}{owner.pk}/change/", {"user": 1}).status_code == 403
        assert Token.objects.get().user == owner


def told_of(client: Client, owner: User) -> str:
    """Return what the admin's log and the front page say."""
    entries = [str(sorted(each.items())) for each in LogEntry.objects.values()]
    return " ".join([*entries, client.get("/admin/").content.decode()])
