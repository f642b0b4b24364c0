"""Each kind of parameter: what its schema says to a reader is what a request is held to, in both directions."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]

from keybits.parameters import Choice, CommaList, Moment, Number, Parameter, Text, ValueRefusedError
from keybits.query import Grammar, QueryError

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

CHOICE = Choice(name="p", choices=("title", "-title", "Größe", "a b"))
NUMBER = Number(name="p", minimum=1, maximum=100, words=("max",))
PLAIN_NUMBER = Number(name="p")
BIG_NUMBER = Number(name="p", minimum=0, maximum=2**63 - 1)
SLUG = Text(name="p", longest=8, pattern=r"[-a-zA-Z0-9_]+", expected="Write a slug.")
HOST = Text(name="p", longest=8, pattern=r"[-a-zA-Z0-9_.:]+", expected="Write a host.", lower=True)
FREE = Text(name="p", longest=8)
IDS = CommaList(name="p", most=3)
WORDS = CommaList(name="p", most=2, choices=("gallery", "renditions"))
MOMENT = Moment(name="p")
near_numbers = st.integers(-2, 200) | st.integers() | st.sampled_from([2**31 - 1, 2**31, 2**63 - 1, 2**63])
near_slugs = st.text(st.sampled_from("aZ0-_. :é\n"), max_size=10)
moments = st.builds(
    lambda moment, minutes: moment.replace(tzinfo=timezone(timedelta(minutes=minutes))),
    st.datetimes(datetime(1850, 1, 1), datetime(2150, 1, 1)),  # noqa: DTZ001 - they get one above
    st.integers(-1439, 1439),
)
written_moments = st.builds(
    lambda moment, precision, utc: moment.isoformat(timespec=precision).replace("+00:00", utc),
    moments,
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
    st.sampled_from(["Z", "+00:00", "-00:00"]),
)
near_moments = st.builds(
    "{}{}-{:02}-{:02}{}".format,
    st.sampled_from(["18", "19", "20", "21"]),
    st.integers(0, 99).map("{:02}".format),
    st.integers(0, 13),
    st.integers(0, 32),
    st.just("")
    | st.builds(
        "T{:02}:{:02}:{:02}{}{}".format,
        st.integers(0, 25),
        st.integers(0, 60),
        st.integers(0, 59),
        st.sampled_from(["", ".", ".5", ".123456"]),
        st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 24), st.integers(0, 59))
        | st.sampled_from(["", "Z", " 01:00"]),
    ),
)

ALL: list[tuple[Parameter, st.SearchStrategy[Any]]] = [
    (CHOICE, st.sampled_from([*CHOICE.choices, "Title", "title ", ""]) | st.text()),
    (NUMBER, near_numbers | st.sampled_from(["max", "MAX", "min", ""])),
    (PLAIN_NUMBER, near_numbers),
    (BIG_NUMBER, near_numbers),
    (SLUG, near_slugs),
    (HOST, near_slugs),
    (FREE, near_slugs | st.text(max_size=10)),
    (IDS, st.lists(near_numbers, min_size=1, max_size=4)),
    (WORDS, st.lists(st.sampled_from([*WORDS.choices, "Gallery", "x"]), min_size=1, max_size=4)),
    (MOMENT, written_moments | near_moments),
]
each = pytest.mark.parametrize(
    ("parameter", "values"),
    ALL,
    ids=[f"{type(parameter).__name__}{n}" for n, (parameter, _) in enumerate(ALL)],
)

# RFC 3339 section 5.6, the letters in capitals and without leap seconds.
_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
formats = FormatChecker(formats=())


@formats.checks("date", raises=ValueError)  # type: ignore[untyped-decorator]
def is_date(value: Any) -> bool:
    return not isinstance(value, str) or bool(
        re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII) and date.fromisoformat(value)
    )


@formats.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]
def is_date_time(value: Any) -> bool:
    found = _DATE_TIME.fullmatch(value) if isinstance(value, str) else None
    return not isinstance(value, str) or bool(found and date.fromisoformat(found[1]))


def ecma_pattern(_: Any, pattern: str, value: Any, __: Any) -> Any:
    """In the dialect of JSON Schema `$` is the end, not also what stands before a last line feed."""
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield ValidationError(pattern)


Validator = extend(Draft202012Validator, {"pattern": ecma_pattern})


def admits(parameter: Parameter, value: Any) -> bool:
    return not list(Validator(parameter.schema(), format_checker=formats).iter_errors(value))


def written(value: Any) -> str:
    """Write a value as OpenAPI does in a query: `style: form`, `explode: false`."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def accepts(parameter: Parameter, text: str) -> bool:
    try:
        Grammar([parameter]).parse(urlencode({"p": text}))
    except QueryError:
        return False
    return True


