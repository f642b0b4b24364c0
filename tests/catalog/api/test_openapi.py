"""The description of the API: valid, complete, served by this server alone, and open to other origins."""

from __future__ import annotations

import json
import re

import pytest
from descriptions import fields, follow, required
from django.urls import resolve
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from catalog.accounts import keys
from catalog.accounts.models import Account, Plan

pytestmark = [pytest.mark.django_db, pytest.mark.stack("server")]  # it hangs on no stack

SAMPLES = {"slug": "spring", "gallery_slug": "spring", "tag_slug": "dark", "id": "1", "screenshot_id": "1"}
PATHS = {
    "/api/v1/",
    "/api/v1/galleries/",
    "/api/v1/galleries/{slug}/",
    "/api/v1/galleries/{gallery_slug}/screenshots/",
    "/api/v1/galleries/{gallery_slug}/screenshots/{id}/",
    "/api/v1/galleries/{gallery_slug}/screenshots/{screenshot_id}/renditions/",
    "/api/v1/screenshots/",
    "/api/v1/screenshots/{id}/",
    "/api/v1/screenshots/{screenshot_id}/renditions/",
    "/api/v1/tags/",
    "/api/v1/tags/{slug}/",
    "/api/v1/tags/{tag_slug}/screenshots/",
}


@pytest.fixture
def schema(api):
    return api.read("/schema/")


def view_of(path):
    """Return the view that answers at `path`, as the router would call it."""
    callback = resolve(path.format_map(SAMPLES)).func
    view = callback.cls(**getattr(callback, "initkwargs", {}))
    view.action = getattr(callback, "actions", {}).get("get")
    return view


