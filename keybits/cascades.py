"""The deletion of many rows with all that cascades: a statement or a few for each relation, however many rows.

Django's own deletion reads the rows and those that refer to them, and deletes both in batches. Here the database
deletes by relation, as the relation's `on_delete` says. No signals are sent; triggers see every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections, models, router, transaction
from django.db.models import Field, ProtectedError, QuerySet, RestrictedError
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from keybits.selections import hold

__all__ = ["delete"]

Followed = tuple[Any, ...]
"""Relations, each of which leads from rows to those that refer to them."""


def delete(rows: QuerySet[Any]) -> int:
    """Delete `rows` with all that cascades, or nothing; return how many rows of their own model were deleted.

    Raises Django's `ProtectedError` or `RestrictedError`, and `NotImplementedError` for an `on_delete` of the project's
    own, a relation by several columns, or one that leads back to itself by way of others. After any, a transaction of
    the caller's can only be rolled back. The query of `rows` must not depend on rows that are deleted with them: give
    the rows of a selection (`keybits.selections`).
    """
    rows = rows.using(rows._db or router.db_for_write(rows.model))  # type: ignore[attr-defined]  # its own database
    with transaction.atomic(using=rows.db, savepoint=False):
        return _delete_whole(rows, ())


def _delete_whole(rows: QuerySet[Any], followed: Followed) -> int:
    """Delete `rows`, which the relations `followed` have led to, with the parent rows that they extend."""
    links = _links(rows.model)
    if not links:
        return _delete(rows, followed)
    with hold(rows, using=rows.db) as held, ExitStack() as stack:
        extended = [stack.enter_context(hold(_extended(held.rows, link), using=rows.db)) for link in links]
        count = _delete(held.rows, followed)
        for parents in extended:
            _delete_whole(parents.rows, followed)
        return count


def _links(model: type[models.Model]) -> list[Any]:
    """Return the parent links of `model`, by which each of its rows extends one of another table."""
    concrete: Any = model._meta.concrete_model
    return [link for link in concrete._meta.parents.values() if link.model is concrete]


def _extended(rows: QuerySet[Any], link: Any) -> QuerySet[Any]:
    """Return the parent rows that `rows` extend by `link`; their keys may be different ones."""
    manager: models.Manager[Any] = link.related_model._base_manager
    keys = rows.values(link.attname)
    return manager.using(rows.db).filter(**{f"{link.target_field.attname}__in": keys})


def _delete(rows: QuerySet[Any], followed: Followed) -> int:
    """Delete `rows` of one table with all that cascades, but without the parent rows that they extend."""
    fields = list(_references(rows.model))
    within = [field for field in fields if _is_of_a_tree(field, rows.model)]
    if within:
        rows = _with_descendants(rows, within)
    for field in fields:
        if field not in within:
            _release(field, rows, followed)
    for generic in _generic(rows.model):
        _delete_whole(_referring(generic, rows), _further(followed, generic))
    return rows.order_by()._raw_delete(rows.db) or 0


def _is_of_a_tree(field: Any, model: type[models.Model]) -> bool:
    itself = field.model._meta.concrete_model is model._meta.concrete_model
    return itself and field.remote_field.on_delete is models.CASCADE


def _with_descendants(rows: QuerySet[Any], fields: list[Any]) -> QuerySet[Any]:
    """Return `rows` and the rows that refer to them by `fields`, at any depth; UNION ends cycles."""
    meta, quote = rows.model._meta, connections[rows.db].ops.quote_name
    table, key = quote(meta.db_table), quote(meta.pk.column)
    try:
        first, params = rows.order_by().values("pk").query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return rows
    refers = " OR ".join(
        f"below.{quote(field.column)} = above.{quote(field.target_field.column)}" for field in fields
    )
    tree = f"""
        WITH RECURSIVE chosen (id) AS (
            SELECT * FROM ({first}) AS roots
            UNION
            SELECT below.{key} FROM chosen JOIN {table} AS above ON above.{key} = chosen.id
            JOIN {table} AS below ON {refers}
        ) SELECT id FROM chosen
    """  # noqa: S608 - names of tables and columns
    manager: models.Manager[Any] = rows.model._base_manager
    return manager.using(rows.db).filter(pk__in=RawSQL(tree, params))  # noqa: S611 - as above


def _references(model: type[models.Model]) -> Iterator[Any]:
    """Yield the foreign keys that refer to `model`, including those of many-to-many relations."""
    for relation in model._meta.get_fields(include_hidden=True):
        if relation.auto_created and not relation.concrete and (relation.one_to_one or relation.one_to_many):
            yield relation.field  # type: ignore[union-attr]  # the kinds above have one


def _generic(model: type[models.Model]) -> Iterator[Any]:
    """Yield the generic relations of `model`: rows that refer to it by type and key are deleted with it."""
    return (field for field in model._meta.private_fields if hasattr(field, "bulk_related_objects"))


def _referring(generic: Any, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the rows that refer to `rows` by a generic relation, which may store keys as another type."""
    model = generic.remote_field.model
    keys = rows.order_by().values(key=Cast("pk", model._meta.get_field(generic.object_id_field_name)))
    types = model._meta.get_field(generic.content_type_field_name).related_model._default_manager
    of_type = types.db_manager(rows.db).get_for_model(
        generic.model, for_concrete_model=generic.for_concrete_model
    )
    asked = {generic.content_type_field_name: of_type.pk, f"{generic.object_id_field_name}__in": keys}
    return model._base_manager.using(rows.db).filter(**asked)  # type: ignore[no-any-return]


def _further(followed: Followed, relation: Any) -> Followed:
    """Return `followed` and `relation`; by models alone, one that is followed again would be so without end."""
    if relation in followed:
        raise NotImplementedError(
            f"{relation} leads back to itself by way of others, which only Django's delete() can follow."
        )
    return (*followed, relation)


def _release(field: Field[Any, Any], rows: QuerySet[Any], followed: Followed) -> None:
    """Apply the `on_delete` of `field` to the rows that refer to `rows` by it."""
    if len(field.foreign_related_fields) > 1:  # type: ignore[attr-defined]  # a foreign key's
        raise NotImplementedError(
            f"{field} refers by several columns, which only Django's delete() can follow."
        )
    keys = rows.order_by().values(field.target_field.attname)  # type: ignore[attr-defined]  # a foreign key's
    referring = field.model._base_manager.using(rows.db).filter(**{f"{field.name}__in": keys})
    decision: Any = field.remote_field.on_delete  # type: ignore[union-attr]  # a foreign key's
    if decision is models.CASCADE:
        whole = not field.remote_field.parent_link  # type: ignore[union-attr]
        (_delete_whole if whole else _delete)(referring, _further(followed, field))
    elif decision is models.SET_NULL:
        referring.update(**{field.name: None})
    elif decision is models.SET_DEFAULT:
        referring.update(**{field.name: field.get_default()})
    elif decision in {models.PROTECT, models.RESTRICT}:
        _refuse(decision, field, referring)
    elif decision is not models.DO_NOTHING:
        raise NotImplementedError(
            f"{field} has an on_delete of its own, which only Django's delete() can apply."
        )


def _refuse(decision: Any, field: Any, referring: QuerySet[Any]) -> None:
    error = ProtectedError if decision is models.PROTECT else RestrictedError
    some = set(referring[:1])
    if some:
        raise error(f"Rows cannot be deleted while {field} refers to them.", some)
