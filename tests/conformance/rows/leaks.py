"""What is one person's: never sent to another, nor said to be for everybody; and what Django's advisories are about."""

from __future__ import annotations

import json

from conformance.columns import Column
from conformance.matrix import expect, row
from conformance.rows.caching import for_one_person
from conformance.wire import Reply

SECTION = "Personal answers"
ADVISORIES = "Advisories on Django's cache of 2026"
LIST, PRIVATE = "galleries/", "galleries/hidden/"
CONTENT = "Kept from view"


def _owner_then_anybody(at: Column, target: str, credentials: tuple[str, str]) -> None:
    mine = at.ask(target, credentials)
    expect(CONTENT in mine, "not even for its owner")
    for _ in range(3):
        expect(CONTENT not in at.ask(target), "shown to anybody after its owner had asked")


@row(SECTION)
def a_token_s_answer_is_not_another_s(at: Column) -> None:
    """What an API token was shown is not shown to anybody who asks next: detail."""
    _owner_then_anybody(at, PRIVATE, at.token)


@row(SECTION)
def a_token_s_list_is_not_another_s(at: Column) -> None:
    """What an API token was shown is not shown to anybody who asks next: list."""
    _owner_then_anybody(at, LIST + "?page_size=6", at.token)


@row(SECTION)
def a_session_s_answer_is_not_another_s(at: Column) -> None:
    """What a session was shown is not shown to anybody who asks next: detail."""
    _owner_then_anybody(at, PRIVATE, at.session)


@row(SECTION)
def a_session_s_list_is_not_another_s(at: Column) -> None:
    """What a session was shown is not shown to anybody who asks next: list."""
    _owner_then_anybody(at, LIST + "?page_size=7", at.session)


@row(SECTION)
def anybody_s_answer_is_not_the_owner_s(at: Column) -> None:
    """What anybody was shown is not what the owner gets: the owner sees the private gallery."""
    target = LIST + "?page_size=8"
    for _ in range(3):
        at.ask(target)
    for credentials in (at.token, at.session):
        expect(CONTENT in at.ask(target, credentials), "not shown")


@row(SECTION)
def a_tag_opens_nothing(at: Column) -> None:
    """The tag of a private answer is no key to it: anybody who sends it gets a 404, not a 304."""
    tag = at.ask(PRIVATE, at.token)["ETag"] or '"none"'
    for field in (tag, "*"):
        reply = at.ask(PRIVATE, ("If-None-Match", field))
        expect(reply.status == 404, reply.status)


@row(SECTION)
def private_answers_say_so(at: Column) -> None:
    """An answer to credentials stays with them by `private`, `no-store` or Vary; on 304 too."""
    for credentials in (at.token, at.session):
        first = at.ask(PRIVATE, credentials)
        again = at.ask(PRIVATE, credentials, ("If-None-Match", first["ETag"] or "*"))
        for reply in (first, again):
            expect(for_one_person(reply, credentials), f"{reply.status} says neither, for {credentials[0]}")


@row(SECTION)
def public_answers_set_no_cookie(at: Column) -> None:
    """A public answer that does not vary by Cookie sets none, whatever cookies were sent (RFC 9111, 7.3)."""
    for cookie in ("csrftoken=short", "theme=dark", "messages=x", "a=b; csrftoken=" + "x" * 32):
        reply = at.ask(at.fresh(), ("Cookie", cookie))
        stays = for_one_person(reply, ("Cookie", cookie))
        expect(stays or not reply["Set-Cookie"], f"Set-Cookie after {cookie[:15]}")


@row(SECTION)
def a_forged_session_is_not_kept(at: Column) -> None:
    """A session cookie that is no session's gets the public answer, as nobody's to keep, or as one that varies."""
    reply = at.ask(LIST, ("Cookie", "sessionid=forged"))
    expect(CONTENT not in reply, "shown")
    expect(for_one_person(reply, at.session), "for everybody")


@row(SECTION)
def a_private_thing_is_like_none(at: Column) -> None:
    """To anybody, a private gallery is answered like one that is not there."""
    hidden, none = at.ask(PRIVATE), at.ask("galleries/none/")
    expect((hidden.status, hidden.body) == (none.status, none.body), f"{hidden.status}, told apart")


# --- Advisories ---------------------------------------------------------------------------------------------


def _word(reply: Reply) -> str:
    expect(reply.status == 200, reply.status)
    return str(json.loads(reply.body)["word"])


def _asked_twice(at: Column, name: str, *fields: tuple[str, str]) -> None:
    one, other = (_word(at.ask(f"/probe/{name}/", *fields)) for _ in range(2))
    expect(one != other, "one client's answer was given to the next")


@row(ADVISORIES)
def vary_star_is_not_kept(at: Column) -> None:
    """CVE-2026-6907. An answer that says `Vary: *` is given to nobody else."""
    _asked_twice(at, "star")


@row(ADVISORIES)
def capitals_are_read(at: Column) -> None:
    """CVE-2026-8404. An answer that says `Cache-Control: PRIVATE`, in capitals, is given to nobody else."""
    _asked_twice(at, "capitals")


@row(ADVISORIES)
def authorization_is_told_apart(at: Column) -> None:
    """CVE-2026-35193. An answer to Authorization, without Vary, is not given to who sends none."""
    target = "/probe/user/"
    expect('"user":"owner"' in at.ask(target, at.token), "the owner was not known")
    expect('"user":"owner"' not in at.ask(target), "the owner's answer for anybody")


@row(ADVISORIES)
def blanks_in_vary_are_read(at: Column) -> None:
    """CVE-2026-48587. An answer that sets a cookie and says `Vary: Accept , Cookie `, blanks included, is given to
    nobody else."""
    _asked_twice(at, "padded")


@row(ADVISORIES)
def a_cookie_that_is_set_is_not_kept(at: Column) -> None:
    """CVE-2026-48588. An answer that sets a cookie and varies by Cookie is not kept, whatever cookie came with the
    request."""
    _asked_twice(at, "cookie", ("Cookie", "theme=dark"))


@row(ADVISORIES)
def absent_is_not_empty(at: Column) -> None:
    """CVE-2026-113593. Where an answer varies by a field, an empty field and none are two requests (RFC 9111, 4.1)."""
    target = "/probe/variant/"
    empty, none = at.ask(target, ("X-Variant", "")), at.ask(target)
    expect('"variant":""' in empty, "the empty field was not seen")
    expect('"variant":"none"' in none, "the answer to the empty field")
