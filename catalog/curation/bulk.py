"""What people do to many rows at once: to all of them or to none, by statements whose number does not grow with theirs.

Every function is given the rows of a list as its reader sees them and says no before it writes, where one of them is
not the actor's to change, where a formula would spoil one, or where there are more than was allowed. What happens
meanwhile does not get past that: only rows that the actor may change are written, and their number is looked at again
before COMMIT. The record of the operation is written in the same transaction.
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
from catalog.models import LARGEST, MOST_TAGS, BulkOperation, Gallery, Screenshot, State, Tag, domain_of
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
    "create_galleries",
    "create_screenshots",
    "delete",
    "delete_tags",
    "inspect",
    "recorded",
    "update",
]

BATCH = 500
"""Rows of an INSERT. A row has some thirty values, and SQLite takes 32,766 in a statement."""
MOST_PAIRS = 20_000
"""Tags that are put on and taken off at once, of all screenshots: for each, SQLite's triggers look at all that its
screenshot has by then, while nobody else writes. With 100 for each of a thousand that took longer than others wait.
PostgreSQL's look once a statement; there the tags of new screenshots alone are bounded, which all come into Python."""
WHITESPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What `str.strip` takes away, and so the API of a single title: databases trim blanks alone."""
TAGGED = Screenshot.tags.through


class ForbiddenRowsError(PermissionError):
    """`count` of the rows are not the actor's to change."""

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
    """By what is asked for the field `name`, `count` of the rows would have a value that it cannot have."""

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
        """Return the condition of the rows that would come out wrong."""
        return Q(**{f"{name}__lt": -self.number}) | Q(**{f"{name}__gt": LARGEST - self.number})


@dataclass(frozen=True, slots=True)
class Replaced:
    """A text, each occurrence of which gives place to another in a field of at most `longest` characters."""

    old: str
    new: str
    longest: int

    @property
    def why(self) -> str:
        return f"would have an empty text, or one of more than {self.longest} characters"

    def value(self, name: str) -> Any:
        """Return the expression of the new value: NULL, which the column refuses, where that would be wrong.

        Rows were looked at before, and somebody may have renamed one since.
        """
        wrong = When(self.spoils(name), then=Value(None))
        return Case(wrong, default=self._replaced(name), output_field=TextField())

    def _replaced(self, name: str) -> Any:
        return Replace(F(name), Value(self.old), Value(self.new))

    def spoils(self, name: str) -> Any:
        """Return the condition of the rows that would come out wrong."""
        value = self._replaced(name)
        rest = Func(value, Value(WHITESPACE), function="TRIM", output_field=TextField())
        return Q(GreaterThan(Length(value), self.longest)) | Q(Exact(Length(rest), 0))


Formula = Added | Replaced


@dataclass(frozen=True, slots=True)
class Tagging:
    """Tags, by their slugs, that each screenshot is to have, and such that none is to have; `whole`: and no others."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    whole: bool = False

    why = f"would have more than {MOST_TAGS} tags"

    def spoils(self, rows: QuerySet[Any]) -> Q:
        """Return the condition of the `rows` that would have too many. Nothing is asked where no tag is added."""
        room = MOST_TAGS - len(self.added)
        if room < 0:
            return Q(pk__isnull=False)
        if self.whole or not self.added:
            return Q(pk__in=[])
        others: Any = _tagged(rows).exclude(tag__in=_tags(self.added | self.removed)).values("screenshot")
        full = others.annotate(number=Count("pk")).filter(number__gt=room)
        return Q(pk__in=full.values("screenshot"))

    def taken_off(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the tags that the `rows` are to lose, by pairs."""
        if self.whole:
            return _tagged(rows).exclude(tag__in=_tags(self.added))
        return _tagged(rows).filter(tag__in=_tags(self.removed))


@dataclass(frozen=True, slots=True)
class Changes:
    """What all rows are to be alike in (`values`, by field), what of each is computed, and what becomes of its tags."""

    values: Mapping[str, Any] = field(default_factory=dict)
    formulas: Mapping[str, Formula] = field(default_factory=dict)
    tagging: Tagging | None = None


# --- Looking --------------------------------------------------------------------------------------------------


def inspect(*, rows: QuerySet[Any], actor: Any, changes: Changes | None = None) -> int:
    """Return how many `rows` there are; one statement, but for what the model's constraints ask, and tags on SQLite.

    Raises `ForbiddenRowsError`, `SpoiltRowsError` or, on SQLite, `TooManyTagsError` where the operation has to be
    refused whole, and Django's `ValidationError` for a value that the model does not accept.
    """
    changes = changes or Changes()
    _validate(rows.model, changes.values)
    spoilers = {name: (formula.spoils(name), formula.why) for name, formula in changes.formulas.items()}
    if changes.tagging is not None:
        spoilers["tags"] = changes.tagging.spoils(rows), changes.tagging.why
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


def bound(pairs: int) -> None:
    """Raise `TooManyTagsError` for more tags in all than one operation may be about."""
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
    """Change `rows`, by one UPDATE, and one statement each for tags that are added and removed; return the record.

    Raises what `inspect` does, `TooManyRowsError`, and Django's `IntegrityError` or `DataError` where a formula would
    spoil a row that somebody has changed meanwhile.
    """
    _refuse(inspect(rows=rows, actor=actor, changes=changes), most)
    permitted = rows.filter(changeable(model=rows.model, actor=actor))
    if changes.tagging is None:
        if connections[rows.db].vendor == "postgresql":  # an UPDATE locks by its plan, and others by theirs
            lock(permitted)
        changed = _set(permitted, changes)
    else:
        with hold(permitted) as selection:
            if selection.count:  # else a word would be made that nothing has
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
    """Delete tags one by one, for whether one was to be seen is noted before it goes; return the record."""
    gone = list(tags)
    for tag in gone:
        delete_tag(tag=tag)
    return recorded(record, BulkOperation.Kind.DELETE, len(gone))


def _refuse(count: int, most: int) -> None:
    if count > most:
        raise TooManyRowsError(count, most)


def recorded(record: BulkOperation, kind: BulkOperation.Kind, count: int) -> BulkOperation:
    """Save the record of what was done to `count` rows, in the transaction that does it."""
    record.kind = kind
    record.count = count
    record.save(force_insert=True)
    return record


def _set(rows: QuerySet[Any], changes: Changes) -> int:
    """Change the columns, and say of how many rows. A screenshot that leaves a gallery is its cover no longer."""
    computed = {name: formula.value(name) for name, formula in changes.formulas.items()}
    dated = {"updated_at": timezone.now()} if hasattr(rows.model, "updated_at") else {}
    changed = rows.order_by().update(**changes.values, **computed, **dated)
    if rows.model is Screenshot and "gallery" in changes.values:
        gallery = changes.values["gallery"]
        Gallery.objects.filter(cover__gallery=gallery).exclude(pk=gallery.pk).update(cover=None)
    return changed


def _tag(selection: Selection, tagging: Tagging) -> None:
    """Take tags off and put tags on: one DELETE, one INSERT. Of rows that are held nobody else changes the tags."""
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
    """Put on all of them: one that is deleted meanwhile is missed at COMMIT, where a join would leave it out."""
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
    """Make screenshots of which there are no pictures yet, as `create_screenshot` makes one; return them in order.

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
    """Make galleries of `owner`'s; return them in order. Raises Django's `IntegrityError` for a slug that is taken."""
    made = Gallery.objects.bulk_create([Gallery(owner=owner, **item) for item in items], batch_size=BATCH)
    return made, recorded(record, BulkOperation.Kind.CREATE, len(made))
