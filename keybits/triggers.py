"""The SQL of the triggers that record which scopes a change makes stale, made from the declarations.

On PostgreSQL they fire once for each statement, over its transition tables, and record a whole family where a statement
touches very many scopes of a kind; on SQLite they fire once for each row. They are derived from the code, as an index
is from a field: `sync` brings them up to date after every migration, and `keybits.operations.TrackChanges` makes them
in one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from keybits import changes
from keybits.changes import TABLE
from keybits.planner import SETTINGS, looked_up
from keybits.sources import Join, Source, source_of
from keybits.stamps import MOST_MEMBERS
from keybits.templates import parse

__all__ = [
    "drop",
    "drop_all",
    "drop_readers",
    "families",
    "firing",
    "kind",
    "lacking",
    "names",
    "reads",
    "refusal",
    "statements",
    "sync",
]

VERSION = 14
"""Increase it when the statements change for the same declarations."""

KIND = {
    "sqlite": "SELECT type FROM sqlite_master WHERE type IN ('table', 'view') AND '\"' || name || '\"' = %s",
    "postgresql": "SELECT CASE WHEN relkind IN ('r', 'p') THEN 'table' WHEN relkind = 'v' THEN 'view' "
    "WHEN relkind = 'm' THEN 'materialized view' ELSE 'foreign table' END FROM pg_class WHERE oid = to_regclass(%s)",
}
COLUMNS = {
    "sqlite": "SELECT made.name FROM sqlite_master, pragma_table_xinfo(sqlite_master.name) AS made "
    "WHERE '\"' || sqlite_master.name || '\"' = %s UNION ALL VALUES ('rowid'), ('oid'), ('_rowid_')",
    "postgresql": "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND NOT attisdropped",
}
PRESENT = {
    "sqlite": "SELECT name, '\"' || name || '\"', 1 FROM sqlite_master "
    "WHERE type = 'trigger' AND '\"' || tbl_name || '\"' = %s",
    # Whether it fires for ordinary writes: it may be disabled (DISABLE), or fire in replication only (REPLICA).
    "postgresql": "SELECT tgname, tgfoid::regprocedure::text, tgenabled IN ('O', 'A') FROM pg_trigger "
    "WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal",
}
OURS = {
    "sqlite": "SELECT name, '\"' || name || '\"', sql FROM sqlite_master WHERE type = 'trigger'",
    # In the schema where we make them, as others may have theirs elsewhere; also functions that lost their trigger.
    "postgresql": "SELECT DISTINCT proname, called.oid::regprocedure::text, '\"' || relname || '\" ' || prosrc "
    "FROM pg_proc called LEFT JOIN (pg_trigger JOIN pg_class ON pg_class.oid = tgrelid) ON tgfoid = called.oid "
    "WHERE pronamespace = current_schema()::regnamespace",
}
FIRING = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND '\"' || tbl_name || '\"' IN ({})",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') "
    "AND tgrelid IN (SELECT to_regclass(name) FROM unnest(ARRAY[{}]) AS name)",
}
_NAME = re.compile(r"keybits_\w+_[0-9a-f]{12}_(insert|update|delete|truncate)")
EVENTS = {"INSERT": ("new",), "UPDATE": ("old", "new"), "DELETE": ("old",)}


def sync(connection: BaseDatabaseWrapper, model: type[Model], templates: tuple[str, ...]) -> bool:
    """Make the triggers of `model` record `templates`; return whether any had to be made.

    A trigger's name includes a digest of what it does, so that the names tell whether all are up to date. Writes made
    without triggers are unknown: where triggers are made, the whole families are recorded as changed.
    """
    wanted = _triggers(connection.vendor, model, templates)
    present = _present(connection, model)
    if wanted.keys() == {name for name, _, _ in present} and all(fires for _, _, fires in present):
        return False
    with transaction.atomic(connection.alias):
        drop(connection, model)
        _execute(connection, chain.from_iterable(wanted.values()))
        changes.replace(connection, [], families(templates) if wanted else [])
    return True


def firing(connection: BaseDatabaseWrapper, models: Iterable[type[Model]]) -> set[str]:
    """Return the names of all triggers that fire on the tables of these models, not only ours. One statement."""
    tables = [_name(model._meta.db_table) for model in models]
    sql = FIRING[connection.vendor].format(", ".join(["%s"] * len(tables)))
    return {name for (name,) in _rows_of(connection, sql, *tables)} if tables else set()


def names(vendor: str, model: type[Model], templates: tuple[str, ...]) -> set[str]:
    """Return the names of the triggers of `model` that record `templates`. No other trigger has such a name."""
    return set(_triggers(vendor, model, templates))


def drop(connection: BaseDatabaseWrapper, model: type[Model]) -> None:
    """Drop our triggers of `model`, if there are any."""
    _drop(connection, [known_as for _, known_as, _ in _present(connection, model)])


def drop_readers(connection: BaseDatabaseWrapper, table: str, columns: Iterable[str]) -> bool:
    """Drop the triggers that name the table and one of `columns`, or without columns all that name the table.

    Returns whether there were any.
    """
    names = [_name(column) for column in columns]
    found = [
        known_as
        for known_as, source in _ours(connection)
        if _name(table) in source and (not names or any(name in source for name in names))
    ]
    _drop(connection, found)
    return bool(found)


def drop_all(connection: BaseDatabaseWrapper) -> None:
    """Drop all our triggers in this database."""
    _drop(connection, [known_as for known_as, _ in _ours(connection)])


def kind(connection: BaseDatabaseWrapper, table: str) -> str:
    """Return what the database has under the name `table`: "table", "view" and the like, or "" for nothing."""
    found = _rows_of(connection, KIND[connection.vendor], _name(table))
    return str(found[0][0]) if found else ""


def _drop(connection: BaseDatabaseWrapper, known_as: Iterable[str]) -> None:
    what = "DROP TRIGGER {}" if connection.vendor == "sqlite" else "DROP FUNCTION {} CASCADE"
    _execute(connection, map(what.format, known_as))


def _present(connection: BaseDatabaseWrapper, model: type[Model]) -> list[tuple[str, str, bool]]:
    """Return our triggers on the table of `model`: the name, the name to drop it by, and whether it fires."""
    if connection.vendor not in PRESENT:
        return []
    found = _rows_of(connection, PRESENT[connection.vendor], _name(model._meta.db_table))
    return [(name, known_as, bool(fires)) for name, known_as, fires in found if _NAME.fullmatch(name)]


def _ours(connection: BaseDatabaseWrapper) -> list[tuple[str, str]]:
    """Return the name to drop each of our triggers by, with its source."""
    found = _rows_of(connection, OURS[connection.vendor]) if connection.vendor in OURS else []
    return [(known_as, str(source)) for name, known_as, source in found if _NAME.fullmatch(name)]


def _rows_of(connection: BaseDatabaseWrapper, sql: str, *params: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        found: list[Any] = cursor.fetchall()
    return found


def _execute(connection: BaseDatabaseWrapper, statements: Iterable[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def statements(vendor: str, model: type[Model], templates: tuple[str, ...]) -> list[str]:
    """Return the statements that create the triggers of `model`; none for an unsupported database."""
    return list(chain.from_iterable(_triggers(vendor, model, templates).values()))


def refusal(model: type[Model], template: str) -> str:
    """Return why triggers cannot follow a template; "" where they can."""
    try:
        source_of(model, template)
    except ImproperlyConfigured as error:
        return str(error)
    return ""


def reads(model: type[Model], template: str) -> set[str]:
    """Return the tables, beside the model's own, that a template leads through. Triggers must be able to follow it."""
    return {join.table for join in source_of(model, template).joins}


