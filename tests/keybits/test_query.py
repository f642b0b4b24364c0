"""The closed grammar of query strings: what is refused, how it is said, and one text for each meaning."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybits.parameters import MOST_REPEATED, Choice, CommaList, Number, Text
from keybits.query import LONGEST, Grammar, Query, QueryError

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

GRAMMAR = Grammar(
    [
        Text(name="search", longest=20),
        Text(name="tag", longest=20, pattern=r"[-a-z]+", expected="Write a slug.", repeatable=True),
        Choice(name="ordering", choices=("title", "-title")),
        CommaList(name="ids", most=3),
        Number(name="limit", minimum=1, maximum=100),
    ]
)

pairs = st.fixed_dictionaries(
    {},
    optional={
        "search": st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(
            str.strip
        ),
        "ordering": st.sampled_from(["title", "-title"]),
        "ids": st.lists(st.integers(1, 99), min_size=1, max_size=3).map(lambda ids: ",".join(map(str, ids))),
        "limit": st.integers(1, 100).map(str),
        "tag": st.lists(st.from_regex(r"[-a-z]{1,20}", fullmatch=True), min_size=1, max_size=3),
    },
)


def refusal(query_string: str, grammar: Grammar = GRAMMAR) -> QueryError:
    with pytest.raises(QueryError) as caught:
        grammar.parse(query_string)
    assert caught.value.detail
    return caught.value


class TestCanonical:
    @given(pairs, st.randoms())
    def test_the_order_of_parameters_means_nothing(self, given_pairs: dict[str, str], chance: object) -> None:
        listed = [(name, value) for name, value in given_pairs.items() if isinstance(value, str)]
        listed += [("tag", value) for value in given_pairs.get("tag", [])]
        shuffled = list(listed)
        chance.shuffle(shuffled)  # type: ignore[attr-defined]
        assert GRAMMAR.parse(urlencode(shuffled)) == GRAMMAR.parse(urlencode(listed))

    @given(pairs)
    def test_is_idempotent(self, given_pairs: dict[str, str]) -> None:
        query = GRAMMAR.parse(urlencode(given_pairs, doseq=True))
        assert GRAMMAR.parse(query.canonical) == query

    @given(pairs)
    def test_keeps_every_value(self, given_pairs: dict[str, str]) -> None:
        query = GRAMMAR.parse(urlencode(given_pairs, doseq=True))
        assert query.get("search") == given_pairs.get("search")
        assert query.all("tag") == sorted(set(given_pairs.get("tag", [])))

    @pytest.mark.parametrize(
        ("query_string", "canonical"),
        [
            ("", ""),
            ("&", ""),
            ("limit=007", "limit=7"),
            ("&limit=7&", "limit=7"),
            ("search=a+b", "search=a+b"),
            ("search=a%20b", "search=a+b"),
            ("search=%61", "search=a"),
            ("search=a=b", "search=a%3Db"),
            ("s%65arch=a", "search=a"),
            ("tag=b&tag=a&tag=b", "tag=a&tag=b"),
            ("ids=3,1,3", "ids=1%2C3"),
            ("ordering=title&limit=1&tag=a", "limit=1&ordering=title&tag=a"),
        ],
    )
    def test_each_way_to_write_a_query_has_one_canonical_text(
        self, query_string: str, canonical: str
    ) -> None:
        assert GRAMMAR.parse(query_string).canonical == canonical

    def test_utf_8_may_stand_unescaped(self) -> None:
        """WSGI gives the bytes as latin-1."""
        raw = "search=größe".encode().decode("latin-1")
        assert (
            GRAMMAR.parse(raw) == GRAMMAR.parse(f"search={quote('größe')}") == Query((("search", "größe"),))
        )

    def test_queries_that_differ_have_texts_that_differ(self) -> None:
        assert GRAMMAR.parse("search=a%26tag%3Db").canonical != GRAMMAR.parse("search=a&tag=b").canonical


class TestTracking:
    @pytest.mark.parametrize("name", ["utm_source", "utm_", "gclid", "fbclid", "_"])
    def test_is_ignored_however_often_and_whatever_it_says(self, name: str) -> None:
        assert GRAMMAR.parse(f"{name}=1&limit=7&{name}=2&{name}=") == GRAMMAR.parse("limit=7")

    @pytest.mark.parametrize("name", ["utm", "gclid2", "xgclid", "__", "utmsource"])
    def test_only_what_is_listed_by_name(self, name: str) -> None:
        assert refusal(f"{name}=1").kind == "urn:problem:unknown-parameter"


class TestUnknown:
    def test_names_it_the_nearest_and_all(self) -> None:
        error = refusal("oredring=title")
        assert (error.kind, error.parameter, error.suggestion) == (
            "urn:problem:unknown-parameter",
            "oredring",
            "ordering",
        )
        assert error.allowed == ["ids", "limit", "ordering", "search", "tag"]
        assert "Did you mean 'ordering'?" in error.detail

    @pytest.mark.parametrize("name", ["xyzzy", "", "Limit%20", "limit[]", "limit;x"])
    def test_nothing_is_ignored(self, name: str) -> None:
        assert refusal(f"{name}=1").kind == "urn:problem:unknown-parameter"

    def test_of_several_that_are_near_the_nearest_alone_is_suggested(self) -> None:
        near = Grammar([Number(name="gallery"), Number(name="gallery_in")])
        assert refusal("galery=1", near).suggestion == "gallery"

    def test_without_anything_near_nothing_is_suggested(self) -> None:
        assert refusal("xyzzy=1").suggestion == ""
        assert "Did you mean" not in refusal("xyzzy=1").detail


class TestRepeated:
    @pytest.mark.parametrize("query_string", ["limit=1&limit=2", "limit=1&limit=1", "limit=1&%6Cimit=1"])
    def test_is_refused(self, query_string: str) -> None:
        error = refusal(query_string)
        assert (error.kind, error.parameter) == ("urn:problem:repeated-parameter", "limit")
        assert "once" in error.detail

    def test_a_repeatable_one_is_a_set(self) -> None:
        assert GRAMMAR.parse("tag=b&tag=a&tag=b").all("tag") == ["a", "b"]

    def test_a_repeatable_one_is_given_so_often_at_most(self) -> None:
        often = "&".join(["tag=a", "tag=b"] * (MOST_REPEATED // 2))
        assert GRAMMAR.parse(often).all("tag") == ["a", "b"]
        error = refusal(f"{often}&tag=y")
        assert (error.kind, error.parameter) == ("urn:problem:repeated-parameter", "tag")
        assert str(MOST_REPEATED) in error.detail


class TestMalformed:
    @pytest.mark.parametrize(
        "query_string",
        [
            "search=%",
            "search=%4",
            "search=%zz",
            "%=1",
            "search=%ff",
            "search=\xff",
            "search=%ed%a0%80",
            "search=\u20ac",
            "utm_source=%zz",
            "&".join(["_=1"] * 101),
        ],
    )
    def test_string(self, query_string: str) -> None:
        error = refusal(query_string)
        assert (error.kind, error.parameter) == ("urn:problem:malformed-query", "")

    @pytest.mark.parametrize("query_string", ["search=%ff", "search=\xff", "search=\u20ac"])
    def test_says_so_of_what_is_not_utf_8(self, query_string: str) -> None:
        assert "UTF-8" in refusal(query_string).detail

    def test_a_percent_sign_is_pointed_at(self) -> None:
        assert "character 10" in refusal("search=aa%z").detail

    @pytest.mark.parametrize("value", ["", "%00", "a%00b", "%0A", "a%0A", "%1f", "%7F"])
    def test_value(self, value: str) -> None:
        error = refusal(f"search={value}")
        assert (error.kind, error.parameter) == ("urn:problem:malformed-parameter", "search")

    @pytest.mark.parametrize("query_string", ["limit", "limit=", "limit&tag=a"])
    def test_a_parameter_without_value(self, query_string: str) -> None:
        error = refusal(query_string)
        assert (error.kind, error.parameter) == ("urn:problem:malformed-parameter", "limit")
        assert "empty" in error.detail

    def test_what_a_parameter_refuses_is_passed_on(self) -> None:
        error = refusal("ordering=titel")
        assert (error.kind, error.parameter) == ("urn:problem:malformed-parameter", "ordering")
        assert (error.allowed, error.suggestion) == (["title", "-title"], "title")
        assert error.detail.startswith("'ordering': ")

    @given(st.text(st.characters(max_codepoint=0xFF), max_size=60))
    def test_no_string_raises_anything_else(self, query_string: str) -> None:
        with suppress(QueryError):
            assert isinstance(GRAMMAR.parse(query_string), Query)


class TestLength:
    def test_the_longest_is_read(self) -> None:
        assert GRAMMAR.parse(f"utm_source={'x' * (LONGEST - 11)}") == Query(())

    def test_one_more_is_not(self) -> None:
        assert refusal(f"utm_source={'x' * (LONGEST - 10)}").kind == "urn:problem:query-too-long"


class TestQuery:
    def test_what_is_not_given_is_none(self) -> None:
        query = GRAMMAR.parse("tag=a")
        assert query.get("limit") is None
        assert query.all("limit") == []
