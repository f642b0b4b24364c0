"""The bulk operations of this API: which changes a body may request, on which lists, and what is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import ValidationError as ModelValidationError
from django.db.models import QuerySet
from django.http import Http404
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from catalog.api.typed import IntegerField, SlugField, TextField
from catalog.api.writing import (
    BoundedListField,
    GalleryWriteSerializer,
    ReachableGalleryField,
    ScreenshotCreateSerializer,
    ScreenshotWriteSerializer,
    WriteSerializer,
)
from catalog.curation import bulk
from catalog.curation.ownership import changeable
from catalog.models import LARGEST, MOST_TAGS, BulkOperation, Gallery
from keybits.drf import ClosedMembersMixin
from keybits.drf.bulk import (
    NAMES,
    BulkCreateMixin,
    BulkMixin,
    BulkTerms,
    ComputedField,
    ItemsRefusedError,
    RowsForbiddenError,
    TooManyRowsError,
)

__all__ = [
    "BulkCreateScreenshotsMixin",
    "BulkGalleriesMixin",
    "BulkScreenshotsMixin",
    "GalleryChangesSerializer",
    "ScreenshotChangesSerializer",
    "ScreenshotItemSerializer",
]


# --- Bodies ---------------------------------------------------------------------------------------------------


class FormulaSerializer(ClosedMembersMixin, serializers.Serializer[Any]):
    """How a field is computed for each row. All its members are required, although the body around it is partial."""

    def to_internal_value(self, data: Any) -> Any:
        missing = [name for name, field in self.fields.items() if field.required and name not in data]
        if missing:
            raise ValidationError({name: ["This member is required."] for name in missing})
        return super().to_internal_value(data)


class AdditionSerializer(FormulaSerializer):
    """An integer that is added to each row's value. Refused if a result is below 0 or above 2,147,483,647."""

    add = IntegerField(min_value=-LARGEST, max_value=LARGEST)

    def to_internal_value(self, data: Any) -> bulk.Added:
        return bulk.Added(super().to_internal_value(data)["add"])


class ReplacementSerializer(FormulaSerializer):
    """A text, and the replacement of each of its occurrences. Refused if a resulting title would be invalid."""

    replace = BoundedListField(
        child=TextField(max_length=200, allow_blank=True, trim_whitespace=False),
        min_length=2,
        max_length=2,
    )

    def to_internal_value(self, data: Any) -> bulk.Replaced:
        old, new = super().to_internal_value(data)["replace"]
        if not old:
            raise ValidationError({"replace": ["The first text must not be empty."]})
        return bulk.Replaced(old, new, longest=200)


def _slugs() -> BoundedListField:
    return BoundedListField(child=SlugField(max_length=100), max_length=MOST_TAGS, required=False)


class TaggingSerializer(FormulaSerializer):
    """Tags to add and to remove. New words in `add` become tags."""

    add = _slugs()
    remove = _slugs()

    def to_internal_value(self, data: Any) -> bulk.Tagging:
        read = super().to_internal_value(data)
        added, removed = frozenset(read.get("add", ())), frozenset(read.get("remove", ()))
        if not added | removed:
            raise ValidationError('Give tags in at least one of {"add": [...], "remove": [...]}.')
        if added & removed:
            raise ValidationError({"remove": [f"{', '.join(sorted(added & removed))}: also in add."]})
        return bulk.Tagging(added, removed)


class ChangesSerializer(WriteSerializer):
    """The body of a PATCH of a list. `formulas` are the fields that can also be computed for each row."""

    formulas: Mapping[str, type[serializers.Serializer[Any]]] = {}
    per_row: tuple[str, ...] = ()
    """Fields in which no two rows can have the same value; they cannot be set."""

    def get_fields(self) -> dict[str, Any]:
        alike = {name: field for name, field in super().get_fields().items() if name not in self.per_row}
        return alike | {name: ComputedField(alike[name], read()) for name, read in self.formulas.items()}

    def changes(self) -> bulk.Changes:
        """Return the validated data, sorted into constants, formulas and tags."""
        read = dict(self.validated_data)
        tags = read.pop("tags", None)
        tagging = (
            tags
            if tags is None or isinstance(tags, bulk.Tagging)
            else bulk.Tagging(frozenset(tags), whole=True)
        )
        formulas = {name: value for name, value in read.items() if isinstance(value, bulk.Formula)}
        values = {name: value for name, value in read.items() if name not in formulas}
        return bulk.Changes(values, formulas, tagging)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError(f"Give at least one change: {', '.join(sorted(self.fields))}.")
        return attrs


