"""What one request was answered is no other's that means something else, or that may not see it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import global_settings
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponse, HttpResponseForbidden, HttpResponseRedirect, StreamingHttpResponse
from django.middleware.csrf import _does_token_match, get_token
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.test import Client
from django.urls import include, path, register_converter
from django.urls.converters import SlugConverter
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers
from django.utils.translation import gettext
from pytest_django import Settings
from rest_framework import serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.generics import ListAPIView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.versioning import (
    AcceptHeaderVersioning,
    BaseVersioning,
    HostNameVersioning,
    NamespaceVersioning,
)

from catalog.models import Tag
from keybits import bits
from keybits.constructors import DefaultListKeyConstructor, DefaultObjectKeyConstructor
from keybits.drf import (
    CacheResponseAndETAGMixin,
    ClosedQueryMixin,
    ListCacheResponseAndETAGMixin,
    RetrieveCacheResponseAndETAGMixin,
    exchange,
)
from keybits.drf.closed import closed
from keybits.drf.renderers import JSONRenderer as OrjsonRenderer
from keybits.parameters import Parameter, Text

pytestmark = pytest.mark.django_db(transaction=True)
HIT, MISS = "keybits; hit", "keybits; fwd=uri-miss"
REFUSED = {401, 403}
MOMENT = datetime(2026, 1, 2, 12, tzinfo=UTC)


class ListKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tags")


class ObjectKey(DefaultObjectKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tag:{slug}")


class TagSerializer(serializers.ModelSerializer[Tag]):
    class Meta:
        model = Tag
        fields = ["slug", "name"]


class TagViewSet(CacheResponseAndETAGMixin, viewsets.ReadOnlyModelViewSet[Tag]):
    """As another project would have it: REST framework's own negotiation and renderer."""

    queryset = Tag.objects.order_by("slug")
    serializer_class = TagSerializer
    lookup_field = "slug"
    pagination_class = None
    filter_backends: Any = []
    content_negotiation_class = DefaultContentNegotiation
    renderer_classes: Any = [JSONRenderer]
    permission_classes: Any = []
    list_cache_key_func = ListKey()
    object_cache_key_func = ObjectKey()


class Said:
    """Answers with what it was asked as."""

    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response({"says": self.says(request)})

    def says(self, request: Any) -> Any:
        return request.version


class SaidViewSet(CacheResponseAndETAGMixin, Said, viewsets.GenericViewSet[Tag]):
    renderer_classes: Any = [JSONRenderer]
    content_negotiation_class = DefaultContentNegotiation
    permission_classes: Any = []
    list_cache_key_func = ListKey()


class ByNamespace(SaidViewSet):
    versioning_class = NamespaceVersioning


class ByAccept(SaidViewSet):
    versioning_class = AcceptHeaderVersioning


class ByHostName(SaidViewSet):
    versioning_class = HostNameVersioning


