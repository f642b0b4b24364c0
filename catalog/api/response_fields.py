"""Which header fields each kind of answer has, as OpenAPI describes them.

Left out is what every answer of any server has (`Date`, `Content-Length`, CORS, and fields of security), and what only
caches in front read and remove (`keybits.edge`). Most fields are those of many answers: `shared` describes each once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["either", "of_problem", "of_read", "of_unrepresented", "of_written", "private", "shared"]

Fields = dict[str, tuple[str, str]]
"""What each field says, and a pattern of its values, or ""."""

ETAG: Fields = {
    "ETag": (
        "A strong validator, made from the content (RFC 9110 section 8.8.3).",
        r'^"[-A-Za-z0-9_]{22}(-(gzip|br|zstd))?"$',
    ),
}
SHOWN: Fields = ETAG | {
    "Cache-Control": ("Who may store the answer, and for how long (RFC 9111).", "^(public|private), "),
    "Cache-Status": ("What this server's cache did (RFC 9211).", "^keybits; "),
    "Content-Location": ("Where a GET finds this representation (RFC 9110 section 8.7).", ""),
}
READ: Fields = SHOWN | {
    "No-Vary-Search": (
        "Which differences of the query a client's cache may ignore (draft-ietf-httpbis-no-vary-search).",
        r"^key-order, params=\(",
    ),
}
PRIVATE: Fields = {
    "Cache-Control": ("The answer is for this client only (RFC 9111).", "^private, no-store$"),
}
UNREPRESENTED: Fields = PRIVATE | {
    "Cache-Status": ("No cache answers a write (RFC 9211).", "^keybits; fwd=method$"),
}
LOCATION: Fields = {"Location": ("The address of the new resource (RFC 9110 section 10.2.2).", "")}
RETRY_AFTER: Fields = {"Retry-After": ("How many seconds to wait (RFC 9110 section 10.2.3).", "^[0-9]+$")}
OF_STATUS: dict[str, Fields] = {
    "401": {"WWW-Authenticate": ("The scheme of credentials to use (RFC 9110 section 11.6.1).", "")},
    "429": RETRY_AFTER,
    "503": RETRY_AFTER,
}
MAYBE_OF_STATUS: dict[str, Fields] = {
    "415": {
        "Accept": ("The media types that are accepted (RFC 9110 section 12.5.1).", "^application/json$"),
        "Accept-Patch": ("Those that a PATCH may have (RFC 5789 section 3.1).", "^application/json$"),
        "Accept-Encoding": ("The content codings that are accepted (RFC 9110 section 12.5.3).", "^identity$"),
    }
}

# --- What an answer may have, too -----------------------------------------------------------------------------

MAYBE: Fields = {
    "Vary": ("The request fields that the answer depends on.", ""),
    "RateLimit": (
        "What remains of the account's monthly quota (draft-ietf-httpapi-ratelimit-headers).",
        '^"month";r=',
    ),
    "RateLimit-Policy": (
        "The quota of the account's plan; only with a key whose plan has one.",
        '^"month";q=',
    ),
}
LINKED: Fields = {
    "Link": (
        'The neighbouring pages, `rel="next"` and `rel="prev"`, and this description, `rel="describedby"` (RFC 8288).',
        "",
    ),
}
ALLOWED: Fields = {"Allow": ("The methods that the resource has (RFC 9110 section 10.2.1).", "")}
SHOWN_MAYBE: Fields = (
    MAYBE
    | LINKED
    | {"Content-Encoding": ("The coding of the content (RFC 9110 section 8.4).", "^(gzip|br|zstd)$")}
)
READ_MAYBE: Fields = SHOWN_MAYBE | {
    "Last-Modified": (
        "When the content last changed (RFC 9110 section 8.8.2); absent if no cache may store the answer.",
        " GMT$",
    ),
    "Expires": ("As the max-age of Cache-Control, for old caches (RFC 9111 section 5.3).", " GMT$"),
    "Age": ("The seconds since a stale answer was made (RFC 9111 section 5.1).", "^[0-9]+$"),
}


def of_read() -> dict[str, Any]:
    """Return the fields of a cached read, and of the 304 in its place."""
    return _described(READ, READ_MAYBE)


def of_written(status: str) -> dict[str, Any]:
    """Return the fields of an answer to a single write with this status, which but for 204 shows a representation."""
    if status == "204":
        return of_unrepresented()
    return _described(SHOWN | (LOCATION if status == "201" else {}), SHOWN_MAYBE)


def of_unrepresented() -> dict[str, Any]:
    """Return the fields of an answer to a write that shows no representation, and so has no validators."""
    return _described(UNREPRESENTED, MAYBE | LINKED | ALLOWED)


def of_problem(status: str, *, tells_current: bool = False) -> dict[str, Any]:
    """Return the fields of a problem; `tells_current` if one is the ETag of the present representation."""
    told = ETAG if tells_current else {}
    return _described(
        PRIVATE | OF_STATUS.get(status, {}) | told, MAYBE | ALLOWED | MAYBE_OF_STATUS.get(status, {})
    )


def private() -> dict[str, Any]:
    """Return the fields of an answer that is neither cached nor of a resource."""
    return _described(PRIVATE, MAYBE | ALLOWED)


def either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an answer that is described by `one` or by `other`: required is what both require."""
    always = {name for name in one.keys() & other.keys() if one[name]["required"] and other[name]["required"]}
    return {name: field | {"required": name in always} for name, field in (other | one).items()}


def _described(always: Fields, maybe: Fields) -> dict[str, Any]:
    return {
        name: {
            "description": text,
            "required": name in always,
            "schema": {"type": "string"} | ({"pattern": pattern} if pattern else {}),
        }
        for name, (text, pattern) in (maybe | always).items()
    }


def shared(operations: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Replace the fields of all answers by references; return what these refer to: each field once, by its name.

    Fields of one name that differ are numbered.
    """
    found: dict[str, Any] = {}
    for operation in operations:
        for answer in operation["responses"].values():
            fields = answer.get("headers", {})
            answer["headers"] = {name: _referred(found, name, each) for name, each in fields.items()}
    return found


def _referred(found: dict[str, Any], name: str, field: dict[str, Any]) -> dict[str, str]:
    """Return a reference to `field` among the `found`, to which it is added."""
    number, key = 1, name
    while found.setdefault(key, field) != field:
        number += 1
        key = f"{name}-{number}"
    return {"$ref": f"#/components/headers/{key}"}
