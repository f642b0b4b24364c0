"""How a form detects that somebody else has changed its row: the values that it has shown come back with it.

Only edited fields are written, and a form that would undo somebody else's change is refused. It then shows the present
values beside what was entered, so that saving it again is a deliberate choice. The row is locked while it is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

from django import forms
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.http import HttpRequest

from catalog.admin.choosing import ChoosingAdmin, is_id

__all__ = ["NAME", "ShownAdmin", "ShownForm", "ShownMixin"]

NAME = "shown"
UNKNOWN = "The form does not say which values it had shown, so nothing was changed. Look again."


class ShownField(forms.Field):
    """A hidden field with the values that the form has shown, by field, as JSON.

    Its value is None where it was not sent, and an empty mapping where it cannot be parsed. It is always rendered with
    the present values.
    """

    widget = forms.HiddenInput

    def __init__(self) -> None:
        super().__init__(required=False)

    def to_python(self, value: Any) -> Mapping[str, Any] | None:
        if value is None:
            return None
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            return {}
        return read if isinstance(read, dict) else {}

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial

    def has_changed(self, initial: Any, data: Any) -> bool:
        return False


class ShownForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form that is refused where saving it would undo what somebody else has changed since it was shown."""

    shown = ShownField()
    _shown: Mapping[str, Any] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.present = {name: self._present(name) for name in self.fields if name != NAME}
        self.initial[NAME] = json.dumps(self.present)

    def clean(self) -> Any:
        cleaned = super().clean() or self.cleaned_data
        self._shown = cleaned.pop(NAME, None)
        if self.instance.pk is not None and self.has_changed():
            self._refuse(self._shown or {})
        return cleaned

    def is_overtaken(self) -> bool:
        """Return whether the row differs from what the form had shown."""
        return self._shown is not None and self._shown != self.present

    def _refuse(self, shown: Mapping[str, Any]) -> None:
        if not self._tells(shown):
            self.add_error(None, UNKNOWN)
            return
        for name in list(self._undone(shown)):
            told = f"Somebody else has changed this meanwhile. It is now: {self._told(name) or '(empty)'}."
            if self._is_edited(name, shown[name]):
                told += " What you have entered is not saved yet."
            else:
                self._show_present(name)
            self.add_error(name, told)

    def _tells(self, shown: Mapping[str, Any]) -> bool:
        """Return whether `shown` has a value for every field, of the same type as the present one."""
        return all(
            name in shown and (shown[name] is None or value is None or isinstance(value, type(shown[name])))
            for name, value in self.present.items()
        )

    def _undone(self, shown: Mapping[str, Any]) -> Iterator[str]:
        """Yield the fields that somebody else has changed since, and whose value saving would change."""
        entered = (name for name in self.changed_data if name in self.present)
        return (name for name in entered if shown[name] != self.present[name])

    def _is_edited(self, name: str, shown: Any) -> bool:
        """Return whether what was entered differs from what was shown. Browsers end lines by CRLF."""
        shown, entered = (
            value.replace("\r\n", "\n") if isinstance(value, str) else value
            for value in (shown, self[name].data)
        )
        return bool(self.fields[name].has_changed(shown, entered))

    def _present(self, name: str) -> Any:
        """Return the present value of a field, as passed to its widget."""
        field = self.fields[name]
        return field.prepare_value(self.get_initial_for_field(field, name))

    def _show_present(self, name: str) -> None:
        """Make the form show the present value of a field when it is shown again."""
        data: Any = copy(self.data)
        data[self.add_prefix(name)] = "" if self.present[name] is None else self.present[name]
        self.data = data

    def _told(self, name: str) -> str:
        """Return the present value for people to read. The instance has not yet been given what was entered."""
        label = getattr(self.instance, f"get_{name}_display", None)
        if label is not None:
            return str(label())
        field = self.instance._meta.get_field(name)
        is_one = field.many_to_one or field.one_to_one
        value = getattr(self.instance, name) if is_one else self.present[name]
        return "" if value is None else str(value)


class ShownMixin:
    """An admin, or an inline of one, whose forms include the field `shown` for users who may change the row."""

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        *first, (title, options) = super().get_fieldsets(request, obj)  # type: ignore[misc]
        if obj is not None and self.has_change_permission(request, obj):  # type: ignore[attr-defined]
            options = {**options, "fields": (*options["fields"], NAME)}
        return [*first, (title, options)]


class ShownAdmin(ShownMixin, ChoosingAdmin):
    """An admin whose forms are compared with their row under its lock."""

    form = ShownForm

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return None for what is no id: Django would read " 1" as 1, and show a row that has not been locked."""
        return super().get_object(request, object_id, from_field) if is_id(object_id) else None

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Lock the row to be changed before it is read, so that it cannot change after the comparison."""
        pk = unquote(object_id or "")
        if request.method != "POST" or not is_id(pk):
            return super().changeform_view(request, object_id, *args, **kwargs)
        with transaction.atomic():
            list(self.model._base_manager.select_for_update(no_key=True).filter(pk=pk).values_list("pk"))
            return super().changeform_view(request, object_id, *args, **kwargs)
