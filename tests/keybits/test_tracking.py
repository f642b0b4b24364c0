"""What `migrate` does with triggers, and what it says of tables that can have none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection, connections, models, transaction
from django.db.migrations import Migration, RunPython, SeparateDatabaseAndState
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AlterField,
    AlterModelTable,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.state import ProjectState
from django.test.utils import isolate_apps
from second_database import second_database

from catalog.models import Gallery, Screenshot, Tag
from keybits import changes, invalidation, sources, tracking, trigger_health, triggers
from keybits.operations import TrackChanges
from keybits.relay import Relay
from keybits.trigger_health import WANTED, UntrackedError

pytestmark = pytest.mark.django_db(transaction=True)
record = import_module("keybits.migrations.0001_changes")
KEY = ("id", models.BigAutoField(primary_key=True))
TABLES = [
    CreateModel("Writer", [KEY, ("name", models.CharField(max_length=9))]),
    CreateModel("Label", [KEY, ("name", models.CharField(max_length=9))]),
    CreateModel(
        "Essay",
        [
            KEY,
            ("slug", models.SlugField()),
            ("writer", models.ForeignKey("catalog.Writer", models.CASCADE)),
            ("labels", models.ManyToManyField("catalog.Label")),
        ],
    ),
]
TEMPLATES = ("essay:{slug}", "writer:{writer__name}", "label:{labels__name}")


def execute(sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def recorded() -> set[str]:
    return {scope for (scope,) in execute("SELECT scope FROM keybits_change")}


def is_tracked(model: Any) -> bool:
    return bool(triggers._present(connection, model))


class Deployment:
    """A database with a writer, a label and an essay, whose code declares what a row of the essays is part of."""

    def __init__(self) -> None:
        self.state = ProjectState()
        self.apply(*TABLES)
        self.declare(*TEMPLATES)
        essay = self.of("Essay").create(slug="a", writer=self.of("Writer").create(name="w"))
        essay.labels.add(self.of("Label").create(name="l"))
        execute("DELETE FROM keybits_change")

    def model(self, name: str) -> Any:
        return self.state.apps.get_model("catalog", name)

    def of(self, name: str) -> Any:
        return self.model(name)._default_manager

    def declare(self, *templates: str, name: str = "Essay") -> None:
        """Have the code be as the database is, and declare these."""
        invalidation._declared.pop(getattr(self, "declared", None), None)
        self.declared = self.model(name)
        invalidation.declare(self.declared, *templates)
        tracking.keep(apps.get_app_config("catalog"), "default")

    def apply(self, *operations: Any) -> None:
        migration = Migration("0001_initial", "catalog")
        migration.operations = list(operations)
        self.before = self.state.clone()
        tracking.step_aside(using="default", plan=[(migration, False)], apps=self.state.apps)
        with connection.schema_editor() as editor:
            self.state = migration.apply(self.state, editor)

    def go_back(self, *operations: Any) -> None:
        """Undo what was applied last; the code stays as it is."""
        migration = Migration("0001_initial", "catalog")
        migration.operations = list(operations)
        tracking.step_aside(using="default", plan=[(migration, True)], apps=self.state.apps)
        with connection.schema_editor() as editor:
            self.state = migration.unapply(self.before, editor)
        tracking.keep(apps.get_app_config("catalog"), "default", apps=self.state.apps)

    def discard(self) -> None:
        invalidation._declared.pop(self.declared, None)
        triggers.drop(connection, self.model("Essay"))
        self.apply(*(DeleteModel(name) for _, name in reversed(self.state.models) if name != "author"))
        execute("DELETE FROM keybits_change")


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    made = Deployment()
    yield made
    made.discard()


def touch(found: Any, editor: Any) -> None:
    found.get_model("catalog", "Essay")._default_manager.update(slug="b")


TOUCH = RunPython(touch)
LONGER = models.CharField(max_length=90, null=True)
ALTERATIONS: dict[str, tuple[Any, str]] = {
    "a field": (AlterField("Writer", "name", LONGER), "writer:{writer__name}"),
    "the name of a field": (RenameField("Writer", "name", "called"), "writer:{writer__called}"),
    "the column of a field": (
        AlterField("Writer", "name", models.CharField(max_length=9, db_column="called")),
        "writer:{writer__name}",
    ),
    "a field that is removed": (RemoveField("Writer", "name"), "writer:{writer_id}"),
    "a field of the table itself": (RenameField("Essay", "writer", "by"), "writer:{by__name}"),
    "a primary key": (
        AlterField("Writer", "id", models.IntegerField(primary_key=True)),
        "writer:{writer__name}",
    ),
    "a table": (AlterModelTable("Writer", "catalog_scribe"), "writer:{writer__name}"),
    "a many-to-many relation": (RenameField("Essay", "labels", "marks"), "label:{marks__name}"),
    "the end of a many-to-many relation": (RenameModel("Label", "Mark"), "label:{labels__name}"),
    "a table alone, not the state": (
        SeparateDatabaseAndState(database_operations=[AlterField("Writer", "name", LONGER)]),
        "writer:{writer__name}",
    ),
}


@pytest.mark.parametrize(("operation", "template"), ALTERATIONS.values(), ids=ALTERATIONS)
def test_what_triggers_read_can_be_altered_and_written_in_one_migrate(
    deployment: Deployment, operation: Any, template: str
) -> None:
    deployment.apply(operation, TOUCH)
    deployment.declare("essay:{slug}", template)
    assert {"essay:*", f"{template.partition(':')[0]}:*"} <= recorded()
    execute("DELETE FROM keybits_change")
    deployment.of("Essay").update(slug="c")
    assert {"essay:b", "essay:c"} < recorded()


UNDONE: dict[str, tuple[Any, str]] = {
    "a field": (AddField("Essay", "lead", LONGER), "lead:{lead}"),
    "a field of what is read": (AddField("Writer", "motto", LONGER), "motto:{writer__motto}"),
    "a many-to-many relation": (
        AddField("Essay", "marks", models.ManyToManyField("catalog.Label", related_name="+")),
        "label:{marks__name}",
    ),
    "the name of a field": (RenameField("Writer", "name", "called"), "writer:{writer__called}"),
    "the name of a model": (RenameModel("Writer", "Scribe"), "writer:{writer__name}"),
}


@pytest.mark.parametrize(("operation", "template"), UNDONE.values(), ids=UNDONE)
def test_what_triggers_read_can_be_undone_and_written(
    deployment: Deployment, operation: Any, template: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The code that undoes it is the newer one, and declares what is there no more; older code goes on serving."""
    deployment.apply(operation)
    deployment.declare("essay:{slug}", template)
    deployment.go_back(operation)
    execute("DELETE FROM keybits_change")
    deployment.of("Essay").update(slug="c")
    assert "essay:c" in recorded()
    assert (f"is declared with '{template}'" in caplog.text) is (template != "writer:{writer__name}")


