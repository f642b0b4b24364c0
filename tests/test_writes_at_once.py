"""Many writers at once, in processes of their own, against a server with several workers: nobody's change is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from stacks.live import LiveServer

SEED = """
from catalog.models import *
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token
owner = get_user_model().objects.create_user("owner")
Gallery.objects.create(slug="a", title="A", owner=owner)
Screenshot.objects.create(gallery_id=1, title="One", source_url="https://one.example/")
print(Token.objects.create(user=owner).key)
"""
MORE = """
for number in range(40):
    Screenshot.objects.create(gallery_id=1, title=f"Two {number}", source_url="https://two.example/")
"""
UNHURRIED = {"CURATE_THROTTLE_RATE": "1000000/min", "USER_THROTTLE_RATE": "1000000/min"}
PROCESSES, WRITERS = 5, 10
# Each writer reads, waits until all have read, and then adds its mark until that is taken: all at once first, and who
# was refused beside those of the other processes, or most of what is asked would be refused again and again.
WRITER = """
import httpx, threading
from concurrent.futures import ThreadPoolExecutor
ready, start, turn = threading.Barrier({writers} + 1), threading.Event(), threading.Lock()

def is_taken(client, present, mark):
    body = {{"alt": present.json()["alt"] + mark}}
    told = client.patch({target!r}, json=body, headers={{"If-Match": present.headers["etag"]}})
    assert told.status_code in (200, 412), told.text
    return told.status_code == 200

def write(mark):
    with httpx.Client(base_url={url!r}, headers={headers!r}, timeout=60, trust_env=False) as client:
        present = client.get({target!r})
        ready.wait()
        start.wait()
        if is_taken(client, present, mark):
            return 0
        refused = 1
        with turn:
            while not is_taken(client, client.get({target!r}), mark):
                refused += 1
        return refused

with ThreadPoolExecutor({writers}) as pool:
    writing = [pool.submit(write, mark) for mark in {marks!r}]
    ready.wait()
    print("ready", flush=True)
    input()
    start.set()
    print(sum(each.result() for each in writing), flush=True)
"""
CREATOR = """
import httpx, json
with httpx.Client(base_url={url!r}, headers={headers!r}, timeout=60, trust_env=False) as client:
    client.get("/api/v1/")
    print("ready", flush=True)
    input()
    told = client.post({target!r}, json={body!r})
    print(json.dumps([told.status_code, dict(told.headers), told.text]), flush=True)
"""
# Each client has read the same list, and changes all of it on condition that it is still that.
BULK = """
import httpx
with httpx.Client(base_url={url!r}, headers={headers!r}, timeout=60, trust_env=False) as client:
    tag = client.get({target!r}).headers["etag"]
    print("ready", flush=True)
    input()
    fields = {{"If-Match": tag, "X-BULK-OPERATION": "true"}}
    told = client.patch({target!r}, json={{"title": {title!r}}}, headers=fields)
    print(told.status_code, flush=True)
"""
Start = Callable[..., LiveServer]


def set_off(writers: list[Any]) -> list[str]:
    """Let all go once all are ready, and return what each says in the end."""
    for writer in writers:
        line = writer.stdout.readline()
        assert line == "ready\n", line + writer.stdout.read()
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    told = [writer.stdout.readline() for writer in writers]
    for writer, line in zip(writers, told, strict=True):
        rest = writer.stdout.read()
        assert writer.wait() == 0, line + rest
    return told


def test_every_change_that_was_taken_is_there_in_the_end(live_server_process: Start) -> None:
    live = live_server_process(workers=3, environment=UNHURRIED, seed=SEED)
    headers = {"Authorization": f"Token {live.seeded}"}
    target = "/api/v1/screenshots/1/"
    marks = [f"w{number:02d};" for number in range(PROCESSES * WRITERS)]
    writers = [
        live.spawn_client(
            WRITER.format(
                url=live.url, headers=headers, target=target, writers=WRITERS, marks=marks[start::PROCESSES]
            )
        )
        for start in range(PROCESSES)
    ]
    refused = sum(map(int, set_off(writers)))
    final = live.get(target).json()["alt"]
    assert sorted(final.split(";")[:-1]) == sorted(mark.strip(";") for mark in marks)
    assert refused >= len(marks) - 1  # all had read before any wrote


def test_what_is_sent_by_many_under_one_key_is_done_once(live_server_process: Start) -> None:
    live = live_server_process(workers=3, seed=SEED)
    authorization = f"Token {live.seeded}"
    headers = {"Authorization": authorization, "Idempotency-Key": '"only-once"'}
    body = {"gallery": "a", "title": "Two", "source_url": "https://two.example/"}
    code = CREATOR.format(url=live.url, headers=headers, target="/api/v1/screenshots/", body=body)
    told = [json.loads(line) for line in set_off([live.spawn_client(code) for _ in range(6)])]
    assert {status for status, _, _ in told} == {201}, told
    answers = {(fields["etag"], fields["location"], text) for _, fields, text in told}
    assert len(answers) == 1
    assert live.shell("print(Screenshot.objects.count())").strip() == "2"


def test_of_many_who_change_the_same_list_on_one_condition_one_succeeds(live_server_process: Start) -> None:
    live = live_server_process(workers=3, seed=SEED + MORE)
    headers = {"Authorization": f"Token {live.seeded}"}
    target = "/api/v1/galleries/a/screenshots/?domain=two.example"
    titles = [f"title {number}" for number in range(6)]
    given = {"url": live.url, "headers": headers, "target": target}
    told = set_off([live.spawn_client(BULK.format(title=title, **given)) for title in titles])
    statuses = [int(status) for status in told]
    assert sorted(statuses) == [200, *[412] * (len(titles) - 1)]
    shown = {item["title"] for item in live.get(target).json()["results"]}
    assert shown == {titles[statuses.index(200)]}
    assert live.shell("print(BulkOperation.objects.count())").strip() == "1"


@pytest.mark.parametrize(("interface", "status"), [("wsgi", 411), ("asgi", 200)])
def test_a_body_in_chunks_is_never_taken_for_none(
    live_server_process: Callable[..., LiveServer], interface: str, status: int
) -> None:
    """WSGI shows nothing of it, so that a PATCH would change nothing and say 200."""
    live = live_server_process(workers=1, interface=interface, seed=SEED)
    headers = {
        "Authorization": f"Token {live.seeded.split()[-1]}",
        "Content-Type": "application/json",
        "If-Match": "*",
    }
    target, chunks = "/api/v1/screenshots/1/", iter([b'{"title":', b' "Two"}'])
    told = httpx.patch(live.url + target, content=chunks, headers=headers, trust_env=False)
    assert told.status_code == status, told.text
    assert live.get(target).json()["title"] == ("Two" if status == 200 else "One")