def lacking(connection: BaseDatabaseWrapper, model: type[Model], template: str) -> list[str]:
    """Return the columns, of the tables of `reads`, that a template names and the database lacks."""
    source = source_of(model, template)
    named: dict[str, set[str]] = {join.table: set() for join in source.joins}
    further = [join.by for join in source.joins[1:]] + [source.column]
    for join, onward in zip(source.joins, further, strict=False):
        named[join.table] |= {join.column, onward}
    return sorted(f"{table}.{name}" for table in named for name in _lacking(connection, table, named[table]))


def _lacking(connection: BaseDatabaseWrapper, table: str, columns: set[str]) -> set[str]:
    folded = str.casefold if connection.vendor == "sqlite" else str
    present = {folded(name) for (name,) in _rows_of(connection, COLUMNS[connection.vendor], _name(table))}
    return {name for name in columns if folded(name) not in present}


def _triggers(vendor: str, model: type[Model], templates: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the statements that create each trigger of `model`, by its name."""
    if not templates:
        return {}
    sources = [source_of(model, template) for template in templates]
    table = model._meta.db_table
    stem = _stem(table, sources)
    if vendor == "postgresql":
        return dict(_postgresql(table, stem, sources, templates))
    return dict(_sqlite(table, stem, sources)) if vendor == "sqlite" else {}


def _stem(table: str, sources: list[Source]) -> str:
    """Return the prefix of the names of a table's triggers, with a digest of what they do; names fit into 63 bytes."""
    does = f"{VERSION} {MOST_MEMBERS} {table} {sources}"
    plain = re.sub("[^0-9A-Za-z_]", "_", table)[:30]
    return f"keybits_{plain}_{hashlib.blake2b(does.encode(), digest_size=6).hexdigest()}"


def _scope(source: Source, row: str, *, has_types: bool) -> str:
    """Return the SQL expression of the scope, over `row` of the last table, with the value as Python writes it.

    A database without a UUID type stores only the digits of a UUID. One with a date type formats dates as the client
    has configured.
    """
    if not source.column:
        return _quoted(source.head)
    value = f"CAST({row}.{_name(source.column)} AS text)"
    if has_types:
        # Not of the column's own collation: two of these cannot be united, and some know no substrings.
        value += ' COLLATE "C"'
    elif source.kind == "UUIDField":
        value = _with_dashes(value)
    if source.kind == "DateField" and has_types:
        value = f"to_char({row}.{_name(source.column)}, 'YYYY-MM-DD')"
    pieces = [_quoted(source.head), value]
    return " || ".join([*pieces, _quoted(source.tail)] if source.tail else pieces)


def _with_dashes(digits: str) -> str:
    ends = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return " || '-' || ".join(f"substr({digits}, {start}, {length})" for start, length in ends)


def _name(name: str) -> str:
    """Quote a name as Django does: a name that is already quoted stays as it is."""
    return name if name.startswith('"') and name.endswith('"') else f'"{name}"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sqlite(table: str, stem: str, sources: list[Source]) -> Iterator[tuple[str, tuple[str]]]:
    for event, rows in EVENTS.items():
        inserts = [
            _insert_row(source, row.upper(), event)
            for row in rows
            for source in sources
            if row in source.rows
        ]
        if inserts:
            name = f"{stem}_{event.lower()}"
            body = " ".join(inserts)
            yield name, (f'CREATE TRIGGER "{name}" AFTER {event} ON {_name(table)} BEGIN {body} END',)


def _insert_row(source: Source, row: str, event: str) -> str:
    """Return the statements that record the scopes of one row, each as a new row of the record.

    An unclaimed scope is recorded once, but never under its old id: a relay that has closed the old row knows it by its
    id, and would take the new change for the old one.
    """
    tables = [f"{_name(join.table)} j{depth}" for depth, join in enumerate(source.joins)]
    rows = [row, *(f"j{depth}" for depth in range(len(tables)))]
    conditions = [
        f"{here}.{_name(join.column)} = {before}.{_name(join.by)}"
        for before, here, join in zip(rows, rows[1:], source.joins, strict=False)
    ]
    if source.watched and event == "UPDATE":
        conditions.append(f"({' OR '.join(map(_is_other, (*source.key, *source.watched)))})")
    origin = f" FROM {', '.join(tables)}" if tables else ""
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    named = f"SELECT {_scope(source, rows[-1], has_types=False)} AS scope{origin}{where}"
    return (
        f"DELETE FROM {TABLE} WHERE writer = '' AND scope IN ({named}); "
        f"INSERT INTO {TABLE} (scope) SELECT DISTINCT scope FROM ({named}) AS named WHERE scope IS NOT NULL;"
    )


def _is_other(column: str) -> str:
    return f"OLD.{_name(column)} IS NOT NEW.{_name(column)}"


def _postgresql(
    table: str, stem: str, sources: list[Source], templates: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, str]]]:
    for event, rows in EVENTS.items():
        name = f"{stem}_{event.lower()}"
        found = [
            (_rows(source, f"{row}_rows", event), source)
            for row in rows
            for source in sources
            if row in source.rows
        ]
        if not found:
            continue
        references = " ".join(f"{row.upper()} TABLE AS {row}_rows" for row in rows)
        unlikes = _unlikes(sources) if event == "UPDATE" else []
        unseen = _unseen(sources) if event != "INSERT" else []
        body = "".join(_holds(sources, rows)) + _insert_some(found, unlikes, unseen)
        yield name, _trigger(name, f"{event} ON {_name(table)} REFERENCING {references}", body)
    name = f"{stem}_truncate"
    yield name, _trigger(name, f"TRUNCATE ON {_name(table)}", _insert_families(templates))


