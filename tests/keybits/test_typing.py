"""Who takes keybits alone is checked against its annotations."""

from __future__ import annotations

from importlib.resources import files


def test_type_checkers_are_told_that_it_is_annotated() -> None:
    """PEP 561: without the marker they take everything in it for `Any`."""
    assert files("keybits").joinpath("py.typed").is_file()
