"""What is compiled gives the bytes of the serializer, and what is not known to is not compiled."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import SimpleNamespace
from unittest import mock
from zoneinfo import ZoneInfo

import orjson
import pytest
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import Count, JSONField, Prefetch, Value
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from django.db.models.functions import NullIf, TruncHour
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_init
from django.test import RequestFactory
from django.test.utils import isolate_apps
from rest_framework import generics, pagination, serializers, viewsets

from catalog.models import Gallery, Rendition, Screenshot, Tag
from keybits.drf import ProjectedListMixin, lists, reads
from keybits.drf.projection import Projection
from keybits.drf.rows import Layout, Reads, UndeclaredReadError, referred

pytestmark = pytest.mark.django_db


class Prefixes(DeferredAttribute):
    """Gives keys with a prefix."""

    def __get__(self, instance, owner=None):
        return f"tag-{vars(instance)['id']}"

    def __set__(self, instance, value):
        vars(instance)["id"] = value


class PrefixedField(models.AutoField):
    descriptor_class = Prefixes


class Kind(Enum):
    TOPIC = "topic"


class KindField(models.CharField):
    def from_db_value(self, value, *_):
        return Kind(value)


class Fallen(ForwardManyToOneDescriptor):
    """Gives the row that the key refers to, or another one."""

    def __get__(self, instance, cls=None):
        return super().__get__(instance, cls) or self.field.related_model.objects.first()


class FallenKey(models.ForeignKey):
    forward_related_accessor_class = Fallen


class Offered(models.Manager):
    """Gives what is offered; all, if it is told so."""

    def __init__(self, everything=False):
        super().__init__()
        self.everything = everything

    def get_queryset(self):
        return super().get_queryset().filter(**{} if self.everything else {"offered": True})


class Asked(models.Manager):
    """Gives what is asked for at the moment, as a manager does that knows who asks."""

    only_whole = False

    def get_queryset(self):
        found = super().get_queryset()
        return found.filter(full_page=True) if Asked.only_whole else found


def serializer(of, /, *names, **members):
    """Make a serializer of `of` that shows these fields."""
    meta = type("Meta", (), {"model": of, "fields": list(names)})
    return type("TheSerializer", (serializers.ModelSerializer,), {"Meta": meta, **members})


with isolate_apps("catalog"):

    class Named(models.Model):
        """A tag, whose fields are called as stand-ins might call something of their own."""

        values = models.SlugField(db_column="slug", unique=True)
        layout = models.CharField(max_length=100, db_column="name")
        model = models.CharField(max_length=6, db_column="kind")

        class Meta:
            app_label = "catalog"
            db_table = "catalog_tag"
            managed = False

        def __str__(self):
            return self.model

    class Standing(Gallery):
        """A gallery by another name."""

        class Meta:
            app_label = "catalog"
            proxy = True

    class Base(models.Model):
        """What is made from a tag's table."""

        slug = models.SlugField()

        class Meta:
            abstract = True
            app_label = "catalog"
            db_table = "catalog_tag"
            managed = False

        def __str__(self):
            return self.slug

    class Pair(Base):
        pk = models.CompositePrimaryKey("slug", "kind")
        kind = models.CharField(max_length=6)

    class Prefixed(Base):
        id = PrefixedField(primary_key=True)

    class Trimmed(Base):
        def __setattr__(self, name, value):
            super().__setattr__(name, value.strip() if isinstance(value, str) else value)

    class Decoded(Base):
        @classmethod
        def from_db(cls, db, field_names, values):
            made = super().from_db(db, field_names, values)
            made.slug = made.slug.upper()
            return made

    class Prepared(Base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.slug = self.slug.upper()

    class Told(Base):
        def __getattribute__(self, name):
            return "told" if name == "slug" else super().__getattribute__(name)

    class Spoken(Base):
        def __repr__(self):
            return f"spoken {self.slug}"

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            return f"{name} of {self.slug}"

    class Enumerated(Base):
        kind = KindField(max_length=6, choices=[("topic", "Topic"), ("scheme", "Scheme")])

    class Falsy(Base):
        def __bool__(self):
            return False

    class Filed(Base):
        file = models.FileField(db_column="name")

        class Meta(Base.Meta):
            ordering = ["file"]

    class Hidden(Base):
        objects = Offered()

        class Meta(Base.Meta):
            base_manager_name = "objects"

    class Other(Base):
        other = models.AutoField(primary_key=True)

    class Both(Named, Other):
        class Meta(Base.Meta):
            pass

    class Shot(Base):
        loose = models.ForeignKey(Named, models.DO_NOTHING, db_constraint=False, related_name="+")
        kept = models.ForeignKey(Hidden, models.CASCADE, related_name="+")
        other = models.ForeignKey(Other, models.CASCADE, related_name="shots")
        by_slug = models.ForeignKey(Named, models.CASCADE, to_field="values", related_name="shots")
        fallen = FallenKey(Named, models.CASCADE, null=True, related_name="+")
        only = models.OneToOneField(Named, models.CASCADE, related_name="only_shot")

    class Note(Base):
        of_kind = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
        of_id = models.IntegerField()
        of = GenericForeignKey("of_kind", "of_id")

    class Noted(Base):
        notes = GenericRelation(Note, "of_id", "of_kind")

    class Part(Base):
        named = models.ForeignKey(Named, models.CASCADE, related_name="parts")
        objects = Offered(True)

    class Album(Base):
        class Meta(Base.Meta):
            db_table = "catalog_gallery"

    class Shown(models.Model):
        """What is made from a screenshot's table."""

        title = models.CharField(max_length=200)

        class Meta:
            abstract = True
            app_label = "catalog"
            db_table = "catalog_screenshot"
            managed = False

        def __str__(self):
            return self.title

    class Picture(Shown):
        album = models.ForeignKey(Album, models.CASCADE, db_column="gallery_id", related_name="pictures")
        full_page = models.BooleanField()
        objects = Asked()

    class Titled(Shown):
        album = models.ForeignKey(Album, models.CASCADE, db_column="gallery_id", related_name="titled")

        class Meta(Shown.Meta):
            ordering = [NullIf("title", Value("猫")).asc(nulls_first=True), "id"]


@pytest.fixture
def shots():
    """Three screenshots: one with everything, one with next to nothing, one that is odd."""
    owner = User.objects.create_user("owner")
    gallery = Gallery.objects.create(slug="one", title="One", owner=owner)
    other = Gallery.objects.create(slug="other", title="Other", max_age=5)
    full = Screenshot.objects.create(
        gallery=gallery,
        title="Full",
        source_url="https://one.example/",
        http_status=200,
        full_page=True,
        device_pixel_ratio=1.1,
        metadata={"a": [1, None, 1e-300, {"é": "\u2028"}], "big": 2**53},
        captured_at=datetime(2026, 1, 1, 12, 30, 0, 5, tzinfo=UTC),
    )
    Screenshot.objects.create(gallery=other, title="Bare", source_url="", metadata=Value(None, JSONField()))
    odd = Screenshot.objects.create(
        gallery=other, title="猫", source_url="", metadata=[], device_pixel_ratio=1e-300
    )
    Gallery.objects.filter(pk=gallery.pk).update(cover=full)
    for slug in ("b", "a"):
        full.tags.add(Tag.objects.create(slug=slug, name=slug.upper()))
    for width in (3, 1, 2):
        Rendition.objects.create(screenshot=full, width=width, sha256="f" * 64)
    odd.tags.add(Tag.objects.get(slug="a"))
    return Screenshot.objects.order_by("id")


def view_of(cls, queryset, **members):
    """Make a view that lists `queryset` by the serializer `cls`, with a request."""
    own = {
        "queryset": queryset,
        "serializer_class": cls,
        "pagination_class": None,
        "filter_backends": [],
        "asked": None,
    }
    kind = type("TheView", (ProjectedListMixin, viewsets.ReadOnlyModelViewSet), own | members)
    view = kind(detail=False, action_map={"get": "list"}, kwargs={}, format_kwarg=None)
    view.request = view.initialize_request(RequestFactory().get("/", members.get("asked")))
    return view


def listed(view):
    """Return the bytes of the list, and whether they come from a projection."""
    response = view.list(view.request)
    return orjson.dumps(response.data), isinstance(lists.explain(view), Projection)


def by_serializer(cls, queryset):
    """Return the bytes as REST framework alone makes them."""
    return orjson.dumps(cls(queryset, many=True).data)


def assert_compiled(cls, queryset, **members):
    """See that the list is compiled, and has the serializer's bytes."""
    view = view_of(cls, queryset, **members)
    assert lists.explain(view) == lists.explain(view), "it is compiled once"
    body, compiled = listed(view)
    assert compiled, lists.explain(view)
    assert body == by_serializer(cls, queryset)


def assert_refused(cls, queryset, why, **members):
    """See that the list is made by the serializer, for the reason given."""
    view = view_of(cls, queryset, **members)
    assert why in str(lists.explain(view))
    body, compiled = listed(view)
    assert not compiled
    assert body == by_serializer(cls, queryset)


class TestFields:
    def test_every_kind_of_column(self, shots):
        names = [
            "id",
            "pk",
            "title",
            "http_status",
            "full_page",
            "device_pixel_ratio",
            "metadata",
            "captured_at",
        ]
        assert_compiled(serializer(Screenshot, *names, "state", "color_scheme", "source_url"), shots)

    @pytest.mark.parametrize("written", [None, "iso-8601", "%d %B %Y"])
    def test_how_dates_are_written(self, shots, written):
        own = serializers.DateTimeField(format=written)
        assert_compiled(serializer(Screenshot, "captured_at", captured_at=own), shots)

    def test_dates_in_a_zone_of_their_own(self, shots):
        own = serializers.DateTimeField(default_timezone=ZoneInfo("Asia/Kathmandu"))
        assert_compiled(serializer(Screenshot, "captured_at", captured_at=own), shots)

    def test_dates_that_come_in_another_zone(self, shots):
        hour = TruncHour("captured_at", tzinfo=ZoneInfo("Asia/Kathmandu"))
        cls = serializer(Screenshot, "hour", hour=serializers.DateTimeField())
        assert_compiled(cls, shots.annotate(hour=hour))

    def test_other_names_and_ways(self, shots):
        members = {
            "heading": serializers.CharField(source="title"),
            "of": serializers.CharField(source="gallery.slug"),
            "age": serializers.IntegerField(source="gallery.max_age"),
            "choice": serializers.ChoiceField(source="title", choices=[("Full", "x"), (1, "y")]),
            "same": serializers.ChoiceField(source="title", choices=["Full", "Bare", "1"]),
            "text": serializers.CharField(source="http_status"),
        }
        Screenshot.objects.filter(title="Bare").update(title="1")
        assert_compiled(serializer(Screenshot, *members, **members), shots)

    def test_foreign_keys_are_shown_by_key_and_by_slug(self, shots):
        members = {
            "gallery": serializers.SlugRelatedField(slug_field="slug", read_only=True),
            "key": serializers.PrimaryKeyRelatedField(source="gallery", read_only=True),
        }
        assert_compiled(serializer(Screenshot, "gallery", "key", **members), shots)
        names = {"cover": serializers.SlugRelatedField(slug_field="title", read_only=True)}
        galleries = Gallery.objects.order_by("id")
        assert_compiled(serializer(Gallery, "slug", "cover", **names), galleries)
        assert_compiled(serializer(Gallery, "slug", "cover", "owner"), galleries)

    def test_annotations_of_the_queryset_are_shown(self, shots):
        own = {"twice": serializers.IntegerField(), "plain": serializers.ReadOnlyField()}
        queryset = shots.annotate(twice=Value(2), plain=Value("x"))
        assert_compiled(serializer(Screenshot, "id", *own, **own), queryset)

    def test_serializers_within(self, shots):
        tag = serializer(Tag, "slug", "name")
        owner = serializer(User, "username")
        members = {"owner": owner(), "named": owner(source="owner")}
        gallery = serializer(Gallery, "slug", "owner", "named", "max_age", **members)
        shot = {
            "gallery": gallery(),
            "tags": tag(many=True),
            "renditions": serializer(Rendition, "width")(many=True),
        }
        assert_compiled(serializer(Screenshot, "id", *shot, **shot), shots)
        cover = serializer(Screenshot, "title", "gallery", gallery=serializer(Gallery, "slug")())
        for order in ("id", "-id"):
            assert_compiled(
                serializer(Gallery, "slug", "cover", cover=cover()), Gallery.objects.order_by(order)
            )

    def test_a_relation_shows_what_its_manager_gives_at_the_moment(self, shots, monkeypatch):
        albums = Album.objects.order_by("id")
        pictures = serializer(Picture, "id")(many=True)
        cls = serializer(Album, "pictures", pictures=pictures)
        assert_compiled(cls, albums)
        monkeypatch.setattr(Asked, "only_whole", True)
        body, compiled = listed(view_of(cls, albums))
        assert compiled
        assert json.loads(body) == [{"pictures": [{"id": shots[0].pk}]}, {"pictures": []}]

    def test_a_relation_is_in_the_order_of_its_model_by_whatever_expression(self, shots):
        titled = serializer(Titled, "id")(many=True)
        cls = serializer(Album, "titled", titled=titled)
        assert_compiled(cls, Album.objects.order_by("id"))
        assert json.loads(listed(view_of(cls, Album.objects.order_by("-id")))[0])[0] == {
            "titled": [{"id": shots[2].pk}, {"id": shots[1].pk}]
        }

    def test_values_that_a_database_has_in_its_own_way(self, shots):
        shot = serializer(Screenshot, "captured_at", "metadata", "full_page")
        cls = serializer(Gallery, "slug", "screenshots", screenshots=shot(many=True))
        assert_compiled(cls, Gallery.objects.order_by("id"))

    def test_what_computes_and_says_what_it_reads(self, shots):
        @reads("title", "gallery__title", "tags__slug", "renditions__screenshot_id")
        def get_text(self, shot):
            return f"{shot} {shot.gallery.title} {[tag.slug for tag in shot.tags.all()]} {len(shot.renditions.all())}"

        members = {"text": serializers.SerializerMethodField(), "get_text": get_text}
        assert_compiled(serializer(Screenshot, "id", "text", **members), shots)

    def test_property_of_the_model(self, shots):
        @reads("sha256", "format")
        def get_url(self, rendition):
            return rendition.address

        members = {"url": serializers.SerializerMethodField(), "get_url": get_url}
        assert_compiled(serializer(Rendition, "url", **members), Rendition.objects.all())

    def test_place_of_the_serializer(self, shots):
        @reads()
        def get_text(self, shot):
            return [type(self.parent).__name__, type(self.root).__name__, self.parent.parent is None]

        members = {"text": serializers.SerializerMethodField(), "get_text": get_text}
        cls = serializer(Screenshot, "text", **members)
        assert_compiled(cls, shots)
        assert_compiled(serializer(Gallery, "cover", cover=cls()), Gallery.objects.order_by("id"))

    def test_no_rows_and_no_fields(self, shots):
        assert_compiled(serializer(Screenshot, "id"), shots.none())
        assert_compiled(serializer(Screenshot), shots)


class Naive(serializers.DateTimeField):
    def enforce_timezone(self, value):
        return value.replace(tzinfo=None)


class ZoneLess(serializers.DateTimeField):
    timezone = None


class ZoneLessByDefault(serializers.DateTimeField):
    def default_timezone(self):
        return None


class Title(serializers.Field):
    """A field of a project's own, that makes pages."""

    reads = ("title",)

    def __init__(self):
        super().__init__(source="*", read_only=True)

    def to_representation(self, value):
        return value.title

    def of_columns(self, titles):
        return list(titles)


class LoudTitle(Title):
    def to_representation(self, value):
        return super().to_representation(value).upper()


class GalleryTitle(Title):
    reads = ("gallery",)

    def to_representation(self, value):
        return value.gallery.title

    def of_columns(self, galleries):
        return [gallery.title for gallery in galleries]


class TestFieldsThatAreNearlyStock:
    @pytest.mark.parametrize("kind", [Naive, ZoneLess, ZoneLessByDefault])
    def test_dates_without_a_zone(self, shots, kind):
        assert_compiled(serializer(Screenshot, "captured_at", captured_at=kind()), shots)

    def test_page_is_made_by_the_newer_method(self, shots):
        assert_compiled(serializer(Screenshot, "text", text=Title()), shots)
        assert_compiled(serializer(Screenshot, "text", text=LoudTitle()), shots)

    def test_relation_is_no_column(self, shots):
        assert_refused(serializer(Screenshot, "text", text=GalleryTitle()), shots, "gallery is not a column")

    def test_choices_of_what_is_no_text(self, shots):
        shown = serializer(Enumerated, "kind")
        assert_compiled(shown, Enumerated.objects.all())
        assert by_serializer(shown, Enumerated.objects.all()[:1]) == b'[{"kind":"topic"}]'

    @pytest.mark.parametrize("source", ["gallery__slug", "gallery__slug.x"])
    def test_lookup_is_no_source(self, shots, source):
        own = {"text": serializers.CharField(source=source, default="none")}
        assert_refused(serializer(Screenshot, "text", **own), shots, "in its source")


class TestModels:
    @pytest.mark.parametrize(
        ("of", "name", "shown", "why"),
        [
            (Pair, "slug", None, "the primary key is not a plain column"),
            (Prefixed, "slug", None, "the primary key is not a plain column"),
            (Trimmed, "slug", None, "customizes how its instances are made"),
            (Decoded, "slug", None, "customizes how its instances are made"),
            (Prepared, "slug", None, "customizes how its instances are made"),
            (Told, "slug", None, "customizes how its instances are made"),
            (Falsy, "slug", None, "has operators of its own: __bool__"),
            (Shot, "loose", serializers.SlugRelatedField("slug", read_only=True), "may lead to no instance"),
            (Shot, "loose", serializer(Hidden, "slug")(), "may lead to no instance"),
            (Shot, "kept", serializers.SlugRelatedField("slug", read_only=True), "may lead to no instance"),
            (
                Shot,
                "fallen",
                serializers.SlugRelatedField("values", read_only=True),
                "may lead to no instance",
            ),
            (Shot, "slug", serializers.CharField(source="kept.slug"), "may lead to no instance"),
            (Both, "shots", serializer(Shot, "id")(many=True), "belongs to a parent"),
            (Named, "parts", serializer(Part, "id")(many=True), "a manager with arguments"),
            (Shot, "by_slug", serializer(Named, "id")(), "by_slug is not a foreign key to a primary key"),
            (Named, "shots", serializer(Shot, "id")(many=True), "by_slug does not refer to a primary key"),
            (Noted, "notes", serializer(Note, "id")(many=True), "notes is not a to-many relation"),
            (Part, "id", serializer(Named, "id")(), "id is not a foreign key to a primary key"),
            (Part, "named", serializer(Named, "id")(many=True), "named is not a to-many relation"),
            (Part, "text", serializer(Named, "id")(many=True), "text is not a to-many relation"),
            (Part, "named", serializer(Tag, "slug")(), "is for another model than the relation's"),
            (Part, "text", serializer(Named, "id")(source="named.x"), "text has a source of several steps"),
        ],
    )
    def test_that_columns_would_show_in_another_way(self, of, name, shown, why):
        members = {name: shown} if shown else {}
        assert why in str(lists.explain(view_of(serializer(of, name, **members), of._default_manager.all())))

    def test_that_refer_to_one_row_each_are_as_those_that_refer_to_any(self):
        own = {"only": serializers.SlugRelatedField("values", read_only=True)}
        view = view_of(serializer(Shot, "only", **own), Shot._default_manager.all())
        assert isinstance(lists.explain(view), Projection)

    def test_that_one_row_of_another_refers_to_have_no_columns_for_it(self):
        @reads("only_shot__slug")
        def get_text(self, named):
            return named.only_shot.slug

        cls = serializer(Named, "text", text=serializers.SerializerMethodField(), get_text=get_text)
        view = view_of(cls, Named.objects.all())
        assert "only_shot is not a foreign key to a primary key" in str(lists.explain(view))

    def test_order_by_what_is_no_plain_column(self, shots):
        queryset = Filed.objects.all()
        assert_compiled(serializer(Filed, "slug"), queryset)
        assert_compiled(serializer(Filed, "slug"), queryset.order_by("-file", "slug"))

    @pytest.mark.parametrize("name", ["values", "layout", "model"])
    def test_fields_of_any_name(self, shots, name):
        assert_compiled(serializer(Named, "id", name), Named.objects.order_by("id"))


class Shouting(serializers.CharField):
    def to_representation(self, value):
        return super().to_representation(value).upper()


class Elsewhere(serializers.CharField):
    def get_attribute(self, instance):
        return instance.title * 2


class OwnList(serializers.ListSerializer):
    def to_representation(self, data):
        return super().to_representation(data)[:1]


class Chosen(serializers.ModelSerializer):
    class Meta:
        model = Screenshot
        fields = ["id", "title"]

    def get_fields(self):
        return {
            name: field for name, field in super().get_fields().items() if name != self.context.get("without")
        }


class TestRefusals:
    @pytest.mark.parametrize("field", [Shouting(), Elsewhere(), serializers.HyperlinkedIdentityField("x")])
    def test_field_of_ones_own(self, shots, field):
        cls = serializer(Screenshot, "title", title=field)
        assert "title" in str(lists.explain(view_of(cls, shots)))

    def test_field_of_ones_own_is_shown_as_it_shows(self, shots):
        assert_refused(
            serializer(Screenshot, "title", title=Shouting()),
            shots,
            "title makes its value in an unknown way",
        )
        assert_refused(serializer(Screenshot, "title", title=Elsewhere()), shots, "title has get_attribute")

    def test_method_that_does_not_say_what_it_reads(self, shots):
        members = {"text": serializers.SerializerMethodField(), "get_text": lambda self, shot: shot.title}
        assert_refused(serializer(Screenshot, "text", **members), shots, "does not say what it reads")

    def test_serializer_with_a_shape_of_its_own(self, shots):
        def to_representation(self, instance):
            return {"id": instance.pk}

        cls = serializer(Screenshot, "id", "title", to_representation=to_representation)
        assert_refused(cls, shots, "has to_representation of its own")

    def test_fields_chosen_by_who_knows_what(self, shots):
        assert_refused(Chosen, shots, "has get_fields of its own")
        within = serializer(Gallery, "screenshots", screenshots=Chosen(many=True))
        assert_refused(within, Gallery.objects.order_by("id"), "has get_fields of its own")

    @pytest.mark.parametrize(
        ("name", "answer"),
        [
            ("get_field_names", lambda stock: ["id"]),
            ("get_extra_kwargs", lambda stock: {"title": {"write_only": True}}),
            ("include_extra_kwargs", lambda stock: {"write_only": True}),
            ("build_field", lambda stock: (stock[0], {"write_only": True})),
            ("build_standard_field", lambda stock: (stock[0], {"write_only": True})),
        ],
    )
    def test_fields_that_a_step_on_the_way_chooses_by_the_request(self, shots, name, answer):
        def step(self, *args):
            stock = getattr(serializers.ModelSerializer, name)(self, *args)
            return answer(stock) if self.context["request"].query_params else stock

        cls = serializer(Screenshot, "title", **{name: step})
        for asked in ({}, {"few": "yes"}):
            view = view_of(cls, shots, asked=asked)
            wanted = cls(shots, many=True, context=view.get_serializer_context()).data
            assert listed(view) == (orjson.dumps(wanted), False)
            assert f"has {name} of its own" in lists.explain(view)

    def test_field_that_asks_for_the_request_when_it_is_bound(self, shots):
        class Optional(serializers.CharField):
            def bind(self, field_name, parent):
                super().bind(field_name, parent)
                self.write_only = "few" in self.context["request"].query_params

        cls = serializer(Screenshot, "id", "title", title=Optional())
        for asked in ({}, {"few": "yes"}):
            view = view_of(cls, shots, asked=asked)
            wanted = cls(shots, many=True, context=view.get_serializer_context()).data
            assert listed(view) == (orjson.dumps(wanted), False)

    def test_field_with_another_method_than_its_class(self, shots):
        class Changed(serializers.ModelSerializer):
            class Meta:
                model = Screenshot
                fields = ["title"]

            @classmethod
            def shape(cls, view):
                return None

            def get_fields(self):
                fields = super().get_fields()
                fields["title"].to_representation = str.upper
                return fields

        assert_refused(Changed, shots, "title has to_representation of its own")

    def test_list_of_its_own(self, shots):
        cls = serializer(Screenshot, "id")
        cls.Meta.list_serializer_class = OwnList
        assert_refused(cls, shots, "has lists of its own")

    def test_property_that_does_not_say_what_it_reads(self, shots):
        own = {"address": serializers.ReadOnlyField()}
        assert_refused(
            serializer(Rendition, "address", **own), Rendition.objects.all(), "address is not a column"
        )

    def test_way_that_can_lead_nowhere(self, shots):
        own = {"who": serializers.CharField(source="owner.username", default="nobody")}
        assert_refused(serializer(Gallery, "who", **own), Gallery.objects.order_by("id"), "can be NULL")

    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("gallery__screenshots__title", "too much is read behind gallery"),
            ("gallery__weight", "too much is read behind gallery"),
            ("tags__screenshots__title", "too much is read of each of tags"),
            ("tags__weight", "too much is read of each of tags"),
        ],
    )
    def test_rows_or_annotations_of_what_rows_refer_to(self, shots, path, why):
        view = view_of(serializer(Screenshot, "id"), shots, projected=(path,))
        assert why in lists.explain(view)

    def test_relations_in_other_ways(self, shots):
        assert_refused(serializer(Screenshot, "tags"), shots, "tags")
        own = {"gallery": serializers.StringRelatedField()}
        assert_refused(serializer(Screenshot, "gallery", **own), shots, "gallery")

    def test_localized_numbers(self, shots):
        own = {"http_status": serializers.DecimalField(max_digits=5, decimal_places=1, localize=True)}
        assert_refused(
            serializer(Screenshot, "http_status", **own), shots.filter(http_status=200), "in an unknown way"
        )

    def test_attribute_that_is_not_the_columns_value(self, shots):
        class Loud(DeferredAttribute):
            def __get__(self, instance, cls=None):
                value = super().__get__(instance, cls)
                return value.upper() if isinstance(value, str) else value

        with mock.patch.object(Screenshot, "title", Loud(Screenshot._meta.get_field("title"))):
            assert_refused(serializer(Screenshot, "title"), shots, "title is not a plain column")

    @pytest.mark.parametrize("signal", [pre_init, post_init], ids=["before", "after"])
    def test_instances_that_are_not_made_as_usual(self, shots, signal):
        def shout(instance=None, **_):
            if instance is not None:
                instance.title = instance.title.upper()

        signal.connect(shout, sender=Screenshot)
        try:
            assert_refused(serializer(Screenshot, "title"), shots, "customizes how its instances are made")
        finally:
            signal.disconnect(shout, sender=Screenshot)

    def test_serializers_made_in_another_way(self, shots):
        def get_serializer(self, *args, **kwargs):
            return self.serializer_class(*args, **kwargs)

        cls = serializer(Screenshot, "id")
        assert_compiled(cls, shots)
        assert_refused(cls, shots, "overrides get_serializer", get_serializer=get_serializer)

    def test_what_is_no_model_serializer(self, shots):
        class Plain(serializers.Serializer):
            title = serializers.CharField()

        assert_refused(Plain, shots, "is no ModelSerializer")

    def test_list_method_of_ones_own(self, shots):
        class Behind:
            def list(self, request):
                return SimpleNamespace(data=["mine"])

        kind = type("TheView", (ProjectedListMixin, Behind, generics.GenericAPIView), {})
        view = kind()
        view.serializer_class, view.queryset = serializer(Screenshot, "id"), shots
        assert "list of its own" in lists.explain(view)
        assert view.list(None).data == ["mine"]


