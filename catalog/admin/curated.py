"""How the admin writes: forms and actions call `catalog.curation`, and what that refuses is shown.

A refused form is shown again with all that was entered; so is one whose row somebody else has changed since it was
shown. The row is locked while the form is compared with it and saved. An action is one transaction with its record and
the admin's log, on no more than `KEYBITS_BULK_LIMIT` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_permission_codename
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.functional import cached_property

from catalog.admin.choosing import is_id
from catalog.admin.refusals import RefusalAdmin
from catalog.curation import bulk
from catalog.curation.slugs import SlugTakenError
from catalog.models import BulkOperation
from keybits.conf import conf

__all__ = ["BoundedPaginator", "CuratedAdmin"]

MOST_COUNTED = 10_000
CHOSEN = ("gallery", "tags")
"""Fields of an action's forms that hold ids, or nothing yet. The site itself checks the ids of the rows."""
SHOWN = 10
"""Most rows that are named on a page that asks for confirmation."""


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to 10,001, which means that there are more; a filter or a search finds those."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: MOST_COUNTED + 1].count())


class CuratedAdmin(RefusalAdmin):
    """Creates, changes and deletes by the methods that a subclass defines."""

    refusals = (
        *RefusalAdmin.refusals,
        ValidationError,
        SlugTakenError,
        bulk.ForbiddenRowsError,
        bulk.SpoiltRowsError,
        bulk.TooManyRowsError,
        bulk.TooManyTagsError,
    )
    actions: Sequence[Any] = ("delete_selected",)
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    deletes: tuple[type[Model], ...] = ()
    """The models deleted with a row, for which permission to delete is needed, too."""

    def create(self, **values: Any) -> Any:
        """Create a row and return it."""
        raise NotImplementedError

    def change(self, row: Any, **changes: Any) -> None:
        """Set these fields of the row."""
        raise NotImplementedError

    # --- Forms ------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Pass what was entered to curation, with the row as it is now. Afterwards `obj` is as saved."""
        if change:
            row = self.model._base_manager.get(pk=obj.pk)
            self.change(row, **{name: form.cleaned_data[name] for name in form.changed_data})
        else:
            obj.pk = self.create(**form.cleaned_data).pk
            obj._state.adding = False
        obj.refresh_from_db()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the rows of the inlines. Many-to-many fields have been saved with the row itself."""
        for formset in formsets:
            self.save_formset(request, form, formset, change)

    # --- Deletion ---------------------------------------------------------------------------------------------

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what would be deleted, as counts; unlike Django, without reading every row."""
        counts = {
            str(model._meta.verbose_name_plural): rows.count() for model, rows in self.going(objs).items()
        }
        return [str(row) for row in objs[:SHOWN]], counts, self._lacking(request), []

    def going(self, rows: Any) -> dict[type[Model], QuerySet[Any]]:
        """Return what is deleted with `rows`, by model."""
        return {}

    def _lacking(self, request: HttpRequest) -> set[str]:
        """Return the names of the models that the user may not delete."""
        needed = [model._meta for model in (self.model, *self.deletes)]
        return {
            str(opts.verbose_name)
            for opts in needed
            if not request.user.has_perm(f"{opts.app_label}.{get_permission_codename('delete', opts)}")
        }

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, self.model._base_manager.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete by one statement for each table."""
        rows = list(queryset)
        bulk.delete(rows=queryset, actor=request.user, most=len(rows), record=self.record(request, rows))

    # --- Actions ----------------------------------------------------------------------------------------------

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any
    ) -> HttpResponse | None:
        """Run the action; where it is refused, show why. Raises `BadRequest` for a choice that cannot be an id."""
        named = [value for name in CHOSEN for value in request.POST.getlist(name)]
        if not all(map(is_id, filter(None, named))):
            raise BadRequest("Choose rows by their ids.")
        try:
            return super().response_action(request, queryset, *args)
        except self.refusals as error:
            return self.nothing_changed(request, error)

    def chosen(self, queryset: QuerySet[Any], most: int | None = None) -> list[Any]:
        """Return the rows. Raises `TooManyRowsError` for more than `KEYBITS_BULK_LIMIT`, or than `most`."""
        limit = conf.BULK_LIMIT if most is None else min(most, conf.BULK_LIMIT)
        rows = list(queryset[: limit + 1])
        if len(rows) > limit:
            raise bulk.TooManyRowsError(queryset.count(), limit)
        return rows

    def ask(self, request: HttpRequest, rows: Sequence[Any], form: forms.Form, title: str) -> HttpResponse:
        """Return the page on which `form` is filled in and the number of rows confirmed."""
        across = request.POST.get("select_across") == "1"
        context = self.admin_site.each_context(request) | {
            "title": title,
            "opts": self.opts,
            "media": self.media + form.media,
            "form": form,
            "rows": rows[:SHOWN],
            "more": max(len(rows) - SHOWN, 0),
            "count": len(rows),
            "action": request.POST.getlist("action")[-1],
            "across": across,
            "ids": [row.pk for row in (rows[:1] if across else rows)],
            "checkbox": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "catalog/admin/action.html", context)

    def confirmed(self, request: HttpRequest, rows: Sequence[Any]) -> bool:
        """Return whether the action was confirmed for the present number of rows."""
        return request.POST.get("confirmed") == str(len(rows))

    @transaction.atomic
    def update(self, request: HttpRequest, rows: Sequence[Any], changes: bulk.Changes, told: str) -> int:
        """Change `rows`, log `told` for each, and return how many were changed."""
        record = bulk.update(
            rows=self.model._base_manager.filter(pk__in=[row.pk for row in rows]),
            actor=request.user,
            changes=changes,
            most=len(rows),
            record=self.record(request, rows, told),
        )
        self.note(request, rows, told)
        return record.count

    def note(self, request: HttpRequest, rows: Sequence[Any], told: str) -> None:
        """Log `told` for each row."""
        if rows:
            LogEntry.objects.log_actions(int(request.user.pk or 0), rows, CHANGE, told)

    def record(self, request: HttpRequest, rows: Sequence[Any], told: str = "") -> BulkOperation:
        """Return the record of an operation on `rows`, not yet saved."""
        return BulkOperation(
            user_id=request.user.pk,
            username=request.user.get_username(),
            path=request.path[:500],
            query="ids=" + ",".join(str(row.pk) for row in rows),
            changes={"action": told} if told else {},
        )

    @admin.action(description="Delete selected %(verbose_name_plural)s", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        rows = self.chosen(queryset)
        if self._lacking(request):
            raise PermissionDenied
        if not self.confirmed(request, rows):
            return self.ask(request, rows, forms.Form(), "Delete these?")
        named = self.model._base_manager.filter(pk__in=[row.pk for row in rows])
        with transaction.atomic():
            self.log_deletions(request, rows)  # type: ignore[arg-type]  # it only iterates
            self.delete_queryset(request, named)
        self.message_user(request, f"{len(rows)} deleted.")
        return None
