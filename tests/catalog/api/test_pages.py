"""The pages for people: what they offer can succeed."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.django_db, pytest.mark.stack("server")]  # it hangs on no stack


def page(client, target):
    """Return the text of a page."""
    response = client(target)
    assert (response.status_code, response["Content-Type"]) == (200, "text/html; charset=utf-8")
    return response.content.decode()


class TestBrowsableAPI:
    def test_has_no_form_of_filters(self, api, world):
        shown = page(api, "/screenshots/?format=api&tag=dark")
        assert "Filters" not in shown
        assert "[invalid name]" not in shown