def by_sql():
    """Return all screenshots by a raw query."""
    return Screenshot.objects.raw("SELECT * FROM catalog_screenshot ORDER BY id")


class TestQuerysets:
    """What a queryset does that columns would not show: the serializer is asked for this page, and this page alone."""

    def querysets(self, shots):
        chosen = Prefetch("tags", queryset=Tag.objects.filter(slug="b"))
        return {
            "distinct": shots.distinct(),
            "grouped": shots.annotate(n=Count("tags")),
            "sliced": shots[:2],
            "combined": shots.order_by().union(shots.order_by()).order_by("id"),
            "extra": shots.extra(select={"one": "1"}),
            "chosen": shots.prefetch_related(chosen),
            "named": shots.prefetch_related(Prefetch("tags", queryset=Tag.objects.filter(slug="a"))),
        }

    @pytest.mark.parametrize(
        "name", ["distinct", "grouped", "sliced", "combined", "extra", "chosen", "named"]
    )
    def test_serializer_is_asked(self, shots, name, caplog):
        queryset = self.querysets(shots)[name]
        cls = serializer(Screenshot, "id", "title", "tags", tags=serializer(Tag, "slug")(many=True))
        with caplog.at_level(logging.WARNING):
            body, compiled = listed(view_of(cls, shots, get_queryset=lambda self: queryset))
        assert compiled, "the serializer could be"
        assert "by its serializer" in caplog.text
        assert body == by_serializer(cls, queryset)

    def test_instances_that_are_there_already(self, shots):
        def filter_queryset(self, queryset):
            for shot in queryset:
                shot.title = "Not saved"
            return queryset

        view = view_of(serializer(Screenshot, "title"), shots, filter_queryset=filter_queryset)
        assert listed(view)[0] == orjson.dumps([{"title": "Not saved"}] * 3)

    def test_more_tables(self, shots):
        cls = serializer(Screenshot, "id")
        queryset = shots.extra(tables=["catalog_tag"])
        assert_compiled(cls, shots)
        assert listed(view_of(cls, queryset))[0] == by_serializer(cls, queryset)

    def test_instance_that_is_known(self, shots):
        gallery = Gallery.objects.get(slug="other")
        gallery.title = "Not saved"
        cls = serializer(Screenshot, "text", text=serializers.CharField(source="gallery.title"))
        queryset = gallery.screenshots.all()
        assert listed(view_of(cls, shots, get_queryset=lambda self: queryset))[0] == by_serializer(
            cls, queryset
        )
        assert_compiled(serializer(Screenshot, "id"), queryset)

    @pytest.mark.parametrize("kind", [list, lambda shots: shots.model.objects, lambda shots: by_sql()])
    def test_what_is_no_queryset(self, shots, kind):
        """REST framework takes a list, a manager, and a raw query."""
        cls = serializer(Screenshot, "id")
        view = view_of(cls, shots, get_queryset=lambda self: kind(shots))
        assert listed(view)[0] == by_serializer(cls, kind(shots))

    def test_annotation_that_is_not_there(self, shots):
        own = {"plain": serializers.CharField(default="none")}
        cls = serializer(Screenshot, "plain", **own)
        assert listed(view_of(cls, shots))[0] == by_serializer(cls, shots)

    def test_rows_of_another_model(self, shots):
        cls = serializer(Group, "name")
        tags = Tag.objects.all()
        assert listed(view_of(cls, Group.objects.all(), get_queryset=lambda self: tags))[0] == by_serializer(
            cls, tags
        )

    def test_everything_that_does_not_change_what_is_shown(self, shots):
        cls = serializer(Screenshot, "id", "tags", tags=serializer(Tag, "slug")(many=True))
        for queryset in (
            shots.only("title"),
            shots.defer("id"),
            shots.select_related("gallery"),
            shots.reverse(),
        ):
            assert_compiled(cls, queryset.prefetch_related("tags", "renditions"))


