"""RFC 9110, section 13: preconditions, each alone, in their order, and as odd as the grammar lets them be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

from conformance.columns import Column
from conformance.matrix import absent, expect, row
from conformance.rows.validators import DETAIL, NO_DATE, dated, opaque, tagged

SECTION = "RFC 9110: preconditions"
MISSING = "galleries/no-such-gallery/"
LATER = "Fri, 01 Jan 2100 00:00:00 GMT"
EARLIER = "Thu, 01 Jan 2015 00:00:00 GMT"


def status(at: Column, *fields: tuple[str, str], target: str = DETAIL, method: str = "GET") -> int:
    return at.ask(target, *fields, method=method).status


def holds(at: Column, wanted: int, *fields: tuple[str, str], target: str = DETAIL) -> None:
    found = status(at, *fields, target=target)
    expect(found == wanted, found)


# --- If-Match -----------------------------------------------------------------------------------------------


@row(SECTION)
def if_match_of_the_current_tag(at: Column) -> None:
    """13.1.1. If-Match with the current strong tag: 200."""
    tag = tagged(at)
    absent(tag.startswith("W/"), "has weak tags only")
    holds(at, 200, ("If-Match", tag))


@row(SECTION)
def if_match_of_another_tag(at: Column) -> None:
    """13.1.1. If-Match with another tag: 412."""
    holds(at, 412, ("If-Match", '"another"'))


@row(SECTION)
def if_match_of_anything(at: Column) -> None:
    """13.1.1. `If-Match: *` where there is a representation: 200."""
    holds(at, 200, ("If-Match", "*"))


@row(SECTION)
def if_match_compares_strongly(at: Column) -> None:
    """13.1.1. If-Match with the current tag made weak: 412 (strong comparison)."""
    holds(at, 412, ("If-Match", f"W/{opaque(tagged(at))}"))


@row(SECTION)
def if_match_takes_a_list(at: Column) -> None:
    """13.1.1. If-Match with a list that has the current tag: 200."""
    tag = tagged(at)
    holds(at, 200, ("If-Match", f'"one", {tag}, "other"'))


# --- If-None-Match ------------------------------------------------------------------------------------------


@row(SECTION)
def if_none_match_of_the_current_tag(at: Column) -> None:
    """13.1.2. If-None-Match with the current tag: 304."""
    holds(at, 304, ("If-None-Match", tagged(at)))


@row(SECTION)
def if_none_match_compares_weakly(at: Column) -> None:
    """13.1.2. If-None-Match with the current tag made weak, as compressors on the way make it: 304."""
    holds(at, 304, ("If-None-Match", f"W/{opaque(tagged(at))}"))


@row(SECTION)
def if_none_match_of_another_tag(at: Column) -> None:
    """13.1.2. If-None-Match with another tag: 200."""
    holds(at, 200, ("If-None-Match", '"another"'))


@row(SECTION)
def if_none_match_of_anything(at: Column) -> None:
    """13.1.2. `If-None-Match: *`: 304."""
    holds(at, 304, ("If-None-Match", "*"))


@row(SECTION)
def if_none_match_of_a_coding(at: Column) -> None:
    """13.1.2. The tag that came with gzip revalidates with gzip: 304."""
    reply = at.ask(DETAIL, ("Accept-Encoding", "gzip"))
    absent(not reply["Content-Encoding"], "has no content codings")
    holds(at, 304, ("Accept-Encoding", "gzip"), ("If-None-Match", reply["ETag"]))


@row(SECTION)
def a_list_with_spaces(at: Column) -> None:
    """5.6.1. `"one", "other", <current>`: 304."""
    holds(at, 304, ("If-None-Match", f'"one", "other", {tagged(at)}'))


@row(SECTION)
def a_list_without_spaces(at: Column) -> None:
    """5.6.1. `"one",<current>`, without optional whitespace: 304."""
    holds(at, 304, ("If-None-Match", f'"one",{tagged(at)}'))


@row(SECTION)
def a_list_with_tabs(at: Column) -> None:
    """5.6.3. Optional whitespace may be a tab: 304."""
    holds(at, 304, ("If-None-Match", f'"one"\t,\t{tagged(at)}'))


@row(SECTION)
def a_list_with_empty_members(at: Column) -> None:
    """5.6.1.2. Empty members of a list are ignored: 304."""
    holds(at, 304, ("If-None-Match", f", ,{tagged(at)}, ,"))


@row(SECTION)
def a_comma_within_another_tag(at: Column) -> None:
    """8.8.3. A comma within another tag ends nothing: 304."""
    holds(at, 304, ("If-None-Match", f'"one,other", {tagged(at)}'))


@row(SECTION)
def the_current_tag_within_another(at: Column) -> None:
    """8.8.3. The current tag's characters within another tag are no match: 200."""
    inner = opaque(tagged(at)).strip('"')
    holds(at, 200, ("If-None-Match", f'"one,{inner},other"'))