class TestSchema:
    def test_is_valid_openapi_3_1(self, schema):
        assert schema["openapi"].startswith("3.1.")
        OpenAPIV31SpecValidator(schema).validate()

    def test_describes_every_resource_and_all_that_can_be_done_with_it(self, schema, api):
        assert set(schema["paths"]) == PATHS
        for path, item in schema["paths"].items():
            allowed = api(path.format_map(SAMPLES), "OPTIONS")["Allow"].lower().split(", ")
            assert set(item) == set(allowed) - {"head", "options"}, path

    def test_describes_the_condition_and_the_answers_of_writes(self, schema):
        operations = [
            (name, item[name]) for item in schema["paths"].values() for name in item if name != "get"
        ]
        written = [each for each in operations if not each[1]["operationId"].endswith("_bulk")]
        assert len(written) == 16
        for method, operation in written:
            fields = {item["name"]: item for item in operation["parameters"] if item["in"] == "header"}
            assert method == "post" or fields["If-Match"]["required"]
            errors = {"422"} if method == "post" else {"428"}
            assert {"400", "401", "403", "404", "412", "415", "503"} | errors <= set(operation["responses"])
            assert {} not in operation["security"]
            for status, response in operation["responses"].items():
                if status in {"200", "201"}:
                    assert {"ETag", "Content-Location"} <= set(response["headers"])
                    assert ("Location" in response["headers"]) == (status == "201")

    def test_describes_a_slug_that_is_taken_where_there_are_slugs(self, schema):
        made = {path: item["post"] for path, item in schema["paths"].items() if "post" in item}
        assert len(made) == 4
        for path, operation in made.items():
            has_slug = path in {"/api/v1/galleries/", "/api/v1/tags/"}
            assert ("409" in operation["responses"]) == has_slug
            assert ("If-None-Match" in {each["name"] for each in operation["parameters"]}) == has_slug
            assert ("slug" in operation["responses"]["412"]["description"]) == has_slug

    def test_describes_bulk_operations_with_their_header_and_their_parameters(self, schema):
        lists = ("/api/v1/screenshots/", "/api/v1/galleries/", "/api/v1/tags/{tag_slug}/screenshots/")
        for path in (*lists, "/api/v1/galleries/{gallery_slug}/screenshots/"):
            item = schema["paths"][path]
            filters = {each["name"] for each in item["get"]["parameters"] if each["in"] == "query"}
            for operation in (item["patch"], item["delete"]):
                given = {each["name"]: each for each in operation["parameters"]}
                assert given["X-BULK-OPERATION"]["required"]
                assert required(schema, operation["responses"]["200"]) == {"Cache-Control", "Cache-Status"}
                assert not given["If-Match"]["required"]
                assert not given["Idempotency-Key"].get("required")
                assert {"all", "dry_run", "max", "skip_forbidden"} <= set(given)
                assert {"search"} <= filters & set(given)
                assert not {"page", "limit", "ordering", "fields", "count"} & set(given)
                assert {"200", "400", "401", "403", "404", "409", "412", "422"} <= set(operation["responses"])
                assert ("410" in operation["responses"]) == ("{" in path)

    @pytest.mark.parametrize(
        ("path", "item"),
        [
            ("/galleries/", {"slug": "new", "title": "New"}),
            ("/screenshots/", {"gallery": "spring", "title": "New", "source_url": "https://one.example/"}),
        ],
    )
    def test_describes_what_is_answered_to_many_items_as_to_one(self, schema, by_token, path, item):
        at = f"#/paths/~1api~1v1{path.replace('/', '~1')}/post/responses/201/content/application~1json/schema"
        described = Draft202012Validator({**schema, "$ref": at})
        again = item | ({"slug": "more"} if "slug" in item else {})
        for body, headers in ((item, {}), ([again], {"X-BULK-OPERATION": "true"})):
            content = {"data": json.dumps(body).encode(), "content_type": "application/json"}
            told = by_token(path, "POST", headers, **content)
            assert told.status_code == 201, told.content
            described.validate(json.loads(told.content))

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_describes_what_is_answered_to_a_bulk_operation(self, schema, by_token, method):
        response = schema["paths"]["/api/v1/screenshots/"][method.lower()]["responses"]["200"]
        described = Draft202012Validator({**schema, **response["content"]["application/json"]["schema"]})
        body = json.dumps({"title": "New"}).encode() if method == "PATCH" else b""
        for query in ("gallery=spring&dry_run=true", "gallery=spring"):
            headers = {"X-BULK-OPERATION": "true"}
            told = by_token(
                f"/screenshots/?{query}", method, headers, data=body, content_type="application/json"
            )
            assert told.status_code == 200, told.content
            described.validate(json.loads(told.content))

    def test_reads_are_open_to_all(self, schema):
        assert all({} in item["get"]["security"] for item in schema["paths"].values())

    def test_names_no_server(self, schema):
        assert not schema.get("servers")

    def test_operations_have_names_of_their_own(self, schema):
        names = [method["operationId"] for item in schema["paths"].values() for method in item.values()]
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("path", sorted(PATHS))
    def test_documents_exactly_the_parameters_that_are_accepted(self, schema, path):
        documented = schema["paths"][path]["get"].get("parameters", [])
        accepted = {parameter.name for parameter in view_of(path).get_query_parameters()}
        assert {item["name"] for item in documented if item["in"] == "query"} == accepted
        assert {item["name"] for item in documented if item["in"] == "path"} == set(
            re.findall(r"{(\w+)}", path)
        )
        assert all(item["description"] for item in documented if item["in"] == "query")

    def test_documents_how_often_a_repeated_parameter_may_be_given(self, schema, api, world):
        parameters = schema["paths"]["/api/v1/screenshots/"]["get"]["parameters"]
        most = next(each["schema"]["maxItems"] for each in parameters if each["name"] == "tag")
        for times, status in ((most, 200), (most + 1, 400)):
            query = "&".join(f"tag=t{number}" for number in range(times))
            assert api(f"/screenshots/?{query}").status_code == status

    def test_offers_the_formats_that_it_describes(self, schema):
        for item in schema["paths"].values():
            for operation in item.values():
                for each in operation["parameters"]:
                    if each["name"] == "format":
                        assert set(re.findall(r"`(\w+)`", each["description"])) == set(each["schema"]["enum"])

    @pytest.mark.parametrize("path", sorted(PATHS))
    def test_documents_the_conditions_of_reads(self, schema, path):
        operation = schema["paths"][path]["get"]
        fields = {each["name"]: each for each in operation["parameters"] if each["in"] == "header"}
        assert set(fields) == {"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"}
        assert {"304", "412"} <= set(operation["responses"])
        assert not any(each.get("required") for each in fields.values())

    @pytest.mark.parametrize("path", sorted(PATHS))
    def test_documents_validators_and_every_error_as_a_problem(self, schema, path):
        responses = schema["paths"][path]["get"]["responses"]
        assert {"200", "304", "400", "404", "406", "412", "414", "429", "503"} <= set(responses)
        for status in ("200", "304"):
            assert {"ETag", "Last-Modified", "Cache-Control", "Cache-Status"} <= set(
                responses[status]["headers"]
            )
        assert list(responses["200"]["content"]) == ["application/json"]
        for status, response in responses.items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"]

    def test_documents_what_an_error_says_of_trying_again(self, schema):
        operations = [operation for item in schema["paths"].values() for operation in item.values()]
        for operation in operations:
            for status, name in (("401", "WWW-Authenticate"), ("429", "Retry-After"), ("503", "Retry-After")):
                assert name in required(schema, operation["responses"][status]), operation["operationId"]

    def test_the_database_out_of_reach_is_one_cause_of_a_503(self, schema):
        operations = [operation for item in schema["paths"].values() for operation in item.values()]
        for operation in operations:
            assert "database" in operation["responses"]["503"]["description"], operation["operationId"]

    @pytest.mark.parametrize("path", sorted(PATHS))
    def test_every_header_that_is_promised_is_sent(self, schema, api, world, path):
        cat = dict.fromkeys(("id", "screenshot_id"), str(world.shots["cat"].pk))
        target = path.replace("tags/{slug}", "tags/dark").format_map(SAMPLES | cat)
        shown = api(target)
        again = api(target, headers={"If-None-Match": shown["ETag"]})
        for response in (shown, again):
            promised = required(schema, schema["paths"][path]["get"]["responses"][str(response.status_code)])
            assert "Content-Location" in promised
            assert all(map(response.has_header, promised))
        assert (shown.status_code, again.status_code) == (200, 304)

    @pytest.mark.parametrize("path", sorted(PATHS - {"/api/v1/"}))
    def test_documents_every_field_that_fields_accepts(self, schema, path):
        operation = schema["paths"][path]["get"]
        described = operation["responses"]["200"]["content"]["application/json"]["schema"]
        described = follow(schema, described)
        if "results" in described["properties"]:
            described = follow(schema, described["properties"]["results"]["items"])
        parameter = next(item for item in operation["parameters"] if item["name"] == "fields")
        assert set(parameter["schema"]["items"]["enum"]) == set(described["properties"])


