"""The OpenAPI 3.1 description of the API, made from the same tables that requests are validated against."""

from __future__ import annotations

import re
from typing import Any, Literal

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema as SpectacularAutoSchema
from drf_spectacular.plumbing import build_bearer_security_scheme_object, build_mock_request
from rest_framework.permissions import SAFE_METHODS

from catalog.api import bulk_schema, response_fields
from catalog.api.parameters import SLUG_IN_PATH
from catalog.models import LONGEST_ID
from keybits.drf import idempotency
from keybits.drf.query import FORMAT
from keybits.parameters import MOST_REPEATED, Choice, CommaList, Parameter

__all__ = ["AutoSchema", "finish", "request_of_nobody"]

Direction = Literal["request", "response"]

PARENTS = {
    "parent_lookup_gallery__slug": "gallery_slug",
    "parent_lookup_screenshot__gallery__slug": "gallery_slug",
    "parent_lookup_screenshot": "screenshot_id",
    "parent_lookup_tags__slug": "tag_slug",
}
SLUG: dict[str, Any] = {"type": "string", "pattern": f"^{SLUG_IN_PATH}$"}
ID: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 10**LONGEST_ID - 1}
REPLACED = ("GalleryWrite", "ScreenshotWrite", "TagWrite")
"""The bodies of PUT, which contain every field that can be set."""
CREATED = ("GalleryCreate", "ScreenshotCreate", "TagCreate")
CHANGES = ("PatchedGalleryChanges", "PatchedScreenshotChanges")
FORMULAS = ("Addition", "Replacement", "Tagging")
SPARSE = ("Gallery", "GalleryDetail", "Rendition", "Screenshot", "ScreenshotDetail", "Tag")
PATH_SCHEMAS = {"gallery_slug": SLUG, "tag_slug": SLUG, "slug": SLUG, "screenshot_id": ID, "id": ID}

ERRORS = {
    "400": "A parameter is unknown, repeated or malformed; the problem names it.",
    "401": "The credentials are invalid; `WWW-Authenticate` names the scheme.",
    "404": "There is no such resource, or the client may not see it.",
    "406": "The client does not accept JSON.",
    "412": "An If-Match or If-Unmodified-Since condition does not hold.",
    "414": "The query string is too long.",
    "429": "There are too many requests, or the monthly quota is used up; `Retry-After` says when to try again.",
    "503": "The database cannot be reached, or is too busy; `Retry-After` says when to try again.",
}
GONE = "The resource at this address has been deleted."
WRITE_ERRORS = {
    "400": "The body or a parameter is malformed, or has a member that cannot be set; the problem names it.",
    "401": "There are no credentials, or they are invalid; `WWW-Authenticate` names the scheme.",
    "403": "The client may see this, but not change it; or its key lacks the scope.",
    "404": "There is no such resource, or the client may not see it.",
    "406": "The client does not accept JSON.",
    "411": "The request does not state the length of its body.",
    "413": "The body is too long.",
    "414": "The query string is too long.",
    "415": "The body is not JSON.",
    "429": "There are too many requests; `Retry-After` says when to try again.",
    "503": (
        "Other requests are writing the same, and nothing was written; or the database cannot be reached. "
        "`Retry-After` says when to send the request again."
    ),
}
CREATE_ERRORS = {
    "412": "The request has If-Match, but nothing exists yet that could match.",
    "422": "The Idempotency-Key was used for another request.",
}
SLUG_ERRORS = {
    "409": "The slug is taken.",
    "412": "The slug is taken, and the request has `If-None-Match: *`; or it has If-Match.",
}
CONDITION_ERRORS = {
    "412": "The representation is not the one that If-Match names. `ETag` is that of the present one.",
    "428": "The request has no If-Match.",
}
IF_MATCH: dict[str, Any] = {
    "in": "header",
    "name": "If-Match",
    "required": True,
    "description": "The ETag of the representation that the client has, or `*` for any.",
    "schema": {"type": "string"},
}
IF_NONE_THERE: dict[str, Any] = {
    "in": "header",
    "name": "If-None-Match",
    "description": "`*`: create it only if the slug is not taken (otherwise 412).",
    "schema": {"type": "string", "enum": ["*"]},
}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "A quoted string of the client's choice. A request repeated with the same key is carried out once.",
    "schema": {"type": "string", "pattern": idempotency.PATTERN},
    "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
}
CONDITIONS = {
    "If-None-Match": "ETags that the client has, or `*`: answers 304 if one of them is current.",
    "If-Modified-Since": "A Last-Modified: answers 304 if the current one is not later. Ignored with If-None-Match.",
    "If-Match": "ETags that the client has, or `*`: answers 412 if none of them is current.",
    "If-Unmodified-Since": "A Last-Modified: answers 412 if the current one is later. Ignored with If-Match.",
}
"""The conditions of reads (RFC 9110 section 13.1)."""
JSON = Choice(
    name=FORMAT.name,
    choices=("json",),
    description="`json` is the default. There is also a page for people, which is not described here.",
)
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "parameter": {"type": "string", "description": "The query parameter at fault."},
        "allowed": {"type": "array", "items": {"type": "string"}, "description": "What would be accepted."},
        "suggestion": {"type": "string", "description": "The nearest name or value that would be accepted."},
        "header": {"type": "string", "description": "The header field that is missing or at fault."},
        "errors": {
            "type": ["object", "array"],
            "description": "The errors of each member of the body, by its name; for many items, by their index.",
        },
        "count": {"type": "integer", "description": "The number of rows or items concerned."},
        "max": {"type": "integer", "description": "The most rows or items that the request may have."},
        "violated-policies": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The policies of `RateLimit-Policy` that are used up.",
        },
    },
}


