"""Which representation a request gets: JSON wherever Accept allows it, by RFC 9110 section 12.5.1."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import NotAcceptable, NotFound
from rest_framework.parsers import FormParser, JSONParser
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from keybits.drf.negotiation import JSONContentNegotiation, accepts
from keybits.drf.renderers import JSONRenderer

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

JSON = "application/json"
RENDERERS = [JSONRenderer(), BrowsableAPIRenderer()]
CHECKOUT = Path(__file__).parents[2]
ROUNDS = 5000
STARTS = ("", "a/b", "a/b;q", 'a/b;a="')
UNITS = (" ", ";", " ; ", "; a", ";a=b ", ';a="b" ', "a/b", "=", '"', "\\", '\\"', '",\\', ",")
ENDINGS = ("", "@", '"')


def renderer(query: str = "", **headers: str) -> Any:
    request = Request(APIRequestFactory().get(f"/{query}", headers=headers))
    chosen, media_type = JSONContentNegotiation().select_renderer(request, RENDERERS)
    assert media_type == chosen.media_type
    return chosen


class TestSection1251Accept:
    @pytest.mark.parametrize(
        "field",
        [
            "*/*",
            "application/*",
            "application/json",
            "APPLICATION/Json",
            "application/json; indent=4",
            "application/json;q=0.001",
            "application/json ; q=1.000",
            "application/json;charset=utf-8;q=0.5",
            "text/html, application/json;q=0.1",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            ", application/json ,",
        ],
    )
    def test_admits_json(self, field: str) -> None:
        assert accepts(field, JSON)

    @pytest.mark.parametrize(
        "field",
        [
            "text/html",
            "text/*",
            "application/xml",
            "application/jsonp",
            "application/vnd.api+json",
            "application/json;q=0",
            "application/json; q=0.000",
            "application/json;Q=0",
            "*/*;q=0",
            "application/*;q=0.0",
        ],
    )
    def test_excludes_json(self, field: str) -> None:
        assert not accepts(field, JSON)

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ("application/json;q=0, */*", False),
            ("*/*, application/json;q=0", False),
            ("application/json, */*;q=0", True),
            ("*/*;q=0, application/json;q=0.1", True),
            ("application/*;q=0, */*", False),
            ("application/*, */*;q=0", True),
            ("application/json, application/*;q=0, */*;q=0", True),
            ("application/json;q=0, application/*, */*", False),
            ("text/*;q=0, */*", True),
        ],
    )
    def test_the_most_specific_range_decides_in_any_order(self, field: str, expected: bool) -> None:
        assert accepts(field, JSON) is expected

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ('application/json;x=";q=0"', True),
            ('application/json;x=" ; q=0.0 ";q=0.5', True),
            ('application/json;x="\\";q=0"', True),
            ('application/json;x=";q=1";q=0', False),
            ('application/json;x="\\";q=much";q=0', False),
            ('text/html;x=";q=0, */*;q=1", application/json;q=0', False),
        ],
    )
    def test_what_a_parameter_quotes_is_no_weight(self, field: str, expected: bool) -> None:
        """RFC 9110 section 5.6.6: a parameter's value is one token or one quoted string."""
        assert accepts(field, JSON) is expected

    @pytest.mark.parametrize("field", ["", " ", ",", ",,,", "json", "*", "q=0", ";q=0", "html, xml"])
    def test_a_field_in_which_nothing_can_be_read_accepts_everything(self, field: str) -> None:
        assert accepts(field, JSON)

    @pytest.mark.parametrize("field", ["json, application/json", "*, application/json;q=0.5, ;;;"])
    def test_a_malformed_member_is_skipped(self, field: str) -> None:
        assert accepts(field, JSON)
        assert not accepts(field.replace(JSON, "text/html"), JSON)

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ("text/html, application/json;q=much", False),
            ("text/html, application/json;level=", False),
            ('text/html, application/json;level="', False),
            ("*/json", True),
            ("application/json/x", True),
            ("/", True),
            ('application/json;x=",";q=0', False),
            ('text/html;x="a, application/json, b"', False),
        ],
    )
    def test_malformed_in_part(self, field: str, expected: bool) -> None:
        assert accepts(field, JSON) is expected

    @given(st.text(st.sampled_from('*/;,=q01." applictonjs'), max_size=40) | st.text())
    def test_nothing_that_a_client_sends_raises(self, field: str) -> None:
        assert accepts(field, JSON) in {True, False}

    def test_every_field_comes_to_an_end(self) -> None:
        """In a process that can be ended: a pattern that reads the same in two ways would take for ever."""
        fields = [start + unit * ROUNDS + end for start, unit, end in product(STARTS, UNITS, ENDINGS)]
        program = (
            "import json, sys, django; django.setup();"
            "from keybits.drf.negotiation import accepts;"
            "[accepts(field, 'application/json') for field in json.load(sys.stdin)]"
        )
        command = [sys.executable, "-c", program]
        subprocess.run(command, check=True, cwd=CHECKOUT, input=json.dumps(fields), text=True, timeout=120)


class TestSelectRenderer:
    @pytest.mark.parametrize("accept", ["*/*", "text/html;q=1, application/json;q=0.1", "application/*"])
    def test_json_whatever_is_preferred(self, accept: str) -> None:
        assert renderer(Accept=accept).format == "json"

    def test_without_accept_json(self) -> None:
        assert renderer().format == "json"

    def test_406_names_what_accept_can_have(self) -> None:
        with pytest.raises(NotAcceptable) as caught:
            renderer(Accept="text/html")
        assert caught.value.available_renderers == RENDERERS[:1]

    @pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "image/png"])
    def test_the_page_is_asked_for_by_name_whatever_accept_says(self, accept: str) -> None:
        assert renderer("?format=api", Accept=accept).format == "api"

    def test_json_by_name_is_what_one_gets_anyway(self) -> None:
        assert renderer("?format=json").format == "json"

    def test_it_does_not_overrule_accept(self) -> None:
        with pytest.raises(NotAcceptable):
            renderer("?format=json", Accept="text/html")

    def test_another_name_is_404_and_lists_the_names(self) -> None:
        with pytest.raises(NotFound, match="json, api"):
            renderer("?format=xml")


class TestSelectParser:
    @pytest.mark.parametrize(
        ("content_type", "parser"),
        [
            ("application/json", JSONParser),
            ("Application/JSON; charset=utf-8", JSONParser),
            ("application/x-www-form-urlencoded", FormParser),
            ("text/plain", None),
            ("application/json2", None),
            ("", None),
        ],
    )
    def test_by_the_media_type_alone(self, content_type: str, parser: Any) -> None:
        request = Request(APIRequestFactory().generic("POST", "/", "{}", content_type=content_type))
        assert JSONContentNegotiation().select_parser(request, [JSONParser, FormParser]) is parser
