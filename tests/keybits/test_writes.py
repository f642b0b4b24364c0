"""Writes of any viewset on condition of If-Match: what a project has to say, and what it gets."""

# ruff: noqa: DJ008 - nobody prints these models

from __future__ import annotations

import json
import sqlite3
from base64 import b64encode
from collections.abc import Iterator, Set
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import IntegrityError, OperationalError, connection, connections, models, transaction
from django.db.models.functions import Length
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from django.test.utils import isolate_apps
from django.urls import include, path
from rest_framework import serializers, viewsets
from rest_framework.authentication import BaseAuthentication, BasicAuthentication
from rest_framework.generics import RetrieveUpdateDestroyAPIView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import FileUploadParser, MultiPartParser
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.routers import SimpleRouter
from second_database import second_database
from stacks.threads import aside

from catalog.models import Tag
from keybits.bits import UpdatedAtKeyBit
from keybits.constructors import DefaultListKeyConstructor, DefaultObjectKeyConstructor
from keybits.drf import CacheResponseAndETAGMixin, ClosedMembersMixin, CreateETAGMixin
from keybits.drf.attempts import BusyError, atomically
from keybits.models import IdempotencyKey
from keybits.stores import StoreError, get_store

pytestmark = pytest.mark.django_db(transaction=True)


class TagListKey(DefaultListKeyConstructor):
    updated_at = UpdatedAtKeyBit("tags")


class TagObjectKey(DefaultObjectKeyConstructor):
    updated_at = UpdatedAtKeyBit("tag:{slug}")


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["slug", "name", "kind"]


class ClosedTagSerializer(ClosedMembersMixin, TagSerializer):
    pass


class TagViewSet(CacheResponseAndETAGMixin, CreateETAGMixin, viewsets.ReadOnlyModelViewSet[Tag]):
    """No more than what the documentation of the mixin asks for."""

    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    lookup_field = "slug"
    pagination_class = None
    filter_backends = []
    authentication_classes = []
    list_cache_key_func = TagListKey()
    object_cache_key_func = TagObjectKey()


class ClosedViewSet(TagViewSet):
    write_serializer_class = ClosedTagSerializer


class NameSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["name"]


class CountedSerializer(TagSerializer):
    length = serializers.IntegerField(read_only=True)

    class Meta(TagSerializer.Meta):
        fields = [*TagSerializer.Meta.fields, "length"]


class ByActionViewSet(TagViewSet):
    """As REST framework's documentation has it: what is read, and by what, is the action's to say."""

    def get_queryset(self) -> Any:
        shown = Tag.objects.exclude(name="Hidden")
        return shown.annotate(length=Length("name")) if self.action == "retrieve" else shown

    def get_serializer_class(self) -> Any:
        return {"retrieve": CountedSerializer, "create": TagSerializer}.get(self.action, NameSerializer)


class ByMethodViewSet(TagViewSet):
    def get_serializer_class(self) -> Any:
        return CountedSerializer if self.request.method in {"GET", "HEAD"} else NameSerializer

    def get_queryset(self) -> Any:
        return (
            Tag.objects.annotate(length=Length("name")) if self.request.method == "GET" else Tag.objects.all()
        )


class RemovingViewSet(TagViewSet):
    def perform_destroy(self, instance: Any) -> Any:
        return instance.delete()


class SigningViewSet(viewsets.ModelViewSet[Tag]):
    """What all views of a project inherit from: its writes are signed, and what it deletes is only renamed."""

    def perform_create(self, serializer: Any) -> None:
        serializer.save(name="made by us")

    def perform_update(self, serializer: Any) -> None:
        serializer.save(name="changed by us")

    def perform_destroy(self, instance: Any) -> None:
        Tag.objects.filter(pk=instance.pk).update(name="deleted by us")


class SignedViewSet(CacheResponseAndETAGMixin, CreateETAGMixin, SigningViewSet):
    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    lookup_field = "slug"
    authentication_classes = []


class AnyTextViewSet(TagViewSet):
    lookup_field = "name"


