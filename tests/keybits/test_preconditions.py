"""Preconditions and dates, a class for each section of RFC 9110."""

from __future__ import annotations

import ast
import calendar
import inspect
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keybits import preconditions
from keybits.preconditions import (
    NONE,
    Conditions,
    Outcome,
    Validators,
    evaluate,
    format_http_date,
    parse_http_date,
    range_applies,
)

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

TREE = ast.parse(inspect.getsource(preconditions))
PROCEED, NOT_MODIFIED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.PRECONDITION_FAILED

THEN = 784_111_777
BEFORE, DATE, AFTER = (format_http_date(THEN + step) for step in (-1, 0, 1))
CURRENT = Validators('"now"', THEN)
WEAK = Validators('W/"now"', THEN)
WITHOUT_TAG = Validators(None, THEN)
WITHOUT_DATE = Validators('"now"', None)
BARE = Validators()

READS = ["GET", "HEAD"]
WRITES = ["PUT", "PATCH", "DELETE", "POST"]
NO_DATES = ["", "yesterday", "0", "Sun, 31 Jun 1994 08:49:37 GMT", f"{DATE}, {DATE}", DATE.lower()]


class TestConditions:
    @pytest.mark.parametrize(
        ("key", "attribute"),
        [
            ("HTTP_IF_MATCH", "if_match"),
            ("HTTP_IF_NONE_MATCH", "if_none_match"),
            ("HTTP_IF_MODIFIED_SINCE", "if_modified_since"),
            ("HTTP_IF_UNMODIFIED_SINCE", "if_unmodified_since"),
            ("HTTP_IF_RANGE", "if_range"),
        ],
    )
    def test_each_field_is_read_by_its_own_key(self, key: str, attribute: str) -> None:
        assert Conditions.from_environ({key: "x"}) == Conditions(**{attribute: "x"})

    def test_without_any_the_shared_instance_is_returned(self) -> None:
        assert Conditions.from_environ({"HTTP_HOST": "x", "wsgi.input": None}) is NONE

    def test_an_empty_field_is_present(self) -> None:
        assert Conditions.from_environ({"HTTP_IF_MATCH": ""}) == Conditions(if_match="")

    def test_cannot_be_changed_since_one_is_shared(self) -> None:
        with pytest.raises(AttributeError):
            NONE.if_match = "*"  # type: ignore[misc]


class TestPurity:
    def test_no_framework_and_no_input(self) -> None:
        froms = {node.module for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)}
        allowed = {"collections.abc", "dataclasses", "datetime", "email.utils", "enum", "functools", "typing"}
        assert froms - allowed == {"__future__", "keybits"}

    def test_no_clock(self) -> None:
        """Without its argument either function of `time` would ask the clock."""
        calls = [node for node in ast.walk(TREE) if isinstance(node, ast.Call)]
        asked = {(ast.unparse(call.func), len(call.args)) for call in calls}
        clocks = {call for call in asked if call[0].startswith(("time.", "date.", "formatdate"))}
        assert clocks == {("time.gmtime", 1), ("time.strftime", 2), ("formatdate", 1)}


class TestSection1311IfMatch:
    @pytest.mark.parametrize("method", READS + WRITES)
    @pytest.mark.parametrize(
        ("field", "validators", "outcome"),
        [
            ('"now"', CURRENT, PROCEED),
            ('"then", "now"', CURRENT, PROCEED),
            ('"a b", "now"', CURRENT, PROCEED),
            ("*", CURRENT, PROCEED),
            ("*", BARE, PROCEED),
            ('"then"', CURRENT, FAILED),
            ('W/"now"', CURRENT, FAILED),
            ('W/"now"', WEAK, FAILED),
            ('"now"', WEAK, FAILED),
            ('"now"', WITHOUT_TAG, FAILED),
            ("now", CURRENT, FAILED),
            ("", CURRENT, FAILED),
            (",", CURRENT, FAILED),
            ('"then', CURRENT, FAILED),
            ('*, "then"', CURRENT, FAILED),
            ('junk, "now"', CURRENT, PROCEED),
        ],
    )
    def test_goes_on_only_where_the_present_strong_tag_is_listed(
        self, method: str, field: str, validators: Validators, outcome: Outcome
    ) -> None:
        assert evaluate(method, Conditions(if_match=field), validators) is outcome

    @given(st.text(st.characters(max_codepoint=0xFF)).filter(lambda s: "*" not in s and '"now"' not in s))
    def test_no_text_opens_a_guarded_write(self, field: str) -> None:
        assert evaluate("PATCH", Conditions(if_match=field), CURRENT) is FAILED


