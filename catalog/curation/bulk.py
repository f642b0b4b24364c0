"""What people do to many rows at once: to all of them or none, by statements whose number does not grow with the rows.

`update` and `delete` are given the rows of a list as its reader sees them. They refuse before they write anything,
where the actor may not change one of the rows, where a formula would spoil one, or where there are more than allowed.
Concurrent changes do not get around that: only rows that the actor may change are written, and their number is checked
again before COMMIT. The record of the operation is written in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.models import Case, Count, F, Func, Model, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Length, Replace
from django.db.models.lookups import Exact, GreaterThan
from django.utils import timezone

from catalog.curation.ownership import changeable
from catalog.curation.tags import delete_tag, tags_named
from catalog.models import (
    LARGEST,
    MOST_TAGS,
    BulkOperation,
    Gallery,
    Screenshot,
    State,
    Tag,
    Visibility,
    domain_of,
)
from keybits import cascades
from keybits.selections import Selection, hold, lock

__all__ = [
    "Added",
    "Changes",
    "ForbiddenRowsError",
    "Formula",
    "Replaced",
    "SpoiltRowsError",
    "Tagging",
    "TooManyRowsError",
    "TooManyTagsError",
    "bound",
    "create_galleries",
    "create_screenshots",
    "delete",
    "delete_tags",
    "inspect",
    "recorded",
    "update",
]

BATCH = 500
"""Rows in one INSERT. A row has some thirty values, and SQLite accepts 32,766 in a statement."""
MOST_PAIRS = 20_000
"""Most tags that one operation may add and remove, summed over all screenshots. For each, SQLite's triggers look at all
tags that its screenshot has by then, while nobody else can write; 100 tags for each of 1,000 screenshots took longer
than others wait for the lock. PostgreSQL's triggers fire once for each statement; there only the tags of new
screenshots are bounded, which are all held in Python."""
WHITESPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The characters that `str.strip` removes, and so the API from a title. Databases trim only blanks by default."""
TAGGED = Screenshot.tags.through


class ForbiddenRowsError(PermissionError):
    """The actor may not change `count` of the rows."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} of the rows may not be changed.")
        self.count = count


class TooManyRowsError(ValueError):
    """There are `count` rows, more than the `most` that may be touched."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(f"There are {count} rows, and no more than {most} may be touched.")
        self.count = count
        self.most = most


