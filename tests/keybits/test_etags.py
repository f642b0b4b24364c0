"""Entity tags, by the sections of RFC 9110 that define them and list them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybits.codings import entity_tag
from keybits.etags import _ANY, _MEMBER, EntityTags, is_weak, parse, strong, strongly_listed, weakly_listed

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

ETAGC = "".join(chr(c) for c in (0x21, *range(0x23, 0x7F), *range(0x80, 0x100)))
opaque_tags = st.text(ETAGC + " \t", max_size=12).map('"{}"'.format)
entity_tags = st.builds(str.__add__, st.sampled_from(["", "W/"]), opaque_tags)
separators = st.from_regex(r"[ \t]{0,2},[ \t,]{0,3}", fullmatch=True)
latin1 = st.text(st.characters(max_codepoint=0xFF))
near_misses = st.text(st.sampled_from('"W/w*,\\ \tab\x00\xff'))


class TestSection88StrongValidatorFromContent:
    def test_is_quoted_and_made_of_etagc(self) -> None:
        assert re.fullmatch(r'"[A-Za-z0-9_-]{22}"', strong(b"{}"))

    def test_is_the_same_in_every_process_and_release(self) -> None:
        assert strong(b"") == '"47DEQpj8HBSa-_TImW-5JA"'

    def test_changes_with_one_byte(self) -> None:
        assert strong(b"a") != strong(b"b")

    def test_no_padding_is_left(self) -> None:
        assert "=" not in strong(b"any")

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    def test_section_8_8_3_3_each_content_coding_has_its_own(self, coding: str) -> None:
        assert entity_tag(strong(b"x"), coding) == f'{strong(b"x")[:-1]}-{coding}"'

    @given(st.binary(), st.sampled_from(["identity", "gzip", "br"]))
    def test_is_found_again_in_a_list(self, content: bytes, coding: str) -> None:
        etag = entity_tag(strong(content), coding)
        assert not is_weak(etag)
        assert parse(f'"other", {etag}').strongly_matches(etag)


class TestSection883EntityTagGrammar:
    @pytest.mark.parametrize(
        ("field", "tags"),
        [
            ('"xyzzy"', {'"xyzzy"'}),
            ('""', {'""'}),
            ('"a,b"', {'"a,b"'}),
            ('"a, b"', {'"a, b"'}),
            ('"a b"', {'"a b"'}),
            ('"a\tb"', {'"a\tb"'}),
            ('"*"', {'"*"'}),
            ('"W/"', {'"W/"'}),
            ('"/"', {'"/"'}),
            ('"\x80\xff"', {'"\x80\xff"'}),
            ('"caf\xc3\xa9"', {'"caf\xc3\xa9"'}),
            ('"back\\slash"', {'"back\\slash"'}),
            ('"ends in one\\"', {'"ends in one\\"'}),
            ('"it\'s"', {'"it\'s"'}),
        ],
    )
    def test_strong(self, field: str, tags: set[str]) -> None:
        assert parse(field) == EntityTags(strong=frozenset(tags))

    def test_weak(self) -> None:
        assert parse('W/"xyzzy"') == EntityTags(weak=frozenset({'"xyzzy"'}))

    def test_weak_and_empty(self) -> None:
        assert parse('W/""') == EntityTags(weak=frozenset({'""'}))

    @pytest.mark.parametrize(
        "field",
        [
            "xyzzy",
            "'xyzzy'",
            'w/"xyzzy"',
            'W"xyzzy"',
            'W /"xyzzy"',
            'W/ "xyzzy"',
            'W/W/"xyzzy"',
            "W/xyzzy",
            "W/",
            '"xyzzy',
            'xyzzy"',
            '"',
            '"xyz"zy',
            '"xyz""zy"',
            '"xyz" "zy"',
            '"xy\x00zzy"',
            '"xy\x7fzzy"',
            '"xy\nzzy"',
            '"xy\u0100zzy"',
            '"xyzzy";q=1',
        ],
    )
    def test_malformed_lists_nothing(self, field: str) -> None:
        assert parse(field) == EntityTags()

    def test_weak_flag_is_case_sensitive(self) -> None:
        assert is_weak('W/"a"')
        assert not is_weak('w/"a"')


class TestSection5612Lists:
    @pytest.mark.parametrize(
        "field",
        [
            '"a","b"',
            '"a", "b"',
            '"a" , "b"',
            '"a"\t,\t"b"',
            ',"a","b"',
            '"a",,"b"',
            '"a", , ,,"b"',
            '"a","b",',
            '  ,\t "a", "b" , ,',
            '"a", "b", "a"',
        ],
    )
    def test_members_are_separated_by_commas_and_may_be_empty(self, field: str) -> None:
        assert parse(field) == EntityTags(strong=frozenset({'"a"', '"b"'}))

    @pytest.mark.parametrize("field", ["", " ", ",", ", ,", "\t,"])
    def test_nothing_but_empty_members(self, field: str) -> None:
        assert parse(field) == EntityTags()

    def test_field_lines_joined_by_a_comma_are_one_list(self) -> None:
        lines = ['"a", W/"b"', 'W/"c"', '"d",']
        assert parse(",".join(lines)) == EntityTags(frozenset({'"a"', '"d"'}), frozenset({'"b"', '"c"'}))

    def test_weak_and_strong_with_one_opaque_part_are_both_listed(self) -> None:
        assert parse('W/"a", "a"') == EntityTags(frozenset({'"a"'}), frozenset({'"a"'}))

    @given(st.lists(st.tuples(entity_tags, separators), min_size=1))
    def test_any_list_of_tags_is_read_back(self, members: list[tuple[str, str]]) -> None:
        tags = [tag for tag, _ in members]
        assert parse("".join(tag + separator for tag, separator in members)) == EntityTags(
            strong=frozenset(tag for tag in tags if not tag.startswith("W/")),
            weak=frozenset(tag[2:] for tag in tags if tag.startswith("W/")),
        )


class TestSection24MalformedMembers:
    """One is left out by itself, with all that its quotes enclose, and never makes a tag of what it held."""

    @pytest.mark.parametrize(
        "field",
        [
            'xyzzy, "a"',
            '"a", xyzzy',
            '"a", "open',
            '"a", w/"b"',
            'w/"b, "c", d", "a"',
            '"b"c, "a"',
            '"b" "c", "a"',
            '"b\x00", "a"',
            '"a", \x00',
            '"a",,;,',
        ],
    )
    def test_the_others_stand(self, field: str) -> None:
        assert parse(field) == EntityTags(strong=frozenset({'"a"'}))

    @pytest.mark.parametrize("field", ['w/"x,"a",y"', 'x"b, "a', 'w/"b, W/"a'])
    def test_quoted_text_is_no_member(self, field: str) -> None:
        assert not parse(field).weakly_matches('"a"')

    def test_an_open_quote_hides_the_rest(self) -> None:
        assert parse('"a", "b\x00, c') == EntityTags(strong=frozenset({'"a"'}))

    @given(latin1 | near_misses | st.text())
    def test_no_text_raises(self, field: str) -> None:
        tags = parse(field)
        assert tags.is_any <= (not tags.strong and not tags.weak)

    @given(near_misses)
    def test_every_tag_was_quoted_by_the_client(self, field: str) -> None:
        tags = parse(field)
        assert all(tag in field for tag in tags.strong)
        assert all(f"W/{tag}" in field for tag in tags.weak)

    @given(near_misses | latin1)
    def test_what_follows_takes_nothing_from_a_tag_that_stands(self, rest: str) -> None:
        assert '"a"' in parse(f'"a", {rest}').strong

    @pytest.mark.parametrize(
        "unit",
        ['"', ",", '",', ' "', '"a"', '"a",', '"a" ', 'W/"', '"\x00', "x,", "*,", "* ,", " ", "W/", '\\"'],
    )
    @pytest.mark.parametrize("ending", ["", "x", '"', ","])
    def test_every_character_of_64_kilobytes_is_read_once(self, unit: str, ending: str) -> None:
        """Matches that touch each other leave no place that is tried in vain, which is what takes quadratic time."""
        field = (unit * 65_536)[:65_536] + ending
        spans = [match.span() for match in _MEMBER.finditer(field)]
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] == len(field)
        parse(field)

    @pytest.mark.parametrize("pattern", [_MEMBER, _ANY], ids=["member", "any"])
    def test_no_repetition_gives_back_what_it_has_read(self, pattern: re.Pattern[str]) -> None:
        comments_classes_groups_and_escapes = r"#.*|\[[^]]*\]|\(\?[:=]|\\."
        bare = re.sub(comments_classes_groups_and_escapes, "x", pattern.pattern)
        assert set(re.findall(r"[*+?{]+", bare)) <= {"*+", "++", "?+"}


class TestSection1311And1312AnyTag:
    @pytest.mark.parametrize("field", ["*", " * ", "*,", ",*", "*, *", "*\t,,*"])
    def test_names_every_current_representation(self, field: str) -> None:
        tags = parse(field)
        for etag in ('"a"', 'W/"a"', None):
            assert tags.weakly_matches(etag)
            assert tags.strongly_matches(etag)

    @pytest.mark.parametrize("field", ['*, "a"', '"a", *', '"a",*,"b"', "**", "* *", "*a", '"*"', "W/*"])
    def test_counts_only_alone(self, field: str) -> None:
        tags = parse(field)
        assert not tags.is_any
        assert not tags.weakly_matches('"z"')
        assert not tags.strongly_matches('"z"')

    def test_beside_it_the_tags_stand(self) -> None:
        assert parse('*, "a"') == EntityTags(strong=frozenset({'"a"'}))


class TestSection8832Comparison:
    @pytest.mark.parametrize(
        ("listed", "current", "strongly", "weakly"),
        [
            ('W/"1"', 'W/"1"', False, True),
            ('W/"1"', 'W/"2"', False, False),
            ('W/"1"', '"1"', False, True),
            ('"1"', 'W/"1"', False, True),
            ('"1"', '"1"', True, True),
            ('"1"', '"2"', False, False),
            ('"A"', '"a"', False, False),
            ('"1"', '"1 "', False, False),
            ('"1-gzip"', '"1"', False, False),
            ('"0", W/"1"', '"1"', False, True),
            ('W/"1", "1"', '"1"', True, True),
            ('"W/1"', 'W/"1"', False, False),
            ('W/W/"1"', 'W/"1"', False, False),
            ("1", '"1"', False, False),
            ('"1"', None, False, False),
            ('W/"None"', None, False, False),
            ("None", None, False, False),
            ("", '""', False, False),
        ],
    )
    def test_the_table_and_beyond(
        self, listed: str, current: str | None, strongly: bool, weakly: bool
    ) -> None:
        assert parse(listed).strongly_matches(current) is strongly
        assert parse(listed).weakly_matches(current) is weakly
        assert strongly_listed(current, listed) is strongly
        assert weakly_listed(current, listed) is weakly

    @given(entity_tags, entity_tags)
    def test_the_short_way_says_what_the_list_says(self, current: str, listed: str) -> None:
        for field in (listed, current, f"W/{current}", f"{listed}, {current}", "*"):
            assert weakly_listed(current, field) is parse(field).weakly_matches(current)
            assert strongly_listed(current, field) is parse(field).strongly_matches(current)


class TestKnownWrongElsewhere:
    def test_whitenoise_compares_the_whole_field(self) -> None:
        for field in ('"b", "a"', "*", 'W/"a"', ' "a"', '"a",'):
            assert weakly_listed('"a"', field)

    def test_drf_extensions_splits_on_spaces(self) -> None:
        assert weakly_listed('"a b"', '"a b"')
        assert not weakly_listed('"b"', '"a b"')

    def test_drf_extensions_never_matches_a_weak_tag(self) -> None:
        assert weakly_listed('"a"', 'W/"a"')
        assert weakly_listed('"a"', 'W/"b", W/"a"')

    def test_drf_extensions_takes_an_unquoted_tag_and_a_listed_star(self) -> None:
        assert not weakly_listed('"a"', "a")
        assert not weakly_listed('"a"', '"b" *')

    def test_django_and_drf_extensions_split_inside_a_tag_at_its_comma(self) -> None:
        assert weakly_listed('"a,b"', '"c", "a,b"')
        assert strongly_listed('"a,b"', '"c", "a,b"')
