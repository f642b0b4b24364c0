"""RFC 9110, sections 8.6 to 8.8: what an answer says of its content, its address and its version."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from conformance.columns import Column
from conformance.matrix import absent, expect, row

SECTION = "RFC 9110: content, address and validators"
LIST, DETAIL, OTHER = "screenshots/", "galleries/a/", "screenshots/1/"
TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')
NO_DATE = "sends no Last-Modified"


def tagged(at: Column, target: str = DETAIL) -> str:
    """Return the entity tag of a 200."""
    reply = at.ask(target)
    expect(reply.status == 200, reply.status)
    expect(reply["ETag"], "no ETag")
    return reply["ETag"]


def opaque(tag: str) -> str:
    return tag.removeprefix("W/")


def dated(at: Column, target: str = DETAIL) -> str:
    """Return the Last-Modified of a 200."""
    date = at.ask(target)["Last-Modified"]
    absent(not date, NO_DATE)
    return date


@row(SECTION)
def content_length_is_that_of_the_content(at: Column) -> None:
    """8.6. Content-Length is the number of bytes of the content."""
    reply = at.ask(LIST)
    expect(
        reply["Content-Length"] == str(len(reply.body)),
        f"Content-Length: {reply['Content-Length'] or 'none'}",
    )


@row(SECTION)
def content_length_of_304_is_not_another(at: Column) -> None:
    """8.6. A 304 has no Content-Length but that of the 200."""
    tag = tagged(at)
    reply = at.ask(DETAIL, ("If-None-Match", opaque(tag)))
    expect(reply.status == 304, reply.status)
    expect(
        reply["Content-Length"] in {"", at.ask(DETAIL)["Content-Length"]},
        f"Content-Length: {reply['Content-Length']}",
    )


@row(SECTION)
def content_type_names_json(at: Column) -> None:
    """8.3. Content-Type names the media type of the content."""
    reply = at.ask(LIST)
    expect(reply["Content-Type"].startswith("application/json"), reply["Content-Type"] or "none")


@row(SECTION)
def content_location_answers_the_same(at: Column) -> None:
    """8.7. A GET of the Content-Location gives the same representation."""
    reply = at.ask("screenshots/?page_size=3&page=2")
    absent(not reply["Content-Location"], "sends no Content-Location")
    there = at.ask(reply["Content-Location"])
    expect((there.status, there.body) == (200, reply.body), there.status)


@row(SECTION)
def content_location_is_one_for_all_spellings(at: Column) -> None:
    """8.7. Permutations of one query have one Content-Location."""
    one, other = at.ask("screenshots/?page=2&page_size=3"), at.ask("screenshots/?page_size=3&page=2")
    absent(not one["Content-Location"], "sends no Content-Location")
    expect(one["Content-Location"] == other["Content-Location"], other["Content-Location"])


@row(SECTION)
def a_200_has_an_entity_tag(at: Column) -> None:
    """8.8.3. A 200 has an entity tag, and it is well formed."""
    for target in (LIST, DETAIL):
        expect(TAG.fullmatch(tagged(at, target)), "malformed")


@row(SECTION)
def the_same_content_keeps_its_tag(at: Column) -> None:
    """8.8.1. A tag stays while nothing is written."""
    expect(tagged(at) == tagged(at), "another tag")


@row(SECTION)
def another_content_has_another_tag(at: Column) -> None:
    """8.8.1. Content that a save has changed has another tag."""
    before = at.ask(OTHER)
    at.rename("changed once")
    after = at.ask(OTHER)
    expect((before["ETag"] != after["ETag"]) == (before.body != after.body), "same tag, other content")


@row(SECTION)
def codings_have_tags_of_their_own(at: Column) -> None:
    """8.8.3.3. Two codings of one content never share a strong tag."""
    plain, coded = at.ask(LIST), at.ask(LIST, ("Accept-Encoding", "gzip"))
    absent(not coded["Content-Encoding"], "has no content codings")
    expect(coded["ETag"] != plain["ETag"] or coded["ETag"].startswith("W/"), "the same strong tag")


@row(SECTION)
def one_strong_tag_is_one_sequence_of_bytes(at: Column) -> None:
    """8.8.1. Two answers with one strong tag have the same bytes, gzip's included."""
    one, other = (at.ask(LIST, ("Accept-Encoding", "gzip")) for _ in range(2))
    weak = one["ETag"].startswith("W/")
    expect(weak or one["ETag"] != other["ETag"] or one.body == other.body, "one tag, other bytes")


@row(SECTION)
def last_modified_is_not_later_than_date(at: Column) -> None:
    """8.8.2.1. Last-Modified is never later than Date."""
    at.rename("changed again")
    reply = at.ask(OTHER)
    absent(not reply["Last-Modified"], NO_DATE)
    dates = [parsedate_to_datetime(reply[name]) for name in ("Last-Modified", "Date")]
    expect(dates[0] <= dates[1], "later")


@row(SECTION)
def two_changes_within_a_second_are_told_apart(at: Column) -> None:
    """8.8.2.2. Of two changes right after each other, the date of the first does not make the second a 304."""
    for number in range(10):
        at.rename(f"first {number}")
        date = dated(at, OTHER)
        at.rename(f"second {number}")
        reply = at.ask(OTHER, ("If-Modified-Since", date))
        expect(reply.status == 200, reply.status)


@row(SECTION)
def date_is_sent(at: Column) -> None:
    """6.6.1. Answers carry Date, 304 included."""
    for reply in (at.ask(LIST), at.ask(LIST, ("If-None-Match", "*"))):
        expect(reply["Date"], f"no Date on {reply.status}")
