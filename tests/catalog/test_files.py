"""How pictures are sent: to whom, for how long, and which part; and where their bytes lie."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from http import HTTPStatus
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import AsyncClient, Client, RequestFactory
from rest_framework.authtoken.models import Token

from catalog import files
from catalog.accounts import keys
from catalog.capture import storage
from catalog.models import Gallery, Rendition, Screenshot
from keybits import surrogates

pytestmark = pytest.mark.django_db

CHECKOUT = Path(__file__).resolve().parents[2]
DATA = bytes(range(256)) * 1000
SIZE = len(DATA)
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = f"/files/{SHA256}.webp"
ETAG = f'"{SHA256}"'
PUBLIC = "public, max-age=31536000, immutable"


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> Path:
    """Point the default storage at an empty folder."""
    folder = tmp_path / "media"
    options = {"location": str(folder), "base_url": "/files/"}
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    return folder


FULL_DISK = """
import resource
from catalog.capture import storage
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
try:
    storage.store_original(b"x" * 100_000)
except OSError as error:
    print("refused", error.strerror)
"""


def test_what_a_disk_has_no_room_for_leaves_nothing_on_it(tmp_path: Path) -> None:
    media = tmp_path / "full"
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", FULL_DISK]
    environment = {**os.environ, "MEDIA_ROOT": str(media)}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == "refused File too large\n"
    assert [path for path in media.rglob("*") if path.is_file()] == []


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("owner")


def add(visibility: str = "public", owner: User | None = None, data: bytes = DATA) -> Gallery:
    """Store the picture, or another one, and show it in a gallery."""
    gallery = Gallery.objects.create(
        slug=f"g{Gallery.objects.count()}", title="G", visibility=visibility, owner=owner
    )
    shot = Screenshot.objects.create(
        gallery=gallery, title="S", source_url="https://a.example/", state="ready"
    )
    rendition = {"width": 320, "height": 200, "format": "webp", "bytes": len(data)}
    Rendition.objects.create(screenshot=shot, sha256=storage.store(data, "webp"), **rendition)
    return gallery


def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list of the files that are opened from now on."""
    given: list[Any] = []
    open_file = storage.open

    def remember(*address: str) -> Any:
        given.append(open_file(*address))
        return given[-1]

    monkeypatch.setattr(storage, "open", remember)
    return given


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


