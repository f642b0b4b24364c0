"""What a gallery, a screenshot, a rendition and a tag are, and who may see them.

Visibility is decided here alone: `listed_for` selects what appears in lists and counts, `reachable_by` what
can be fetched by a client that knows the gallery's slug.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import idna
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import (
    MaxLengthValidator,
    MaxValueValidator,
    MinValueValidator,
    RegexValidator,
    URLValidator,
)
from django.db import models
from django.db.models import Case, Count, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from catalog.indexes import SelectiveIndex
from keybits.addresses import address

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    Viewer = AbstractBaseUser | AnonymousUser | None


class _PageValidator(URLValidator):
    """Takes what everybody may be shown: a page by http or https, without a user or a password."""

    def __call__(self, value: str | None) -> None:
        super().__call__(value)
        if "@" in urlsplit(str(value)).netloc:
            raise ValidationError("Leave user and password out of the URL: everybody is shown it.")


page_url = _PageValidator(schemes=["http", "https"], message="Write the URL of a page, by http or https.")
hex_color = RegexValidator(r"^#[0-9a-f]{6}\Z", "Write a colour as # and six lower-case hexadecimal digits.")
hex_digest = RegexValidator(r"^[0-9a-f]{64}\Z", "Write 64 lower-case hexadecimal digits.")

LONGEST_AGE = 31_536_000
"""One year in seconds; nothing is gained by a longer max-age."""
LARGEST = 2**31 - 1
"""The largest value of an integer column on PostgreSQL. SQLite would accept more."""
LONGEST_ID = 18
"""Most digits of an id in an address: any such number fits into 64 bits."""
LONGEST_DESCRIPTION = 5_000
"""Characters. It is bounded because a list may repeat its gallery's description with each row."""
MOST_TAGS = 100
"""Most tags that one screenshot may have, and that a request may name at once."""
FILE_EXTENSIONS = {"webp": "webp", "jpeg": "jpg"}


class Visibility(models.TextChoices):
    PUBLIC = "public", "Public: listed for everybody"
    UNLISTED = "unlisted", "Unlisted: for those who know its address"
    PRIVATE = "private", "Private: for its owner"


class Orientation(models.TextChoices):
    LANDSCAPE = "landscape", "Landscape"
    PORTRAIT = "portrait", "Portrait"
    SQUARE = "square", "Square"


class State(models.TextChoices):
    PENDING = "pending", "Pending"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"


class ColorScheme(models.TextChoices):
    LIGHT = "light", "Light"
    DARK = "dark", "Dark"
    NO_PREFERENCE = "no-preference", "No preference"


def _owned_by(viewer: Viewer, path: str) -> Q:
    """Return the condition that `viewer` owns the row at `path`, the lookup prefix of a gallery ("" for the row)."""
    if viewer is None or not viewer.is_authenticated:
        return Q()
    return Q(**{f"{path}owner": viewer.pk})


def _is_listed(viewer: Viewer, path: str = "") -> Q:
    """Return the condition of what `viewer` sees in lists; `path` leads to the row that says so, as for `_owned_by`."""
    return Q(**{f"{path}visibility": Visibility.PUBLIC}) | _owned_by(viewer, path)


def _is_reachable(viewer: Viewer, path: str = "") -> Q:
    """Return the condition of what `viewer` can fetch at its own address, also where no list shows it."""
    return ~Q(**{f"{path}visibility": Visibility.PRIVATE}) | _owned_by(viewer, path)


class GalleryQuerySet(models.QuerySet["Gallery"]):
    def listed_for(self, viewer: Viewer) -> GalleryQuerySet:
        """Select public galleries, and the viewer's own."""
        return self.filter(_is_listed(viewer))

    def reachable_by(self, viewer: Viewer) -> GalleryQuerySet:
        """Select what can be fetched at its own address: public, unlisted, and the viewer's own."""
        return self.filter(_is_reachable(viewer))

    def counted(self) -> GalleryQuerySet:
        """Annotate each gallery with the number of its screenshots, as `screenshot_count`."""
        inside = Screenshot.objects.filter(gallery=OuterRef("pk")).order_by().values("gallery")
        number = Subquery(inside.annotate(n=Count("pk")).values("n"), output_field=models.IntegerField())
        return self.annotate(screenshot_count=Coalesce(number, 0))


class ScreenshotQuerySet(models.QuerySet["Screenshot"]):
    def listed_for(self, viewer: Viewer) -> ScreenshotQuerySet:
        """Select screenshots of public galleries, and of the viewer's own."""
        return self.filter(_is_listed(viewer, "gallery__"))

    def reachable_by(self, viewer: Viewer) -> ScreenshotQuerySet:
        """Select screenshots of galleries that the viewer can reach by their slug."""
        return self.filter(_is_reachable(viewer, "gallery__"))


