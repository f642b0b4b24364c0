"""What holds for every answer: a Host that is ours, and a length where there may be one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import Client, RequestFactory
from django.urls import path
from django.utils.module_loading import import_string
from pytest_django import Settings

from keybits.middleware import content_length_middleware, host_middleware

LENGTH = "Content-Length"


def view(request: HttpRequest) -> HttpResponse:
    """A view that, like a cached answer, asks for no Host."""
    return HttpResponse("ok")


urlpatterns = [path("", view)]
handler400 = "keybits.problems.bad_request"


def after(response: HttpResponseBase, method: str = "GET") -> HttpResponseBase:
    return content_length_middleware(lambda request: response)(RequestFactory().generic(method, "/"))


class TestHost:
    @pytest.fixture(autouse=True)
    def _urls(self, settings: Settings) -> None:
        settings.ROOT_URLCONF = __name__
        settings.ALLOWED_HOSTS = ["ours.example"]

    @pytest.mark.parametrize("host", ["evil.example", "ours.example.evil.example", "ours.example/..", ""])
    def test_a_foreign_one_is_400_whatever_the_view_asks(self, host: str) -> None:
        answer = Client().get("/", headers={"Host": host})
        assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
        assert answer["Cache-Control"] == "private, no-store"

    @pytest.mark.parametrize("host", ["ours.example", "OURS.example:8000"])
    def test_ours_is_answered(self, host: str) -> None:
        assert Client().get("/", headers={"Host": host}).content == b"ok"

    def test_nothing_else_is_asked_before(self) -> None:
        def fail(request: HttpRequest) -> HttpResponse:
            raise AssertionError("asked")

        with pytest.raises(DisallowedHost):
            host_middleware(fail)(RequestFactory().get("/", headers={"Host": "evil.example"}))

    def test_it_is_the_first_of_this_project(self) -> None:
        assert import_string(settings.MIDDLEWARE[0]) is host_middleware


class TestContentLength:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_a_whole_answer_has_its_length(self, method: str) -> None:
        assert after(HttpResponse("größe"), method)[LENGTH] == "7"

    @pytest.mark.parametrize("status", [200, 201, 400, 404, 412, 500])
    def test_an_empty_one_has_a_length_too(self, status: int) -> None:
        assert after(HttpResponse(status=status))[LENGTH] == "0"

    @pytest.mark.parametrize("status", [100, 103, 204, 304])
    def test_what_has_no_content_has_no_length(self, status: int) -> None:
        """RFC 9110 section 8.6 and 15.4.5: a cache might take the 0 for the length of what it has stored."""
        assert LENGTH not in after(HttpResponse(status=status))

    def test_a_length_that_is_there_stays(self) -> None:
        """A HEAD answered without its body says the length of the GET."""
        assert after(HttpResponse(headers={LENGTH: "7"}), "HEAD")[LENGTH] == "7"

    def test_a_stream_is_neither_measured_nor_read(self) -> None:
        def chunks() -> Iterator[bytes]:
            raise AssertionError("read")
            yield b""

        assert LENGTH not in after(StreamingHttpResponse(chunks()))

    def test_a_file_keeps_the_length_that_django_gives_it(self) -> None:
        with open(__file__, "rb") as file:
            length = len(file.read())
            file.seek(0)
            assert after(FileResponse(file))[LENGTH] == str(length)
