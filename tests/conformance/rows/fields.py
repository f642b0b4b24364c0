"""Fields of other specifications: links, problems, what the cache did, and what is said to caches in front alone."""

from __future__ import annotations

import json
import re

from conformance.columns import Column
from conformance.matrix import absent, expect, row
from conformance.rows.caching import directives
from conformance.rows.methods import unmodified
from conformance.rows.validators import DETAIL, LIST, opaque, tagged
from conformance.wire import Reply

SECTION = "RFC 8288, 9457, 9211, 9213, 9875 and No-Vary-Search"
PRIVATE = "galleries/hidden/"
LINK = re.compile(r'<([^<>\s]*)>((?:\s*;\s*[a-z]+="?[^",;]*"?)*)')
STATUS = re.compile(
    r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
    r"(; *(hit|stored|collapsed|fwd=[a-z-]+|fwd-status=\d{3}|ttl=-?\d+|(key|detail)=(\"[^\"]*\"|[A-Za-z0-9:/-]+)))*"
)
NO_VARY = r'(key-order|params(=\(("[^"]*" ?)*\))?|except=\(("[^"]*" ?)*\))'
TARGETED = ("CDN-Cache-Control", "Surrogate-Control")
KEYS = ("Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups")


def _feature(at: Column, name: str, target: str = LIST) -> Reply:
    reply = at.ask(target)
    absent(not reply[name], f"sends no {name}")
    return reply


def _problems(at: Column) -> None:
    kind = at.ask("galleries/none/")["Content-Type"]
    absent(not kind.startswith("application/problem+json"), "has no problem details")


# --- RFC 8288 -----------------------------------------------------------------------------------------------


def _links(reply: Reply) -> dict[str, str]:
    return {
        relation.strip('"'): target
        for target, parameters in LINK.findall(reply["Link"])
        for relation in re.findall(r'rel=("[^"]*"|[a-z]+)', parameters)
    }


@row(SECTION)
def link_is_well_formed(at: Column) -> None:
    """RFC 8288, 3. Link is a list of targets in angle brackets, each with a rel."""
    field = _feature(at, "Link")["Link"]
    expect(re.fullmatch(rf"{LINK.pattern}(?:\s*,\s*{LINK.pattern})*", field), field)
    expect(len(_links(at.ask(LIST))) == len(LINK.findall(field)), field)


@row(SECTION)
def link_targets_answer(at: Column) -> None:
    """RFC 8288, 3.1. Each target of Link is there."""
    _feature(at, "Link")
    for target in _links(at.ask("screenshots/?page_size=4")).values():
        expect(at.ask(target).status == 200, target)


@row(SECTION)
def link_next_is_the_next_page(at: Column) -> None:
    """RFC 8288, 3.3. `next` leads to another page, whose `prev` leads back."""
    _feature(at, "Link")
    first = at.ask("screenshots/?page_size=4&page=1")
    second = at.ask(_links(first).get("next", "nowhere/"))
    expect(second.status == 200 and second.body != first.body, second.status)
    expect(at.ask(_links(second).get("prev", "nowhere/")).body == first.body, "prev leads elsewhere")


# --- RFC 9457 -----------------------------------------------------------------------------------------------


@row(SECTION)
def problems_have_their_members(at: Column) -> None:
    """RFC 9457, 3.1. A problem has `type`, `title` and its own `status`."""
    _problems(at)
    for target in ("galleries/none/", "nowhere/", "screenshots/?nonsense=1"):
        reply = at.ask(target)
        members = json.loads(reply.body)
        expect(members.keys() >= {"type", "title", "status"}, sorted(members))
        expect(members["status"] == reply.status, members["status"])


@row(SECTION)
def every_error_is_a_problem(at: Column) -> None:
    """RFC 9457, 3. Errors of preconditions, methods, negotiation, credentials and Hosts are problems as well."""
    _problems(at)
    for reply in (
        at.ask(LIST, ("If-Match", '"another"')),
        at.ask(LIST, method="PUT"),
        at.ask(LIST, ("Accept", "image/png")),
        at.ask(LIST, ("Accept-Encoding", "*;q=0")),
        at.ask(LIST, ("Authorization", "Token nonsense")),
        at.ask(LIST, ("Host", "evil.example")),
        at.ask("galleries/;x"),
    ):
        expect(reply.status >= 400, reply.status)
        expect(
            reply["Content-Type"] == "application/problem+json", f"{reply.status}: {reply['Content-Type']}"
        )


@row(SECTION)
def problems_are_no_store(at: Column) -> None:
    """RFC 9457, 5, and RFC 9111, 5.2.2.5. No problem is stored: it says what one client did."""
    _problems(at)
    for target in ("galleries/none/", "nowhere/", "screenshots/?nonsense=1"):
        expect("no-store" in directives(at.ask(target)), at.ask(target)["Cache-Control"])


# --- RFC 9211 -----------------------------------------------------------------------------------------------


@row(SECTION)
def cache_status_is_well_formed(at: Column) -> None:
    """RFC 9211, 2. Cache-Status is a list of caches with the parameters there are."""
    field = _feature(at, "Cache-Status")["Cache-Status"]
    expect(STATUS.fullmatch(field), field)


@row(SECTION)
def cache_status_says_miss_and_hit(at: Column) -> None:
    """RFC 9211, 2.1 and 2.2. `fwd` where the view was asked, then `hit`."""
    _feature(at, "Cache-Status")
    target = at.fresh()
    first, second = (at.ask(target)["Cache-Status"] for _ in range(2))
    expect("fwd=" in first and "; hit" not in first, first)
    expect("; hit" in second and "fwd=" not in second, second)


