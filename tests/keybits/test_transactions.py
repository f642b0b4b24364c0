"""Which statements are taken for writes, whatever they begin with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keybits.transactions import _WITH, _WRITES

CHECKOUT = Path(__file__).parents[2]
BEFORE = ("", " \n", "/* a */", "/**/ /* SELECT */\n", "-- a\n", "((", "/* /* a */ b */", "/***/")
READS = ("SELECT 1", "WITH a AS (SELECT 1) SELECT 2", "PRAGMA foreign_keys")
WRITES = ("INSERT INTO a VALUES (1)", "update a SET b = 1", "WITH a AS (SELECT 1) DELETE FROM b")


def is_write(sql: str) -> bool:
    return bool(_WRITES.match(sql) or _WITH.match(sql))


@pytest.mark.parametrize("before", BEFORE)
def test_what_stands_before_a_statement_hides_nothing(before: str) -> None:
    assert all(is_write(before + sql) for sql in WRITES)
    assert not any(is_write(before + sql) for sql in READS)


def test_comments_are_read_once_however_many_there_are() -> None:
    """In a process that can be ended: to try where else each of them may end would take for ever."""
    program = (
        "import django; django.setup(); from keybits.transactions import _WITH, _WRITES;"
        "sql = '/**/-- a\\n ' * 5000 + 'SELECT 1'; assert not (_WRITES.match(sql) or _WITH.match(sql))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=CHECKOUT, timeout=120)