RENAMED: dict[str, tuple[list[Any], str, str]] = {
    "a model": ([RenameModel("Essay", "Paper")], "Essay", "Paper"),
    "a model, twice": ([RenameModel("Essay", "Paper"), RenameModel("Paper", "Sheet")], "Essay", "Sheet"),
    "a model, of which the table is renamed beside": (
        [
            SeparateDatabaseAndState(
                [AlterModelTable("Essay", "catalog_paper")], [RenameModel("Essay", "Paper")]
            )
        ],
        "Essay",
        "Paper",
    ),
    "the model of a relation": ([RenameModel("Essay", "Paper")], "Essay_labels", "Paper_labels"),
    "a relation": ([RenameField("Essay", "labels", "marks")], "Essay_labels", "Essay_marks"),
    "a relation and its model": (
        [RenameField("Essay", "labels", "marks"), RenameModel("Essay", "Paper")],
        "Essay_labels",
        "Paper_marks",
    ),
}
"""What a migration renames; and what the model that is declared was called before, and is afterwards."""


@pytest.mark.parametrize(("operations", "before", "after"), RENAMED.values(), ids=RENAMED)
def test_what_is_called_again_what_it_was_before_a_migration_is_tracked(
    deployment: Deployment, on_disk: Callable[..., None], operations: list[Any], before: str, after: str
) -> None:
    """The code that undoes it declares the model by its later name; older code goes on serving."""
    on_disk(*operations)
    deployment.apply(*operations)
    deployment.declare("things", name=after)
    deployment.go_back(*operations)
    assert is_tracked(deployment.model(before))


