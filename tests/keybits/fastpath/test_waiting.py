"""Of many who ask the same at once one goes the long way, and what it learns answers the others."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from stacks.ways import Asked, environ_of, scope_of

from catalog.models import Tag
from keybits import bits, fastpath, memory
from keybits.constructors import DefaultListKeyConstructor
from keybits.drf import cache_response_and_etag
from keybits.fastpath import asgi, wsgi
from keybits.stores import StoreError, get_store

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("fast_path_on")]
MANY = 12


class Meeting:
    """Who is on the long way stays there until so many others wait for it."""

    def __init__(self) -> None:
        self.awaited = 0
        self.waiting = threading.Semaphore(0)
        self.served = 0

    def stay(self) -> None:
        self.served += 1
        for _ in range(self.awaited):
            assert self.waiting.acquire(timeout=30), "the others do not wait"
        self.awaited = 0


meeting = Meeting()


class TagKey(DefaultListKeyConstructor):
    updated_at = bits.UpdatedAtKeyBit("tags")


class View(viewsets.GenericViewSet[Tag]):
    key = TagKey()
    throttle_classes = []

    @cache_response_and_etag("key")
    def list(self, request: Request) -> Response:
        meeting.stay()
        return Response({"tags": []})


def unlearnable(request: Any) -> HttpResponse:
    meeting.stay()
    return HttpResponse("for you")


def broken(request: Any) -> HttpResponse:
    meeting.stay()
    raise RuntimeError


urlpatterns = [
    path("list/", View.as_view({"get": "list"})),
    path("unlearnable/", unlearnable),
    path("broken/", broken),
]
handler500 = "keybits.problems.server_error"


class Wsgi:
    module = wsgi

    def ask_at_once(self, targets: list[str]) -> list[int]:
        application = wsgi.FastPath(get_wsgi_application())

        def ask(target: str) -> int:
            told: list[str] = []
            response = application(environ_of(Asked(target)), lambda status, *_: told.append(status))
            b"".join(response)
            getattr(response, "close", lambda: None)()
            return int(told[-1][:3])

        with ThreadPoolExecutor(len(targets)) as threads:
            return list(threads.map(ask, targets))


class Asgi:
    module = asgi

    def ask_at_once(self, targets: list[str]) -> list[int]:
        application = asgi.FastPath(get_asgi_application())

        async def ask(target: str) -> int:
            told: list[Any] = []
            received = iter([{"type": "http.request", "body": b"", "more_body": False}])

            async def receive() -> Any:
                return next(received, None) or await asyncio.Event().wait()

            async def send(message: Any) -> None:
                told.append(message)

            await application(scope_of(Asked(target)), receive, send)
            return int(told[0]["status"])

        async def all_of_them() -> list[int]:
            return await asyncio.gather(*map(ask, targets))

        # In a thread of its own, as under a server: under `async_to_sync` all views would share this one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, all_of_them()).result()


@pytest.fixture(params=[Wsgi, Asgi], ids=["wsgi", "asgi"])
def way(request: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One way in; who begins to wait is counted."""
    global meeting  # noqa: PLW0603 - the views meet here
    settings.ROOT_URLCONF = __name__
    settings.DEBUG_PROPAGATE_EXCEPTIONS = False
    meeting = Meeting()
    waits = request.param.module._awaited

    def counted(departure: Any, *rest: Any) -> Any:
        if departure.leader is not None:
            meeting.waiting.release()
        return waits(departure, *rest)

    monkeypatch.setattr(request.param.module, "_awaited", counted)
    return request.param()


