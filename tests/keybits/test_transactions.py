"""What a write opens and closes, whatever transaction it comes in, and however that begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.db import DataError, Error, IntegrityError, connection, transaction
from django.db.backends.signals import connection_created
from psycopg import sql as psycopg_sql

from catalog.models import Tag
from keybits import readthrough, transactions
from keybits.stores import StoreError, get_store
from keybits.transactions import WriteRefusedError

UPDATE = "UPDATE catalog_tag SET name = name || '+'"
FAILS = "SELECT 1 / 0"
COPY = "COPY catalog_tag (slug, name, kind) FROM STDIN"
LOST = "INSERT INTO catalog_screenshot_tags (screenshot_id, tag_id) VALUES (999999, 999999)"
FOUND = "DELETE FROM catalog_screenshot_tags WHERE screenshot_id = 999999"
COMMENTED = "/* a */ SELECT CASE WHEN 1 = 1 THEN 2 /* b */ END"
MAKES = {
    "sqlite": f"CREATE TEMP TRIGGER made AFTER DELETE ON catalog_tag BEGIN {UPDATE}; END",
    "postgresql": "CREATE FUNCTION pg_temp.made() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM 1; RETURN NULL; END $$",
}
"""As a migration makes what a domain's own triggers do."""
SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON catalog_tag
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()
"""
"""Makes each COMMIT of a tag take its time."""
PROCEDURE = f"""
    CREATE PROCEDURE pg_temp.batch() LANGUAGE plpgsql AS $$
    BEGIN {UPDATE}; COMMIT; {UPDATE}; COMMIT; END $$
"""


def run(*statements: Any) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def name() -> str:
    return Tag.objects.get().name


@pytest.fixture
def tag() -> Iterator[Tag]:
    run("DELETE FROM keybits_change")  # what other tests have left to a relay
    yield Tag.objects.create(slug="x", name="X")
    connection.close()  # whatever a failed test has left of a transaction


def ends(*statements: Any) -> bool:
    """Say whether a tag's scope has ended as the last of these returns; none is left to be open."""
    before = get_store().mint(("tag:x",))
    run(*statements)
    after = get_store().mint(("tag:x",))
    assert after != (None,)
    return after != before


@pytest.mark.django_db(transaction=True)
class TestTransactionsBegunInSQL:
    @pytest.mark.parametrize("begin", ["BEGIN", "/* a */ begin transaction"])
    @pytest.mark.parametrize("commit", ["COMMIT", "END", "-- done\ncommit", "; commit"])
    def test_are_closed_as_they_commit(self, tag: Tag, begin: str, commit: str) -> None:
        assert ends(begin, UPDATE, commit)
        assert name() == "X+"

    def test_are_not_ended_before(self, tag: Tag) -> None:
        assert not ends("BEGIN", UPDATE)
        assert transactions.sees_its_own_writes()
        assert not readthrough.may_keep(("tags",))
        run("COMMIT")
        assert not transactions.sees_its_own_writes()

    def test_end_nothing_where_they_are_rolled_back(self, tag: Tag) -> None:
        assert not ends("BEGIN", UPDATE, "ROLLBACK")
        with transaction.atomic():
            assert not transactions.sees_its_own_writes()
        assert name() == "X"

    def test_end_with_their_connection(self, tag: Tag) -> None:
        run("BEGIN", UPDATE)
        connection.close()
        assert not transactions.sees_its_own_writes()
        assert not ends("SELECT 1")

    def test_go_on_after_a_savepoint_that_is_rolled_back(self, tag: Tag) -> None:
        assert ends("BEGIN", UPDATE, "SAVEPOINT a", UPDATE, "ROLLBACK TO SAVEPOINT a", "COMMIT")
        assert name() == "X+"

    @pytest.mark.stack("embedded")
    def test_of_one_savepoint_are_closed_as_it_is_released(self, tag: Tag) -> None:
        """SQLite commits it. Django makes such savepoints for blocks while autocommit is off."""
        assert ends("SAVEPOINT a", UPDATE, "SAVEPOINT b", UPDATE, "RELEASE b", "RELEASE a")
        assert ends("SAVEPOINT a", UPDATE, "ROLLBACK TO a", UPDATE, "RELEASE a")
        assert name() == "X+++"


@pytest.mark.stack("embedded")
@pytest.mark.parametrize("more", ["", " RETURNING id"])
@pytest.mark.django_db(transaction=True)
def test_what_python_begins_no_transaction_for_is_closed_though_autocommit_is_off(
    tag: Tag, more: str
) -> None:
    """SQLite commits it at once."""
    transaction.set_autocommit(False)
    try:
        assert ends(f"WITH a AS (SELECT 1) {UPDATE}{more}")
        assert not ends(UPDATE + more)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert name() == "X+"