class TestSection1312IfNoneMatch:
    @pytest.mark.parametrize(
        ("field", "validators", "holds"),
        [
            ('"now"', CURRENT, False),
            ('W/"now"', CURRENT, False),
            ('W/"now"', WEAK, False),
            ('"now"', WEAK, False),
            ('"then","now"', CURRENT, False),
            ('"then" , W/"now"', CURRENT, False),
            ('"a, b", "now"', CURRENT, False),
            (' "now" ', CURRENT, False),
            ('junk, "now"', CURRENT, False),
            ("*", CURRENT, False),
            ("*", BARE, False),
            ('"then"', CURRENT, True),
            ('"then now"', CURRENT, True),
            ('"now"', WITHOUT_TAG, True),
            ("now", CURRENT, True),
            ("", CURRENT, True),
            ('"now', CURRENT, True),
            ('"then", *', CURRENT, True),
        ],
    )
    @pytest.mark.parametrize(("methods", "otherwise"), [(READS, NOT_MODIFIED), (WRITES, FAILED)])
    def test_holds_only_where_the_present_tag_is_not_listed(
        self, methods: list[str], otherwise: Outcome, field: str, validators: Validators, holds: bool
    ) -> None:
        for method in methods:
            outcome = evaluate(method, Conditions(if_none_match=field), validators)
            assert outcome is (PROCEED if holds else otherwise)