def test_one_goes_and_its_answer_is_for_all(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learn, gone = way.module.FastPath._learn, itertools.count()

    def counted(*given: Any) -> Any:
        next(gone)
        return learn(*given)

    monkeypatch.setattr(way.module.FastPath, "_learn", counted)
    meeting.awaited = MANY - 1
    assert way.ask_at_once(["/list/"] * MANY) == [200] * MANY
    assert (meeting.served, next(gone)) == (1, 1)


def test_who_asks_something_else_does_not_wait(way: Any) -> None:
    meeting.awaited = 1
    assert way.ask_at_once(["/list/", "/list/", "/unlearnable/"]) == [200] * 3
    assert meeting.served == 2


@pytest.mark.parametrize(("target", "status"), [("/unlearnable/", 200), ("/broken/", 500)])
def test_after_an_answer_that_teaches_nothing_the_others_go_themselves(
    way: Any, target: str, status: int
) -> None:
    meeting.awaited = 2
    assert way.ask_at_once([target] * 3) == [status] * 3
    assert meeting.served == 3


def test_nobody_waits_for_what_could_not_be_learnt_the_last_time(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting.awaited = 2
    way.ask_at_once(["/unlearnable/"] * 3)
    together = threading.Barrier(3, timeout=30)
    monkeypatch.setattr(way.module, "PATIENCE", 60)
    monkeypatch.setattr(meeting, "stay", together.wait)
    assert way.ask_at_once(["/unlearnable/"] * 3) == [200] * 3


def test_patience_ends(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader stays until the other two have lost theirs and are on the long way themselves."""
    monkeypatch.setattr(way.module, "PATIENCE", 0.01)
    lost = threading.Semaphore(0)

    def stay() -> None:
        meeting.served += 1
        if meeting.served == 1:
            assert lost.acquire(timeout=30), "it waits for ever"
        else:
            lost.release()

    monkeypatch.setattr(meeting, "stay", stay)
    assert way.ask_at_once(["/unlearnable/"] * 2) == [200] * 2
    known = fastpath.answer_cache()
    assert known is not None
    assert known._departed == {}  # whose patience ended has not called the leader off for others


@pytest.mark.parametrize("way", [Asgi], ids=["asgi"], indirect=True)
def test_nobody_waits_for_a_client_that_reads_slowly(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is read once the second has been."""
    monkeypatch.setattr(asgi, "PATIENCE", 60)
    application = asgi.FastPath(get_asgi_application())
    meeting.awaited = 1

    async def run() -> None:
        second_is_read, told = asyncio.Event(), []

        async def ask(read: Callable[[], Awaitable[Any]]) -> None:
            received = iter([{"type": "http.request", "body": b"", "more_body": False}])

            async def receive() -> Any:
                return next(received, None) or await asyncio.Event().wait()

            async def send(message: Any) -> None:
                await read()
                told.append(message)

            await application(scope_of(Asked("/list/")), receive, send)

        async def at_once() -> None: ...

        first = asyncio.create_task(ask(second_is_read.wait))
        await asyncio.sleep(0)
        await asyncio.wait_for(ask(at_once), 30)
        second_is_read.set()
        await first
        assert [message["status"] for message in told if "status" in message] == [200, 200]

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()


@pytest.mark.parametrize("way", [Asgi], ids=["asgi"], indirect=True)
@pytest.mark.parametrize(
    "begun",
    [
        [],
        [{"type": "http.request", "body": b"", "more_body": True}],
        [{"type": "http.request", "body": b"{", "more_body": True}],
    ],
    ids=["nothing yet", "an empty part", "a part"],
)
def test_nobody_waits_for_who_has_still_to_send_its_content(
    way: Any, monkeypatch: pytest.MonkeyPatch, begun: list[Any]
) -> None:
    """By HTTP/2 a request that names no length may end late, or never (RFC 9113 section 8.1)."""
    monkeypatch.setattr(asgi, "PATIENCE", 0.01)
    application = asgi.FastPath(get_asgi_application())
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def run() -> None:
        asked, ended = asyncio.Event(), asyncio.Event()
        parts, whole = iter(begun), iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def slowly() -> Any:
            if part := next(parts, None):
                return part
            asked.set()
            await ended.wait()
            return {"type": "http.disconnect"}

        async def at_once() -> Any:
            return next(whole, None) or await asyncio.Event().wait()

        slow = asyncio.create_task(application(scope_of(Asked("/list/")), slowly, send))
        await asked.wait()
        await application(scope_of(Asked("/list/")), at_once, send)
        ended.set()
        await slow

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result()
    assert not meeting.waiting.acquire(blocking=False), "it waits"
    assert [message["status"] for message in told if "status" in message] == [200]


@pytest.mark.parametrize("way", [Asgi], ids=["asgi"], indirect=True)
def test_nobody_waits_for_who_left_without_an_answer(way: Any) -> None:
    """A client that goes away has Django give up."""

    async def gives_up(*_: Any) -> None: ...

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    application = asgi.FastPath(get_asgi_application())
    application.application = gives_up  # type: ignore[assignment]
    asyncio.run(application(scope_of(Asked("/list/")), receive, gives_up))
    known = fastpath.answer_cache()
    assert known is not None
    assert known._departed == {}


@pytest.mark.parametrize("way", [Wsgi], ids=["wsgi"], indirect=True)
def test_nobody_waits_for_whom_the_server_could_not_answer(way: Any) -> None:
    def gone(*_: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        wsgi.FastPath(get_wsgi_application())(environ_of(Asked("/list/")), gone)
    known = fastpath.answer_cache()
    assert known is not None
    assert known._departed == {}


@pytest.mark.parametrize("way", [Asgi], ids=["asgi"], indirect=True)
def test_nor_for_whom_an_exception_has_ended(way: Any) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def raises(*_: Any) -> None:
        raise RuntimeError

    application = asgi.FastPath(get_asgi_application())
    application.application = raises  # type: ignore[assignment]
    with pytest.raises(RuntimeError):
        asyncio.run(application(scope_of(Asked("/list/")), receive, raises))
    known = fastpath.answer_cache()
    assert known is not None
    assert known._departed == {}


def test_nobody_waits_where_something_stale_may_be_shown(way: Any) -> None:
    way.ask_at_once(["/list/"])
    known = fastpath.answer_cache()
    assert known is not None
    (address,) = known._targets._slots
    target = known._targets.get(address)
    assert target is not None
    ((context, found),) = target.contexts.items()
    assert known.depart((address, context, ())).leads
    held = memory.entries().get(found.key)
    assert held is not None
    memory.hold(found.key, replace(held.entry, stale=60))
    assert known.depart((address, context, ())).leader is None
    assert known.depart((address, "another", ())).leader is None


def test_landing_twice_leaves_who_departed_meanwhile_on_its_way(way: Any) -> None:
    known = fastpath.answer_cache()
    assert known is not None
    first = known.depart(("a", "b", ()))
    known.land(first, learnt=True)
    second = known.depart(("a", "b", ()))
    known.land(first, learnt=False)
    assert second.leads
    assert known.depart(("a", "b", ())).leader is second.leader


def test_who_lost_patience_lands_for_nobody_but_itself() -> None:
    known = fastpath.AnswerCache()
    first, second = known.depart(QUESTION), known.depart(QUESTION)
    known.land(second, learnt=False, code=200)
    assert first.leader is not None
    assert not first.leader.done()
    assert known.depart(QUESTION).leader is first.leader


def test_what_cannot_be_learnt_in_one_context_is_waited_for_in_another() -> None:
    known = fastpath.AnswerCache()
    address, _, ask = QUESTION
    known.land(known.depart(QUESTION), learnt=False, code=404)
    assert known.depart((address, ("GET", "https"), ask)).leads


def test_what_teaches_nothing_is_remembered_of_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastpath, "MOST_UNLEARNT", 3)
    known = fastpath.AnswerCache()
    for number in range(10):
        known.land(known.depart((number, (), ())), learnt=False, code=404)
        assert len(known._unlearnt) <= 3


QUESTION: fastpath.Question = (("/list/",), ("GET",), ("GET", None))


def test_who_asks_the_same_on_other_conditions_waits_too() -> None:
    """The answer to each is made from the same entry."""
    known = fastpath.AnswerCache()
    first = known.depart(QUESTION)
    assert known.depart((*QUESTION[:2], ("GET", "gzip"))).leader is first.leader


@pytest.mark.parametrize("code", [0, 406, 412, 429, 500, 503])
def test_what_says_nothing_of_the_address_keeps_nobody_from_waiting_the_next_time(code: int) -> None:
    known = fastpath.AnswerCache()
    known.land(known.depart(QUESTION), learnt=False, code=code)
    assert known.depart(QUESTION).leads


def test_an_address_that_has_taught_something_since_is_waited_for_again() -> None:
    known = fastpath.AnswerCache()
    known.land(known.depart(QUESTION), learnt=False, code=404)
    alone = known.depart(QUESTION)
    assert not alone.leads
    known.land(alone, learnt=True, code=200)
    assert known.depart(QUESTION).leads


def test_nobody_waits_while_the_store_is_left_alone() -> None:
    known = fastpath.AnswerCache()
    get_store().trip(StoreError("down"))
    assert not known.depart(QUESTION).leads
    get_store.cache_clear()