def read(parameter: Parameter, text: str) -> Any:
    """Read a canonical value as a client that knows the schema would."""
    if isinstance(parameter, CommaList):
        return [int(member) if member.isdigit() else member for member in text.split(",")]
    return int(text) if isinstance(parameter, Number) and text not in parameter.words else text


class TestSchemaAndParser:
    @each
    def test_schema_is_one(self, parameter: Parameter, values: Any) -> None:
        Draft202012Validator.check_schema(parameter.schema())

    @each
    @given(data=st.data())
    def test_what_the_schema_admits_and_nothing_else_is_accepted(
        self, parameter: Parameter, values: st.SearchStrategy[Any], data: st.DataObject
    ) -> None:
        value = data.draw(values)
        assert accepts(parameter, written(value)) == admits(parameter, value)

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            (MOMENT, "2026-11-20T14:30Z"),
            (MOMENT, "2026-11-20T14:30:00-00:60"),
            (MOMENT, "2026-11-20T14:30:00.1234567Z"),
            (Number(name="p", minimum=-5), -5),
            (Text(name="p", longest=8, pattern="a|b"), "axyz"),
            (Text(name="p", longest=8, pattern="[a-z]+", lower=True), "ABC"),
            (Text(name="p", longest=8, lower=True), "İİİİİ"),
        ],
    )
    def test_neither_is_wider_at_the_edges(self, parameter: Parameter, value: Any) -> None:
        assert accepts(parameter, written(value)) == admits(parameter, value)


class TestCanonical:
    @each
    @given(data=st.data())
    def test_is_idempotent_and_admitted(
        self, parameter: Parameter, values: st.SearchStrategy[Any], data: st.DataObject
    ) -> None:
        value = written(data.draw(values))
        if accepts(parameter, value):
            canonical = parameter.canonical(value)
            assert parameter.canonical(canonical) == canonical
            assert admits(parameter, read(parameter, canonical))

    @each
    @given(value=st.text())
    def test_no_text_raises_anything_but_a_refusal(
        self, parameter: Parameter, values: Any, value: str
    ) -> None:
        with suppress(ValueRefusedError):
            assert isinstance(parameter.canonical(value), str)

    @pytest.mark.parametrize(
        ("parameter", "value", "canonical"),
        [
            (NUMBER, "007", "7"),
            (NUMBER, "max", "max"),
            (HOST, "Ex.COM", "ex.com"),
            (IDS, "3,1,3", "1,3"),
            (IDS, "10,9,010", "9,10"),
            (WORDS, "renditions,gallery", "gallery,renditions"),
            (MOMENT, "2026-11-20", "2026-11-20T00:00:00+00:00"),
            (MOMENT, "2026-11-20T14:30:00Z", "2026-11-20T14:30:00+00:00"),
            (MOMENT, "2026-11-20T14:30:00+02:00", "2026-11-20T12:30:00+00:00"),
            (MOMENT, "2026-11-20T14:30:00.50Z", "2026-11-20T14:30:00.500000+00:00"),
        ],
    )
    def test_each_way_to_write_a_value_has_one_canonical_text(
        self, parameter: Parameter, value: str, canonical: str
    ) -> None:
        assert parameter.canonical(value) == canonical

    def test_a_list_of_words_is_in_one_order_in_every_process(self) -> None:
        words = CommaList(name="p", most=8, choices=tuple("abcdefgh"))
        assert words.canonical("h,g,f,e,d,c,b,a") == "a,b,c,d,e,f,g,h"

    def test_a_date_begins_at_midnight_utc_wherever_the_server_is(self, settings: Any) -> None:
        settings.TIME_ZONE = "Asia/Tokyo"
        assert MOMENT.canonical("2026-11-20") == "2026-11-20T00:00:00+00:00"

    @given(written_moments)
    def test_a_moment_stays_the_same_moment(self, text: str) -> None:
        if accepts(MOMENT, text):
            canonical = datetime.fromisoformat(MOMENT.canonical(text))
            assert canonical == datetime.fromisoformat(text)
            assert canonical.tzinfo == UTC


