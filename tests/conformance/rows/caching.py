"""RFC 9111: what caches are told of every kind of answer, by fields that do not contradict each other."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from conformance.columns import Column
from conformance.matrix import absent, expect, row
from conformance.rows.validators import DETAIL, LIST
from conformance.wire import Reply

SECTION = "RFC 9111: caching, and RFC 5861"
DIRECTIVE = re.compile(r'[!#$%&\'*+.^_`|~0-9A-Za-z-]+(=("[^"]*"|[^\s",]+))?')
SHARED = ("public", "s-maxage", "must-revalidate")
NOT_WITHOUT_ASKING = {"no-store", "no-cache", "private"}
NO_LIFETIME = "states no lifetime"


def directives(reply: Reply, name: str = "Cache-Control") -> dict[str, str]:
    """Return the directives of the field, in small letters."""
    members = [member.strip().lower() for member in reply[name].split(",") if member.strip()]
    return {key: value for key, _, value in (member.partition("=") for member in members)}


def names(reply: Reply) -> set[str]:
    """Return the field names in Vary, in small letters."""
    return {name.strip().lower() for name in reply["Vary"].split(",")} - {""}


def for_one_person(reply: Reply, credentials: tuple[str, str]) -> bool:
    """Say whether what credentials were shown stays with them, by directive, by Vary, or by section 3.5."""
    found, field = set(directives(reply)), credentials[0].lower()
    if {"private", "no-store"} & found or {field, "*"} & names(reply):
        return True
    return field == "authorization" and not found & set(SHARED)


def kept_by_nobody_else(reply: Reply) -> bool:
    """Say whether no shared cache may show it to another person without asking."""
    found = directives(reply)
    return bool(NOT_WITHOUT_ASKING & set(found)) or found.get("max-age") == "0"


@row(SECTION)
def cache_control_is_well_formed(at: Column) -> None:
    """5.2. Cache-Control is a list of directives."""
    for member in filter(None, at.ask(LIST)["Cache-Control"].split(",")):
        expect(DIRECTIVE.fullmatch(member.strip()), member)


@row(SECTION)
def a_public_answer_says_for_how_long(at: Column) -> None:
    """4.2.2. A public 200 says how long it may be used, so that no cache has to guess."""
    reply = at.ask(LIST)
    said = set(directives(reply)) & {"max-age", "s-maxage", "no-cache", "no-store"} or reply["Expires"]
    absent(not said, NO_LIFETIME)
    age = directives(reply).get("max-age", "0")
    expect(age.isdigit(), f"max-age={age}")


@row(SECTION)
def expires_agrees_with_max_age(at: Column) -> None:
    """5.3. Expires says what max-age says: to caches that know no Cache-Control."""
    reply = at.ask(at.fresh())
    age = directives(reply).get("max-age")
    absent(not (reply["Expires"] and age), NO_LIFETIME)
    expires, date = (parsedate_to_datetime(reply[name]) for name in ("Expires", "Date"))
    left = (expires - date).total_seconds()
    expect(left <= 0 if age == "0" else abs(left - int(str(age))) <= 2, "another time")


@row(SECTION)
def age_is_told(at: Column) -> None:
    """5.1. What is stored and used without asking has an Age that is not above its max-age."""
    target = at.fresh()
    at.ask(target)
    reply = at.ask(target)
    age = directives(reply).get("max-age")
    absent(not age, NO_LIFETIME)
    expect(age == "0" or (reply["Age"].isdigit() and int(reply["Age"]) <= int(str(age))), "no Age")


@row(SECTION)
def an_answer_to_authorization_is_not_shared(at: Column) -> None:
    """3.5. An answer to a request with Authorization has no directive that lets shared caches store it."""
    reply = at.ask(LIST, at.token)
    expect(reply.status == 200, reply.status)
    found = directives(reply)
    allowed = [name for name in SHARED if name in found and not {"private", "no-store"} & set(found)]
    expect(not allowed, ", ".join(allowed))


@row(SECTION)
def an_answer_to_a_session_is_not_shared(at: Column) -> None:
    """7.1. An answer to a session is private, or says that it varies by Cookie."""
    reply = at.ask(LIST, at.session)
    expect(for_one_person(reply, at.session), "shared")


@row(SECTION)
def vary_is_honoured(at: Column) -> None:
    """4.1. An answer that varies by a field is not used for another value of it."""
    target = "/probe/variant/"
    for variant in ("one", "other"):
        reply = at.ask(target, ("X-Variant", variant))
        expect(f'"variant":"{variant}"' in reply, "the other variant's answer")


@row(SECTION)
def a_view_s_own_vary_is_passed_on(at: Column) -> None:
    """4.1. A field that the view says its answer varies by is named to the caches in front: first, and on a hit."""
    for _ in range(2):
        reply = at.ask("/probe/variant/", ("X-Variant", "passed-on"))
        expect(for_one_person(reply, ("X-Variant", "")), "not named")


@row(SECTION)
def vary_names_are_no_duplicates(at: Column) -> None:
    """12.5.5 of RFC 9110. Vary is a list of field names, none of them twice."""
    field = at.ask(LIST)["Vary"]
    members = [name.strip().lower() for name in field.split(",") if name.strip()]
    named = all(re.fullmatch(r"[a-z0-9-]+|\*", name) for name in members)
    expect(named and len(members) == len(set(members)), field)


@row(SECTION)
def not_found_is_not_kept(at: Column) -> None:
    """4.2.2. A 404, which caches may keep by guess, says that they must not."""
    for target in ("galleries/none/", "nowhere/"):
        reply = at.ask(target)
        expect(kept_by_nobody_else(reply), f"Cache-Control: {reply['Cache-Control'] or 'none'}")


@row(SECTION)
def method_not_allowed_is_not_kept(at: Column) -> None:
    """4.2.2. So does a 405."""
    reply = at.ask(DETAIL, method="POST")
    absent(reply.status != 405, f"answers {reply.status}")
    expect(kept_by_nobody_else(reply), f"Cache-Control: {reply['Cache-Control'] or 'none'}")


@row(SECTION)
def unauthenticated_is_not_kept(at: Column) -> None:
    """3.5. An answer to credentials that are wrong is kept by nobody."""
    reply = at.ask(LIST, ("Authorization", "Token nonsense"))
    found = directives(reply)
    expect(not set(SHARED) & set(found) or {"private", "no-store"} & set(found), reply["Cache-Control"])


@row(SECTION)
def a_foreign_host_is_not_kept(at: Column) -> None:
    """4.2.2. The 400 to a foreign Host is kept by nobody, or not cacheable by guess anyway."""
    reply = at.ask(LIST, ("Host", "evil.example"))
    expect(reply.status in {400, 421}, reply.status)
    expect(not set(SHARED) & set(directives(reply)), reply["Cache-Control"])


@row(SECTION)
def a_redirect_is_not_another_s(at: Column) -> None:
    """4.2.2. A permanent redirect leads to a path of this server, whatever the Host's port is."""
    reply = at.ask("galleries", ("Host", "localhost:1337"))
    expect(300 <= reply.status < 400 or reply.status == 404, reply.status)
    expect(":1337" not in reply, reply["Location"])


@row(SECTION)
def stale_answers_are_not_contradicted(at: Column) -> None:
    """RFC 5861. `stale-while-revalidate` and `stale-if-error` are seconds, and not beside `must-revalidate`."""
    reply = at.ask(LIST)
    names = ("stale-while-revalidate", "stale-if-error")
    found = [directives(reply, name) for name in ("Cache-Control", "CDN-Cache-Control", "Surrogate-Control")]
    said = [(one, name) for one in found for name in names if name in one]
    absent(not said, "has neither")
    for one, name in said:
        expect(one[name].isdigit(), f"{name}={one[name]}")
        expect("must-revalidate" not in one, f"{name} beside must-revalidate")
