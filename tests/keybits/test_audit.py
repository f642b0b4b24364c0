"""The auditor: each read that no bit covers is caught by name. And: it runs over every view, in every other test."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext
from rest_framework.generics import RetrieveAPIView
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from catalog.models import Gallery, Screenshot, Tag
from keybits import audit, bits, invalidation
from keybits.audit import IncompleteKeyError
from keybits.constructors import KeyConstructor
from keybits.drf import ClosedQueryMixin, cache_response_and_etag
from keybits.parameters import Number, Parameter
from keybits.stores import get_store

pytestmark = pytest.mark.django_db(transaction=True)
Handler = Callable[[Any], object]


class TagSerializer(ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["slug", "name"]


def view_of(read: Handler, **declared: Any) -> Any:
    """Return a view that reads something, under a constructor that has these bits beside the tags' scope."""
    key = type("Key", (KeyConstructor,), {"updated_at": bits.UpdatedAtKeyBit("tags"), **declared})()

    class View(APIView):
        authentication_classes = ()

        @cache_response_and_etag(key)
        def get(self, request: Any) -> Response:
            return Response({"read": str(read(request))})

    return View.as_view()


def ask(read: Handler, path: str = "/?a=1", user: Any = None, **declared: Any) -> Any:
    request = APIRequestFactory().get(
        path, headers={"Host": "testserver", "X-Geo": "eu", "Cookie": "theme=dark"}
    )
    request.user = user or AnonymousUser()
    if user is not None:
        force_authenticate(request, user)
    return view_of(read, **declared)(request)


PLANTED: list[tuple[str, Handler, str, dict[str, Any]]] = [
    ("Host", lambda r: r.get_host(), "header 'HOST'", {"host": bits.HeadersKeyBit(["Host"])}),
    (
        "absolute links",
        lambda r: r.build_absolute_uri("/x"),
        "header 'HOST'",
        {"host": bits.HeadersKeyBit(["Host"])},
    ),
    (
        "a header",
        lambda r: r.META.get("HTTP_X_GEO"),
        "HeadersKeyBit(['X-Geo'])",
        {"geo": bits.HeadersKeyBit(["X-Geo"])},
    ),
    ("a header by name", lambda r: r.headers["X-Geo"], "header 'X_GEO'", {"geo": bits.HeadersKeyBit("*")}),
    (
        "the client's address",
        lambda r: r.META["REMOTE_ADDR"],
        "REMOTE_ADDR",
        {"ip": bits.RequestMetaKeyBit(["REMOTE_ADDR"])},
    ),
    (
        "a query parameter",
        lambda r: r.query_params.get("a"),
        "parameter 'a'",
        {"query": bits.QueryParamsKeyBit(["a"])},
    ),
    (
        "a parameter's values",
        lambda r: r.GET.getlist("a"),
        "parameter 'a'",
        {"query": bits.CanonicalQueryKeyBit()},
    ),
    *(
        (way, read, "parameter 'a'", {"query": bits.QueryParamsKeyBit(["a"])})
        for way, read in {
            "a parameter by keyword": lambda r: r.GET.get("a", default="1"),
            "a parameter's values by keywords": lambda r: r.GET.getlist(key="a", default=[]),
        }.items()
    ),
    (
        "whether there is a parameter",
        lambda r: "verbose" in r.query_params,
        "parameter 'verbose'",
        {"query": bits.QueryParamsKeyBit(["verbose"])},
    ),
    *(
        (f"all parameters {way}", read, "parameter 'a'", {"query": bits.CanonicalQueryKeyBit()})
        for way, read in {
            "as a text": lambda r: r.GET.urlencode(),
            "as lists": lambda r: list(r.GET.lists()),
            "by their names": lambda r: list(r.GET),
            "in a copy": lambda r: r.GET.copy(),
            "by their number": lambda r: len(r.GET),
            "by comparing them": lambda r: r.GET == {},
            "in a description": lambda r: repr(r.GET),
            "in the address": lambda r: r._request.get_full_path(),
        }.items()
    ),
    (
        "the user",
        lambda r: r.user.is_authenticated,
        "user attribute 'is_authenticated'",
        {"who": bits.UserKeyBit()},
    ),
    ("the language", lambda _: gettext("Yes"), "LanguageKeyBit()", {"language": bits.LanguageKeyBit()}),
    (
        "a related table",
        lambda _: list(Gallery.objects.all()),
        "galleries",
        {"galleries": bits.UpdatedAtKeyBit("galleries")},
    ),
    (
        "a joined table",
        lambda _: list(Screenshot.objects.filter(gallery__slug="a")),
        "table 'catalog_gallery'",
        {"more": bits.UpdatedAtKeyBit(["gallery:a"])},
    ),
]


