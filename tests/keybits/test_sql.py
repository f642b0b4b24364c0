"""What a text says that it does to a transaction, whatever stands before it, and how long that takes to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keybits import sql

pytestmark = pytest.mark.stack("embedded")  # neither database nor store

CHECKOUT = Path(__file__).parents[2]
COMMENTS = ("/* a */", "/**/ /* SELECT */\n", "-- a\n", "-- a\r", "/* /* a */ b */", "/***/")
BEFORE = ("", " \n", *COMMENTS, "((", ";;", "\ufeff", "; /* a */ ; -- a\n")
READS = ("SELECT 1", "WITH a AS (SELECT 1) SELECT replace('a', 'b', 'c')", "PRAGMA foreign_keys")
WRITES = (
    "INSERT INTO a VALUES (1)",
    "update a SET b = 1",
    "WITH a AS (SELECT 1) DELETE FROM b",
    "WITH a AS (SELECT 1) REPLACE INTO b SELECT * FROM a",
)
LATER = (
    "SELECT 1;UPDATE a SET b = 1",
    "SELECT 1; /* why */ -- and\n /**/ UPDATE a SET b = 1",
    "SELECT 1; WITH x AS (SELECT 1) UPDATE a SET b = 1",
)


@pytest.mark.parametrize("before", BEFORE)
class TestWhatStandsBeforeAStatement:
    def test_hides_no_write(self, before: str) -> None:
        assert all(sql.writes(before + text) for text in WRITES)

    def test_makes_no_write_of_a_read(self, before: str) -> None:
        """Except of a WITH behind a semicolon, which is not looked into."""
        reads = [text for text in READS if ";" not in before or not text.startswith("WITH")]
        assert not any(sql.writes(before + text) for text in reads)

    def test_hides_no_end_of_a_transaction(self, before: str) -> None:
        assert sql.is_commit(f"{before}COMMIT")
        assert sql.begins_or_ends(f"{before}ROLLBACK")
        assert sql.ends_itself(f"{before}CALL batch()")
        assert sql.releases(f"{before}RELEASE SAVEPOINT a")
        assert sql.prepares(f"{before}PREPARE TRANSACTION 'a'")


def test_comments_are_read_once_however_many_there_are() -> None:
    """In a process that can be ended: to try where else each of them may end would take for ever."""
    program = (
        "import django; django.setup(); from keybits.sql import writes;"
        "assert not writes('/**/-- a\\n ' * 5000 + 'SELECT 1')"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=CHECKOUT, timeout=120)


class TestAnotherStatement:
    @pytest.mark.parametrize("text", LATER)
    def test_that_writes_is_a_write(self, text: str) -> None:
        assert sql.writes(text)

    @pytest.mark.parametrize("comment", COMMENTS)
    def test_is_seen_behind_a_comment(self, comment: str) -> None:
        assert all(sql.writes(f"VACUUM;{comment}{text}") for text in WRITES)
        assert sql.commits_later(f"VACUUM;{comment}COMMIT")

    def test_is_not_made_of_a_literal_or_of_nothing(self) -> None:
        assert not any(map(sql.writes, ("SELECT ';'", "SELECT 1; ", "SELECT 1; SELECT 2")))


def test_the_statements_of_the_record_are_no_writes() -> None:
    assert not sql.writes("INSERT INTO keybits_change (scope) VALUES ('pages')")
    assert not sql.writes("CREATE TRIGGER a AFTER UPDATE ON b BEGIN INSERT INTO keybits_change (scope); END")
    assert sql.writes("UPDATE pages SET title = 'keybits_change'")