class FieldVersioning(BaseVersioning):
    def determine_version(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return request.headers.get("X-Version")


class ByField(SaidViewSet):
    versioning_class = FieldVersioning


class OrderOfValues(SaidViewSet):
    def says(self, request: Any) -> Any:
        return request.GET.getlist("ordering")


class AskedFor(SaidViewSet):
    def says(self, request: Any) -> Any:
        return request.query_params.get("title")


class ClosedAskedFor(ClosedQueryMixin, AskedFor):
    def get_query_parameters(self) -> list[Parameter]:
        return [*super().get_query_parameters(), Text(name="title", longest=20)]


class ChoosesItsVersion(SaidViewSet):
    def determine_version(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return request.headers.get("X-Version"), None


class InZone(SaidViewSet):
    def says(self, request: Any) -> Any:
        return timezone.localtime(MOMENT).isoformat()


class InLanguage(SaidViewSet):
    def says(self, request: Any) -> Any:
        return gettext("Yes")


class OfZoneFieldKey(ListKey):
    zone = bits.HeadersKeyBit(["X-Zone"])


class InZoneOfField(InZone):
    list_cache_key_func = OfZoneFieldKey()


def zone_middleware(get_response: Any) -> Any:
    """As Django's documentation has it, by a cookie; and by a field of the request."""

    def middleware(request: Any) -> Any:
        zone = request.COOKIES.get("mytz") or request.headers.get("X-Zone", "UTC")
        with timezone.override(ZoneInfo(zone)):
            return get_response(request)

    return middleware


def language_middleware(get_response: Any) -> Any:
    """As Django's own leaves the request, for a reason of its own."""

    def middleware(request: Any) -> Any:
        translation.activate(request.headers.get("X-Lang") or request.headers.get("Accept-Language") or "en")
        request.LANGUAGE_CODE = translation.get_language()
        return get_response(request)

    return middleware


class LinkedDataRenderer(JSONRenderer):
    media_type = "application/ld+json"


class LinkedViewSet(TagViewSet):
    renderer_classes = [JSONRenderer, LinkedDataRenderer]


class FieldNegotiation(DefaultContentNegotiation):
    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        chosen = renderers["X-Linked" in request.headers]
        return chosen, chosen.media_type


class LinkedByFieldViewSet(LinkedViewSet):
    content_negotiation_class = FieldNegotiation


class ChoosesItsRenderers(LinkedViewSet):
    def get_renderers(self) -> Any:
        return [LinkedDataRenderer() if "HTTP_X_LINKED" in self.request.META else JSONRenderer()]


class OfTenantKey(ListKey):
    headers = bits.HeadersKeyBit(["X-Tenant"])
    captures = bits.UpdatedAtKeyBit("tags")


class OfTenant(SaidViewSet):
    list_cache_key_func = OfTenantKey()

    def says(self, request: Any) -> Any:
        return request.headers.get("X-Tenant")


class Varying:
    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        names = request.query_params.get("by", "X-Tenant")
        return Response({"says": request.headers.get("X-Tenant")}, headers={"Vary": names})


class VaryingViewSet(CacheResponseAndETAGMixin, Varying, viewsets.GenericViewSet[Tag]):
    permission_classes: Any = []
    list_cache_key_func: Any = ListKey()


class VaryingAtLast(SaidViewSet):
    """Says what its answer varies by where REST framework completes it."""

    def says(self, request: Any) -> Any:
        return request.headers.get("X-Tenant")

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        patch_vary_headers(final, ["X-Tenant"])
        return final


class VaryingByItsHeaders(SaidViewSet):
    def says(self, request: Any) -> Any:
        self.headers["Vary"] = "X-Tenant"
        return request.headers.get("X-Tenant")


class VaryingOfTenant(VaryingViewSet):
    list_cache_key_func = OfTenantKey()


class TenantBit(bits.KeyBitBase):  # type: ignore[misc]
    """As `HeadersKeyBit`, but nobody can tell which header it is."""

    def get_data(self, request: Any, **exchange: Any) -> str:
        return str(request.headers.get("X-Tenant"))


class OfTenantBitKey(ListKey):
    tenant = TenantBit()


class OfTenantBit(OfTenant):
    list_cache_key_func = OfTenantBitKey()


@closed
class PathBit(bits.KeyBitBase):  # type: ignore[misc]
    def get_data(self, request: Any, **exchange: Any) -> str:
        return str(request.path)


class OfPathKey(ListKey):
    path = PathBit()


class OfPath(SaidViewSet):
    list_cache_key_func = OfPathKey()


class OfAddressKey(ListKey):
    address = bits.RequestMetaKeyBit(["REMOTE_ADDR"])


class OfAddress(SaidViewSet):
    list_cache_key_func = OfAddressKey()


class Linking(SaidViewSet):
    def says(self, request: Any) -> Any:
        return request.build_absolute_uri()


class OriginKey(ListKey):
    origin = bits.OriginKeyBit()


class ByOrigin(Linking):
    list_cache_key_func = OriginKey()


class HostKey(ListKey):
    host = bits.HeadersKeyBit(["Host"])


class ClosedByOrigin(ClosedQueryMixin, ByOrigin):
    def get_query_parameters(self) -> list[Parameter]:
        return [*super().get_query_parameters(), Text(name="title", longest=20)]


class ByHost(Linking):
    list_cache_key_func = HostKey()


class Robot:
    """A user of a class of its own, with an id that a person has as well."""

    pk = id = 1
    is_authenticated = True


class ByRobot(BaseAuthentication):
    def authenticate(self, request: Request) -> Any:
        return (Robot(), None) if "X-Robot" in request.headers else None


class OfWhom(SaidViewSet):
    authentication_classes = [ByRobot]

    def says(self, request: Any) -> Any:
        return type(request.user).__name__


class Machine:
    """A user whose primary key is no `id`, or who has none."""

    is_authenticated = True

    def __init__(self, name: str, pk: str | None = None) -> None:
        self.name, self.pk = name, pk


class ByMachine(BaseAuthentication):
    """A field names a machine; a badge is nobody's in particular."""

    def authenticate(self, request: Request) -> Any:
        name, badge = request.headers.get("X-Machine"), request.headers.get("X-Badge")
        if name:
            return Machine(name, request.headers.get("X-Serial")), None
        return (AnonymousUser(), badge) if badge else None


class Member:
    """A user who is nobody until confirmed."""

    pk = id = 1
    _meta = User._meta

    def __init__(self, *, is_confirmed: bool) -> None:
        self.is_authenticated = is_confirmed


class ByConfirmation(BaseAuthentication):
    def authenticate(self, request: Request) -> Any:
        confirmed = request.headers.get("X-Confirmed")
        return (Member(is_confirmed=confirmed == "yes"), None) if confirmed else None


class OfConfirmed(SaidViewSet):
    authentication_classes = [ByConfirmation]

    def says(self, request: Any) -> Any:
        return "a secret" if request.user.is_authenticated else "nothing"


@closed
def of_favourite(request: Any, **_: Any) -> str:
    return f"tag:{request.user.first_name}"


class OfFavouriteKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit(of_favourite)


class OfFavourite(SaidViewSet):
    list_cache_key_func: Any = OfFavouriteKey()

    def says(self, request: Any) -> Any:
        return Tag.objects.get(slug=request.user.first_name).name


class Thing:
    """What a converter captures: found by its slug, shown by its title, which others may have."""

    def __init__(self, slug: str) -> None:
        self.slug = slug

    def __str__(self) -> str:
        return "Untitled"


class ThingConverter(SlugConverter):
    def to_python(self, value: str) -> Thing:  # type: ignore[override]
        return Thing(value)


register_converter(ThingConverter, "told-apart-thing")


class OfThing(SaidViewSet):
    def says(self, request: Any) -> Any:
        return self.kwargs["thing"].slug


def token_middleware(get_response: Any) -> Any:
    """As a page needs it that sends forms by itself: each answer brings the token's cookie."""

    def middleware(request: Any) -> Any:
        get_token(request)
        return get_response(request)

    return middleware


def elsewhere_middleware(get_response: Any) -> Any:
    """As a project with one set of addresses for each of several sites has it."""

    def middleware(request: Any) -> Any:
        if "X-Elsewhere" in request.headers:
            request.urlconf = "keybits_elsewhere"
        return get_response(request)

    return middleware


class Guest(AnonymousUser):
    def __init__(self, pk: str) -> None:
        self.pk = pk  # type: ignore[assignment]


class ByGuest(BaseAuthentication):
    def authenticate(self, request: Request) -> Any:
        guest = request.headers.get("X-Guest")
        return (Guest(guest), None) if guest else None


class OfGuest(SaidViewSet):
    authentication_classes = [ByGuest]

    def says(self, request: Any) -> Any:
        return request.user.pk


class OfNamedGuestKey(ListKey):
    guest = bits.HeadersKeyBit(["X-Guest"])


class OfNamedGuest(OfGuest):
    list_cache_key_func = OfNamedGuestKey()


class Composed(SaidViewSet):
    """Answers with what other views do, named in the query."""

    authentication_classes: Any = []

    def says(self, request: Any) -> Any:
        view = {
            "all": TagViewSet,
            "guarded": GuardedViewSet,
            "tenant": OfTenant,
            "tenant-bit": OfTenantBit,
            "machine": OfMachine,
            "varying": VaryingViewSet,
        }[request.query_params["of"]]
        options: Any = (
            {} if view is OfMachine else {"authentication_classes": []}
        )  # that of a session is noticed
        return view.as_view(said, **options)(request._request).data


class OfMachine(SaidViewSet):
    authentication_classes = [ByMachine]

    def says(self, request: Any) -> Any:
        return getattr(request.user, "name", "nobody")


class OfBearerViewSet(SaidViewSet):
    """Goes by what the client shows, as a permission of its own would: by the key they are all anonymous."""

    authentication_classes: Any = []

    def says(self, request: Any) -> Any:
        return request.headers.get("Authorization")


class OfNamedBearerKey(ListKey):
    bearer = bits.HeadersKeyBit(["Authorization"])


class OfNamedBearerViewSet(OfBearerViewSet):
    list_cache_key_func = OfNamedBearerKey()


class OfBadgeViewSet(SaidViewSet):
    authentication_classes = [ByMachine]

    def says(self, request: Any) -> Any:
        return request.auth


class OfCartViewSet(SaidViewSet):
    def says(self, request: Any) -> Any:
        return request.session.get("cart")


class OfTokenViewSet(SaidViewSet):
    def says(self, request: Any) -> Any:
        return get_token(request._request)


class OfCookieViewSet(SaidViewSet):
    def says(self, request: Any) -> Any:
        return request.COOKIES.get("cart")


LOOKS: dict[str, Any] = {
    "whether there are any": bool,
    "how many": len,
    "by comparing them": lambda cookies: cookies != {},
    "by comparing them to be equal": lambda cookies: cookies == {},
    "taking one out": lambda cookies: cookies.pop("cart", None),
    "with a value for want of one": lambda cookies: cookies.setdefault("cart", ""),
    "in reverse": lambda cookies: list(reversed(cookies)),
    "as text": repr,
    "together with others": lambda cookies: cookies | {"b": "1"},
    "in a copy": lambda cookies: cookies.copy(),
    "in a copy of another kind": copy.copy,
    "in a pickle": lambda cookies: pickle.loads(pickle.dumps(cookies)),  # noqa: S301 - its own
    "as a whole": lambda cookies: cookies,
    "as JSON": json.dumps,
    "as keywords": lambda cookies: dict(**cookies),
    "by comparing them to themselves": lambda cookies: [cookies == cookies, {**cookies}],  # noqa: PLR0124
}
"""Ways to look at the cookies of a request, by how they do it."""


class CartBit(bits.KeyBitBase):  # type: ignore[misc]
    def get_data(self, request: Any, **exchange: Any) -> str | None:
        cart: str | None = request.COOKIES.get("cart")
        return cart


class OfCartKey(ListKey):
    cart = CartBit()


class OfCookieByBitViewSet(OfCookieViewSet):
    list_cache_key_func = OfCartKey()


class OfCookieAndCartViewSet(OfCookieByBitViewSet):
    def says(self, request: Any) -> Any:
        return [request.COOKIES.get("theme"), request.session.get("cart")]


class OfMessagesViewSet(SaidViewSet):
    def says(self, request: Any) -> Any:
        return [str(message) for message in messages.get_messages(request._request)]


def tell(request: Any) -> HttpResponse:
    messages.info(request, "Your order is on its way")
    return HttpResponse()


class Named:
    """A user whose primary key is a name, which anybody may choose."""

    is_authenticated = True
    _meta = User._meta

    def __init__(self, name: str) -> None:
        self.pk = name


class ByName(BaseAuthentication):
    def authenticate(self, request: Request) -> Any:
        name = request.headers.get("X-Name")
        return (Named(name), None) if name else None


class OfNamedViewSet(SaidViewSet):
    authentication_classes = [ByName]

    def says(self, request: Any) -> Any:
        return request.user.pk


class ByMethodViewSet(SaidViewSet):
    def says(self, request: Any) -> Any:
        return request.method


class TheOldViewSet(SaidViewSet):
    def says(self, request: Any) -> Any:
        return "old"


class TheNewViewSet(SaidViewSet):
    def says(self, request: Any) -> Any:
        return "new"


class Switch:
    """Leads one address to a view, and later to another one."""

    leads_to: type[SaidViewSet] = TheOldViewSet


def switched(request: Any) -> Any:
    return Switch.leads_to.as_view({"get": "list"})(request)


# --- Permissions --------------------------------------------------------------------------------------------------


class WithKey(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return request.headers.get("X-Api-Key") == "secret"


class OfObjectWithKey(BasePermission):
    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return request.headers.get("X-Api-Key") == "secret"


class OfMember(BasePermission):
    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return bool(request.user.groups.exists()) if request.user else False


@closed
class Readable(BasePermission):
    def has_object_permission(self, request: Request, view: Any, obj: Any) -> bool:
        return request.method in {"GET", "HEAD"}


def demand_key(request: Any, *_: Any) -> None:
    if request.headers.get("X-Api-Key") != "secret":
        raise PermissionDenied


class GuardedViewSet(TagViewSet):
    permission_classes = [WithKey]


class GuardedObjectViewSet(TagViewSet):
    permission_classes = [OfObjectWithKey]


class ChecksItselfViewSet(TagViewSet):
    def check_object_permissions(self, request: Any, obj: Any) -> None:
        if request.headers.get("X-Api-Key") != "secret":
            self.permission_denied(request)


class ChecksAllItselfViewSet(TagViewSet):
    def check_permissions(self, request: Any) -> None:
        if request.headers.get("X-Api-Key") != "secret":
            self.permission_denied(request)


class TurnsAwayViewSet(TagViewSet):
    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.headers.get("X-Api-Key") != "secret":
            self.permission_denied(request)


class DispatchesViewSet(TagViewSet):
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if request.headers.get("X-Api-Key") != "secret":
            return HttpResponseForbidden()
        return super().dispatch(request, *args, **kwargs)


class CombinedViewSet(TagViewSet):
    permission_classes = [IsAuthenticated | OfObjectWithKey]


class GivenViewSet(TagViewSet):
    def get_permissions(self) -> Any:
        return [OfObjectWithKey()]


class OfMemberViewSet(TagViewSet):
    permission_classes = [OfMember]


class ReadableViewSet(TagViewSet):
    permission_classes = [Readable]


# --- What views do ------------------------------------------------------------------------------------------------


class Renames(TagViewSet):
    writes = True

    def get_object(self) -> Any:
        if self.writes:
            Tag.objects.filter(slug=self.kwargs["slug"]).update(name="Not yet committed")
        return super().get_object()


class Counted:
    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response([], headers={"X-Total-Count": "0", "Deprecation": "@1767225600"})


class CountedViewSet(CacheResponseAndETAGMixin, Counted, viewsets.GenericViewSet[Tag]):
    permission_classes: Any = []
    list_cache_key_func = ListKey()


class Elsewhere:
    answer: Any = HttpResponse

    def list(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        made: HttpResponse = self.answer(request.query_params.get("say", "/"))
        return made


class PlainViewSet(CacheResponseAndETAGMixin, Elsewhere, viewsets.GenericViewSet[Tag]):
    permission_classes: Any = []
    list_cache_key_func = ListKey()
    answer = HttpResponse


class TemplateViewSet(PlainViewSet):
    """Its answer is not rendered yet; REST framework leaves that to Django."""

    answer = staticmethod(lambda said: SimpleTemplateResponse(engines["django"].from_string(said)))


class ReplacedViewSet(CacheResponseAndETAGMixin, Counted, viewsets.GenericViewSet[Tag]):
    permission_classes: Any = []
    list_cache_key_func = ListKey()

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        if isinstance(final, Response):
            final.add_post_render_callback(lambda _: HttpResponse("instead"))
        return final


class EmptyViewSet(PlainViewSet):
    answer = staticmethod(lambda status: HttpResponse(status=int(status)))


class RedirectingViewSet(PlainViewSet):
    answer = HttpResponseRedirect


class StreamingViewSet(PlainViewSet):
    answer = StreamingHttpResponse


class AnyCaseViewSet(TagViewSet):
    lookup_field = "slug__iexact"
    lookup_url_kwarg = "slug"


class OwnObjectViewSet(TagViewSet):
    def get_object(self) -> Any:
        return Tag.objects.get(pk=self.kwargs["pk"])


class OwnAnyCaseViewSet(TagViewSet):
    """Finds its object in its own way, by a lookup that is not exact."""

    def get_object(self) -> Any:
        return self.get_queryset().get(slug__iexact=self.kwargs["slug"])


class OfFormerNameViewSet(TagViewSet):
    """Finds its object by a name that it does not have any more."""

    def get_object(self) -> Any:
        return self.get_queryset().get(slug=self.kwargs["slug"].removeprefix("former-"))


class AnyCaseKey(DefaultObjectKeyConstructor):
    """The row's own scope, beside one that the address spells."""

    updated_at = bits.UpdatedAtKeyBit(lambda kwargs, **_: ["tag:A", f"tag:{kwargs['slug'].lower()}"])


class OwnAnyCaseOfRowViewSet(OwnAnyCaseViewSet):
    object_cache_key_func = AnyCaseKey()


class TheOne:
    """Finds its object by nothing in the URL."""

    def get_object(self) -> Any:
        return Tag.objects.get(slug="a")


class TheOneKey(DefaultObjectKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tag:a")


class TheOneViewSet(RetrieveCacheResponseAndETAGMixin, TheOne, viewsets.ReadOnlyModelViewSet[Tag]):
    serializer_class = TagSerializer
    permission_classes: Any = []
    object_cache_key_func = TheOneKey()


class ByIdKey(DefaultObjectKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tag-id:{pk}")


class OwnObjectByIdViewSet(OwnObjectViewSet):
    object_cache_key_func = ByIdKey()


class OfFunctionKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit(lambda kwargs, **_: f"tag-id:{kwargs['pk']}")


class OwnScope(bits.FreshnessKeyBit):
    def get_scopes(self, params: Any, **exchange: Any) -> list[str]:
        return [f"tag-id:{exchange['kwargs']['pk']}"]


class OfOwnScopeKey(DefaultListKeyConstructor):
    updated_at = OwnScope()


class OfFunctionViewSet(SaidViewSet):
    list_cache_key_func: Any = OfFunctionKey()


class OfOwnScopeViewSet(SaidViewSet):
    list_cache_key_func: Any = OfOwnScopeKey()


class FourADay(SimpleRateThrottle):
    rate = "4/day"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return "once"


class ThrottlesByActionViewSet(TagViewSet):
    def get_throttles(self) -> Any:
        return [FourADay()]


class ThrottledView(ListCacheResponseAndETAGMixin, ListAPIView[Tag]):
    """A generic view has no action, by which it would be known before the handler that it is cached."""

    queryset = Tag.objects.order_by("slug")
    serializer_class = TagSerializer
    pagination_class = None
    permission_classes: Any = []
    throttle_classes = [FourADay]
    list_cache_key_func = ListKey()


said = {"get": "list"}
one = {"get": "retrieve"}
urlpatterns = [
    path("v1/", include(([path("said/", ByNamespace.as_view(said))], "v1"))),
    path("v2/", include(([path("said/", ByNamespace.as_view(said))], "v2"))),
    path("accepted/", ByAccept.as_view(said)),
    path("named/", ByHostName.as_view(said)),
    path("fielded/", ByField.as_view(said)),
    path("all/", TagViewSet.as_view(said)),
    path("some/", TagViewSet.as_view(said, queryset=Tag.objects.filter(slug="a"))),
    path("linked/", LinkedViewSet.as_view(said)),
    path("linked-by-field/", LinkedByFieldViewSet.as_view(said)),
    path("ordered/", OrderOfValues.as_view(said)),
    path("asked-for/", AskedFor.as_view(said)),
    path("closed/", ClosedAskedFor.as_view(said)),
    path("chooses-its-version/", ChoosesItsVersion.as_view(said)),
    path("chooses-its-renderers/", ChoosesItsRenderers.as_view(said)),
    path("zone/", InZone.as_view(said)),
    path("language/", InLanguage.as_view(said)),
    path("zone-of-field/", InZoneOfField.as_view(said)),
    path("tenant/", OfTenant.as_view(said)),
    path("varying/", VaryingViewSet.as_view(said)),
    path("varying-at-last/", VaryingAtLast.as_view(said)),
    path("varying-by-its-headers/", VaryingByItsHeaders.as_view(said)),
    path("varying-tenant/", VaryingOfTenant.as_view(said)),
    path("tenant-bit/", OfTenantBit.as_view(said)),
    path("path-bit/", OfPath.as_view(said)),
    path("address/", OfAddress.as_view(said)),
    path("by-origin/", ByOrigin.as_view(said)),
    path("closed-by-origin/", ClosedByOrigin.as_view(said)),
    path("by-host/", ByHost.as_view(said)),
    path("whom/", OfWhom.as_view(said)),
    path("machine/", OfMachine.as_view(said)),
    path("confirmed/", OfConfirmed.as_view(said)),
    path("favourite/", OfFavourite.as_view(said)),
    path("thing/<told-apart-thing:thing>/", OfThing.as_view(said)),
    path("named-guest/", OfNamedGuest.as_view(said)),
    path("guest/", OfGuest.as_view(said)),
    path("composed/", Composed.as_view(said)),
    path("bearer/", OfBearerViewSet.as_view(said)),
    path("named-bearer/", OfNamedBearerViewSet.as_view(said)),
    path("badge/", OfBadgeViewSet.as_view(said)),
    path("cart/", OfCartViewSet.as_view(said)),
    path("cookie/", OfCookieViewSet.as_view(said)),
    path("cookie-by-bit/", OfCookieByBitViewSet.as_view(said)),
    path("cookie-and-cart/", OfCookieAndCartViewSet.as_view(said)),
    path("messages/", OfMessagesViewSet.as_view(said)),
    path("tell/", tell),
    path("token/", OfTokenViewSet.as_view(said)),
    path("named-user/", OfNamedViewSet.as_view(said)),
    path("switched/", switched),
    path("by-method/", ByMethodViewSet.as_view(said)),
    path("guarded/<slug:slug>/", GuardedViewSet.as_view(one)),
    path("object/<slug:slug>/", GuardedObjectViewSet.as_view(one)),
    path("itself/<slug:slug>/", ChecksItselfViewSet.as_view(one)),
    path("all-itself/<slug:slug>/", ChecksAllItselfViewSet.as_view(one)),
    path("turns-away/<slug:slug>/", TurnsAwayViewSet.as_view(one)),
    path("dispatches/<slug:slug>/", DispatchesViewSet.as_view(one)),
    path("combined/<slug:slug>/", CombinedViewSet.as_view(one)),
    path("given/<slug:slug>/", GivenViewSet.as_view(one)),
    path("given-here/<slug:slug>/", TagViewSet.as_view(one, get_permissions=lambda: [OfObjectWithKey()])),
    path("checked-here/<slug:slug>/", TagViewSet.as_view(one, check_object_permissions=demand_key)),
    path("all-given-here/<slug:slug>/", TagViewSet.as_view(one, get_permissions=lambda: [WithKey()])),
    path("all-checked-here/<slug:slug>/", TagViewSet.as_view(one, check_permissions=demand_key)),
    path("member/<slug:slug>/", OfMemberViewSet.as_view(one)),
    path("readable/<slug:slug>/", ReadableViewSet.as_view(one)),
    path("guarded/", GuardedObjectViewSet.as_view(said)),
    path("renames/<slug:slug>/", Renames.as_view(one)),
    path("counted/", CountedViewSet.as_view(said)),
    path("plain/", PlainViewSet.as_view(said)),
    path("template/", TemplateViewSet.as_view(said)),
    path("replaced/", ReplacedViewSet.as_view(said)),
    path("empty/", EmptyViewSet.as_view(said)),
    path("redirecting/", RedirectingViewSet.as_view(said)),
    path("streaming/", StreamingViewSet.as_view(said)),
    path("any-case/<str:slug>/", AnyCaseViewSet.as_view(one)),
    path("own-any-case/<str:slug>/", OwnAnyCaseViewSet.as_view(one)),
    path("former-name/<str:slug>/", OfFormerNameViewSet.as_view(one)),
    path("any-case-of-row/<str:slug>/", OwnAnyCaseOfRowViewSet.as_view(one)),
    path("the-one/", TheOneViewSet.as_view(one)),
    path("own/<str:pk>/", OwnObjectByIdViewSet.as_view(one)),
    path("of-function/<str:pk>/", OfFunctionViewSet.as_view(said)),
    path("of-own-scope/<str:pk>/", OfOwnScopeViewSet.as_view(said)),
    path("generic/", ThrottledView.as_view()),
    path("throttled/", ThrottlesByActionViewSet.as_view(said)),
    path("throttled-here/", TagViewSet.as_view(said, get_throttles=lambda: [FourADay()])),
]


@pytest.fixture(autouse=True)
def _routes(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["testserver", "v1.example.com", "v2.example.com", "evil.example"]
    settings.KEYBITS_AUDIT = "off"


@pytest.fixture(autouse=True)
def tags() -> list[Tag]:
    return [Tag.objects.create(slug=slug, name=slug.upper()) for slug in "ab"]


def get(url: str, client: Client | None = None, **headers: str) -> Any:
    return (client or Client()).get(
        url, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def says(url: str, **headers: str) -> Any:
    """Return what the answer says, which is asked for twice: made, and kept."""
    answers = [get(url, **headers).json() for _ in range(2)]
    assert answers[0] == answers[1]
    return answers[0]["says"]


class TestVersions:
    def test_of_namespaces_are_told_apart(self) -> None:
        assert [says("/v1/said/"), says("/v2/said/")] == ["v1", "v2"]

    def test_of_an_accept_field_are_told_apart(self) -> None:
        found = [says("/accepted/", Accept=f"application/json; version={version}") for version in "12"]
        assert found == ["1", "2"]

    def test_of_host_names_are_told_apart(self) -> None:
        assert [says("/named/", Host=f"v{number}.example.com") for number in (1, 2)] == ["v1", "v2"]

    def test_that_a_project_finds_in_its_own_way_are_told_apart(self) -> None:
        assert [says("/fielded/", X_Version=version) for version in "12"] == ["1", "2"]

    def test_that_are_none_and_one_of_that_name_are_told_apart(self) -> None:
        assert [says("/fielded/", X_Version="None"), says("/fielded/")] == ["None", None]


class TestRepresentations:
    def test_of_two_routes_to_one_view_with_other_options_are_told_apart(self) -> None:
        assert [len(get(url).json()) for url in ("/all/", "/some/", "/all/", "/some/")] == [2, 1, 2, 1]

    def test_of_captures_with_one_text_are_told_apart(self) -> None:
        assert [says(f"/thing/{slug}/") for slug in "ab"] == ["a", "b"]

    def test_of_one_path_in_two_url_configurations_are_told_apart(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = ModuleType("keybits_elsewhere")
        other.urlpatterns = [path("all/", TagViewSet.as_view(said, queryset=Tag.objects.none()))]  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, other.__name__, other)
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.elsewhere_middleware"]
        for _ in range(2):
            assert [len(get("/all/", **fields).json()) for fields in ({}, {"X_Elsewhere": "1"})] == [2, 0]

    def test_of_renderers_that_share_a_format_are_told_apart(self) -> None:
        kinds = ["application/json", "application/ld+json"] * 2
        assert [get("/linked/", Accept=kind)["Content-Type"] for kind in kinds] == kinds

    def test_of_a_negotiation_of_the_project_s_own_are_told_apart(self) -> None:
        found = [get("/linked-by-field/", **fields)["Content-Type"] for fields in ({}, {"X_Linked": "1"})]
        assert found == ["application/json", "application/ld+json"]

    def test_of_parameters_that_a_renderer_reads_are_told_apart(self) -> None:
        indented = get("/all/", Accept="application/json; indent=4").content
        assert b"\n    " in indented
        assert b"\n" not in get("/all/").content

    def test_of_a_parameter_s_values_in_another_order_are_told_apart(self) -> None:
        assert says("/ordered/?ordering=a&ordering=b") == ["a", "b"]
        assert says("/ordered/?ordering=b&ordering=a") == ["b", "a"]

    def test_of_a_query_in_another_charset_are_nobody_else_s(self) -> None:
        """The same title, but links that repeat the address would have another."""
        for _ in range(2):
            answer = get("/asked-for/?title=caf%E9", Content_Type="text/plain; charset=latin-1")
            assert answer.json()["says"] == "caf\u00e9"
            assert answer["Cache-Control"] == "private, no-store"
        utf_8 = {"Content_Type": "text/plain; charset=UTF-8"}
        assert get("/asked-for/?title=caf%C3%A9", **utf_8)["Cache-Status"] == f"{MISS}; stored"
        assert get("/asked-for/?title=caf%C3%A9")["Cache-Status"] == HIT

    @pytest.mark.parametrize(("query", "charset"), [("", "latin-1"), ("?title=caf%C3%A9", "unknown-8")])
    def test_are_the_same_where_a_charset_changes_nothing(self, query: str, charset: str) -> None:
        """There is nothing to read by it, or it is none that Django knows."""
        field = f"text/plain; charset={charset}"
        assert get(f"/asked-for/{query}", Content_Type=field)["Cache-Status"] == f"{MISS}; stored"
        assert get(f"/asked-for/{query}")["Cache-Status"] == HIT

    def test_of_a_closed_query_are_the_same_in_any_charset(self) -> None:
        for charset in ("latin-1", "utf-8"):
            found = says("/closed/?title=caf%C3%A9", Content_Type=f"text/plain; charset={charset}")
            assert found == "caf\u00e9"

    def test_of_time_zones_are_told_apart(self) -> None:
        found = []
        for zone in ("UTC", "Asia/Tokyo"):
            with timezone.override(ZoneInfo(zone)):
                found.append(says("/zone/"))
        assert found == ["2026-01-02T12:00:00+00:00", "2026-01-02T21:00:00+09:00"]

    def test_of_two_views_at_one_address_are_told_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By whichever class makes them: the handler may be one that both inherit."""
        assert [says("/switched/") for _ in range(2)] == ["old", "old"]
        monkeypatch.setattr(Switch, "leads_to", TheNewViewSet)
        assert says("/switched/") == "new"

    def test_of_users_of_two_classes_with_one_id_are_told_apart(self) -> None:
        class Person(Robot): ...

        assert says("/whom/", X_Robot="1") == "Robot"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ByRobot, "authenticate", lambda *_: (Person(), None))
            assert says("/whom/") == "Person"

    def test_of_users_whose_primary_key_is_no_id_are_told_apart(self) -> None:
        for name in "ab":
            assert says("/machine/", X_Machine=name, X_Serial=name) == name
            assert get("/machine/", X_Machine=name, X_Serial=name)["Cache-Status"] == HIT

    def test_of_a_user_who_has_been_nobody_are_not_everybody_s(self) -> None:
        assert says("/confirmed/", X_Confirmed="no") == "nothing"
        assert says("/confirmed/", X_Confirmed="yes") == "a secret"
        assert says("/confirmed/") == "nothing"

    def test_of_a_user_who_has_changed_are_made_from_other_scopes(self) -> None:
        user, client = User.objects.create(username="ann", first_name="a"), Client()
        client.force_login(user)
        assert [get("/favourite/", client).json()["says"] for _ in range(2)] == ["A", "A"]
        User.objects.update(first_name="b")
        assert get("/favourite/", client).json()["says"] == "B"
        assert get("/favourite/", client)["Cache-Status"] == HIT

    def test_of_users_without_a_primary_key_are_not_kept(self) -> None:
        assert [says("/machine/", X_Machine=name) for name in "ab"] == ["a", "b"]
        assert get("/machine/", X_Machine="a")["Cache-Status"] == MISS

    def test_for_whom_shows_credentials_that_are_nobody_s_are_private(self) -> None:
        for _ in range(2):
            assert get("/machine/", X_Badge="1")["Cache-Control"] == "private, no-store"
        assert "public" in get("/machine/")["Cache-Control"]


class TestWhatLeadsToNoUser:
    """Nobody is signed in, so that all are one by the key."""

    def test_is_nobody_else_s_answer(self) -> None:
        assert says("/bearer/") is None
        assert [says("/bearer/", Authorization=f"Key {each}") for each in "ab"] == ["Key a", "Key b"]
        assert says("/bearer/") is None
        assert get("/bearer/", Authorization="Key a")["Cache-Status"] == "keybits; fwd=bypass"

    def test_is_kept_where_the_key_names_it(self) -> None:
        assert [says("/named-bearer/", Authorization=f"Key {each}") for each in "ab"] == ["Key a", "Key b"]
        answer = get("/named-bearer/", Authorization="Key a")
        assert (answer["Cache-Status"], answer["Cache-Control"]) == (HIT, "private, no-store")

    def test_is_kept_where_the_key_names_what_it_is_a_guest_by(self) -> None:
        assert [says("/named-guest/", X_Guest=each) for each in "ab"] == ["a", "b"]
        assert get("/named-guest/", X_Guest="a")["Cache-Status"] == HIT

    def test_is_nobody_else_s_answer_by_a_field_of_the_project_s_own(self) -> None:
        assert [says("/badge/", X_Badge=each) for each in "ab"] == ["a", "b"]
        assert says("/badge/") is None

    def test_is_nobody_else_s_answer_where_it_is_a_guest(self) -> None:
        assert [says("/guest/", X_Guest=each) for each in "ab"] == ["a", "b"]
        assert says("/guest/") is None
        assert get("/guest/", X_Guest="a")["Cache-Control"] == "private, no-store"

    def test_is_nobody_else_s_answer_where_it_is_in_the_session(self) -> None:
        for cart in "ab":
            client = Client()
            session = client.session
            session["cart"] = cart
            session.save()
            client.cookies["sessionid"] = session.session_key or ""
            assert [get("/cart/", client).json()["says"] for _ in range(2)] == [cart, cart]
            assert "Cookie" in get("/cart/", client)["Vary"]
        assert says("/cart/") is None
        assert get("/cart/")["Cache-Control"] == "private, no-store"

    def test_is_nobody_else_s_answer_where_it_is_in_a_cookie(self) -> None:
        for _ in range(2):
            assert [get("/cookie/", Cookie=f"cart={cart}").json()["says"] for cart in "ab"] == ["a", "b"]
        assert get("/cookie/", Cookie="cart=a")["Cache-Control"] == "private, no-store"

    @pytest.mark.parametrize("look", LOOKS)
    @pytest.mark.parametrize("renderer", [JSONRenderer, OrjsonRenderer], ids=["json", "orjson"])
    def test_is_nobody_else_s_answer_however_it_is_found_among_the_cookies(
        self, monkeypatch: pytest.MonkeyPatch, look: str, renderer: Any
    ) -> None:
        monkeypatch.setattr(OfCookieViewSet, "renderer_classes", [renderer])
        monkeypatch.setattr(OfCookieViewSet, "says", lambda _, request: LOOKS[look](request.COOKIES))
        with_one, with_none = LOOKS[look]({"cart": "a"}), LOOKS[look]({})
        assert with_one != with_none
        for _ in range(2):
            assert get("/cookie/", Cookie="cart=a").json()["says"] == with_one
            assert get("/cookie/").json()["says"] == with_none

    def test_is_found_in_a_cookie_that_the_view_itself_has_changed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def says(_: Any, request: Any) -> list[Any]:
            request.COOKIES["cart"] += "b"
            request.COOKIES.update(seen="yes")
            return [request.COOKIES.pop("cart"), dict(request.COOKIES)]

        monkeypatch.setattr(OfCookieViewSet, "says", says)
        assert get("/cookie/", Cookie="cart=a").json()["says"] == ["ab", {"seen": "yes"}]

    def test_is_kept_where_a_bit_may_name_the_cookie(self) -> None:
        assert [says("/cookie-by-bit/", Cookie=f"cart={cart}") for cart in "ab"] == ["a", "b"]
        assert get("/cookie-by-bit/", Cookie="cart=a")["Cache-Status"] == HIT

    def test_is_not_kept_where_a_bit_may_name_the_cookie_and_the_session_is_asked_as_well(self) -> None:
        told = [get("/cookie-and-cart/", Cookie="theme=dark")["Cache-Status"] for _ in range(2)]
        assert told == [MISS, MISS]

    def test_is_nobody_else_s_answer_where_it_is_a_message(self, settings: Settings) -> None:
        settings.MESSAGE_STORAGE = global_settings.MESSAGE_STORAGE
        client = Client()
        client.get("/tell/")
        assert client.cookies["messages"].value
        assert get("/messages/", client).json()["says"] == ["Your order is on its way"]
        assert get("/messages/").json()["says"] == []

    def test_is_nobody_else_s_answer_where_it_is_a_csrf_token(self) -> None:
        told = []
        for secret in ("a" * 32, "b" * 32):
            answer = get("/token/", Cookie=f"csrftoken={secret}")
            assert _does_token_match(answer.json()["says"], secret)
            assert answer.cookies["csrftoken"].value == secret
            told.append(answer["Cache-Status"])
        assert told == [MISS, MISS]

    def test_is_kept_where_a_csrf_token_was_given_before_it_and_brings_the_cookie(
        self, settings: Settings
    ) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.token_middleware"]
        client = Client()
        client.force_login(User.objects.create_user("reader"))
        answers = [get("/all/", client) for _ in range(2)]
        assert [answer["Cache-Status"].split("; ")[-1] for answer in answers] == ["stored", "hit"]
        assert all(answer.cookies["csrftoken"].value for answer in answers)

    def test_is_not_whoever_calls_himself_by_the_name_for_nobody(self) -> None:
        """`anonymous` is what drf-extensions calls nobody."""
        assert says("/named-user/", X_Name="anonymous") == "anonymous"
        assert says("/named-user/") is None
        assert "public" in get("/named-user/")["Cache-Control"]

    def test_a_session_that_nobody_looks_into_keeps_nothing_from_being_kept(self) -> None:
        fields = {"Cookie": "sessionid=gone"}
        assert [get("/all/", **fields)["Cache-Status"] for _ in range(2)] == [f"{MISS}; stored", HIT]


def test_what_head_is_answered_is_what_get_would_be() -> None:
    assert int(Client().head("/by-method/")["Content-Length"]) == len(b'{"says":"GET"}')
    answer = get("/by-method/")
    assert (answer.json(), answer["Cache-Status"]) == ({"says": "GET"}, HIT)


class TestProcessesOfTests:
    """Each has databases of its own, and all have the store that the settings name, as a server beside them has."""

    @pytest.mark.parametrize("url", ["/all/", "/tenant/"], ids=["closed key", "open key"])
    def test_show_nothing_that_another_has_kept(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert [get(url)["Cache-Status"] for _ in range(2)] == [f"{MISS}; stored", HIT]
        monkeypatch.setattr(os, "getpid", lambda: 0)
        assert get(url)["Cache-Status"] == f"{MISS}; stored"

    def test_share_no_entry_with_a_server(self, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
        settings.KEYBITS_RELAY = "off"  # which a server has running, here for all tests that follow
        get("/all/")
        monkeypatch.delattr(mail, "outbox")
        assert get("/all/")["Cache-Status"] == f"{MISS}; stored"


class TestOrigins:
    def test_are_told_apart_where_a_bit_names_them(self, settings: Settings) -> None:
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        settings.USE_X_FORWARDED_HOST = True
        assert says("/by-origin/") == "http://testserver/by-origin/"
        assert says("/by-origin/", X_Forwarded_Proto="https") == "https://testserver:80/by-origin/"
        assert says("/by-origin/", X_Forwarded_Host="evil.example") == "http://evil.example/by-origin/"
        assert get("/by-origin/")["Cache-Status"] == HIT

    def test_are_told_apart_where_the_client_sends_no_host(self, settings: Settings) -> None:
        settings.USE_X_FORWARDED_PORT = True
        for port in ("8000", "9000"):
            assert says("/by-origin/", X_Forwarded_Port=port) == f"http://testserver:{port}/by-origin/"

    @pytest.mark.parametrize("query", ["utm_source=me&title=a", "title=%61&_=1", "format=json&title=a"])
    def test_have_no_links_that_repeat_what_does_not_count(self, query: str) -> None:
        """Or the next client would be sent on with it, from the same entry."""
        assert says(f"/closed-by-origin/?{query}") == "http://testserver/closed-by-origin/?title=a"

    def test_are_not_told_apart_by_the_host_field_alone(self) -> None:
        get("/by-host/")
        assert get("/by-host/")["Cache-Status"] != HIT

    def test_that_no_bit_names_are_told_to_the_log_once(self, caplog: pytest.LogCaptureFixture) -> None:
        exchange._warn.cache_clear()
        for _ in range(3):
            assert get("/by-host/")["Cache-Status"] == MISS
        assert [record.getMessage() for record in caplog.records if record.name == exchange.__name__] == [
            "ByHost is not kept: it holds the Host, and no OriginKeyBit is in its key"
        ]


@pytest.mark.usefixtures("translated")
class TestLanguagesAndTimeZones:
    """Chosen by what no Vary names, they are nobody's but who has chosen them: see `docs/keys.md`."""

    @pytest.fixture(autouse=True)
    def _middleware(self, settings: Settings) -> Iterator[None]:
        locale = "django.middleware.locale.LocaleMiddleware"
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, locale, f"{__name__}.zone_middleware"]
        yield
        translation.deactivate()

    def test_a_language_that_a_cookie_has_chosen_is_private(self) -> None:
        for _ in range(2):
            german = get("/language/", Cookie="django_language=de", Accept_Language="en")
            assert (german.json()["says"], german["Cache-Control"]) == ("Ja", "private, no-store")
            english = get("/language/", Cookie="django_language=en", Accept_Language="de")
            assert (english.json()["says"], english["Cache-Control"]) == ("Yes", "private, no-store")

    def test_a_language_that_the_field_for_it_has_chosen_is_everybody_s(self) -> None:
        for _ in range(2):
            german = get("/language/", Accept_Language="de")
            assert german.json()["says"] == "Ja"
            assert "public" in german["Cache-Control"]
            assert "Accept-Language" in german["Vary"]

    @pytest.mark.parametrize("field", ["X-Lang", "Accept-Language"])
    def test_a_language_that_is_chosen_as_django_s_middleware_does_is_private_but_for_its_own_reasons(
        self, settings: Settings, field: str
    ) -> None:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "Locale" not in name]
        settings.MIDDLEWARE += [f"{__name__}.language_middleware"]
        answer = get("/language/", **{field: "de"})
        assert answer.json()["says"] == "Ja"
        assert ("public" in answer["Cache-Control"]) == (field == "Accept-Language")

    def test_a_language_that_a_step_of_the_project_s_own_has_chosen_is_private(
        self, settings: Settings
    ) -> None:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "Locale" not in name]
        assert "public" in get("/language/")["Cache-Control"]
        with translation.override("de"):
            assert get("/language/")["Cache-Control"] == "private, no-store"
            assert "public" in get("/by-origin/")["Cache-Control"]  # a host for each language, say

    @pytest.mark.parametrize("fields", [{"Cookie": "mytz=Asia/Tokyo"}, {"X_Zone": "Asia/Tokyo"}], ids=str)
    def test_a_time_zone_that_nobody_knows_the_reason_of_is_private(self, fields: dict[str, str]) -> None:
        for _ in range(2):
            answer = get("/zone/", **fields)
            assert answer.json()["says"] == "2026-01-02T21:00:00+09:00"
            assert answer["Cache-Control"] == "private, no-store"
        assert "public" in get("/zone/")["Cache-Control"]

    def test_a_time_zone_of_a_field_that_a_bit_names_is_everybody_s(self) -> None:
        answer = get("/zone-of-field/", X_Zone="Asia/Tokyo")
        assert "public" in answer["Cache-Control"]
        assert "X-Zone" in answer["Vary"]


class TestVary:
    def test_names_accept_where_it_is_looked_at(self) -> None:
        for _ in range(2):
            assert get("/linked/")["Vary"] == "Accept, Accept-Encoding"
        etag = get("/linked/")["ETag"]
        assert get("/linked/", If_None_Match=etag)["Vary"] == "Accept, Accept-Encoding"

    def test_names_the_headers_of_the_key(self) -> None:
        assert says("/tenant/", X_Tenant="acme") == "acme"
        assert says("/tenant/", X_Tenant="rival") == "rival"
        assert get("/tenant/", X_Tenant="acme")["Vary"] == "Accept, X-Tenant, Accept-Encoding"

    def test_of_the_view_s_own_is_obeyed_here_too(self) -> None:
        """RFC 9111 section 4.1."""
        assert [says("/varying/", X_Tenant=tenant) for tenant in ("acme", "rival")] == ["acme", "rival"]
        for name in (
            "X-Tenant",
            "Cookie",
            "Accept-Language",
        ):  # the user and the language are not all of these
            answer = get(f"/varying/?by={name}")
            assert (answer["Cache-Status"], answer["Cache-Control"]) == (MISS, "private, no-store")

    @pytest.mark.parametrize("url", ["/varying-at-last/", "/varying-by-its-headers/"])
    def test_that_completes_the_answer_is_obeyed_too(self, url: str) -> None:
        assert [says(url, X_Tenant=tenant) for tenant in ("acme", "rival")] == ["acme", "rival"]
        assert get(url)["Cache-Control"] == "private, no-store"

    @pytest.mark.parametrize(
        "url", ["/varying-tenant/", "/varying/?by=Accept,+accept-encoding,+Authorization"]
    )
    def test_of_what_is_told_apart_keeps_nothing_from_being_kept(self, url: str) -> None:
        get(url)
        assert get(url)["Cache-Status"] == HIT

    @pytest.mark.parametrize(
        "url",
        [
            *("/address/", "/tenant-bit/", "/fielded/", "/linked-by-field/"),
            *("/chooses-its-version/", "/chooses-its-renderers/"),
        ],
    )
    def test_cannot_name_what_nobody_knows_and_nobody_else_keeps_that(self, url: str) -> None:
        for _ in range(2):
            answer = get(url)
            assert answer["Cache-Control"] == "private, no-store"
        assert answer["Cache-Status"] == HIT

    def test_need_not_name_what_is_said_to_be_closed(self) -> None:
        get("/path-bit/")
        assert (answer := get("/path-bit/"))["Cache-Status"] == HIT
        assert "public" in answer["Cache-Control"]


class TestViewsThatAskOthers:
    @pytest.mark.parametrize(
        ("of", "fields"),
        [
            ("guarded", {"X_Api_Key": "secret"}),
            ("tenant", {"X_Tenant": "acme"}),
            ("tenant-bit", {"X_Tenant": "acme"}),
            ("varying", {"X_Tenant": "acme"}),
            ("machine", {"X_Machine": "a", "X_Serial": "a"}),
        ],
    )
    def test_keep_nothing_that_depends_on_what_their_own_key_lacks(
        self, of: str, fields: dict[str, str]
    ) -> None:
        url = f"/composed/?of={of}"
        theirs, others = get(url, **fields), get(url)
        assert theirs.json() != others.json()
        assert theirs["Cache-Control"] == "private, no-store"

    def test_keep_what_does_not(self) -> None:
        get("/composed/?of=all")
        assert get("/composed/?of=all")["Cache-Status"] == HIT


class TestPermissions:
    @pytest.mark.parametrize(
        "url",
        ["/object/a/", "/combined/a/", "/given/a/", "/itself/a/", "/given-here/a/", "/checked-here/a/"],
    )
    def test_of_an_object_are_asked_each_time(self, url: str) -> None:
        assert get(url).status_code in REFUSED
        for _ in range(2):
            allowed = get(url, X_Api_Key="secret")
            assert (allowed.status_code, allowed["Cache-Control"]) == (200, "private, no-store")
        assert get(url).status_code in REFUSED
        assert get(url, If_None_Match=allowed["ETag"]).status_code in REFUSED

    def test_of_an_object_that_are_taken_back_are_gone(self, client: Client) -> None:
        user = User.objects.create_user("member")
        user.groups.add(Group.objects.create(name="members"))
        client.force_login(user)
        assert [get("/member/a/", client).status_code for _ in range(2)] == [200, 200]
        user.groups.clear()
        assert get("/member/a/", client).status_code in REFUSED

    @pytest.mark.parametrize(
        "url",
        [
            *("/guarded/a/", "/all-itself/a/", "/turns-away/a/", "/dispatches/a/"),
            *("/all-given-here/a/", "/all-checked-here/a/"),
        ],
    )
    def test_that_look_at_a_field_keep_the_answer_from_caches_in_front(self, edge: None, url: str) -> None:
        for _ in range(2):
            answer = get(url, X_Api_Key="secret")
            assert answer["Cache-Control"] == "private, no-store"
            assert "Surrogate-Control" not in answer
        assert answer["Cache-Status"] == HIT  # whoever is let in is shown the same
        assert get(url).status_code in REFUSED

    def test_that_are_said_to_be_closed_cost_nothing(self) -> None:
        get("/readable/a/")
        answer = get("/readable/a/")
        assert (answer["Cache-Status"], "public" in answer["Cache-Control"]) == (HIT, True)

    def test_of_objects_are_not_asked_of_a_list(self) -> None:
        get("/guarded/")
        assert get("/guarded/")["Cache-Status"] == HIT


@pytest.fixture
def edge(settings: Settings) -> None:
    settings.KEYBITS_PURGERS = {
        "edge": {"BACKEND": "keybits.purge.varnish.XkeyPurger", "servers": ["http://127.0.0.1:9"]}
    }


class TestWhatIsNotCommitted:
    def test_is_kept_for_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Under ATOMIC_REQUESTS, as here in a transaction around it all, a view may write and be undone."""
        with transaction.atomic():
            assert get("/renames/a/").json()["name"] == "Not yet committed"
            transaction.set_rollback(True)
        monkeypatch.setattr(Renames, "writes", False)
        assert get("/renames/a/").json()["name"] == "A"


class TestAnswers:
    def test_keep_the_fields_that_the_view_has_set(self) -> None:
        for _ in range(2):
            answer = get("/counted/")
            assert (answer["X-Total-Count"], answer["Deprecation"]) == ("0", "@1767225600")
        assert answer["Cache-Status"] == HIT
        assert get("/counted/", If_None_Match=answer["ETag"])["X-Total-Count"] == "0"

    def test_that_are_replaced_as_they_are_rendered_are_replaced(self) -> None:
        assert get("/replaced/").content == b"instead"

    @pytest.mark.parametrize("url", [f"/{kind}/?say=hello" for kind in ("plain", "streaming", "template")])
    def test_that_are_not_rest_framework_s_are_passed_on(self, url: str) -> None:
        for _ in range(2):
            answer = get(url)
            assert answer.getvalue() == b"hello"
            assert answer["Cache-Status"] == MISS

    @pytest.mark.parametrize("status", [204, 304])
    def test_that_have_no_content_have_no_length(self, status: int) -> None:
        """RFC 9110 section 8.6."""
        answer = get(f"/empty/?say={status}")
        assert (answer.status_code, answer.has_header("Content-Length")) == (status, False)

    def test_that_lead_elsewhere_are_passed_on(self) -> None:
        assert get("/redirecting/?say=/all/")["Location"] == "/all/"

    def test_of_a_lookup_that_no_row_tells_are_shown_and_not_kept(self) -> None:
        for slug in ("A", "a"):
            answer = get(f"/any-case/{slug}/")
            assert (answer.json()["slug"], answer["Cache-Status"]) == ("a", MISS)


class TestSpellings:
    def test_of_what_a_view_finds_in_its_own_way_are_kept_in_the_one_of_databases(
        self, tags: list[Tag]
    ) -> None:
        plain, odd = f"/own/{tags[0].pk}/", f"/own/0{tags[0].pk}/"
        assert get(plain)["Cache-Status"].endswith("stored")
        assert get(odd)["Cache-Status"] == MISS

    @pytest.mark.parametrize("url", ["/own-any-case/A/", "/former-name/former-a/"])
    def test_of_a_row_that_the_key_names_in_another_way_are_shown_and_not_kept(
        self, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A change of the row would not have ended the answer."""
        assert [get(url)["Cache-Status"] for _ in range(2)] == [MISS] * 2
        assert (
            "a change of the row that it found ends tag:a, and its key spells that differently" in caplog.text
        )

    @pytest.mark.parametrize("url", ["/own-any-case/a/", "/former-name/a/", "/any-case-of-row/A/"])
    def test_of_a_row_that_the_key_names_are_kept(self, url: str) -> None:
        assert [get(url)["Cache-Status"] for _ in range(2)][1] == HIT

    def test_of_what_no_address_names_are_no_matter(self) -> None:
        assert get("/the-one/")["Cache-Status"].endswith("stored")

    @pytest.mark.parametrize("name", ["of-function", "of-own-scope"])
    def test_of_any_capture_have_to_be_plain_where_the_project_s_own_code_names_the_scopes(
        self, name: str
    ) -> None:
        assert get(f"/{name}/1/")["Cache-Status"].endswith("stored")
        for spelling in ("01", "1_0", "AAAAAAAA-0000-4000-8000-000000000000"):
            assert get(f"/{name}/{spelling}/")["Cache-Status"] == MISS


@pytest.mark.parametrize("url", ["/throttled/", "/throttled-here/"])
def test_throttles_that_a_view_makes_itself_count_what_is_computed_once(url: str) -> None:
    """Four a day: four that are computed, and hits between them."""
    statuses = [get(f"{url}?page={number // 2}").status_code for number in range(8)]
    assert statuses == [200] * 8
    assert get(f"{url}?page=more").status_code == 429


def test_throttles_of_a_generic_view_count_every_request_once() -> None:
    statuses = [get(f"/generic/?page={number // 2}").status_code for number in range(5)]
    assert statuses == [200] * 4 + [429]
