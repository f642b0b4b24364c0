"""How the admin writes: what a form or an action says goes to `catalog.curation`, and what that refuses is shown.

A refusal of a form is shown at the form, with all that was entered, and so is what somebody else has changed since the
form was shown: it is compared with its row, and saved, while nobody else can change that. An action happens whole, with
its record and the log of the admin, or not at all, and to no more than `KEYBITS_BULK_LIMIT` rows.
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
"""Fields of an action's forms that hold ids, or nothing yet; those of the rows are the site's to look at."""
SHOWN = 10
"""Rows that are named where somebody is asked whether they are meant."""


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts to 10,000 and no further: 10,001 says that there are more, which a filter or a search brings nearer."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: MOST_COUNTED + 1].count())


class CuratedAdmin(RefusalAdmin):
    """Saves, changes and deletes by the functions that a subclass names."""

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
    """What goes with a row beside it, for which leave to delete is needed as well."""

    def create(self, **values: Any) -> Any:
        """Make a row and return it."""
        raise NotImplementedError

    def change(self, row: Any, **changes: Any) -> None:
        """Set these fields of the row."""
        raise NotImplementedError

    # --- Forms ------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Give curation what was entered, on the row as it is now; `obj` then is what has been saved."""
        if change:
            row = self.model._base_manager.get(pk=obj.pk)
            self.change(row, **{name: form.cleaned_data[name] for name in form.changed_data})
        else:
            obj.pk = self.create(**form.cleaned_data).pk
            obj._state.adding = False
        obj.refresh_from_db()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """What hangs on the row has been saved with it; here are the rows that refer to it."""
        for formset in formsets:
            self.save_formset(request, form, formset, change)

    # --- Deletion ---------------------------------------------------------------------------------------------

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what goes, in numbers: nothing is read row by row, as Django would."""
        counts = {
            str(model._meta.verbose_name_plural): rows.count() for model, rows in self.going(objs).items()
        }
        return [str(row) for row in objs[:SHOWN]], counts, self._lacking(request), []

    def going(self, rows: Any) -> dict[type[Model], QuerySet[Any]]:
        """Return what goes with `rows`, by model."""
        return {}

    def _lacking(self, request: HttpRequest) -> set[str]:
        """Return the names of what the user may not delete."""
        needed = [model._meta for model in (self.model, *self.deletes)]
        return {
            str(opts.verbose_name)
            for opts in needed
            if not request.user.has_perm(f"{opts.app_label}.{get_permission_codename('delete', opts)}")
        }

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, self.model._base_manager.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete by a statement for each table."""
        rows = list(queryset)
        bulk.delete(rows=queryset, actor=request.user, most=len(rows), record=self.record(request, rows))

    # --- Actions ----------------------------------------------------------------------------------------------

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any
    ) -> HttpResponse | None:
        """Say what was refused."""
        named = [value for name in CHOSEN for value in request.POST.getlist(name)]
        if not all(map(is_id, filter(None, named))):
            raise BadRequest("What is chosen is an id.")
        try:
            return super().response_action(request, queryset, *args)
        except self.refusals as error:
            return self.nothing_changed(request, error)

    def chosen(self, queryset: QuerySet[Any]) -> list[Any]:
        """Return the rows; raise `TooManyRowsError` for more than `KEYBITS_BULK_LIMIT`."""
        rows = list(queryset[: conf.BULK_LIMIT + 1])
        if len(rows) > conf.BULK_LIMIT:
            raise bulk.TooManyRowsError(queryset.count(), conf.BULK_LIMIT)
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
        """Say whether the present number of rows is the one that was shown when this was confirmed."""
        return request.POST.get("confirmed") == str(len(rows))

    @transaction.atomic
    def update(self, request: HttpRequest, rows: Sequence[Any], changes: bulk.Changes, told: str) -> int:
        """Change `rows`, note `told` in the log of each, and return how many there were."""
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
        """Log `told` of each row."""
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
            self.log_deletions(request, rows)  # type: ignore[arg-type]  # it goes through them
            self.delete_queryset(request, named)
        self.message_user(request, f"{len(rows)} deleted.")
        return None