def _rows(source: Source, rows: str, event: str) -> str:
    """Return a table expression for those of `rows` whose change `source` counts."""
    if event == "UPDATE" and source.watched:
        return _changed(source)
    if event == "UPDATE" and rows == "new_rows" and source.is_many:
        return f"(SELECT {_name(source.own)} FROM new_rows WHERE {_unlike(source)})"
    return rows


def _changed(source: Source) -> str:
    """Return a table expression for the rows in which a watched column has changed."""
    columns = ", ".join(map(_name, sorted({*source.compared, *([source.own] if source.own else [])})))
    changed = f"SELECT {columns} FROM old_rows EXCEPT SELECT {columns} FROM new_rows"
    return f"(SELECT * FROM ({changed}) changed WHERE {_unlike(source)})"


def _unlike(source: Source) -> str:
    """Return a condition that some row may have changed; where it is false, the rows need not be read."""
    return f"(SELECT {' OR '.join(map(_name, source.compared))} FROM unlike)"


def _unlikes(sources: list[Source]) -> list[str]:
    """Return the CTE `unlike`: for each compared column, whether its values differ between the old and the new rows.

    Equal arrays mean that no row has changed in it. PostgreSQL does not promise that both transition tables have the
    same order; if they had not, rows would only be read needlessly.
    """
    names = sorted({name for each in sources if each.watched or each.is_many for name in each.compared})
    if not names:
        return []
    arrays = {name for each in sources for name in each.arrays}
    texts = ((name, "::text" if name in arrays else "") for name in names)
    gathered = ", ".join(f"array_agg({_name(name)}{text}) AS {_name(name)}" for name, text in texts)
    old, new = (f"(SELECT {gathered} FROM {row}_rows) {row}s" for row in ("old", "new"))
    told = ", ".join(
        f"olds.{_name(name)} IS DISTINCT FROM news.{_name(name)} AS {_name(name)}" for name in names
    )
    return [f"unlike AS MATERIALIZED (SELECT {told} FROM {old}, {new})"]