class ScreenshotChangesSerializer(ChangesSerializer, ScreenshotWriteSerializer):
    """The values to set on every screenshot of the list, or how to compute each."""

    formulas = {"position": AdditionSerializer, "title": ReplacementSerializer, "tags": TaggingSerializer}


class GalleryChangesSerializer(ChangesSerializer, GalleryWriteSerializer):
    """The values to set on every gallery of the list, or how to compute each."""

    formulas = {"position": AdditionSerializer, "title": ReplacementSerializer}
    per_row = ("cover",)


class KnownGalleryField(ReachableGalleryField):
    """The gallery of one item among many. The galleries of all items are read in one query."""

    known: _Known | None = None

    def get_queryset(self) -> Any:
        if self.known is None:
            named = (item.get("gallery") for item in self.root.initial_data if isinstance(item, Mapping))
            slugs = {slug for slug in named if isinstance(slug, str) and "\x00" not in slug}
            self.known = _Known(super().get_queryset().in_bulk(slugs, field_name="slug"))
        return self.known


class _Known:
    """Rows that have been read, with the `get` of a queryset."""

    def __init__(self, rows: Mapping[str, Gallery]) -> None:
        self.rows = rows

    def get(self, slug: str) -> Gallery:
        if slug not in self.rows:
            raise Gallery.DoesNotExist
        return self.rows[slug]


class ScreenshotItemSerializer(ScreenshotCreateSerializer):
    """One of many screenshots to create."""

    gallery = KnownGalleryField(required=False)


# --- Operations -----------------------------------------------------------------------------------------------


class BulkCuratedMixin(BulkMixin):
    """PATCH and DELETE of all rows of a list, by `catalog.curation.bulk`. Each leaves a record."""

    changes_serializer_class: type[ChangesSerializer]

    def update_rows(self: Any, rows: QuerySet[Any], terms: BulkTerms) -> dict[str, Any]:
        changes = self._changes()
        answer: dict[str, Any] = self._done(rows, terms, changes, partial(bulk.update, changes=changes))
        return answer

    def delete_rows(self: Any, rows: QuerySet[Any], terms: BulkTerms) -> dict[str, Any]:
        answer: dict[str, Any] = self._done(rows, terms, None, bulk.delete)
        return answer

    def permitted(self: Any, rows: QuerySet[Any], terms: BulkTerms) -> QuerySet[Any]:
        """Leave out rows that the client may not change, if the terms skip them."""
        if not terms.skips_forbidden:
            return rows
        return rows.filter(changeable(model=rows.model, actor=self.request.user))

    def _changes(self: Any) -> bulk.Changes:
        """Validate the body. The serializer gets an instance so that it does not validate as for a create."""
        row, context = self.queryset.model(), self.get_serializer_context()
        serializer = self.changes_serializer_class(row, data=self.request.data, partial=True, context=context)
        serializer.is_valid(raise_exception=True)
        changes: bulk.Changes = serializer.changes()
        return changes

    def _done(
        self: Any,
        rows: QuerySet[Any],
        terms: BulkTerms,
        changes: bulk.Changes | None,
        write: Callable[..., BulkOperation],
    ) -> dict[str, Any]:
        """Write, or only inspect if the terms are dry."""
        actor = self.request.user
        with refusals():
            if terms.is_dry:
                count = bulk.inspect(rows=rows, actor=actor, changes=changes)
                return {"dry_run": True, "count": count, "sample": self.sample(rows)}
            record = write(rows=rows, actor=actor, most=terms.most, record=self._record())
        return {"dry_run": False, "count": record.count, "record": record.pk}

    def _record(self: Any) -> BulkOperation:
        request = self.request
        said = request.data if request.method == "PATCH" else {}
        filters = [pair for pair in self.query.pairs if pair[0] not in NAMES]
        return BulkOperation(
            user=request.user,
            username=request.user.get_username(),
            key=getattr(request.auth, "prefix", ""),
            path=request.path,
            query=urlencode(filters),
            changes=said,
        )


