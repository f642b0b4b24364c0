"""What the passing of time changes ends by itself: `expire` gives an entry its latest moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from keybits import bits
from keybits.constructors import KeyConstructor
from keybits.drf import cache_response_and_etag, expire

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Key(KeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tags")


class Clock:
    """The time as keybits sees it."""

    now = NOW

    def time(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "time", found.time)
    return found


def statuses(clock: Clock, *moments: datetime) -> list[str]:
    """Ask at NOW and then at each of these moments, of what is true until NOW + 60 s (and NOW + 90 s)."""

    class View(APIView):
        authentication_classes = ()

        @cache_response_and_etag(Key())
        def get(self, request: Any) -> Response:
            expire(request, NOW + timedelta(seconds=90))
            expire(request, NOW + timedelta(seconds=60))
            expire(request, NOW + timedelta(seconds=75))
            return Response({"published": "soon"})

    view, answers = View.as_view(), []
    for clock.now in (NOW, *moments):
        answers.append(view(APIRequestFactory().get("/"))["Cache-Status"])
    return answers


def test_until_the_first_of_its_moments_it_is_a_hit_and_from_then_on_it_is_not(clock: Clock) -> None:
    before, at = NOW + timedelta(seconds=59), NOW + timedelta(seconds=60)
    assert statuses(clock, before, at) == [
        "keybits; fwd=uri-miss; stored",
        "keybits; hit",
        "keybits; fwd=stale; stored",
    ]