_Place = tuple[str, tuple[Join, ...]]
"""A table of rows, and the joins that lead on from it."""
_Steps = dict[_Place, set[str]]
"""The columns that are read at each place."""


def _steps(found: list[tuple[str, Source]]) -> _Steps:
    """Return each table on the path to a scope once, however many paths share it, with the columns read from it."""
    steps: _Steps = {}
    for rows, source in found:
        asked = (*(join.by for join in source.joins[1:]), source.column)
        for depth, column in enumerate(asked[: len(source.joins)], start=1):
            steps.setdefault((rows, source.joins[:depth]), set()).add(column)
    return steps


def _step(name: str, before: str, place: _Place, steps: _Steps) -> str:
    """Return the CTE of a step: a table's distinct rows, so that a hundred thousand rows of one gallery become one."""
    _, (*_, join) = place
    wanted = ", ".join(f"j.{_name(column)}" for column in sorted(steps[place]))
    found = looked_up(f"j.{_name(join.column)}", f"SELECT {_name(join.by)} FROM {before} b")
    is_named = join.keys and not _is_held(place, steps)
    lock = f" ORDER BY j.{_name(join.column)} FOR KEY SHARE OF j" if is_named else ""
    read = f"SELECT {wanted} FROM {_name(join.table)} j WHERE {found}{lock}"
    apart = read if join.keys else f"SELECT DISTINCT {wanted} FROM ({read} OFFSET 0) j"
    return f"{name} AS MATERIALIZED ({apart})"


def _is_held(place: _Place, steps: _Steps) -> bool:
    """Return whether more than keys is read from the rows of a step, or other rows are paired with them."""
    rows, joins = place
    has_pairs = any(at == rows and way[:-1] == joins and not way[-1].keys for at, way in steps)
    return bool(joins[-1].keys) and (has_pairs or not steps[place].issubset(joins[-1].keys))


