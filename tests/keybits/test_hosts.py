"""Whatever an answer takes from the Host is noticed, however the request gives it out."""

from __future__ import annotations

from django.http import HttpRequest
from django.test import RequestFactory

from keybits import hosts


def asked() -> HttpRequest:
    return RequestFactory().get("/", headers={"Host": "testserver:666"})


def test_what_was_asked_before_is_noted_where_it_is_asked_again() -> None:
    request = asked()
    request.build_absolute_uri()
    with hosts.noted(request) as noted:
        request.build_absolute_uri()
    assert noted == ["testserver:666"]


def test_what_is_asked_within_is_noted_without_and_on_from_there() -> None:
    request = asked()
    with hosts.noted(request) as outer:
        with hosts.noted(request) as inner:
            request.get_host()
        assert (len(inner), len(outer)) == (1, 1)
        request.get_host()
    assert (len(inner), len(outer)) == (1, 2)


def test_nothing_is_noted_afterwards() -> None:
    request = asked()
    with hosts.noted(request) as noted:
        pass
    request.get_host()
    assert noted == []