class TestStorage:
    def test_the_name_is_made_of_the_bytes(self, media: Path) -> None:
        assert storage.store(DATA, "webp") == SHA256
        assert (media / SHA256[:2] / f"{SHA256}.webp").read_bytes() == DATA

    def test_jpeg_has_its_short_ending(self, media: Path) -> None:
        storage.store(DATA, "jpeg")

        assert (media / SHA256[:2] / f"{SHA256}.jpg").exists()

    def test_what_is_kept_is_not_written_again(self, media: Path) -> None:
        storage.store(DATA, "webp")
        before = (media / SHA256[:2] / f"{SHA256}.webp").stat().st_ino
        storage.store(DATA, "webp")

        assert (media / SHA256[:2] / f"{SHA256}.webp").stat().st_ino == before

    @pytest.mark.parametrize("backend", ["FileSystemStorage", "InMemoryStorage"])
    def test_what_has_been_cut_short_is_written_again(self, settings: Any, backend: str) -> None:
        default = {**settings.STORAGES["default"], "BACKEND": f"django.core.files.storage.{backend}"}
        settings.STORAGES = {**settings.STORAGES, "default": default}
        default_storage.save(storage.name(SHA256, "webp"), ContentFile(DATA[:100]))
        assert not storage.exists(SHA256, "webp", SIZE)
        storage.store(DATA, "webp")

        assert storage.exists(SHA256, "webp", SIZE)
        with storage.open(SHA256, "webp") as file:
            assert file.read() == DATA

    def test_a_write_that_fails_leaves_nothing(self, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            storage.store(DATA, "webp")

        assert [path for path in media.rglob("*") if path.is_file()] == []
        assert not storage.exists(SHA256, "webp", SIZE)

    def test_whatever_is_written_gets_its_name_only_when_whole(
        self, media: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[bytes] = []
        rename = os.replace

        def look(source: str, target: str) -> None:
            assert not Path(target).exists()
            seen.append(Path(source).read_bytes())
            rename(source, target)

        monkeypatch.setattr(os, "replace", look)
        storage.store(DATA, "webp")

        assert seen == [DATA]

    def test_an_original_is_kept_as_it_came_and_no_address_leads_to_it(self, client: Client) -> None:
        assert storage.store_original(DATA) == SHA256
        assert storage.original(SHA256) == DATA
        assert not storage.exists(SHA256, "webp", SIZE)
        assert client.get(f"/files/originals/{SHA256[:2]}/{SHA256}").status_code == HTTPStatus.NOT_FOUND

    def test_a_storage_without_paths_is_written_to_at_once(self, settings: Any) -> None:
        memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        settings.STORAGES = {**settings.STORAGES, "default": memory}
        storage.store(DATA, "webp")

        assert default_storage.listdir(SHA256[:2]) == ([], [f"{SHA256}.webp"])
        assert storage.open(SHA256, "webp").read() == DATA

    def test_an_address_names_no_host_and_can_be_read_back(self) -> None:
        assert storage.url(SHA256, "jpeg") == f"/files/{SHA256}.jpg"
        assert storage.parse(f"{SHA256}.jpg") == (SHA256, "jpeg")

    @pytest.mark.parametrize(
        "name",
        ["", "x.webp", f"{SHA256}.png", f"{SHA256.upper()}.webp", f"{SHA256}.webp\n", f"../{SHA256}.webp"],
    )
    def test_other_names_are_no_address(self, name: str) -> None:
        assert storage.parse(name) is None


class TestPruning:
    """What no row names goes, a day after it was stored."""

    @staticmethod
    def kept(media: Path) -> set[str]:
        return {str(path.relative_to(media)) for path in media.rglob("*") if path.is_file()}

    @staticmethod
    def age(media: Path) -> None:
        """Put all files back to a time when nobody stored any."""
        for path in media.rglob("*"):
            os.utime(path, (1, 1))

    def test_what_rows_name_stays_and_all_else_of_ours_goes(
        self, media: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add()
        named = storage.store_original(DATA)
        Screenshot.objects.update(sha256=named)
        stays = {*self.kept(media), "note.txt", "ab/note.txt"}
        storage.store(DATA, "jpeg")  # the same digest in a format that no row has
        lost = storage.store_original(b"x")
        storage.store(b"x", "webp")
        left = (storage.name(SHA256, "webp"), storage.name_of_original(lost))
        for name in (*stays, *(f"{name}.{'0' * 32}.part" for name in left)):
            if not default_storage.exists(name):
                default_storage.save(name, ContentFile(b"y"))
        self.age(media)
        call_command("prune_files")

        assert self.kept(media) == stays
        assert capsys.readouterr().out == "5 files removed.\n"

    def test_what_is_of_today_stays(self, media: Path) -> None:
        storage.store(DATA, "webp")
        call_command("prune_files")

        assert self.kept(media) == {storage.name(SHA256, "webp")}

    def test_what_is_stored_again_counts_as_new(self, media: Path) -> None:
        storage.store(DATA, "webp")
        self.age(media)
        storage.store(DATA, "webp")
        call_command("prune_files")

        assert self.kept(media) == {storage.name(SHA256, "webp")}

    @staticmethod
    def as_a_file_is_set_aside(
        monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Callable[[], None]], None]
    ) -> None:
        """Call `meanwhile` in place of the next rename, once, with what renames."""
        rename = os.replace

        def replace(*names: str) -> None:
            monkeypatch.undo()
            meanwhile(lambda: rename(*names))

        monkeypatch.setattr(os, "replace", replace)

    @pytest.mark.parametrize("moment", [0, 1], ids=["before it is set aside", "after it was"])
    def test_what_is_stored_again_at_that_very_moment_stays(
        self, media: Path, monkeypatch: pytest.MonkeyPatch, moment: int
    ) -> None:
        storage.store(DATA, "webp")
        self.age(media)

        def meanwhile(set_aside: Callable[[], None]) -> None:
            steps = [lambda: storage.store(DATA, "webp"), set_aside]
            for step in (steps, reversed(steps))[moment]:
                step()

        self.as_a_file_is_set_aside(monkeypatch, meanwhile)
        call_command("prune_files")

        assert self.kept(media) == {storage.name(SHA256, "webp")}
        assert storage.exists(SHA256, "webp", SIZE)

    def test_what_another_has_removed_meanwhile_is_not_missed(
        self, media: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.store(DATA, "webp")
        self.age(media)

        def meanwhile(set_aside: Callable[[], None]) -> None:
            call_command("prune_files")
            set_aside()

        self.as_a_file_is_set_aside(monkeypatch, meanwhile)
        call_command("prune_files")

        assert self.kept(media) == set()

    def test_nothing_stored_is_nothing_removed(self, capsys: pytest.CaptureFixture[str]) -> None:
        call_command("prune_files")

        assert capsys.readouterr().out == "0 files removed.\n"

    def test_of_what_lies_in_no_folder_nothing_is_removed(self, settings: Any) -> None:
        memory = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        settings.STORAGES = {**settings.STORAGES, "default": memory}
        storage.store(DATA, "webp")
        with pytest.raises(CommandError, match="not stored in a folder"):
            call_command("prune_files")

        assert storage.exists(SHA256, "webp", SIZE)


class TestVisibility:
    @pytest.mark.parametrize("visibility", ["public", "unlisted"])
    def test_what_may_be_reached_is_kept_for_ever_by_everybody(self, client: Client, visibility: str) -> None:
        add(visibility)
        response = client.get(URL)

        assert response.status_code == HTTPStatus.OK
        assert response["Cache-Control"] == PUBLIC
        assert "Cookie" not in response.get("Vary", "")
        assert body(response) == DATA

    def test_a_public_file_costs_one_query(self, client: Client, django_assert_num_queries: Any) -> None:
        add()
        with django_assert_num_queries(1):
            client.get(URL)

    def test_a_public_file_costs_its_owner_no_more(
        self, client: Client, owner: User, django_assert_num_queries: Any
    ) -> None:
        add(owner=owner)
        client.force_login(owner)
        with django_assert_num_queries(1):
            response = client.get(URL)

        assert "Cookie" not in response.get("Vary", "")

    def test_a_private_file_exists_for_its_owner(self, client: Client, owner: User) -> None:
        add("private", owner)
        client.force_login(owner)
        response = client.get(URL)

        assert response.status_code == HTTPStatus.OK
        assert response["Cache-Control"] == "private, no-store"

    def test_a_private_file_does_not_exist_for_others(self, client: Client, owner: User) -> None:
        add("private", owner)
        client.force_login(User.objects.create_user("other"))

        assert client.get(URL).status_code == HTTPStatus.NOT_FOUND

    def test_a_private_file_is_no_less_so_beside_a_public_one_of_its_length(
        self, client: Client, owner: User
    ) -> None:
        add("private", owner)
        add(data=DATA[::-1])

        assert client.get(URL).status_code == HTTPStatus.NOT_FOUND

    def test_a_private_file_and_no_file_look_the_same_without_a_session(
        self, client: Client, owner: User
    ) -> None:
        before = client.get(URL)
        add("private", owner)
        after = client.get(URL)

        assert before.status_code == after.status_code == HTTPStatus.NOT_FOUND
        assert before.content == after.content
        assert before.headers == after.headers
        assert "Cookie" not in after.get("Vary", "")
        assert "no-store" in after["Cache-Control"]

    def test_a_private_gallery_without_an_owner_is_nobodys(self, client: Client) -> None:
        add("private")

        assert client.get(URL).status_code == HTTPStatus.NOT_FOUND

    def test_a_file_that_is_private_in_one_place_and_public_in_another_is_public(
        self, client: Client, owner: User
    ) -> None:
        add("private", owner)
        add("public")

        assert client.get(URL)["Cache-Control"] == PUBLIC

    def test_bytes_that_no_screenshot_shows_are_not_sent(self, client: Client) -> None:
        storage.store(DATA, "webp")

        assert client.get(URL).status_code == HTTPStatus.NOT_FOUND

    def test_a_rendition_exists_in_its_own_format_only(self, client: Client) -> None:
        add()
        storage.store(DATA, "jpeg")

        assert client.get(f"/files/{SHA256}.jpg").status_code == HTTPStatus.NOT_FOUND

    @pytest.mark.parametrize(
        "left", [None, b"", DATA[:100], DATA + b"x"], ids=["lost", "empty", "cut short", "too long"]
    )
    def test_a_rendition_whose_file_is_lost_or_damaged_is_not_found(
        self, client: Client, left: bytes | None
    ) -> None:
        add()
        default_storage.delete(storage.name(SHA256, "webp"))
        if left is not None:
            default_storage.save(storage.name(SHA256, "webp"), ContentFile(left))
        response = client.get(URL)

        assert response.status_code == HTTPStatus.NOT_FOUND
        assert response["Content-Type"] == "application/problem+json"
        assert "no-store" in response["Cache-Control"]

    def test_a_file_that_is_lost_once_it_was_found_is_not_found(
        self, client: Any, media: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add()
        exists = storage.exists

        def lost(*address: Any) -> bool:
            found = exists(*address)
            (media / SHA256[:2] / f"{SHA256}.webp").unlink()
            return found

        monkeypatch.setattr(storage, "exists", lost)
        response = client.get(URL)
        assert (response.status_code, response["Cache-Control"]) == (
            HTTPStatus.NOT_FOUND,
            "private, no-store",
        )


@pytest.mark.django_db(transaction=True)
class TestReplicas:
    """What nobody can take back is not said by a database that may be behind."""

    def test_who_may_see_a_file_the_primary_says(self, client: Client, settings: Any) -> None:
        add()
        settings.KEYBITS_REPLICAS = ["replica"]  # there is none: to ask it would fail
        settings.DATABASE_ROUTERS = ["keybits.replicas.ReplicaRouter"]
        Gallery.objects.using("default").update(visibility="private")

        assert client.get(URL).status_code == HTTPStatus.NOT_FOUND
        Gallery.objects.using("default").update(visibility="public")
        assert client.get(URL)["Cache-Control"] == PUBLIC

    def test_a_file_that_a_replica_says_is_public_is_kept_by_nobody(
        self, client: Client, settings: Any
    ) -> None:
        add()
        settings.KEYBITS_REPLICAS = [connection.alias]
        response = client.get(URL)

        assert response.status_code == HTTPStatus.OK
        assert response["Cache-Control"] == "private, no-store"
        assert "xkey" not in response


class TestCredentials:
    """A private file is there for who shows the API's credentials, as its address is."""

    @pytest.fixture(autouse=True)
    def _shown(self, owner: User) -> None:
        add("private", owner)

    def ask(self, credentials: str, method: str = "GET", **headers: str) -> Any:
        return Client().generic(method, URL, headers={"Authorization": credentials, **headers})

    def key(self, user: User, *scopes: str) -> str:
        _, secret = keys.issue(user=user, name="test", scopes=scopes)
        return f"Api-Key {secret.reveal()}"

    @pytest.mark.parametrize("scope", ["read", "curate"])
    def test_a_key_of_its_owner_is_sent_it(self, owner: User, scope: str) -> None:
        response = self.ask(self.key(owner, scope), Accept="image/webp")

        assert response.status_code == HTTPStatus.OK
        assert response["Cache-Control"] == "private, no-store"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert body(response) == DATA

    def test_a_token_of_its_owner_is_sent_it(self, owner: User) -> None:
        response = self.ask(f"Token {Token.objects.create(user=owner).key}")

        assert response["Cache-Control"] == "private, no-store"
        assert body(response) == DATA

    def test_head_and_ranges_and_conditions_are_as_of_any(self, owner: User) -> None:
        key = self.key(owner, "read")

        assert self.ask(key, "HEAD")["Content-Length"] == str(SIZE)
        assert body(self.ask(key, Range="bytes=0-9")) == DATA[:10]
        assert self.ask(key, **{"If-None-Match": ETAG}).status_code == HTTPStatus.NOT_MODIFIED
        assert self.ask(key, "POST").status_code == HTTPStatus.METHOD_NOT_ALLOWED

    def test_it_does_not_exist_for_who_may_not_see_it(self, owner: User) -> None:
        none = Client().get(URL)
        other = User.objects.create_user("other")
        for credentials in (self.key(other, "read"), self.key(owner, "capture"), "Basic b3duZXI6"):
            response = self.ask(credentials)
            assert (response.status_code, response.content) == (HTTPStatus.NOT_FOUND, none.content)

    @pytest.mark.parametrize("wrong", ["Api-Key gk_abcdefgh.x", f"Token {'0' * 40}"])
    def test_a_wrong_credential_is_told_so_as_by_the_api(self, wrong: str) -> None:
        api = Client().get("/api/v1/galleries/", headers={"Authorization": wrong})
        response = self.ask(wrong)

        assert response.status_code == HTTPStatus.UNAUTHORIZED
        assert response.content == api.content
        for field in ("Content-Type", "Cache-Control", "WWW-Authenticate"):
            assert response[field] == api[field]

    def test_a_public_file_asks_for_none(self, owner: User, django_assert_num_queries: Any) -> None:
        add("public")
        with django_assert_num_queries(1):
            response = self.ask(f"Token {'0' * 40}")

        assert response["Cache-Control"] == PUBLIC
        assert "Vary" not in response


class TestRepresentation:
    @pytest.fixture(autouse=True)
    def _shown(self) -> None:
        add()

    def test_it_says_what_it_is(self, client: Client) -> None:
        response = client.get(URL)

        assert response["Content-Type"] == "image/webp"
        assert response["Content-Length"] == str(SIZE)
        assert response["ETag"] == ETAG
        assert response["Accept-Ranges"] == "bytes"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "Content-Disposition" not in response

    def test_no_browser_guesses_another_type_whatever_middleware_there_is(self, rf: RequestFactory) -> None:
        response = files.serve(rf.get(URL), f"{SHA256}.webp")

        assert response["X-Content-Type-Options"] == "nosniff"

    def test_it_is_read_in_chunks(self, client: Client) -> None:
        chunks = list(client.get(URL).streaming_content)

        assert max(map(len, chunks)) == files.CHUNK
        assert len(chunks) > 1

    def test_closing_the_response_closes_the_file(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = opened(monkeypatch)
        client.get(URL).close()

        assert [file.closed for file in given] == [True]

    def test_head_has_the_fields_of_get_and_opens_nothing(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        got = client.get(URL)
        monkeypatch.setattr(storage, "open", None)
        head = client.head(URL)

        assert head.status_code == HTTPStatus.OK
        assert head.headers == got.headers
        assert head.content == b""

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
    def test_nothing_but_get_and_head_is_allowed(self, method: str) -> None:
        response = Client(enforce_csrf_checks=True).generic(method, URL)

        assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        assert response["Allow"] == "GET, HEAD"
        assert response["Content-Type"] == "application/problem+json"


class TestAsgi:
    """An event loop is not kept from other work by a file, nor the memory filled with it."""

    @pytest.fixture(autouse=True)
    def _shown(self) -> None:
        add()

    @pytest.mark.parametrize(
        ("field", "part"), [({}, DATA), ({"Range": "bytes=60000-140000"}, DATA[60_000:140_001])]
    )
    def test_it_is_read_in_chunks_there_too(self, client: Client, field: dict[str, str], part: bytes) -> None:
        async def ask() -> tuple[Any, list[bytes]]:
            response = await AsyncClient().get(URL, headers=field)
            return response, [chunk async for chunk in response.streaming_content]

        response, chunks = async_to_sync(ask)()

        assert response.is_async
        assert b"".join(chunks) == part
        assert max(map(len, chunks)) == files.CHUNK
        assert response.headers == client.get(URL, headers=field).headers

    def test_closing_the_response_closes_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = opened(monkeypatch)
        async_to_sync(AsyncClient().get)(URL).close()

        assert [file.closed for file in given] == [True]


class TestPreconditions:
    """RFC 9110 section 13."""

    @pytest.fixture(autouse=True)
    def _shown(self) -> None:
        add()

    @pytest.mark.parametrize("field", [ETAG, f"W/{ETAG}", f'"a", {ETAG}', "*"])
    @pytest.mark.parametrize("method", ["get", "head"])
    def test_what_the_client_holds_is_not_sent_again(self, client: Client, method: str, field: str) -> None:
        response = getattr(client, method)(URL, headers={"If-None-Match": field})

        assert response.status_code == HTTPStatus.NOT_MODIFIED
        assert response.content == b""
        assert response["ETag"] == ETAG
        assert response["Cache-Control"] == PUBLIC
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "Content-Type" not in response

    @pytest.mark.parametrize("field", ['"other"', SHA256, ""])
    def test_another_tag_gets_the_bytes(self, client: Client, field: str) -> None:
        assert client.get(URL, headers={"If-None-Match": field}).status_code == HTTPStatus.OK

    def test_a_precondition_that_fails_is_said_so(self, client: Client) -> None:
        response = client.get(URL, headers={"If-Match": '"other"'})

        assert response.status_code == HTTPStatus.PRECONDITION_FAILED
        assert response.json()["type"] == "urn:problem:precondition-failed"  # as of the API
        assert response["Content-Type"] == "application/problem+json"
        assert "no-store" in response["Cache-Control"]

    def test_not_modified_goes_before_a_range(self, client: Client) -> None:
        response = client.get(URL, headers={"If-None-Match": ETAG, "Range": "bytes=0-1"})

        assert response.status_code == HTTPStatus.NOT_MODIFIED


class TestRanges:
    """RFC 9110 section 14."""

    @pytest.fixture(autouse=True)
    def _shown(self) -> None:
        add()

    @pytest.mark.parametrize(
        ("field", "first", "last"),
        [
            ("bytes=0-0", 0, 0),
            ("bytes=10-19", 10, 19),
            ("Bytes=10-19", 10, 19),
            ("bytes=100-", 100, SIZE - 1),
            (f"bytes=5-{SIZE * 10}", 5, SIZE - 1),
            (f"bytes=5-{'9' * 50}", 5, SIZE - 1),
            ("bytes=-7", SIZE - 7, SIZE - 1),
            (f"bytes=-{SIZE * 10}", 0, SIZE - 1),
            (f"bytes=0-{SIZE - 1}", 0, SIZE - 1),
            ("bytes=60000-140000", 60_000, 140_000),
        ],
    )
    def test_one_range_is_sent_alone(self, client: Client, field: str, first: int, last: int) -> None:
        response = client.get(URL, headers={"Range": field})

        assert response.status_code == HTTPStatus.PARTIAL_CONTENT
        assert response["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
        assert response["Content-Length"] == str(last - first + 1)
        assert response["ETag"] == ETAG
        assert response["Cache-Control"] == PUBLIC
        assert response["Content-Type"] == "image/webp"
        assert body(response) == DATA[first : last + 1]

    @pytest.mark.parametrize(
        "field", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 1}", "bytes=-0", f"bytes={'9' * 50}-"]
    )
    def test_a_range_without_a_byte_is_refused(self, client: Client, field: str) -> None:
        response = client.get(URL, headers={"Range": field})

        assert response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        assert response["Content-Range"] == f"bytes */{SIZE}"
        assert response["Content-Type"] == "application/problem+json"

    @pytest.mark.parametrize(
        "field",
        [
            "bytes=0-1,5-6",
            "bytes=5-4",
            "bytes=-",
            "bytes=",
            "bytes=a-b",
            "bytes=--1",
            "bytes 0-1",
            "lines=0-1",
            "bytes=\u0661-\u0662",
            f"bytes=0-{'9' * 5000}",
            f"bytes={'9' * 5000}-",
            "",
        ],
    )
    def test_what_is_not_one_range_of_bytes_gets_everything(self, client: Client, field: str) -> None:
        response = client.get(URL, headers={"Range": field})

        assert response.status_code == HTTPStatus.OK
        assert "Content-Range" not in response
        assert body(response) == DATA

    def test_head_ignores_ranges(self, client: Client) -> None:
        response = client.head(URL, headers={"Range": "bytes=0-1"})

        assert response.status_code == HTTPStatus.OK
        assert response["Content-Length"] == str(SIZE)

    @pytest.mark.parametrize(
        ("field", "status"),
        [
            (ETAG, HTTPStatus.PARTIAL_CONTENT),
            (f"W/{ETAG}", HTTPStatus.OK),
            ('"other"', HTTPStatus.OK),
            ("Sun, 06 Nov 1994 08:49:37 GMT", HTTPStatus.OK),
        ],
    )
    def test_if_range_holds_only_for_the_very_same_bytes(
        self, client: Client, field: str, status: int
    ) -> None:
        response = client.get(URL, headers={"Range": "bytes=0-1", "If-Range": field})

        assert response.status_code == status

    @pytest.mark.parametrize("field", ["range", "if-range"])
    def test_scripts_of_other_origins_may_ask_for_one(self, client: Client, field: str) -> None:
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": field}
        response = client.options(URL, headers={"Origin": "https://frontend.example"} | asked)
        assert field in response["Access-Control-Allow-Headers"].split(", ")

    def test_scripts_of_other_origins_may_read_which_it_is(self, client: Client) -> None:
        response = client.get(URL, headers={"Origin": "https://frontend.example", "Range": "bytes=0-1"})
        told = response["Access-Control-Expose-Headers"].split(", ")
        assert {"Content-Range", "Accept-Ranges", "ETag"} <= set(told)

    def test_an_empty_file_has_no_range(self) -> None:
        for field in ("bytes=0-", "bytes=-1"):
            with pytest.raises(files.RangeError):
                files.read_range(field, 0)


class TestTakedowns:
    """A name lasts for ever, what it may be shown to does not: the caches in front are told when it ends."""

    @pytest.fixture(autouse=True)
    def _purged(self, settings: Any) -> None:
        backend = "keybits.purge.varnish.XkeyPurger"
        settings.KEYBITS_PURGERS = {"edge": {"BACKEND": backend, "servers": ["http://192.0.2.1"]}}

    @staticmethod
    def keys(response: Any) -> set[str]:
        return set(response["xkey"].split())

    @staticmethod
    def purged_by(write: Callable[[], object]) -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM keybits_change")
            write()
            cursor.execute("SELECT scope FROM keybits_change WHERE scope LIKE 'takedown:%%'")
            scopes = [scope for (scope,) in cursor.fetchall()]
        return set(surrogates.purged(scopes)) if scopes else set()

    @pytest.mark.parametrize("visibility", ["public", "unlisted"])
    @pytest.mark.parametrize(
        "write",
        [
            lambda gallery: Gallery.objects.filter(pk=gallery.pk).update(visibility="private"),
            lambda gallery: gallery.delete(),
            lambda gallery: gallery.screenshots.get().delete(),
            lambda gallery: gallery.screenshots.update(gallery=Gallery.objects.create(slug="z", title="Z")),
            lambda gallery: Rendition.objects.all().delete(),
            lambda gallery: Rendition.objects.update(sha256="0" * 64),
            lambda gallery: Rendition.objects.update(format="jpeg"),
        ],
        ids=["hidden", "gallery deleted", "deleted", "moved", "rendition deleted", "replaced", "recoded"],
    )
    def test_whatever_ends_it_purges_the_file(
        self, client: Client, visibility: str, write: Callable[[Gallery], object]
    ) -> None:
        gallery = add(visibility)
        tagged = self.keys(client.get(URL))

        assert tagged & self.purged_by(lambda: write(gallery))

    def test_what_goes_elsewhere_does_not(self, client: Client) -> None:
        add()
        tagged = self.keys(client.get(URL))
        other = Gallery.objects.create(slug="other", title="Other")
        shot = Screenshot.objects.create(gallery=other, title="S", source_url="https://a.example/")

        assert not tagged & self.purged_by(shot.delete)
        assert not tagged & self.purged_by(other.delete)

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_of_several_places_the_last_one_to_go_takes_it_down(
        self, client: Client, order: tuple[int, ...]
    ) -> None:
        """Whatever order they go in: a copy that no purge has reached is of a file that is still shown."""
        places = [add() for _ in range(3)]
        held = self.keys(client.get(URL))
        for place in order:
            purged = bool(held & self.purged_by(places[place].delete))
            response = client.get(URL)
            assert purged or response.status_code == HTTPStatus.OK
            held = self.keys(response) if "xkey" in response else set()
        assert held == set()

    def test_a_place_that_is_hidden_is_not_one(self, client: Client) -> None:
        hidden = add("private")
        add("public")

        assert not self.keys(client.get(URL)) & self.purged_by(hidden.delete)

    def test_what_is_shown_in_many_places_costs_no_more_keys_and_no_more_queries(
        self, client: Client, django_assert_num_queries: Any
    ) -> None:
        add()
        one = client.get(URL)
        for _ in range(5):
            add()
        with django_assert_num_queries(1):
            several = client.get(URL)

        assert len(self.keys(several)) == len(self.keys(one))

    @pytest.mark.parametrize(
        "field", [{}, {"Range": "bytes=0-1"}, {"If-None-Match": ETAG}], ids=["200", "206", "304"]
    )
    @pytest.mark.parametrize("method", ["get", "head"])
    def test_every_answer_that_can_be_stored_has_the_keys(
        self, client: Client, method: str, field: dict[str, str]
    ) -> None:
        add()
        whole = client.get(URL)
        response = getattr(client, method)(URL, headers=field)

        assert response["xkey"] == whole["xkey"]
        assert response["Cache-Control"] == PUBLIC

    @pytest.mark.parametrize(
        ("field", "status"),
        [({"If-Match": '"other"'}, 412), ({"Range": f"bytes={SIZE}-"}, 416)],
    )
    def test_an_error_has_none(self, client: Client, field: dict[str, str], status: int) -> None:
        add()
        response = client.get(URL, headers=field)

        assert response.status_code == status
        assert "xkey" not in response

    def test_a_private_file_has_none(self, client: Client, owner: User) -> None:
        add("private", owner)
        client.force_login(owner)

        assert "xkey" not in client.get(URL)