class TagQuerySet(models.QuerySet["Tag"]):
    def listed_for(self, viewer: Viewer) -> TagQuerySet:
        """Select the tags of screenshots that the viewer may see in lists, and those that are offered.

        A word that only private galleries use is seen only by their owners, and by nobody once they use it no longer.
        That private galleries use an offered tag does not show.
        """
        return self.filter(_seen_by(viewer) | Q(offered=True))

    def hidden_from(self, viewer: Viewer) -> TagQuerySet:
        """Select all other tags: for the viewer they do not exist."""
        return self.filter(~_seen_by(viewer), offered=False)


def _seen_by(viewer: Viewer) -> models.Exists:
    listed = Gallery.objects.listed_for(viewer).filter(pk=models.OuterRef("screenshot__gallery"))
    return models.Exists(_tagged().filter(models.Exists(listed)))


def _tagged() -> models.QuerySet[Any]:
    """Return the pairs of screenshot and tag, for each row of an outer query over tags."""
    return Screenshot.tags.through.objects.filter(tag=models.OuterRef("pk"))


class Gallery(models.Model):
    """A titled, ordered set of screenshots; the unit of visibility and ownership."""

    slug = models.SlugField(max_length=100, unique=True)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True, validators=[MaxLengthValidator(LONGEST_DESCRIPTION)])
    cover = models.ForeignKey(
        "Screenshot", on_delete=models.SET_NULL, null=True, blank=True, related_name="covers"
    )
    visibility = models.CharField(max_length=8, choices=Visibility, default=Visibility.PUBLIC)
    position = models.PositiveIntegerField(default=0, validators=[MaxValueValidator(LARGEST)])
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="galleries"
    )
    max_age = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(LONGEST_AGE)],
        help_text="Seconds for which browsers may show this gallery without asking. Empty: as the API does.",
    )
    edge_max_age = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(LONGEST_AGE)],
        help_text="Seconds for which a cache that is told of changes may hold it. Empty: as the API does.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = GalleryQuerySet.as_manager()

    class Meta:
        ordering = ["position", "id"]
        verbose_name_plural = "galleries"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(visibility__in=Visibility.values), name="gallery_visibility_known"
            ),
            models.CheckConstraint(condition=~Q(slug=""), name="gallery_slug_not_empty"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["position", "id"], name="gallery_by_position"),
            models.Index(fields=["title", "id"], name="gallery_by_title"),
            models.Index(fields=["-created_at", "-id"], name="gallery_by_creation"),
            models.Index(fields=["-updated_at", "-id"], name="gallery_by_update"),
        ]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        """Raise `ValidationError` for a cover from another gallery: it could show what that gallery hides."""
        if self.cover is not None and self.cover.gallery_id != self.pk:
            raise ValidationError({"cover": "Choose a screenshot of this gallery."})


class Tag(models.Model):
    """A word that screenshots share: what they show, their colour scheme, or their device."""

    class Kind(models.TextChoices):
        TOPIC = "topic", "Topic"
        SCHEME = "scheme", "Colour scheme"
        DEVICE = "device", "Device"

    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=6, choices=Kind, default=Kind.TOPIC)
    offered = models.BooleanField(
        default=True,
        db_default=True,
        help_text="Listed while no screenshot has it. A word that came with one is not: it may have been private.",
    )

    objects = TagQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(slug=""), name="tag_slug_not_empty"),
            models.CheckConstraint(
                condition=Q(kind__in=["topic", "scheme", "device"]), name="tag_kind_known"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["name", "id"], name="tag_by_name")]

    def __str__(self) -> str:
        return self.name