def _holds(sources: list[Source], rows: tuple[str, ...]) -> Iterator[str]:
    """Yield statements that lock, until COMMIT, the rows by which scopes are found.

    Without locks, of two writers that do not see each other's rows yet, one would record what a row is part of, and the
    other the name of that, each as it was before. Pairings that another writer adds are seen by the statement after the
    lock was waited for.
    """
    steps = _steps([(f"{row}_rows", each) for row in rows for each in sources if row in each.rows])
    for place in steps:
        name, joins = place
        if _is_held(place, steps):
            # Writers of what refers to a row end up writing that row: only one of them may go on.
            mode = "SHARE" if joins[1:] else "NO KEY UPDATE"
            table, column = _name(joins[-1].table), _name(joins[-1].column)
            yield f"PERFORM FROM {table} WHERE {_found(name, joins)} ORDER BY {column} FOR {mode}; "


def _found(name: str, joins: tuple[Join, ...]) -> str:
    """Return the condition for the rows that `joins` lead to."""
    *earlier, join = joins
    rows = f"{_name(earlier[-1].table)} WHERE {_found(name, tuple(earlier))}" if earlier else name
    return looked_up(_name(join.column), f"SELECT {_name(join.by)} FROM {rows}")


def _select_all(source: Source, rows: str) -> str:
    """Return a SELECT of the scopes of `rows`, at most as many as it takes to record their family instead."""
    if not source.column:
        return f"SELECT {_scope(source, '', has_types=True)} AS scope FROM (SELECT FROM {rows} b LIMIT 1) r"
    column = _name(source.column)
    apart = "" if not source.joins and (source.column,) == source.key else "DISTINCT "
    most = f" LIMIT {MOST_MEMBERS + 1}" if ":" in source.head else ""
    some = f"SELECT {apart}{column} FROM {rows} b WHERE {column} IS NOT NULL{most}"
    return f"SELECT {_scope(source, 'r', has_types=True)} AS scope FROM ({some}) r"


def _unseen(sources: list[Source]) -> list[str]:
    """Return SELECTs of the families whose scopes are found in other tables, for transactions with one snapshot.

    Such a transaction does not see what others have since added to its rows, but PostgreSQL lets it change the rows.
    """
    families = sorted({_family(f"{each.head}{{}}") for each in sources if each.is_many})
    sees_one = "current_setting('transaction_isolation') NOT LIKE 'read%'"
    return [f"SELECT {_quoted(family)} AS scope WHERE {sees_one}" for family in families]


def _insert_some(found: list[tuple[str, Source]], first: list[str], more: list[str]) -> str:
    """Return the statement that records the scopes of `found` and of the SELECTs `more`, each once.

    `first` are CTEs that come before the steps. A family replaces more than `MOST_MEMBERS` members: see
    `stamps.coarsened`.
    """
    steps = _steps(found)
    names = {place: f"step{number}" for number, place in enumerate(steps)} | {
        (rows, ()): rows for rows, _ in found
    }
    ctes = [_step(names[place], names[place[0], place[1][:-1]], place, steps) for place in steps]
    known = [_select_all(source, names[rows, source.joins]) for rows, source in found]
    selects = " UNION ".join([*known, *more])
    with_all = f"WITH {', '.join([*first, *ctes])}" if first or ctes else ""
    return f"""{with_all}
        INSERT INTO {TABLE} (scope)
        SELECT DISTINCT CASE WHEN members > {MOST_MEMBERS} AND position(':' in scope) > 0
                             THEN split_part(scope, ':', 1) || ':*' ELSE scope END
        FROM (SELECT scope, count(*) OVER (PARTITION BY split_part(scope, ':', 1)) AS members
              FROM ({selects}) AS named) AS counted;
    """


def _insert_families(templates: tuple[str, ...]) -> str:
    values = ", ".join(f"({_quoted(scope)})" for scope in families(templates))
    return f"INSERT INTO {TABLE} (scope) VALUES {values};"


def families(templates: tuple[str, ...]) -> list[str]:
    """Return the families, or plain scopes, that cover every scope of `templates`."""
    return sorted({_family(parse(template).scope) for template in templates})


def _family(text: str) -> str:
    """Return what covers every scope of a template: the family of its kind where it names a field, else itself."""
    return text.split(":", maxsplit=1)[0] + ":*" if "{" in text else text


def _trigger(name: str, when: str, body: str) -> tuple[str, str]:
    """Return the statements that create a trigger and its function, replacing a function left without its trigger."""
    return (
        f'CREATE OR REPLACE FUNCTION "{name}"() RETURNS trigger LANGUAGE plpgsql {SETTINGS} '
        f"AS $$ BEGIN {body} RETURN NULL; END $$",
        f'CREATE TRIGGER "{name}" AFTER {when} FOR EACH STATEMENT EXECUTE FUNCTION "{name}"()',
    )
