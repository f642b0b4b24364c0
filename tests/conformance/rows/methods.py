"""RFC 9110, sections 9 and 15: HEAD is GET, a 304 says what the 200 would, and errors are those there are."""

from __future__ import annotations

from conformance.columns import Column
from conformance.matrix import absent, expect, row
from conformance.rows.validators import DETAIL, LIST, opaque, tagged
from conformance.wire import Reply

SECTION = "RFC 9110: HEAD, 304 and errors"
OF_NO_ACCOUNT = {"date", "cache-status", "age", "set-cookie", "connection", "transfer-encoding"}


def _fields(reply: Reply) -> dict[str, str]:
    return {name: reply[name] for name, _ in reply.fields if name not in OF_NO_ACCOUNT}


def unmodified(at: Column, *fields: tuple[str, str]) -> Reply:
    """Return the 304 for the current tag."""
    reply = at.ask(DETAIL, ("If-None-Match", opaque(tagged(at))), *fields)
    expect(reply.status == 304, reply.status)
    return reply


@row(SECTION)
def head_has_no_content(at: Column) -> None:
    """9.3.2. HEAD answers as GET, without content."""
    for target in (LIST, DETAIL, "galleries/none/"):
        reply = at.ask(target, method="HEAD")
        expect(
            (reply.status, reply.body) == (at.ask(target).status, b""),
            f"{reply.status}, {len(reply.body)} bytes",
        )


@row(SECTION)
def head_has_the_fields_of_get(at: Column) -> None:
    """9.3.2. HEAD has the fields of GET; those made while the content is generated may be left out."""
    for _ in range(
        3
    ):  # a date moves once, as the first second of a content ends: HEAD is held against what stays
        get, head, again = (_fields(at.ask(LIST, method=method)) for method in ("GET", "HEAD", "GET"))
        if get == again:
            break
    may_lack = {"content-length", "vary", "etag"}
    wrong = {name for name in get if head.get(name) != get[name] and (name in head or name not in may_lack)}
    expect(not wrong, ", ".join(sorted(wrong)))


@row(SECTION)
def head_is_conditional(at: Column) -> None:
    """13.1.2. HEAD with the current tag in If-None-Match: 304."""
    reply = at.ask(DETAIL, ("If-None-Match", opaque(tagged(at))), method="HEAD")
    expect(reply.status == 304, reply.status)


@row(SECTION)
def head_of_a_coding_has_its_length(at: Column) -> None:
    """8.6. The Content-Length of a HEAD, if there is one, is that of the GET; of gzip as well, time after time."""
    for _ in range(8):
        get, head = (at.ask(LIST, ("Accept-Encoding", "gzip"), method=method) for method in ("GET", "HEAD"))
        expect(head["Content-Length"] in {"", get["Content-Length"]}, "another length")


@row(SECTION)
def a_304_has_no_content(at: Column) -> None:
    """15.4.5. A 304 has no content."""
    expect(unmodified(at).body == b"", "content")


def _repeated(at: Column, name: str) -> None:
    full = at.ask(DETAIL)
    absent(not full[name], f"sends no {name}")
    again = unmodified(at)[name]
    expect(again, f"no {name}")
    if name != "Expires":
        expect(again == full[name], f"another {name}")


@row(SECTION)
def a_304_has_the_tag(at: Column) -> None:
    """15.4.5. A 304 has the ETag of the 200."""
    _repeated(at, "ETag")


@row(SECTION)
def a_304_has_cache_control(at: Column) -> None:
    """15.4.5. A 304 has the Cache-Control of the 200."""
    _repeated(at, "Cache-Control")


@row(SECTION)
def a_304_has_expires(at: Column) -> None:
    """15.4.5. A 304 has Expires where the 200 has."""
    _repeated(at, "Expires")


@row(SECTION)
def a_304_has_vary(at: Column) -> None:
    """15.4.5. A 304 has the Vary of the 200."""
    _repeated(at, "Vary")


@row(SECTION)
def a_304_has_content_location(at: Column) -> None:
    """15.4.5. A 304 has the Content-Location of the 200."""
    _repeated(at, "Content-Location")


@row(SECTION)
def a_304_says_nothing_of_the_content(at: Column) -> None:
    """15.4.5. A 304 repeats no Content-Type, Content-Encoding or Content-Language: they could only be wrong."""
    reply = unmodified(at)
    said = [name for name in ("Content-Type", "Content-Encoding", "Content-Language") if reply[name]]
    expect(not said, ", ".join(said))


@row(SECTION)
def what_is_not_there_is_404(at: Column) -> None:
    """15.5.5. What does not exist is a 404."""
    for target in ("galleries/none/", "screenshots/999999/", "nowhere/"):
        reply = at.ask(target)
        expect(reply.status == 404, reply.status)


@row(SECTION)
def a_method_not_allowed_says_which_are(at: Column) -> None:
    """15.5.6. A method that is not allowed is a 405 with Allow (or asks for credentials first)."""
    reply = at.ask(DETAIL, at.token, method="PUT", body=b"")
    expect(reply.status in {401, 403, 405, 411, 415, 501}, reply.status)
    expect(reply.status != 405 or "GET" in reply["Allow"], "no Allow")


@row(SECTION)
def unauthenticated_says_how(at: Column) -> None:
    """15.5.2. A 401 has WWW-Authenticate."""
    reply = at.ask(LIST, ("Authorization", "Token nonsense"))
    expect(reply.status in {401, 403}, reply.status)
    expect(reply.status != 401 or reply["WWW-Authenticate"], "no WWW-Authenticate")


@row(SECTION)
def a_malformed_query_is_no_server_error(at: Column) -> None:
    """15.5.1. A query that cannot be read is the client's error, or ignored: never a 5xx."""
    for query in (
        "page=%ff",
        "page=%00",
        "page=-1",
        "page=9" * 400,
        "%",
        "a=%zz",
        "=&=&&",
        "page_size=1e9",
        "\xff=\xfe",
    ):
        reply = at.ask(f"screenshots/?{query}")
        expect(reply.status < 500, f"{reply.status} for {query[:12]!a}")


@row(SECTION)
def a_path_that_is_too_long_is_no_server_error(at: Column) -> None:
    """15.5.15. A target of 8,000 characters is the client's error."""
    reply = at.ask("galleries/" + "a" * 8000 + "/")
    expect(400 <= reply.status < 500, reply.status)