class TestUndeclaredReads:
    def members(self, *paths):
        @reads(*paths)
        def get_text(self, shot):
            return shot.title if shot.http_status else "none"

        return {"text": serializers.SerializerMethodField(), "get_text": get_text}

    def test_serializer_is_asked_from_then_on(self, shots, caplog):
        cls = serializer(Screenshot, "text", **self.members("http_status"))
        view = view_of(cls, shots)
        assert isinstance(lists.explain(view), Projection)
        with caplog.at_level(logging.WARNING):
            body, compiled = listed(view)
        assert body == by_serializer(cls, shots)
        assert not compiled
        assert "declare it with @reads('title')" in lists.explain(view)
        assert "declare it with @reads('title')" in caplog.text

    def test_page_that_does_not_come_to_it_is_compiled(self, shots):
        assert_compiled(
            serializer(Screenshot, "text", **self.members("http_status")), shots.filter(http_status=None)
        )

    @pytest.mark.parametrize("ask", [lambda context: context.get("request") is not None, list, len, bool])
    def test_context_belongs_to_one_request(self, shots, ask):
        @reads("title")
        def get_text(self, shot):
            return f"{shot.title}{ask(self.context)}"

        members = {"text": serializers.SerializerMethodField(), "get_text": get_text}
        view = view_of(serializer(Screenshot, "text", **members), shots)
        body, compiled = listed(view)
        assert not compiled
        assert json.loads(body)[0] == {"text": f"Full{ask(view.get_serializer_context())}"}

    @pytest.mark.parametrize("asked", ["filter", "count", "exists", "first"])
    def test_relation_has_all_alone(self, shots, asked):
        @reads("tags__slug")
        def get_text(self, shot):
            return str(getattr(shot.tags, asked)())

        members = {"text": serializers.SerializerMethodField(), "get_text": get_text}
        cls = serializer(Screenshot, "text", **members)
        body, compiled = listed(view_of(cls, shots))
        assert not compiled
        assert body == by_serializer(cls, shots)


