"""What a browser may do with an answer of this server, by the kind of the answer."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from PIL import Image
from pytest_django import Settings

from catalog.capture import storage
from catalog.models import Gallery, Screenshot
from gallery_api.content_security import DATA, PAGE, PICTURE, middleware

pytestmark = pytest.mark.django_db

FIELD = "Content-Security-Policy"
DIRECTIVES = {name: set(values) for name, *values in (each.split() for each in PAGE.split("; "))}


class TestPages:
    @pytest.mark.parametrize("target", ["/admin/login/", "/api/v1/docs/", "/api/v1/tags/?format=api"])
    def test_load_what_this_server_has_and_nothing_else(self, client: Client, target: str) -> None:
        response = client.get(target)
        assert (response.status_code, response[FIELD]) == (200, PAGE)

    def test_run_no_script_that_is_in_them(self) -> None:
        """CSP level 3, section 6.7.3: an injected one would be."""
        assert DIRECTIVES["default-src"] == {"'none'"}
        assert DIRECTIVES["script-src"] == {"'self'"}
        assert "'unsafe-inline'" not in DIRECTIVES["style-src"]

    def test_send_forms_and_requests_to_this_server_alone(self) -> None:
        assert DIRECTIVES["form-action"] == DIRECTIVES["connect-src"] == {"'self'"}
        assert DIRECTIVES["base-uri"] == DIRECTIVES["frame-ancestors"] == {"'none'"}

    def test_are_the_refusals_of_forged_forms_too(self) -> None:
        response = Client(enforce_csrf_checks=True).post("/admin/login/")
        assert (response.status_code, response[FIELD]) == (403, PAGE)

    @pytest.mark.parametrize("code", [400, 404, 500])
    def test_of_the_debug_mode_have_scripts_and_so_no_policy(self, settings: Settings, code: int) -> None:
        settings.DEBUG = True
        answer = middleware(lambda _: HttpResponse("<script>1</script>", status=code))
        assert not answer(RequestFactory().get("/")).has_header(FIELD)


class TestWhatIsNoPage:
    @pytest.mark.parametrize(
        ("target", "status"),
        [
            *(
                ("/api/v1/", 200),
                ("/api/v1/tags/", 200),
                ("/api/v1/tags", 308),
                ("/static/admin/css/base.css", 200),
            ),
            *(
                ("/nothing/", 404),
                ("/api/v1/nothing/", 404),
                ("/api/v1/tags/?x=1", 400),
                ("/files/x.webp", 404),
            ),
            *(("//", 404), ("/admin/", 302)),
        ],
    )
    def test_loads_nothing(self, client: Client, target: str, status: int) -> None:
        response = client.get(target)
        assert (response.status_code, response[FIELD]) == (status, DATA)

    def test_loads_nothing_where_the_host_is_refused(self, client: Client) -> None:
        response = client.get("/api/v1/", headers={"Host": "evil.example"})
        assert (response.status_code, response[FIELD]) == (400, DATA)

    def test_loads_nothing_as_a_preflight(self, client: Client) -> None:
        asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "PATCH"}
        response = client.options("/api/v1/tags/", headers=asked)
        assert (response.content, response[FIELD]) == (b"", DATA)

    def test_is_the_same_where_it_is_a_failure(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> Any:
            raise RuntimeError

        monkeypatch.setattr("catalog.files._answer", fail)
        client.raise_request_exception = False
        response = client.get("/files/x.webp")
        assert (response.status_code, response[FIELD]) == (500, DATA)


class TestNotModified:
    def test_of_the_api_has_the_policy_of_the_200(self, client: Client) -> None:
        for _ in range(2):  # a miss, and a hit
            response = client.get("/api/v1/tags/", headers={"If-None-Match": "*"})
            assert (response.status_code, response[FIELD]) == (304, DATA)

    def test_of_a_stylesheet_leaves_the_stored_one_its_own(self, client: Client) -> None:
        sent = client.get("/static/admin/css/base.css")
        again = client.get("/static/admin/css/base.css", headers={"If-Modified-Since": sent["Last-Modified"]})
        assert again.status_code == 304
        assert not again.has_header(FIELD)


def test_a_picture_may_have_the_styles_of_the_page_that_a_browser_shows_it_on(client: Client) -> None:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "webp")
    sha256 = storage.store(data.getvalue(), "webp")
    shot = Screenshot.objects.create(
        gallery=Gallery.objects.create(slug="a", title="A"), title="One", source_url="https://one.example/"
    )
    shot.renditions.create(width=4, height=4, format="webp", bytes=len(data.getvalue()), sha256=sha256)
    response = client.get(storage.url(sha256, "webp"))
    assert (response["Content-Type"], response[FIELD]) == ("image/webp", PICTURE)
    assert f"{DATA}; " in PICTURE
    response.close()


def test_no_request_is_looked_at() -> None:
    """So the Host is checked before anything else is, although this comes first."""
    request = object()
    seen: list[object] = []

    def answer(given: Any) -> HttpResponse:
        seen.append(given)
        return HttpResponse()

    middleware(answer)(request)  # type: ignore[arg-type]  # has nothing that could be looked at
    assert seen == [request]


def test_a_view_may_have_a_policy_of_its_own() -> None:
    answer = middleware(lambda _: HttpResponse("x", headers={FIELD: "sandbox"}))
    assert answer(RequestFactory().get("/"))[FIELD] == "sandbox"
