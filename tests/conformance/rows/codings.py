"""RFC 9110, section 12.5: what Accept-Encoding and Accept decide, and what Vary says of it."""

from __future__ import annotations

import gzip

from conformance.columns import Column
from conformance.matrix import absent, expect, row
from conformance.wire import Reply

SECTION = "RFC 9110: content negotiation"
LIST = "screenshots/"


def coded(at: Column, accepted: str) -> Reply:
    """Return the answer, of a server that has content codings at all."""
    absent(not at.ask(LIST, ("Accept-Encoding", "gzip"))["Content-Encoding"], "has no content codings")
    return at.ask(LIST, ("Accept-Encoding", accepted))


def _coding(reply: Reply) -> str:
    return reply["Content-Encoding"] or "identity"


@row(SECTION)
def gzip_decodes_to_the_identity(at: Column) -> None:
    """8.4. What is sent as gzip decodes to the content."""
    reply = coded(at, "gzip")
    expect(gzip.decompress(reply.body) == at.ask(LIST).body, "other content")


@row(SECTION)
def gzip_refused_is_not_sent(at: Column) -> None:
    """12.5.3. `gzip;q=0` is never sent gzip."""
    expect(_coding(coded(at, "gzip;q=0")) != "gzip", "gzip")


@row(SECTION)
def gzip_refused_in_capitals_is_not_sent(at: Column) -> None:
    """8.4.1. Codings are case-insensitive: `GZIP;Q=0, identity` is never sent gzip."""
    expect(_coding(coded(at, "GZIP;Q=0, identity")) != "gzip", "gzip")


@row(SECTION)
def gzip_refused_beside_a_star_is_not_sent(at: Column) -> None:
    """12.5.3. `*, gzip;q=0` is never sent gzip."""
    expect(_coding(coded(at, "*, gzip;q=0")) != "gzip", "gzip")


@row(SECTION)
def nothing_accepted_is_identity(at: Column) -> None:
    """12.5.3. An empty Accept-Encoding asks for no coding."""
    expect(_coding(coded(at, "")) == "identity", "coded")


@row(SECTION)
def a_foreign_coding_is_identity(at: Column) -> None:
    """12.5.3. Where no listed coding is available, the content is sent without any."""
    reply = coded(at, "compress")
    expect((reply.status, _coding(reply)) == (200, "identity"), f"{reply.status}, {_coding(reply)}")


@row(SECTION)
def identity_refused_is_coded(at: Column) -> None:
    """12.5.3. `gzip, identity;q=0` is not sent the identity."""
    expect(_coding(coded(at, "gzip, identity;q=0")) == "gzip", "identity")


@row(SECTION)
def identity_refused_with_nothing_else_is_not_sent(at: Column) -> None:
    """12.5.3. `identity;q=0` alone is not sent the identity: a coding of the server's choice, or an error."""
    reply = coded(at, "identity;q=0")
    expect(reply.status in {406, 415} or _coding(reply) != "identity", f"{reply.status}, identity")


@row(SECTION)
def everything_refused_is_not_sent(at: Column) -> None:
    """12.5.3. `*;q=0` refuses the identity too."""
    reply = coded(at, "*;q=0")
    expect(reply.status in {406, 415}, f"{reply.status}, {_coding(reply)}")


@row(SECTION)
def the_higher_weight_is_preferred(at: Column) -> None:
    """12.4.2. Of `identity;q=1, gzip;q=0.5` the identity is preferred."""
    expect(_coding(coded(at, "identity;q=1, gzip;q=0.5")) == "identity", "gzip")


@row(SECTION)
def a_malformed_accept_encoding_is_survived(at: Column) -> None:
    """12.5.3. A malformed Accept-Encoding is no server error."""
    for field in (";;;,=,q=1", "gzip;q=2;q=x", "\xff\xfe", "gzip;" * 500):
        reply = at.ask(LIST, ("Accept-Encoding", field))
        expect(reply.status < 500, reply.status)


@row(SECTION)
def vary_names_what_chose(at: Column) -> None:
    """12.5.5. Where codings differ, Vary names Accept-Encoding on each of them."""
    for accepted in ("gzip", ""):
        names = [name.strip().lower() for name in coded(at, accepted)["Vary"].split(",")]
        expect("accept-encoding" in names or "*" in names, "not named")


@row(SECTION)
def vary_names_accept_where_it_chooses(at: Column) -> None:
    """12.5.5. Where Accept chooses the media type, Vary names Accept."""
    one, other = at.ask(LIST, ("Accept", "text/html")), at.ask(LIST)
    differs = one.status == 200 and one["Content-Type"] != other["Content-Type"]
    expect(not differs or "accept" in other["Vary"].lower().replace("accept-encoding", ""), "not named")


@row(SECTION)
def a_parameter_of_accept_makes_no_second_representation(at: Column) -> None:
    """8.8.1. `Accept: application/json; indent=4` gives other bytes only under another strong tag."""
    plain, asked = at.ask(LIST), at.ask(LIST, ("Accept", "application/json; indent=4"))
    expect(asked.body == plain.body or asked["ETag"] != plain["ETag"], "other bytes, same tag")
