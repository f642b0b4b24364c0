"""What is said of keybits' mixins behind REST framework's classes, where they would do nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from rest_framework.mixins import ListModelMixin
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from keybits import drf
from keybits.drf import ClosedMembersMixin, ListCacheResponseAndETAGMixin, ProjectedListMixin
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