@row(SECTION)
def a_space_within_another_tag(at: Column) -> None:
    """8.8.3. The current tag after a space within another tag is no match: 200."""
    inner = opaque(tagged(at)).strip('"')
    holds(at, 200, ("If-None-Match", f'"one {inner}"'))


@row(SECTION)
def obs_text_within_another_tag(at: Column) -> None:
    """8.8.3. Bytes above 0x7F within another tag end nothing: 304, or 200 where the server withholds such a field (as
    granian does by WSGI)."""
    found = status(at, ("If-None-Match", f'"caf\xc3\xa9\xff", {tagged(at)}'))
    expect(found in {200, 304}, found)


@row(SECTION)
def a_backslash_within_another_tag(at: Column) -> None:
    """8.8.3. A backslash within a tag escapes nothing: 304."""
    holds(at, 304, ("If-None-Match", f'"one\\", {tagged(at)}'))


@row(SECTION)
def two_lines_of_tags(at: Column) -> None:
    """5.3. Two lines of If-None-Match are one list: 304."""
    holds(at, 304, ("If-None-Match", '"one"'), ("If-None-Match", tagged(at)))


@row(SECTION)
def a_long_list(at: Column) -> None:
    """13.1.2. A list of two hundred tags, the current one last: 304."""
    others = ", ".join(f'"tag-{number}"' for number in range(200))
    holds(at, 304, ("If-None-Match", f"{others}, {tagged(at)}"))


@row(SECTION)
def the_case_of_a_tag_counts(at: Column) -> None:
    """8.8.3.2. Tags are compared character by character: another case is another tag, 200."""
    tag = opaque(tagged(at))
    holds(at, 200, ("If-None-Match", tag.swapcase()))


@row(SECTION)
def malformed_tags_are_survived(at: Column) -> None:
    """13.1.2. Malformed lists are no server error."""
    for field in ("abc", '"', '"unclosed', "W/", "\xff", '"a" "b"', ",,,,", 'w/"a"', "W/*", "'a'"):
        for name in ("If-None-Match", "If-Match"):
            found = status(at, (name, field))
            expect(found < 500, f"{found} for {name}: {field!a}")


# --- Dates --------------------------------------------------------------------------------------------------


def _in_three_forms(date: str) -> list[str]:
    moment = parsedate_to_datetime(date)
    return [
        date,
        moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        f"{moment:%a %b} {moment.day:2} {moment:%H:%M:%S %Y}",
    ]


def _settled(at: Column) -> str:
    """Return the Last-Modified of what nobody has changed of late."""
    return dated(at, "galleries/a/")


@row(SECTION)
def if_modified_since_later(at: Column) -> None:
    """13.1.3. If-Modified-Since with a date after the last change: 304."""
    _settled(at)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    holds(at, 304, ("If-Modified-Since", soon))


@row(SECTION)
def if_modified_since_earlier(at: Column) -> None:
    """13.1.3. If-Modified-Since with an earlier date: 200."""
    holds(at, 200, ("If-Modified-Since", EARLIER))


@row(SECTION)
def if_modified_since_in_rfc_850_form(at: Column) -> None:
    """5.6.7. If-Modified-Since as an RFC 850 date: as with the date itself."""
    _settled(at)
    holds(at, 304, ("If-Modified-Since", _in_three_forms("Sun, 06 Nov 2050 08:49:37 GMT")[1]))
    holds(at, 200, ("If-Modified-Since", _in_three_forms(EARLIER)[1]))


