"""Web cache deception: the owner is led to another spelling of a private address, which a cache takes for a public one.

Where the spelling ends like a static file, caches store it whatever Cache-Control says, so what is private must not
be shown there at all. Elsewhere it may be, as one person's.
"""

from __future__ import annotations

from collections.abc import Iterable

from conformance.columns import Column
from conformance.matrix import expect, row
from conformance.rows.caching import for_one_person

SECTION = "Web cache deception"
PRIVATE = "/api/v1/galleries/hidden/"
CONTENT = "Kept from view"
STATIC = (".css", ".js", ".ico", ".png")


def led_to(at: Column, *targets: str) -> None:
    """Lead the owner there, by each kind of credentials."""
    for target in targets:
        for credentials in (at.token, at.session):
            reply = at.ask(target, credentials)
            expect(reply.status < 500 or reply.status == 501, reply.status)
            shown = CONTENT in reply
            expect(not (shown and target.endswith(STATIC)), f"the private gallery at {_readable(target)}")
            kept = shown and not for_one_person(reply, credentials)
            expect(not kept, f"the private gallery at {_readable(target)}, for any cache to keep")


def _readable(target: str) -> str:
    return target.removeprefix("/api/v1/").encode("unicode_escape").decode()


def _ending(endings: Iterable[str]) -> list[str]:
    return [PRIVATE.rstrip("/") + ending for ending in endings] + [PRIVATE + ending for ending in endings]


@row(SECTION)
def it_is_there_for_the_owner(at: Column) -> None:
    """The private gallery is at its own address, for its owner (the rows below mean something)."""
    for credentials in (at.token, at.session):
        expect(CONTENT in at.ask(PRIVATE, credentials), "not shown")


@row(SECTION)
def by_a_suffix(at: Column) -> None:
    """`/x.css` and `.css` after the address."""
    led_to(at, *_ending(["/x.css", ".css", ".js", "/x.ico"]))


@row(SECTION)
def by_a_format_suffix(at: Column) -> None:
    """`.json` after the address, which routers offer: what it shows is one person's, or it leads to the one address."""
    led_to(at, PRIVATE.rstrip("/") + ".json", PRIVATE + ".json", PRIVATE + "x.json")


@row(SECTION)
def by_a_parameter(at: Column) -> None:
    """`;x.css` after the address (a path parameter to some servers)."""
    led_to(at, *_ending([";x.css", ";.css"]))


@row(SECTION)
def by_an_encoded_parameter(at: Column) -> None:
    """`%3Bx.css` after the address."""
    led_to(at, *_ending(["%3Bx.css", "%3b.js"]))


@row(SECTION)
def by_an_encoded_slash(at: Column) -> None:
    """`%2Fx.css` after the address, and `%2F` within it."""
    led_to(
        at,
        *_ending(["%2Fx.css", "%2f.css"]),
        "/api/v1/galleries%2Fhidden%2F",
        "/static%2F..%2Fapi/v1/galleries/hidden/",
    )


@row(SECTION)
def by_an_encoded_question_mark(at: Column) -> None:
    """`%3Fx.css` after the address."""
    led_to(at, *_ending(["%3Fx.css", "%3f.css"]))


@row(SECTION)
def by_an_encoded_number_sign(at: Column) -> None:
    """`%23x.css` and `#x.css` after the address."""
    led_to(at, *_ending(["%23x.css"]), PRIVATE.rstrip("/") + "#x.css")


@row(SECTION)
def by_nul(at: Column) -> None:
    """`%00x.css` after the address."""
    led_to(at, *_ending(["%00x.css", "%00.css"]))


@row(SECTION)
def by_control_characters(at: Column) -> None:
    """`%0A`, `%0D%0A`, `%09` and `%7F` after the address."""
    led_to(at, *_ending(["%0Ax.css", "%0D%0Ax.css", "%09.css", "%7Fx.css", "%20x.css"]))


@row(SECTION)
def by_what_is_not_utf_8(at: Column) -> None:
    """`%FFx.css` and bytes as they are after the address."""
    led_to(at, *_ending(["%FFx.css", "%C0%AFx.css", "\xffx.css"]))


@row(SECTION)
def by_doubled_slashes(at: Column) -> None:
    """Doubled slashes, at the start, within and at the end."""
    led_to(
        at, "/" + PRIVATE, PRIVATE + "/", PRIVATE + "/x.css", "/api/v1//galleries/hidden/", "//static/x.css"
    )


@row(SECTION)
def by_dot_segments(at: Column) -> None:
    """Dot segments from a static folder to the private address."""
    led_to(at, f"/static/..{PRIVATE}", f"/static/x.css/../..{PRIVATE}", PRIVATE + "./x.css", f"/.{PRIVATE}")
    led_to(at, f"{PRIVATE}../../../../static/x.css")


@row(SECTION)
def by_encoded_dot_segments(at: Column) -> None:
    """`%2e%2e` and `..%2F` from a static folder to the private address."""
    led_to(
        at, f"/static/%2e%2e{PRIVATE}", "/static/..%2Fapi/v1/galleries/hidden/", f"{PRIVATE}%2e%2e%2fx.css"
    )
    led_to(at, f"{PRIVATE}..%2f..%2f..%2f..%2fstatic/x.css", f"/static/%252e%252e{PRIVATE}")


@row(SECTION)
def by_backslashes(at: Column) -> None:
    """Backslashes, which some take for slashes."""
    led_to(at, *_ending(["\\x.css", "%5Cx.css"]), f"/static\\..\\{PRIVATE}", f"/static/..%5C{PRIVATE}")


@row(SECTION)
def by_the_query(at: Column) -> None:
    """`?x.css` after the address: what is shown there is one person's."""
    led_to(at, *(f"{PRIVATE}?{query}&more" for query in ("x.css", "v=1.css", ".js")))


@row(SECTION)
def by_a_file_s_method(at: Column) -> None:
    """HEAD, and a GET with a Range, of a suffixed address: no length of what is private either."""
    for suffix in ("x.css", ".css", ";x.css"):
        reply = at.ask(PRIVATE + suffix, at.token, ("Range", "bytes=0-99"), method="HEAD")
        expect(reply.status >= 300, reply.status)
