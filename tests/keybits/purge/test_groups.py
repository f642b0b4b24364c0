"""The view that has caches invalidate groups: for those who have the secret key, and for nobody else."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from keybits.purge.groups import BYTES, TOLERANCE, invalidate, secrets
from keybits.purge.webhook import signature, signed

GROUPS = ["aaaaaaaaaaaa", "-_0123456789"]


def ask(body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> HttpResponse:
    headers = signed(next(secrets()), "1", body) if headers is None else headers
    headers = {name: value for name, value in headers.items() if name.startswith("webhook-")}
    return invalidate(RequestFactory().generic(method, "/", body, "application/json", headers=headers))


def asked(groups: Any) -> HttpResponse:
    return ask(json.dumps(groups).encode())


class TestRfc9875Section3:
    def test_the_answer_names_the_groups_in_a_list_of_strings(self) -> None:
        response = asked(GROUPS)
        assert response.status_code == 204
        assert response["Cache-Group-Invalidation"] == '"aaaaaaaaaaaa", "-_0123456789"'

    def test_no_cache_keeps_it(self) -> None:
        assert asked(GROUPS)["Cache-Control"] == "no-store"

    def test_as_many_and_as_long_as_every_cache_reads(self) -> None:
        assert asked([f"{number:032}" for number in range(32)]).status_code == 204

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
    def test_only_a_post_invalidates(self, method: str) -> None:
        response = ask(json.dumps(GROUPS).encode(), method=method)
        assert (response.status_code, response["Allow"]) == (405, "POST")


class TestStrangers:
    def refused(self, headers: dict[str, str], body: bytes = b'["a"]') -> bool:
        response = ask(body, headers)
        assert "Cache-Group-Invalidation" not in response
        assert response["Content-Type"] == "application/problem+json"
        return response.status_code == 403

    def headers(self, secret: bytes = b"", later: float = 0, body: bytes = b'["a"]') -> dict[str, str]:
        timestamp = str(int(time.time() + later))
        given = signature(secret or next(secrets()), "1", timestamp, body)
        return {"webhook-id": "1", "webhook-timestamp": timestamp, "webhook-signature": given}

    def test_those_who_sign_are_none(self) -> None:
        assert ask(b'["a"]', self.headers()).status_code == 204

    def test_without_a_signature(self) -> None:
        assert self.refused({})

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    @pytest.mark.parametrize("value", ["", "0", "ünï", "v1,AAAA", "9" * 400, "1e9"])
    def test_with_something_else_instead(self, name: str, value: str) -> None:
        assert self.refused(self.headers() | {name: value})

    def test_with_a_secret_of_their_own(self) -> None:
        assert self.refused(self.headers(b"theirs"))

    def test_with_the_signature_of_something_else(self) -> None:
        assert self.refused(self.headers(body=b'["b"]'))

    @pytest.mark.parametrize("later", [-TOLERANCE - 60, TOLERANCE + 60])
    def test_with_a_signature_of_another_time(self, later: float) -> None:
        assert self.refused(self.headers(later=later))

    @pytest.mark.parametrize("later", [60 - TOLERANCE, TOLERANCE - 60])
    def test_clocks_may_differ(self, later: float) -> None:
        assert ask(b'["a"]', self.headers(later=later)).status_code == 204

    def test_a_process_that_has_the_old_key_still_is_none(self, settings: Any) -> None:
        headers = self.headers()
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
        assert ask(b'["a"]', headers).status_code == 204
        settings.SECRET_KEY_FALLBACKS = []
        assert self.refused(headers)

    def test_the_secret_is_not_the_secret_key(self, settings: Any) -> None:
        assert settings.SECRET_KEY.encode() not in set(secrets())


class TestBodies:
    @pytest.mark.parametrize(
        "groups",
        [[], {}, "a", None, [1], [["a"]], [""], ["a" * 33], ['a"'], ["é"], ["a\n"], ["a"] * 33, ["a", 'b"']],
    )
    def test_that_are_no_groups(self, groups: Any) -> None:
        response = asked(groups)
        assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 4_000])
    def test_that_are_no_json(self, body: bytes) -> None:
        assert ask(body).status_code == 400

    def test_that_are_too_long_are_not_read_to_the_end(self) -> None:
        response = ask(b" " * (BYTES + 1))
        assert (response.status_code, response["Content-Type"]) == (413, "application/problem+json")
        assert ask(b'["a"]'.ljust(BYTES)).status_code == 204


def test_signatures_are_those_of_standard_webhooks() -> None:
    """By the example that its libraries are tested with."""
    secret = b"1\xf2\x90\xf6\xbf\x06)\x8a\xabO\x08\xd4<?\x08,\xf6H\xa3b\xda-\xa4\xb0"
    given = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert given == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
