"""Every row passes for us, whatever serves and stores; and the document says what was measured, peers included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stacks.live import Deployments

from conformance.columns import COLUMNS, Column, running
from conformance.matrix import DOCUMENT, Cell, measured, rows, written
from conformance.rows import junk

OURS, *PEERS = COLUMNS


class Measured:
    """A running column of ours and its cells, measured once."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.cells = measured(column)


@pytest.fixture(scope="module")
def by_wsgi(deployments: Deployments) -> Iterator[Measured]:
    with running(OURS, deployments) as column:
        yield Measured(column)


def assert_all_pass(cells: dict[str, Cell]) -> None:
    assert {name: str(cell) for name, cell in cells.items() if cell.passed is not True} == {}


@pytest.mark.stack("embedded")
def test_every_cell_of_ours_passes(by_wsgi: Measured) -> None:
    assert_all_pass(by_wsgi.cells)


@pytest.mark.stack("server")  # each interface on one: they share all but what reads the request
def test_every_cell_of_ours_passes_by_asgi(deployments: Deployments) -> None:
    with running(OURS, deployments, "asgi") as column:
        assert_all_pass(measured(column))


@pytest.mark.stack("embedded")
def test_ten_thousand_addresses_of_one_list_add_no_entry(by_wsgi: Measured) -> None:
    junk.grown(by_wsgi.column, junk.queries_of_one_list(10_000))


@pytest.mark.stack("embedded")
def test_the_document_says_what_was_measured(by_wsgi: Measured, deployments: Deployments) -> None:
    cells = {OURS.name: by_wsgi.cells}
    for configuration in PEERS:
        with running(configuration, deployments) as column:
            cells[column.name] = measured(column)
    assert DOCUMENT.read_text("utf-8") == written(cells), "run python tests/conformance"


def test_every_row_has_a_name_of_its_own() -> None:
    names = [one.name for one in rows()]
    assert len(names) == len(set(names))
