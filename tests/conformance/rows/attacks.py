"""Cache poisoning: what one client sends beside the address must not be in what another gets at that address.

Each row asks for an address that nobody has asked for, with the attack and then without it, and again once the
address is well known.
"""

from __future__ import annotations

import json

from conformance.columns import Column
from conformance.matrix import expect, row
from conformance.wire import Reply

SECTION = "Cache poisoning"
EVIL, PORT = "evil.example", ":1337"


def poisoned(
    at: Column, *fields: tuple[str, str], target: str = "", method: str = "GET", body: bytes = b""
) -> Reply:
    """Attack an address before anybody asks for it and after many have; return what the next client gets."""
    address = at.fresh()
    attacked = target.replace("{}", address) or address
    for _ in range(2):
        at.ask(attacked, *fields, method=method, body=body)
    for _ in range(2):
        victim(at, address)
    at.ask(attacked, *fields, method=method, body=body)
    return victim(at, address)


def victim(at: Column, address: str) -> Reply:
    """Return what a plain client gets: all that is there, from JSON, and without a trace of the attack."""
    reply = at.ask(address)
    expect(reply.status == 200, f"{reply.status} for the next client")
    expect(EVIL not in reply and PORT not in reply, "the attacker's words for the next client")
    expect(not reply["Content-Encoding"], f"{reply['Content-Encoding']} for a client that asked for none")
    try:
        found = json.loads(reply.body)["results"]
    except (ValueError, TypeError, KeyError):
        expect(False, f"{reply['Content-Type'] or 'something'} for the next client")
    size = int(address.rpartition("=")[2])
    expect(len(found) == min(size, 30), f"{len(found)} items for the next client")
    return reply


@row(SECTION)
def by_a_foreign_host(at: Column) -> None:
    """A Host that is not ours."""
    poisoned(at, ("Host", EVIL))


@row(SECTION)
def by_another_port(at: Column) -> None:
    """Our Host with another port: links with it lead everybody there."""
    poisoned(at, ("Host", f"localhost{PORT}"))


@row(SECTION)
def by_two_hosts(at: Column) -> None:
    """Two Host lines (RFC 9112, 3.2: 400)."""
    address = at.fresh()
    for pair in (("localhost", EVIL), (EVIL, "localhost")):
        reply = at.ask(address, *(("Host", host) for host in pair))
        expect(reply.status == 400 or EVIL not in reply, f"{reply.status} with the other's words")
    victim(at, address)


@row(SECTION)
def by_an_absolute_target(at: Column) -> None:
    """A target in absolute form with an authority that is not ours (RFC 9112, 3.2.2)."""
    poisoned(at, target=f"http://{EVIL}/api/v1/{{}}")


@row(SECTION)
def by_x_forwarded_host(at: Column) -> None:
    """X-Forwarded-Host, and Forwarded (RFC 7239)."""
    poisoned(at, ("X-Forwarded-Host", EVIL), ("Forwarded", f"host={EVIL};proto=https"), ("X-Host", EVIL))


@row(SECTION)
def by_x_forwarded_proto(at: Column) -> None:
    """X-Forwarded-Proto and X-Forwarded-Scheme: no redirect to another scheme, no link with it."""
    reply = poisoned(
        at, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Scheme", "nothttps"), ("X-Url-Scheme", "https")
    )
    expect("https://localhost" not in reply, "https links for the next client")


@row(SECTION)
def by_x_forwarded_port(at: Column) -> None:
    """X-Forwarded-Port."""
    poisoned(at, ("X-Forwarded-Port", PORT[1:]))


@row(SECTION)
def by_x_forwarded_prefix(at: Column) -> None:
    """X-Forwarded-Prefix and X-Script-Name."""
    poisoned(
        at, ("X-Forwarded-Prefix", f"/{EVIL}"), ("X-Script-Name", f"/{EVIL}"), ("Script-Name", f"/{EVIL}")
    )


@row(SECTION)
def by_x_original_url(at: Column) -> None:
    """X-Original-URL and X-Rewrite-URL: the answer is that of the target."""
    other = "/api/v1/galleries/none/"
    poisoned(at, ("X-Original-URL", other), ("X-Rewrite-URL", other), ("X-Original-URI", other))


@row(SECTION)
def by_method_override(at: Column) -> None:
    """X-HTTP-Method-Override and its kin: a GET stays a GET."""
    for method in ("DELETE", "POST", "HEAD"):
        names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
        poisoned(at, *((name, method) for name in names))


@row(SECTION)
def by_method_override_in_the_query(at: Column) -> None:
    """`_method` in the query."""
    poisoned(at, target="{}&_method=DELETE")


@row(SECTION)
def by_a_get_with_content(at: Column) -> None:
    """A GET with content ("fat GET"): a form, and JSON."""
    for kind, content in (
        ("application/x-www-form-urlencoded", b"page_size=1&_method=DELETE"),
        ("application/json", b'{"page_size":1}'),
    ):
        fields = (("Content-Type", kind), ("Content-Length", str(len(content))))
        poisoned(at, *fields, body=content)


@row(SECTION)
def by_an_unkeyed_parameter(at: Column) -> None:
    """A parameter that the server does not know: it may be refused or told apart, but not be shown to others."""
    poisoned(at, target=f"{{}}&callback={EVIL}")


