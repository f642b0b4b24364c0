"""Errors as problem details: the members of RFC 9457, and one for each exception that REST framework knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import pytest
from django.apps import apps
from django.apps.registry import Apps
from django.core.exceptions import PermissionDenied
from django.core.handlers.exception import convert_exception_to_response
from django.db import ConnectionHandler, OperationalError, connection, models
from django.http import Http404, HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.translation import gettext_lazy
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView
from rest_framework_extensions.exceptions import PreconditionRequiredException
from stacks.servers import reserve_port

from keybits import problems
from keybits.drf.problems import exception_handler
from keybits.drf.query import InvalidQueryError
from keybits.query import QueryError
from keybits.transactions import WriteRefusedError


class TestSection31Members:
    def test_without_a_type_it_is_about_blank_and_the_title_is_the_phrase(self) -> None:
        """Section 4.2.1."""
        assert problems.body(404) == {"type": "about:blank", "title": "Not Found", "status": 404}

    def test_all(self) -> None:
        assert problems.body(400, "Odd", "It is odd.", "urn:problem:odd", parameter="p") == {
            "type": "urn:problem:odd",
            "title": "Odd",
            "status": 400,
            "detail": "It is odd.",
            "parameter": "p",
        }

    def test_extension_members_come_last(self) -> None:
        assert list(problems.body(400, detail="x", a=1, b=2))[-2:] == ["a", "b"]

    @pytest.mark.parametrize("status", [400, 401, 404, 405, 406, 412, 414, 415, 428, 429, 500, 503])
    def test_the_title_is_the_phrase_of_each_status(self, status: int) -> None:
        assert problems.body(status)["title"] == HTTPStatus(status).phrase

    def test_a_status_that_nobody_has_registered(self) -> None:
        assert problems.body(499)["status"] == 499


class TestResponse:
    @pytest.fixture
    def response(self) -> HttpResponse:
        return problems.problem_response(412, detail="größe", type="urn:problem:odd", allowed=[1])

    def test_is_of_the_media_type_and_no_cache_keeps_it(self, response: HttpResponse) -> None:
        assert response.status_code == 412
        assert response["Content-Type"] == "application/problem+json"
        assert response["Cache-Control"] == "private, no-store"

    def test_has_its_length_in_bytes(self, response: HttpResponse) -> None:
        assert response["Content-Length"] == str(len(response.content))

    def test_says_what_body_says(self, response: HttpResponse) -> None:
        assert json.loads(response.content) == problems.body(
            412, detail="größe", type="urn:problem:odd", allowed=[1]
        )


class TestDjangosHandlers:
    @pytest.mark.parametrize(
        ("handler", "status"),
        [
            (problems.bad_request, 400),
            (problems.permission_denied, 403),
            (problems.not_found, 404),
        ],
    )
    def test_are_problems_that_keep_the_cause_to_themselves(self, handler: Any, status: int) -> None:
        response = handler(RequestFactory().get("/"), ValueError("secret"))
        document = json.loads(response.content)
        assert response.status_code == document["status"] == status
        assert response["Content-Type"] == "application/problem+json"
        assert document["detail"]
        assert b"secret" not in response.content

    def test_the_one_for_500_too(self) -> None:
        response = problems.server_error(HttpRequest())
        assert (response.status_code, json.loads(response.content)["status"]) == (500, 500)
        assert response["Cache-Control"] == "private, no-store"


def handled(exc: Exception, **context: Any) -> Response:
    request = Request(APIRequestFactory().get("/"))
    response = exception_handler(exc, {"request": request, "view": APIView()} | context)
    assert response is not None
    return response


EXCEPTIONS: list[tuple[Exception, int, str]] = [
    (exceptions.APIException(), 500, "A server error occurred."),
    (exceptions.ParseError(), 400, "Malformed request."),
    (exceptions.AuthenticationFailed(), 401, "Incorrect authentication credentials."),
    (exceptions.NotAuthenticated(), 401, "Authentication credentials were not provided."),
    (exceptions.PermissionDenied(), 403, "You do not have permission to perform this action."),
    (exceptions.NotFound("Nothing here."), 404, "Nothing here."),
    (exceptions.MethodNotAllowed("PUT"), 405, 'Method "PUT" not allowed.'),
    (exceptions.NotAcceptable(), 406, "Could not satisfy the request Accept header."),
    (exceptions.UnsupportedMediaType("a/b"), 415, 'Unsupported media type "a/b" in request.'),
    (exceptions.Throttled(wait=7), 429, "Request was throttled. Expected available in 7 seconds."),
    (exceptions.ValidationError("Odd."), 400, "Some values cannot be used."),
    (exceptions.ValidationError({"detail": "Odd."}), 400, "Some values cannot be used."),
    (exceptions.AuthenticationFailed({"detail": "Odd.", "code": "odd"}), 401, "Odd."),
    (PreconditionRequiredException(), 428, ""),
    (Http404("secret"), 404, "There is no such resource, or you may not see it."),
    (PermissionDenied("secret"), 403, "You may not do this."),
    (InvalidQueryError(QueryError("urn:problem:unknown-parameter", "Odd.")), 400, "Odd."),
]
each = pytest.mark.parametrize(
    ("exc", "status", "detail"), EXCEPTIONS, ids=[type(exc).__name__ for exc, _, _ in EXCEPTIONS]
)


class TestExceptionHandler:
    def test_every_exception_of_rest_framework_is_in_the_table(self) -> None:
        known = {found for found in vars(exceptions).values() if isinstance(found, type)}
        known = {found for found in known if issubclass(found, exceptions.APIException)}
        assert known <= {type(exc) for exc, _, _ in EXCEPTIONS}

    @each
    def test_is_a_problem(self, exc: Exception, status: int, detail: str) -> None:
        response = handled(exc)
        assert response.status_code == response.data["status"] == status
        assert response.data["title"] == HTTPStatus(status).phrase
        assert not detail or response.data["detail"] == detail
        assert "secret" not in str(response.data)

    @each
    def test_no_cache_keeps_it(self, exc: Exception, status: int, detail: str) -> None:
        assert handled(exc)["Cache-Control"] == "private, no-store"

    @each
    def test_is_of_the_media_type(self, exc: Exception, status: int, detail: str) -> None:
        assert handled(exc).content_type == "application/problem+json"

    def test_a_page_for_people_stays_a_page(self) -> None:
        request = Request(APIRequestFactory().get("/"))
        request.accepted_renderer = type("Page", (), {"format": "api"})()
        assert handled(exceptions.NotFound(), request=request).content_type is None

    @pytest.mark.parametrize("exc", [ValueError("x"), KeyError("x"), AssertionError()])
    def test_anything_else_is_left_to_django(self, exc: Exception) -> None:
        assert exception_handler(exc, {"request": None, "view": None}) is None

    def test_when_to_come_back_is_said(self) -> None:
        assert handled(exceptions.Throttled(wait=7))["Retry-After"] == "7"

    def test_how_to_authenticate_is_said(self) -> None:
        exc = exceptions.NotAuthenticated()
        exc.auth_header = "Token"  # type: ignore[attr-defined]  # as the view does
        assert handled(exc)["WWW-Authenticate"] == "Token"

    @pytest.mark.parametrize(
        ("shown", "detail"),
        [
            ("ApiKey x", "Authorization was ignored: its scheme is not one of Api-Key, Token."),
            (" ", "Authentication credentials were not provided."),
        ],
    )
    def test_credentials_of_no_scheme_are_not_said_to_be_missing(self, shown: str, detail: str) -> None:
        exc = exceptions.NotAuthenticated()
        exc.auth_header = "Api-Key, Token"  # type: ignore[attr-defined]  # as the view does
        request = Request(APIRequestFactory().get("/", headers={"Authorization": shown}))
        assert handled(exc, request=request).data["detail"] == detail

    def test_credentials_are_not_said_to_be_ignored_where_they_are_wrong(self) -> None:
        exc = exceptions.AuthenticationFailed("Invalid token.")
        exc.auth_header = "Token"  # type: ignore[attr-defined]  # as the view does
        request = Request(APIRequestFactory().get("/", headers={"Authorization": "Token x"}))
        assert handled(exc, request=request).data["detail"] == "Invalid token."

    def test_where_there_is_no_scheme_none_is_asked_for(self) -> None:
        request = Request(APIRequestFactory().get("/", headers={"Authorization": "Token x"}))
        exc = exceptions.NotAuthenticated()
        assert handled(exc, request=request).data["detail"] == str(exc.detail)

    def test_invalid_values_are_listed(self) -> None:
        response = handled(exceptions.ValidationError({"title": ["Too long."], "tags": {"a": ["Odd."]}}))
        assert response.data["type"] == "urn:problem:invalid-value"
        assert response.data["errors"] == {"title": ["Too long."], "tags": {"a": ["Odd."]}}

    def test_an_exception_for_values_may_name_a_type_of_its_own(self) -> None:
        exc = exceptions.ValidationError(["Odd."])
        exc.members = {"type": "urn:problem:odd"}  # type: ignore[attr-defined]
        assert (handled(exc).data["type"], handled(exc).data["errors"]) == ("urn:problem:odd", ["Odd."])

    def test_members_of_an_exception_are_added_and_name_its_type(self) -> None:
        error = QueryError("urn:problem:unknown-parameter", "Odd.", "oredring", ["ordering"], "ordering")
        assert handled(InvalidQueryError(error)).data == {
            "type": "urn:problem:unknown-parameter",
            "title": "Bad Request",
            "status": 400,
            "detail": "Odd.",
            "parameter": "oredring",
            "allowed": ["ordering"],
            "suggestion": "ordering",
        }

    def test_members_without_a_value_are_left_out(self) -> None:
        data = handled(InvalidQueryError(QueryError("urn:problem:malformed-query", "Odd."))).data
        assert set(data) == {"type", "title", "status", "detail"}

    def test_a_query_that_is_too_long_is_414(self) -> None:
        assert (
            handled(InvalidQueryError(QueryError("urn:problem:query-too-long", "Long."))).data["status"]
            == 414
        )

    def test_a_lazy_detail_is_text(self) -> None:
        detail = handled(exceptions.NotFound(gettext_lazy("Not found."))).data["detail"]
        assert type(detail) is str


def connect(engine: str, **where: Any) -> None:
    ConnectionHandler({"default": {"ENGINE": f"django.db.backends.{engine}", **where}})[
        "default"
    ].ensure_connection()


def postgresql_is_down() -> None:
    connect("postgresql", NAME="gallery", USER="postgres", HOST="127.0.0.1", PORT=reserve_port())


def sqlite_is_away() -> None:
    connect("sqlite3", NAME="/nowhere/gallery.sqlite3")


def ask(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def postgresql_shuts_down() -> None:
    ask("SELECT pg_terminate_backend(pg_backend_pid())")


def answered(fails: Callable[[], object]) -> HttpResponse:
    def view(_: HttpRequest) -> HttpResponse:
        fails()
        return HttpResponse()

    response: HttpResponse = convert_exception_to_response(view)(RequestFactory().get("/"))
    return response


class DatabaseSaidError(Exception):
    """What psycopg raises."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@pytest.mark.django_db(transaction=True)
