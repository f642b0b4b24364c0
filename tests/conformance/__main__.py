"""Measure every row in every column and write `docs/conformance.md`: `python tests/conformance`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from stacks import runs  # noqa: E402
from stacks.live import Deployments  # noqa: E402

from conformance.columns import COLUMNS, running  # noqa: E402 - the path is set above
from conformance.matrix import DOCUMENT, measured, written  # noqa: E402


def main() -> int:
    """Return 1 where a cell of ours fails: the document says which."""
    run = runs.begin()
    cells = {}
    try:
        deployments = Deployments(run / "live", None)
        for configuration in COLUMNS:
            with running(configuration, deployments) as column:
                cells[column.name] = measured(column)
    finally:
        runs.end(run)
    DOCUMENT.write_text(written(cells), "utf-8")
    return int(any(cell.passed is False for cell in cells[COLUMNS[0].name].values()))


if __name__ == "__main__":
    sys.exit(main())
