"""What is said of keybits' mixins where they, or a class of the project's own behind them, would do nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from keybits import drf
from keybits.constructors import DefaultObjectKeyConstructor
from keybits.drf import (
    CacheResponseAndETAGMixin,
    ClosedMembersMixin,
    ClosedQueryMixin,
    CreateETAGMixin,
    ListCacheResponseAndETAGMixin,
    ProjectedListMixin,
)
from keybits.drf.bulk import BulkCreateMixin, BulkMixin

OF_SERIALIZERS = {"ClosedMembersMixin"}
NAMES = sorted({name for name in drf.__all__ if name.endswith("Mixin")} - OF_SERIALIZERS)
MIXINS = [BulkCreateMixin, BulkMixin, *(getattr(drf, name) for name in NAMES)]


@pytest.mark.parametrize("mixin", MIXINS)
def test_a_view_that_lists_a_mixin_too_late_is_refused(mixin: type[Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Late has \w+ before .+ would never run"):
        type("Late", (ModelViewSet, mixin), {})
    type("Early", (mixin, ModelViewSet), {})


def test_so_is_a_serializer() -> None:
    with pytest.raises(ImproperlyConfigured, match="Late has Serializer before ClosedMembersMixin"):
        type("Late", (Serializer, ClosedMembersMixin), {})


def test_so_is_one_that_is_too_late_by_what_it_inherits() -> None:
    base = type("Base", (ProjectedListMixin,), {})
    with pytest.raises(ImproperlyConfigured, match="Late has ListModelMixin before ProjectedListMixin"):
        type("Late", (ListModelMixin, base, GenericViewSet), {})


def test_a_method_of_the_project_s_own_may_come_first() -> None:
    class Own(ListCacheResponseAndETAGMixin, ModelViewSet[Any]):
        def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            return Response([])

    assert Own.list is not ListCacheResponseAndETAGMixin.list


@pytest.mark.parametrize(
    ("mixin", "name", "own"),
    [
        (CacheResponseAndETAGMixin, "object_cache_key_func", DefaultObjectKeyConstructor()),
        (CacheResponseAndETAGMixin, "write_serializer_class", Serializer),
        (CacheResponseAndETAGMixin, "get_address", lambda self, instance: ""),
        (CacheResponseAndETAGMixin, "destroy", lambda self, request, *args, **kwargs: Response(status=204)),
        (CreateETAGMixin, "create", lambda self, request, *args, **kwargs: Response(status=201)),
    ],
)
def test_a_view_whose_mixin_hides_what_the_project_defines_behind_it_is_refused(
    mixin: type[Any], name: str, own: Any
) -> None:
    """A class of a project's own that all its views inherit from, with a mixin put before it."""
    base = type("Base", (ModelViewSet,), {name: own})
    with pytest.raises(
        ImproperlyConfigured, match=rf"View has \w+ before Base, whose {name} would never be us"
    ):
        type("View", (mixin, base), {})
    type("View", (mixin, base), {name: own})
    type("View", (base,), {})


@pytest.mark.parametrize("name", ["create", "get_write_serializer_class"])
def test_so_is_one_in_which_another_mixin_calls_on_the_mixin_that_hides_it(name: str) -> None:
    base = type("Base", (ModelViewSet,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(
        ImproperlyConfigured, match=rf"View has \w+ before Base, whose {name} would never be us"
    ):
        type("View", (BulkCreateMixin, CreateETAGMixin, base), {})


def test_what_a_mixin_calls_on_may_be_defined_behind_it() -> None:
    def own(self: Any, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response([])

    names = ("list", "retrieve", "get_object", "initial", "check_throttles", "perform_update", "options")
    base = type("Base", (ModelViewSet,), dict.fromkeys(names, own))
    type("View", (ClosedQueryMixin, CacheResponseAndETAGMixin, base), {})


def test_what_is_only_described_behind_a_mixin_is_not_what_the_project_defines() -> None:
    """drf-spectacular gives the class a method of its own, which calls REST framework's."""

    @extend_schema_view(update=extend_schema(summary="Change it."))
    class Base(ModelViewSet[Any]): ...

    type("View", (CacheResponseAndETAGMixin, Base), {})
    own = type("Own", (ModelViewSet,), {"update": lambda self, request, *args, **kwargs: Response()})
    described = extend_schema_view(update=extend_schema(summary="Change it."))(type("Described", (own,), {}))
    with pytest.raises(ImproperlyConfigured, match="whose update would never be used"):
        type("View", (CacheResponseAndETAGMixin, described), {})


def test_a_mixin_that_is_behind_another_hides_nothing_from_it() -> None:
    base = type("Base", (CreateETAGMixin, ModelViewSet), {"write_serializer_class": Serializer})
    assert type("View", (BulkCreateMixin, base), {}).write_serializer_class is Serializer
