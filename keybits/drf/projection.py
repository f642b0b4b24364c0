"""A serializer compiled for lists: the columns that it shows, and how a page of them becomes its items.

The serializer stays the single definition of the shape. What REST framework would do with its fields, their sources and
their values is compiled. If any of that is unknown, the whole serializer is refused (`NoProjectionError`), and the view
uses the serializer itself; nothing is ever compiled in part.

What a computed field reads cannot be found out, so the field declares it: a method of a `SerializerMethodField` with
`@reads(...)`, a field class of the project's own (`source="*"`) with an attribute `reads`. That is a promise that the
value is made from those paths alone. Where it is quicker, such a field makes the values of a whole page at once, in a
method `of_columns`: it is given one column for each path, of lists where the path leads over a to-many relation. A
serializer whose fields the request chooses has `shape(view)`, which returns what they are chosen by.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, TypeVar

from django.db.models import CharField, ForeignKey, GeneratedField, QuerySet, TextField
from django.db.models.constants import LOOKUP_SEP
from django.db.models.query import BaseIterable, ModelIterable
from rest_framework import ISO_8601, serializers
from rest_framework.relations import RelatedField
from rest_framework.settings import api_settings

from keybits.bounded import Bounded
from keybits.conf import on_change
from keybits.drf.rows import Layout, NoProjectionError, Reads, Row, UndeclaredReadError, Values, is_plain

__all__ = ["NoProjectionError", "Projection", "UndeclaredReadError", "give_up", "projection", "reads"]

Column = Sequence[Any]
Convert = Callable[[Column], Column]
Maker = Callable[[Sequence[Values], Sequence[Column]], Iterable[Any]]
Binder = Callable[[Layout], Maker]
F = TypeVar("F", bound=Callable[..., Any])
MOST = 512
"""Most compiled shapes that are remembered: clients choose sparse fields."""
MOST_ORDERS = 64
"""Most orders of rows for which a shape has a layout: clients may choose any combination of columns."""


def reads(*paths: str) -> Callable[[F], F]:
    """Declare the paths that a method of a `SerializerMethodField` reads from its object. It may read nothing else."""

    def declare(method: F) -> F:
        method.reads = paths  # type: ignore[attr-defined]
        return method

    return declare


class Projection:
    """What one serializer shows of each row, for any list.

    `besides` are the paths that the view itself reads from its rows.
    """

    def __init__(self, serializer: serializers.BaseSerializer[Any], besides: tuple[str, ...] = ()) -> None:
        self.reads = Reads(_model(serializer))
        if not hasattr(serializer, "shape"):
            serializer.root._context = _Sealed()  # nothing that is compiled may depend on the request
        self.binders = _compiled(serializer, self.reads)
        for path in besides:
            self.reads.add(path)
        self._layouts: Bounded[tuple[str, ...], Layout] = Bounded(MOST_ORDERS)
        self._bound(())
        serializer.root._context = _Sealed()  # a projection is kept across requests
        projection = self

        class Rows(BaseIterable):  # type: ignore[type-arg]
            def __iter__(self) -> Any:
                names = _order(self.queryset)
                return iter(projection._bound(names).read(self.queryset))

        self._rows = Rows

    def refusal(self, queryset: Any) -> str:
        """Return why rows of `queryset` cannot be read as columns; "" where they can."""
        if not isinstance(queryset, QuerySet):
            return "the view gives no queryset"
        return _refusal(queryset.query) or self._refusal(queryset)

    def _refusal(self, queryset: Any) -> str:
        """Return why instances of `queryset` would not be like its rows."""
        if queryset.model is not self.reads.model or queryset._iterable_class is not ModelIterable:
            return "the queryset does not give plain instances of the serializer's model"
        if not self.reads.annotations <= set(queryset.query.annotation_select):
            return "the queryset does not have every annotation that the serializer shows"
        if not all(isinstance(lookup, str) for lookup in queryset._prefetch_related_lookups):
            return "the queryset chooses what it prefetches"
        if any(field.name in self.reads.ones for field in queryset._known_related_objects):
            return "the queryset knows instances that the serializer shows, which may have been changed"
        if queryset._result_cache is not None:
            return "the queryset has its instances already"
        return ""

    def over(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return `queryset` made to yield stand-ins (`rows.Row`); it can be filtered, ordered and sliced as before."""
        plain = queryset.prefetch_related(None)
        plain._iterable_class = self._rows
        return plain

    def items(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Return what the serializer would make of these rows, which come from a queryset of `over`."""
        return _items(rows[0].layout_.makers, [row.values_ for row in rows]) if rows else []

    def _bound(self, order: tuple[str, ...]) -> Layout:
        """Return the layout for an order. The order's columns are read too, because pagination needs them."""
        layout = self._layouts.get(order)
        if layout is None:
            wanted = deepcopy(self.reads)
            for name in order:
                wanted.add(name)
            layout = Layout(wanted)
            layout.makers = [(name, bind(layout)) for name, bind in self.binders]
            self._layouts[order] = layout
        return layout


def _refusal(query: Any) -> str:
    """Return why `query` cannot be made to select other columns."""
    if query.distinct or query.combinator or query.group_by is not None or query.is_sliced:
        return "the queryset is distinct, grouped, combined or sliced"
    if query.extra or query.extra_tables:
        return "the queryset has extra columns or tables"
    return ""


class _Sealed(Mapping[str, Any]):
    """The context of a compiled serializer: any use of it raises `UndeclaredReadError`."""

    def __getitem__(self, key: str) -> Any:
        raise UndeclaredReadError(
            f"the serializer reads {key!r} from its context, which belongs to one request"
        )

    def __iter__(self) -> Any:
        raise UndeclaredReadError("the serializer reads its context, which belongs to one request")

    __len__ = __iter__


def _order(queryset: QuerySet[Any]) -> tuple[str, ...]:
    """Return the model's own plain columns among those by which `queryset` is ordered."""
    names = queryset.query.order_by or queryset.model._meta.ordering
    model: Any = queryset.model
    own = _columns(model)
    plain = (name.removeprefix("-") for name in names if isinstance(name, str))
    return tuple(name for name in plain if name in own)


@cache
def _columns(model: Any) -> frozenset[str]:
    names = (field.attname for field in model._meta.concrete_fields)
    return frozenset(name for name in names if is_plain(model, name))


def _items(makers: Sequence[tuple[str, Maker]], rows: Sequence[Values]) -> list[dict[str, Any]]:
    if not rows:
        return []
    columns = list(zip(*rows, strict=True))
    names = [name for name, _ in makers]
    made = zip(*(make(rows, columns) for _, make in makers), strict=True)
    return [dict(zip(names, cells, strict=True)) for cells in made] if makers else [{} for _ in rows]


# --- One projection for each shape --------------------------------------------------------------------------------

_known: Bounded[Hashable, Projection | str] = Bounded(MOST)


def projection(view: Any) -> Projection | str:
    """Return the projection of the list that `view` is about to show, or why there is none."""
    cls = view.get_serializer_class()
    if type(view).get_serializer.__module__ != "rest_framework.generics":
        return f"{type(view).__name__} overrides get_serializer"
    key = (cls, _shape(cls, view), tuple(view.projected))
    known = _known.get(key)
    if known is None:
        known = _known[key] = _made(view)
    return known


def give_up(found: Projection, reason: str) -> None:
    """Never use `found` again, because something was read that had not been declared."""
    for key, known in list(_known.items()):
        if known is found:
            _known[key] = reason


def _made(view: Any) -> Projection | str:
    try:
        listed = view.get_serializer([], many=True)  # so that its parents are those that it has in a list
        return Projection(getattr(listed, "child", listed), tuple(view.projected))
    except (NoProjectionError, UndeclaredReadError) as refusal:
        return str(refusal)


def _shape(cls: type[Any], view: Any) -> Hashable:
    """Return what the request chooses the fields by: None, unless the serializer has `shape(view)`."""
    shape: Hashable = cls.shape(view) if hasattr(cls, "shape") else None
    return shape


on_change(_known.clear)


# --- Serializers --------------------------------------------------------------------------------------------------


def _model(serializer: Any) -> Any:
    if not isinstance(serializer, serializers.ModelSerializer):
        raise NoProjectionError(f"{type(serializer).__name__} is no ModelSerializer")
    return serializer.Meta.model


def _compiled(serializer: Any, place: Reads, prefix: str = "") -> list[tuple[str, Binder]]:
    """Return each member's name and binder, in order. Adds what is read to `place`, to which `prefix` leads."""
    _insist(serializer, serializers.Serializer)
    _insist_on_shape(serializer)
    if _model(serializer) is not place.model:
        raise NoProjectionError(f"{type(serializer).__name__} is for another model than the relation's")
    return [(field.field_name, _field(field, place, prefix)) for field in serializer._readable_fields]


def _insist(field: Any, stock: Any) -> None:
    """Refuse a field that overrides how its value is made from its object."""
    for name in ("to_representation", "get_attribute"):
        if getattr(type(field), name) is not getattr(stock, name):
            raise NoProjectionError(f"{_named(field)} has {name} of its own")


def _insist_on_class(field: Any) -> None:
    """Refuse a field that was given another method than its class has."""
    for name in ("to_representation", "get_attribute"):
        if name in vars(field):
            raise NoProjectionError(f"{_named(field)} has {name} of its own")


def _insist_on_shape(serializer: Any) -> None:
    """Refuse a serializer whose fields may depend on what the root serializer's `shape` does not cover."""
    cls, whole = type(serializer), type(getattr(serializer.root, "child", serializer.root))
    if (
        getattr(cls.Meta, "list_serializer_class", serializers.ListSerializer)
        is not serializers.ListSerializer
    ):
        raise NoProjectionError(f"{cls.__name__} has lists of its own")
    told = _function(cls, "shape") is not None and _function(cls, "shape") is _function(whole, "shape")
    for name in _SHAPING:
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if not told and owner not in _STOCK:
            raise NoProjectionError(
                f"{cls.__name__} has {name} of its own, and the root serializer no shape(view) for it"
            )


_SHAPING = (
    *("__new__", "__init__", "many_init", "get_fields", "fields", "_readable_fields"),
    *("get_field_names", "get_default_field_names", "get_extra_kwargs", "include_extra_kwargs"),
    *("get_uniqueness_extra_kwargs", "build_field", "build_standard_field", "build_relational_field"),
    *("build_nested_field", "build_property_field", "build_url_field", "build_unknown_field"),
)
"""What a serializer makes its fields by."""
_STOCK = frozenset(
    {
        *(serializers.Field, serializers.BaseSerializer, serializers.Serializer),
        *(serializers.ModelSerializer, serializers.HyperlinkedModelSerializer),
    }
)
"""Not told by `__module__`, which is REST framework's also in classes that a call of `type` has made."""


def _function(cls: type[Any], name: str) -> Any:
    method = getattr(cls, name, None)
    return getattr(method, "__func__", method)


def _named(field: Any) -> str:
    parent = f"{type(field.parent).__name__}." if field.parent else ""
    return f"{parent}{field.field_name or type(field).__name__}"


def _field(field: Any, place: Reads, prefix: str) -> Binder:
    _insist_on_class(field)
    if any(LOOKUP_SEP in name for name in field.source_attrs):
        raise NoProjectionError(f"{_named(field)} has {LOOKUP_SEP} in its source, which is no path there")
    if isinstance(field, serializers.SerializerMethodField):
        _insist(field, serializers.SerializerMethodField)
        method = getattr(field.parent, field.method_name)
        declared = getattr(method, "reads", None)
        return _computed(field, declared, lambda rows: list(map(method, rows)), place, prefix)
    if field.source_attrs == []:
        if type(field).get_attribute is not serializers.Field.get_attribute:
            raise NoProjectionError(f"{_named(field)} has get_attribute of its own")
        return _own(field, place, prefix)
    if isinstance(field, serializers.ListSerializer):
        return _many(field, place, prefix)
    if isinstance(field, serializers.BaseSerializer):
        return _one(field, place, prefix)
    return _column(field, *_converted(field, place), prefix)


def _own(field: Any, place: Reads, prefix: str) -> Binder:
    """Bind a project's own field, which is given whole objects, or with `of_columns` the columns of a page."""
    declared = getattr(field, "reads", None)
    if declared is None or not _makes_pages(type(field)):
        return _computed(
            field, declared, lambda rows: list(map(field.to_representation, rows)), place, prefix
        )
    for path in declared:
        place.add(path)

    def bind(layout: Layout) -> Maker:
        wanted = [_picked(layout, prefix, path) for path in declared]
        return lambda _, columns: field.of_columns(*(pick(columns) for pick in wanted))

    return bind


def _makes_pages(cls: type[Any]) -> bool:
    """Return whether `of_columns` is at least as much the class's own as `to_representation`, which it stands for."""
    first = next(base for base in cls.__mro__ if {"of_columns", "to_representation"} & vars(base).keys())
    return "of_columns" in vars(first)


def _picked(layout: Layout, prefix: str, path: str) -> Callable[[Sequence[Column]], Column]:
    """Return a getter of a path's values from the columns of a page: lists, where it leads over a to-many relation."""
    name, _, rest = path.partition(LOOKUP_SEP)
    if prefix + name not in layout.slots:
        if prefix + path not in layout.index:
            raise NoProjectionError(f"{layout.reads.model._meta.label}: {prefix}{path} is not a column")
        return itemgetter(layout.index[prefix + path])
    slot, inner = layout.slots[prefix + name], layout.attached(prefix + name).layout.index[rest or "pk"]
    return lambda columns: [[values[inner] for values in each] for each in columns[slot]]


def _computed(field: Any, declared: Any, make: Convert, place: Reads, prefix: str) -> Binder:
    """Bind a member that is computed from stand-ins."""
    if declared is None:
        raise NoProjectionError(f"{_named(field)} does not say what it reads; declare it with @reads(...)")
    for path in declared:
        place.add(path)

    def bind(layout: Layout) -> Maker:
        row = layout.classes[prefix]
        return lambda rows, _: make(list(map(row, rows)))

    return bind


def _column(field: Any, path: str, convert: Convert, prefix: str) -> Binder:
    """Bind a member that is one column's value."""

    def bind(layout: Layout) -> Maker:
        position = layout.index[prefix + path]
        return lambda _, columns: convert(columns[position])

    return bind


def _one(field: Any, place: Reads, prefix: str) -> Binder:
    """Bind a serializer of the row that a foreign key refers to; its value is None where the key is NULL."""
    name = _single(field)
    inner = f"{prefix}{name}{LOOKUP_SEP}"
    binders = _compiled(field, place.foreign(name), inner)

    def bind(layout: Layout) -> Maker:
        key = layout.index[f"{inner}pk"]
        makers = [(name, bind(layout)) for name, bind in binders]

        def make(rows: Sequence[Values], _: Sequence[Column]) -> Iterable[Any]:
            present = [values for values in rows if values[key] is not None]
            made = iter(_items(makers, present))
            return [None if values[key] is None else next(made) for values in rows]

        return make

    return bind


def _many(field: Any, place: Reads, prefix: str) -> Binder:
    """Bind a serializer of each row of a to-many relation."""
    _insist(field, serializers.ListSerializer)
    name = _single(field)
    binders = _compiled(field.child, place.relation(name))

    def bind(layout: Layout) -> Maker:
        position, inner = layout.slots[prefix + name], layout.attached(prefix + name).layout
        makers = [(name, bind(inner)) for name, bind in binders]

        def make(_: Sequence[Values], columns: Sequence[Column]) -> Iterable[Any]:
            lists = columns[position]
            made = iter(_items(makers, list(chain.from_iterable(lists))))
            return [list(islice(made, len(each))) for each in lists]

        return make

    return bind


def _single(field: Any) -> str:
    if len(field.source_attrs) != 1:
        raise NoProjectionError(f"{_named(field)} has a source of several steps")
    return str(field.source_attrs[0])


# --- Values -------------------------------------------------------------------------------------------------------


def _converted(field: Any, place: Reads) -> tuple[str, Convert]:
    """Return the path of the column that `field` shows, and the conversion of its values."""
    if isinstance(field, RelatedField):
        return _related(field, place)
    if type(field).get_attribute is not serializers.Field.get_attribute:
        raise NoProjectionError(f"{_named(field)} has get_attribute of its own")
    path = LOOKUP_SEP.join(field.source_attrs)
    return path, _conversion(field, _leaf(path, place))


def _leaf(path: str, place: Reads) -> Any:
    """Add `path` to what is read, and return the model's field at its end; None for an annotation."""
    *ways, name = path.split(LOOKUP_SEP)
    for way in ways:
        if place.field(way) is not None and place.field(way).null:
            raise NoProjectionError(f"{place.model._meta.label}: {way} can be NULL")
        place = place.foreign(way)
    found = place.field(name)
    if found is not None and (found.is_relation or not hasattr(found, "attname")):
        raise NoProjectionError(f"{place.model._meta.label}: {name} is no column")
    place.add(name)
    return found


def _related(field: Any, place: Reads) -> tuple[str, Convert]:
    """Return path and conversion of a foreign key, shown as a column of the row it refers to, or as itself."""
    name = _single(field)
    if isinstance(field, serializers.SlugRelatedField):
        _insist(field, serializers.SlugRelatedField)
        if _leaf(field.slug_field, place.foreign(name)) is None:
            raise NoProjectionError(f"{_named(field)} shows no column")
        return f"{name}{LOOKUP_SEP}{field.slug_field}", _as_it_is
    _insist(field, serializers.PrimaryKeyRelatedField)
    found = place.field(name)
    if not isinstance(found, ForeignKey) or not found.target_field.primary_key or field.pk_field is not None:
        raise NoProjectionError(f"{_named(field)} shows no foreign key")
    place.add(found.attname)
    return found.attname, _as_it_is


def _conversion(field: Any, column: Any) -> Convert:
    """Return the conversion of a column's values into those of `field`: as REST framework would, only faster.

    Only REST framework's own fields are known to look at the value alone.
    """
    method = type(field).to_representation
    if method in _PLAIN:
        return _each(_PLAIN[method])
    if method is serializers.BigIntegerField.to_representation:
        return _each(str if _is_written_as_text(field) else int)
    if method is serializers.DateTimeField.to_representation:
        return _moments(field)
    if method is serializers.ChoiceField.to_representation and _means_itself(field, column):
        return _each(str)
    if method not in _PURE or getattr(field, "localize", False):
        raise NoProjectionError(f"{_named(field)} makes its value in an unknown way")
    return _each(field.to_representation)


_PLAIN: dict[Any, Callable[[Any], Any]] = {
    serializers.CharField.to_representation: str,
    serializers.IntegerField.to_representation: int,
    serializers.FloatField.to_representation: float,
}
_PURE: frozenset[Any] = frozenset(
    kind.to_representation
    for kind in (
        serializers.BooleanField,
        serializers.ChoiceField,
        serializers.DateField,
        serializers.DecimalField,
        serializers.DurationField,
        serializers.JSONField,
        serializers.ReadOnlyField,
        serializers.TimeField,
        serializers.UUIDField,
    )
)


def _as_it_is(values: Column) -> Column:
    return values


def _each(convert: Callable[[Any], Any]) -> Convert:
    """Apply `convert` to each value but None, which REST framework shows as None, whatever the field."""

    def column(values: Column) -> Column:
        if None in values:
            return [None if value is None else convert(value) for value in values]
        return list(map(convert, values))

    return column


def _is_written_as_text(field: Any) -> bool:
    return bool(getattr(field, "coerce_to_string", api_settings.COERCE_BIGINT_TO_STRING))


def _means_itself(field: Any, column: Any) -> bool:
    """Return whether every text that the column can hold is shown unchanged."""
    choices = field.choice_strings_to_values.items()
    if isinstance(column, GeneratedField):
        column = column.output_field
    holds_text = isinstance(column, CharField | TextField) and not hasattr(column, "from_db_value")
    return holds_text and all(type(value) is str and value == text for text, value in choices)


def _moments(field: Any) -> Convert:
    """Convert datetimes; in the common case (UTC in ISO 8601) without looking up the time zone for each."""
    stock = _each(field.to_representation)
    if type(field).enforce_timezone is not serializers.DateTimeField.enforce_timezone:
        return stock

    def column(values: Column) -> Column:
        if not _writes_utc(field) or not all(
            type(value) is datetime and value.tzinfo is UTC for value in values
        ):
            return stock(values)
        return [f"{value.isoformat()[:-6]}Z" for value in values]

    return column


def _writes_utc(field: Any) -> bool:
    zone = field.timezone if hasattr(field, "timezone") else field.default_timezone()
    written = getattr(field, "format", api_settings.DATETIME_FORMAT)
    return str(zone) == "UTC" and isinstance(written, str) and written.lower() == ISO_8601