@row(SECTION)
def by_a_tracking_parameter(at: Column) -> None:
    """A tracking parameter, which many caches leave out of their keys."""
    poisoned(at, target=f"{{}}&utm_content={EVIL}")


@row(SECTION)
def by_a_cloaked_parameter(at: Column) -> None:
    """Parameter cloaking: a semicolon that one parser takes for an ampersand."""
    poisoned(at, target="{}&utm_content=x;page_size=1")


@row(SECTION)
def by_a_repeated_parameter(at: Column) -> None:
    """A parameter given twice: the answer to one of them is not the answer to both."""
    poisoned(at, target="{}&page_size=1")


@row(SECTION)
def by_a_cookie(at: Column) -> None:
    """An unkeyed cookie: of a language, of messages, of a theme."""
    poisoned(at, ("Cookie", f"django_language=de; theme={EVIL}; messages={EVIL}"))


@row(SECTION)
def by_a_malformed_csrf_cookie(at: Column) -> None:
    """A malformed `csrftoken`, which Django answers with a new one on any page."""
    reply = poisoned(at, ("Cookie", "csrftoken=short"))
    expect(not reply["Set-Cookie"], "Set-Cookie for the next client")


@row(SECTION)
def by_a_language(at: Column) -> None:
    """Accept-Language: an answer in another language only where Vary says so."""
    address = at.fresh()
    plain = at.ask(address)
    reply = at.ask(address, ("Accept-Language", "de, ar;q=0.9"))
    expect(reply.body == plain.body or "accept-language" in plain["Vary"].lower(), "another language")


@row(SECTION)
def by_accept_html(at: Column) -> None:
    """`Accept: text/html`, where the browsable API would answer."""
    poisoned(at, ("Accept", "text/html"))


@row(SECTION)
def by_format_api(at: Column) -> None:
    """`?format=api`."""
    poisoned(at, target="{}&format=api")


@row(SECTION)
def by_a_parameter_of_accept(at: Column) -> None:
    """`Accept: application/json; indent=4`: the next client gets the bytes that it would have got."""
    address = at.fresh()
    at.ask(address, ("Accept", "application/json; indent=4"))
    expect(b"\n" not in victim(at, address).body, "indented bytes for the next client")


@row(SECTION)
def by_accept_encoding(at: Column) -> None:
    """A coding: who asks for none gets none."""
    poisoned(at, ("Accept-Encoding", "gzip"))


@row(SECTION)
def by_two_accept_encodings(at: Column) -> None:
    """Two lines of Accept-Encoding, one that refuses what the other asks for."""
    poisoned(at, ("Accept-Encoding", "gzip"), ("Accept-Encoding", "gzip;q=0, br, zstd"))


@row(SECTION)
def by_a_precondition(at: Column) -> None:
    """Preconditions on what is not stored yet: the next client gets the content."""
    poisoned(at, ("If-None-Match", "*"))
    poisoned(at, ("If-Match", '"another"'))
    poisoned(at, ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"))


@row(SECTION)
def by_head(at: Column) -> None:
    """HEAD of what is not stored yet: the next client gets the content."""
    poisoned(at, method="HEAD")


@row(SECTION)
def by_options(at: Column) -> None:
    """OPTIONS of what is not stored yet: the next client gets the content."""
    poisoned(at, method="OPTIONS")


@row(SECTION)
def by_a_range(at: Column) -> None:
    """Range: the next client gets all of it."""
    poisoned(at, ("Range", "bytes=0-9"))


@row(SECTION)
def by_origin(at: Column) -> None:
    """Origin: `Access-Control-Allow-Origin` for the next client names no one else's, or everybody."""
    reply = poisoned(at, ("Origin", f"https://{EVIL}"))
    expect(reply["Access-Control-Allow-Origin"] in {"", "*"}, reply["Access-Control-Allow-Origin"])


# --- Denial of service by the cache ---------------------------------------------------------------------------


@row(SECTION)
def by_an_oversized_field(at: Column) -> None:
    """CPDoS: a field of 16,000 bytes, then of 200,000; an error is not what the next client gets."""
    for size in (16_000, 200_000):
        poisoned(at, ("X-Oversized", "a" * size))


@row(SECTION)
def by_many_fields(at: Column) -> None:
    """CPDoS: five hundred fields."""
    poisoned(at, *((f"X-Field-{number}", "a") for number in range(500)))


@row(SECTION)
def by_a_control_character(at: Column) -> None:
    """CPDoS: a control character in a field's value."""
    poisoned(at, ("X-Bell", "\x07\x01"))


@row(SECTION)
def by_credentials_that_are_wrong(at: Column) -> None:
    """CPDoS: credentials that are wrong; the 401 is not what the next client gets."""
    poisoned(at, ("Authorization", "Token nonsense"))


@row(SECTION)
def by_an_expectation(at: Column) -> None:
    """CPDoS: Expect, Upgrade, TE and Max-Forwards that nobody can meet."""
    poisoned(at, ("Expect", "nothing"), ("TE", "trailers"), ("Max-Forwards", "0"))
    poisoned(at, ("Upgrade", "h2c"), ("X-Forwarded-SSL", "on"))