class TooManyTagsError(ValueError):
    """Screenshots are to get or lose `count` tags in all, more than `MOST_PAIRS`."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"There are {count:,} tags in all, each counted once for each screenshot that gets or loses it; "
            f"at most {MOST_PAIRS:,} can be at once."
        )


class SpoiltRowsError(ValueError):
    """The operation would give `count` of the rows a value that the field `name` cannot have."""

    def __init__(self, name: str, count: int, why: str) -> None:
        super().__init__(f"{count} of the rows {why}.")
        self.name = name
        self.count = count
        self.why = why


# --- What is to be done ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Added:
    """A whole number, added to a field that holds 0 to 2,147,483,647."""

    number: int

    @property
    def why(self) -> str:
        return f"would get a number below 0 or above {LARGEST:,}"

    def value(self, name: str) -> Any:
        """Return the expression of the new value."""
        return F(name) + self.number

    def spoils(self, name: str) -> Any:
        """Return the condition of the rows that would get an invalid value."""
        return Q(**{f"{name}__lt": -self.number}) | Q(**{f"{name}__gt": LARGEST - self.number})


@dataclass(frozen=True, slots=True)
class Replaced:
    """Replaces each occurrence of the text `old` by `new`, in a field of at most `longest` characters."""

    old: str
    new: str
    longest: int

    @property
    def why(self) -> str:
        return f"would have an empty text, or one of more than {self.longest} characters"

    def value(self, name: str) -> Any:
        """Return the expression of the new value; NULL, which the column refuses, where that would be invalid.

        Rows have been inspected before, but may have changed since.
        """
        wrong = When(self.spoils(name), then=Value(None))
        return Case(wrong, default=self._replaced(name), output_field=TextField())

    def _replaced(self, name: str) -> Any:
        return Replace(F(name), Value(self.old), Value(self.new))

    def spoils(self, name: str) -> Any:
        """Return the condition of the rows that would get an invalid value."""
        value = self._replaced(name)
        rest = Func(value, Value(WHITESPACE), function="TRIM", output_field=TextField())
        return Q(GreaterThan(Length(value), self.longest)) | Q(Exact(Length(rest), 0))


Formula = Added | Replaced


@dataclass(frozen=True, slots=True)
class Tagging:
    """The slugs of tags to add to and to remove from each screenshot; with `whole`, all other tags are removed."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    whole: bool = False

    why = f"would have more than {MOST_TAGS} tags"

    def spoils(self, rows: QuerySet[Any]) -> Q:
        """Return the condition of the `rows` that would have too many tags; it is trivial where no tag is added."""
        room = MOST_TAGS - len(self.added)
        if room < 0:
            return Q(pk__isnull=False)
        if self.whole or not self.added:
            return Q(pk__in=[])
        others: Any = _tagged(rows).exclude(tag__in=_tags(self.added | self.removed)).values("screenshot")
        full = others.annotate(number=Count("pk")).filter(number__gt=room)
        return Q(pk__in=full.values("screenshot"))

    def taken_off(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the pairs of screenshot and tag that the `rows` are to lose."""
        if self.whole:
            return _tagged(rows).exclude(tag__in=_tags(self.added))
        return _tagged(rows).filter(tag__in=_tags(self.removed))


@dataclass(frozen=True, slots=True)
class Changes:
    """The values that all rows get (`values`, by field), those computed for each row, and the changes of its tags."""

    values: Mapping[str, Any] = field(default_factory=dict)
    formulas: Mapping[str, Formula] = field(default_factory=dict)
    tagging: Tagging | None = None


# --- Looking --------------------------------------------------------------------------------------------------


def inspect(*, rows: QuerySet[Any], actor: Any, changes: Changes | None = None) -> int:
    """Return how many `rows` there are. One statement, beside those of the model's constraints, and of tags on SQLite.

    Raises `ForbiddenRowsError`, `SpoiltRowsError` or, on SQLite, `TooManyTagsError` where the operation has to be
    refused, and Django's `ValidationError` for a value that the model does not accept.
    """
    changes = changes or Changes()
    _validate(rows.model, changes.values)
    spoilers = _spoilers(rows, changes)
    spoilt = {f"spoilt_{name}": Count("pk", filter=condition) for name, (condition, _) in spoilers.items()}
    permitted = Count("pk", filter=changeable(model=rows.model, actor=actor))
    found = rows.order_by().aggregate(total=Count("pk"), permitted=permitted, **spoilt)
    if found["total"] > found["permitted"]:
        raise ForbiddenRowsError(found["total"] - found["permitted"])
    for name, (_, why) in spoilers.items():
        if found[f"spoilt_{name}"]:
            raise SpoiltRowsError(name, found[f"spoilt_{name}"], why)
    if changes.tagging is not None and connections[rows.db].vendor == "sqlite":
        bound(found["total"] * len(changes.tagging.added) + changes.tagging.taken_off(rows).count())
    return int(found["total"])


def _spoilers(rows: QuerySet[Any], changes: Changes) -> dict[str, tuple[Any, str]]:
    """Return, by field, the condition of the `rows` that would have what they cannot have, and what that is."""
    spoilers = {name: (formula.spoils(name), formula.why) for name, formula in changes.formulas.items()}
    if changes.tagging is not None:
        spoilers["tags"] = changes.tagging.spoils(rows), changes.tagging.why
    if rows.model is Gallery and changes.values.get("visibility") == Visibility.PRIVATE:
        nobodys = Q(owner__isnull=True) & ~Q(visibility=Visibility.PRIVATE)
        spoilers["visibility"] = nobodys, "have no owner, who alone would see what is private"
    return spoilers


def bound(pairs: int) -> None:
    """Raise `TooManyTagsError` where `pairs` is more than one operation may add and remove."""
    if pairs > MOST_PAIRS:
        raise TooManyTagsError(pairs)


def _validate(model: type[Model], values: Mapping[str, Any]) -> None:
    """Raise Django's `ValidationError` where validators or constraints of the model refuse these values."""
    others = {each.name for each in model._meta.fields if each.name not in values or each.is_relation}
    sample = model(**values)
    sample.clean_fields(exclude=others)
    sample.validate_constraints(exclude=others)


# --- Writing --------------------------------------------------------------------------------------------------


@transaction.atomic
def update(
    *, rows: QuerySet[Any], actor: Any, changes: Changes, most: int, record: BulkOperation
) -> BulkOperation:
    """Change `rows` by one UPDATE, and one statement each for tags added and removed; return the record.

    Raises what `inspect` raises, `TooManyRowsError`, and Django's `IntegrityError` or `DataError` where a formula would
    spoil a row that was changed concurrently.
    """
    _refuse(inspect(rows=rows, actor=actor, changes=changes), most)
    permitted = rows.filter(changeable(model=rows.model, actor=actor))
    if changes.tagging is None:
        if connections[rows.db].vendor == "postgresql":  # in one order: an UPDATE locks in its plan's
            lock(permitted)
        changed = _set(permitted, changes)
    else:
        with hold(permitted) as selection:
            if selection.count:  # otherwise a tag would be made that nothing has
                _tag(selection, changes.tagging)
            changed = _set(selection.rows, changes)
    _refuse(changed, most)
    return recorded(record, BulkOperation.Kind.UPDATE, changed)


@transaction.atomic
def delete(*, rows: QuerySet[Any], actor: Any, most: int, record: BulkOperation) -> BulkOperation:
    """Delete `rows` with what hangs on them, by one statement for each table; return the record.

    Raises `ForbiddenRowsError` and `TooManyRowsError`.
    """
    _refuse(inspect(rows=rows, actor=actor), most)
    with hold(rows.filter(changeable(model=rows.model, actor=actor))) as selection:
        _refuse(selection.count, most)
        cascades.delete(selection.rows)
    return recorded(record, BulkOperation.Kind.DELETE, selection.count)


@transaction.atomic
def delete_tags(*, tags: Iterable[Tag], record: BulkOperation) -> BulkOperation:
    """Delete tags one by one, as each needs its tombstone before it is deleted; return the record."""
    gone = list(tags)
    for tag in gone:
        delete_tag(tag=tag)
    return recorded(record, BulkOperation.Kind.DELETE, len(gone))


def _refuse(count: int, most: int) -> None:
    if count > most:
        raise TooManyRowsError(count, most)


def recorded(record: BulkOperation, kind: BulkOperation.Kind, count: int) -> BulkOperation:
    """Save and return the record of an operation on `count` rows, in the operation's transaction."""
    record.kind = kind
    record.count = count
    record.save(force_insert=True)
    return record


def _set(rows: QuerySet[Any], changes: Changes) -> int:
    """Change the columns, and return of how many rows. A screenshot that leaves a gallery is no longer its cover."""
    computed = {name: formula.value(name) for name, formula in changes.formulas.items()}
    dated = {"updated_at": timezone.now()} if hasattr(rows.model, "updated_at") else {}
    changed = rows.order_by().update(**changes.values, **computed, **dated)
    if rows.model is Screenshot and "gallery" in changes.values:
        gallery = changes.values["gallery"]
        Gallery.objects.filter(cover__gallery=gallery).exclude(pk=gallery.pk).update(cover=None)
    return changed


def _tag(selection: Selection, tagging: Tagging) -> None:
    """Remove tags and add tags: one DELETE, one INSERT. Nobody else changes the tags of rows that are held."""
    count = selection.rows.filter(tagging.spoils(selection.rows)).count()
    if count:
        raise SpoiltRowsError("tags", count, tagging.why)
    if tagging.whole or tagging.removed:
        going = tagging.taken_off(selection.rows)
        going._raw_delete(going.db)
    if tagging.added:
        _put_on(selection, [tag.pk for tag in tags_named(slugs=tagging.added)])


def _tagged(rows: QuerySet[Any]) -> QuerySet[Any]:
    return TAGGED._base_manager.filter(screenshot__in=rows.order_by().values("pk"))


def _tags(slugs: Collection[str]) -> QuerySet[Tag, Any]:
    return Tag.objects.filter(slug__in=slugs).order_by().values("pk")


def _put_on(selection: Selection, tags: Sequence[int]) -> None:
    """Add all tags. One that is deleted concurrently fails the COMMIT, where a join would silently leave it out."""
    named = " UNION ALL ".join(["SELECT %s AS id"] * len(tags))
    with connections[selection.using].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TAGGED._meta.db_table} (screenshot_id, tag_id) SELECT held.id, tag.id "  # noqa: S608 - names
            f'FROM "{selection.table}" held CROSS JOIN ({named}) tag WHERE true ON CONFLICT DO NOTHING',
            tags,
        )