@row(SECTION)
def cache_status_of_a_304(at: Column) -> None:
    """RFC 9211, 2. A 304 says it too."""
    _feature(at, "Cache-Status")
    expect("; hit" in unmodified(at)["Cache-Status"], "not said")


# --- RFC 9213 -----------------------------------------------------------------------------------------------


@row(SECTION)
def targeted_fields_are_dictionaries(at: Column) -> None:
    """RFC 9213, 2.1. A targeted field is a Dictionary whose ages are Integers."""
    reply = _feature(at, "CDN-Cache-Control")
    for name in TARGETED:
        for key, value in directives(reply, name).items():
            expect(
                re.fullmatch(r"[a-z*][a-z0-9_.*-]*", key) and (not value or value.isdigit()), f"{key}={value}"
            )


@row(SECTION)
def targeted_fields_stand_on_304(at: Column) -> None:
    """RFC 9213, 2.2. A 304 has the targeted fields of the 200: it refreshes them."""
    reply, again = _feature(at, "CDN-Cache-Control", DETAIL), unmodified(at)
    for name in (*TARGETED, *KEYS):
        expect(again[name] == reply[name], name)


@row(SECTION)
def targeted_fields_are_for_public_answers(at: Column) -> None:
    """RFC 9213, 2. No answer to credentials, error or private gallery has a targeted field or a key."""
    _feature(at, "CDN-Cache-Control")
    for reply in (
        at.ask(LIST, at.token),
        at.ask(LIST, at.session),
        at.ask(PRIVATE, at.token),
        at.ask(PRIVATE),
        at.ask("galleries/none/"),
        at.ask("nowhere/"),
        at.ask("screenshots/?nonsense=1"),
        at.ask(LIST, ("If-Match", '"another"')),
    ):
        found = [name for name in (*TARGETED, *KEYS) if reply[name]]
        expect(not found, f"{reply.status} with {', '.join(found)}")


@row(SECTION)
def browsers_ask_whatever_the_edge_holds(at: Column) -> None:
    """RFC 9213, 2.2. What a targeted cache may hold for long, other caches do not take for it."""
    reply = _feature(at, "CDN-Cache-Control")
    expect(int(directives(reply, "CDN-Cache-Control")["max-age"]) > 0, "held by nobody")
    expect(directives(reply).get("max-age") == "0", reply["Cache-Control"])


# --- RFC 9875 and the keys of vendors -----------------------------------------------------------------------


@row(SECTION)
def cache_groups_are_strings(at: Column) -> None:
    """RFC 9875, 2. Cache-Groups is a List of Strings: caches need read no more than 32, of 32 characters."""
    groups = _feature(at, "Cache-Groups")["Cache-Groups"].split(", ")
    expect(all(re.fullmatch(r'"[\x20\x21\x23-\x5b\x5d-\x7e]{1,32}"', group) for group in groups), "malformed")
    expect(len(groups) <= 32, f"{len(groups)} groups")


@row(SECTION)
def a_list_and_its_member_share_a_group(at: Column) -> None:
    """RFC 9875, 2.1. A list and what it lists share a group, so that one change can end both."""
    listed = _feature(at, "Cache-Groups", "galleries/a/screenshots/")["Cache-Groups"].split(", ")
    member = at.ask("screenshots/1/")["Cache-Groups"].split(", ")
    own = set(listed) & set(member) - set(at.ask("tags/x/")["Cache-Groups"].split(", "))
    expect(set(listed) & set(member) and own, "none but the one of everything")


@row(SECTION)
def keys_tell_no_names(at: Column) -> None:
    """RFC 9875, 5. Groups and keys tell nobody what a private thing is called."""
    reply = _feature(at, "Cache-Groups", "galleries/a/")
    for name in KEYS:
        expect(not re.search(r"galler|screenshot|hidden|:", reply[name]), name)


# --- No-Vary-Search -----------------------------------------------------------------------------------------


def _ignored(at: Column) -> list[str]:
    field = _feature(at, "No-Vary-Search")["No-Vary-Search"]
    return re.findall(r'"([^"]+)"', field)


@row(SECTION)
def no_vary_search_is_well_formed(at: Column) -> None:
    """No-Vary-Search, 3. The field is a Dictionary of `key-order`, `params` and `except`."""
    field = _feature(at, "No-Vary-Search")["No-Vary-Search"]
    expect(re.fullmatch(f"{NO_VARY}(, *{NO_VARY})*", field), field)


@row(SECTION)
def no_vary_search_is_true(at: Column) -> None:
    """No-Vary-Search, 4. The parameters that it names, and their order, change neither content nor tag."""
    names = _ignored(at)
    plain = at.ask("screenshots/?page_size=3&page=2")
    for query in ("page=2&page_size=3", *(f"{name}=word&page_size=3&page=2" for name in names)):
        reply = at.ask(f"screenshots/?{query}")
        expect((reply.body, reply["ETag"]) == (plain.body, plain["ETag"]), query)


@row(SECTION)
def no_vary_search_stands_on_304(at: Column) -> None:
    """No-Vary-Search, 4. A 304 has it as the 200 has."""
    reply = _feature(at, "No-Vary-Search", DETAIL)
    again = at.ask(DETAIL, ("If-None-Match", opaque(tagged(at))))
    expect(again["No-Vary-Search"] == reply["No-Vary-Search"], "another")
