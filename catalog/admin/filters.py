"""Filters of the admin's lists with too many values to list: a value is searched for, or typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from catalog.admin.choosing import RowSelect, is_id
from catalog.models import Orientation, Screenshot

__all__ = ["OrientationFilter", "SearchedFilter", "TypedFilter"]


class NamedForm(forms.Form):
    """A form with one field, `value`, that is sent as the parameter `name`."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        self.name = name

    def add_prefix(self, field_name: str) -> str:
        return self.name


class EnteredFilter(admin.FieldListFilter):
    """A filter with a form that sends one value, with the list's other filters, and a link that removes it."""

    template = "catalog/admin/entered_filter.html"
    parameter = "{}"

    def expected_parameters(self) -> list[str | None]:
        return [self.name]

    @property
    def name(self) -> str:
        """The parameter's name in the query string."""
        return self.parameter.format(self.field_path)

    @property
    def value(self) -> str:
        """The value to filter by; "" for none."""
        given = self.used_parameters.get(self.name, "")
        return str(given[-1] if isinstance(given, list) else given)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the filtered rows; all rows, where the form was sent empty."""
        filtered = super().queryset(request, queryset) if self.value else None
        return queryset if filtered is None else filtered

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yield the form, and the query string of the list without this filter."""
        others = {name: values for name, values in changelist.filter_params.items() if name != self.name}
        yield {
            "field": self.form["value"],
            "kept": [(name, value) for name, values in others.items() for value in values],
            "query_string": changelist.get_query_string(remove=[self.name]),
            "selected": bool(self.value),
        }

    @property
    def form(self) -> forms.Form:
        """The form, with the present value."""
        form = NamedForm(self.name, initial={"value": self.value})
        form.fields["value"] = self.entry()
        form.fields["value"].widget.attrs["aria-label"] = str(self.title)
        return form

    def entry(self) -> forms.Field:
        """Return the field in which the value is entered."""
        raise NotImplementedError


class TypedFilter(EnteredFilter):
    """A filter by a complete value, which is typed."""

    def entry(self) -> forms.Field:
        return forms.CharField(required=False)


class SearchedFilter(EnteredFilter):
    """A filter by a related row, which is found by the search of its own list."""

    parameter = "{}__id__exact"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value and not is_id(self.value):
            raise IncorrectLookupParameters
        return super().queryset(request, queryset)

    def entry(self) -> forms.Field:
        related: Any = self.field
        rows = related.remote_field.model._default_manager.all()
        return forms.ModelChoiceField(rows, widget=self._widget(self.field), required=False)

    @classmethod
    def media_of(cls, field: Any) -> forms.Media:
        """Return the scripts and styles that the filter of `field` needs on the page."""
        return cls._widget(field).media

    @staticmethod
    def _widget(field: Any) -> RowSelect:
        return RowSelect(field, admin.site, attrs={"data-width": "100%"})


class OrientationFilter(admin.SimpleListFilter):
    """The three orientations; Django would read the choices from every row."""

    title = "orientation"
    parameter_name = "orientation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in Orientation.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Screenshot]) -> QuerySet[Screenshot]:
        return queryset.filter(orientation=self.value()) if self.value() else queryset