@pytest.mark.parametrize(
    ("read", "named", "cure"), [row[1:] for row in PLANTED], ids=[row[0] for row in PLANTED]
)
def test_a_read_that_no_bit_covers_is_named_and_the_bit_it_asks_for_cures_it(
    read: Handler, named: str, cure: dict[str, Any]
) -> None:
    with pytest.raises(IncompleteKeyError) as caught:
        ask(read)
    assert named in str(caught.value)
    assert "View" in str(caught.value)
    assert ask(read, **cure).status_code == 200


def test_a_cookie_is_covered_by_nothing() -> None:
    with pytest.raises(IncompleteKeyError, match="cookie 'theme'"):
        ask(lambda r: r.COOKIES.get("theme"), who=bits.UserKeyBit())


def test_neither_are_all_cookies_at_once() -> None:
    with pytest.raises(IncompleteKeyError, match="header 'COOKIE'"):
        ask(lambda r: r.META["HTTP_COOKIE"], who=bits.UserKeyBit())


AT_ONCE: dict[str, Callable[[Any], object]] = {
    "their names": list,
    "their names as a view": lambda given: list(given.keys()),
    "their values": lambda given: list(given.values()),
    "both": lambda given: list(given.items()),
    "how many": len,
    "whether there are any": bool,
    "by comparing them": lambda given: given == {},
    "as text": repr,
    "in reverse": lambda given: list(reversed(given)),
    "in a copy": lambda given: given.copy(),
    "in a copy of another kind": copy.copy,
    "as keywords": lambda given: dict(**given),
    "together with others": lambda given: given | {},
}
"""Ways to look at all that a mapping has."""
OF_DICTS = {"in reverse", "in a copy", "in a copy of another kind", "together with others"}
"""Those that a request's headers do not have, or that do not show them yet."""


@pytest.mark.parametrize("look", AT_ONCE)
def test_cookies_looked_at_all_together_are_the_header_that_they_came_in(look: str) -> None:
    with pytest.raises(IncompleteKeyError, match=r"header 'COOKIE': add HeadersKeyBit\(\['Cookie'\]\)"):
        ask(lambda r: AT_ONCE[look](r.COOKIES), who=bits.UserKeyBit())
    assert ask(lambda r: AT_ONCE[look](r.COOKIES), own=bits.HeadersKeyBit(["Cookie"])).status_code == 200


@pytest.mark.parametrize(
    "look", [lambda given: given.pop("theme"), lambda given: given.setdefault("theme", "light")]
)
def test_a_cookie_is_named_however_it_is_found(look: Callable[[Any], object]) -> None:
    with pytest.raises(IncompleteKeyError, match="cookie 'theme'"):
        ask(lambda r: look(r.COOKIES), who=bits.UserKeyBit())


def test_a_cookie_is_covered_by_the_header_of_all() -> None:
    assert ask(lambda r: r.COOKIES["theme"], own=bits.HeadersKeyBit(["Cookie"])).status_code == 200


@pytest.mark.parametrize(
    ("look", "of"),
    [*((look, "META") for look in AT_ONCE), *((look, "headers") for look in AT_ONCE if look not in OF_DICTS)],
)
def test_headers_looked_at_all_together_are_covered_by_all_alone(look: str, of: str) -> None:
    def read(request: Any) -> object:
        return bool(AT_ONCE[look](getattr(request, of)))

    with pytest.raises(IncompleteKeyError, match=r"header '\*': .*HeadersKeyBit\('\*'\)"):
        ask(read, "/", given=bits.HeadersKeyBit(["X-Geo", "Cookie", "Host"]))
    assert ask(read, "/", given=bits.HeadersKeyBit("*")).status_code == 200


def test_meta_looked_at_as_a_whole_has_the_query_too() -> None:
    with pytest.raises(IncompleteKeyError, match="parameter 'a'"):
        ask(lambda r: len(r.META), "/?a=1", all=bits.HeadersKeyBit("*"))