class SessionCookieScheme(SessionScheme):  # type: ignore[no-untyped-call]
    """The session cookie, as `catalog.api.authentication` reads it."""

    target_class = "catalog.api.authentication.SessionCookieAuthentication"


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """A key of an account, as `catalog.accounts.authentication` reads it."""

    target_class = "catalog.accounts.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        scheme: dict[str, str] = build_bearer_security_scheme_object("Authorization", "Api-Key")
        return scheme


class AutoSchema(SpectacularAutoSchema):
    """Describes parameters by the grammars of the views, every response with its headers, and every error."""

    def get_auth(self) -> list[dict[str, Any]]:
        """Return the schemes; reads are also possible without any."""
        auths = [auth for auth in super().get_auth() if auth]
        return auths if self._writes() else [*auths, {}]

    def get_operation_id(self) -> str:
        """Return the operation's id, with `_bulk` for an operation on a whole list."""
        name: str = super().get_operation_id()
        return f"{name}_bulk" if bulk_schema.is_bulk(self.view) else name

    def get_response_serializers(self) -> Any:
        """Return the serializer of the answer."""
        if bulk_schema.is_bulk(self.view):
            return bulk_schema.BulkAnswerSerializer
        return super().get_response_serializers()

    def get_request_serializer(self) -> Any:
        """Return the serializer of the body."""
        view: Any = self.view
        if bulk_schema.is_bulk(view):
            return view.changes_serializer_class()
        return view.get_write_serializer() if self._is_curated() else super().get_request_serializer()

    def _get_parameters(self) -> list[dict[str, Any]]:
        path = [parameter for parameter in super()._get_parameters() if parameter["in"] == "path"]
        grammar = getattr(self.view, "get_query_parameters", None)
        query = [_query_parameter(parameter) for parameter in (grammar() if grammar else [])]
        return path + query + self._get_request_fields()

    def _get_request_fields(self) -> list[dict[str, Any]]:
        if self._is_curated():
            return self._get_fields_of_write()
        return [_condition(*each) for each in CONDITIONS.items()] if self._is_cached() else []

    def _get_fields_of_write(self) -> list[dict[str, Any]]:
        if bulk_schema.is_bulk(self.view):
            return [bulk_schema.header(required=True), IF_MATCH | {"required": False}, IDEMPOTENCY_KEY]
        if self.method != "POST":
            return [IF_MATCH]
        many = [bulk_schema.header(required=False)] if bulk_schema.takes_many(self.view) else []
        new = [IF_NONE_THERE] if self._takes_slug() else []
        return [*many, *new, IDEMPOTENCY_KEY]

    def _get_request_body(self, direction: Direction = "request") -> dict[str, Any] | None:
        body: dict[str, Any] | None = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        if body and bulk_schema.takes_many(self.view):
            for content in body["content"].values():
                content["schema"] = bulk_schema.one_or_many(content["schema"])
        return body

    def _writes(self) -> bool:
        return self.method not in SAFE_METHODS

    def _is_curated(self) -> bool:
        """Return whether it is a write of a resource, which takes conditions and Idempotency-Key."""
        return self._writes() and hasattr(self.view, "get_write_serializer")

    def _is_cached(self) -> bool:
        """Return whether it is a cached read, which takes conditions."""
        action = getattr(self.view, getattr(self.view, "action", None) or "get", None)
        return not self._writes() and hasattr(action, "keybits_cached")

    def _takes_slug(self) -> bool:
        """Return whether the client chooses the slug of what it creates, so that it may be taken."""
        view: Any = self.view
        return "slug" in view.create_serializer_class.Meta.fields

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if self._is_curated():
            return self._get_written_bodies(bodies)
        if self._writes():
            bodies["200"]["headers"] = response_fields.private()
            return bodies | _problems(getattr(self.view, "problems", {}))
        if self._is_cached():
            headers = response_fields.of_read()
            bodies["200"]["headers"] = headers
            bodies["304"] = {"description": "The client's copy is still current.", "headers": headers}
        return bodies | self._get_gone() | _problems(ERRORS, tells_current=True)

    def _get_gone(self) -> dict[str, Any]:
        return _problems({"410": GONE}) if "{" in self.path else {}

    def _get_bulk_bodies(self) -> dict[str, Any]:
        """Return the answers to a bulk operation. They have no validators, because they show no representation.

        A DELETE is answered like a PATCH; drf-spectacular describes every DELETE as answered without content.
        """
        told: dict[str, Any] = self._get_response_for_code(bulk_schema.BulkAnswerSerializer, "200")  # type: ignore[no-untyped-call]
        answered = told | {"description": "What was done, or would be done."}
        answered["headers"] = response_fields.of_unrepresented()
        errors = _problems(WRITE_ERRORS | bulk_schema.ERRORS, tells_current=True)
        return {"200": answered} | errors | self._get_gone()

    def _add_many(self, bodies: dict[str, Any]) -> None:
        """Add the answers to many items, which have no validators."""
        made = self.resolve_serializer(bulk_schema.ManyMadeSerializer, "response").ref
        answer = bodies["201"]["content"]["application/json"]
        answer["schema"] = {"anyOf": [answer["schema"], made]}  # not oneOf: one has no required members
        one, many = bodies["201"]["headers"], response_fields.of_unrepresented()
        bodies["201"]["headers"] = response_fields.either(one, many)
        bodies |= _problems(bulk_schema.MANY_ERRORS)

    def _get_written_bodies(self, bodies: dict[str, Any]) -> dict[str, Any]:
        if bulk_schema.is_bulk(self.view):
            return self._get_bulk_bodies()
        for status, body in bodies.items():
            body["headers"] = response_fields.of_written(status)
        bodies |= _problems(WRITE_ERRORS) | self._get_unmet() | self._get_gone()
        if bulk_schema.takes_many(self.view):
            self._add_many(bodies)
        return bodies

    def _get_unmet(self) -> dict[str, Any]:
        """Return the answers if the conditions of a write do not hold."""
        if self.method == "POST":
            return _problems(CREATE_ERRORS | (SLUG_ERRORS if self._takes_slug() else {}))
        return _problems(CONDITION_ERRORS, tells_current=True)