UNRELATED: dict[str, Any] = {
    "a column": AddField("Essay", "lead", LONGER),
    "a column of what is read": AddField("Writer", "motto", LONGER),
    "a relation": AddField("Writer", "labels", models.ManyToManyField("catalog.Label")),
    "a table": CreateModel("Thing", [KEY]),
    "another table": RenameField("Tag", "name", "called"),
}


@pytest.mark.parametrize("operation", UNRELATED.values(), ids=UNRELATED)
def test_a_migrate_that_alters_nothing_they_read_leaves_triggers_where_they_are(
    deployment: Deployment, operation: Any
) -> None:
    migration = Migration("0002_more", "catalog")
    migration.operations = [operation]
    tracking.step_aside(using="default", plan=[(migration, False)], apps=deployment.state.apps)
    assert triggers.sync(connection, deployment.declared, TEMPLATES) is False


def test_triggers_that_are_declared_no_more_are_dropped_and_no_others() -> None:
    declared = invalidation._declared.pop(Tag)
    try:
        tracking.keep(apps.get_app_config("catalog"), "default")
        assert not is_tracked(Tag)
        assert is_tracked(Tag.screenshots.through)
    finally:
        invalidation._declared[Tag] = declared
        tracking.keep(apps.get_app_config("catalog"), "default")
    assert is_tracked(Tag)


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have these be the operations of all migrations that there are, one each."""

    def put(*operations: Any) -> None:
        disk: dict[tuple[str, str], Migration] = {}
        for number, operation in enumerate(operations):
            # Named so that their order is that of their dependencies alone.
            migration = Migration(f"{99 - number}_step", "catalog")
            migration.operations = [operation]
            migration.dependencies = list(disk)[-1:]
            disk["catalog", migration.name] = migration
        monkeypatch.setattr(MigrationLoader, "load_disk", lambda self: setattr(self, "disk_migrations", disk))

    return put


@pytest.mark.parametrize(
    "operations",
    [
        [TrackChanges("Tag", ("word:{slug}",))],
        [TrackChanges("Word", ("word:{slug}",)), RenameModel("Word", "Tag")],
        [TrackChanges("Tag", ("old:{slug}",)), TrackChanges("Tag", ("word:{slug}",))],
    ],
    ids=["by its name", "by an earlier name", "twice"],
)
def test_what_a_migration_has_given_a_table_is_made_again_after_another_has_remade_it(
    on_disk: Callable[..., None], operations: list[Any]
) -> None:
    on_disk(*operations)
    declared = invalidation._declared.pop(Tag)
    try:
        tracking.step_aside(using="default", plan=[(alteration(), False)], apps=apps)
        tracking.keep(apps.get_app_config("catalog"), "default")
        Tag.objects.create(slug="x", name="X")
        assert "word:x" in recorded()
    finally:
        invalidation._declared[Tag] = declared
        tracking.keep(apps.get_app_config("catalog"), "default")


def alteration() -> Migration:
    """One that has the triggers of tags dropped."""
    migration = Migration("0002_longer", "catalog")
    migration.operations = [AlterModelTable("Tag", "catalog_word")]
    return migration


@pytest.fixture
def without_the_record() -> Iterator[None]:
    """Have keybits be migrated to zero, until the transaction is rolled back."""
    with transaction.atomic():
        record.backwards(None, connection.schema_editor())
        yield
        transaction.set_rollback(True)


@pytest.mark.usefixtures("without_the_record")
def test_without_the_record_tables_can_be_written() -> None:
    Tag.objects.create(slug="x", name="X")
    assert Tag.objects.update(name="Y") == 1


@pytest.mark.usefixtures("without_the_record")
def test_a_migration_that_tracks_a_table_before_there_is_a_record_makes_nothing_yet() -> None:
    assert not changes.is_kept(connection)
    state = ProjectState.from_apps(apps)
    TrackChanges("Tag").database_forwards("catalog", connection.schema_editor(), state, state)
    assert not is_tracked(Tag)


def test_a_migration_that_tracks_a_table_may_be_older_than_what_is_declared(deployment: Deployment) -> None:
    before = deployment.state.clone()
    deployment.apply(AddField("Essay", "lead", LONGER))
    deployment.declare("lead:{lead}")
    TrackChanges("Essay").database_forwards("catalog", connection.schema_editor(), before, before)
    tracking.keep(apps.get_app_config("catalog"), "default")
    assert triggers.sync(connection, deployment.declared, ("lead:{lead}",)) is False


@pytest.mark.usefixtures("without_the_record")
def test_a_database_without_the_record_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    tracking.keep(apps.get_app_config("catalog"), "default")
    assert "changes of catalog.Tag are not tracked in the database 'default'" in caplog.text


def thing(table: str, key: str = "id") -> Any:
    class Thing(models.Model):
        id = models.BigAutoField(primary_key=True, db_column=key)
        name = models.CharField(max_length=9)

        class Meta:
            app_label = "catalog"
            managed = False
            db_table = table

        def __str__(self) -> str:
            return self.name

    return Thing


@pytest.fixture
def kept() -> Iterator[Callable[..., Any]]:
    """Declare a model of a table that somebody else has made, and migrate."""
    declared = []

    def keep(table: str, template: str = "things") -> Any:
        declared.append(thing(table))
        invalidation.declare(declared[-1], template)
        tracking.keep(apps.get_app_config("catalog"), "default")
        return declared[-1]

    with isolate_apps("catalog"):
        yield keep
    for model in declared:
        triggers.drop(connection, model)
        del invalidation._declared[model]
    execute("DELETE FROM keybits_change")


@contextmanager
def view(shown: str, kind: str = "VIEW") -> Iterator[None]:
    """Have a view `seen` of what is shown."""
    execute(f"CREATE {kind} seen AS {shown}")
    try:
        yield
    finally:
        execute(f"DROP {kind} seen")


@pytest.mark.parametrize("table", ["seen", "nowhere"])
def test_a_declared_model_whose_table_can_have_no_triggers_is_told_of(
    kept: Callable[..., Any], caplog: pytest.LogCaptureFixture, table: str
) -> None:
    with view("SELECT 1 AS id, 'n' AS name"):
        kept(table)
    assert "changes of catalog.Thing are not tracked in the database 'default'" in caplog.text


def test_a_view_declared_with_the_scopes_of_the_tables_that_it_shows_is_not_told_of(
    kept: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Their triggers record those scopes; so a view is covered for the audit, and nothing is missing."""
    with view("SELECT id, name FROM catalog_tag"):
        kept("seen", "tags")
    assert caplog.text == ""


