"""What lists and details hold, what each filter keeps, and how few queries it takes."""

from __future__ import annotations

import itertools
import json
from urllib.parse import quote

import pytest

from catalog.models import Gallery, Rendition, Screenshot, Tag

pytestmark = pytest.mark.django_db

SHOT_LISTS = ["/screenshots/", "/galleries/spring/screenshots/", "/tags/dark/screenshots/"]
LISTS = [
    "/galleries/",
    *SHOT_LISTS,
    "/screenshots/{cat}/renditions/",
    "/galleries/spring/screenshots/{cat}/renditions/",
    "/tags/",
]
DETAILS = [
    "/galleries/spring/",
    "/screenshots/{cat}/",
    "/galleries/spring/screenshots/{cat}/",
    "/tags/dark/",
]
SHOT = {
    "id",
    "url",
    "title",
    "alt",
    "gallery",
    "position",
    "tags",
    "domain",
    "status",
    "width",
    "height",
    "orientation",
    "dominant_color",
    "placeholder",
    "captured_at",
}
PUBLIC = {"cat", "dog", "elk", "fox", "gnu", "owl", "pig"}


class TestEnvelope:
    @pytest.mark.parametrize("path", LISTS)
    def test_list_has_its_neighbours_and_results_and_counts_only_where_it_must(self, api, world, path):
        target = world.at(path)
        assert set(api.read(target)) == {"next", "previous", "results"}
        for numbered in ("page=1", "limit=50", "offset=0"):
            body = api.read(f"{target}?{numbered}")
            assert set(body) == {"count", "next", "previous", "results"}
            assert body["count"] == len(body["results"])

    @pytest.mark.parametrize("path", LISTS)
    def test_every_item_names_itself(self, api, world, path):
        for item in api.read(world.at(path))["results"]:
            assert {"id", "url"} <= set(item)
            assert item["url"].startswith("/")

    def test_empty_list_is_a_list(self, api, world):
        assert api.read("/tags/idle/screenshots/") == {"next": None, "previous": None, "results": []}
        assert api.read("/tags/idle/screenshots/?page=1")["count"] == 0
        assert api.read("/tags/idle/screenshots/?limit=5&offset=5")["count"] == 0

    @pytest.mark.parametrize("path", SHOT_LISTS)
    def test_page_has_24_items_unless_told_otherwise_and_never_over_100(self, api, world, path):
        for number in range(101):
            world.add(f"more{number}", "spring", "dark")
        assert len(api.ids(path)) == 24
        assert len(api.ids(f"{path}?page_size=3")) == 3
        assert len(api.ids(f"{path}?page_size=max")) == 100
        assert len(api.ids(f"{path}?page_size=max&page=1")) == 100
        assert len(api.ids(f"{path}?page=1")) == 24
        assert len(api.ids(f"{path}?offset=0")) == 24
        assert len(api.ids(f"{path}?limit=100")) == 100

    def test_body_is_utf8_without_white_space(self, api, world):
        world.add("accent", "autumn", title="Café 猫 😺")
        body = api("/screenshots/").content
        assert "Café 猫 😺".encode() in body
        assert body == json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()