def test_what_the_view_puts_into_meta_stays_there_and_is_not_read() -> None:
    request = APIRequestFactory().get("/")

    def mark(asked: Any) -> None:
        asked.META["HTTP_X_MARK"] = "1"
        asked.META.update(HTTP_X_OTHER="2")

    assert view_of(mark)(request).status_code == 200
    assert (request.META["HTTP_X_MARK"], request.META["HTTP_X_OTHER"]) == ("1", "2")


def test_a_header_read_of_a_meta_that_was_added_to_in_place_is_named_as_well() -> None:
    def add_and_read(asked: Any) -> object:
        asked._request.META |= {"HTTP_X_MARK": "1"}
        return asked.META.get("HTTP_X_GEO")

    with pytest.raises(IncompleteKeyError, match="header 'X_GEO'"):
        ask(add_and_read)


def test_headers_are_not_read_where_a_view_that_is_asked_for_its_answer_closes_its_query() -> None:
    class Numbered(ClosedQueryMixin, APIView):
        authentication_classes = ()
        throttle_classes = ()

        def get_query_parameters(self) -> list[Parameter]:
            return [Number(name="a", description="", minimum=1, maximum=9)]

        def get(self, request: Any) -> Response:
            return Response({"a": request.query_params["a"]})

    answer = ask(lambda r: Numbered.as_view()(r._request).data, "/?a=01", a=bits.QueryParamsKeyBit(["a"]))
    assert answer.data == {"read": "{'a': '1'}"}


def test_a_session_s_cookie_is_covered_by_nothing_either() -> None:
    with pytest.raises(IncompleteKeyError, match="cookie 'sessionid'"):
        ask(lambda r: r.COOKIES.get("sessionid"), who=bits.UserKeyBit())


class TestRowsThatWereReadBeforeTheHandler:
    """What is shown of them is part of the answer as if they had been read in it."""

    def test_of_the_user_are_of_a_table_that_is_to_be_declared(self) -> None:
        user = User.objects.create(username="u", email="a@one.example")
        with pytest.raises(IncompleteKeyError, match=r"table 'auth_user': declare auth\.User"):
            ask(lambda r: r.user.email, user=user, who=bits.UserKeyBit())

    def test_of_the_user_may_tell_who_it_is(self) -> None:
        user = User.objects.create(username="u")
        answer = ask(lambda r: (r.user.pk, r.user.is_authenticated), user=user, who=bits.UserKeyBit())
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "read",
        [
            lambda r: str(r.user),
            lambda r: f"{r.user!r}",
            lambda r: r.user in {User.objects.get()},
            lambda r: {User.objects.get().pk: "found"}.get(r.user.pk),
            lambda r: (r.user == User.objects.get(), r.user != User.objects.get(), r.user == r.user),
            lambda r: (setattr(r.user, "seen", "now"), vars(r.user)["seen"]),
            lambda r: (delattr(r.user, "username"), "username" in vars(r.user)),
        ],
        ids=["text", "description", "member", "key", "equal", "set", "deleted"],
    )
    def test_behave_as_they_do_unwatched(self, read: Handler) -> None:
        """Watching changes no answer, also where it is only logged."""
        ada = User.objects.create(username="ada")
        with audit.recording_fills():
            watched = json.loads(ask(read, user=ada, own=bits.ArgsKeyBit()).content)
        request = APIRequestFactory().get("/")
        request.user = User.objects.get()
        assert watched == {"read": str(read(request))}

    def test_of_the_user_of_a_session_may_be_filtered_by(self) -> None:
        """Django's middleware gives a stand-in of its own, which is a user by its class alone."""
        ada = User.objects.create(username="ada")
        Gallery.objects.create(slug="a", title="A", owner=ada)
        keys = {"who": bits.UserKeyBit(), "galleries": bits.UpdatedAtKeyBit("galleries")}
        answer = ask(
            lambda r: [each.slug for each in Gallery.objects.filter(owner=r.user)],
            user=SimpleLazyObject(lambda: ada),
            **keys,
        )
        assert json.loads(answer.content) == {"read": "['a']"}

    def test_of_the_view_are_of_a_table_whose_scope_is_to_be_named(self) -> None:
        gallery = Gallery.objects.create(slug="a", title="A")

        def read(view: Any) -> str:
            return str(view.gallery.title)

        with pytest.raises(IncompleteKeyError, match="table 'catalog_gallery': add one of its scopes"):
            self.asked(gallery, read, "screenshots")
        assert self.asked(gallery, read, "galleries").status_code == 200

    def test_of_the_view_may_be_filtered_by(self) -> None:
        gallery = Gallery.objects.create(slug="a", title="A")
        answer = self.asked(
            gallery, lambda view: list(Screenshot.objects.filter(gallery=view.gallery)), "screenshots"
        )
        assert answer.status_code == 200

    @staticmethod
    def asked(gallery: Gallery, read: Handler, scope: str) -> Any:
        class Key(KeyConstructor):
            updated_at = bits.UpdatedAtKeyBit(scope)

        class View(APIView):
            authentication_classes = ()

            def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
                self.gallery = Gallery.objects.get(pk=gallery.pk)
                super().initial(request, *args, **kwargs)

            @cache_response_and_etag(Key())
            def get(self, request: Any) -> Response:
                return Response({"read": str(read(self))})

        return View.as_view()(APIRequestFactory().get("/"))


