"""The bytes of a JSON answer: one way to write each value, the same for every client."""

from __future__ import annotations

import json
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.utils.serializer_helpers import ReturnDict, ReturnList

from catalog.models import Tag
from keybits.drf.renderers import JSONRenderer, read

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Numbers(serializers.Serializer[Any]):
    numbers = serializers.ListField(child=serializers.IntegerField())


def rendered(data: Any, accept: str | None = None) -> bytes:
    return JSONRenderer().render(data, accept, {"request": None})


class TestBytes:
    @pytest.mark.stack("server")
    @given(values)
    def test_are_json_that_says_the_same(self, data: Any) -> None:
        assert data is None or json.loads(rendered(data)) == data

    @given(values)
    def test_are_the_same_whatever_accept_adds(self, data: Any) -> None:
        assert rendered(data, "application/json; indent=4") == rendered(data)

    def test_have_no_white_space_and_plain_utf_8(self) -> None:
        assert rendered({"b": [1, 2], "a": "größe"}) == '{"b":[1,2],"a":"größe"}'.encode()

    def test_keep_the_order_of_the_serializer(self) -> None:
        assert rendered(OrderedDict([("z", 1), ("a", 2)])) == b'{"z":1,"a":2}'

    def test_nothing_is_written_for_no_data(self) -> None:
        assert rendered(None) == b""

    @pytest.mark.parametrize("data", [{"b": [1, {}], "a": "größe"}, [2**70, "\ud800"]])
    def test_say_the_same_indented_to_the_browsable_api(self, data: Any) -> None:
        page = BrowsableAPIRenderer().get_content(JSONRenderer(), data, "text/html", {})
        assert json.loads(page) == data

    def test_are_indented_for_the_browsable_api(self) -> None:
        page = BrowsableAPIRenderer().get_content(JSONRenderer(), {"a": [1]}, "text/html", {})
        assert page == '{\n  "a": [\n    1\n  ]\n}'

    def test_no_charset_is_named(self) -> None:
        """RFC 8259 section 11 defines none."""
        assert JSONRenderer.charset is None


class TestValues:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (gettext_lazy("Odd."), b'"Odd."'),
            (ErrorDetail("Odd.", "odd"), b'"Odd."'),
            (MappingProxyType({"a": 1}), b'{"a":1}'),
            (ReturnDict({"a": 1}, serializer=Numbers()), b'{"a":1}'),
            (ReturnList([1], serializer=Numbers()), b"[1]"),
            ((1, 2), b"[1,2]"),
            (uuid.UUID(int=0), b'"00000000-0000-0000-0000-000000000000"'),
            (date(2026, 11, 20), b'"2026-11-20"'),
            (datetime(2026, 11, 20, 14, 30, tzinfo=UTC), b'"2026-11-20T14:30:00+00:00"'),
            (Decimal("0.10"), b"0.1"),
            (timedelta(minutes=1), b'"60.0"'),
        ],
    )
    def test_that_have_a_form(self, value: Any, text: bytes) -> None:
        assert rendered([value]) == b"[" + text + b"]"

    @pytest.mark.django_db
    def test_querysets_are_lists(self) -> None:
        """`Response(queryset.values("name"))` is what REST framework's renderer takes as well."""
        Tag.objects.create(slug="a", name="A")
        assert rendered({"all": Tag.objects.values("slug")}) == b'{"all":[{"slug":"a"}]}'
        assert rendered(Tag.objects.values_list("slug", flat=True)) == b'["a"]'

    @pytest.mark.parametrize("value", [object(), {1}, b"bytes"])
    def test_others_are_an_error_that_names_the_type(self, value: Any) -> None:
        with pytest.raises(TypeError) as caught:
            rendered([value])
        assert type(value).__name__ in str(caught.value.__cause__ or caught.value)

    def test_errors_in_the_members_of_a_list_are_written(self) -> None:
        """REST framework gives them by position."""
        serializer = Numbers(data={"numbers": [1, "x"]})
        with pytest.raises(ValidationError) as caught:
            serializer.is_valid(raise_exception=True)
        assert json.loads(rendered(caught.value.detail))["numbers"]["1"] == ["A valid integer is required."]


class TestWhatOrjsonRefuses:
    """A database's JSON may hold it: it is written as RFC 8259 has it, and all about it as ever."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (10**30, b"1" + b"0" * 30),
            (-(10**30), b"-1" + b"0" * 30),
            ("\ud800", rb'"\ud800"'),
            ('ö"\ud800\n', '"ö\\"\\ud800\\n"'.encode()),
            ({"\udfff": 1}, rb'{"\udfff":1}'),
            ({10**30: 1}, b'{"1' + b"0" * 30 + b'":1}'),
            (MappingProxyType({"a": 2**64}), b'{"a":18446744073709551616}'),
            (gettext_lazy("\ud800"), rb'"\ud800"'),
        ],
    )
    def test_is_written(self, value: Any, text: bytes) -> None:
        assert rendered([value]) == b"[" + text + b"]"

    @given(values)
    def test_changes_nothing_beside_it(self, data: Any) -> None:
        plain = b"null" if data is None else rendered(data)
        assert rendered({"odd": 10**30, "a": (data,)}) == b'{"odd":%d,"a":[%b]}' % (10**30, plain)

    @pytest.mark.parametrize("data", [["\ud800", 1.5], {"\udfff": ["a"]}])
    def test_can_be_read_again(self, data: Any) -> None:
        assert read(rendered(data)) == data

    def test_is_written_however_deep_it_stands(self) -> None:
        data: Any = 1
        for _ in range(300):
            data = [data]
        assert json.loads(rendered({"deep": data})) == {"deep": data}

    @pytest.mark.parametrize("value", [object(), {1}, b"bytes"])
    def test_does_not_hide_what_has_no_form(self, value: Any) -> None:
        with pytest.raises(TypeError) as caught:
            rendered({"a": [10**30, value]})
        assert type(value).__name__ in str(caught.value.__cause__ or caught.value)