class BulkScreenshotsMixin(BulkCuratedMixin):
    """Bulk operations on a list of screenshots."""

    changes_serializer_class = ScreenshotChangesSerializer


class BulkCreateScreenshotsMixin(BulkScreenshotsMixin, BulkCreateMixin):
    """Bulk operations on a list of screenshots, and creating many at once."""

    item_serializer_class = ScreenshotItemSerializer

    def create_items(self: Any, items: list[Any]) -> dict[str, Any]:
        with refusals():  # validating each of the tags would take longer than counting them
            bulk.bound(sum(map(_tags_of, items)))
        read = _read(self, items)
        with refusals():
            made, record = bulk.create_screenshots(items=read, record=self._record())
        return _made(made, record, map(self.get_address, made))


class BulkGalleriesMixin(BulkCuratedMixin, BulkCreateMixin):
    """Bulk operations on galleries, and creating many at once."""

    changes_serializer_class = GalleryChangesSerializer

    def create_items(self: Any, items: list[Any]) -> dict[str, Any]:
        read = _read(self, items)
        _refuse_taken([item["slug"] for item in read])
        made, record = bulk.create_galleries(owner=self.request.user, items=read, record=self._record())
        return _made(made, record, map(self.get_address, made))


def _tags_of(item: Any) -> int:
    """Return the number of different tags of an item that is not validated yet."""
    tags = item.get("tags") if isinstance(item, dict) else None
    return len({tag for tag in tags if isinstance(tag, str)}) if isinstance(tags, list) else 0


def _read(view: Any, items: list[Any]) -> list[dict[str, Any]]:
    """Return the validated items. All are validated before any is created."""
    serializer = view.get_write_serializer(data=items, many=True)
    if not serializer.is_valid():
        errors = serializer.errors
        pairs = errors.items() if isinstance(errors, Mapping) else enumerate(errors)
        raise ItemsRefusedError({index: error for index, error in pairs if error})
    return list(serializer.validated_data)


def _refuse_taken(slugs: Sequence[str]) -> None:
    """Raise `ItemsRefusedError` for slugs that are taken, and for slugs that are given twice."""
    given = Counter(slugs)
    _refuse_each(slugs, "{!r} is given twice.", {slug for slug, times in given.items() if times > 1})
    # Only then: a request that fails anyway must not reveal which slugs, private ones included, are taken.
    _refuse_each(
        slugs, "The slug {!r} is taken.", Gallery.objects.only("slug").in_bulk(slugs, field_name="slug")
    )


def _refuse_each(slugs: Sequence[str], why: str, refused: Collection[str]) -> None:
    errors = {index: {"slug": [why.format(slug)]} for index, slug in enumerate(slugs) if slug in refused}
    if errors:
        raise ItemsRefusedError(errors)


def _made(rows: Sequence[Any], record: BulkOperation, addresses: Iterable[str]) -> dict[str, Any]:
    places = enumerate(zip(rows, addresses, strict=True))
    results = [{"index": index, "status": 201, "id": row.pk, "url": url} for index, (row, url) in places]
    return {"count": record.count, "record": record.pk, "results": results}


@contextmanager
def refusals() -> Iterator[None]:
    """Translate the refusals of `catalog.curation.bulk` into HTTP errors."""
    try:
        yield
    except bulk.ForbiddenRowsError as error:
        if settings.CURATION_HIDES:
            raise Http404 from None
        raise RowsForbiddenError(error.count) from None
    except bulk.TooManyRowsError as error:
        raise TooManyRowsError(error.count, error.most) from None
    except bulk.SpoiltRowsError as error:
        raise ValidationError(
            {error.name: [f"{error.count} of the rows {error.why}; none was changed."]}
        ) from None
    except bulk.TooManyTagsError as error:
        raise ValidationError({"tags": [str(error)]}) from None
    except ModelValidationError as error:
        raise ValidationError(error.message_dict) from None