class Screenshot(models.Model):
    """One picture of one page, with where it came from and how it was taken.

    `width` and `height` are pixels of the original picture; `viewport_*` are CSS pixels.
    `captured_at` is when the picture was taken; until it is taken, when it was requested.
    """

    # Five indexes begin with this column.
    gallery = models.ForeignKey(Gallery, on_delete=models.CASCADE, related_name="screenshots", db_index=False)
    position = models.PositiveIntegerField(default=0, validators=[MaxValueValidator(LARGEST)])
    title = models.CharField(max_length=200)
    alt = models.CharField(max_length=500, blank=True)
    source_url = models.URLField(max_length=2000)
    final_url = models.URLField(max_length=2000, blank=True)
    domain = models.CharField(max_length=253, blank=True, editable=False)
    page_title = models.CharField(max_length=500, blank=True)
    viewport_width = models.PositiveIntegerField(default=1280, validators=[MinValueValidator(1)])
    viewport_height = models.PositiveIntegerField(default=800, validators=[MinValueValidator(1)])
    device_pixel_ratio = models.FloatField(
        default=1.0, validators=[MinValueValidator(0.1), MaxValueValidator(10)]
    )
    full_page = models.BooleanField(default=False)
    color_scheme = models.CharField(max_length=13, choices=ColorScheme, default=ColorScheme.LIGHT)
    http_status = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(100), MaxValueValidator(599)]
    )
    state = models.CharField(max_length=7, choices=State, default=State.READY)
    error_code = models.CharField(max_length=50, blank=True)
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    orientation = models.GeneratedField(
        expression=Case(
            When(Q(width=0) | Q(height=0), then=Value("")),
            When(width__gt=F("height"), then=Value("landscape")),
            When(width__lt=F("height"), then=Value("portrait")),
            default=Value("square"),
        ),
        output_field=models.CharField(max_length=9, choices=Orientation),
        db_persist=True,
    )
    dominant_color = models.CharField(max_length=7, blank=True, validators=[hex_color])
    accent_color = models.CharField(max_length=7, blank=True, validators=[hex_color])
    placeholder = models.CharField(max_length=64, blank=True, help_text="A thumbhash in base64.")
    sha256 = models.CharField(max_length=64, blank=True, validators=[hex_digest])
    dhash256 = models.CharField(max_length=64, blank=True, validators=[hex_digest])
    metadata = models.JSONField(default=dict, blank=True)
    captured_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    tags = models.ManyToManyField(Tag, blank=True, related_name="screenshots")

    objects = ScreenshotQuerySet.as_manager()

    class Meta:
        ordering = ["-captured_at", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(state__in=State.values), name="screenshot_state_known"),
            models.CheckConstraint(
                condition=Q(color_scheme__in=ColorScheme.values), name="screenshot_color_scheme_known"
            ),
            models.CheckConstraint(
                condition=Q(viewport_width__gte=1, viewport_height__gte=1),
                name="screenshot_viewport_not_empty",
            ),
            models.CheckConstraint(
                condition=Q(http_status__isnull=True) | Q(http_status__gte=100, http_status__lte=599),
                name="screenshot_http_status_possible",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["gallery", "position", "id"], name="screenshot_by_gallery_position"),
            models.Index(fields=["gallery", "-captured_at", "-id"], name="screenshot_by_gallery_capture"),
            models.Index(fields=["gallery", "-created_at", "-id"], name="screenshot_by_gallery_creation"),
            models.Index(fields=["gallery", "-updated_at", "-id"], name="screenshot_by_gallery_update"),
            models.Index(fields=["gallery", "title", "id"], name="screenshot_by_gallery_title"),
            models.Index(fields=["-captured_at", "-id"], name="screenshot_by_capture"),
            models.Index(fields=["-created_at", "-id"], name="screenshot_by_creation"),
            models.Index(fields=["-updated_at", "-id"], name="screenshot_by_update"),
            models.Index(fields=["title", "id"], name="screenshot_by_title"),
            models.Index(fields=["domain", "-captured_at", "-id"], name="screenshot_by_domain"),
            SelectiveIndex(  # nearly all are ready, and found by the index of captures
                fields=["state", "-captured_at", "-id"],
                condition=~Q(state="ready"),
                name="screenshot_by_state",
            ),
            models.Index(fields=["orientation", "-captured_at", "-id"], name="screenshot_by_orientation"),
            models.Index(fields=["width"], name="screenshot_by_width"),
            models.Index(fields=["height"], name="screenshot_by_height"),
        ]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with `domain` set from the page that was pictured."""
        self.domain = domain_of(self.final_url or self.source_url)
        fields = kwargs.get("update_fields")
        if fields is not None and {"source_url", "final_url"} & set(fields):
            kwargs["update_fields"] = {*fields, "domain"}
        super().save(*args, **kwargs)


class Rendition(models.Model):
    """One encoding of one screenshot at one width; its bytes live at an address made of their sha256."""

    class Format(models.TextChoices):
        WEBP = "webp", "WebP"
        JPEG = "jpeg", "JPEG"

    # A unique index begins with this column.
    screenshot = models.ForeignKey(
        Screenshot, on_delete=models.CASCADE, related_name="renditions", db_index=False
    )
    width = models.PositiveIntegerField(default=0)
    height = models.PositiveIntegerField(default=0)
    format = models.CharField(max_length=4, choices=Format, default=Format.WEBP)
    bytes = models.PositiveIntegerField(default=0, help_text="Length of the encoded picture, in bytes.")
    sha256 = models.CharField(max_length=64, blank=True, validators=[hex_digest])

    class Meta:
        ordering = ["width", "format", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["screenshot", "width", "format"], name="rendition_once"),
            models.CheckConstraint(condition=Q(format__in=["webp", "jpeg"]), name="rendition_format_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["sha256"], name="rendition_by_sha256")]

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.format}"

    @property
    def address(self) -> str:
        """The path at which the bytes are served; made of their sha256, so the same for ever and on every host."""
        return address("file", name=f"{self.sha256}.{FILE_EXTENSIONS[self.format]}")


class BulkOperation(models.Model):
    """The record of one bulk operation, written in its transaction: who did what to which list, when, to how many rows.

    `query` is the list's filters in canonical form, `changes` the requested changes, `key` the prefix of the API key.
    `username` stays when the user is deleted.
    """

    class Kind(models.TextChoices):
        CREATE = "create", "Create"
        UPDATE = "update", "Update"
        DELETE = "delete", "Delete"

    kind = models.CharField(max_length=6, choices=Kind)
    at = models.DateTimeField(auto_now_add=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    username = models.CharField(max_length=150)
    key = models.CharField(max_length=64, blank=True)
    path = models.CharField(max_length=500)
    query = models.TextField(blank=True)
    changes = models.JSONField(default=dict, blank=True)
    count = models.PositiveIntegerField(help_text="How many rows it made, changed or deleted.")

    class Meta:
        ordering = ["-at", "-id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind__in=["create", "update", "delete"]), name="bulk_operation_kind_known"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["-at", "-id"], name="bulk_operation_by_time")]

    def __str__(self) -> str:
        return f"{self.kind} {self.path}: {self.count}"


class TombstoneQuerySet(models.QuerySet["Tombstone"]):
    def listed_for(self, viewer: Viewer) -> TombstoneQuerySet:
        """Select tombstones of what was public, and of what the viewer owned."""
        return self.filter(_is_listed(viewer))

    def reachable_by(self, viewer: Viewer) -> TombstoneQuerySet:
        """Select tombstones of what could be fetched at its own address: public, unlisted, and the viewer's own."""
        return self.filter(_is_reachable(viewer))

    def standing(self) -> TombstoneQuerySet:
        """Select tombstones of the last `TOMBSTONE_DAYS` days."""
        return self.filter(deleted_at__gt=self._end())

    def of(self, kind: Tombstone.Kind, name: str, alive: models.QuerySet[Any]) -> TombstoneQuerySet:
        """Select tombstones of this kind and name, unless a row of `alive` has the name again."""
        named = "pk" if kind == Tombstone.Kind.SCREENSHOT else "slug"
        return self.filter(~models.Exists(alive.filter(**{named: name})), kind=kind, name=name)

    def fallen(self) -> TombstoneQuerySet:
        """Select tombstones that are older than `TOMBSTONE_DAYS` days."""
        return self.filter(deleted_at__lte=self._end())

    @staticmethod
    def _end() -> datetime:
        return timezone.now() - timedelta(days=settings.TOMBSTONE_DAYS)