# --- Making ---------------------------------------------------------------------------------------------------


@transaction.atomic
def create_screenshots(
    *, items: Sequence[Mapping[str, Any]], record: BulkOperation
) -> tuple[list[Screenshot], BulkOperation]:
    """Create screenshots without pictures, as `create_screenshot` does; return them in order, and the record.

    Raises `TooManyTagsError`.
    """
    bound(sum(len(set(item.get("tags", ()))) for item in items))
    named = {
        tag.slug: tag for tag in tags_named(slugs={slug for item in items for slug in item.get("tags", ())})
    }
    made = [_screenshot(**item) for item in items]
    Screenshot.objects.bulk_create(made, batch_size=BATCH)
    tagged = (
        TAGGED(screenshot_id=shot.pk, tag_id=named[slug].pk)
        for shot, item in zip(made, items, strict=True)
        for slug in set(item.get("tags", ()))
    )
    TAGGED._base_manager.bulk_create(tagged, batch_size=BATCH)
    return made, recorded(record, BulkOperation.Kind.CREATE, len(made))


def _screenshot(*, source_url: str, tags: Collection[str] = (), **fields: Any) -> Screenshot:
    domain = domain_of(source_url)
    return Screenshot(source_url=source_url, domain=domain, state=State.PENDING, **fields)


@transaction.atomic
def create_galleries(
    *, owner: Any, items: Iterable[Mapping[str, Any]], record: BulkOperation
) -> tuple[list[Gallery], BulkOperation]:
    """Create galleries of `owner`; return them in order, and the record.

    Raises Django's `IntegrityError` for a slug that is taken.
    """
    made = Gallery.objects.bulk_create([Gallery(owner=owner, **item) for item in items], batch_size=BATCH)
    return made, recorded(record, BulkOperation.Kind.CREATE, len(made))