class TestItems:
    @pytest.mark.parametrize("path", SHOT_LISTS)
    def test_screenshot_in_a_list(self, api, world, path):
        cat = world.shots["cat"]
        item = next(item for item in api.read(path)["results"] if item["id"] == cat.pk)
        assert item == {
            "id": cat.pk,
            "url": f"/api/v1/screenshots/{cat.pk}/",
            "title": "Cat",
            "alt": "",
            "gallery": "spring",
            "position": 2,
            "tags": ["chart", "dark"],
            "domain": "one.example",
            "status": "ready",
            "width": 1280,
            "height": 800,
            "orientation": "landscape",
            "dominant_color": "",
            "placeholder": "",
            "captured_at": "2026-03-01T12:00:00Z",
        }

    @pytest.mark.parametrize("path", ["/screenshots/{cat}/", "/galleries/spring/screenshots/{cat}/"])
    def test_screenshot_at_its_address_has_more_and_its_renditions(self, api, world, path):
        body = api.read(world.at(path))
        assert set(body) > SHOT | {
            "source_url",
            "viewport",
            "metadata",
            "created_at",
            "updated_at",
            "renditions",
        }
        assert body["viewport"] == {"width": 1280, "height": 800}
        assert [(item["width"], item["format"]) for item in body["renditions"]] == [
            (640, "jpeg"),
            (640, "webp"),
            (1280, "webp"),
        ]

    def test_gallery_in_a_list(self, api, world):
        item = api.read("/galleries/")["results"][0]
        assert item.pop("updated_at").endswith("Z")
        assert item == {
            "id": world.galleries["spring"].pk,
            "url": "/api/v1/galleries/spring/",
            "slug": "spring",
            "title": "Spring",
            "visibility": "public",
            "position": 0,
            "screenshot_count": 5,
        }

    def test_gallery_at_its_address_has_more(self, api, world):
        more = set(api.read("/galleries/spring/")) - set(api.read("/galleries/")["results"][0])
        assert more == {"description", "cover", "max_age", "edge_max_age", "created_at"}

    def test_gallery_at_its_address_shows_its_cover_with_renditions(self, api, world):
        cover = api.read("/galleries/spring/")["cover"]
        assert cover["id"] == world.shots["cat"].pk
        assert len(cover["renditions"]) == 3
        assert api.read("/galleries/autumn/")["cover"] is None

    @pytest.mark.parametrize("path", ["/tags/", "/tags/dark/"])
    def test_tag_counts_what_the_client_may_see(self, api, world, path):
        body = api.read(path)
        item = next(item for item in body.get("results", [body]) if item["slug"] == "dark")
        assert item == {
            "id": world.tags["dark"].pk,
            "url": "/api/v1/tags/dark/",
            "slug": "dark",
            "title": "Dark",
            "kind": "scheme",
            "screenshot_count": 3,
        }

    @pytest.mark.parametrize(
        "path", ["/screenshots/{cat}/renditions/", "/galleries/spring/screenshots/{cat}/renditions/"]
    )
    def test_rendition_has_an_address_made_of_its_content(self, api, world, path):
        item = api.read(world.at(path))["results"][0]
        rendition = Rendition.objects.get(pk=item["id"])
        assert item == {
            "id": rendition.pk,
            "url": f"/files/{rendition.sha256}.{'webp' if rendition.format == 'webp' else 'jpg'}",
            "width": 640,
            "height": 320,
            "format": rendition.format,
            "bytes": 640,
            "sha256": rendition.sha256,
        }

    def test_addresses_in_answers_lead_somewhere(self, api, world):
        for path in (*LISTS, *DETAILS):
            for address in _addresses(api.read(world.at(path))):
                if address.startswith("/api/"):
                    api.read(address)

    @pytest.mark.parametrize("path", ["", "renditions/"])
    def test_no_gallery_has_a_screenshot_of_another(self, api, world, path):
        for gallery, status in (("spring", 200), ("autumn", 404), ("nothing", 404)):
            target = world.at(f"/galleries/{gallery}/screenshots/{{cat}}/{path}")
            assert api(target).status_code == status, target

    def test_index_leads_to_every_resource(self, api, world):
        for address in api.read("/").values():
            assert api(address).status_code == 200


def _addresses(value):
    if isinstance(value, dict):
        yield from (item for name, item in value.items() if name == "url")
        for item in value.values():
            yield from _addresses(item)
    elif isinstance(value, list):
        for item in value:
            yield from _addresses(item)


