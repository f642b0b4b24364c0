"""Triggers that record which scopes a change makes stale, made from the same declarations as everything else.

On PostgreSQL they fire once a statement, over its transition tables, and record a whole family where a statement
touches very many of a kind; on SQLite they fire once a row. They are derived from the code, like an index from a
field: `sync` makes them right again after every migration, and `keybits.operations.TrackChanges` puts them into
one. This module alone writes their SQL.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from keybits.changes import TABLE
from keybits.stamps import MOST_MEMBERS
from keybits.templates import parse

__all__ = ["drop", "statements", "sync"]

VERSION = 6
"""Change it when the statements change for the same declarations."""

PRESENT = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(quote_ident(%s)) AND NOT tgisinternal",
}
_OF_THE_ROW = re.compile(r'\{row\}\."(\w+)"')
_CREATES = re.compile(r'CREATE TRIGGER "(\w+)"')
EVENTS = {"INSERT": ("new",), "UPDATE": ("old", "new"), "DELETE": ("old",)}


def sync(connection: BaseDatabaseWrapper, model: type[Model], templates: tuple[str, ...]) -> bool:
    """See that the triggers of `model` record `templates`; say whether any had to be made.

    A trigger's name holds a digest of what it does, so that one look at the names tells whether all is well.
    """
    wanted = statements(connection.vendor, model, templates)
    table = model._meta.db_table
    expected = {found[1] for statement in wanted if (found := _CREATES.match(statement))}
    with connection.cursor() as cursor:
        if expected == set(_present(connection, cursor, table)):
            return False
    drop(connection, model)
    with connection.cursor() as cursor:
        for statement in wanted:
            cursor.execute(statement)
    return True


def drop(connection: BaseDatabaseWrapper, model: type[Model]) -> None:
    """Drop the triggers of `model`, where there are any."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        for name in _present(connection, cursor, table):
            if connection.vendor == "sqlite":
                cursor.execute(f'DROP TRIGGER "{name}"')
            else:
                cursor.execute(f'DROP FUNCTION "{name}"() CASCADE')


def _present(connection: BaseDatabaseWrapper, cursor: Any, table: str) -> list[str]:
    """Return the names of our triggers on `table`."""
    if connection.vendor not in PRESENT:
        return []
    cursor.execute(PRESENT[connection.vendor], [table])
    return [name for (name,) in cursor.fetchall() if name.startswith("keybits_")]


def statements(vendor: str, model: type[Model], templates: tuple[str, ...]) -> list[str]:
    """Return the statements that create the triggers of `model`; none for a database we have none for."""
    if not templates:
        return []
    sources = [_source(model, template) for template in templates]
    table = model._meta.db_table
    stem = _stem(table, sources)
    if vendor == "postgresql":
        return list(_postgresql(table, stem, sources, templates))
    return list(_sqlite(table, stem, sources)) if vendor == "sqlite" else []


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a template's value comes from: `expression`, over the row itself and the tables joined to it.

    In every text, `{row}` stands for the row: NEW or OLD, or a transition table. `watched` are the columns whose
    change counts, with the row's `key`; none where every change does.
    """

    expression: str
    tables: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    key: str = ""

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of an event that count: of what is watched the old one, for what is new was never shown."""
        return ("old",) if self.watched else ("old", "new")


def _source(model: type[Model], text: str) -> _Source:
    template = parse(text)
    watched = tuple(_watched(model, name, text) for name in template.watched)
    key = str(model._meta.pk.column)
    if len(template.paths) > 1:
        raise ImproperlyConfigured(
            f"{text!r} names {len(template.paths)} fields; a template names one at most."
        )
    if not template.paths:
        return _Source(_quoted(template.scope), watched=watched, key=key)
    literal, _, tail = template.scope.partition(f"{{{template.paths[0]}}}")
    column, tables, conditions = _walk(model, template.paths[0])
    pieces = [_quoted(literal), f"CAST({column} AS text)", *([_quoted(tail)] if tail else [])]
    return _Source(" || ".join(pieces), tuple(tables), tuple(conditions), watched, key)


def _watched(model: type[Model], name: str, text: str) -> str:
    if name not in {name for field in model._meta.concrete_fields for name in (field.name, field.attname)}:
        raise ImproperlyConfigured(f"{text!r} watches {name!r}, which is no column of {model._meta.label}.")
    return _column(model, name)