class Upper(property):
    """A property that does not give what its function returns."""

    def __get__(self, instance, owner=None):
        value = super().__get__(instance, owner)
        return value if instance is None else value.upper()


class TestStandIns:
    """What is asked of a stand-in itself has the instance's answer, or the serializer is asked."""

    @pytest.mark.parametrize(
        "tell",
        [
            repr,
            models.Model.__str__,
            lambda tag: type(tag).__name__,
            lambda tag: isinstance(tag, Tag) and isinstance(tag, models.Model),
            lambda tag: tag == Tag.objects.get(pk=tag.pk),
            lambda tag: setattr(tag, "name", "other") or tag.name,
            lambda tag: setattr(tag, "new", "other") or tag.new,
            lambda tag: tag.loud,
            lambda tag: vars(tag)["name"],
        ],
    )
    def test_is_what_an_instance_says(self, shots, tell):
        @reads("slug", "name")
        def get_text(self, tag):
            return tell(tag)

        cls = serializer(Tag, "text", text=serializers.SerializerMethodField(), get_text=get_text)
        with mock.patch.object(Tag, "loud", Upper(lambda tag: tag.slug), create=True):
            assert listed(view_of(cls, Tag.objects.all()))[0] == by_serializer(cls, Tag.objects.all())

    @pytest.mark.parametrize(
        "tell",
        [
            lambda tags: tags.all().count(),
            lambda tags: tags.all().exists(),
            lambda tags: tags.all().first().slug,
            lambda tags: tags.all().filter(slug="b").count(),
            lambda tags: tags.all()[:1].count(),
            lambda tags: list(tags.all()[:1].values_list("slug", flat=True)),
            lambda tags: [tag.slug for tag in tags.all().order_by("-slug")],
            lambda tags: str(tags.all()),
            lambda tags: [tag.slug for tag in tags.all()][::-1],
            lambda tags: serializer(Tag, "slug")(tags, many=True).data,
            lambda tags: serializer(Tag, "slug")(tags.all(), many=True).data,
        ],
    )
    def test_is_what_a_relation_says(self, shots, tell):
        @reads("tags__slug", "tags__name")
        def get_text(self, shot):
            return tell(shot.tags) if len(shot.tags.all()) > 1 else ""

        cls = serializer(Screenshot, "text", text=serializers.SerializerMethodField(), get_text=get_text)
        assert listed(view_of(cls, shots))[0] == by_serializer(cls, shots)

    def test_is_what_a_model_says_in_its_own_way(self, shots):
        @reads("slug")
        def get_text(self, tag):
            return repr(tag)

        @reads("slug")
        def get_more(self, tag):
            return tag.weight

        text, more = serializers.SerializerMethodField(), serializers.SerializerMethodField()
        tags = Spoken.objects.order_by("slug")
        assert_compiled(serializer(Spoken, "text", text=text, get_text=get_text), tags)
        cls = serializer(Spoken, "more", more=more, get_more=get_more)
        assert isinstance(lists.explain(view_of(cls, tags)), Projection)
        assert listed(view_of(cls, tags)) == (b'[{"more":"weight of a"},{"more":"weight of b"}]', False)