class TestADatabaseThatCannotBeReached:
    @pytest.fixture(autouse=True)
    def _first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a process that has not met it yet."""
        monkeypatch.setattr(problems._outage, "_told", None)

    @pytest.mark.parametrize("fails", [postgresql_is_down, sqlite_is_away])
    def test_is_503_and_says_when_to_ask_again(self, fails: Callable[[], object]) -> None:
        response = answered(fails)
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert response["Content-Type"] == problems.MEDIA_TYPE
        assert response["Cache-Control"] == "private, no-store"
        assert json.loads(response.content)["type"] == "urn:problem:database-unreachable"

    @pytest.mark.stack("server")
    def test_is_503_where_it_ends_the_connection(self) -> None:
        response = answered(postgresql_shuts_down)
        connection.close()
        assert response.status_code == 503

    @pytest.mark.parametrize("state", ["08006", "57P01", "57P02", "57P03", "53300"])
    def test_is_503_whatever_the_server_calls_it(self, state: str) -> None:
        def fail() -> None:
            raise OperationalError from DatabaseSaidError(state)

        assert answered(fail).status_code == 503

    def test_is_503_as_is_a_store_for_want_of_which_a_write_was_refused_as_its_request_ended(self) -> None:
        def refuse() -> None:
            raise WriteRefusedError("Nothing was written: the cache is out of reach.")

        response = answered(refuse)
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert "Nothing was written" in json.loads(response.content)["detail"]

    def test_is_told_to_the_log_once(self, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(3):
            answered(sqlite_is_away)
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    @pytest.mark.parametrize("sql", ["SELECT * FROM nothing", "SELECT FROM WHERE"])
    def test_is_not_a_statement_that_is_wrong(self, sql: str) -> None:
        assert answered(lambda: ask(sql)).status_code == 500

    @pytest.mark.stack("server")
    def test_is_not_a_statement_that_takes_too_long(self) -> None:
        response = answered(lambda: ask("SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)"))
        assert response.status_code == 500

    def test_is_not_an_error_that_somebody_else_made(self) -> None:
        def fails() -> None:
            raise OperationalError("of no driver")

        assert answered(fails).status_code == 500


class Page(models.Model):
    """Of an application whose migrations have not been applied: its table is missing."""

    class Meta:
        app_label = "catalog"
        apps = Apps()

    def __str__(self) -> str:
        return "a page"


class Tag(models.Model):
    """Of an application whose last migration has not been applied: its table lacks a column."""

    nickname = models.CharField(max_length=50)

    class Meta:
        app_label = "catalog"
        apps = Apps()

    def __str__(self) -> str:
        return self.nickname


@pytest.mark.django_db(transaction=True)
class TestADatabaseThatHasNotBeenMigrated:
    @pytest.fixture(autouse=True)
    def _first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a process that has not met it yet."""
        monkeypatch.setattr(problems._unmigrated, "_told", None)

    @pytest.fixture(autouse=True)
    def _unmigrated(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setitem(apps.all_models["catalog"], "page", Page)
        monkeypatch.setitem(apps.all_models["catalog"], "newer tag", Tag)
        apps.clear_cache()
        yield
        monkeypatch.undo()
        apps.clear_cache()

    def test_is_503_that_nothing_keeps(self) -> None:
        response = answered(lambda: list(Page._base_manager.all()))
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert response["Cache-Control"] == "private, no-store"
        assert json.loads(response.content)["type"] == "urn:problem:database-unmigrated"

    def test_is_told_to_the_log_once_with_the_cure_and_not_to_the_client(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        content = [answered(lambda: list(Page._base_manager.all())).content for _ in range(3)][-1]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "catalog_page" in caplog.text
        assert "manage.py migrate" in caplog.text
        assert b"catalog_page" not in content

    def test_is_503_as_well_where_a_table_is_there_and_lacks_a_column(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The code was deployed before its migration."""
        response = answered(lambda: list(Tag._base_manager.values("nickname")))
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert json.loads(response.content)["type"] == "urn:problem:database-unmigrated"
        assert "catalog_tag.nickname" in caplog.text
        assert b"nickname" not in response.content

    def test_is_not_one_in_which_a_statement_names_what_is_no_model_s(self) -> None:
        assert answered(lambda: ask("SELECT * FROM page /* catalog_page */")).status_code == 500