class TestSection1313IfModifiedSince:
    @pytest.mark.parametrize("method", READS)
    @pytest.mark.parametrize(
        ("field", "outcome"), [(BEFORE, PROCEED), (DATE, NOT_MODIFIED), (AFTER, NOT_MODIFIED)]
    )
    def test_not_modified_up_to_the_same_second(self, method: str, field: str, outcome: Outcome) -> None:
        assert evaluate(method, Conditions(if_modified_since=field), CURRENT) is outcome

    @pytest.mark.parametrize("field", ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
    def test_obsolete_forms_are_understood(self, field: str) -> None:
        assert evaluate("GET", Conditions(if_modified_since=field), CURRENT) is NOT_MODIFIED

    @pytest.mark.parametrize("field", NO_DATES)
    def test_ignored_where_it_is_no_date(self, field: str) -> None:
        assert evaluate("GET", Conditions(if_modified_since=field), CURRENT) is PROCEED

    @pytest.mark.parametrize("validators", [WITHOUT_DATE, BARE])
    def test_ignored_where_the_resource_has_no_date(self, validators: Validators) -> None:
        assert evaluate("GET", Conditions(if_modified_since=AFTER), validators) is PROCEED

    @pytest.mark.parametrize("method", WRITES)
    def test_ignored_for_other_methods(self, method: str) -> None:
        assert evaluate(method, Conditions(if_modified_since=AFTER), CURRENT) is PROCEED

    @pytest.mark.parametrize("tag", ['"then"', 'W/"then"', "junk", ""])
    def test_ignored_beside_if_none_match_that_failed(self, tag: str) -> None:
        """Starlette consults the date here, and answers 304 to a file that was changed."""
        conditions = Conditions(if_none_match=tag, if_modified_since=AFTER)
        assert evaluate("GET", conditions, CURRENT) is PROCEED

    def test_ignored_beside_if_none_match_on_a_resource_without_a_tag(self) -> None:
        conditions = Conditions(if_none_match='"then"', if_modified_since=AFTER)
        assert evaluate("GET", conditions, WITHOUT_TAG) is PROCEED

    def test_ignored_beside_if_none_match_that_matched(self) -> None:
        conditions = Conditions(if_none_match='"now"', if_modified_since=BEFORE)
        assert evaluate("GET", conditions, CURRENT) is NOT_MODIFIED

    def test_a_resource_from_before_the_epoch(self) -> None:
        conditions = Conditions(if_modified_since=format_http_date(-2))
        assert evaluate("GET", conditions, Validators(None, -1)) is PROCEED
        assert evaluate("GET", conditions, Validators(None, -2)) is NOT_MODIFIED

    def test_the_epoch_itself_is_a_date(self) -> None:
        conditions = Conditions(if_modified_since=format_http_date(0))
        assert evaluate("GET", conditions, Validators(None, 0)) is NOT_MODIFIED
        assert evaluate("GET", conditions, Validators(None, 1)) is PROCEED


class TestSection1314IfUnmodifiedSince:
    @pytest.mark.parametrize("method", READS + WRITES)
    @pytest.mark.parametrize(("field", "outcome"), [(BEFORE, FAILED), (DATE, PROCEED), (AFTER, PROCEED)])
    def test_fails_where_modified_later(self, method: str, field: str, outcome: Outcome) -> None:
        assert evaluate(method, Conditions(if_unmodified_since=field), CURRENT) is outcome

    @pytest.mark.parametrize("method", READS + WRITES)
    @pytest.mark.parametrize("validators", [WITHOUT_DATE, BARE])
    def test_ignored_where_the_resource_has_no_date(self, method: str, validators: Validators) -> None:
        """Django answers 412 here."""
        assert evaluate(method, Conditions(if_unmodified_since=BEFORE), validators) is PROCEED

    @pytest.mark.parametrize("field", NO_DATES)
    def test_ignored_where_it_is_no_date(self, field: str) -> None:
        assert evaluate("PUT", Conditions(if_unmodified_since=field), CURRENT) is PROCEED

    def test_ignored_beside_if_match_that_matched(self) -> None:
        conditions = Conditions(if_match='"now"', if_unmodified_since=BEFORE)
        assert evaluate("PUT", conditions, CURRENT) is PROCEED

    def test_ignored_beside_if_match_that_failed(self) -> None:
        conditions = Conditions(if_match='"then"', if_unmodified_since=AFTER)
        assert evaluate("PUT", conditions, CURRENT) is FAILED

    def test_a_resource_dated_at_the_epoch(self) -> None:
        conditions = Conditions(if_unmodified_since=format_http_date(-1))
        assert evaluate("PUT", conditions, Validators(None, 0)) is FAILED

    def test_the_epoch_itself_is_a_date(self) -> None:
        conditions = Conditions(if_unmodified_since=format_http_date(0))
        assert evaluate("PUT", conditions, Validators(None, 0)) is PROCEED
        assert evaluate("PUT", conditions, Validators(None, 1)) is FAILED


class TestSection1315IfRange:
    @pytest.mark.parametrize(
        ("field", "validators", "applies"),
        [
            (None, CURRENT, True),
            (None, BARE, True),
            ('"now"', CURRENT, True),
            ('"then"', CURRENT, False),
            ('W/"now"', CURRENT, False),
            ('W/"now"', WEAK, False),
            ('"now"', WEAK, False),
            ('"now"', WITHOUT_TAG, False),
            ('"then", "now"', CURRENT, False),
            ("*", CURRENT, False),
            ("", CURRENT, False),
            ("now", CURRENT, False),
            (DATE, CURRENT, True),
            ("Sunday, 06-Nov-94 08:49:37 GMT", CURRENT, True),
            (BEFORE, CURRENT, False),
            (AFTER, CURRENT, False),
            (DATE, WITHOUT_DATE, False),
            ("junk", WITHOUT_DATE, False),
            (DATE, WITHOUT_TAG, True),
        ],
    )
    def test_applies_only_where_it_is_exactly_the_present_strong_validator(
        self, field: str | None, validators: Validators, applies: bool
    ) -> None:
        assert range_applies(Conditions(if_range=field), validators) is applies

    def test_never_decides_between_200_304_and_412(self) -> None:
        for field in ('"then"', '"now"', BEFORE):
            assert evaluate("GET", Conditions(if_range=field), CURRENT) is PROCEED


class TestSection1321WhenToEvaluate:
    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT"])
    @pytest.mark.parametrize(
        "conditions",
        [
            Conditions(if_match='"then"'),
            Conditions(if_none_match="*"),
            Conditions(if_unmodified_since=BEFORE),
        ],
    )
    def test_ignored_where_no_representation_is_selected(self, method: str, conditions: Conditions) -> None:
        assert evaluate(method, conditions, CURRENT) is PROCEED

    @pytest.mark.parametrize("method", [*READS, *WRITES, "OPTIONS"])
    def test_without_conditions_the_method_is_performed(self, method: str) -> None:
        assert evaluate(method, NONE, CURRENT) is PROCEED
        assert evaluate(method, Conditions(), BARE) is PROCEED


ABSENT_TRUE_OR_FALSE = (None, True, False)


class TestSection1322Precedence:
    @pytest.mark.parametrize("ims", ABSENT_TRUE_OR_FALSE)
    @pytest.mark.parametrize("inm", ABSENT_TRUE_OR_FALSE)
    @pytest.mark.parametrize("ius", ABSENT_TRUE_OR_FALSE)
    @pytest.mark.parametrize("im", ABSENT_TRUE_OR_FALSE)
    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_all_combinations(
        self, method: str, im: bool | None, ius: bool | None, inm: bool | None, ims: bool | None
    ) -> None:
        conditions = Conditions(
            if_match={None: None, True: '"now"', False: '"then"'}[im],
            if_unmodified_since={None: None, True: DATE, False: BEFORE}[ius],
            if_none_match={None: None, True: '"then"', False: '"now"'}[inm],
            if_modified_since={None: None, True: BEFORE, False: DATE}[ims],
        )
        assert evaluate(method, conditions, CURRENT) is self.by_the_section(method, im, ius, inm, ims)

    @staticmethod
    def by_the_section(
        method: str, im: bool | None, ius: bool | None, inm: bool | None, ims: bool | None
    ) -> Outcome:
        if im is False or (im is None and ius is False):
            return FAILED
        if inm is False:
            return NOT_MODIFIED if method == "GET" else FAILED
        if method == "GET" and inm is None and ims is False:
            return NOT_MODIFIED
        return PROCEED

    def test_a_read_whose_if_match_failed_is_412_and_not_304(self) -> None:
        assert evaluate("GET", Conditions(if_match='"then"', if_none_match='"now"'), CURRENT) is FAILED


class TestSection567Dates:
    @pytest.mark.parametrize(
        "value",
        [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
        ],
    )
    def test_the_three_forms(self, value: str) -> None:
        assert parse_http_date(value) == THEN

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "now",
            "784111777",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 NOV 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 gmt",
            "sunday, 06-Nov-94 08:49:37 GMT",
            "SUN Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun,  6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Wedday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sun,06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 Nov 1994 08:49:37 GMT\n",
            "Sun, 06 Nov 1994 08:49:37 GMT; length=1",
            "06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49:60 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov -994 08:49:37 GMT",
            "Sun, 06 Nov 19940 08:49:37 GMT",
            "Sun, 06 Noz 1994 08:49:37 GMT",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
            "Sun Nov  0 08:49:37 1994",
            "Sunday, 31-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT ",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994 ",
        ],
    )
    def test_anything_else_is_no_date(self, value: str) -> None:
        assert parse_http_date(value) is None

    @pytest.mark.parametrize(
        ("value", "moment"),
        [
            ("Thu, 01 Jan 1970 00:00:00 GMT", (1970, 1, 1, 0, 0, 0)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", (1969, 12, 31, 23, 59, 59)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", (2000, 2, 29, 0, 0, 0)),
            ("Sat, 31 Dec 2016 23:59:60 GMT", (2017, 1, 1, 0, 0, 0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", (9999, 12, 31, 23, 59, 59)),
            ("Mon, 01 Jan 0001 00:00:00 GMT", (1, 1, 1, 0, 0, 0)),
            ("Tue, 19 Jan 2038 03:14:08 GMT", (2038, 1, 19, 3, 14, 8)),
        ],
    )
    def test_edges_of_the_calendar(self, value: str, moment: tuple[int, int, int, int, int, int]) -> None:
        assert parse_http_date(value) == (datetime(*moment) - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001

    def test_the_name_of_the_day_need_not_be_right(self) -> None:
        assert parse_http_date("Mon, 06 Nov 1994 08:49:37 GMT") == THEN

    @pytest.mark.parametrize(
        ("now", "value", "year"),
        [
            ((2026, 6, 15, 12, 0, 0), "Monday, 15-Jun-76 12:00:00 GMT", 2076),
            ((2026, 6, 15, 12, 0, 0), "Monday, 15-Jun-76 12:00:01 GMT", 1976),
            ((2026, 6, 15, 12, 0, 0), "Monday, 16-Jun-76 11:00:00 GMT", 1976),
            ((2026, 6, 15, 12, 0, 0), "Monday, 01-Jul-76 11:00:00 GMT", 1976),
            ((2026, 6, 15, 12, 0, 0), "Monday, 31-May-76 23:00:00 GMT", 2076),
            ((2026, 6, 15, 12, 0, 0), "Monday, 01-Jan-77 00:00:00 GMT", 1977),
            ((2026, 6, 15, 12, 0, 0), "Monday, 31-Dec-75 23:59:59 GMT", 2075),
            ((2026, 6, 15, 12, 0, 0), "Monday, 15-Jun-26 12:00:00 GMT", 2026),
            ((2026, 6, 15, 12, 0, 0), "Monday, 15-Jun-00 12:00:00 GMT", 2000),
            ((2026, 6, 15, 12, 0, 0), "Monday, 15-Jun-99 12:00:00 GMT", 1999),
            ((1999, 12, 31, 0, 0, 0), "Monday, 15-Jun-00 12:00:00 GMT", 2000),
            ((1999, 12, 31, 0, 0, 0), "Monday, 15-Jun-49 12:00:00 GMT", 2049),
            ((1999, 12, 31, 0, 0, 0), "Monday, 15-Jun-50 12:00:00 GMT", 1950),
            ((2080, 1, 1, 0, 0, 0), "Monday, 15-Jun-10 12:00:00 GMT", 2110),
            ((2080, 1, 1, 0, 0, 0), "Monday, 15-Jun-94 12:00:00 GMT", 2094),
            (None, "Monday, 01-Jan-75 00:00:00 GMT", 2075),
            (None, "Monday, 01-Jan-75 00:00:01 GMT", 1975),
            (None, "Monday, 15-Jun-74 12:00:00 GMT", 2074),
            (None, "Monday, 15-Jun-75 12:00:00 GMT", 1975),
            (None, "Monday, 15-Jun-26 12:00:00 GMT", 2026),
        ],
    )
    def test_two_digits_are_at_most_fifty_years_ahead(
        self, now: tuple[int, ...] | None, value: str, year: int
    ) -> None:
        seconds = parse_http_date(value, None if now is None else calendar.timegm(now))
        assert seconds is not None
        assert format_http_date(seconds)[12:16] == str(year)

    @pytest.mark.parametrize("seconds", [0, THEN, 951_782_400, 4_102_444_799])
    def test_sent_as_imf_fixdate_in_29_characters(self, seconds: int) -> None:
        assert len(format_http_date(seconds)) == 29
        assert format_http_date(seconds).endswith(" GMT")

    def test_the_example_of_the_section(self) -> None:
        assert format_http_date(THEN) == "Sun, 06 Nov 1994 08:49:37 GMT"

    @given(st.integers(-62_135_596_800, 253_402_300_799))
    def test_what_is_sent_is_read_back(self, seconds: int) -> None:
        assert parse_http_date(format_http_date(seconds)) == seconds

    @given(st.text() | st.text(st.sampled_from("SunMon, 0619-NovGMT:\n")), st.integers(0, 2**33))
    def test_no_text_raises(self, value: str, now: int) -> None:
        parse_http_date(value, now)


class TestAnyRequest:
    fields = (
        st.none() | st.text(st.characters(max_codepoint=0xFF)) | st.sampled_from(['"now"', "*", BEFORE, DATE])
    )

    @given(
        st.builds(Conditions, fields, fields, fields, fields, fields),
        st.sampled_from([CURRENT, WEAK, WITHOUT_TAG, WITHOUT_DATE, BARE]),
    )
    def test_only_reads_are_304_and_nothing_raises(
        self, conditions: Conditions, validators: Validators
    ) -> None:
        assert evaluate("PUT", conditions, validators) is not NOT_MODIFIED
        assert isinstance(evaluate("GET", conditions, validators), Outcome)
        assert range_applies(conditions, validators) in {True, False}