OF_EVERY_ANSWER = re.compile(
    "content-(type|length|security-policy)|date|x-frame-options|x-content-type-options|referrer-policy|cross-origin-.*"
    "|access-control-.*"
)
"""Fields that need no description: OpenAPI ignores Content-Type, and the others are in every answer of this server."""
NEW = {
    "/galleries/": {"slug": "new", "title": "New"},
    "/tags/": {"slug": "new"},
    "/screenshots/": {"gallery": "spring", "title": "New", "source_url": "https://one.example/"},
}
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
MANY = {"X-BULK-OPERATION": "true"}
OTHERS = {"If-Match": '"other"'}


@pytest.fixture
def described(schema):
    """Check that an answer is described with the very fields that it has; return its status."""

    def check(response, method, path):
        operation = schema["paths"][f"/api/v1{path}"][method.lower().replace("head", "get")]
        answer = fields(schema, operation["responses"][str(response.status_code)])
        names = {name for name in response.headers if not OF_EVERY_ANSWER.fullmatch(name.lower())}
        assert names <= set(answer), (method, path, response.status_code)
        for name, field in answer.items():
            assert name in names or not field["required"], (method, path, response.status_code, name)
            assert (
                re.search(field["schema"].get("pattern", ""), response.headers.get(name, ""))
                or name not in names
            )
        return response.status_code

    return check