def _name(column: str) -> str:
    return f'"{column}"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _walk(model: type[Model], path: str) -> tuple[str, list[str], list[str]]:
    """Return the column that `path` ends in, the tables on the way, and what joins each to the one before."""
    here = "{row}"
    tables: list[str] = []
    conditions: list[str] = []
    *relations, last = path.split("__")
    for name in relations:
        field: Any = model._meta.get_field(name)
        for table, condition in _join(field, here, len(tables)):
            tables.append(f'"{table}" j{len(tables)}')
            conditions.append(condition)
        here, model = f"j{len(tables) - 1}", field.related_model
    return f'{here}."{_column(model, last)}"', tables, conditions


def _join(field: Any, here: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the tables that follow `field` from `here`: one for a foreign key, two for a many-to-many."""
    target = field.related_model._meta
    if field.many_to_many:
        through = field.remote_field.through._meta
        yield (
            through.db_table,
            f'j{depth}."{field.m2m_column_name()}" = {here}."{field.model._meta.pk.column}"',
        )
        yield target.db_table, f'j{depth + 1}."{target.pk.column}" = j{depth}."{field.m2m_reverse_name()}"'
    else:
        yield target.db_table, f'j{depth}."{field.target_field.column}" = {here}."{field.column}"'


def _column(model: type[Model], name: str) -> str:
    """Return the column of the field `name`, which may be spelt as the attribute: `author_id` for `author`."""
    try:
        field: Any = model._meta.get_field(name)
    except FieldDoesNotExist:
        field = next(f for f in model._meta.concrete_fields if f.attname == name)
    return str(field.column)


def _stem(table: str, sources: list[_Source]) -> str:
    """What the names of a table's triggers begin with: within 63 bytes in all, and telling what they do."""
    does = f"{VERSION} {MOST_MEMBERS} {table} {sources}"
    return f"keybits_{table[:30]}_{hashlib.blake2b(does.encode(), digest_size=6).hexdigest()}"


def _sqlite(table: str, stem: str, sources: list[_Source]) -> Iterator[str]:
    for event, rows in EVENTS.items():
        inserts = [
            _insert_row(source, row.upper(), event)
            for row in rows
            for source in sources
            if row in source.rows
        ]
        if inserts:
            name = f"{stem}_{event.lower()}"
            yield f'CREATE TRIGGER "{name}" AFTER {event} ON "{table}" BEGIN {" ".join(inserts)} END'


def _insert_row(source: _Source, row: str, event: str) -> str:
    """Record the scopes of one row, each as a new row of the record.

    What nobody has claimed yet is recorded once a scope, but never under the old id: a relay that has closed that
    one knows it by its id, and would take the new change for the old.
    """
    conditions = list(source.conditions)
    if source.watched and event == "UPDATE":
        columns = (source.key, *source.watched)
        conditions.append("(" + " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in columns) + ")")
    tables = f" FROM {', '.join(source.tables)}" if source.tables else ""
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    named = f"SELECT {source.expression} AS scope{tables}{where}".replace("{row}", row)
    return (
        f"DELETE FROM {TABLE} WHERE writer = '' AND scope IN ({named}); "
        f"INSERT INTO {TABLE} (scope) SELECT DISTINCT scope FROM ({named}) AS named WHERE scope IS NOT NULL;"
    )


def _postgresql(table: str, stem: str, sources: list[_Source], templates: tuple[str, ...]) -> Iterator[str]:
    for event, rows in EVENTS.items():
        name = f"{stem}_{event.lower()}"
        selects = [
            _select_all(source, f"{row}_rows", event)
            for row in rows
            for source in sources
            if row in source.rows
        ]
        if not selects:
            continue
        references = " ".join(f"{row.upper()} TABLE AS {row}_rows" for row in rows)
        unlikes = _unlikes(sources) if event == "UPDATE" else ""
        yield _function(name, unlikes + _insert_some(" UNION ".join(selects)))
        yield (
            f'CREATE TRIGGER "{name}" AFTER {event} ON "{table}" REFERENCING {references} '
            f'FOR EACH STATEMENT EXECUTE FUNCTION "{name}"()'
        )
    yield from _on_truncate(table, f"{stem}_truncate", templates)


def _select_all(source: _Source, rows: str, event: str) -> str:
    is_compared = source.watched and event == "UPDATE"
    is_again = event == "UPDATE" and rows == "new_rows" and _is_many(source)
    chosen = _changed(source) if is_compared else _distinct(source, rows)
    conditions = (*source.conditions, *([_unlike(source)] if is_compared or is_again else []))
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    tables = ", ".join((chosen, *source.tables))
    return f"SELECT DISTINCT {source.expression} AS scope FROM {tables}{where}".replace("{row}", "r")


def _changed(source: _Source) -> str:
    """Name the rows of which a watched column is not what it was.

    A difference of sets, for PostgreSQL plans the function when it is first called: a join that does for the one row
    of that day compares each with each when there are a hundred thousand.
    """
    columns = ", ".join(map(_name, sorted({source.key, *source.watched, *_columns(source)})))
    return f"(SELECT {columns} FROM old_rows EXCEPT SELECT {columns} FROM new_rows) r"


def _is_many(source: _Source) -> bool:
    """Say whether each row has scopes of its own in other tables: those of the new row, if that is as the old was."""
    return bool(source.tables) and _columns(source) == {source.key}


def _compared(source: _Source) -> list[str]:
    return sorted({source.key, *source.watched})


def _unlike(source: _Source) -> str:
    """Say that some row may have changed: a condition that spares reading rows of which none has."""
    return f"(SELECT {' OR '.join(map(_name, _compared(source)))} FROM unlike)"


def _unlikes(sources: list[_Source]) -> str:
    """Name `unlike`: of each column that is asked for, whether it is not the same from the first row to the last.

    If it is, it belongs to the same rows. That both tables have their rows in one order is no promise of
    PostgreSQL's; where they had not, rows would only be read for nothing.
    """
    names = sorted({name for each in sources if each.watched or _is_many(each) for name in _compared(each)})
    if not names:
        return ""
    old, new = (
        f"(SELECT {', '.join(f'array_agg({_name(name)}) AS {_name(name)}' for name in names)} FROM {row}_rows) {row}s"
        for row in ("old", "new")
    )
    told = ", ".join(
        f"olds.{_name(name)} IS DISTINCT FROM news.{_name(name)} AS {_name(name)}" for name in names
    )
    return f"WITH unlike AS MATERIALIZED (SELECT {told} FROM {old}, {new})"


def _columns(source: _Source) -> set[str]:
    """Return the columns of the row itself that the scope is made from."""
    return set(_OF_THE_ROW.findall(" ".join((source.expression, *source.conditions))))


def _distinct(source: _Source, rows: str) -> str:
    """Name the rows by what tells their scopes apart, so that a hundred thousand of one gallery are one.

    Of rows whose own key is the scope's no more are read than it takes to record the family.
    """
    columns = sorted(_columns(source))
    if not columns:
        return f"(SELECT FROM {rows} LIMIT 1) r"
    if columns != [source.key]:
        return f"(SELECT DISTINCT {', '.join(map(_name, columns))} FROM {rows}) r"
    literal, _, _ = source.expression.partition(" || ")
    return (
        f"{rows} r"
        if source.tables or ":" not in literal
        else f"(SELECT * FROM {rows} LIMIT {MOST_MEMBERS + 1}) r"
    )


def _insert_some(selects: str) -> str:
    """Record scopes, each once; a family for more than `MOST_MEMBERS` of it. See `stamps.coarsened`."""
    return f"""
        INSERT INTO {TABLE} (scope)
        SELECT DISTINCT CASE WHEN members > {MOST_MEMBERS} AND position(':' in scope) > 0
                             THEN split_part(scope, ':', 1) || ':*' ELSE scope END
        FROM (SELECT scope, count(*) OVER (PARTITION BY split_part(scope, ':', 1)) AS members
              FROM ({selects}) AS named WHERE scope IS NOT NULL) AS counted;
    """


def _on_truncate(table: str, name: str, templates: tuple[str, ...]) -> Iterator[str]:
    texts = [parse(template).scope for template in templates]
    scopes = sorted({_family(text) for text in texts})
    values = ", ".join(f"({_quoted(scope)})" for scope in scopes)
    yield _function(name, f"INSERT INTO {TABLE} (scope) VALUES {values};")
    yield f'CREATE TRIGGER "{name}" AFTER TRUNCATE ON "{table}" FOR EACH STATEMENT EXECUTE FUNCTION "{name}"()'


def _family(text: str) -> str:
    """Return what stands for every scope of a template: of its kind, where it has one."""
    if "{" not in text:
        return text
    return text.split(":", maxsplit=1)[0] + ":*" if ":" in text else text.split("{", maxsplit=1)[0] + "*"


def _function(name: str, body: str) -> str:
    """Make it in place of one that was left without its trigger: by a process that died in between."""
    return (
        f'CREATE OR REPLACE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql '
        f"AS $$ BEGIN {body} RETURN NULL; END $$"
    )