class Tombstone(models.Model):
    """The record that a gallery, a screenshot or a tag existed, and who could see it when it was deleted.

    `catalog.tombstones` writes them, mostly by triggers. One name may have several: each counts for as long as it
    stands, for those who could see what it is of, whatever had the name since.
    """

    class Kind(models.TextChoices):
        GALLERY = "gallery", "Gallery"
        SCREENSHOT = "screenshot", "Screenshot"
        TAG = "tag", "Tag"

    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=100, help_text="A slug, or of a screenshot its id.")
    gallery = models.CharField(max_length=100, blank=True, help_text="The slug of a screenshot's gallery.")
    visibility = models.CharField(max_length=8, choices=Visibility)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, db_constraint=False, related_name="+"
    )
    deleted_at = models.DateTimeField(db_index=True)

    objects = TombstoneQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["kind", "name"], name="tombstone_by_name")]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def domain_of(url: str) -> str:
    """Return the canonical host of `url`, without port or user; "" if it has none."""
    try:
        return canonical_host(urlsplit(url).hostname or "")[:253]
    except ValueError:
        return ""


def canonical_host(name: str) -> str:
    """Return the name by which browsers show a host: lower case, in ASCII (UTS #46), without the root's dot.

    Idempotent. An invalid host name is only converted to lower case.
    """
    canonical = name.lower().rstrip(".")
    if not canonical.isascii():
        with suppress(UnicodeError):
            canonical = idna.encode(canonical, uts46=True).decode("ascii")
    return canonical.rstrip(".")