@row(SECTION)
def if_modified_since_in_asctime_form(at: Column) -> None:
    """5.6.7. If-Modified-Since as asctime() writes it, the day padded by a space: as with the date itself."""
    _settled(at)
    holds(at, 304, ("If-Modified-Since", _in_three_forms("Sun, 06 Nov 2050 08:49:37 GMT")[2]))
    holds(at, 200, ("If-Modified-Since", _in_three_forms(EARLIER)[2]))


@row(SECTION)
def if_modified_since_malformed(at: Column) -> None:
    """13.1.3. An If-Modified-Since that is no HTTP-date is ignored: 200."""
    for field in ("tomorrow", "2100-01-01T00:00:00Z", "4102444800", "Fri, 31 Feb 2100 00:00:00 GMT", '"tag"'):
        holds(at, 200, ("If-Modified-Since", field))


@row(SECTION)
def if_modified_since_beside_if_none_match(at: Column) -> None:
    """13.1.3. If-Modified-Since beside If-None-Match is ignored: 200."""
    holds(at, 200, ("If-None-Match", '"another"'), ("If-Modified-Since", LATER))


@row(SECTION)
def if_unmodified_since_later(at: Column) -> None:
    """13.1.4. If-Unmodified-Since with a later date, or of what has no date: 200."""
    holds(at, 200, ("If-Unmodified-Since", LATER))


@row(SECTION)
def if_unmodified_since_earlier(at: Column) -> None:
    """13.1.4. If-Unmodified-Since with an earlier date: 412."""
    absent(not at.ask(DETAIL)["Last-Modified"], NO_DATE)
    holds(at, 412, ("If-Unmodified-Since", EARLIER))


@row(SECTION)
def if_unmodified_since_malformed(at: Column) -> None:
    """13.1.4. An If-Unmodified-Since that is no HTTP-date is ignored: 200."""
    holds(at, 200, ("If-Unmodified-Since", "yesterday"))


@row(SECTION)
def if_unmodified_since_beside_if_match(at: Column) -> None:
    """13.1.4. If-Unmodified-Since beside If-Match is ignored: 200."""
    holds(at, 200, ("If-Match", "*"), ("If-Unmodified-Since", EARLIER))


# --- The order ----------------------------------------------------------------------------------------------


@row(SECTION)
def if_match_comes_before_if_none_match(at: Column) -> None:
    """13.2.2. If-Match that fails beside If-None-Match with the current tag: 412."""
    holds(at, 412, ("If-Match", '"another"'), ("If-None-Match", tagged(at)))


@row(SECTION)
def if_none_match_is_asked_after_if_match(at: Column) -> None:
    """13.2.2. If-Match that holds beside If-None-Match with the current tag: 304."""
    holds(at, 304, ("If-Match", "*"), ("If-None-Match", tagged(at)))


@row(SECTION)
def if_unmodified_since_comes_before_if_none_match(at: Column) -> None:
    """13.2.2. If-Unmodified-Since that fails beside If-None-Match with the current tag: 412."""
    absent(not at.ask(DETAIL)["Last-Modified"], NO_DATE)
    holds(at, 412, ("If-Unmodified-Since", EARLIER), ("If-None-Match", tagged(at)))


@row(SECTION)
def preconditions_of_what_is_not_there(at: Column) -> None:
    """13.2.1. Preconditions of a target that answers 404 are ignored: 404."""
    for field in (("If-Match", "*"), ("If-None-Match", "*"), ("If-Unmodified-Since", EARLIER)):
        holds(at, 404, field, target=MISSING)


@row(SECTION)
def preconditions_of_options(at: Column) -> None:
    """13.2.1. Preconditions of OPTIONS are ignored."""
    found = status(at, ("If-None-Match", "*"), ("If-Match", '"another"'), method="OPTIONS")
    expect(found not in {304, 412}, found)


@row(SECTION)
def preconditions_of_a_method_not_allowed(at: Column) -> None:
    """13.2.1. Preconditions of a method that is refused are ignored: still refused."""
    found = status(at, ("If-Match", '"another"'), method="DELETE")
    expect(found in {401, 403, 405}, found)
