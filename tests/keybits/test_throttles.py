"""Rates hold exactly, for whom they are, and refuse nobody when they cannot count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import AnonymousUser, User
from rest_framework.authentication import BaseAuthentication
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle
from rest_framework.views import APIView
from stacks.live import LiveServer
from stacks.servers import Redis

from keybits.drf import throttles
from keybits.drf.throttles import AnonymousThrottle, ScopedThrottle, UserThrottle
from keybits.stores import StoreError, get_store

SEED = """
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from catalog.models import Gallery
Gallery.objects.create(slug="a", title="A")
print(Token.objects.create(user=User.objects.create_user("owner")).key)
"""


class Credentials:
    """What somebody shows who stands for `user`, but is not treated as them."""

    def __init__(self, user: User) -> None:
        self.user = user


class Given(BaseAuthentication):
    """Believes what the test says."""

    def authenticate(self, request: Any) -> Any:
        return request.META.get("given")


class Counting(BaseThrottle):
    """Counts how often it is asked."""

    asked = 0

    def allow_request(self, request: Any, view: Any) -> bool:
        type(self).asked += 1
        return True


class View(APIView):
    authentication_classes = [Given]
    throttle_classes: Any = [AnonymousThrottle, UserThrottle, ScopedThrottle, Counting]
    throttle_scope: str | None = None

    def get(self, request: Any) -> Response:
        return Response()


class Scoped(View):
    throttle_scope = "curate"


@pytest.fixture(autouse=True)
def _rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimpleRateThrottle, "THROTTLE_RATES", {"anon": "2/h", "user": "3/h", "curate": "1/h"})
    Counting.asked = 0


@pytest.fixture
def ask() -> Callable[..., Response]:
    def asked(given: Any = None, view: type[APIView] = View, **environ: Any) -> Response:
        if isinstance(given, User):
            given = (given, None)
        response: Response = view.as_view()(APIRequestFactory().get("/", given=given, **environ))
        return response

    return asked


def statuses(ask: Any, times: int, *args: Any, **options: Any) -> list[int]:
    return [ask(*args, **options).status_code for _ in range(times)]


ONE, OTHER = User(pk=1, username="one"), User(pk=2, username="other")


class TestWhoIsCounted:
    def test_each_address_that_shows_nothing(self, ask: Any) -> None:
        assert statuses(ask, 3) == [200, 200, 429]
        assert [ask(REMOTE_ADDR=f"192.0.2.{host}").status_code for host in range(4)] == [200] * 4

    def test_each_user_wherever_they_are(self, ask: Any) -> None:
        assert [ask(ONE, REMOTE_ADDR=f"192.0.2.{host}").status_code for host in range(4)] == [200] * 3 + [429]
        assert statuses(ask, 1, OTHER) == [200]

    def test_each_user_of_each_class_though_their_keys_are_the_same(self, ask: Any) -> None:
        class Machine:
            pk = ONE.pk
            is_authenticated = True

        for view, refused in ((Scoped, [200, 429]), (View, [200, 429])):  # both count for the rate of users
            for given in (ONE, (Machine(), None)):
                assert statuses(ask, len(refused), given, view) == refused

    def test_somebody_s_credentials_though_they_ask_as_nobody(self, ask: Any) -> None:
        assert statuses(ask, 2, (AnonymousUser(), Credentials(ONE))) == [200, 200]
        assert statuses(ask, 2, ONE) == [200, 429]
        assert statuses(ask, 2) == [200, 200]

    def test_a_scope_apart_for_each_user_and_each_address(self, ask: Any) -> None:
        for given in (ONE, OTHER, None):
            assert statuses(ask, 2, given, Scoped) == [200, 429]
        assert statuses(ask, 1, None, Scoped, REMOTE_ADDR="192.0.2.1") == [200]
        assert statuses(ask, 1, ONE, View) == [200]


class TestRefusal:
    def test_says_when_to_come_back(self, ask: Any) -> None:
        statuses(ask, 2)
        assert 0 < int(ask()["Retry-After"]) <= 3600

    def test_is_counted_by_no_throttle_after_it(self, ask: Any) -> None:
        assert statuses(ask, 5) == [200, 200, 429, 429, 429]
        assert Counting.asked == 2

    def test_prolongs_nothing(self, ask: Any) -> None:
        waits = [
            int(response["Retry-After"])
            for response in (ask() for _ in range(6))
            if response.status_code == 429
        ]
        assert waits == sorted(waits, reverse=True)


class TestWithoutRate:
    def test_nobody_is_counted(self, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            SimpleRateThrottle, "THROTTLE_RATES", {"anon": None, "user": None, "curate": None}
        )
        assert set(statuses(ask, 5)) == set(statuses(ask, 5, ONE, Scoped)) == {200}


class TestOutage:
    def test_of_the_store_refuses_nobody(self, ask: Any, redis_server: Redis) -> None:
        statuses(ask, 3)
        redis_server.kill()
        assert set(statuses(ask, 5)) == {200}
        assert get_store().is_tripped

    def test_is_told_once_and_in_one_line_until_rates_are_counted_again(
        self, ask: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A store that fails at this alone is tried again each time that it does anything else."""
        settings.KEYBITS_STORE_RETRY = 0
        monkeypatch.setattr(throttles._outage, "_told", None)
        with monkeypatch.context() as patch:
            patch.setattr(get_store().store, "take", out_of_reach)
            for _ in range(5):
                assert ask().status_code == 200
                get_store().now()
        ask()
        told = [record for record in caplog.records if record.name == throttles.__name__]
        assert [record.getMessage() for record in told] == [
            "nobody is throttled: out of reach",
            "rates are counted again",
        ]
        assert not any(record.exc_info for record in told)


def out_of_reach(*_: object) -> None:
    raise StoreError("out of reach")


@pytest.mark.parametrize(
    "credentials",
    [True, pytest.param(False, marks=pytest.mark.stack("server"))],
    ids=["of a user, hits included", "of an address"],
)
def test_a_rate_holds_exactly_when_several_processes_count_at_once(
    live_server_process: Callable[..., LiveServer], credentials: bool
) -> None:
    live = live_server_process(
        workers=3, environment={"USER_THROTTLE_RATE": "20/d", "ANON_THROTTLE_RATE": "20/d"}, seed=SEED
    )
    token = live.seeded
    headers = {"Authorization": f"Token {token}"} if credentials else {}

    def ask(number: int) -> int:
        query = "" if credentials else f"?page_size={number + 1}"
        with httpx.Client(base_url=live.url, timeout=60, trust_env=False) as client:
            return client.get(f"/api/v1/galleries/{query}", headers=headers).status_code

    with ThreadPoolExecutor(25) as pool:
        assert Counter(pool.map(ask, range(50))) == {200: 20, 429: 30}
