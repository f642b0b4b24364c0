"""How the admin writes: what a form or an action says goes to `catalog.curation`, and what that refuses is shown.

A refusal of a form is shown at the form, with all that was entered, and so is what somebody else has changed since the
form was shown: it is compared with its row, and saved, while nobody else can change that. An action happens whole, with
its record and the log of the admin, or not at all, and to no more than `KEYBITS_BULK_LIMIT` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_permission_codename
from django.core.exceptions import BadRequest, ObjectDoesNotExist, PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.functional import cached_property

from catalog.admin.choosing import is_id
from catalog.admin.shown import ShownAdmin, ShownForm
from catalog.curation import bulk
from catalog.curation.slugs import SlugTakenError
from catalog.models import BulkOperation
from keybits.conf import conf
from keybits.transactions import WriteRefusedError

__all__ = ["BoundedPaginator", "CuratedAdmin", "CuratedForm"]

MOST_COUNTED = 10_000
CHOSEN = ("gallery", "tags")
"""Fields of an action's forms that hold ids, or nothing yet; those of the rows are the site's to look at."""
GIVEN_UP = (OperationalError, WriteRefusedError)
"""What a write ends with for the sake of others (a deadlock, SQLite's lock), or because the store is out of reach."""
SHOWN = 10
"""Rows that are named where somebody is asked whether they are meant."""


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts to 10,000 and no further: 10,001 says that there are more, which a filter or a search brings nearer."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: MOST_COUNTED + 1].count())


class CuratedForm(ShownForm):
    """A form that shows, as errors, what curation has refused."""

    refusal: ValidationError | None = None

    def clean(self) -> Any:
        cleaned = super().clean()
        if self.refusal is not None:
            self.add_error(None, self.refusal)
        return cleaned


class CuratedAdmin(ShownAdmin):
    """Saves, changes and deletes by the functions that a subclass names."""

    form = CuratedForm
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

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Show the form again where curation, or what others wrote meanwhile, has refused it."""
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except (ValidationError, SlugTakenError, IntegrityError, ObjectDoesNotExist, *GIVEN_UP) as error:
            request.__dict__["_refusal"] = _refusal(error)
            return super().changeform_view(request, object_id, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = request.__dict__.get("_refusal")
        return form

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

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Ask once more where it had to be given up."""
        try:
            return super().delete_view(request, *args, **kwargs)
        except (IntegrityError, *GIVEN_UP) as error:
            return self._nothing_changed(request, error)

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
        except (
            bulk.ForbiddenRowsError,
            bulk.SpoiltRowsError,
            bulk.TooManyRowsError,
            IntegrityError,
            *GIVEN_UP,
        ) as error:
            return self._nothing_changed(request, error)

    def _nothing_changed(self, request: HttpRequest, error: Exception) -> HttpResponse:
        self.message_user(request, f"Nothing was changed. {_told(error)}", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())

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


def _refusal(error: Exception) -> ValidationError:
    if isinstance(error, SlugTakenError):
        return ValidationError({"slug": str(error)})
    return ValidationError(error.messages if isinstance(error, ValidationError) else _told(error))


def _told(error: Exception) -> str:
    if isinstance(error, IntegrityError | ObjectDoesNotExist):
        return "Somebody else has changed or deleted something that this is about. Look again."
    if isinstance(error, OperationalError):
        return "Others were writing the same. Send it again."
    return str(error)