class TestARowThatIsFound:
    @staticmethod
    def asked(scope: Any, address: str) -> Any:
        class Key(KeyConstructor):
            updated_at = bits.UpdatedAtKeyBit(scope)
            language = bits.LanguageKeyBit()

        class View(RetrieveAPIView[Tag]):
            authentication_classes = ()
            queryset = Tag.objects.all()
            serializer_class = TagSerializer
            lookup_field, lookup_url_kwarg = "slug", "name"

            @cache_response_and_etag(Key())
            def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
                return super().get(request, *args, **kwargs)

            def get_object(self) -> Tag:
                return Tag.objects.get(slug="x") if self.kwargs["name"] == "me" else super().get_object()

        return View.as_view()(APIRequestFactory().get("/"), name=address)

    @pytest.mark.parametrize(("scope", "address"), [("tag:{name}", "x"), ("tags", "x"), (["tag:x"], "me")])
    def test_by_the_name_of_its_scope_is_not_named(self, scope: Any, address: str) -> None:
        Tag.objects.create(slug="x", name="X")
        assert self.asked(scope, address).status_code == 200

    def test_by_another_is_named_with_what_it_is_part_of(self) -> None:
        Tag.objects.create(slug="x", name="X")
        with pytest.raises(IncompleteKeyError, match="a row of 'tag:x, tags': name one of those"):
            self.asked("tag:{name}", "me")

    def test_is_read_alone_whatever_its_scopes_lead_through(self) -> None:
        """The audit itself asks which gallery a screenshot is of, and which tags it has; the view does not."""

        class Key(KeyConstructor):
            updated_at = bits.UpdatedAtKeyBit("screenshot:{pk}")

        class View(RetrieveAPIView[Screenshot]):
            authentication_classes = ()
            queryset = Screenshot.objects.all()

            @cache_response_and_etag(Key())
            def get(self, request: Any, *args: Any, **kwargs: Any) -> Response:
                return Response({"title": self.get_object().title})

        shown = Screenshot.objects.create(gallery=Gallery.objects.create(slug="a", title="A"), title="A")
        assert View.as_view()(APIRequestFactory().get("/"), pk=str(shown.pk)).status_code == 200


def test_a_table_is_named_whatever_quotes_and_schema_its_name_has() -> None:
    schema = {"sqlite": "main", "postgresql": "public"}[connection.vendor]
    for statement in (
        'SELECT 1 FROM "main"."catalog_gallery" WHERE 1 = 1',
        "SELECT 1 FROM public.catalog_gallery",
        'SELECT 1 FROM ONLY "catalog_gallery"',
        "SELECT 1 FROM `catalog_gallery`",
    ):
        assert list(map(audit._bare, audit._tables(statement))) == ["catalog_gallery"]
    with pytest.raises(IncompleteKeyError, match="table 'catalog_gallery'"):
        ask(lambda _: list(Gallery.objects.raw(f'SELECT * FROM "{schema}"."catalog_gallery"')))  # noqa: S608


def test_a_table_is_named_that_is_read_over_the_first_connection_of_a_thread() -> None:
    def asked() -> None:
        try:
            ask(lambda _: list(Gallery.objects.all()))
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads, pytest.raises(IncompleteKeyError, match="catalog_gallery"):
        threads.submit(asked).result()


def test_a_table_that_nobody_declared_is_named_with_the_way_to_declare_it() -> None:
    with pytest.raises(IncompleteKeyError, match=r"declare auth\.User with keybits\.invalidation\.declare"):
        ask(lambda _: list(get_user_model().objects.all()))