def _condition(name: str, description: str) -> dict[str, Any]:
    return {"in": "header", "name": name, "description": description, "schema": {"type": "string"}}


def _query_parameter(parameter: Parameter) -> dict[str, Any]:
    parameter = JSON if parameter is FORMAT else parameter
    schema = parameter.schema()
    described: dict[str, Any] = {
        "in": "query",
        "name": parameter.name,
        "description": parameter.description,
        "schema": schema,
    }
    if parameter.repeatable:
        described |= {
            "schema": {"type": "array", "items": schema, "maxItems": MOST_REPEATED},
            "explode": True,
            "style": "form",
        }
    if isinstance(parameter, CommaList):
        described |= {"explode": False, "style": "form"}
    return described


def _problems(errors: dict[str, str], *, tells_current: bool = False) -> dict[str, Any]:
    """Return the responses to `errors`, descriptions by status. A 412 has the present ETag if it `tells_current`."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {
            "description": text,
            "headers": response_fields.of_problem(status, tells_current=tells_current and status == "412"),
            "content": content,
        }
        for status, text in errors.items()
    }


def request_of_nobody(method: str, path: str, view: Any, original_request: Any, **given: Any) -> Any:
    """Return the request that a view is described for. It has nothing of the client that asks for the description."""
    return build_mock_request(method, path, view, None, **given)  # type: ignore[no-untyped-call]


def finish(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Complete the description with what serializers and routers cannot express.

    Parameters of nested addresses get readable names (`{gallery_slug}` for the router's name), errors get their schema,
    and fields that `fields` can leave out are not required.
    """
    result["paths"] = {_renamed(path): item for path, item in result["paths"].items()}
    for item in result["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["name"] = PARENTS.get(parameter["name"], parameter["name"])
                    parameter["schema"] = PATH_SCHEMAS[parameter["name"]]
    operations = (operation for item in result["paths"].values() for operation in item.values())
    result["components"]["headers"] = response_fields.shared(operations)
    schemas = result["components"].setdefault("schemas", {})
    schemas["Problem"] = PROBLEM
    for name in SPARSE:
        schemas[name].pop("required", None)
    for name in REPLACED:
        schemas[name]["required"] = sorted(schemas[name]["properties"])
    for name in [*REPLACED, *CREATED, *(f"Patched{name}" for name in REPLACED), *CHANGES, *FORMULAS]:
        schemas[name]["additionalProperties"] = False
    for name in (*CHANGES, "Tagging"):
        schemas[name]["minProperties"] = 1
    return result


def _renamed(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: "{%s}" % PARENTS.get(found[1], found[1]), path)  # noqa: UP031 - braces
