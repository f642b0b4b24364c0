"""What an error of the database means: by what the drivers really raise, on each stack."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.apps.registry import Apps
from django.db import ConnectionHandler, DatabaseError, Error, connection, models
from stacks.servers import reserve_port

from catalog.models import Tag
from keybits.database_errors import Meaning, UnmigratedError, meaning


def asked(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def raised(fails: Callable[[], object]) -> Error:
    with pytest.raises(Error) as caught:
        fails()
    return caught.value


def meant(sql: str) -> Meaning | None:
    return meaning(raised(lambda: asked(sql)))


def other(engine: str, **where: Any) -> Any:
    return ConnectionHandler({"default": {"ENGINE": f"django.db.backends.{engine}", **where}})["default"]


class Newer(models.Model):
    """Of an application whose last migration has not been applied: its table lacks a column."""

    name = models.CharField(max_length=50)
    nickname = models.CharField(max_length=50)

    class Meta:
        app_label = "catalog"
        apps = Apps()
        db_table = Tag._meta.db_table

    def __str__(self) -> str:
        return self.name


@pytest.mark.django_db(transaction=True)
class TestADatabaseThatIsBehindTheCode:
    @pytest.fixture(autouse=True)
    def _newer(self) -> Iterator[None]:
        apps.all_models["catalog"]["newer"] = Newer
        apps.clear_cache()
        yield
        del apps.all_models["catalog"]["newer"]
        apps.clear_cache()

    @pytest.mark.parametrize(
        "work",
        [
            lambda: list(Newer._base_manager.all()),
            lambda: list(Newer._base_manager.filter(pk__in=Newer._base_manager.filter(nickname="x"))),
            lambda: Newer._base_manager.create(name="x", nickname="y"),
            lambda: Newer._base_manager.update(nickname="y"),
        ],
        ids=["read", "read in a subquery", "inserted", "updated"],
    )
    def test_lacks_a_column_however_it_is_used(self, work: Callable[[], object]) -> None:
        assert meaning(raised(work)) is Meaning.UNMIGRATED

    @pytest.mark.parametrize("table", ["catalog_newest", "keybits_change_of_tomorrow"])
    def test_lacks_a_table_of_an_application_also_one_that_no_model_has(self, table: str) -> None:
        assert meant(f"DROP TABLE {table}") is Meaning.UNMIGRATED

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM nothing /* catalog_tag */",
            "SELECT nothing FROM catalog_tag",
            "SELECT catalog_tag.title FROM catalog_tag",
            "SELECT FROM WHERE",
        ],
    )
    def test_is_not_one_that_a_wrong_statement_is_put_to(self, sql: str) -> None:
        """A gallery has a title, a tag has none."""
        assert meant(sql) is None

    def test_is_one_that_lacks_a_migration_for_which_nothing_has_failed_yet(self) -> None:
        assert meaning(UnmigratedError("catalog.9999_newest")) is Meaning.UNMIGRATED


STATES = {
    Meaning.UNREACHABLE: ("08006", "57P01", "57P02", "57P03", "53300"),
    Meaning.UNMIGRATED: ("42501",),
    Meaning.UNUSABLE: ("28P01", "3D000", "53100", "53200", "58030", "25006"),
    Meaning.CONTENDED: ("40001", "40P01", "55P03"),
    None: ("57014", "22012", "23505", "42601", "XX000"),
}


@pytest.mark.stack("server")
@pytest.mark.django_db(transaction=True)
class TestPostgreSQL:
    @pytest.mark.parametrize(
        ("expected", "state"), [(each, state) for each, states in STATES.items() for state in states]
    )
    def test_what_the_server_calls_an_error_has_one_meaning(
        self, expected: Meaning | None, state: str
    ) -> None:
        assert meant(f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{state}'; END $$") is expected

    def test_a_server_that_is_down_is_unreachable(self) -> None:
        down = other("postgresql", NAME="gallery", HOST="127.0.0.1", PORT=reserve_port())
        assert meaning(raised(down.ensure_connection)) is Meaning.UNREACHABLE

    @pytest.mark.parametrize(
        "sql",
        ["SELECT catalog_tag.slug FROM catalog_gallery", "SELECT catalog_tag.slug FROM catalog_tag AS other"],
    )
    def test_a_table_that_the_statement_names_and_does_not_read_is_not_missing(self, sql: str) -> None:
        """It has the state of one that is."""
        assert meant(sql) is None

    def test_a_table_that_the_role_has_no_right_to_is_as_good_as_unmigrated(self) -> None:
        asked("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger; SET ROLE stranger")
        try:
            assert meant("SELECT * FROM catalog_tag") is Meaning.UNMIGRATED
        finally:
            asked("RESET ROLE; DROP ROLE stranger")


@pytest.mark.stack("embedded")
@pytest.mark.django_db
class TestSQLite:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "database"
        with closing(sqlite3.connect(path)) as made:
            made.execute("CREATE TABLE t (x)")
        return path

    def meant(
        self, path: Path | str, sql: str = "INSERT INTO t VALUES (1)", **options: Any
    ) -> Meaning | None:
        opened = other("sqlite3", NAME=path, OPTIONS=options)
        with closing(opened):
            return meaning(raised(lambda: opened.cursor().execute(sql)))

    def test_a_file_that_cannot_be_opened_is_unreachable(self) -> None:
        assert self.meant("/nowhere/at/all") is Meaning.UNREACHABLE

    def test_a_file_that_is_no_database_is_unusable(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no database\n" * 100)
        assert self.meant(tmp_path / "notes.txt") is Meaning.UNUSABLE

    def test_a_file_that_may_only_be_read_is_unusable(self, path: Path) -> None:
        assert self.meant(f"file:{path}?mode=ro", uri=True) is Meaning.UNUSABLE

    def test_a_file_that_was_moved_away_is_unusable(self, path: Path) -> None:
        """SQLite says so by an extended result code."""
        with closing(other("sqlite3", NAME=path)) as opened:
            opened.ensure_connection()
            path.rename(path.with_name("elsewhere"))
            error = raised(lambda: opened.cursor().execute("INSERT INTO t VALUES (1)"))
        assert meaning(error) is Meaning.UNUSABLE

    def test_a_full_disk_is_unusable(self, path: Path) -> None:
        assert (
            self.meant(
                path, "INSERT INTO t VALUES (randomblob(1000000))", init_command="PRAGMA max_page_count=2"
            )
            is Meaning.UNUSABLE
        )

    def test_a_lock_that_another_holds_is_contention(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            assert self.meant(path, timeout=0) is Meaning.CONTENDED


@pytest.mark.parametrize("error", [ValueError("no such table: catalog_tag"), DatabaseError("of no driver")])
def test_what_no_driver_has_raised_means_nothing(error: Exception) -> None:
    assert meaning(error) is None
