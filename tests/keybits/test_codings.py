"""Content codings: made for the first who is sent one, always the same bytes, negotiated by RFC 9110 section 12.5.3."""

from __future__ import annotations

import gzip
from dataclasses import replace

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from keybits.answers import Terms, answer, missing_coding
from keybits.codings import SMALLEST, acceptable, admitted, encode, entity_tag, offered
from keybits.entries import Entry
from keybits.preconditions import NONE, Conditions
from keybits.readthrough import new_entry

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

BODY = b'{"results":[' + b",".join(b'{"id":%d,"title":"a title"}' % n for n in range(50)) + b"]}"
ENTRY = new_entry(BODY, [("Content-Type", "application/json")], witness=b"w", now=1_000)
ALL = ("br", "zstd", "gzip")
DECODE = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda packed: zstandard.ZstdDecompressor().decompress(packed),
}


def ask(
    accept: str | None, conditions: Conditions = NONE, method: str = "GET", entry: Entry = ENTRY
) -> tuple:
    given = answer(entry, method, conditions, Terms(2_000, "keybits; hit", accept))
    return given.status, dict(given.headers), given.body


class TestSection841Codings:
    @given(st.binary(max_size=2000) | st.text(max_size=2000).map(str.encode), st.sampled_from(ALL))
    def test_what_is_decoded_is_the_body(self, body: bytes, coding: str) -> None:
        assert DECODE[coding](encode(body, coding)) == body

    @pytest.mark.parametrize("coding", ALL)
    def test_the_same_body_gives_the_same_bytes_and_fewer(self, coding: str) -> None:
        packed = encode(BODY, coding)
        assert packed == encode(bytes(BODY), coding)
        assert len(packed) < len(BODY)

    def test_gzip_says_no_time(self) -> None:
        assert encode(BODY, "gzip")[4:8] == bytes(4)

    def test_the_identity_is_the_body(self) -> None:
        assert encode(BODY, "identity") == BODY

    def test_all_of_them_are_offered_for_a_list(self) -> None:
        assert offered(BODY) == ALL

    def test_small_bodies_have_none(self) -> None:
        assert offered(b"a" * (SMALLEST - 1)) == ()
        assert offered(b"a" * SMALLEST) == ALL

    def test_who_refuses_the_identity_of_a_small_body_may_have_it_in_one_of_them(self) -> None:
        assert admitted("gzip, identity;q=0", b"a") == ("gzip",)
        assert admitted("gzip", b"a") == ("identity",)
        assert admitted("identity;q=0", b"a") == ()


class TestTheFirstWhoIsSentACoding:
    @pytest.mark.parametrize("coding", ALL)
    def test_has_it_made(self, coding: str) -> None:
        assert missing_coding(ENTRY, "GET", NONE, coding) == coding
        made = replace(ENTRY, coded=((coding, encode(BODY, coding)),))
        assert missing_coding(made, "GET", NONE, coding) is None
        assert ask(coding, entry=made) == ask(coding)

    @pytest.mark.parametrize("field", [None, "", "identity", "br;q=0", "*;q=0"])
    def test_is_nobody_who_gets_none(self, field: str | None) -> None:
        assert missing_coding(ENTRY, "GET", NONE, field) is None

    def test_is_nobody_who_has_it_already(self) -> None:
        _, headers, _ = ask("br")
        holds = replace(NONE, if_none_match=headers["ETag"])
        assert missing_coding(ENTRY, "GET", holds, "br") is None
        assert missing_coding(ENTRY, "GET", replace(NONE, if_match='"another"'), "br") is None

    def test_is_who_asks_for_its_length(self) -> None:
        assert missing_coding(ENTRY, "HEAD", NONE, "gzip, zstd;q=0.5") == "gzip"


class TestSection1253Negotiation:
    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            (None, ("identity",)),
            ("", ("identity",)),
            ("gzip", ("gzip", "identity")),
            ("GZIP", ("gzip", "identity")),
            ("x-gzip", ("gzip", "identity")),
            ("gzip, br, zstd", ("br", "zstd", "gzip", "identity")),
            ("gzip, deflate, br, zstd", ("br", "zstd", "gzip", "identity")),
            ("gzip;q=1.0, br;q=0.5", ("gzip", "br", "identity")),
            ("gzip;q=0", ("identity",)),
            ("*", ("br", "zstd", "gzip", "identity")),
            ("*;q=0", ()),
            ("*;q=0, gzip", ("gzip",)),
            ("identity;q=0", ()),
            ("identity;q=0, gzip", ("gzip",)),
            ("identity, gzip;q=0.5", ("identity", "gzip")),
            ("identity;q=0.5, gzip;q=0.5", ("gzip", "identity")),
            ("gzip;q=2", ("identity",)),
            ("gzip;q=0.1234", ("identity",)),
            (";;;, ,gzip;q=1", ("gzip", "identity")),
            ("compress", ("identity",)),
            ("br;q=0.001", ("br", "identity")),
        ],
    )
    def test_what_is_accepted_is_ordered_by_weight_and_then_by_what_the_server_likes_best(
        self, field: str | None, expected: tuple[str, ...]
    ) -> None:
        assert acceptable(field, ALL) == expected

    @given(st.text(st.sampled_from("gzipbrstdeny*;q=01., ")) | st.text())
    def test_no_field_raises(self, field: str) -> None:
        assert set(acceptable(field, ALL)) <= {*ALL, "identity"}


class TestRepresentations:
    def test_each_has_a_strong_tag_of_its_own_and_its_own_length(self) -> None:
        answers = [ask(coding) for coding in ("identity", *ALL)]
        assert len({headers["ETag"] for _, headers, _ in answers}) == 4
        for coding, (_, headers, body) in zip(("identity", *ALL), answers, strict=True):
            assert headers["Content-Length"] == str(len(body))
            assert headers.get("Content-Encoding", "identity") == coding
            assert headers["ETag"].startswith('"')
            assert DECODE.get(coding, bytes)(body) == BODY

    @pytest.mark.parametrize("accept", ["gzip", "br", "zstd", "identity", None])
    def test_head_is_get_without_content(self, accept: str | None) -> None:
        status, headers, _ = ask(accept)
        assert ask(accept, method="HEAD") == (status, headers, b"")

    def test_vary_is_the_same_on_everything_small_bodies_included(self) -> None:
        small = new_entry(b"{}", [], witness=b"w", now=1_000)
        hit = Conditions(if_none_match="*")
        answers = [
            ask("gzip"),
            ask(None),
            ask("gzip", hit),
            ask("gzip", method="HEAD"),
            ask("gzip", entry=small),
        ]
        assert {headers["Vary"] for _, headers, _ in answers} == {"Accept-Encoding"}

    @pytest.mark.parametrize("held", ["identity", *ALL])
    def test_who_switches_coding_revalidates_what_it_holds(self, held: str) -> None:
        tag = entity_tag(ENTRY.etag, held)
        status, headers, _ = ask("gzip, br, zstd", Conditions(if_none_match=f'"other", W/{tag}'))
        assert (status, headers["ETag"]) == (304, tag)

    def test_what_is_no_longer_acceptable_is_sent_anew(self) -> None:
        tag = entity_tag(ENTRY.etag, "br")
        status, headers, _ = ask("gzip", Conditions(if_none_match=tag))
        assert (status, headers["Content-Encoding"]) == (200, "gzip")

    def test_nothing_acceptable_is_a_406(self) -> None:
        assert ask("identity;q=0")[0] == 406
        assert ask("*;q=0")[0] == 406
