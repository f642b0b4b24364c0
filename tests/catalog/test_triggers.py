"""A set of triggers is put back as it was, and nothing else is touched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection

from catalog import search, tallies, tombstones
from catalog.accounts import append_only
from catalog.triggers import Triggers, execute

pytestmark = pytest.mark.django_db

PRESENT = {
    "postgresql": "SELECT tgname, pg_get_triggerdef(oid) || pg_get_functiondef(tgfoid) FROM pg_trigger",
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
}
NOTE = "INSERT INTO note (said) VALUES ('{}');"
ADDED = {"thing_is_added": ("AFTER INSERT ON thing", NOTE.format("added"))}
CHANGED = {"thing_is_changed": ("AFTER UPDATE ON thing", NOTE.format("changed"))}


def triggers(made: dict[str, tuple[str, str]], **options: Any) -> Triggers:
    """Return a set that does the same on both stacks."""
    functions = {name: (when, f"{body} RETURN NULL;") for name, (when, body) in made.items()}
    return Triggers("note", postgresql=functions, sqlite=made, **options)


THING = triggers(ADDED | CHANGED)


def rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def present() -> set[tuple[Any, ...]]:
    """Return each trigger that there is, and what it does."""
    return set(rows(PRESENT[connection.vendor]))


def names() -> set[str]:
    return {name for name, _ in present()} & {*THING.sqlite}


def noted() -> list[str]:
    """Add and change a thing; return what was noted of it."""
    execute(connection, "DELETE FROM note", "DELETE FROM thing")
    execute(connection, "INSERT INTO thing (id) VALUES (1)", "UPDATE thing SET id = 2")
    return [said for (said,) in rows("SELECT said FROM note")]


def not_called(_: Any) -> None:
    raise AssertionError("there was nothing to mend")


@pytest.fixture(autouse=True)
def tables(db: None) -> None:
    """Make a table and one for notes of it, which the test's transaction takes along."""
    execute(connection, "CREATE TABLE thing (id integer)", "CREATE TABLE note (said text)")


class TestMending:
    def test_triggers_that_are_not_there_are_made(self) -> None:
        assert THING.mend(connection)
        assert noted() == ["added", "changed"]

    def test_a_dropped_trigger_is_put_back(self) -> None:
        THING.mend(connection)
        triggers(CHANGED).drop(connection)
        assert noted() == ["added"]
        assert THING.mend(connection)
        assert noted() == ["added", "changed"]

    def test_what_is_present_is_left_alone(self) -> None:
        triggers({"thing_is_added": ("AFTER INSERT ON thing", NOTE.format("as before"))}).mend(connection)
        assert THING.mend(connection)
        assert noted() == ["as before", "changed"]

    def test_where_nothing_is_missing_nothing_follows(self) -> None:
        THING.mend(connection)
        assert not THING.mend(connection, then=not_called)

    @pytest.mark.stack("server")
    def test_those_of_another_schema_are_not_taken_for_those_of_this_one(self) -> None:
        """Each tenant may have a schema, with the same tables in it."""
        THING.mend(connection)
        execute(connection, "CREATE SCHEMA two", "SET LOCAL search_path TO two")
        execute(connection, "CREATE TABLE thing (id integer)", "CREATE TABLE note (said text)")
        assert THING.mend(connection)
        assert noted() == ["added", "changed"]

    def test_where_the_table_is_missing_nothing_is_made(self) -> None:
        execute(connection, "DROP TABLE note")
        assert not THING.mend(connection, then=not_called)
        assert names() == set()

    def test_those_that_read_a_column_are_made_once_it_is_there(self) -> None:
        needing = triggers(ADDED, column="later")
        assert not needing.mend(connection, then=not_called)
        assert names() == set()
        execute(connection, "ALTER TABLE note ADD COLUMN later text")
        assert needing.mend(connection)
        assert noted() == ["added"]

    def test_what_follows_sees_the_triggers(self) -> None:
        followed = []
        THING.mend(connection, then=lambda on: followed.append((on.alias, noted())))
        assert followed == [("default", ["added", "changed"])]

    def test_triggers_are_not_kept_without_what_follows(self) -> None:
        with pytest.raises(AssertionError):
            THING.mend(connection, then=not_called)
        assert names() == set()

    def test_another_database_is_not_asked(self) -> None:
        other: Any = SimpleNamespace(vendor="mysql")
        assert not THING.mend(other, then=not_called)
        THING.replace_functions(other)
        THING.drop(other)


class TestDropping:
    def test_nothing_is_left(self) -> None:
        before = present()
        THING.mend(connection)
        THING.drop(connection)
        assert present() == before
        assert noted() == []

    def test_dropping_twice_is_dropping_once(self) -> None:
        THING.mend(connection)
        THING.drop(connection)
        THING.drop(connection)
        assert THING.mend(connection)

    def test_others_stay(self) -> None:
        THING.mend(connection)
        triggers(ADDED).drop(connection)
        assert names() == {*CHANGED}


@pytest.mark.stack("server")
class TestFunctions:
    SHARED = triggers(
        {name: (when, NOTE.format("one")) for name, (when, _) in THING.sqlite.items()}, function="thing_note"
    )

    def test_triggers_that_are_there_do_what_they_are_made_to_do_now(self) -> None:
        triggers({name: (when, "") for name, (when, _) in THING.sqlite.items()}).mend(connection)
        assert noted() == []
        THING.replace_functions(connection)
        assert noted() == ["added", "changed"]

    def test_one_is_enough_for_all(self) -> None:
        self.SHARED.mend(connection)
        assert noted() == ["one", "one"]
        assert rows("SELECT DISTINCT tgfoid::regproc::text FROM pg_trigger WHERE tgname LIKE 'thing_%'") == [
            ("thing_note",)
        ]

    def test_one_for_all_outlives_the_loss_of_a_trigger(self) -> None:
        self.SHARED.mend(connection)
        execute(connection, "DROP TRIGGER thing_is_added ON thing")
        assert self.SHARED.mend(connection)
        assert noted() == ["one", "one"]

    def test_one_for_all_goes_with_them(self) -> None:
        self.SHARED.mend(connection)
        self.SHARED.drop(connection)
        assert rows("SELECT 1 FROM pg_proc WHERE proname = 'thing_note'") == []
        assert names() == set()


@pytest.mark.parametrize("module", [append_only, search, tallies, tombstones])
def test_each_of_the_domain_s_sets_is_put_back_as_migrations_made_it(module: Any) -> None:
    made = present()
    module.TRIGGERS.drop(connection)
    here = getattr(module.TRIGGERS, connection.vendor)
    assert len(present()) == len(made) - len(here)
    assert module.TRIGGERS.mend(connection) == bool(here)
    assert present() == made