@pytest.mark.stack("server")
def test_a_view_that_is_kept_as_rows_is_told_of_all_the_same(
    kept: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It shows a change only when it is refreshed, of which no trigger knows."""
    with view("SELECT id, name FROM catalog_tag", kind="MATERIALIZED VIEW"):
        kept("seen", "tags")
    assert "'seen' is a materialized view there" in caplog.text


def test_what_leads_to_a_table_of_another_database_fails_no_write(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    execute("ALTER TABLE catalog_writer RENAME TO catalog_elsewhere")
    try:
        deployment.declare(*TEMPLATES)
        execute("DELETE FROM keybits_change")
        deployment.of("Essay").update(slug="c")
    finally:
        execute("ALTER TABLE catalog_elsewhere RENAME TO catalog_writer")
    assert recorded() == {"essay:a", "essay:c", "label:l"}
    assert "tables that are not there: catalog_writer" in caplog.text


@pytest.mark.stack("server")
@pytest.mark.parametrize("table", ['sales"."orders', '"sales"."orders"'])
def test_a_table_of_another_schema_is_tracked(kept: Callable[..., Any], table: str) -> None:
    execute("CREATE SCHEMA sales CREATE TABLE orders (id serial, name text)")
    try:
        model = kept(table)
        execute("DELETE FROM keybits_change")
        model._default_manager.create(name="new")
        assert recorded() == {"things"}
    finally:
        execute("DROP SCHEMA sales CASCADE")


@pytest.fixture
def unmanaged(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model of a table that somebody else has made: Django's migrations mention it without its foreign key."""
    with isolate_apps("catalog") as code:

        class Memo(models.Model):
            writer = models.ForeignKey(deployment.model("Writer"), models.CASCADE)

            class Meta:
                app_label = "catalog"
                managed = False

            def __str__(self) -> str:
                return str(self.pk)

        monkeypatch.setattr(sources, "registry", code)
        deployment.apply(CreateModel("Memo", [KEY], options={"managed": False}))
        execute("CREATE TABLE catalog_memo (id bigint PRIMARY KEY, writer_id bigint)")
        execute("INSERT INTO catalog_memo VALUES (1, %s)", deployment.of("Writer").get().pk)
        yield Memo
        execute("DROP TABLE catalog_memo")


@contextmanager
def tracked_as_migrated(deployment: Deployment, model: Any, template: str) -> Iterator[None]:
    """Declare a template, and have `migrate` make its triggers in the deployment's database."""
    invalidation.declare(model, template)
    try:
        tracking.keep(apps.get_app_config("catalog"), "default", apps=deployment.state.apps)
        execute("DELETE FROM keybits_change")
        yield
    finally:
        del invalidation._declared[model]


def test_an_unmanaged_table_is_tracked_through_its_foreign_key(
    deployment: Deployment, unmanaged: Any
) -> None:
    with tracked_as_migrated(deployment, unmanaged, "writer:{writer__name}"):
        execute("DELETE FROM catalog_memo")
        assert recorded() == {"writer:w"}


def test_a_table_that_migrations_leave_out_can_be_written_while_its_code_is_ahead(
    deployment: Deployment, unmanaged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """`migrate` went back, or stopped before it came to the code's state, as older code goes on serving."""
    rename = RenameField("Writer", "name", "called")
    deployment.apply(rename)
    unmanaged._meta.get_field("writer").remote_field.model = deployment.model("Writer")
    with tracked_as_migrated(deployment, unmanaged, "writer:{writer__called}"):
        deployment.go_back(rename)
        execute("DELETE FROM catalog_memo")
    assert "columns that are not there: catalog_writer.called" in caplog.text


def test_what_leads_through_an_unmanaged_table_is_tracked(deployment: Deployment, unmanaged: Any) -> None:
    deployment.apply(CreateModel("Sheet", [KEY, ("memo", models.ForeignKey("Memo", models.CASCADE))]))
    with tracked_as_migrated(deployment, deployment.model("Sheet"), "writer:{memo__writer__name}"):
        deployment.of("Sheet").create(memo_id=1)
        assert recorded() == {"writer:w"}
    deployment.apply(DeleteModel("Sheet"))


@pytest.mark.stack("embedded")
def test_what_leads_to_a_row_by_the_number_that_sqlite_gives_it_is_tracked(deployment: Deployment) -> None:
    """No column of its table says so."""
    with isolate_apps("catalog"):

        class Note(models.Model):
            thing = models.ForeignKey(thing("things", key="rowid"), models.CASCADE)

            class Meta:
                app_label = "catalog"
                managed = False
                db_table = "notes"

            def __str__(self) -> str:
                return str(self.pk)

    execute("CREATE TABLE things (NAME text)")
    execute("CREATE TABLE notes (id integer PRIMARY KEY, thing_id bigint)")
    execute("INSERT INTO things VALUES ('n')")
    with tracked_as_migrated(deployment, Note, "thing:{thing__name}"):
        execute("INSERT INTO notes VALUES (1, 1)")
        assert recorded() == {"thing:n"}
    execute("DROP TABLE notes")
    execute("DROP TABLE things")


def test_an_application_without_migrations_is_tracked_through_its_foreign_keys(settings: Any) -> None:
    settings.MIGRATION_MODULES = {"catalog": None}
    migrated = MigrationLoader(None).project_state().apps
    try:
        tracking.keep(apps.get_app_config("catalog"), "default", apps=migrated)
        trigger_health.demand_triggers(connection)
    finally:
        tracking.keep(apps.get_app_config("catalog"), "default")
        execute("DELETE FROM keybits_change")


@pytest.fixture
def tenant(deployment: Deployment) -> Iterator[Deployment]:
    """One whose tables there are in a schema of their own, too; the record is in that of all."""
    execute("CREATE SCHEMA tenant")
    for table in ("writer", "label", "essay", "essay_labels"):
        execute(f"CREATE TABLE tenant.catalog_{table} (LIKE public.catalog_{table} INCLUDING ALL)")
    execute("SET search_path = tenant, public")
    yield deployment
    execute("SET search_path = public")
    execute("DROP SCHEMA tenant CASCADE")


@pytest.mark.stack("server")
def test_tables_of_one_name_in_two_schemas_have_triggers_of_their_own(tenant: Deployment) -> None:
    model = tenant.model("Essay")
    assert not is_tracked(model)
    triggers.sync(connection, model, ("writer:{writer__name}",))
    writer = tenant.of("Writer").create(id=1, name="t")
    execute("DELETE FROM keybits_change")
    tenant.of("Essay").create(id=1, slug="b", writer=writer)
    assert recorded() == {"writer:t"}


@pytest.mark.stack("server")
def test_what_is_altered_in_one_schema_leaves_the_triggers_of_another_where_they_are(
    tenant: Deployment,
) -> None:
    model = tenant.model("Essay")
    triggers.sync(connection, model, TEMPLATES)
    assert triggers.drop_readers(connection, "catalog_writer", ["name"])
    assert triggers.sync(connection, model, TEMPLATES)
    execute("SET search_path = public")
    assert triggers.sync(connection, model, TEMPLATES) is False


class WithoutKeybits:
    """A router that has no database keep the record."""

    def allow_migrate(self, using: str, app_label: str, **_: Any) -> bool | None:
        return False if app_label == "keybits" else None


def found(template: str) -> dict[str, str]:
    """Return what the system checks say of a model with this template, by id."""
    with isolate_apps("catalog"):
        model = thing("things")
    invalidation.declare(model, template)
    try:
        messages = [each for each in run_checks() if getattr(each, "obj", None) is None]
    finally:
        del invalidation._declared[model]
    return {str(each.id): each.msg for each in messages if "catalog.Thing" in each.msg}


def test_a_template_that_cannot_work_is_refused_before_a_migrate_begins() -> None:
    assert found("things") == {}
    assert list(found("thing-{id}")) == ["keybits.E017"]
    assert "which names a field before any kind" in found("thing-{id}")["keybits.E017"]


def test_signals_follow_what_triggers_cannot(settings: Any) -> None:
    settings.KEYBITS_TRACKING = "signals"
    assert found("thing-{id}") == {}


def test_what_triggers_cannot_follow_stops_no_migrate_where_signals_do(
    settings: Any, kept: Callable[..., Any]
) -> None:
    settings.KEYBITS_TRACKING = "signals"
    model = kept("django_session", "thing-{name}")
    assert model in {each.model for each in invalidation.declarations()}


def test_a_router_that_keeps_the_record_from_a_declared_model_is_told_of(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.WithoutKeybits"]
    assert list(found("things")) == ["keybits.W009"]


def test_two_declared_models_of_one_table_are_refused() -> None:
    """The triggers of the second take the place of the first one's."""
    twins = []
    for _ in range(2):
        with isolate_apps("catalog"):
            twins.append(thing("things"))
    try:
        for number, model in enumerate(twins):
            invalidation.declare(model, f"twins:{number}")
        said = [each.id for each in run_checks() if "the same table" in each.msg]
    finally:
        for model in twins:
            del invalidation._declared[model]
    assert said == ["keybits.E018"] * 2


class Sorted:
    """Sends each model to the database that it names as its home, whose other tables are somebody else's."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return getattr(model, "home", None)

    db_for_read = db_for_write

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return app_label == "keybits" if db == "elsewhere" else None


@pytest.fixture
def elsewhere(settings: Any) -> Iterator[Any]:
    """A second database, with a record of its own and a table that no migration has made."""
    settings.DATABASE_ROUTERS = [f"{__name__}.Sorted"]
    with second_database("elsewhere") as second:
        with second.schema_editor() as editor:
            changes.install(editor)
            editor.execute("CREATE TABLE things (id integer PRIMARY KEY, name text NOT NULL)")
        yield second


@pytest.fixture
def homely(elsewhere: Any) -> Iterator[Any]:
    """A declared model of that table."""
    with isolate_apps("catalog"):
        model = thing("things")
    model.home = "elsewhere"
    invalidation.declare(model, "things")
    yield model
    del invalidation._declared[model]


def test_tables_of_one_name_in_two_databases_are_no_table_that_is_declared_twice(homely: Any) -> None:
    with isolate_apps("catalog"):
        other = thing("things")
    invalidation.declare(other, "others")
    try:
        assert "keybits.E018" not in {each.id for each in run_checks()}
    finally:
        del invalidation._declared[other]


def test_a_declared_table_that_django_may_not_migrate_is_tracked_where_the_record_is(
    homely: Any, elsewhere: Any
) -> None:
    """Otherwise its relay would say for ever that a migrate is due, and would never vouch."""
    tracking.keep(apps.get_app_config("catalog"), "elsewhere")
    trigger_health.demand_triggers(elsewhere)
    homely.objects.create(name="new")
    assert {scope for _, scope, _ in changes.recorded(elsewhere)} == {"things"}


def test_a_template_that_leads_to_a_table_written_in_another_database_is_told_of(
    elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of that name may be in both: triggers would follow the one in which nobody writes."""
    template = "gallery:{gallery__slug}"
    assert template in invalidation.templates_of("catalog", "screenshot")
    assert trigger_health.refusal(connection, Screenshot, template) == ""
    monkeypatch.setattr(Gallery, "home", "elsewhere", raising=False)
    said = [each.msg for each in run_checks() if each.id == "keybits.W013"]
    assert any(repr(template) in each and "catalog_gallery" in each for each in said)
    assert "another database: catalog_gallery" in trigger_health.refusal(connection, Screenshot, template)


def test_a_model_whose_rows_are_declared_in_part_is_told_of() -> None:
    """An UPDATE of what it inherits alone is none of its own table."""
    with isolate_apps("catalog"):
        whole = thing("things")

        class Part(whole):  # type: ignore[misc, valid-type]
            class Meta:
                app_label = "catalog"

    declared = {Part: ("part:{pk}",), whole: ("part:{pk}",)}
    said = []
    try:
        for model, templates in declared.items():
            invalidation.declare(model, *templates)
            said.append([each.id for each in run_checks() if "catalog.Part" in each.msg])
    finally:
        for model in declared:
            del invalidation._declared[model]
    assert said == [["keybits.W010"], []]


class TestWhereTheTriggersAreNotThoseOfWhatIsDeclared:
    """Nobody vouches: what such writes change is in no record, or under scopes that nobody looks at."""

    @pytest.fixture(autouse=True)
    def _again(self) -> Iterator[None]:
        yield
        for each in invalidation.declarations():
            triggers.sync(connection, each.model, each.templates)

    @staticmethod
    def vouches() -> bool:
        try:
            Relay().once()
        except UntrackedError as error:
            return "the triggers of catalog.Tag in the database 'default' do not match" not in str(error)
        return True

    def test_because_they_are_gone(self) -> None:
        assert self.vouches()
        triggers.drop(connection, Tag)
        assert not self.vouches()

    @pytest.mark.stack("server")
    def test_because_they_were_turned_off(self) -> None:
        execute("ALTER TABLE catalog_tag DISABLE TRIGGER USER")
        assert not self.vouches()
        execute("ALTER TABLE catalog_tag ENABLE TRIGGER USER")
        assert self.vouches()

    def test_because_a_release_declares_something_else_until_migrate_has_run(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        declared = {**invalidation._declared, Tag: ("tags", "tag-id:{id}")}
        connections["default"].__dict__.pop(WANTED, None)  # as in a process of that release
        with monkeypatch.context() as release:
            release.setattr(invalidation, "_declared", declared)
            assert not self.vouches()
            triggers.sync(connection, Tag, declared[Tag])
            assert self.vouches()
        connections["default"].__dict__.pop(WANTED)
        assert not self.vouches()  # nor does the one before, which still runs

    @pytest.mark.stack("server")
    def test_because_those_that_are_there_are_of_another_schema(self) -> None:
        execute("CREATE SCHEMA two")
        execute("CREATE TABLE two.catalog_tag (LIKE public.catalog_tag)")
        try:
            assert triggers.firing(connection, [Tag])
            execute("SET search_path TO two, public")
            assert not triggers.firing(connection, [Tag])
        finally:
            execute("SET search_path TO public")
            execute("DROP SCHEMA two CASCADE")

    def test_the_command_that_looks_once_says_what_to_do(self) -> None:
        triggers.drop(connection, Tag)
        with pytest.raises(CommandError, match=r"Nothing was vouched for: .*catalog\.Tag.*: run migrate"):
            call_command("keybits_relay", once=True)

    def test_as_signals_need_none(self, settings: Any) -> None:
        settings.KEYBITS_TRACKING = "signals"
        triggers.drop(connection, Tag)
        assert self.vouches()
