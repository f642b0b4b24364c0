"""The index behind `search`: GIN over an expression on PostgreSQL, FTS5 kept by triggers on SQLite."""

from django.db import migrations

COLUMNS = "title, alt, page_title, domain"
NEW = "new.title, new.alt, new.page_title, new.domain"
OLD = "old.title, old.alt, old.page_title, old.domain"
DOCUMENT = (
    "to_tsvector('simple', regexp_replace(lower(title || ' ' || alt || ' ' || page_title || ' ' || domain), "
    "'[^[:alnum:]]+', ' ', 'g'))"
)
POSTGRESQL = (
    [f"CREATE INDEX screenshot_search ON catalog_screenshot USING gin ({DOCUMENT})"],
    ["DROP INDEX screenshot_search"],
)
SQLITE = (
    [
        f"CREATE VIRTUAL TABLE catalog_screenshot_search USING fts5({COLUMNS}, content='catalog_screenshot', "
        "content_rowid='id', tokenize='unicode61 remove_diacritics 0')",
        "INSERT INTO catalog_screenshot_search(catalog_screenshot_search) VALUES ('rebuild')",
        f"CREATE TRIGGER catalog_screenshot_search_insert AFTER INSERT ON catalog_screenshot BEGIN "
        f"INSERT INTO catalog_screenshot_search(rowid, {COLUMNS}) VALUES (new.id, {NEW}); END",
        f"CREATE TRIGGER catalog_screenshot_search_delete AFTER DELETE ON catalog_screenshot BEGIN "
        f"INSERT INTO catalog_screenshot_search(catalog_screenshot_search, rowid, {COLUMNS}) "
        f"VALUES ('delete', old.id, {OLD}); END",
        f"CREATE TRIGGER catalog_screenshot_search_update AFTER UPDATE OF {COLUMNS} ON catalog_screenshot BEGIN "
        f"INSERT INTO catalog_screenshot_search(catalog_screenshot_search, rowid, {COLUMNS}) "
        f"VALUES ('delete', old.id, {OLD}); "
        f"INSERT INTO catalog_screenshot_search(rowid, {COLUMNS}) VALUES (new.id, {NEW}); END",
    ],
    [
        "DROP TRIGGER catalog_screenshot_search_update",
        "DROP TRIGGER catalog_screenshot_search_delete",
        "DROP TRIGGER catalog_screenshot_search_insert",
        "DROP TABLE catalog_screenshot_search",
    ],
)


def _run(schema_editor, direction):
    statements = POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE
    for statement in statements[direction]:
        schema_editor.execute(statement)


def forwards(apps, schema_editor):
    _run(schema_editor, 0)


def backwards(apps, schema_editor):
    _run(schema_editor, 1)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]

    operations = [migrations.RunPython(forwards, backwards)]