FILTERS = {
    "": PUBLIC,
    "tag=dark": {"cat", "dog", "owl"},
    "tag=dark&tag=chart": {"cat"},
    "tag=chart&tag=dark&tag=chart": {"cat"},
    "tag=dark&tag=mobile": {"owl"},
    "tag=dark&tag=idle": set(),
    "tag=nothing": set(),
    "tag=Dark": set(),
    "gallery=spring": {"cat", "dog", "elk", "fox", "gnu"},
    "gallery=nothing": set(),
    "domain=two.example": {"gnu", "owl"},
    "domain=TWO.Example": {"gnu", "owl"},
    "domain=example": set(),
    "captured_after=2026-03-01T13:00:00Z": {"elk", "fox", "owl"},
    "captured_after=2026-03-01T14:00:00%2B01:00": {"elk", "fox", "owl"},
    "captured_after=2026-03-01T13:00:00.000001Z": set(),
    "captured_after=2026-03-01": PUBLIC,
    "captured_before=2026-03-01T12:00:00Z": {"pig"},
    "captured_before=2026-03-01T11:00:00Z": set(),
    "captured_before=2026-03-02": PUBLIC,
    "captured_after=2026-03-01T12:00:00Z&captured_before=2026-03-01T13:00:00Z": {"cat", "dog", "gnu"},
    "min_width=1280": {"cat", "gnu", "owl", "pig"},
    "min_width=1281": {"pig"},
    "min_width=0": PUBLIC,
    "min_height=844": {"dog", "gnu", "pig"},
    "min_width=2147483647": set(),
    "orientation=landscape": {"cat", "owl", "pig"},
    "orientation=portrait": {"dog", "gnu"},
    "orientation=square": {"elk"},
    "status=pending": {"fox"},
    "status=failed": {"gnu"},
    "status=ready": PUBLIC - {"fox", "gnu"},
    "ids={cat},{owl},{cat}": {"cat", "owl"},
    "ids={yak}": set(),
    "ids=9223372036854775807": set(),
    "search=cat": {"cat"},
    "tag=dark&gallery=autumn": {"owl"},
    "min_width=1000&orientation=portrait": {"gnu"},
    "status=ready&domain=one.example&captured_after=2026-03-01T12:30:00Z": {"elk"},
    "ids={cat},{dog},{pig}&tag=chart&orientation=landscape&min_width=1281": {"pig"},
    "search=one&tag=chart&gallery=spring&status=ready": {"cat", "elk"},
}


class TestFilters:
    def test_a_domain_is_found_as_it_is_shown(self, api, world):
        for url in (
            "http://Bücher.example/",
            "http://例え.テスト:8000/",
            "http://[2001:DB8::1]/",
            "http://a_b.c/",
        ):
            shot = Screenshot.objects.create(
                gallery=Gallery.objects.get(slug="spring"), title="x", source_url=url
            )
            shown = api.read(f"/screenshots/{shot.pk}/")["domain"]
            for written in (shown, shown.upper()):
                assert api.ids(f"/screenshots/?domain={quote(written)}") == [shot.pk], written

    @pytest.mark.parametrize(
        ("canonical", "spellings"),
        {
            "xn--mnchen-3ya.example": ["münchen.example", "MÜNCHEN.example.", "XN--MNCHEN-3YA.example"],
            "xn--fa-hia.example": ["faß.example"],  # which is another host than fass.example
            "fass.example": ["FASS.example", "fass.example."],
        }.items(),
    )
    def test_a_host_has_one_name_however_it_is_spelt(self, api, world, canonical, spellings):
        gallery = Gallery.objects.get(slug="spring")
        shots = [
            Screenshot.objects.create(gallery=gallery, title="x", source_url=f"https://{spelling}/")
            for spelling in [canonical, *spellings]
        ]
        assert {shot.domain for shot in shots} == {canonical}
        for spelling in [canonical, *spellings]:
            found = api.ids(f"/screenshots/?domain={quote(spelling)}")
            assert sorted(found) == [shot.pk for shot in shots]

    @pytest.mark.parametrize(("query", "names"), FILTERS.items(), ids=FILTERS)
    def test_filter_keeps_exactly_these(self, api, world, query, names):
        assert set(world.names(api.ids(world.at(f"/screenshots/?{query}")))) == names

    def test_nested_list_filters_like_the_whole_list(self, api, world):
        for query, names in FILTERS.items():
            by_tag = api.ids(world.at(f"/tags/dark/screenshots/?{query}"))
            assert set(world.names(by_tag)) == names & FILTERS["tag=dark"], query
            if "gallery=" not in query:
                in_gallery = api.ids(world.at(f"/galleries/spring/screenshots/?{query}"))
                assert set(world.names(in_gallery)) == names & FILTERS["gallery=spring"], query

    def test_count_is_of_what_the_filter_keeps(self, api, world):
        for query, names in FILTERS.items():
            for way in ("page=1&page_size=1", "limit=1"):
                assert api.read(world.at(f"/screenshots/?{way}&{query}"))["count"] == len(names), query

    def test_item_with_several_of_the_tags_comes_once(self, api, world):
        assert len(api.ids("/screenshots/?tag=dark&tag=chart")) == 1

    @pytest.mark.parametrize("kind", ["topic", "scheme", "device"])
    def test_tags_by_kind(self, api, world, kind):
        expected = sorted(slug for slug, tag in world.tags.items() if tag.kind == kind)
        assert [item["slug"] for item in api.read(f"/tags/?kind={kind}")["results"]] == expected


