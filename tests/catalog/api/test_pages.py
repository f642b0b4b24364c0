"""The pages for people: what they offer can succeed, and assistive technology is told their language."""

from __future__ import annotations

import re

import pytest

pytestmark = [pytest.mark.django_db, pytest.mark.stack("server")]  # it hangs on no stack

PAGES = ("/screenshots/?format=api", "/screenshots/{cat}/?format=api", "/galleries/?format=api", "/docs/")


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

    @pytest.mark.parametrize("target", ["/screenshots/", "/screenshots/{cat}/", "/galleries/", "/tags/dark/"])
    def test_offers_no_write_that_needs_a_field_which_forms_cannot_send(self, as_owner, world, target):
        shown = page(as_owner, world.at(f"{target}?format=api"))
        assert not re.search(r'data-method="(PUT|PATCH|DELETE)"', shown)

    def test_offers_to_make_one_thing_to_whom_may(self, api, as_owner, world):
        form = '<form action="/api/v1/screenshots/?format=api" method="POST"'
        assert form in page(as_owner, "/screenshots/?format=api")
        assert form not in page(api, "/screenshots/?format=api")


class TestPages:
    @pytest.mark.parametrize("target", PAGES)
    def test_say_their_language(self, api, world, target):
        """WCAG 2.2, success criterion 3.1.1."""
        assert page(api, world.at(target)).count('<html lang="en">') == 1

    @pytest.mark.parametrize("target", PAGES)
    def test_fit_small_screens(self, api, world, target):
        assert page(api, world.at(target)).count('<meta name="viewport" content="width=device-width') == 1