class TestRows:
    def rows(self, shots, *paths):
        view = view_of(serializer(Screenshot, "id"), shots, projected=paths)
        return list(lists.explain(view).over(shots))

    def test_rows_are_equal_as_instances_are(self, shots):
        one, two, three = self.rows(shots, "gallery__slug")
        assert one != two != three
        assert two.gallery == three.gallery
        assert one.gallery != two.gallery
        assert len({two.gallery, three.gallery}) == 1
        assert one != one.gallery
        assert one == self.rows(shots)[0]

    def test_rows_of_a_proxy_are_those_of_its_model(self, shots):
        gallery, proxy = Gallery.objects.earliest("id"), Standing.objects.earliest("id")
        rows = [
            Layout(Reads(each)).read(each.objects.filter(pk=gallery.pk))[0] for each in (Gallery, Standing)
        ]
        assert (rows[0] == rows[1]) == (gallery == proxy) == (len(set(rows)) == 1)

    def test_what_they_refer_to_is_found_once_of_rows_as_of_instances(self, shots):
        rows = self.rows(shots, "gallery__slug")
        for found in (referred(rows, "gallery"), referred(list(shots), "gallery")):
            assert [gallery.slug for gallery in found] == list(dict.fromkeys(r.gallery.slug for r in rows))
        galleries = list(Gallery.objects.order_by("id"))
        assert [cover and cover.title for cover in referred(galleries, "cover")] == ["Full", None]
        assert referred([], "gallery") == []

    def test_what_a_foreign_key_or_a_relation_leads_to_has_its_key_where_no_more_is_declared(self, shots):
        for row, shot in zip(self.rows(shots, "gallery", "tags"), shots, strict=True):
            assert row.gallery.pk == shot.gallery_id
            assert {tag.pk for tag in row.tags.all()} == {tag.pk for tag in shot.tags.all()}

    def test_of_a_relation_no_rows_are_read_but_those_of_the_page(self, shots):
        reads = Reads(Screenshot)
        reads.add("tags")
        keys = [shots[0].pk]
        assert list(Layout(reads).attached("tags").read(keys, "default")) == keys

    def test_only_what_was_declared(self, shots):
        row = self.rows(shots, "gallery__slug", "tags__slug")[0]
        assert (row.pk, row.id, row.gallery.slug) == (row.pk, row.pk, "one")
        for ask in (
            lambda: row.title,
            lambda: str(row),
            lambda: row.gallery.title,
            lambda: row.tags.filter,
            lambda: row.save,
            lambda: hasattr(row, "domain"),
        ):
            with pytest.raises(UndeclaredReadError):
                ask()

    def test_what_is_no_column_and_looked_for_by_python_alone_is_not_there(self, shots):
        """As on an instance: `format_html` and `copy` look for methods that few classes have."""
        row = self.rows(shots, "tags__slug")[0]
        assert not hasattr(row, "__html__")
        assert not hasattr(row.tags.all(), "__html__")

    def test_one_row_and_some_rows_of_a_relation(self, shots):
        tags = self.rows(shots, "tags__slug")[0].tags.all()
        assert (tags[0].slug, tags[-1].slug) == ("a", "b")
        assert tags[1:].count() == 1

    def test_views_of_one_serializer_read_what_each_declares(self, shots):
        cls = serializer(Screenshot, "id")
        for name in ("title", "alt"):
            row = next(iter(lists.explain(view_of(cls, shots, projected=(name,))).over(shots)))
            assert isinstance(getattr(row, name), str)

    def test_no_row_behind_an_empty_key(self, shots):
        galleries = Gallery.objects.order_by("id")
        view = view_of(serializer(Gallery, "id"), galleries, projected=("cover__title", "owner__username"))
        one, other = lists.explain(view).over(galleries)
        assert (one.cover.title, one.owner.username) == ("Full", "owner")
        assert (other.cover, other.owner) == (None, None)