class TestFieldsOfRealAnswers:
    """Whatever field an answer has, of those that are not in every answer, its description has too."""

    @pytest.fixture
    def by_key(self, api, world):
        """The owner, by a key whose plan has a quota."""
        plan = Plan.objects.create(slug="some", name="Some", monthly_quota=1_000)
        Account.objects.create(user=world.owner, plan=plan)
        _, secret = keys.issue(user=world.owner, name="test", scopes=["read", "curate"])
        return type(api)(authorization=f"Api-Key {secret.reveal()}")

    @pytest.mark.parametrize("path", sorted(path.removeprefix("/api/v1") for path in PATHS))
    def test_of_reads(self, described, api, by_key, world, path):
        cat = dict.fromkeys(("id", "screenshot_id"), str(world.shots["cat"].pk))
        target = path.replace("tags/{slug}", "tags/dark").format_map(SAMPLES | cat)
        answered = set()
        for client in (api, by_key):
            shown = client(target, headers={"Accept-Encoding": "gzip"})
            for method, query, headers in (
                ("HEAD", "", {}),
                ("GET", "", {"If-None-Match": "*"}),
                ("GET", "", OTHERS),
                ("GET", "?colour=red", {}),
                ("GET", "", {"Accept": "text/html"}),
                ("GET", "", {"Accept-Encoding": "identity;q=0"}),
                ("GET", "", {"Authorization": "Token none"}),
            ):
                answered.add(described(client(target + query, method, headers), method, path))
            answered.add(described(shown, "GET", path))
        assert answered == {200, 304, 400, 401, 406, 412}

    @pytest.mark.parametrize("path", sorted(NEW))
    def test_of_creations(self, described, api, by_key, path):
        body = {"data": json.dumps(NEW[path]).encode(), "content_type": "application/json"}
        asked = [(by_key, {}), (by_key, KEY), (by_key, OTHERS), (by_key, {"Accept": "text/html"}), (api, {})]
        asked += [(by_key, MANY)] if path == "/screenshots/" else [(by_key, {"If-None-Match": "*"})]
        several = body | {"data": b"[%s]" % body["data"]}
        answered = [
            described(client(path, "POST", headers, **(several if headers == MANY else body)), "POST", path)
            for client, headers in asked
        ]
        again = 201 if path == "/screenshots/" else 409
        last = 201 if path == "/screenshots/" else 412
        assert answered == [201, again, 412, 406, 401, last]
        assert (
            described(by_key(path, "POST", data=b"{", content_type="application/json"), "POST", path) == 400
        )
        assert described(by_key(path, "POST", data=b"{", content_type="text/plain"), "POST", path) == 415

    @pytest.mark.parametrize("path", ["/galleries/{slug}/", "/screenshots/{id}/"])
    def test_of_changes(self, described, by_key, by_user, world, path):
        target = path.format_map(SAMPLES | {"id": world.shots["cat"].pk})
        body = {"data": b'{"title": "New"}', "content_type": "application/json"}
        other = by_user(world.other)
        answered = []
        for headers in ({}, OTHERS, {"If-Match": "*"}):
            answered.append(described(by_key(target, "PATCH", headers, **body), "PATCH", path))
        answered.append(described(other(target, "PATCH", {"If-Match": "*"}, **body), "PATCH", path))
        for headers in ({}, OTHERS, {"If-Match": "*"}):
            answered.append(described(by_key(target, "DELETE", headers), "DELETE", path))
        answered.append(described(by_key(target), "GET", path))
        assert answered == [428, 412, 200, 403, 428, 412, 204, 410]

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_of_changes_of_a_whole_list(self, described, by_key, method):
        body = {"data": b'{"title": "New"}' if method == "PATCH" else b"", "content_type": "application/json"}
        answered = [
            described(
                by_key(f"/screenshots/?{query}", method, MANY | headers, **body), method, "/screenshots/"
            )
            for query, headers in (
                ("gallery=spring&dry_run=true", {}),
                ("gallery=spring", OTHERS),
                ("gallery=spring&max=1", {}),
                ("", {}),
                ("tag=dark", {}),
                ("gallery=spring", KEY),
                ("gallery=spring", KEY),
                ("gallery=autumn", KEY),
            )
        ]
        assert answered == [200, 412, 409, 400, 403, 200, 200, 422]