@pytest.mark.parametrize(
    "tables",
    [
        "catalog_tag, catalog_gallery",
        'catalog_tag AS t ,"catalog_gallery" g',
        "catalog_tag JOIN catalog_gallery ON 1 = 1",
    ],
)
def test_a_table_is_read_also_where_a_comma_joins_it(tables: str) -> None:
    def read(_: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT 1, 2 FROM {tables} ORDER BY 1, 2")  # noqa: S608 - the test's own
            return cursor.fetchall()

    with pytest.raises(IncompleteKeyError, match="catalog_gallery"):
        ask(read)


def test_a_family_covers_no_table() -> None:
    """A change of one row does not close it, whatever function has named it."""
    with pytest.raises(IncompleteKeyError, match="catalog_gallery"):
        ask(lambda _: list(Gallery.objects.all()), more=bits.UpdatedAtKeyBit(lambda **_: "gallery:*"))


@pytest.mark.parametrize("way", ["get_for_id", "get_for_model", "get_by_natural_key"])
def test_a_content_type_that_django_remembers_for_ever_is_named_neither_first_nor_later(way: str) -> None:
    """As a GenericForeignKey asks for it: whether that reads the table depends on what was asked before."""
    given = {"get_for_id": [ContentType.objects.get_for_model(Tag).pk], "get_for_model": [Tag]}
    asked = given.get(way, ["catalog", "tag"])
    ContentType.objects.clear_cache()
    for path in ("/?a=1", "/?a=2"):
        answer = ask(
            lambda _: getattr(ContentType.objects, way)(*asked), path, own=bits.CanonicalQueryKeyBit()
        )
        assert "fwd" in answer["Cache-Status"]


def test_content_types_that_the_view_itself_reads_are_named() -> None:
    with pytest.raises(IncompleteKeyError, match="table 'django_content_type'"):
        ask(lambda _: list(ContentType.objects.all()))


@pytest.fixture
def proxy() -> Iterator[Any]:
    """A proxy of the tags, in an application that is installed before theirs."""

    class TagAnnotated(Tag):
        class Meta:
            app_label = "contenttypes"
            proxy = True

    yield TagAnnotated
    del apps.all_models["contenttypes"]["tagannotated"]
    apps.clear_cache()


def test_a_table_is_that_of_its_proxies_too_wherever_they_are(proxy: Any) -> None:
    assert apps.get_models().index(proxy) < apps.get_models().index(Tag)
    assert ask(lambda _: list(proxy.objects.all())).status_code == 200


def test_a_setting_read_by_the_project_s_own_code_must_be_in_the_fingerprint(settings: Any) -> None:
    settings.KEYBITS_FINGERPRINT_PACKAGES = [__name__.split(".", maxsplit=1)[0]]
    settings.GREETING = "hello"
    with pytest.raises(
        IncompleteKeyError, match="setting 'GREETING': add its name to KEYBITS_FINGERPRINT_SETTINGS"
    ):
        ask(lambda _: django_settings.GREETING)
    settings.KEYBITS_FINGERPRINT_SETTINGS = ["GREETING"]
    assert ask(lambda _: django_settings.GREETING).status_code == 200


def test_what_is_covered_is_not_named() -> None:
    assert ask(lambda _: list(Tag.objects.all())).status_code == 200


def test_an_answer_from_the_store_is_not_watched() -> None:
    read = [0]

    def count(_: Any) -> int:
        read[0] += 1
        return read[0]

    view = view_of(count)
    first, second = (view(APIRequestFactory().get("/")) for _ in range(2))
    assert first.content == second.content
    assert second["Cache-Status"] == "keybits; hit"


def test_watching_can_be_a_warning_in_the_log(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.KEYBITS_AUDIT = "log"
    assert ask(lambda r: r.get_host()).status_code == 200
    assert "reads header 'HOST'" in caplog.text


def test_the_request_is_itself_again_afterwards() -> None:
    request = APIRequestFactory().get("/?a=1")
    meta, query = request.META, request.GET
    view_of(lambda _: "nothing")(request)
    assert request.META is meta
    assert request.GET is query


def test_this_run_watches_every_view() -> None:
    assert django_settings.KEYBITS_AUDIT == "raise"
    assert invalidation.declarations()
    assert get_store() is not None