class TestPages:
    """REST framework's own ways through a list, over rows that are no instances."""

    @pytest.mark.parametrize("asked", [{}, {"page": 2}, {"limit": 1, "offset": 1}])
    def test_stock_pagination(self, shots, asked):
        class Cursors(pagination.CursorPagination):
            ordering, page_size = ("-captured_at", "title"), 2

        class Pages(pagination.PageNumberPagination):
            page_size = 2

        way = Pages if "page" in asked else pagination.LimitOffsetPagination if asked else Cursors
        cls = serializer(Screenshot, "id")
        members = {"pagination_class": way, "asked": asked}
        ours, compiled = listed(view_of(cls, shots, **members))
        assert compiled
        view = view_of(cls, shots, **members)
        page = view.paginate_queryset(shots)
        assert ours == orjson.dumps(view.get_paginated_response(cls(page, many=True).data).data)

    def test_any_number_of_orders_takes_bounded_memory(self, shots, monkeypatch):
        monkeypatch.setattr("keybits.drf.projection.MOST_ORDERS", 2)
        made = Projection(serializer(Screenshot, "id")(many=True).child)
        first = list(made.over(shots.order_by("title")))
        for column in ("position", "width", "height", "captured_at"):
            ids = list(shots.order_by(column, "id").values_list("id", flat=True))
            rows = list(made.over(shots.order_by(column, "id")))
            assert [item["id"] for item in made.items(rows)] == ids
        assert len(made._layouts) <= 2
        assert made.items(first) == [{"id": row.id} for row in first]


def test_what_is_chosen_by_the_request_has_a_projection_each(shots):
    class Sparse(serializers.ModelSerializer):
        class Meta:
            model = Screenshot
            fields = ["id", "title"]

        @classmethod
        def shape(cls, view):
            return view.request.query_params.get("fields")

        def get_fields(self):
            wanted = self.context["request"].query_params.get("fields")
            return {name: field for name, field in super().get_fields().items() if name == wanted}

    for name in ("id", "title", "id"):
        body, compiled = listed(view_of(Sparse, shots, asked={"fields": name}))
        assert compiled
        assert [set(item) for item in json.loads(body)] == [{name}] * 3


def test_page_is_read_anew_each_time(shots):
    view = view_of(serializer(Screenshot, "title", "captured_at"), shots)
    first, _ = listed(view)
    Screenshot.objects.update(title="New", captured_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=1))
    assert listed(view)[0] != first
    assert listed(view)[0] == by_serializer(view.serializer_class, shots.all())
