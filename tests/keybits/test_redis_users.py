"""A user of Redis who may do what the documentation tells, and nothing else, over a database that is not the first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django_redis import get_redis_connection
from stacks.servers import Redis

from keybits.stores.near import NearRedisStore
from keybits.stores.redis import RedisStore

pytestmark = pytest.mark.stack("server")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
SCOPES = ("a", "b")


@pytest.fixture(params=[RedisStore, NearRedisStore])
def store(request: pytest.FixtureRequest, redis_server: Redis, settings: Any) -> Iterator[Any]:
    (rule,) = re.findall(r"^ACL SETUSER (.*)$", DOCUMENT.read_text(), re.M)
    admin = get_redis_connection("default")
    name, *rules = rule.replace(">…", ">a:secret").split()
    admin.execute_command("ACL", "SETUSER", name, "reset", *rules)
    location = f"redis://{name}:a%3Asecret@127.0.0.1:{redis_server.port}/7"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": [location]}}
    store = request.param()
    yield store
    store.clear()
    admin.execute_command("ACL", "DELUSER", name)


def test_everything_a_store_does_is_allowed(store: Any) -> None:
    store.vouch(store.now() + 500)
    minted = store.mint(SCOPES)
    assert store.witness(SCOPES) == b"".join(minted)
    assert store.lead("key", SCOPES, "me", 5)[0]
    store.write("key", b"entry", "me")
    assert store.sample(5) == [("key", b"entry")]
    store.open(SCOPES, "writer")
    store.open(SCOPES, "other")
    assert store.mint(SCOPES) == (None, None)
    store.close(SCOPES, "writer")
    store.close(SCOPES, "other")
    assert store.closed(["writer"]) == {"writer"}
    assert store.witness(SCOPES) is None
    assert store.lease("name", "me", 5)
    store.release("name", "me")
    assert [store.take("name", 1, 60)[0] for _ in range(2)] == [0, -1]
    store.note("name", b"value")
    assert store.noted("name") == b"value"


def test_the_keys_of_others_are_not(store: Any) -> None:
    with pytest.raises(Exception, match=r"(?i)no permissions"):
        get_redis_connection("default").get("other")