@pytest.mark.django_db(transaction=True)
class TestConnections:
    def test_a_write_by_a_copy_of_a_connection_is_closed(self, tag: Tag) -> None:
        before = get_store().mint(("tag:x",))
        beside: Any = connection.copy()
        try:
            with beside.cursor() as cursor:
                cursor.execute(UPDATE)
        finally:
            beside.close()
        assert get_store().mint(("tag:x",)) not in {before, (None,)}
        assert name() == "X+"

    def test_one_may_be_asked_before_it_is_watched_as_open(self, tag: Tag) -> None:
        """A receiver of `connection_created` that is called before ours sets it up with statements of its own."""
        beside: Any = connection.copy()
        seen = []

        def set_up(connection: Any, **_: Any) -> None:
            with connection.cursor() as cursor:
                seen.append(cursor.execute("SELECT 1"))

        transactions.watch(beside)
        receivers = connection_created.receivers
        connection_created.receivers = []
        connection_created.connect(set_up)
        connection_created.receivers += receivers
        connection_created.sender_receivers_cache.clear()
        try:
            with beside.cursor() as cursor:
                cursor.execute(UPDATE)
        finally:
            connection_created.disconnect(set_up)
            beside.close()
        assert seen
        assert name() == "X+"


@pytest.mark.django_db(transaction=True)
class TestTransactionsOfDjango:
    def test_a_write_that_begins_as_a_read_is_closed(self, tag: Tag) -> None:
        assert ends(f"WITH a AS (SELECT 1) {UPDATE}")
        assert name() == "X+"

    def test_a_write_that_mentions_the_record_is_closed(self, tag: Tag) -> None:
        assert ends(f"{UPDATE} WHERE name <> 'keybits_change'")
        assert name() == "X+"

    @pytest.mark.parametrize("text", ["SELECT 'begin; end'", "SELECT 1 -- ; commit", COMMENTED, MAKES])
    def test_are_closed_as_they_commit_and_not_where_a_text_only_looks_like_it(
        self, tag: Tag, text: Any
    ) -> None:
        with transaction.atomic():
            run(UPDATE, text if isinstance(text, str) else text[connection.vendor])
            assert transactions.sees_its_own_writes()
            others = get_store().mint(("tag:x",))  # under which another reader keeps the old name
        assert get_store().mint(("tag:x",)) not in {others, (None,)}
        assert name() == "X+"

    def test_what_was_rolled_back_is_written_in_no_other(self, tag: Tag) -> None:
        with transaction.atomic():
            run(UPDATE)
            transaction.set_rollback(True)
        with transaction.atomic():
            assert not transactions.sees_its_own_writes()

    def test_a_commit_that_was_refused_is_refused_again(
        self, tag: Tag, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And what was claimed for the first is claimed for the one that succeeds."""
        settings.KEYBITS_WRITE_POLICY = "refuse"

        def fail(*_: Any) -> None:
            raise StoreError("away")

        before = get_store().mint(("tag:x",))
        transaction.set_autocommit(False)
        try:
            run(UPDATE)
            with monkeypatch.context() as patch:
                patch.setattr(get_store(), "open", fail)
                for _ in range(2):
                    with pytest.raises(WriteRefusedError):
                        transaction.commit()
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        assert get_store().mint(("tag:x",)) != before
        assert name() == "X+"

    def test_of_a_connection_that_was_opened_within_a_wrapper_are_closed_after_it(
        self, tag: Tag, settings: Any
    ) -> None:
        """As instrumentation wraps a request: the block takes the last wrapper off as it ends."""
        settings.KEYBITS_RELAY = "off"

        def written() -> bool:
            try:
                with connection.execute_wrapper(lambda execute, *given: execute(*given)):
                    assert name() == "X"
                return ends(UPDATE)
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(written).result()


@pytest.mark.stack("embedded")
@pytest.mark.django_db(transaction=True)
def test_what_is_read_while_a_statement_of_sqlite_is_not_at_its_end_may_not_be_kept(tag: Tag) -> None:
    """It holds the snapshot that it began with, for all that come after it, and there is no transaction to be seen."""
    Tag.objects.create(slug="y", name="Y")
    assert transactions.may_store()
    rows = Tag.objects.iterator(chunk_size=1)
    next(rows)
    assert not transactions.may_store()
    assert len(list(rows)) == 1
    assert transactions.may_store()
    connection.close()
    assert Tag.objects.exists()
    assert transactions.may_store()


@pytest.mark.stack("server")
@pytest.mark.django_db(transaction=True)
class TestPostgreSQL:
    @pytest.mark.parametrize("text", [f"{UPDATE}; COMMIT", f"{UPDATE}; SELECT 1; END"])
    def test_a_text_that_writes_and_commits_what_was_begun_before_is_closed(
        self, tag: Tag, text: str
    ) -> None:
        assert ends("BEGIN", text)
        assert not transactions.sees_its_own_writes()

    def test_a_text_that_commits_what_was_written_before_is_closed(self, tag: Tag) -> None:
        assert ends("BEGIN", UPDATE, "SELECT 1; COMMIT")

    @pytest.mark.parametrize("ends_none", ["COMMIT", "ROLLBACK"])
    def test_a_text_that_ends_no_transaction_and_writes_after_that_is_closed(
        self, tag: Tag, ends_none: str
    ) -> None:
        assert ends(f"{ends_none}; {UPDATE}")
        assert name() == "X+"

    def test_a_text_that_rolls_back_to_a_savepoint_and_commits_is_closed(self, tag: Tag) -> None:
        run("BEGIN", UPDATE, "SAVEPOINT a")
        with pytest.raises(DataError):
            run(FAILS)
        assert ends("ROLLBACK TO SAVEPOINT a; COMMIT")
        assert name() == "X+"

    def test_a_text_that_commits_and_writes_in_another_transaction_is_closed_twice(self, tag: Tag) -> None:
        assert ends("BEGIN", f"{UPDATE}; COMMIT; BEGIN; {UPDATE}")
        assert ends("COMMIT")
        transaction.set_autocommit(False)
        run(UPDATE)
        assert ends(f"COMMIT; {UPDATE}; COMMIT; BEGIN")
        run("ROLLBACK")
        transaction.set_autocommit(True)
        assert name() == "X++++"

    @pytest.mark.parametrize("text", ["COMMIT", "ROLLBACK"])
    def test_what_is_written_after_a_transaction_has_ended_in_a_pipeline_is_closed(
        self, tag: Tag, text: str
    ) -> None:
        """Without autocommit psycopg begins another one, if it knows that there is none."""
        transaction.set_autocommit(False)
        before = get_store().mint(("tag:x",))
        with connection.connection.pipeline():
            run("SELECT 1", text, UPDATE)
        transaction.commit()
        transaction.set_autocommit(True)
        assert get_store().mint(("tag:x",)) not in {before, (None,)}
        assert name() == "X+"

    @pytest.mark.parametrize(("first", "then"), [("COMMIT", "X++"), ("ROLLBACK", "X+")])
    def test_a_text_that_ends_a_transaction_and_writes_after_it_is_closed(
        self, tag: Tag, first: str, then: str
    ) -> None:
        assert ends("BEGIN", UPDATE, f"{first}; {UPDATE}")
        assert not transactions.has_written(connection)
        assert name() == then

    def test_a_text_that_commits_and_begins_anew_is_closed_and_nothing_of_it_is_written_in_the_next(
        self, tag: Tag
    ) -> None:
        assert ends("BEGIN", UPDATE, "SELECT 1; COMMIT; BEGIN")
        assert not transactions.sees_its_own_writes()
        run("ROLLBACK")
        assert name() == "X+"

    @pytest.mark.parametrize("text", [f"BEGIN; {UPDATE}", f"SELECT 1; START TRANSACTION; {UPDATE}"])
    def test_a_text_that_begins_and_writes_is_ended_by_a_later_one(self, tag: Tag, text: str) -> None:
        assert not ends(text, "ROLLBACK")
        assert name() == "X"
        assert not ends(text)
        assert transactions.sees_its_own_writes()
        assert ends("COMMIT")
        assert name() == "X+"

    @pytest.mark.parametrize(
        "texts",
        [
            [f"{UPDATE}; COMMIT; BEGIN"],
            ["BEGIN", f"{UPDATE}; COMMIT; BEGIN"],
            ["BEGIN", f"{UPDATE}; COMMIT AND CHAIN"],
        ],
    )
    def test_a_text_that_writes_and_commits_and_begins_anew_is_closed(
        self, tag: Tag, texts: list[str]
    ) -> None:
        assert ends(*texts)
        run("ROLLBACK")
        assert name() == "X+"

    def test_a_text_that_commits_a_transaction_that_django_began_is_closed(self, tag: Tag) -> None:
        with transaction.atomic():
            assert ends(f"{UPDATE}; COMMIT")
            assert not transactions.sees_its_own_writes()
        transaction.set_autocommit(False)
        try:
            assert ends(f"{UPDATE}; COMMIT")
        finally:
            transaction.set_autocommit(True)
        assert name() == "X++"

    @pytest.mark.parametrize("before", [(), ("BEGIN",)])
    def test_a_text_that_fails_after_it_has_committed_is_closed(
        self, tag: Tag, before: tuple[str, ...]
    ) -> None:
        stamp = get_store().mint(("tag:x",))
        with pytest.raises(DataError):
            run(*before, f"{'' if before else 'BEGIN; '}{UPDATE}; COMMIT; {FAILS}")
        assert get_store().mint(("tag:x",)) not in {stamp, (None,)}
        assert name() == "X+"

    def test_a_text_that_looks_like_a_commit_and_fails_raises_its_own_error(self, tag: Tag) -> None:
        with transaction.atomic():
            run(UPDATE)
            with pytest.raises(DataError), transaction.atomic():
                run(f"{FAILS}; COMMIT")
            others = get_store().mint(("tag:x",))
        assert get_store().mint(("tag:x",)) not in {others, (None,)}
        assert name() == "X+"

    def test_what_was_claimed_for_a_commit_that_failed_after_a_savepoint_of_its_text_is_claimed_again(
        self, tag: Tag
    ) -> None:
        run("BEGIN", UPDATE)
        with pytest.raises(DataError):
            run(f"SAVEPOINT a; {FAILS}; COMMIT")
        run("ROLLBACK TO SAVEPOINT a")
        others = get_store().mint(("tag:x",))  # under which another reader keeps the old name
        run("COMMIT")
        assert get_store().mint(("tag:x",)) not in {others, (None,)}
        assert name() == "X+"

    def test_and_where_the_text_that_rolls_it_back_to_the_savepoint_commits_it_too(self, tag: Tag) -> None:
        run("BEGIN", UPDATE)
        with pytest.raises(DataError):
            run(f"SAVEPOINT a; {FAILS}; COMMIT")
        others = get_store().mint(("tag:x",))  # under which another reader keeps the old name
        run("ROLLBACK TO SAVEPOINT a; COMMIT")
        assert get_store().mint(("tag:x",)) not in {others, (None,)}
        assert name() == "X+"

    def test_what_psycopg_sends_in_a_pipeline_is_closed(self, tag: Tag) -> None:
        before = get_store().mint(("tag:x",))
        connection.ensure_connection()
        with connection.connection.pipeline(), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(UPDATE)
        assert get_store().mint(("tag:x",)) not in {before, (None,)}

    @pytest.mark.parametrize("begins", [True, False])
    def test_a_pipeline_is_waited_for_before_what_it_commits_is_closed(self, tag: Tag, begins: bool) -> None:
        """The transaction is begun in SQL, or by psycopg where autocommit is off; COMMIT is sent, and awaited."""
        before = get_store().mint(("tag:x",))
        beside: Any = connection.copy()
        run(SLOW)
        transaction.set_autocommit(begins)
        try:
            with connection.connection.pipeline():
                run(*["BEGIN"][:begins], UPDATE, "COMMIT")
                assert get_store().mint(("tag:x",)) not in {before, (None,)}
                with beside.cursor() as cursor:  # what a reader keeps under this stamp
                    assert cursor.execute("SELECT name FROM catalog_tag").fetchall() == [("X+",)]
        finally:
            beside.close()
            connection.close()
            run("DROP FUNCTION slow() CASCADE")

    def test_a_pipeline_whose_commit_fails_raises_its_error_and_leaves_no_scope_open(self, tag: Tag) -> None:
        with pytest.raises(IntegrityError), connection.cursor().connection.pipeline():
            run("BEGIN", UPDATE, LOST, "COMMIT")
        assert get_store().mint(("tag:x",)) != (None,)
        assert name() == "X"

    @pytest.mark.parametrize("after", ["", f"; {UPDATE}"])
    def test_statements_that_commit_in_one_text_are_closed(self, tag: Tag, after: str) -> None:
        assert ends(f"BEGIN; {UPDATE}; COMMIT{after}")
        assert name() == ("X++" if after else "X+")

    @pytest.mark.parametrize(
        "statement",
        [
            psycopg_sql.SQL("VACUUM {}").format(psycopg_sql.Identifier("catalog_tag")),
            psycopg_sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS nothing"),
            b"VACUUM catalog_tag",
        ],
    )
    def test_what_may_be_in_no_transaction_is_in_none(self, tag: Tag, statement: Any) -> None:
        run(statement)

    @pytest.mark.parametrize("statement", [psycopg_sql.SQL(UPDATE), UPDATE.encode()])
    def test_writes_that_are_no_text_are_closed(self, tag: Tag, statement: Any) -> None:
        assert ends(statement)

    def test_a_procedure_may_commit_and_what_it_has_committed_is_closed(self, tag: Tag) -> None:
        run(PROCEDURE)
        assert ends("CALL pg_temp.batch()")
        assert name() == "X++"

    def test_a_block_may_commit_and_what_it_has_committed_is_closed(self, tag: Tag) -> None:
        assert ends(f"DO $$ BEGIN {UPDATE}; COMMIT; {UPDATE}; END $$")
        assert name() == "X++"

    def test_a_procedure_in_a_transaction_is_closed_with_it(self, tag: Tag) -> None:
        with transaction.atomic():
            assert not ends(f"DO $$ BEGIN {UPDATE}; END $$")
            assert transactions.sees_its_own_writes()

    def test_a_prepared_write_is_closed(self, tag: Tag) -> None:
        run(f"PREPARE more AS {UPDATE}")
        assert ends("EXECUTE more")

    def test_a_write_that_is_not_the_first_of_a_string_is_closed(self, tag: Tag) -> None:
        assert ends(f"SELECT 1; {UPDATE}")
        assert name() == "X+"

    def test_what_was_written_in_some_way_that_nobody_knows_is_kept_by_nobody(self, tag: Tag) -> None:
        with transaction.atomic():
            assert readthrough.may_keep(("tags",))
            with connection.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.write_row(("y", "Y", "topic"))
            assert not readthrough.may_keep(("tags",))

    def test_a_transaction_that_has_failed_is_asked_nothing_and_keeps_nothing(self, tag: Tag) -> None:
        with transaction.atomic():
            with pytest.raises(Error):
                run(FAILS)
            assert not readthrough.may_keep(("tags",))
        with transaction.atomic():
            transaction.set_rollback(True)
            assert not readthrough.may_keep(("tags",))

    def test_a_commit_ends_a_transaction_that_has_failed(self, tag: Tag) -> None:
        with pytest.raises(Error):
            run("BEGIN", UPDATE, FAILS)
        assert not ends("COMMIT")
        assert name() == "X"


@pytest.mark.stack("embedded")
@pytest.mark.django_db(transaction=True)
class TestSQLite:
    def test_what_is_committed_by_a_change_of_mode_is_closed(self, tag: Tag) -> None:
        before = get_store().mint(("tag:x",))
        transaction.set_autocommit(False)
        run(UPDATE)
        assert get_store().mint(("tag:x",)) == before
        transaction.set_autocommit(True)
        assert get_store().mint(("tag:x",)) not in {before, (None,)}

    def test_a_commit_that_fails_and_is_tried_again_is_closed(self, tag: Tag) -> None:
        run("BEGIN", "PRAGMA defer_foreign_keys = ON", UPDATE, LOST)
        with pytest.raises(Error):
            run("COMMIT")
        assert ends(FOUND, "COMMIT")
        assert name() == "X+"

    def test_a_commit_that_fails_and_finds_its_way_free_is_closed(self, tag: Tag) -> None:
        """What was in its way somebody takes out of it who writes as nobody sees."""
        run("BEGIN", "PRAGMA defer_foreign_keys = ON", UPDATE, LOST)
        with pytest.raises(Error):
            run("COMMIT")
        connection.connection.execute(FOUND)
        assert ends("COMMIT")
        assert name() == "X+"

    def test_what_a_statement_wrote_before_it_failed_is_closed(self, tag: Tag) -> None:
        before = get_store().mint(("tag:x",))
        with transaction.atomic(), connection.cursor() as cursor, suppress(IntegrityError):
            cursor.executemany("UPDATE catalog_tag SET name = %s", [("new",), (None,)])
        assert name() == "new"
        assert get_store().mint(("tag:x",)) not in {before, (None,)}


@pytest.mark.django_db(transaction=True)
def test_rows_that_a_write_returns_are_read_like_those_of_a_question() -> None:
    for slug in ("a", "b", "c"):
        Tag.objects.create(slug=slug, name=slug)
    everything = [("a",), ("b",), ("c",)]
    write = "UPDATE catalog_tag SET name = 'n' RETURNING slug"
    with connection.cursor() as cursor:
        cursor.execute(write)
        some = cursor.fetchmany(2)
        assert len(some) == 2
        assert sorted(some + cursor.fetchall()) == everything
        cursor.execute(write)
        assert sorted(cursor) == everything
        cursor.execute("SELECT slug FROM catalog_tag ORDER BY slug")
        assert cursor.fetchone() == ("a",)
        assert cursor.fetchall() == [("b",), ("c",)]