# Text, a search that finds it, whether it does. The text stands in a title, an alternative text or a page's title.
SEARCHES = [
    ("Quarterly Report", "quarterly", True),
    ("Quarterly Report", "report quarterly", True),
    ("Quarterly Report", "QUARTERLY rEPORT", True),
    ("Quarterly Report", "quart rep", True),
    ("Quarterly Report", "uarterly", False),
    ("Quarterly Report", "quarterly reports", False),
    ("Quarterly Report", "quarterly annual", False),
    ("Quarterly Report", "  quarterly   report ", True),
    ("Quarterly Report", "quarterly, report!", True),
    ("Quarterly Report", "...", False),
    ("Quarterly Report", "%", False),
    ("Quarterly Report", "_", False),
    ("snake_case-kebab.dot/slash", "case", True),
    ("snake_case-kebab.dot/slash", "kebab", True),
    ("snake_case-kebab.dot/slash", "dot slash", True),
    ("snake_case-kebab.dot/slash", "snake_case", True),
    ("snake_case-kebab.dot/slash", "case-kebab", True),
    ("Version 1.2.3", "1.2", True),
    ("Version 1.2.3", "2", True),
    ("Error 404 at 12:30", "404", True),
    ("Error 404 at 12:30", "-404", True),
    ("Error 404 at 12:30", "40", True),
    ("Error 404 at 12:30", "04", False),
    ("mp3 x264 2x", "x26", True),
    ("Café Münster", "café", True),
    ("Café Münster", "CAFÉ", True),
    ("Café Münster", "CAFÉ MÜN", True),
    ("Café Münster", "cafe", False),
    ("Straße", "straße", True),
    ("Straße", "STRAß", True),
    ("Straße", "strasse", False),
    ("Москва Кремль", "Москва", True),
    ("Москва Кремль", "кремл", True),
    ("İstanbul ΑΣ हिन्दी x²y", "İstanbul ΑΣ हिन्दी x²y", True),
    ("日本語 ギャラリー", "日本", True),
    ("日本語 ギャラリー", "ギャラリー", True),
    ("日本語 ギャラリー", "語", False),
    ("한국어 화면", "화면", True),
    ("لوحة القيادة", "القيادة", True),
    ("cat 😺 face", "😺", False),
    ("cat😺face", "face", True),
    ("can't stop", "can't", True),
    ("can't stop", "t", True),
    ('say "hello"', '"hello"', True),
    ('say "hello"', '"hello', True),
    ('say "hello"', "hello\\", True),
    ("plain text", "plain OR other", False),
    ("plain or other text", "plain OR other", True),
    ("plain text", "plain AND text", False),
    ("plain and text", "plain AND text", True),
    ("plain text", "plain NOT other", False),
    ("plain text", "plain -other", False),
    ("plain text", "plain NEAR text", False),
    ("plain near text", "NEAR(plain text, 5)", False),
    ("plain near text 5", "NEAR(plain text, 5)", True),
    ("plain text", "title:plain", False),
    ("title plain", "title:plain", True),
    ("plain text", "pla*", True),
    ("plain text", "^text", True),
    ("plain text", "plain & text", True),
    ("plain text", "plain | other", False),
    ("plain text", "!plain", True),
    ("plain text", "plain:*", True),
    ("plain text", "(plain", True),
    ("plain text", "plain'); DROP TABLE catalog_screenshot; --", False),
    ("plain text", "{plain} + {text}", True),
    ("plain text", "plain <-> text", True),
    ("the and of", "the", True),
    ("running", "run", True),
    ("run", "running", False),
]


