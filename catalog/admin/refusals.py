"""What keeps a form that was found valid from being saved, and a row from being deleted: said where it was asked for.

Others write meanwhile, and a database gives a write up for their sake. Nothing has been changed then: a form is shown
again with all that was entered, and who wanted to delete is led back to be asked once more.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import IntegrityError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from catalog.admin.shown import ShownAdmin, ShownForm
from catalog.curation.slugs import SlugTakenError
from keybits.transactions import WriteRefusedError

__all__ = ["GIVEN_UP", "RefusalAdmin", "RefusalForm", "why"]

GIVEN_UP = (OperationalError, WriteRefusedError)
"""What a write ends with for the sake of others (a deadlock, SQLite's lock), or because the store is out of reach."""


class RefusalForm(ShownForm):
    """A form that shows, as errors, what its saving was refused for."""

    refusal: ValidationError | None = None

    def clean(self) -> Any:
        cleaned = super().clean()
        if self.refusal is not None:
            self.add_error(None, self.refusal)
        return cleaned


class RefusalAdmin(ShownAdmin):
    """An admin that says what was refused of a form or a deletion."""

    form = RefusalForm
    refusals: tuple[type[Exception], ...] = (IntegrityError, ObjectDoesNotExist, *GIVEN_UP)
    """What a write may end with that has changed nothing."""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Show the form again where it was refused."""
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except self.refusals as error:
            request.__dict__["_refusal"] = _refusal(error)
            return super().changeform_view(request, object_id, *args, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = request.__dict__.get("_refusal")
        return form

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Ask once more where it was refused."""
        try:
            return super().delete_view(request, *args, **kwargs)
        except self.refusals as error:
            return self.nothing_changed(request, error)

    def nothing_changed(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Say why, and lead back to where the client is."""
        self.message_user(request, f"Nothing was changed. {why(error)}", messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())


def _refusal(error: Exception) -> ValidationError:
    if isinstance(error, ValidationError):
        return ValidationError(error.messages)
    return ValidationError({"slug": str(error)} if isinstance(error, SlugTakenError) else why(error))


def why(error: Exception) -> str:
    """Return, as sentences, why a write was not done."""
    if isinstance(error, IntegrityError | ObjectDoesNotExist):
        return "Somebody else has changed or deleted something that this is about. Look again."
    if isinstance(error, OperationalError):
        return "Others were writing the same. Send it again."
    if isinstance(error, OSError):
        return f"The storage of pictures has failed: {error.strerror}."
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