class TestRefusal:
    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            (CHOICE, "Title"),
            (NUMBER, "0"),
            (NUMBER, "101"),
            (NUMBER, "+1"),
            (NUMBER, "1.0"),
            (NUMBER, " 1"),
            (NUMBER, "١"),  # noqa: RUF001 - a digit, but not one of ours
            (NUMBER, "1_0"),
            (NUMBER, "9" * 5000),
            (SLUG, "a" * 9),
            (SLUG, "a\n"),
            (SLUG, "a b"),
            (IDS, "1,,2"),
            (IDS, "0"),
            (IDS, "1,2,3,4"),
            (IDS, str(2**63)),
            (WORDS, "gallery,"),
            (WORDS, "gallery,renditions,gallery"),
            (MOMENT, "2026-02-30"),
            (MOMENT, "2026-11-20T25:00:00Z"),
            (MOMENT, "2026-11-20T14:30:00"),
            (MOMENT, "2026-11-20T14:30:00 02:00"),
            (MOMENT, "1899-12-31"),
            (MOMENT, "1900-01-01T00:59:59+01:00"),
            (MOMENT, "2099-12-31T23:00:00-01:00"),
            (MOMENT, "20261120"),
            (MOMENT, "2026-W47-5"),
        ],
    )
    def test_what_is_no_value_of_its_kind_is_refused(self, parameter: Parameter, value: str) -> None:
        with pytest.raises(ValueRefusedError):
            parameter.canonical(value)

    @pytest.mark.parametrize("parameter", [CHOICE, Choice(name="p", choices=("titel", "title"))])
    def test_a_choice_names_all_and_the_nearest(self, parameter: Choice) -> None:
        with pytest.raises(ValueRefusedError, match="Did you mean 'title'") as caught:
            parameter.canonical("titlee")
        assert (caught.value.allowed, caught.value.suggestion) == (parameter.choices, "title")

    def test_a_member_of_a_list_too(self) -> None:
        with pytest.raises(ValueRefusedError, match="'galery' is not one of") as caught:
            WORDS.canonical("renditions,galery")
        assert caught.value.suggestion == "gallery"

    def test_nothing_near_suggests_nothing(self) -> None:
        with pytest.raises(ValueRefusedError) as caught:
            CHOICE.canonical("xyzzy")
        assert caught.value.suggestion == ""
        assert "Did you mean" not in caught.value.detail

    def test_a_number_names_its_range_and_words(self) -> None:
        with pytest.raises(ValueRefusedError, match="from 1 to 100, or max"):
            NUMBER.canonical("many")

    def test_what_is_allowed_is_listed_only_where_it_is_all_there_is(self) -> None:
        """Who offers what `allowed` has would otherwise offer `max` and no number."""
        with pytest.raises(ValueRefusedError) as caught:
            NUMBER.canonical("many")
        assert caught.value.allowed == ()

    def test_text_says_what_was_expected(self) -> None:
        with pytest.raises(ValueRefusedError, match=r"Write a slug\."):
            SLUG.canonical("é")