class EnvelopeRenderer(JSONRenderer):
    """As many projects have it: it asks for the response that it renders, and returns text."""

    media_type = "application/vnd.example+json"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> Any:
        status = renderer_context["response"].status_code
        return json.dumps({"ok": status < 400, "of": renderer_context["view"].lookup_field, "data": data})


class RenderedViewSet(TagViewSet):
    renderer_classes = [JSONRenderer, EnvelopeRenderer, BrowsableAPIRenderer]
    content_negotiation_class = DefaultContentNegotiation


class UploadingViewSet(TagViewSet):
    """Takes the name of a tag, and a file that it is called after."""

    parser_classes = [MultiPartParser, FileUploadParser]
    content_negotiation_class = DefaultContentNegotiation

    def perform_update(self, serializer: Any) -> None:
        serializer.save(name=f"{self.request.data['file'].size} bytes")


with isolate_apps("catalog"):

    class Place(models.Model):
        name = models.CharField(max_length=9)

        class Meta:
            app_label = "catalog"

    class Restaurant(Place):
        stars = models.IntegerField(default=0)

        class Meta:
            app_label = "catalog"


class RestaurantSerializer(serializers.ModelSerializer[Any]):
    class Meta:
        model = Restaurant
        fields = ["name", "stars"]


class RestaurantViewSet(CacheResponseAndETAGMixin, viewsets.ReadOnlyModelViewSet[Any]):
    """Of a model that is in two tables: its parent's rows may be written at another address."""

    queryset = Restaurant._base_manager.all()
    serializer_class = RestaurantSerializer
    authentication_classes = []

    def perform_update(self, serializer: Any) -> None:
        def write_the_parent() -> int:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '200ms'")
                return Place._base_manager.update(name="theirs")

        with pytest.raises(OperationalError, match="lock timeout"):
            aside(write_the_parent).result(10)
        serializer.save()


class UploadsViewSet(TagViewSet):
    """Makes a tag that is called after a file, once for each key."""

    parser_classes = [MultiPartParser]
    content_negotiation_class = DefaultContentNegotiation
    authentication_classes = [BasicAuthentication]

    def perform_create(self, serializer: Any) -> None:
        serializer.save(name=self.request.data["file"].read().decode())


class Robot:
    """A user with the primary key that a person has as well."""

    is_authenticated = True

    def __init__(self, person: User) -> None:
        self.pk = person.pk


