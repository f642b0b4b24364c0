"""JSON Web Tokens: there where they are turned on, and not otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from descriptions import required
from jsonschema import Draft202012Validator
from stacks.live import Deployments, LiveServer

pytestmark = pytest.mark.stack("embedded")  # no token is in any database

SEED = """
from django.contrib.auth.models import User
from catalog.models import Gallery
owner = User.objects.create_user("owner", password="a long password")
Gallery.objects.create(slug="vault", title="Vault", owner=owner, visibility="private")
"""
WHO = {"username": "owner", "password": "a long password"}
Start = Callable[..., LiveServer]


@pytest.fixture(scope="module")
def turned_on(deployments: Deployments) -> Iterator[LiveServer]:
    """A deployment that gives tokens, shared by those who leave everybody there."""
    with deployments.seeded(SEED, {"JWT": "true", "TOKEN_THROTTLE_RATE": "100/min"}) as live:
        yield live


def post(live: LiveServer, path: str, body: Any) -> Any:
    """Send `body` over a connection of its own: one whose body nobody reads may end with the answer."""
    return live.client.post(f"/api/v1/{path}", json=body, headers={"Connection": "close"})


def vault(live: LiveServer, token: str, scheme: str = "Bearer") -> Any:
    return live.get("/api/v1/galleries/vault/", headers={"Authorization": f"{scheme} {token}"})


def test_off_there_is_nowhere_to_sign_in_and_no_bearer_is_asked(live_server_process: Start) -> None:
    live = live_server_process(workers=1)
    assert post(live, "token/", WHO).status_code == 404
    assert vault(live, "x").status_code == 404
    assert "token/" not in " ".join(live.get("/api/v1/schema/").json()["paths"])


def test_on_a_user_signs_in_reads_what_is_theirs_and_renews(live_server_process: Start) -> None:
    live = live_server_process(
        workers=1, environment={"JWT": "true", "TOKEN_THROTTLE_RATE": "8/d"}, seed=SEED
    )
    given = post(live, "token/", WHO)
    assert given.status_code == 200
    assert given.headers["Cache-Control"] == "private, no-store"
    tokens = given.json()
    seen = vault(live, tokens["access"])
    assert (seen.status_code, seen.headers["Cache-Control"]) == (200, "private, no-store")
    renewed = post(live, "token/refresh/", {"refresh": tokens["refresh"]})
    assert renewed.headers["Cache-Control"] == "private, no-store"
    assert vault(live, renewed.json()["access"]).status_code == 200

    for wrong in ("x", tokens["refresh"], tokens["access"] + "x"):
        refused = vault(live, wrong)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert refused.headers["Content-Type"] == "application/problem+json"
    for body, status in (
        (WHO | {"password": "no"}, 401),
        ({"username": "owner"}, 400),
        ([], 400),
        ("x", 400),
    ):
        refused = post(live, "token/", body)
        assert refused.status_code == status, body
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.headers["Cache-Control"] == "private, no-store"

    live.shell(
        "from django.contrib.auth.models import User\nu = User.objects.get()\nu.set_password('new')\nu.save()"
    )
    assert vault(live, tokens["access"]).status_code == 401
    assert post(live, "token/refresh/", {"refresh": tokens["refresh"]}).status_code == 401
    live.shell("from django.contrib.auth.models import User\nUser.objects.all().delete()")
    refused = post(live, "token/refresh/", {"refresh": tokens["refresh"]})
    assert (refused.status_code, refused.headers["Content-Type"]) == (401, "application/problem+json")
    assert post(live, "token/", WHO).status_code == 429  # the ninth attempt


def test_on_the_scheme_counts_in_any_case(turned_on: LiveServer) -> None:
    token = post(turned_on, "token/", WHO).json()["access"]
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert vault(turned_on, token, scheme).status_code == 200
        assert vault(turned_on, "x", scheme).status_code == 401


@pytest.mark.parametrize("pk", ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", [1], {"id": 1}, 10**30])
def test_on_a_token_of_whom_there_can_be_none_is_refused(turned_on: LiveServer, pk: Any) -> None:
    """Signed with our key, before users had such ids, or by another application."""
    code = (
        "from rest_framework_simplejwt.tokens import AccessToken, RefreshToken\n"
        f"for kind in (AccessToken, RefreshToken):\n    token = kind()\n    token['user_id'] = {pk!r}\n    print(token)"
    )
    access, refresh = turned_on.shell(code).split()
    assert vault(turned_on, access).status_code == 401
    refused = post(turned_on, "token/refresh/", {"refresh": refresh})
    assert (refused.status_code, refused.headers["Content-Type"]) == (401, "application/problem+json")


def test_on_what_is_not_asked_for_is_refused_by_name(turned_on: LiveServer) -> None:
    tokens = post(turned_on, "token/", WHO).json()
    for path, body in (("token/", WHO), ("token/refresh/", {"refresh": tokens["refresh"]})):
        refused = post(turned_on, f"{path}?bogus=2", body)
        assert (refused.status_code, refused.json()["parameter"]) == (400, "bogus")
        refused = post(turned_on, path, body | {"bogus": 1})
        assert (refused.status_code, list(refused.json()["errors"])) == (400, ["bogus"])
        assert post(turned_on, f"{path}?format=json", body).status_code == 200


def test_on_each_answer_is_as_it_is_described(turned_on: LiveServer) -> None:
    schema = turned_on.get("/api/v1/schema/").json()
    tokens = post(turned_on, "token/", WHO).json()
    for path, body in (("token/", WHO), ("token/refresh/", {"refresh": tokens["refresh"]})):
        operation = schema["paths"][f"/api/v1/{path}"]["post"]
        assert [each["name"] for each in operation["parameters"]] == ["format"]
        assert _conforms(schema, operation["requestBody"], body)
        answers = operation["responses"]
        assert {"200", "400", "401", "406", "413", "414", "415", "429", "503"} == set(answers)
        assert {"Cache-Control"} == required(schema, answers["200"]) == required(schema, answers["400"])
        assert {"Cache-Control", "WWW-Authenticate"} == required(schema, answers["401"])
        for status in ("429", "503"):
            assert {"Cache-Control", "Retry-After"} == required(schema, answers[status])
        given = post(turned_on, path, body).json()
        assert _conforms(schema, answers["200"], given)
        assert not _conforms(schema, answers["200"], {name: given[name] for name in list(given)[1:]})


def _conforms(schema: Any, described: Any, body: Any) -> bool:
    described = described["content"]["application/json"]["schema"]
    assert not set(body) - set(
        schema["components"]["schemas"][described["$ref"].rsplit("/")[-1]]["properties"]
    )
    return Draft202012Validator({**schema, **described}).is_valid(body)


def test_on_the_deployment_is_sound_and_its_description_complete(turned_on: LiveServer) -> None:
    described = turned_on.manage("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json")
    schema = json.loads(described)
    assert {"400", "401", "429"} <= set(schema["paths"]["/api/v1/token/"]["post"]["responses"])
    assert {"jwtAuth": []} in schema["paths"]["/api/v1/galleries/"]["get"]["security"]
    anonymous = turned_on.get("/api/v1/galleries/")
    assert (anonymous.status_code, "private" in anonymous.headers["Cache-Control"]) == (200, False)
    turned_on.get("/api/v1/galleries/")
    assert "hit" in turned_on.get("/api/v1/galleries/").headers["Cache-Status"]