def escaped(text):
    """Return `text` with every byte escaped."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


class TestSearch:
    @pytest.mark.parametrize("field", ["title", "alt", "page_title"])
    def test_search_finds_words_and_their_beginnings_as_plain_text(self, api, world, field):
        needle = world.add("needle", "spring", title="x")
        for text, search, found in SEARCHES:
            setattr(needle, field, text)
            needle.save()
            assert (needle.pk in api.ids(f"/screenshots/?search={escaped(search)}")) is found, (text, search)

    def test_galleries_are_searched_by_the_words_of_their_titles(self, api, world):
        gallery = Gallery.objects.create(slug="needle", title="x")
        for title, search, found in SEARCHES:
            gallery.title = title
            gallery.save()
            assert (gallery.pk in api.ids(f"/galleries/?search={escaped(search)}")) is found, (title, search)

    def test_words_may_stand_in_different_fields(self, api, world):
        shot = world.add("needle", "spring", title="Alpha", alt="beta", page_title="gamma")
        assert api.ids("/screenshots/?search=gamma+beta+alpha+one.example") == [shot.pk]

    def test_source_and_metadata_are_not_searched(self, api, world):
        world.add("needle", "spring", source_url="https://one.example/hidden", metadata={"word": "hidden"})
        assert api.ids("/screenshots/?search=hidden") == []

    def test_search_follows_a_change(self, api, world):
        shot = world.add("needle", "spring", title="Before")
        shot.title = "After"
        shot.save()
        assert api.ids("/screenshots/?search=before") == []
        assert api.ids("/screenshots/?search=after") == [shot.pk]
        shot.delete()
        assert api.ids("/screenshots/?search=after&page_size=1") == []


ORDERINGS = {
    "/screenshots/": ["captured_at", "created_at", "updated_at", "title"],
    "/galleries/spring/screenshots/": ["position", "captured_at", "created_at", "updated_at", "title"],
    "/tags/dark/screenshots/": ["captured_at", "created_at", "updated_at", "title"],
    "/galleries/": ["position", "title", "created_at", "updated_at"],
    "/tags/": ["slug", "name"],
}
ROWS = {"/screenshots/": Screenshot, "/galleries/": Gallery, "/tags/": Tag}
CASES = [(path, field) for path, fields in ORDERINGS.items() for field in fields]


class TestOrdering:
    @pytest.mark.parametrize(("path", "field"), CASES)
    def test_ordering_sorts_by_the_field_then_by_id_both_ways(self, api, world, path, field):
        forwards = api.ids(f"{path}?ordering={field}&page_size=max")
        model = ROWS.get(path, Screenshot)
        keys = {row.pk: (getattr(row, field), row.pk) for row in model.objects.filter(pk__in=forwards)}
        assert forwards == sorted(forwards, key=keys.__getitem__)
        assert api.ids(f"{path}?ordering=-{field}&page_size=max") == forwards[::-1]

    @pytest.mark.parametrize(
        ("path", "ordering"),
        [
            ("/screenshots/", "-captured_at"),
            ("/tags/dark/screenshots/", "-captured_at"),
            ("/galleries/spring/screenshots/", "position"),
            ("/galleries/", "position"),
            ("/tags/", "slug"),
        ],
    )
    def test_order_without_being_asked(self, api, world, path, ordering):
        assert api.ids(path) == api.ids(f"{path}?ordering={ordering}")

    @pytest.mark.parametrize("path", LISTS)
    def test_order_is_the_same_by_every_way_through_the_list(self, api, world, path):
        target = world.at(path)
        assert api.ids(target) == api.ids(f"{target}?page=1") == api.ids(f"{target}?offset=0")


class TestFields:
    @pytest.mark.parametrize("path", [*LISTS, *DETAILS])
    def test_each_field_can_be_had_alone(self, api, world, path):
        target = world.at(path)
        body = api.read(target)
        whole = body["results"][0] if "results" in body else body
        for name in whole:
            sparse = api.read(f"{target}?fields={name}")
            assert (sparse["results"][0] if "results" in sparse else sparse) == {name: whole[name]}

    def test_fields_keep_the_order_of_the_representation(self, api, world):
        item = api.read("/screenshots/?fields=title,id,captured_at")["results"][0]
        assert list(item) == ["id", "title", "captured_at"]

    def test_embedded_parts_stay_whole(self, api, world):
        body = api.read(world.at("/screenshots/{cat}/?fields=id,renditions&include=gallery"))
        assert set(body) == {"id", "renditions", "gallery_info"}
        assert set(body["renditions"][0]) == {"id", "url", "width", "height", "format", "bytes", "sha256"}
        assert body["gallery_info"]["slug"] == "spring"
        cover = api.read("/galleries/spring/?fields=cover")["cover"]
        assert {"id", "renditions"} < set(cover)

    def test_field_that_is_embedded_on_request_can_be_asked_for_by_name(self, api, world):
        item = api.read(world.at("/screenshots/?ids={cat}&fields=id,renditions"))["results"][0]
        assert set(item) == {"id", "renditions"}


class TestInclude:
    @pytest.mark.parametrize("path", SHOT_LISTS)
    @pytest.mark.parametrize(
        ("include", "extra"),
        [
            ("renditions", {"renditions"}),
            ("gallery", {"gallery_info"}),
            ("gallery,renditions", {"gallery_info", "renditions"}),
            ("renditions,gallery", {"gallery_info", "renditions"}),
        ],
    )
    def test_list_embeds_what_is_asked_for_and_nothing_else(self, api, world, path, include, extra):
        assert all(set(item) == SHOT for item in api.read(path)["results"])
        assert all(set(item) == SHOT | extra for item in api.read(f"{path}?include={include}")["results"])

    def test_embedded_parts_equal_their_own_addresses(self, api, world):
        item = api.read(world.at("/screenshots/?ids={cat}&include=gallery,renditions"))["results"][0]
        assert item["renditions"] == api.read(world.at("/screenshots/{cat}/renditions/"))["results"]
        gallery = api.read("/galleries/spring/")
        assert item["gallery_info"] == {name: gallery[name] for name in item["gallery_info"]}

    def test_detail_embeds_its_gallery(self, api, world):
        assert "gallery_info" not in api.read(world.at("/screenshots/{cat}/"))
        assert "gallery_info" in api.read(world.at("/screenshots/{cat}/?include=gallery"))


WAYS = ["", "page=1&page_size=max", "limit=100", "page_size=2", "page=2&page_size=2", "limit=2&offset=2"]
EMBEDS = [
    "",
    "include=gallery,renditions",
    "fields=id,renditions",
    "fields=gallery_info",
    "fields=tags,gallery",
]
FILTERED = ["", "tag=dark&tag=chart", "search=one&status=ready", "tag=nothing"]
READS = dict.fromkeys(LISTS, WAYS) | {path: ["", "fields=id"] for path in DETAILS}
for _path in SHOT_LISTS:
    READS[_path] = [
        *(f"{embed}&{way}" for embed in EMBEDS for way in WAYS),
        *(f"{query}&{way}" for query in FILTERED for way in ("", "limit=5")),
    ]
for _path in ("/screenshots/{cat}/", "/galleries/spring/screenshots/{cat}/"):
    READS[_path] = ["include=gallery,renditions", "fields=renditions"]
READS["/galleries/"] = [*WAYS, "search=sp"]


class TestQueries:
    @pytest.mark.parametrize("path", READS)
    def test_no_read_takes_more_than_four_queries(self, api, world, count_queries, path):
        for number in range(3):
            world.add(f"more{number}", "spring", "dark chart")
        for query in READS[path]:
            with count_queries() as queries:
                response = api(world.at(f"{path}?{query}"))
            assert response.status_code in {200, 404}
            assert 0 < len(queries) <= 4, (query, [query["sql"] for query in queries])

    @pytest.mark.parametrize("path", SHOT_LISTS)
    def test_number_of_queries_does_not_grow_with_the_page(self, api, world, count_queries, path):
        sizes = itertools.count(1)

        def cost() -> int:
            with count_queries() as queries:
                api.read(f"{path}?include=gallery,renditions&page_size={10 + next(sizes)}")
            return len(queries)

        world.add("more", "spring", "dark chart")
        before = cost()
        for number in range(5):
            world.add(f"more{number}", "spring", "dark chart")
        assert cost() == before