class ByKind(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        person = User.objects.get()
        return (Robot(person) if request.headers.get("X-Kind") == "robot" else person), None


class OfUsersViewSet(TagViewSet):
    authentication_classes = [ByKind]


class TagView(CacheResponseAndETAGMixin, RetrieveUpdateDestroyAPIView[Tag]):
    """A generic view: no viewset, and so without an action."""

    queryset = Tag.objects.all()
    serializer_class = TagSerializer
    lookup_field = "slug"
    authentication_classes = []
    object_cache_key_func = TagObjectKey()


router = SimpleRouter()
router.register("routed", TagViewSet, "routed")
DETAIL = {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
urlpatterns = [
    path("tags/", TagViewSet.as_view({"get": "list", "post": "create"})),
    path("tags/<slug:slug>/", TagViewSet.as_view(DETAIL)),
    path("of-users/", OfUsersViewSet.as_view({"post": "create"})),
    path("uploading/<slug:slug>/", UploadingViewSet.as_view(DETAIL)),
    path("restaurants/<int:pk>/", RestaurantViewSet.as_view(DETAIL)),
    path("by-action/", ByActionViewSet.as_view({"post": "create"})),
    path("by-action/<slug:slug>/", ByActionViewSet.as_view(DETAIL)),
    path("by-method/<slug:slug>/", ByMethodViewSet.as_view(DETAIL)),
    path("generic/<slug:slug>/", TagView.as_view()),
    path("removing/<slug:slug>/", RemovingViewSet.as_view(DETAIL)),
    path("any-text/<str:name>/", AnyTextViewSet.as_view(DETAIL)),
    path("rendered/<slug:slug>/", RenderedViewSet.as_view(DETAIL)),
    path("closed/<slug:slug>/", ClosedViewSet.as_view(DETAIL)),
    path("signed/", SignedViewSet.as_view({"post": "create"})),
    path("signed/<slug:slug>/", SignedViewSet.as_view(DETAIL)),
    path("uploads/", UploadsViewSet.as_view({"post": "create"})),
    path("in/<str:place>/", include((router.urls, "places"), namespace="there")),
]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    Tag.objects.create(slug="dark", name="Dark")
    yield
    get_store().clear()


def send(method: str, target: str, body: Any = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = b"" if body is None else json.dumps(body).encode()
    return Client().generic(method, target, content, "application/json", headers=named)


def get(target: str) -> Any:
    return send("GET", target)


class TestPlainViewSet:
    def test_writes_with_the_serializer_that_it_reads_with(self) -> None:
        for target in ("/tags/dark/", "/closed/dark/"):
            response = send("PATCH", target, {"name": f"By {target}"}, If_Match=get(target)["ETag"])
            shown = get(target)
            assert (response.status_code, response.content) == (200, shown.content)
            assert response["ETag"] == shown["ETag"]
            assert response["Content-Location"] == target
            assert response["Cache-Control"] == "private, no-store"
            assert response["Cache-Status"] == "keybits; fwd=method"

    def test_deletes(self) -> None:
        assert send("DELETE", "/tags/dark/").status_code == 428
        assert send("DELETE", "/tags/dark/", If_Match=get("/tags/dark/")["ETag"]).status_code == 204
        assert get("/tags/dark/").status_code == 404

    def test_deletes_whatever_the_view_returns_of_it(self) -> None:
        """REST framework looks at nothing that `perform_destroy` returns."""
        assert send("DELETE", "/removing/dark/", If_Match="*").status_code == 204
        assert not Tag.objects.filter(slug="dark").exists()

    def test_writes_as_a_class_behind_the_mixins_says(self) -> None:
        def name() -> str:
            return Tag.objects.get(slug="new").name

        assert send("POST", "/signed/", {"slug": "new", "name": "New"}).status_code == 201
        assert name() == "made by us"
        send("PATCH", "/signed/new/", {"name": "Newer"}, If_Match="*")
        assert name() == "changed by us"
        send("DELETE", "/signed/new/", If_Match="*")
        assert name() == "deleted by us"

    def test_names_the_address_as_a_field_can_say_it(self) -> None:
        Tag.objects.create(slug="night", name="夜é")
        url = f"/any-text/{quote('夜é')}/"
        assert send("PATCH", url, {"kind": "topic"}, If_Match="*")["Content-Location"] == url

    def test_creates(self) -> None:
        response = send("POST", "/tags/", {"slug": "new", "name": "New"})
        assert (response.status_code, response["ETag"]) == (201, get("/tags/new/")["ETag"])
        assert Tag.objects.get(slug="new").name == "New"

    def test_says_where_what_was_made_is_or_nothing_where_that_is_not_known(self) -> None:
        """The list has another representation: the entity tag of the new one would be taken for the list's."""
        response = send("POST", "/in/town/routed/", {"slug": "new", "name": "New"})
        made = response["Location"]
        assert (made, response["Content-Location"]) == ("/in/town/routed/new/", made)
        assert get(made)["ETag"] == response["ETag"]
        unknown = send("POST", "/tags/", {"slug": "newer", "name": "Newer"})
        assert not {"Location", "Content-Location"} & set(unknown.headers)

    @pytest.mark.parametrize("nobody", ["django.contrib.auth.models.AnonymousUser", None])
    def test_gives_nobody_in_particular_no_idempotency_key(self, settings: Any, nobody: str | None) -> None:
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "UNAUTHENTICATED_USER": nobody}
        response = send("POST", "/tags/", {"slug": "new", "name": "New"}, Idempotency_Key='"a"')
        assert response.status_code == 400
        assert not Tag.objects.filter(slug="new").exists()


class Apart:
    """A router that has tags in a database of their own; databases may be `without` keybits' tables.

    It decides for all models, keybits' own among them.
    """

    without: Set[str] = frozenset()

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        return "apart" if model is Tag else "default"

    db_for_read = db_for_write

    def allow_migrate(self, using: str, app_label: str, **_: Any) -> bool | None:
        return False if using in self.without and app_label == "keybits" else None


@pytest.fixture
def apart(settings: Any) -> Iterator[Any]:
    """A second database, in which tags are."""
    with second_database("apart", Tag, IdempotencyKey) as second:
        settings.DATABASE_ROUTERS = [f"{__name__}.Apart"]
        User.objects.create_user("person")
        yield second


def make(body: Any, key: str = '"a"') -> Any:
    return send("POST", "/of-users/", body, Idempotency_Key=key, X_Kind="person")


@pytest.mark.usefixtures("apart")
class TestIdempotencyKeysOfAnotherDatabase:
    """As in the one that has keybits' own models by default, a key is kept with the change, or neither is."""

    def test_are_free_for_another_request_after_one_that_was_refused(self) -> None:
        refused, right = {"slug": "no slug", "name": "New"}, {"slug": "new", "name": "New"}
        assert [make(body).status_code for body in (refused, refused, right)] == [400, 400, 201]

    def test_repeat_the_answer(self) -> None:
        first, second = (make({"slug": "new", "name": "New"}) for _ in range(2))
        assert (second.status_code, second.content) == (201, first.content)
        assert Tag.objects.using("apart").count() == 1

    def test_are_removed_when_they_have_expired(self, capsys: pytest.CaptureFixture[str]) -> None:
        make({"slug": "new", "name": "New"})
        IdempotencyKey.objects.using("apart").update(created_at=datetime(2020, 1, 1, tzinfo=UTC))
        call_command("prune_idempotency_keys")
        assert capsys.readouterr().out == "1 keys removed.\n"
        assert not IdempotencyKey.objects.using("apart").exists()

    @pytest.mark.parametrize("engine", ["dummy", "sqlite3"])
    def test_are_removed_whatever_other_databases_keep_none(
        self, engine: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One may be empty, as `default` is where a router decides for every model, or be away, and be not ours."""
        other = {"ENGINE": f"django.db.backends.{engine}", "NAME": "/nowhere/at/all"}
        monkeypatch.setitem(connections.settings, "other", {**connections.settings["default"], **other})
        monkeypatch.setattr(Apart, "without", {"other"} if engine == "sqlite3" else set())
        call_command("prune_idempotency_keys")
        assert capsys.readouterr().out == "0 keys removed.\n"

    def test_are_refused_where_that_database_does_not_keep_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Apart, "without", {"apart"})
        refused = make({"slug": "new", "name": "New"})
        assert (refused.status_code, "Send the request without it" in refused.json()["detail"]) == (400, True)
        assert not Tag.objects.using("apart").exists()


def test_an_idempotency_key_is_one_user_s_whatever_primary_key_another_has() -> None:
    User.objects.create_user("person")
    statuses = [
        send(
            "POST", "/of-users/", {"slug": kind, "name": kind}, Idempotency_Key='"a"', X_Kind=kind
        ).status_code
        for kind in ("person", "robot", "person")
    ]
    assert statuses == [201, 201, 201]
    assert Tag.objects.filter(slug__in=["person", "robot"]).count() == 2


class GoneClient:
    """The connection of a client that has gone before all was sent."""

    def read(self, *_: int) -> bytes:
        raise ConnectionResetError

    readline = read


def test_a_body_that_breaks_off_is_no_failure_of_the_server() -> None:
    broken = {"wsgi.input": GoneClient(), "CONTENT_LENGTH": "20"}
    response = Client().generic(
        "PATCH", "/tags/dark/", b"", "application/json", headers={"If-Match": "*"}, **broken
    )
    assert (response.status_code, response.json()["detail"]) == (400, "The body did not arrive.")


class TestUploads:
    """Files may be longer than what is held in memory, as Django has it."""

    @pytest.fixture(autouse=True)
    def _bounded(self, settings: Any) -> None:
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000

    @pytest.mark.parametrize("raw", [True, False])
    def test_are_written(self, raw: bool) -> None:
        content, media_type = b"x" * 5_000, "application/octet-stream"
        if not raw:
            given = {"file": SimpleUploadedFile("tag.png", content)}
            content, media_type = encode_multipart(BOUNDARY, given), MULTIPART_CONTENT
        fields = {"If-Match": "*", "Content-Disposition": "attachment; filename=tag.png"}
        response = Client().generic("PATCH", "/uploading/dark/", content, media_type, headers=fields)
        assert (response.status_code, Tag.objects.get(slug="dark").name) == (200, "5000 bytes")

    def test_that_are_sent_again_under_one_key_are_told_apart_by_what_is_in_them(self) -> None:
        User.objects.create_user("person", password="pw")
        signed = f"Basic {b64encode(b'person:pw').decode()}"

        def upload(text: bytes) -> int:
            given = {"slug": "new", "name": "-", "file": SimpleUploadedFile("tag.txt", text)}
            fields = {"Idempotency-Key": '"a"', "Authorization": signed}
            content = encode_multipart(BOUNDARY, given)
            return (
                Client().generic("POST", "/uploads/", content, MULTIPART_CONTENT, headers=fields).status_code
            )

        assert [upload(text) for text in (b"One", b"One", b"Two")] == [201, 201, 422]
        assert Tag.objects.get(slug="new").name == "One"

    def test_that_are_no_files_are_bounded(self) -> None:
        content = encode_multipart(BOUNDARY, {"name": "x" * 5_000})
        fields = {"If-Match": "*"}
        response = Client().generic("PATCH", "/uploading/dark/", content, MULTIPART_CONTENT, headers=fields)
        assert response.status_code == 400
        assert send("PATCH", "/tags/dark/", {"name": "x" * 5_000}, If_Match="*").status_code == 413


class TestGenericView:
    def test_reads_and_writes_as_a_viewset_does(self) -> None:
        shown = get("/generic/dark/")
        assert send("PATCH", "/generic/dark/", {"name": "Darker"}).status_code == 428
        response = send("PATCH", "/generic/dark/", {"name": "Darker"}, If_Match=shown["ETag"])
        assert (response.status_code, response["ETag"]) == (200, get("/generic/dark/")["ETag"])
        assert send("DELETE", "/generic/dark/", If_Match=response["ETag"]).status_code == 204

    def test_takes_no_body_that_is_coded(self) -> None:
        response = send("PATCH", "/generic/dark/", {"name": "Darker"}, If_Match="*", Content_Encoding="gzip")
        assert response.status_code == 415
        assert send("POST", "/generic/dark/", {}, Content_Encoding="gzip").status_code == 405


class TestRenderers:
    @pytest.mark.parametrize(
        "accept",
        ["application/json", "application/json; indent=4", EnvelopeRenderer.media_type],
    )
    def test_write_what_they_have_shown(self, accept: str) -> None:
        """The selected representation (RFC 9110 section 3.2) is the one that the client negotiates."""
        shown = send("GET", "/rendered/dark/", Accept=accept)
        response = send("PATCH", "/rendered/dark/", {"name": "New"}, Accept=accept, If_Match=shown["ETag"])
        now = send("GET", "/rendered/dark/", Accept=accept)
        assert (response.status_code, response.content) == (200, now.content)
        assert [response[name] == now[name] for name in ("Content-Type", "ETag")] == [True, True]

    def test_of_pages_for_people_show_what_the_first_has_written(self) -> None:
        response = send("PATCH", "/rendered/dark/", {"name": "New"}, Accept="text/html", If_Match="*")
        assert (response.status_code, response["Content-Type"][:9]) == (200, "text/html")


class TestByAction:
    """A write is judged by, and answered with, what a GET of its address shows, whatever reads its body."""

    @pytest.mark.parametrize("url", ["/by-action/dark/", "/by-method/dark/"])
    def test_what_was_shown_can_be_written(self, url: str) -> None:
        shown = get(url)
        response = send("PATCH", url, {"name": "Darker"}, If_Match=shown["ETag"])
        assert (shown.json()["length"], response.status_code) == (4, 200)
        now = get(url)
        assert (response.content, response["ETag"]) == (now.content, now["ETag"])

    def test_what_was_made_is_shown_as_a_get_shows_it(self) -> None:
        response = send("POST", "/by-action/", {"slug": "new", "name": "New"})
        assert (response.status_code, response.json()["length"]) == (201, 3)

    def test_what_its_writer_cannot_see_any_more_is_written_and_not_shown(self) -> None:
        etag = get("/by-action/dark/")["ETag"]
        response = send("PATCH", "/by-action/dark/", {"name": "Hidden"}, If_Match=etag)
        assert (response.status_code, response.content) == (204, b"")
        assert response["Cache-Control"] == "private, no-store"
        assert not response.has_header("ETag")
        assert Tag.objects.get(slug="dark").name == "Hidden"
        assert get("/by-action/dark/").status_code == 404

    def test_what_its_maker_cannot_see_is_made_and_not_shown(self) -> None:
        response = send("POST", "/by-action/", {"slug": "new", "name": "Hidden"})
        assert (response.status_code, response.content) == (204, b"")
        assert Tag.objects.filter(slug="new").exists()


class TestMembers:
    def test_what_is_so_already_may_be_said(self) -> None:
        shown = get("/closed/dark/").json()
        assert send("PUT", "/closed/dark/", {**shown, "name": "New"}, If_Match="*").status_code == 200

    def test_what_cannot_be_set_or_is_missing_is_refused_by_name(self) -> None:
        response = send("PUT", "/closed/dark/", {"nmae": "New"}, If_Match="*")
        assert response.status_code == 400
        errors = response.json()["errors"]
        assert set(errors) == {"nmae", "slug", "name", "kind"}
        assert "Did you mean 'name'?" in errors["nmae"][0]


class Given(Exception):  # noqa: N818 - it stands for PostgreSQL's
    sqlstate = "40P01"


def given_up(*_: Any) -> Any:
    """What psycopg and Django raise where PostgreSQL has ended a transaction for another's sake."""
    raise OperationalError("deadlock detected") from Given()


class Deleted(Exception):  # noqa: N818 - as above
    sqlstate = "23503"


class Taken(Exception):  # noqa: N818 - as above
    sqlstate = "23505"


def refers_to_nothing(*_: Any) -> Any:
    """What psycopg and Django raise where somebody has deleted what a new row refers to."""
    raise IntegrityError("violates foreign key constraint") from Deleted()


def is_there_already(*_: Any) -> Any:
    """What they raise where somebody has made one of which there can only be one."""
    raise IntegrityError("violates unique constraint") from Taken()


class TestOthersInTheWay:
    @pytest.mark.parametrize("state", ["40P01", "40001"])
    def test_what_was_given_up_for_others_is_done_again(
        self, monkeypatch: pytest.MonkeyPatch, state: str
    ) -> None:
        monkeypatch.setattr(Given, "sqlstate", state)
        tries: list[int] = []

        def work() -> str:
            tries.append(len(tries))
            Tag.objects.create(slug=f"try-{len(tries)}", name="Try")
            return given_up() if len(tries) < 3 else "done"

        assert atomically(Tag, work) == "done"
        assert set(Tag.objects.filter(name="Try").values_list("slug", flat=True)) == {"try-3"}

    @pytest.mark.parametrize("fail", [refers_to_nothing, is_there_already])
    def test_what_rests_on_what_others_have_deleted_or_made_is_done_again(self, fail: Any) -> None:
        tries: list[int] = []

        def work() -> str:
            tries.append(1)
            return fail() if len(tries) < 3 else "done"

        assert atomically(Tag, work) == "done"

    def test_what_refers_to_nothing_again_and_again_is_busy(self) -> None:
        with pytest.raises(BusyError):
            atomically(Tag, refers_to_nothing)

    def test_what_is_there_already_again_and_again_is_no_matter_of_trying(self) -> None:
        """A rule of the database's that no serializer knows: who is told to send it again would do so for ever."""
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            is_there_already()

        with pytest.raises(IntegrityError, match="unique"):
            atomically(Tag, work)
        assert len(tries) == 3

    def test_what_is_there_already_is_busy_where_it_cannot_be_tried_again(self) -> None:
        with transaction.atomic(), pytest.raises(BusyError):
            atomically(Tag, is_there_already)

    def test_what_breaks_another_promise_of_the_database_is_not_done_again(self) -> None:
        tries: list[int] = []

        def work() -> None:
            tries.append(1)
            raise IntegrityError("violates check constraint")

        with pytest.raises(IntegrityError, match="check"):
            atomically(Tag, work)
        assert tries == [1]

    def test_what_is_given_up_again_and_again_is_a_503(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(TagViewSet, "perform_update", given_up)
        response = send("PATCH", "/tags/dark/", {"name": "New"}, If_Match="*")
        assert (response.status_code, response["Retry-After"]) == (503, "1")
        assert response.json()["type"] == "urn:problem:busy"

    def test_a_database_that_others_hold_is_a_503(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def locked(*_: Any) -> None:
            raise OperationalError("database is locked")

        monkeypatch.setattr(TagViewSet, "perform_update", locked)
        assert send("PATCH", "/tags/dark/", {"name": "New"}, If_Match="*").status_code == 503

    def test_any_other_failure_of_the_database_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any) -> None:
            raise OperationalError("disk I/O error")

        monkeypatch.setattr(TagViewSet, "perform_update", broken)
        with pytest.raises(OperationalError, match="disk"):
            send("PATCH", "/tags/dark/", {"name": "New"}, If_Match="*")

    def test_a_store_without_which_nothing_may_be_written_is_a_503(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.KEYBITS_WRITE_POLICY = "refuse"

        def fail(*_: Any) -> None:
            raise StoreError("out of reach")

        monkeypatch.setattr(type(get_store()), "open", fail)
        response = send("PATCH", "/tags/dark/", {"name": "New"}, If_Match="*")
        assert response.status_code == 503
        assert Tag.objects.get(slug="dark").name == "Dark"

    def test_what_goes_while_it_is_waited_for_is_not_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def goes(view: Any, *_: Any) -> Any:
            found = Tag.objects.get(slug="dark")
            Tag.objects.all().delete()
            return found

        monkeypatch.setattr(TagViewSet, "get_object", goes)
        assert send("PATCH", "/tags/dark/", {"name": "New"}, If_Match="*").status_code == 404


def test_a_write_takes_its_lock_before_it_looks() -> None:
    """The representation that If-Match is compared with is read after the lock: nobody changes it any more."""
    seen: list[str] = []

    def watch(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        send("PATCH", "/tags/dark/", {"name": "New"}, If_Match="*")
    begin = next((n for n, sql in enumerate(seen) if sql.startswith("BEGIN")), 0)
    reads = [n for n, sql in enumerate(seen) if sql.startswith("SELECT") and "catalog_tag" in sql]
    if connection.vendor == "postgresql":
        locked = next(n for n, sql in enumerate(seen) if "FOR NO KEY UPDATE" in sql)
        assert any(n > locked for n in reads)
    else:
        assert seen[begin] == "BEGIN IMMEDIATE"
        assert all(n > begin for n in reads)


@pytest.mark.stack("embedded")
def test_a_write_on_sqlite_has_the_lock_before_it_reads_whatever_mode_transactions_begin_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With Django's own, a write that has read first fails at once where a relay, for one, has written since."""
    connection.ensure_connection()
    monkeypatch.setattr(connections["default"], "transaction_mode", None)

    def work() -> None:
        tag = Tag.objects.get(slug="dark")
        with (
            closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("UPDATE catalog_tag SET name = 'Theirs'")
        tag.name = "Ours"
        tag.save()

    atomically(Tag, work)
    assert Tag.objects.get(slug="dark").name == "Ours"


def test_a_database_without_a_lock_of_its_own_for_updates_locks_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MySQL and Oracle, which Django refuses to ask for `FOR NO KEY UPDATE`."""
    monkeypatch.setattr(connection.features, "has_select_for_no_key_update", False)
    assert send("PATCH", "/tags/dark/", {"name": "New"}, If_Match="*").status_code == 200


@pytest.mark.stack("server")
def test_a_row_in_two_tables_is_locked_in_both() -> None:
    """Who writes the parent's at the parent's own address would be undone: all columns of both are saved."""
    with connection.schema_editor() as editor:
        for model in (Place, Restaurant):
            editor.create_model(model)
    try:
        row = Restaurant._base_manager.create(name="ours")
        assert send("PATCH", f"/restaurants/{row.pk}/", {"stars": 3}, If_Match="*").status_code == 200
    finally:
        with connection.schema_editor() as editor:
            for model in (Restaurant, Place):
                editor.delete_model(model)
