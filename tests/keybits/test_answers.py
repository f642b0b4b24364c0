"""What a stored representation answers: the fields of a 200, a 304 and a 412, and dates that never mislead."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybits.answers import Answer, Terms, answer, last_modified
from keybits.entries import Entry
from keybits.preconditions import NONE, Conditions, format_http_date, parse_http_date
from keybits.readthrough import new_entry

STORED = (("Content-Type", "application/json"), ("Content-Language", "en"), ("Link", '<x>; rel="next"'))
SHARED = (("Cache-Control", "public, max-age=0"), ("CDN-Cache-Control", "max-age=9"), ("xkey", "k"))
ENTRY = Entry(b"", '"tag"', 1_000, STORED, b'{"a":1}', shared=SHARED)
NOW = 2_000.5
MATCHING = Conditions(if_none_match='"tag"')
READS = ["GET", "HEAD"]
REQUIRED = ("ETag", "Last-Modified", "Expires", "Cache-Status", "Vary", "Link")


def ask(
    method: str = "GET", conditions: Conditions = NONE, *, entry: Entry = ENTRY, now: float = NOW
) -> Answer:
    return answer(entry, method, conditions, Terms(now, "keybits; hit"))


def fields(given: Answer) -> dict[str, str]:
    """Return the fields by name; none may come twice."""
    assert len(dict(given.headers)) == len(given.headers)
    return dict(given.headers)


class TestSection1531Ok:
    def test_has_these_fields_and_no_others(self) -> None:
        assert fields(ask()) == {
            "ETag": '"tag"',
            "Last-Modified": format_http_date(1_000),
            **dict(SHARED),
            "Expires": format_http_date(0),
            "Cache-Status": "keybits; hit",
            "Vary": "Accept-Encoding",
            **dict(STORED),
            "Content-Length": "7",
        }

    def test_has_the_body_of_the_entry_as_its_content(self) -> None:
        assert (ask().status, ask().body) == (200, ENTRY.body)

    def test_section_9_3_2_head_has_the_fields_of_get_and_no_content(self) -> None:
        assert ask("HEAD") == Answer(200, ask().headers, b"")

    @pytest.mark.parametrize(
        "conditions",
        [
            Conditions(if_none_match='"other"'),
            Conditions(if_match='"tag"'),
            Conditions(if_modified_since=format_http_date(999)),
            Conditions(if_none_match='"other"', if_modified_since=format_http_date(3_000)),
        ],
    )
    def test_conditions_that_ask_for_it(self, conditions: Conditions) -> None:
        assert ask(conditions=conditions) == ask()


class TestSection1545NotModified:
    @pytest.mark.parametrize("name", ["content-type", "CONTENT-LANGUAGE", "Content-Language"])
    def test_does_not_describe_the_content_however_a_view_writes_the_field(self, name: str) -> None:
        entry = replace(ENTRY, headers=((name, "of the content"), ("content-location", "/here")))
        assert fields(ask(entry=entry))[name] == "of the content"
        given = fields(ask(conditions=MATCHING, entry=entry))
        assert name not in given
        assert given["content-location"] == "/here"

    @pytest.mark.parametrize("method", READS)
    @pytest.mark.parametrize(
        "conditions",
        [
            MATCHING,
            Conditions(if_none_match='W/"tag"'),
            Conditions(if_none_match="*"),
            Conditions(if_modified_since=format_http_date(1_000)),
        ],
    )
    def test_conditions_that_ask_for_it(self, method: str, conditions: Conditions) -> None:
        assert (ask(method, conditions).status, ask(method, conditions).body) == (304, b"")

    def test_fields_are_those_of_the_200_but_for_the_content(self) -> None:
        whole = fields(ask())
        assert fields(ask(conditions=MATCHING)) == {name: whole[name] for name in (*REQUIRED, *dict(SHARED))}

    @pytest.mark.parametrize("name", ["Date"])
    def test_stored_fields_that_it_must_have(self, name: str) -> None:
        entry = Entry(b"", '"tag"', 1_000, ((name, "value"),), b"x")
        assert fields(ask(conditions=MATCHING, entry=entry))[name] == "value"

    def test_content_location_is_one_of_them(self) -> None:
        entry = Entry(b"", '"tag"', 1_000, (("Content-Location", "/x"),), b"x")
        assert fields(ask(conditions=MATCHING, entry=entry))["Content-Location"] == "/x"


class TestRfc9111Section53Expires:
    def test_says_to_old_caches_what_max_age_says(self) -> None:
        entry = replace(ENTRY, max_age=60)
        assert fields(ask(entry=entry))["Expires"] == format_http_date(2_060)

    def test_is_long_ago_where_everybody_is_to_ask(self) -> None:
        assert parse_http_date(fields(ask())["Expires"]) == 0


class TestSection1253AcceptEncoding:
    def test_who_refuses_the_identity_is_sent_a_small_body_coded(self) -> None:
        entry = new_entry(b"small", [], witness=None, now=0)
        terms = Terms(10.0, "hit", accept_encoding="gzip, identity;q=0")
        assert dict(answer(entry, "GET", NONE, terms).headers)["Content-Encoding"] == "gzip"

    LARGE = replace(ENTRY, body=b"a" * 2_000, coded=(("gzip", b"kept"),))

    def test_what_was_coded_once_is_sent_again(self) -> None:
        given = answer(self.LARGE, "GET", NONE, Terms(NOW, "keybits; hit", "gzip"))
        assert (given.status, given.body, fields(given)["Content-Encoding"]) == (200, b"kept", "gzip")

    def test_section_13_1_1_if_match_selects_what_the_client_has(self) -> None:
        terms = Terms(NOW, "keybits; hit", "br, gzip")
        given = answer(self.LARGE, "GET", Conditions(if_match='"tag-gzip"'), terms)
        assert (given.status, fields(given)["ETag"]) == (200, '"tag-gzip"')

    @pytest.mark.parametrize(
        "conditions",
        [
            Conditions(if_match='"tag-gzip"', if_none_match='"other"'),
            Conditions(if_match='W/"tag-br", "tag-gzip"'),
            Conditions(if_match='"tag-gzip"', if_none_match='"tag-br"'),
        ],
    )
    def test_section_13_2_2_if_match_selects_before_if_none_match_and_strongly(
        self, conditions: Conditions
    ) -> None:
        given = answer(self.LARGE, "GET", conditions, Terms(NOW, "keybits; hit", "br, gzip"))
        assert (given.status, fields(given)["ETag"]) == (200, '"tag-gzip"')

    def test_a_406_says_what_it_depends_on(self) -> None:
        given = answer(ENTRY, "GET", NONE, Terms(NOW, "keybits; hit", "*;q=0"))
        assert given == Answer(406, [("Vary", "Accept-Encoding")], b"")

    def test_what_a_view_says_that_it_varies_by_is_said_once(self) -> None:
        varying = replace(ENTRY, headers=(*STORED, ("Vary", "Accept-Encoding, X-Key")))
        assert fields(ask(entry=varying))["Vary"] == "Accept-Encoding, X-Key"


class TestPrivate:
    """What is for one person says so, and tells nobody how long to hold it, or what it was made from."""

    @pytest.mark.parametrize("conditions", [NONE, MATCHING])
    def test_has_no_field_for_shared_caches(self, conditions: Conditions) -> None:
        given = fields(answer(ENTRY, "GET", conditions, Terms(NOW, "keybits; hit", is_private=True)))
        assert given["Cache-Control"] == "private, no-store"
        assert not {"Expires", "CDN-Cache-Control", "xkey"} & set(given)

    def test_is_not_told_apart_from_another_s_by_a_date(self) -> None:
        """One whose credentials have changed may hold what somebody else was shown, of a later date."""
        since = replace(NONE, if_modified_since=format_http_date(int(NOW)))
        given = answer(ENTRY, "GET", since, Terms(NOW, "keybits; hit", is_private=True))
        assert (given.status, "Last-Modified" in fields(given)) == (200, False)
        assert answer(ENTRY, "GET", since, Terms(NOW, "keybits; hit")).status == 304

    def test_so_is_what_is_shown_though_it_has_ended(self) -> None:
        """The purges that it was due have been: a cache that held it now would hold it for as long as it may."""
        given = fields(answer(ENTRY, "GET", NONE, Terms(NOW, "keybits; hit; ttl=-4", age=4)))
        assert (given["Cache-Control"], given["Age"]) == ("private, no-store", "4")
        assert not {"Expires", "CDN-Cache-Control", "xkey"} & set(given)

    def test_so_is_an_entry_that_was_never_meant_to_be_shared(self) -> None:
        assert fields(ask(entry=replace(ENTRY, shared=())))["Cache-Control"] == "private, no-store"


class TestSection15513PreconditionFailed:
    @pytest.mark.parametrize("method", READS)
    @pytest.mark.parametrize(
        "conditions",
        [
            Conditions(if_match='"other"'),
            Conditions(if_match='W/"tag"'),
            Conditions(if_unmodified_since=format_http_date(999)),
            Conditions(if_match='"other"', if_none_match='"tag"'),
        ],
    )
    def test_has_the_current_tag_and_nothing_that_describes_the_content(
        self, method: str, conditions: Conditions
    ) -> None:
        assert ask(method, conditions) == Answer(412, [("ETag", '"tag"')], b"")


class TestSection882LastModified:
    def test_is_the_first_whole_second_after_the_change(self) -> None:
        assert new_entry(b"a", [], witness=None, now=10.0).changed == 11
        assert new_entry(b"a", [], witness=None, now=10.9).changed == 11

    def test_content_that_is_made_again_has_a_new_date_even_where_it_is_the_same(self) -> None:
        """Another may have been sent in between, and its date must not stand for this one."""
        assert new_entry(b"a", [], witness=None, now=99.0).changed == 100

    def test_is_later_than_that_of_the_content_before_whose_clock_was_ahead(self) -> None:
        """Who has that one's date would else be told that nothing has changed."""
        before = new_entry(b"a", [], witness=None, now=20.0)
        assert new_entry(b"b", [], witness=None, now=10.0, previous=before).changed == 22
        assert new_entry(b"a", [], witness=None, now=10.0, previous=before).changed == 21
        assert new_entry(b"b", [], witness=None, now=30.0, previous=before).changed == 31
        assert new_entry(b"b", [], witness=None, now=20.5, previous=before).changed == 21

    def test_is_not_sent_while_it_is_to_come(self) -> None:
        entry = new_entry(
            b"b", [], witness=None, now=10.0, previous=new_entry(b"a", [], witness=None, now=20.0)
        )
        dated = [
            "Last-Modified" in dict(answer(entry, "GET", NONE, Terms(now, "hit")).headers)
            for now in (10.0, 20.9, 21.0, 22.0)
        ]
        assert dated == [False, False, True, True]

    @pytest.mark.parametrize(("seen", "sent"), [(10.9, 10), (11.0, 11), (12.5, 11)])
    def test_is_sent_only_by_who_has_seen_the_content_after_its_second_had_come(
        self, seen: float, sent: int
    ) -> None:
        """While others were on their way, other content may have got the same date."""
        entry = new_entry(b"a", [], witness=None, now=10.2)
        given = answer(entry, "GET", NONE, Terms(12.5, "hit", seen=seen))
        assert dict(given.headers)["Last-Modified"] == format_http_date(sent)

    @given(st.floats(0, 4e9), st.floats(0, 3))
    def test_is_never_in_the_future(self, created: float, later: float) -> None:
        entry = new_entry(b"a", [], witness=None, now=created)
        now = created + later
        sent = last_modified(entry.changed or 0, now)
        assert sent <= now
        assert parse_http_date(fields(ask(entry=entry, now=now))["Last-Modified"]) == sent

    @given(st.floats(0, 4e9), st.floats(0, 3))
    def test_a_date_that_was_sent_is_a_304_once_its_second_has_come(
        self, created: float, later: float
    ) -> None:
        entry = new_entry(b"a", [], witness=None, now=created)
        now = created + later
        since = Conditions(if_modified_since=fields(ask(entry=entry, now=now))["Last-Modified"])
        assert ask(conditions=since, entry=entry, now=now).status == (
            304 if now >= (entry.changed or 0) else 200
        )

    @given(
        st.floats(0, 4e9),
        st.lists(st.tuples(st.floats(0, 2.5), st.sampled_from([b"a", b"b", b"c", None])), max_size=12),
    )
    def test_no_date_ever_gives_a_304_to_who_has_another_content(
        self, start: float, steps: list[tuple[float, bytes | None]]
    ) -> None:
        """Time passes; at each step the content may have become another, and somebody asks."""
        moments = accumulate((step for step, _ in steps), initial=start)
        entry = new_entry(b"", [], witness=b"w", now=start)
        held: set[tuple[str, bytes]] = set()
        for now, (_, content) in zip(moments, [(0.0, None), *steps], strict=True):
            if content is not None and content != entry.body:
                entry = new_entry(content, [], witness=b"w", now=now)
            for date, body in held:
                if body != entry.body:
                    given_since = ask(conditions=Conditions(if_modified_since=date), entry=entry, now=now)
                    assert given_since.status == 200
            held.add((fields(ask(entry=entry, now=now))["Last-Modified"], entry.body))

    @given(st.lists(st.floats(0, 1e6), min_size=2, max_size=6).map(sorted))
    def test_neither_does_any_date_before_the_change(self, moments: list[float]) -> None:
        entries = [new_entry(str(n).encode(), [], witness=None, now=at) for n, at in enumerate(moments)]
        for (earlier, later), now in zip(pairwise(entries), moments[1:], strict=True):
            since = Conditions(if_modified_since=format_http_date(last_modified(earlier.changed or 0, now)))
            assert ask(conditions=since, entry=later, now=now).status == 200