class TestDocs:
    def test_page_loads_from_this_server_alone(self, api):
        response = api("/docs/")
        page = response.content.decode()
        assert response.status_code == 200
        assert not re.search(r"""(?:src|href|url)\s*[=:(]\s*["']?\s*(?:https?:)?//""", page, re.IGNORECASE)
        assert "//" not in re.sub(r"(?m)^\s*//.*$", "", page)

    def test_everything_that_the_page_names_is_there(self, api):
        page = api("/docs/").content.decode()
        addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(addresses) == 5
        for address in addresses:
            assert api.client.get(address).status_code == 200, address

    def test_page_shows_the_schema_of_this_server(self, api):
        assert re.search(r'data-schema="([^"]+)"', api("/docs/").content.decode())[1].endswith("schema/")

    def test_page_is_stored_by_nobody_and_sets_a_cookie_in_sessions_alone(self, api, as_owner):
        for client, names in ((api, set()), (as_owner, {"csrftoken"})):
            response = client("/docs/")
            assert response["Cache-Control"] == "private, no-store"
            assert set(response.cookies) == names

    def test_page_is_for_get_and_head_alone(self, api):
        assert api("/docs/", "OPTIONS").status_code == 405


class TestOtherOrigins:
    HEADERS = {"Origin": "https://frontend.example"}

    @pytest.mark.parametrize("path", ["/screenshots/", "/galleries/spring/", "/", "/schema/"])
    @pytest.mark.parametrize(
        "header", ["if-none-match", "if-modified-since", "if-unmodified-since", "authorization", "accept"]
    )
    def test_preflight_allows_conditional_and_signed_reads(self, api, path, header):
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": header}
        response = api(path, "OPTIONS", headers=self.HEADERS | asked)
        assert response.status_code == 200
        assert response["Access-Control-Allow-Origin"] == "*"
        assert header in response["Access-Control-Allow-Headers"].split(", ")
        assert "GET" in response["Access-Control-Allow-Methods"].split(", ")

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    @pytest.mark.parametrize("header", ["if-match", "idempotency-key", "x-bulk-operation", "content-type"])
    def test_preflight_allows_signed_writes(self, api, method, header):
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
        response = api("/screenshots/1/", "OPTIONS", headers=self.HEADERS | asked)
        assert header in response["Access-Control-Allow-Headers"].split(", ")
        assert method in response["Access-Control-Allow-Methods"].split(", ")
        assert not response.has_header("Access-Control-Allow-Credentials")

    @pytest.mark.parametrize("header", ["traceparent", "x-requested-with", "cache-control", "sentry-trace"])
    def test_preflight_allows_what_libraries_add(self, api, header):
        """Without credentials, `*` stands for every field but Authorization (Fetch standard, section 3.3.4)."""
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": header}
        response = api("/screenshots/1/", "OPTIONS", headers=self.HEADERS | asked)
        assert "*" in response["Access-Control-Allow-Headers"].split(", ")
        assert not response.has_header("Access-Control-Allow-Credentials")

    def test_validators_links_and_the_state_of_the_cache_may_be_read(self, api, world):
        for path, status in [
            ("/screenshots/?page_size=1", 200),
            ("/nothing/", 404),
            ("/screenshots/?x=1", 400),
        ]:
            response = api(path, headers=self.HEADERS)
            assert response.status_code == status
            assert response["Access-Control-Allow-Origin"] == "*"
            exposed = set(response["Access-Control-Expose-Headers"].split(", "))
            assert {"ETag", "Link", "Cache-Status", "Retry-After"} <= exposed

    def test_every_field_that_an_answer_is_described_with_may_be_read(self, api, schema):
        operations = [operation for item in schema["paths"].values() for operation in item.values()]
        answers = [answer for operation in operations for answer in operation["responses"].values()]
        described = {name for answer in answers for name in answer.get("headers", {})}
        told = api("/galleries/", "POST", headers=self.HEADERS)["Access-Control-Expose-Headers"].split(", ")
        unasked = {
            "Cache-Control",
            "Expires",
            "Last-Modified",
        }  # any page may read these (Fetch section 3.2.6)
        assert {"ETag", "Location", "RateLimit"} <= described
        assert described - unasked <= set(told)
        assert {"Retry-After", "WWW-Authenticate", "Allow"} <= set(told)

    def test_304_may_be_read_too(self, api, world):
        response = api("/screenshots/", headers=self.HEADERS | {"If-None-Match": "*"})
        assert (response.status_code, response["Access-Control-Allow-Origin"]) == (304, "*")

    def test_credentials_of_a_browser_are_not_asked_for(self, api, world):
        response = api("/screenshots/", headers=self.HEADERS)
        assert not response.has_header("Access-Control-Allow-Credentials")
