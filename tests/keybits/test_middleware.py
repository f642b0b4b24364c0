"""What holds for every answer: a Host that is ours, one spelling of its path, and a length where there may be one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from corsheaders.signals import check_request_enabled
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings
from django.urls import path, reverse
from django.utils.module_loading import import_string
from pytest_django import Settings
from stacks.threads import aside

from gallery_api import content_security
from keybits import middleware
from keybits.middleware import (
    content_length_middleware,
    cookieless_middleware,
    cross_origin_middleware,
    host_middleware,
    https_middleware,
    path_middleware,
    unread_content_middleware,
)

LENGTH = "Content-Length"


def view(request: HttpRequest) -> HttpResponse:
    """A view that, like a cached answer, asks for no Host."""
    return HttpResponse("ok")


urlpatterns = [path("", view), path("a/<str:name>/", lambda request, name: HttpResponse(name), name="a")]
handler400 = "keybits.problems.bad_request"
handler404 = "keybits.problems.not_found"


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

    @pytest.mark.parametrize("method", ["get", "Head", "post"])
    def test_a_method_in_another_case_is_none_of_ours(self, method: str) -> None:
        """RFC 9110 section 9.1: they are case-sensitive, and who is in front takes them so."""
        wsgi, asgi = RequestFactory(headers={"Host": "ours.example"}), AsyncRequestFactory()
        asked = [
            WSGIRequest(wsgi._base_environ(REQUEST_METHOD=method)),
            ASGIRequest(
                asgi._base_scope(method=method, path="/", headers=[(b"host", b"ours.example")]), BytesIO()
            ),
        ]
        for request in asked:
            answer = host_middleware(view)(request)
            assert (answer.status_code, answer["Content-Type"]) == (501, "application/problem+json")

    def test_it_is_the_first_of_this_project_that_looks_at_a_request(self) -> None:
        assert import_string(settings.MIDDLEWARE[0]) is content_security.middleware  # looks at answers alone
        assert import_string(settings.MIDDLEWARE[1]) is host_middleware


CANONICAL = (
    "/",
    "/a/",
    "/a/b",
    "/a/.well-known/..x/x..",
    "/a/caf%C3%A9/",
    "/a/100%25/",
    "/a/b%20c/",
    "/a/(b)=c,d~e/",
)
OTHER_SPELLINGS = {
    "an encoded slash": "/a%2Fb/",
    "an encoded backslash": "/a%5Cb/",
    "an encoded dot": "/a%2Ecss",
    "an encoded letter": "/%61/",
    "small hexadecimal digits": "/caf%c3%a9/",
    "an escape that need not be": "/a/%28b%29/",
    "no escape where one must be": "/a/b c/",
    "raw UTF-8": "/caf\u00c3\u00a9/",
    "a doubled slash": "/a//b/",
    "doubled slashes at the start": "//a/",
    "a dot segment": "/a/./b/",
    "a dot segment at the end": "/a/..",
    "an encoded dot segment": "/a/%2e%2e/b/",
    "a parameter": "/a;x.css",
    "an encoded parameter": "/a%3Bx.css",
    "a backslash": "/a\\b/",
    "NUL": "/a%00",
    "a line break": "/a%0Ab",
    "a control character of Unicode": "/a%C2%85",
    "not UTF-8": "/a%FF",
    "half an escape": "/a%2",
    "no escape": "/a%zz",
    "a fragment": "/a#b",
    "an asterisk": "*",
}
DECODED = {"//a/", "/a//b/", "/a/./b/", "/a/..", "/a;x.css", "/a\\b/", "/a\0", "/a\nb", "/a\x85", "*"}
"""What is no path of ours even where escapes cannot be told from what they stand for."""


def by_asgi(sent: str) -> HttpRequest:
    """A request as an ASGI server makes it of a path that it was sent."""
    request = AsyncRequestFactory().get("/")
    request.scope["raw_path"] = sent.encode("latin-1")
    return request


def by_gunicorn(sent: str) -> HttpRequest:
    return RequestFactory().get("/", RAW_URI=f"{sent}?q=//;")


def by_other_wsgi_servers(sent: str) -> HttpRequest:
    return RequestFactory().get("/", REQUEST_URI=f"{sent}?q=//;")


def by_plain_wsgi(path_info: str) -> HttpRequest:
    request = RequestFactory().get("/")
    request.path_info = path_info
    return request


@pytest.mark.parametrize("server", [by_asgi, by_gunicorn, by_other_wsgi_servers])
class TestPathAsItWasSent:
    @pytest.mark.parametrize("sent", CANONICAL)
    def test_the_canonical_spelling_is_answered(
        self, server: Callable[[str], HttpRequest], sent: str
    ) -> None:
        assert path_middleware(view)(server(sent)).status_code == 200

    @pytest.mark.parametrize("sent", OTHER_SPELLINGS.values(), ids=OTHER_SPELLINGS)
    def test_no_other_is(self, server: Callable[[str], HttpRequest], sent: str) -> None:
        with pytest.raises(Http404):
            path_middleware(view)(server(sent))

    def test_an_absolute_target_is_judged_by_its_path(self, server: Callable[[str], HttpRequest]) -> None:
        """RFC 9112 section 3.2.2: a server must accept the absolute form."""
        assert path_middleware(view)(server("http://ours.example/a/")).status_code == 200
        assert path_middleware(view)(server("http://ours.example")).status_code == 200
        with pytest.raises(Http404):
            path_middleware(view)(server("http://ours.example/a//"))


class TestPathAsItWasDecoded:
    @pytest.mark.parametrize(
        "path_info", ["/", "/a/b", "/a/caf\u00e9/", "/a/100%/", "/a/b c/", "/a/.well-known/"]
    )
    def test_what_may_be_canonical_is_answered(self, path_info: str) -> None:
        assert path_middleware(view)(by_plain_wsgi(path_info)).status_code == 200

    @pytest.mark.parametrize("path_info", sorted(DECODED))
    def test_what_cannot_be_is_not(self, path_info: str) -> None:
        with pytest.raises(Http404):
            path_middleware(view)(by_plain_wsgi(path_info))

    def test_an_asgi_server_need_not_tell(self) -> None:
        request = AsyncRequestFactory().get("/a//b/")
        request.scope.pop("raw_path", None)
        with pytest.raises(Http404):
            path_middleware(view)(request)


class TestPath:
    @pytest.fixture(autouse=True)
    def _urls(self, settings: Settings) -> None:
        settings.ROOT_URLCONF = __name__

    @pytest.mark.parametrize(
        "name", ["caf\u00e9", "b c", "100%", "a?b", "(b)=c,d~e", "\u0441\u043b\u043e\u0432\u043e", "a:b@c"]
    )
    def test_whatever_reverse_makes_is_answered(self, name: str) -> None:
        address = reverse("a", args=[name])
        assert Client().get(address, REQUEST_URI=address).content == name.encode()

    @pytest.mark.parametrize("method", ["get", "head", "post", "options"])
    def test_a_refusal_is_a_problem_that_nobody_stores(self, method: str) -> None:
        answer = getattr(Client(), method)("/a/b/", REQUEST_URI="/a%2Fb/")
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
        assert answer["Cache-Control"] == "private, no-store"

    def test_it_comes_right_after_the_host(self) -> None:
        assert import_string(settings.MIDDLEWARE[2]) is path_middleware


class TestHttps:
    @pytest.fixture(autouse=True)
    def _urls(self, settings: Settings) -> None:
        settings.ALLOWED_HOSTS = ["ours.example", "[::1]"]
        settings.SECURE_SSL_REDIRECT = True

    @pytest.mark.parametrize(
        ("host", "name"),
        [("ours.example:666", "ours.example"), ("[::1]:80", "[::1]"), ("OURS.example", "ours.example")],
    )
    def test_it_leads_to_the_host_without_the_port_that_a_client_chooses_and_nobody_keeps_it(
        self, host: str, name: str
    ) -> None:
        answer = https_middleware(view)(RequestFactory().post("/a/b/?c=d", headers={"Host": host}))
        assert (answer.status_code, answer["Location"]) == (308, f"https://{name}/a/b/?c=d")
        assert answer["Cache-Control"] == "private, no-store"

    def test_who_has_come_by_https_goes_on(self) -> None:
        assert https_middleware(view)(RequestFactory().get("/", secure=True)).status_code == 200

    def test_paths_that_are_exempt_are_answered_by_http(self, settings: Settings) -> None:
        settings.SECURE_REDIRECT_EXEMPT = ["^health/$"]
        middleware = https_middleware(view)
        answers = [
            middleware(RequestFactory().get(f"/{path}", headers={"Host": "ours.example"}))
            for path in ("health/", "a/")
        ]
        assert [answer.status_code for answer in answers] == [200, 308]

    def test_it_comes_before_django_s(self) -> None:
        names = list(settings.MIDDLEWARE)
        ours = names.index("keybits.middleware.https_middleware")
        assert ours < names.index("django.middleware.security.SecurityMiddleware")


@pytest.mark.django_db  # Django closes old connections once an answer is sent
class TestUnreadContent:
    """A server resets a connection with unread content, and what it has sent is lost (RFC 9112 section 9.6)."""

    def refuse(self, sent: bytes, *, read: int = 0, **fields: str) -> BytesIO:
        """Answer 401 after `read` bytes of what was `sent`, and send it; return what a server would find unread."""
        request = RequestFactory(**fields).post("/", b"", content_type="application/json")
        request.META["CONTENT_LENGTH"] = str(len(sent))
        arriving = request.META["wsgi.input"] = BytesIO(sent)
        request = WSGIRequest(request.META)

        def view(request: HttpRequest) -> HttpResponse:
            assert len(request.read(read)) == read
            return HttpResponse(status=401)

        answer = unread_content_middleware(view)(request)
        assert arriving.tell() == read, "the answer waits for the content"
        answer.close()
        return arriving

    @pytest.mark.parametrize("read", [0, 10, 300_000])
    def test_is_read_however_much_the_view_has_read(self, read: int) -> None:
        assert self.refuse(b"x" * 300_000, read=read).read() == b""

    def test_is_read_no_further_than_a_body_may_be_long(self, settings: Settings) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 200_000
        assert 300_000 < len(self.refuse(b"x" * 600_000).read()) <= 400_000

    def test_is_read_to_the_end_where_bodies_may_have_any_length(self, settings: Settings) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
        assert self.refuse(b"x" * 3_000_000).read() == b""

    def test_is_not_asked_for_of_a_client_that_waits_to_be_told_to_send_it(self) -> None:
        """RFC 9110 section 10.1.1: the answer tells it not to."""
        assert self.refuse(b"x" * 10, HTTP_EXPECT="100-continue").read() == b"x" * 10

    @pytest.fixture
    def dawdler(self) -> Iterator[threading.Event]:
        """A client that sends nothing until the event, and for whose content a thread waits."""
        waits, sends = threading.Event(), threading.Event()

        class Late(BytesIO):
            def read(self, *_: Any) -> bytes:
                waits.set()
                assert sends.wait(30)
                return b""

        environ = RequestFactory().post("/", b"x", content_type="text/plain").META
        request = WSGIRequest(environ | {"wsgi.input": Late()})
        ended = aside(unread_content_middleware(lambda request: HttpResponse(status=401))(request).close)
        assert waits.wait(30)
        yield sends
        sends.set()
        ended.result(30)

    def test_of_clients_that_do_not_send_it_keeps_one_thread_waiting_and_no_more(
        self, dawdler: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else a few that declare a length and send nothing would keep all threads of a process."""
        monkeypatch.setattr(middleware, "TURN", 0)
        assert self.refuse(b"x" * 10).read() == b"x" * 10

    def test_is_read_in_a_child_that_is_forked_while_a_thread_of_its_parent_reads(
        self, dawdler: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That thread does not exist in the child, where the lock that it holds would never be released."""
        monkeypatch.setattr(middleware, "TURN", 0)
        child = os.fork()
        if child == 0:
            left = None
            with suppress(BaseException):  # whatever happens, no test goes on in the child
                left = self.refuse(b"x" * 10).read()
            os._exit(0 if left == b"" else 1)
        assert os.waitpid(child, 0)[1] == 0

    def test_of_several_clients_is_read_one_after_the_other(
        self, dawdler: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A proxy may be given an answer, and send the next request, before the content of the first is read."""
        turns: list[float] = []

        class Turn:
            def acquire(self, *, timeout: float) -> bool:
                turns.append(timeout)
                dawdler.set()
                return lock.acquire(timeout=30)

            def release(self) -> None:
                lock.release()

        lock = middleware._reading
        monkeypatch.setattr(middleware, "_reading", Turn())
        assert self.refuse(b"x" * 10).read() == b""
        assert turns == [middleware.TURN]

    def test_that_a_client_did_not_send_changes_no_answer(self) -> None:
        class Gone(BytesIO):
            def read(self, *_: Any) -> bytes:
                raise ConnectionResetError

        environ = RequestFactory().post("/", b"x", content_type="text/plain").META
        request = WSGIRequest(environ | {"wsgi.input": Gone()})
        answer = unread_content_middleware(lambda request: HttpResponse(status=401))(request)
        answer.close()
        assert answer.status_code == 401

    def test_that_django_has_read_is_left_alone(self) -> None:
        request = RequestFactory().post("/", b"{}", content_type="application/json")
        unread_content_middleware(lambda request: HttpResponse(request.body))(request).close()
        assert request.body == b"{}"

    def test_is_none_over_asgi(self) -> None:
        request = AsyncRequestFactory().post("/", b"{}", content_type="application/json")
        unread_content_middleware(lambda request: HttpResponse())(request).close()
        assert request.body == b"{}"


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


class TestCrossOrigin:
    """What every origin may read is told to all alike, so that a shared cache keeps one answer."""

    def ask(
        self, origin: str | None = None, method: str = "GET", path: str = "/", **given: Any
    ) -> HttpResponse:
        fields = {} if origin is None else {"Origin": origin}
        settings = {"CORS_ALLOW_ALL_ORIGINS": True, "CORS_URLS_REGEX": ""} | given
        with override_settings(**settings):
            middleware = cross_origin_middleware(lambda _: HttpResponse(headers={"Vary": "Accept-Encoding"}))
            return middleware(RequestFactory().generic(method, path, headers=fields))

    @pytest.mark.parametrize("origin", [None, "https://reader.example", "null"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
    def test_all_are_told_the_same_and_nothing_varies_by_the_origin(self, origin: str, method: str) -> None:
        response = self.ask(origin, method, CORS_EXPOSE_HEADERS=["ETag", "Link"])
        assert response["Access-Control-Allow-Origin"] == "*"
        assert response["Access-Control-Expose-Headers"] == "ETag, Link"
        assert response["Vary"] == "Accept-Encoding"

    @pytest.mark.parametrize("origin", [None, "https://reader.example", "https://other.example", "null"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
    def test_where_one_may_read_all_are_told_which_one_and_nothing_varies_by_the_origin(
        self, origin: str, method: str
    ) -> None:
        """Fetch section 3.2.5: a static origin is sent with every answer, and without Vary."""
        only = {"CORS_ALLOW_ALL_ORIGINS": False, "CORS_ALLOWED_ORIGINS": ["https://reader.example"]}
        response = self.ask(origin, method, CORS_EXPOSE_HEADERS=["ETag"], **only)
        assert response["Access-Control-Allow-Origin"] == "https://reader.example"
        assert response["Access-Control-Expose-Headers"] == "ETag"
        assert response["Vary"] == "Accept-Encoding"

    def test_nothing_is_exposed_where_nothing_is_said_to_be(self) -> None:
        assert not self.ask(CORS_EXPOSE_HEADERS=[]).has_header("Access-Control-Expose-Headers")

    def test_a_preflight_is_answered(self) -> None:
        """Fetch section 4.8; without asking the view."""
        with override_settings(
            CORS_URLS_REGEX="", CORS_ALLOW_ALL_ORIGINS=True, CORS_ALLOW_METHODS=["GET", "PATCH"]
        ):
            asked = RequestFactory().options(
                "/", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "PATCH"}
            )
            response = cross_origin_middleware(pytest.fail)(asked)
        assert response["Access-Control-Allow-Methods"] == "GET, PATCH"

    @pytest.mark.parametrize("method", ["GET", "OPTIONS"])
    def test_other_paths_are_left_alone(self, method: str) -> None:
        response = self.ask("https://reader.example", method, "/admin/", CORS_URLS_REGEX="^/api/")
        assert not response.has_header("Access-Control-Allow-Origin")

    @pytest.mark.parametrize(
        "given",
        [
            *({"CORS_ALLOW_ALL_ORIGINS": False}, {"CORS_ALLOW_CREDENTIALS": True}),
            {"CORS_ALLOW_PRIVATE_NETWORK": True},
            {
                "CORS_ALLOW_ALL_ORIGINS": False,
                "CORS_ALLOWED_ORIGINS": ["https://a.example", "https://b.example"],
            },
            {
                "CORS_ALLOW_ALL_ORIGINS": False,
                "CORS_ALLOWED_ORIGINS": ["https://a.example"],
                "CORS_ALLOWED_ORIGIN_REGEXES": [r"https://.*\.b\.example"],
            },
            {
                "CORS_ALLOW_ALL_ORIGINS": False,
                "CORS_ALLOWED_ORIGINS": ["https://a.example"],
                "CORS_ALLOW_CREDENTIALS": True,
            },
        ],
        ids=["none", "with cookies", "from public networks", "two", "one and a pattern", "one with cookies"],
    )
    def test_where_some_origins_are_told_apart_the_answer_says_so(self, given: dict[str, Any]) -> None:
        assert "origin" in self.ask("https://reader.example", **given)["Vary"]

    @pytest.mark.parametrize(
        ("older", "told"),
        [
            ({"CORS_ORIGIN_ALLOW_ALL": True}, "*"),
            ({"CORS_ORIGIN_REGEX_WHITELIST": [r"https://.*\.b\.example"]}, "https://x.b.example"),
        ],
    )
    def test_the_one_is_not_the_only_one_where_older_settings_allow_others(
        self, settings: Any, older: dict[str, Any], told: str
    ) -> None:
        """django-cors-headers takes the older names of its settings where the newer are not set."""
        del settings.CORS_ALLOW_ALL_ORIGINS
        with override_settings(CORS_URLS_REGEX="", CORS_ALLOWED_ORIGINS=["https://a.example"], **older):
            asked = RequestFactory().get("/", headers={"Origin": "https://x.b.example"})
            response = cross_origin_middleware(lambda _: HttpResponse())(asked)
        assert response["Access-Control-Allow-Origin"] == told

    def test_receivers_of_the_signal_may_allow_others_beside_the_one(self) -> None:
        def receive(**_: Any) -> bool:
            return True

        only = {"CORS_ALLOW_ALL_ORIGINS": False, "CORS_ALLOWED_ORIGINS": ["https://a.example"]}
        check_request_enabled.connect(receive)
        try:
            response = self.ask("https://b.example", **only)
        finally:
            check_request_enabled.disconnect(receive)
        assert response["Access-Control-Allow-Origin"] == "https://b.example"
        assert "origin" in response["Vary"]

    def test_receivers_of_the_signal_are_asked(self) -> None:
        def receive(**_: Any) -> bool:
            return True

        check_request_enabled.connect(receive)
        try:
            response = self.ask("https://reader.example", path="/other/", CORS_URLS_REGEX="^/api/")
        finally:
            check_request_enabled.disconnect(receive)
        assert response["Access-Control-Allow-Origin"] == "*"


class TestCookiesOfAnswersForAll:
    @staticmethod
    def cookies(**fields: str) -> tuple[list[str], str]:
        def answer(_: Any) -> HttpResponse:
            response = HttpResponse(headers={"Vary": "Cookie, Accept", **fields})
            response.set_cookie("a", "1")
            return response

        found = cookieless_middleware(answer)(RequestFactory().get("/"))
        return [*found.cookies, *(["field"] if found.has_header("Set-Cookie") else [])], found["Vary"]

    @pytest.mark.parametrize("value", ["public", "max-age=600", "s-maxage=5, must-revalidate"])
    def test_are_taken_off_however_it_is_said_that_all_may_store_it(self, value: str) -> None:
        assert self.cookies(**{"Cache-Control": value, "Set-Cookie": "b=2"}) == ([], "Accept")

    @pytest.mark.parametrize(
        "value", ["private, max-age=600", "no-store, max-age=0", "no-store", "no-cache", ""]
    )
    def test_are_left_on_what_nobody_was_told_to_store(self, value: str) -> None:
        given = {"Cache-Control": value} if value else {}
        assert self.cookies(**given, **{"Set-Cookie": "b=2"}) == (["a", "field"], "Cookie, Accept")

    @pytest.mark.parametrize("kind", ["cookies", "field"])
    def test_are_taken_off_in_whichever_way_they_were_set(self, kind: str) -> None:
        answer = HttpResponse(headers={"Cache-Control": "public", "Vary": "Cookie"})
        if kind == "cookies":
            answer.set_cookie("a", "1")
        else:
            answer["Set-Cookie"] = "a=1"
        found = cookieless_middleware(lambda _: answer)(RequestFactory().get("/"))
        assert not found.cookies
        assert not {"Set-Cookie", "Vary"} & set(found.headers)

    def test_that_were_not_set_are_still_what_an_answer_may_vary_by(self) -> None:
        answer = HttpResponse(headers={"Cache-Control": "max-age=600", "Vary": "Cookie"})
        assert cookieless_middleware(lambda _: answer)(RequestFactory().get("/"))["Vary"] == "Cookie"
