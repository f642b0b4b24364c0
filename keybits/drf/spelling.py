"""Whether an address spells a key as its row does: reads name scopes by the address, changes name them by the row.

`01` finds the row `1`, and a UUID in capitals finds its row, but a change of the row ends only the scope that is spelt
as in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from typing import Any
from uuid import UUID

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, router
from django.db.models import CharField, Model, TextField

__all__ = ["compare_field", "compare_row", "found_rows", "is_as_rows_have_it", "value_of"]

EXACT = frozenset({"C", "POSIX", "ucs_basic", "BINARY"})
"""Collations that compare texts by their bytes; a database's own does so, too, in those that are named below."""
NUMBERS = range(-(2**63), 2**63)
NUMBER_OR_UUID: tuple[Callable[[str], Any], ...] = (int, UUID)


def compare_row(view: Any, capture: str, lookup: str, row: Any) -> None:
    """Note whether `capture` of the view's URL equals what `lookup` reads from the row that was found.

    Where the URL has no such capture, the row was found in another way, and nothing is noted.
    """
    if capture not in view.kwargs:
        return
    found: Any = None
    with suppress(AttributeError):  # no row has the value of a lookup such as iexact
        found = str(value_of(row, lookup))
    _compared(view)[capture] = found == str(view.kwargs[capture])


@contextmanager
def found_rows(view: Any) -> Iterator[list[Model]]:
    """Yield a list that collects the rows which the view's `get_object` returns in the block, in whatever way."""
    rows: list[Model] = []
    given, find = vars(view).get("get_object"), getattr(view, "get_object", None)

    def found() -> Any:
        row: Any = find()  # type: ignore[misc]
        rows.extend([row] if isinstance(row, Model) else ())
        return row

    if find is not None:
        view.get_object = found
    try:
        yield rows
    finally:
        vars(view).pop("get_object", None)
        if given is not None:
            view.get_object = given


def value_of(row: Any, lookup: str) -> Any:
    """Return what `lookup` reads from a row. Raises `AttributeError` for one that names no value, such as iexact."""
    return reduce(getattr, lookup.split("__"), row)


def compare_field(view: Any, capture: str, model: type[Model], path: str) -> None:
    """Note whether `capture` of the view's URL is how the field at the end of `path` writes its value.

    Where `path` ends in a lookup such as iexact, it is noted as different. Raises what the field's `to_python` raises
    for a value that it cannot hold, and `OverflowError` for a number beyond 64 bits. Text is noted as different where
    its column may ignore case or accents.
    """
    field, value = _field(model, path), view.kwargs[capture]
    alike = field is not None and str(_held(field, value)) == str(value)
    _compared(view)[capture] = alike and _tells_all_apart(field)


def _held(field: Any, value: Any) -> Any:
    held = field.to_python(value)
    if isinstance(held, int) and held not in NUMBERS:
        raise OverflowError(f"{value} is beyond 64 bits, which SQLite is not asked for.")
    return held


def _tells_all_apart(field: Any) -> bool:
    """Say whether values that the column takes for equal are spelt alike."""
    if not isinstance(field, CharField | TextField):
        return True
    connection = connections[router.db_for_read(field.model)]
    if collation := field.db_collation:
        return collation in EXACT
    return connection.vendor in {"postgresql", "sqlite", "oracle"} and field.db_type(connection) != "citext"


def _field(model: type[Model], path: str) -> Any:
    """Return the field at the end of `path`, or the one that it refers to; None where `path` does not end in one."""
    field: Any = None
    for name in path.split("__"):
        try:
            field = model._meta.pk if name == "pk" else model._meta.get_field(name)
        except FieldDoesNotExist:
            return None
        model = field.related_model or model
    return getattr(field, "target_field", field)


def is_as_rows_have_it(view: Any, captures: Collection[str]) -> bool:
    """Return whether all noted captures are equal, and each other one of `captures` is plain.

    Plain is what is not a number or a UUID, or is spelt as databases write it. `*` stands for all captures of the URL.
    """
    compared = _compared(view)
    names = view.kwargs if "*" in captures else captures
    others = (view.kwargs.get(name) for name in names if name not in compared)
    return all(compared.values()) and all(type(value) is not str or _is_plain(value) for value in others)


def _compared(view: Any) -> dict[str, bool]:
    noted: dict[str, bool] = vars(view).setdefault("_keybits_compared", {})
    return noted


def _is_plain(value: str) -> bool:
    """Return whether a number or a UUID is spelt as databases write it; True for anything else."""
    for kind in NUMBER_OR_UUID:
        with suppress(ValueError):
            return str(kind(value)) == value
    return True
