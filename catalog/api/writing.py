"""What a client may set of each resource: what people curate, and nothing that a capture measures.

These serializers validate bodies and pass them to `catalog.curation`. `catalog.api.serializers` decides how the result
is represented.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import models
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.settings import api_settings

from catalog.api.typed import ChoiceField, IntegerField, SlugField, TextField, URLField
from catalog.curation.galleries import change_gallery, create_gallery
from catalog.curation.ownership import may_change
from catalog.curation.screenshots import change_screenshot, create_screenshot
from catalog.curation.slugs import SlugTakenError
from catalog.curation.tags import change_tag, create_tag
from catalog.models import MOST_TAGS, Gallery, Screenshot, Tag
from keybits.drf import ClosedMembersMixin
from keybits.drf.creation import AlreadyExistsError
from keybits.drf.members import MOST_NAMED

__all__ = [
    "BoundedListField",
    "GalleryCreateSerializer",
    "GalleryWriteSerializer",
    "ReachableGalleryField",
    "ScreenshotCreateSerializer",
    "ScreenshotWriteSerializer",
    "TagCreateSerializer",
    "TagWriteSerializer",
    "WriteSerializer",
]


class WriteSerializer(ClosedMembersMixin, serializers.ModelSerializer[Any]):
    """Refuses members that cannot be set. What can be set only at creation is added by a subclass."""

    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        models.CharField: TextField,
        models.TextField: TextField,
        models.PositiveIntegerField: IntegerField,
    }
    serializer_choice_field = ChoiceField


class ReachableGalleryField(serializers.SlugRelatedField[Gallery]):
    """A gallery by its slug; the client must be able to see it and allowed to change it."""

    default_error_messages = {"invalid": "Write the slug of a gallery: a JSON string, in quotes."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(slug_field="slug", queryset=Gallery.objects.all(), **kwargs)

    def get_queryset(self) -> QuerySet[Gallery]:
        return Gallery.objects.reachable_by(self.context["request"].user)

    def to_internal_value(self, data: Any) -> Gallery:
        if not isinstance(data, str) or "\x00" in data:
            self.fail("invalid")
        gallery: Gallery = super().to_internal_value(data)
        if may_change(self.context["request"].user, gallery):
            return gallery
        if settings.CURATION_HIDES:
            self.fail("does_not_exist", slug_name="slug", value=data)
        raise PermissionDenied("You may not change that gallery.")


class BoundedListField(serializers.ListField):
    """A list whose length is validated before its items, so that refusing a long one is cheap.

    A refusal names the first dozen items that are wrong, and counts the rest.
    """

    default_error_messages = {"not_a_list": "Write a JSON array, in brackets."}

    def run_child_validation(self, data: Any) -> Any:
        self.run_validators(data)
        try:
            return super().run_child_validation(data)
        except ValidationError as error:
            raise ValidationError(_first(error.detail)) from None


def _first(errors: Any) -> dict[Any, Any]:
    told = dict(islice(errors.items(), MOST_NAMED))
    if len(errors) > MOST_NAMED:
        told[api_settings.NON_FIELD_ERRORS_KEY] = [f"{len(errors) - MOST_NAMED} more cannot be used."]
    return told


class ScreenshotWriteSerializer(WriteSerializer):
    """What can be set of a screenshot. Unknown slugs in `tags` become tags."""

    gallery = ReachableGalleryField()
    tags = BoundedListField(
        child=SlugField(max_length=100),
        max_length=MOST_TAGS,
        required=False,
        help_text="Slugs, the whole set; new ones become tags.",
    )

    class Meta:
        model = Screenshot
        fields = ["gallery", "title", "alt", "position", "tags"]

    def update(self, instance: Screenshot, validated_data: dict[str, Any]) -> Screenshot:
        return change_screenshot(screenshot=instance, **validated_data)


class ScreenshotCreateSerializer(ScreenshotWriteSerializer):
    """A new screenshot. In a gallery's own list `gallery` can be left out."""

    gallery = ReachableGalleryField(required=False)
    source_url = URLField(
        max_length=2000,
        help_text="The page that is to be pictured, by http or https. It stays as it is.",
    )

    class Meta(ScreenshotWriteSerializer.Meta):
        fields = [*ScreenshotWriteSerializer.Meta.fields, "source_url"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        parent: Gallery | None = self.context.get("gallery")
        gallery = attrs.get("gallery", parent)
        if gallery is None:
            raise ValidationError({"gallery": ["Give the slug of the screenshot's gallery."]})
        if parent is not None and gallery != parent:
            told = f"The address names the gallery {parent.slug!r}: give the same one, or none."
            raise ValidationError({"gallery": [told]})
        return {**attrs, "gallery": gallery}

    def create(self, validated_data: dict[str, Any]) -> Screenshot:
        return create_screenshot(**validated_data)


class OwnScreenshotField(serializers.PrimaryKeyRelatedField[Screenshot]):
    """A screenshot of the gallery that is written, by its id. Any other, hidden or missing, does not exist for it."""

    default_error_messages = {
        "incorrect_type": "Write the id of a screenshot of this gallery, without quotes, or null.",
        "does_not_exist": "This gallery has no screenshot with the id {pk_value}.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(queryset=Screenshot.objects.all(), **kwargs)

    def get_queryset(self) -> QuerySet[Screenshot]:
        gallery: Gallery | None = getattr(self.parent, "instance", None)
        return Screenshot.objects.filter(gallery=gallery and gallery.pk)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Validate `data`; refuse an empty text, which REST framework would take for null."""
        return super().run_validation(data) if data != "" else self.to_internal_value(data)

    def to_internal_value(self, data: Any) -> Screenshot:
        if type(data) is not int:  # `int` would accept 83.5 and " 083"
            self.fail("incorrect_type")
        screenshot: Screenshot = super().to_internal_value(data)  # type: ignore[arg-type]
        return screenshot


class GalleryWriteSerializer(WriteSerializer):
    """What can be set of a gallery. `cover` is the id of a screenshot that is in it."""

    cover = OwnScreenshotField(allow_null=True, required=False)

    class Meta:
        model = Gallery
        fields = ["title", "description", "visibility", "position", "cover", "max_age", "edge_max_age"]

    def update(self, instance: Gallery, validated_data: dict[str, Any]) -> Gallery:
        try:
            return change_gallery(gallery=instance, **validated_data)
        except ModelValidationError as error:
            raise ValidationError(error.message_dict) from None


class GalleryCreateSerializer(GalleryWriteSerializer):
    """A new gallery, which is empty and so has no cover. Its slug is part of its address, and cannot be changed."""

    slug = SlugField(max_length=100)
    cover = None  # type: ignore[assignment]  # REST framework's way to leave out a field

    class Meta(GalleryWriteSerializer.Meta):
        fields = ["slug", *(name for name in GalleryWriteSerializer.Meta.fields if name != "cover")]

    def create(self, validated_data: dict[str, Any]) -> Gallery:
        try:
            return create_gallery(**validated_data)
        except SlugTakenError as error:
            raise AlreadyExistsError(str(error)) from None


class TagWriteSerializer(WriteSerializer):
    """What can be set of a tag."""

    title = TextField(source="name", max_length=100)

    class Meta:
        model = Tag
        fields = ["title", "kind"]

    def update(self, instance: Tag, validated_data: dict[str, Any]) -> Tag:
        return change_tag(tag=instance, **validated_data)


class TagCreateSerializer(TagWriteSerializer):
    """A new tag, named after its slug without a `title`. Its slug is part of its address, and cannot be changed."""

    slug = SlugField(max_length=100)
    title = TextField(source="name", max_length=100, required=False)

    class Meta(TagWriteSerializer.Meta):
        fields = ["slug", *TagWriteSerializer.Meta.fields]

    def create(self, validated_data: dict[str, Any]) -> Tag:
        try:
            return create_tag(actor=self.context["request"].user, **validated_data)
        except SlugTakenError as error:
            raise AlreadyExistsError(str(error)) from None
